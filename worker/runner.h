/*
 * runner.h - the process that runs user code, one job at a time.
 *
 * Purpose: take a job from the channel, run its task, send the verdict. Nothing else: no broker, no
 * timers, no children. Model: blocking reads on the job channel. Several jobs may lie in the
 * channel while they are short; verdicts of short jobs are written together, at the latest before a
 * job that is not known to be short, when the input is empty, or 1 ms after the first of them. Time
 * limits come from outside: SIGUSR1 sets the flag that cancelled() reads and interrupts system
 * calls (no SA_RESTART); a task that then returns without a verdict, or with a failure,
 * fails with SoftTimeLimitExceeded; SIGKILL needs no help. Invariants: one verdict per job, in
 * order; end-of-file on the job channel ends the process with status 0 after the job at hand; the
 * runner owns nothing of ours but its two sockets, so it can be killed at any instruction. Fork
 * rule: runner_main is called in the child, after proc_child_setup.
 */
#ifndef WORKER_RUNNER_H
#define WORKER_RUNNER_H

#include "base/log.h"
#include "base/proc.h"

#include <stdbool.h>
#include <stddef.h>

struct runner_config {
    int slot;
    int jobs_fd;                /* taken: socket to the dispatcher, blocking */
    int link_fd;                /* taken: socket to the supervisor, blocking */
    const char *node;           /* "celery@host" */
    const char *const *modules; /* -A, in order */
    size_t modules_len;
    double result_expires_s; /* --result-expires */
    bool track_started;      /* --track-started: the default for rows that do not say */
    const struct log *log;
    const struct proc_title *title;
};

/* Never returns to the caller's loop: the result is the exit status (0; 70 when modules could not
 * be loaded). */
int runner_main(const struct runner_config *config);

#endif
