/*
 * channel.h - the messages between supervisor, dispatcher and runners.
 *
 * Purpose: every word that our processes say to each other, in one place.
 * Model: frames (base/frame.h) over three kinds of socket pair:
 *
 *     supervisor <-- link --> dispatcher   one; stop, ping, new and dead runners, limits
 *     supervisor <-- link --> runner       one per runner; only "ready", and end-of-file
 *     dispatcher <-- jobs --> runner       one per runner; jobs out, notes and verdicts back
 *
 * Invariants: a job number is used once in a dispatcher's life; a runner answers every CHANNEL_RUN
 * with exactly one CHANNEL_VERDICT, in the order they came; end-of-file on any socket is the death
 * notice of the other side. Byte order is the machine's: both ends are the same program. Ownership:
 * slices of a decoded message are borrowed from the frame. Fork rule: one end per process.
 */
#ifndef WORKER_CHANNEL_H
#define WORKER_CHANNEL_H

#include "base/err.h"
#include "base/frame.h"

#include <stdint.h>

enum channel_type {
    /* dispatcher -> runner; id = job number */
    CHANNEL_RUN = 1, /* struct channel_run */
    CHANNEL_REST,    /* id 0; empty: a burst of jobs is over, memory may go back */
    /* runner -> dispatcher; id = job number (0 for READY) */
    CHANNEL_ROWS,    /* payload: the registry as JSON (registry.h), once, before anything else */
    CHANNEL_NOTE,    /* payload: a result document of a state that is not final */
    CHANNEL_SEND,    /* payload: one follow-up, to be published now */
    CHANNEL_VERDICT, /* struct channel_verdict */
    /* runner -> supervisor, dispatcher -> supervisor */
    CHANNEL_READY, /* empty */
    /* supervisor -> dispatcher; id = runner slot where it says so */
    CHANNEL_PING,   /* id = number, answered with PONG */
    CHANNEL_RUNNER, /* id = slot, with the dispatcher's end of the job channel
                     */
    CHANNEL_GONE,   /* id = slot, payload: struct channel_gone */
    CHANNEL_STOP,   /* id: 0 warm, 1 cold */
    CHANNEL_FAILED, /* id = slot: it will not be started again */
    /* dispatcher -> supervisor */
    CHANNEL_PONG,    /* id of the ping */
    CHANNEL_WATCH,   /* id = slot, payload: struct channel_watch; replaces an earlier one */
    CHANNEL_UNWATCH, /* id = slot */
    CHANNEL_KILL,    /* id = slot: end this runner now (memory limit, answers that make no sense) */
    CHANNEL_DONE     /* warm stop finished: nothing is leased any more */
};

/* A job on its way to a runner. */
struct channel_run {
    int64_t delivered_us; /* wall clock when the dispatcher got it */
    int64_t lent_us;      /* and when it was written here */
    uint64_t fence;
    int64_t attempt;     /* lost workers so far + 1 */
    double soft_limit_s; /* effective limits, 0: none */
    double hard_limit_s;
    uint32_t measured;     /* not known to be short: measure its CPU time */
    struct slice first_id; /* not run: this other job's success stands for it; {NULL,0} otherwise */
    struct slice first;    /* its result document, {NULL,0} when none is stored */
    struct slice envelope;
};

enum channel_outcome {
    CHANNEL_SUCCESS,
    CHANNEL_FAILURE,
    CHANNEL_RETRY,   /* the first follow-up is the next attempt */
    CHANNEL_IGNORED, /* finished, no result */
    CHANNEL_REQUEUE, /* reject(requeue): hand back */
    CHANNEL_REJECT,  /* reject: bury; result holds the FAILURE document */
    CHANNEL_POISON   /* the body could not be opened: bury with `cause` */
};

/* A message that follows from a job; also the payload of CHANNEL_SEND. */
struct channel_followup {
    struct slice queue;
    struct slice id;
    struct slice envelope;
    int64_t not_before_ms;
    int32_t priority;
    uint32_t continues; /* the same job goes on */
};

#define CHANNEL_FOLLOWUPS_MAX 10000

/* Verdicts of short jobs share a write, which is made at the latest so long after the first of
 * them. */
#define CHANNEL_SHARE_US INT64_C(1000)

/* No job takes or waits longer (300 years): what claims to is no verdict, so sums do not overflow.
 */
#define CHANNEL_US_MAX INT64_C(10000000000000000)

struct channel_verdict {
    enum channel_outcome outcome;
    int64_t run_us;            /* wall time of the run, for the depth of lending */
    int64_t queued_us;         /* published until delivered, negative: not known */
    int64_t dispatched_us;     /* lent until picked up, likewise */
    int64_t max_rss_kib;       /* the runner's high-water mark, for --max-memory-per-child */
    int64_t result_expires_ms; /* as in struct broker_finish */
    struct slice result;       /* result document, {NULL,0}: store none */
    struct slice cause;        /* REJECT, POISON: why */
    uint32_t followups_len;
    struct slice followups; /* encoded; walk with channel_next_followup */
};

/* How a runner ended. */
struct channel_gone {
    int32_t wait_status;
    uint64_t limit_job; /* the watched job that passed its hard limit and was killed for it, or 0 */
};

struct channel_watch {
    uint64_t job;
    int64_t soft_at_ms; /* monotonic; 0: none */
    int64_t hard_at_ms;
};

void channel_put_run(struct frame_link *link, uint64_t job, const struct channel_run *run);
int channel_get_run(struct slice payload, struct channel_run *out, struct err *e);

void channel_put_followup(struct buf *out, const struct channel_followup *f);
/* Takes one follow-up from the front of *rest: 1, 0 at the end, -1 when it is malformed. */
int channel_next_followup(struct slice *rest, struct channel_followup *out);

void channel_put_verdict(struct frame_link *link, uint64_t job, const struct channel_verdict *v);
int channel_get_verdict(struct slice payload, struct channel_verdict *out, struct err *e);

/* Copies a fixed-size payload (gone, watch, pid) when its length fits: 0 or -1. */
int channel_get_fixed(struct slice payload, void *out, size_t size, struct err *e);

#endif
