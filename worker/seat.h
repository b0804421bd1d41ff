/*
 * seat.h - a runner as the dispatcher sees it.
 *
 * Purpose: the job channel of one slot and the jobs lent through it, oldest first; the oldest is
 * the one that runs. Model: a seat is EMPTY until the supervisor sends a channel, OPEN until it
 * says that the runner is gone or the dispatcher retires it (closes the channel, so that the runner
 * leaves by itself). Jobs of a seat are settled as lost only when the supervisor says "gone": by
 * then everything that the runner had written has been read. Invariant: verdicts come in the order
 * of lending. Fork rule: one table per dispatcher.
 */
#ifndef WORKER_SEAT_H
#define WORKER_SEAT_H

#include "worker/inflight.h"

struct event;

struct seat {
    int slot;
    struct frame_link jobs; /* fd -1: empty */
    struct event *readable; /* owned; NULL when empty */
    struct event *writable; /* owned; pending while output waits */
    bool ready;             /* has told its tasks */
    bool failed;            /* the supervisor has given the slot up */
    bool retiring;          /* gets no more jobs; its channel is closed when nothing is lent */
    struct job_list lent;
    int lent_len;
    int depth; /* how many it may hold, by the job of those lent that allows the fewest */
    int64_t head_since_ms; /* monotonic: since when the oldest job is the oldest */
    int64_t head_from_us;  /* wall: when it began, or earlier */
    uint64_t watched;      /* number of the job that the supervisor watches, 0: none */
    int64_t tasks_done;    /* by this runner */
    int64_t jobs_done;     /* by all runners of the slot */
};

/* How many more jobs like this one the seat may be lent now (R8 of docs/architecture.md). */
int seat_room(const struct seat *s, const struct job *job, int64_t now_ms);

/* Counts the job among those lent; the caller has put it on the list. */
void seat_lent(struct seat *s, const struct job *job);

#endif
