/*
 * presence.h - what the dispatcher says of its worker to whoever asks the broker.
 *
 * Purpose: `celeriac status` shows every worker, and a slot that will not be started again, without
 * reaching the worker itself. Model: one announcement (broker_announce) every two seconds while it
 * says something new, every four while it does not, and soon after what a person waits for; the
 * broker forgets it after twelve, so a worker that hangs or lost its
 * broker is gone from status by then, and one that stops takes it back as it closes its broker:
 *
 *     {"node":"celery@host","pid":1,"concurrency":2,"queues":["celery"],"running":1,"jobs":9,
 *      "state":"running"|"stopping","since_ms":1795000000000,
 *      "runners":[{"slot":1,"state":"up"|"starting"|"down"|"failed","jobs":9}, ...],
 *      "stages":{"queued_us":310,"fetched_us":12,...}}                          (stages.h)
 *
 * pid is the supervisor's, since_ms (wall clock) and jobs are the dispatcher's: a new dispatcher
 * counts from 0. Invariant: many changes in a row cost one announcement each PRESENCE_SOON_MS.
 * Fork rule: as the dispatcher.
 */
#ifndef WORKER_PRESENCE_H
#define WORKER_PRESENCE_H

#include <stdint.h>

struct dispatcher;

#define PRESENCE_EVERY_MS 2000
#define PRESENCE_KEEP_MS  4000 /* the same text again; a third of its life */
#define PRESENCE_SOON_MS  200
#define PRESENCE_TTL_MS   12000

struct presence {
    int pid;          /* the supervisor's */
    int64_t since_ms; /* wall clock */
    int64_t said_ms;  /* monotonic */
    int64_t at_ms;    /* monotonic: the next look at what there is to announce */
    char *said;       /* owned */
};

void presence_init(struct dispatcher *d, int supervisor_pid);
void presence_release(struct dispatcher *d);

/* Something changed that a person wants to see. */
void presence_changed(struct dispatcher *d);

/* The broker is (back) there, perhaps without what was announced. */
void presence_broker_up(struct dispatcher *d);

/* Announces when it is time and the broker can be reached. */
void presence_step(struct dispatcher *d);

/* Monotonic; CLOCK_NEVER while the broker is away. */
int64_t presence_next_ms(const struct dispatcher *d);

/* The announcement's text: to be freed; NULL when out of memory. */
char *presence_text(const struct dispatcher *d);

#endif
