/*
 * dispatcher.h - the process that owns the broker and lends jobs to runners.
 *
 * Purpose: fetch, decide (policy.h), lend (lend.c), settle (settle.c), keep leases alive; one event
 * loop, nothing that blocks for long. Model: libevent callbacks only read what has arrived; after
 * each round dispatcher_step does the work in a fixed order:
 *
 *     settle what has a verdict -> claim dedup keys -> renew leases -> announce the worker
 *     -> ask for as many jobs as the runners can use -> broker_poll and its events
 *     -> lend -> tell the supervisor which jobs to watch -> flush the channels -> set the timer
 *
 * Invariants: every delivered job is in the inflight table until the broker has confirmed its end;
 * a verdict is kept and sent again until it is confirmed or refused; the supervisor's ping is
 * answered in every round. Fork rule: dispatcher_main is called in the child after
 * proc_child_setup; it never forks.
 *
 * The structure is shared by the files of the dispatcher (dispatcher, delivery, dedup, lend,
 * settle, outbox, presence) and by nobody else.
 */
#ifndef WORKER_DISPATCHER_H
#define WORKER_DISPATCHER_H

#include "base/uuid.h"
#include "broker/broker.h"
#include "worker/inflight.h"
#include "worker/outbox.h"
#include "worker/presence.h"
#include "worker/seat.h"
#include "worker/stages.h"
#include "worker/taskrows.h"
#include "worker/worker.h"

struct event;
struct event_base;

#define DISPATCHER_BROKER_FDS 8

struct dispatcher_config {
    const struct worker_config *worker;
    int link_fd; /* taken: socket to the supervisor */
    uint64_t generation;
    int supervisor_pid; /* part of the node under which leases are taken */
};

enum dispatcher_stop { DISPATCH_RUN, DISPATCH_WARM, DISPATCH_COLD };

struct dispatcher {
    const struct worker_config *config;
    const struct clock *clock;
    struct log log;
    struct uuid_source random;
    struct event_base *base;
    struct event *timer;
    struct event *sup_readable;
    struct event *sup_writable;
    struct frame_link supervisor;
    struct broker *broker;
    struct event *broker_events[DISPATCHER_BROKER_FDS];
    struct pollfd broker_fds[DISPATCHER_BROKER_FDS];
    int broker_fds_len;
    bool broker_ready;  /* one of them was ready in this round */
    struct seat *seats; /* config->concurrency of them */
    struct taskrows rows;
    struct inflight jobs;
    struct message message; /* the last delivery's, for its memory */
    struct outbox outbox;
    struct presence presence;
    struct stages stages;
    enum dispatcher_stop stop;
    bool broker_up;
    bool was_up;          /* at least once: later failures are retried for ever */
    bool down_logged;     /* the present outage was said once */
    bool deliveries_left; /* the last poll filled its array */
    int64_t started_ms;
    int64_t rest_at_ms; /* not before: memory is given back */
    size_t most_jobs;   /* held at once since it was */
    int64_t renew_at_ms;
    int64_t tell_at_ms; /* what is held is told then; monotonic */
    int held;           /* verdicts */
    int wanted;         /* deliveries that the last round asked for */
    int64_t mean_us;    /* moving average over all tasks */
    int exit_status;    /* -1: go on */
};

/* The exit status of the process. */
int dispatcher_main(const struct dispatcher_config *config);

/* delivery.c: what a delivered message becomes. */
void delivery_take(struct dispatcher *d, const struct broker_event *event);
/* The job may run: to the ready list, or back to the broker when its task's rate says later. */
void delivery_admit(struct dispatcher *d, struct job *job, struct job_list *from);

/* dedup.c: jobs with a dedup key. */
/* True when the job has a key and is now on the claiming list, or settled already. */
bool dedup_take(struct dispatcher *d, struct job *job, struct message *m);
void dedup_submit(struct dispatcher *d);
/* The answer to a claim of a job that is claiming. */
void dedup_answer(struct dispatcher *d, struct job *job, const struct broker_event *event);
bool dedup_is_due(const struct dispatcher *d);
void dedup_stop(struct dispatcher *d);

/* lend.c */
void lend_open_seat(struct dispatcher *d, int slot, int fd);
void lend_jobs(struct dispatcher *d);
void lend_flush(struct dispatcher *d);
int lend_wanted(const struct dispatcher *d); /* how many more deliveries the runners can use */
/* A burst is over: runners are told, and what the channels needed goes back. */
void lend_rest(struct dispatcher *d);
void lend_watch(struct dispatcher *d);
int64_t lend_next_ms(const struct dispatcher *d);
void lend_lost_runner(struct dispatcher *d, int slot, const struct channel_gone *gone);
void lend_close_seats(struct dispatcher *d);
/* How long every runner that takes jobs surely has work; at most POLICY_GATHER_US. */
int64_t lend_busy_us(const struct dispatcher *d);
int lend_running(const struct dispatcher *d);

/* settle.c: from here on the job belongs to the settling list. `from`: the list it is on, or NULL.
 */
void settle_verdict(struct dispatcher *d, struct job *job, struct job_list *from,
                    const struct channel_verdict *v);
void settle_expired(struct dispatcher *d, struct job *job, struct job_list *from);
void settle_unknown(struct dispatcher *d, struct job *job, struct job_list *from);
void settle_poison(struct dispatcher *d, struct job *job, struct job_list *from, const char *cause);
void settle_hand_back(struct dispatcher *d, struct job *job, struct job_list *from,
                      int64_t not_before_ms);
/* Another holds its dedup key: back with a later time, the number of waits raised in the message.
 */
void settle_wait(struct dispatcher *d, struct job *job, struct job_list *from,
                 int64_t not_before_ms);
/* It succeeded before and came once more: ends with the document that is stored, if any. */
void settle_again(struct dispatcher *d, struct job *job, struct job_list *from, struct slice doc);
void settle_hard_limit(struct dispatcher *d, struct job *job, struct job_list *from);
/* wait_status: how the runner ended. Buries the job when it has lost too many, else hands it back
 * with its counter raised. */
void settle_lost(struct dispatcher *d, struct job *job, struct job_list *from, int wait_status);
void settle_submit(struct dispatcher *d);
void settle_answer(struct dispatcher *d, const struct broker_event *event);
int64_t settle_next_ms(const struct dispatcher *d);

#endif
