/*
 * policy.h - the decisions of a dispatcher, pure.
 *
 * Purpose: what becomes of a delivery, of a lost job, how many jobs a runner may hold. No I/O, no
 * clock of its own, so that every rule is a line of a unit test. Fork rule: none.
 */
#ifndef WORKER_POLICY_H
#define WORKER_POLICY_H

#include "broker/message.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct dedup_rule;

/* What the dispatcher knows of a task: the runner's row, and how long it has been running. */
struct task_options {
    char *name;               /* owned by the table */
    struct dedup_rule *dedup; /* likewise; NULL: none */
    double soft_limit_s;
    double hard_limit_s;
    bool ack_early;
    int64_t rate_us;      /* at least this long between two starts; 0: no limit */
    int64_t mean_us;      /* moving average of the run time; 0: never ran here */
    int64_t peak_us;      /* the longest lately: a longer one raises it, others let it sink */
    int64_t low_us;       /* the shortest lately: a shorter one lowers it, others let it rise */
    int64_t next_run_us;  /* rate limit, wall clock: the next start may be then */
    int64_t next_park_us; /* and the first slot that no parked job was sent to */
};

enum policy_delivery {
    POLICY_RUN,
    POLICY_PARK,   /* its eta has not come: back to the broker with a not-before time */
    POLICY_EXPIRE, /* REVOKED "expired" */
    POLICY_UNKNOWN /* no such task here */
};

/* options: NULL when no row of that name exists. */
enum policy_delivery policy_on_delivery(const struct message *m, const struct task_options *options,
                                        int64_t wall_ms);

/* 0: a job of this task may start now, and the start is counted. Else the wall clock (ms) until
 * which it is parked; parked jobs are sent to slots one behind the other, so that they do not come
 * back all at once. */
int64_t policy_rate_ms(struct task_options *options, int64_t wall_ms);

/* True when a job that lost `lost` workers, this one included, is buried instead of handed back. */
bool policy_bury_lost(int64_t lost, int lost_max);

/* How long the end of a job may be kept back so that it is told together with others, while more
 * jobs wait for these runners; ends are told with the question for more jobs, which mostly comes
 * earlier. 0 unless another is to end in that time, for tasks so short that several end at once
 * anyway, and for a long verdict, whose runner may wait until all of it is read. */
#define POLICY_HOLD_MS      30
#define POLICY_HOLD_FROM_US 20
#define POLICY_HOLD_BYTES   65536
int64_t policy_hold_ms(int runners, int64_t mean_us, size_t bytes);

/* How long a dispatcher that keeps ends back may sleep without looking at its runners, all of which
 * surely have work for so long (of which more than POLICY_GATHER_US does not count). */
#define POLICY_GATHER_US 10000
int64_t policy_gather_ms(int runners, int64_t busy_us);

/* How long a job waits before it asks again for a dedup key that another holds. */
int64_t policy_wait_ms(int64_t waits);

/* message's limit, else the row's, else the worker's; 0: none. */
double policy_limit_s(double message_s, double row_s, double worker_s);

/* A task is short when it has run before and takes less than a millisecond on average: its jobs may
 * share a runner, and are not worth being measured one by one. */
#define POLICY_SHORT_US 1000
bool policy_is_short(const struct task_options *options);

/* How many jobs of this task a runner may hold. Short ones: about POLICY_LENT_US of work, up to
 * POLICY_DEPTH_MAX. The same of a task that takes some milliseconds, and lately never much longer:
 * at least one is lent ahead, so that its runner need not wait for the next. Others: 1, and those
 * of a task that is acknowledged early: a runner that dies must not take more than it ran with it,
 * and what it ran must not be lent again. */
#define POLICY_LENT_US   8000
#define POLICY_DEPTH_MAX 64
#define POLICY_GRAIN_US  100
#define POLICY_AHEAD_US  10000
#define POLICY_STEADY_US (4 * POLICY_AHEAD_US)
int policy_depth(const struct task_options *options);

/* How many jobs of this task one runner is lent before the next runner is woken for them: short
 * ones up to POLICY_GRAIN_US of work, which is what waking costs a few times over. Others: 1. */
int policy_grain(const struct task_options *options);

/* Whether a job may be lent to a runner that has so many already: there it may wait while another
 * runner becomes free, so each gets no more ahead than is left for the others when `behind` wait
 * behind it. Of jobs that come in grains it does not matter. */
bool policy_may_join(const struct task_options *options, int runners, int lent, int behind);

/* How many jobs the dispatcher wants in all, lent and waiting: enough for 40 ms of work, at least
 * one waiting per runner. */
#define POLICY_WINDOW_US INT64_C(40000)
int policy_window(int runners, int64_t mean_us);

/* How many more it asks for when it holds so many: none while that is 20 ms of work, so that jobs
 * come in batches, and more than four per runner, so that one may be lent ahead to each. */
int policy_wanted(int runners, int64_t mean_us, int held);

/* The next moving average (1/8 of the new value). */
int64_t policy_mean_us(int64_t mean_us, int64_t run_us);

/* A job of this task took so long. */
void policy_ran(struct task_options *options, int64_t run_us);

#endif
