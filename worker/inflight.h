/*
 * inflight.h - the jobs that a dispatcher holds.
 *
 * Purpose: one struct job from delivery until the broker has settled it, with exactly one owner at
 * any time. Model: a job is in one state and on the list of that state only; inflight_move is the
 * only function that changes either.
 *
 *     CLAIMING (with a dedup key only) --won, or done by another--> READY
 *       |
 *       |   READY ----lend----> LENT ----verdict----> SETTLING --confirmed--> freed
 *       |     |                   |  runner lost         ^
 *       |     |                   +--> READY (solo) or --+
 *       |     +--expired, parked, unknown, poison -------+
 *       +--held by another: back with a later time ------+
 *
 * Job numbers are never reused in a dispatcher's life, so an answer that comes late finds nobody.
 * Ownership: a job owns copies of everything; receipts are values. Fork rule: one table per
 * dispatcher.
 */
#ifndef WORKER_INFLIGHT_H
#define WORKER_INFLIGHT_H

#include "broker/broker.h"
#include "worker/channel.h"
#include "worker/policy.h"

#include <sys/queue.h>

enum job_state { JOB_CLAIMING, JOB_READY, JOB_LENT, JOB_SETTLING };

enum settle_kind {
    SETTLE_FINISH,
    SETTLE_RELEASE,
    SETTLE_BURY,
    SETTLE_STORE /* acknowledged early: only its result is stored */
};

/* What the broker is to be told; kept until it has confirmed. */
struct settlement {
    enum settle_kind kind;
    enum broker_outcome outcome;
    enum broker_grave grave;
    struct channel_verdict verdict; /* slices point into text */
    struct buf text; /* owned copy of the verdict's bytes, of a result or of a new envelope */
    int64_t not_before_ms;
    int64_t verdict_us; /* wall: when it came; 0: no runner gave one */
    bool front;
    bool held; /* for a moment, to be told with others */
    bool submitted;
    unsigned tries;
    int64_t try_at_ms; /* monotonic */
};

/* The dedup key of a job, and what the broker said of it. */
struct job_key {
    char *text; /* owned; NULL: the job has none */
    size_t len;
    int64_t window_ms;
    int64_t waits;  /* times the message was sent back because another held the key */
    bool asked;     /* the claim is under way */
    bool won;       /* this delivery holds the key: its end settles it */
    char *first_id; /* owned; NULL: it is to run. Else this job succeeded within the window */
    char *first;    /* owned: that one's result document, or NULL */
    size_t first_len;
};

struct job {
    uint64_t number;
    enum job_state state;
    TAILQ_ENTRY(job) link; /* on the list of its state */
    struct broker_receipt receipt;
    uint64_t fence;
    const char *id;       /* in names; NULL when it could not be read */
    const char *task;     /* likewise */
    struct buf names;     /* owned */
    struct buf envelope;  /* owned */
    int64_t delivered_us; /* wall */
    int64_t lent_us;      /* wall; 0: never */
    int64_t lost;         /* workers lost so far */
    double soft_limit_s;
    double hard_limit_s;
    struct task_options *options; /* borrowed; NULL when the task is unknown */
    struct seat *seat;            /* the runner that has it, while LENT */
    bool solo;                    /* lend alone: it may have killed a runner */
    bool early_acked;
    bool lease_lost;
    struct job_key key;
    struct settlement settle;
};

TAILQ_HEAD(job_list, job);

/* Jobs that were freed wait among the spares with their memory: no more of them than were held at
 * once since inflight_rest. */
struct inflight {
    struct job **slots; /* owned; number & mask finds the slot */
    size_t cap;
    size_t len;
    uint64_t last_number;
    struct job_list spares;
    struct job_list claiming;
    struct job_list ready;
    struct job_list settling;
};

void inflight_init(struct inflight *t);
void inflight_release(struct inflight *t);

/* A new job in state READY, on no list yet; NULL when out of memory. envelope: copied. */
struct job *inflight_new(struct inflight *t, struct slice envelope);

/* NULL when the job is gone. */
struct job *inflight_find(const struct inflight *t, uint64_t number);

/* Leaves the list it is on (from) and joins another. to NULL: none. */
void inflight_move(struct job *job, struct job_list *from, struct job_list *to,
                   enum job_state state);

/* The job must be on no list. */
void inflight_free(struct inflight *t, struct job *job);

/* Gives back the memory of the spares. */
void inflight_rest(struct inflight *t);

#endif
