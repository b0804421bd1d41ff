/*
 * own_worker.h - a worker of our own for a measurement.
 *
 * Purpose: bench, advise and calibrate need a worker with a certain number of runners.
 * Model: the same program is started again as `celeriac worker`, with the broker in its
 * environment, where no other user can read a password; it ends with TERM, and is killed when that
 * takes too long. Fork rule: fork and exec at once, before this process opens a broker; nothing is
 * shared.
 */
#ifndef APP_OWN_WORKER_H
#define APP_OWN_WORKER_H

#include <sys/types.h>

#include "base/err.h"

struct own_worker {
    const char *broker;         /* URL */
    const char *result_backend; /* NULL: as the environment and the configuration say */
    const char *queue;          /* NULL: the default */
    const char *node;           /* NULL: the default */
    int runners;
    const char *result_expires; /* seconds, or NULL: the default */
    const char *log;            /* file that takes what the worker says */
};

int own_worker_start(const struct own_worker *w, pid_t *pid, struct err *e);

/* 0 when it is still running. */
int own_worker_check(pid_t pid, struct err *e);

void own_worker_stop(pid_t pid);

#endif
