/*
 * sweep.h - the same jobs with one runner, with two, and so on.
 *
 * Purpose: makes the table that advice.h thinks about.
 * Model: each step has a queue and a worker of its own (trial.h). Its jobs are work.burn: a known
 * time, of which a known share is done by one runner at a time. There are as many jobs as fill the
 * wanted seconds if nothing but the runners counted. Invariants: the clock runs only while every
 * runner is there. Fork rule: as own_worker.h.
 */
#ifndef APP_SWEEP_H
#define APP_SWEEP_H

#include "app/advice.h"
#include "base/err.h"

#include <stdint.h>

struct sweep {
    const char *broker;         /* URL */
    const char *result_backend; /* NULL: the broker */
    const char *lock;           /* file for the serial part of the jobs */
    double task_s;              /* of each job */
    double serial;              /* share of it that only one runner at a time may do */
    bool waits;                 /* jobs wait instead of computing */
    double seconds;             /* of each step */
    int64_t timeout_ms;
};

int sweep_step(const struct sweep *sweep, int runners, struct advice_step *step, struct err *e);

/* Which numbers of runners up to most are tried, ascending: every one at first, then some. Returns
 * how many, at most ADVICE_STEPS_MAX. */
size_t sweep_plan(int most, int runners[ADVICE_STEPS_MAX]);

#endif
