/*
 * advice.h - from a measured sweep to what limits it and what a wanted rate needs; pure.
 *
 * Purpose: the thinking behind `celeriac advise`.
 * Model: a sweep is one step for each number of runners. The law (scaling.h) is fitted to the steps
 * that the machine's cores could carry: with tasks that compute, more runners than cores measure
 * the machine and not the queue. What saturated is named for one step: whoever used up a core of
 * its own, else whoever used most when all cores were used, else the runners that were all taken
 * by tasks that do not compute (they wait for a sink), else the round trips between. A runner that
 * waits for a core counts as one that uses it.
 * Invariants: nothing is planned to be busier than ADVICE_HEADROOM. Fork rule: none.
 */
#ifndef APP_ADVICE_H
#define APP_ADVICE_H

#include "app/scaling.h"

#define ADVICE_HEADROOM  0.8
#define ADVICE_STEPS_MAX 64

struct advice_step {
    int runners;
    double jobs;
    double seconds;
    double run_s; /* sum of the times that jobs were in a runner */
    double runners_cpu_s;
    double runners_wait_s; /* that runners could have run and had no CPU */
    double dispatcher_cpu_s;
    double broker_cpu_s; /* negative: not known */
    double others_cpu_s; /* of what has nothing to do with the sweep */
};

enum advice_limit {
    ADVICE_RUNNER_CPU,
    ADVICE_DISPATCHER_CPU,
    ADVICE_BROKER_CPU,
    ADVICE_ROUND_TRIP,
    ADVICE_SINK
};

struct advice_machine {
    int cores;
    double broker_cores; /* how many cores one broker can use: 1 for Redis */
    bool tasks_wait;     /* they do not compute: runners need no cores */
};

struct advice {
    bool fitted;
    struct scaling_fit fit;
    int fit_max;                   /* the law was fitted up to this number of runners */
    int best_runners;              /* of one host */
    double best_rate;              /* of one host, as measured */
    enum advice_limit saturated;   /* there */
    double dispatcher_s, broker_s; /* CPU a job; broker_s is negative when it is not known */
};

/* What a wanted rate needs. */
struct advice_plan {
    double rate;
    int runners_per_host;
    int hosts;
    int brokers;         /* 0: not known */
    double broker_share; /* how busy each of them is, 0..1 */
};

double advice_rate(const struct advice_step *step);

/* The share of all cores that others took, 0..1: the more, the less the figures say. */
double advice_disturbed(const struct advice_step *step, const struct advice_machine *m);

/* Mean share of the runners that had a job, 0..1. */
double advice_busy(const struct advice_step *step);

enum advice_limit advice_saturated(const struct advice_step *step, const struct advice_machine *m);
const char *advice_limit_word(enum advice_limit limit);

/* len is at least 1. */
void advice_make(struct advice *a, const struct advice_step *steps, size_t len,
                 const struct advice_machine *m);

void advice_plan(const struct advice *a, const struct advice_machine *m, double rate,
                 struct advice_plan *plan);

#endif
