/*
 * worker.h - one worker: a supervisor, a dispatcher and N runners.
 *
 * Purpose: what `celeriac worker` starts, with every setting that a person may give.
 * Model: supervisor_run turns the calling process into the supervisor (supervisor.h) until the
 * worker has stopped. Ownership: the configuration is borrowed for as long as the worker runs. Fork
 * rule: call it from a process with one thread and no open broker; the children inherit the
 * configuration by fork.
 */
#ifndef WORKER_WORKER_H
#define WORKER_WORKER_H

#include "base/log.h"
#include "base/proc.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define WORKER_LOST_MAX_DEFAULT 5

struct worker_config {
    const char *broker_url;
    const char *result_url; /* NULL: results live in the broker */
    const char *node;       /* "celery@host" */
    const char *const *queues;
    size_t queues_len;
    const char *const *modules; /* -A, in order */
    size_t modules_len;
    int concurrency;            /* runners, at least 1 */
    double soft_limit_s;        /* --soft-time-limit, 0: none */
    double hard_limit_s;        /* --time-limit, 0: none */
    int64_t max_tasks;          /* --max-tasks-per-child, 0: no limit */
    int64_t max_memory_kib;     /* --max-memory-per-child, 0: no limit */
    int64_t lease_ms;           /* --lease, 0: the broker's default */
    double result_expires_s;    /* --result-expires; negative: never */
    int64_t connect_timeout_ms; /* --connect-timeout: how long the first connection may take; 0: for
                                   ever */
    int lost_max; /* deliveries that may end in a lost worker before a job is buried */
    bool track_started;
    bool trace; /* log every broker op at level debug */
    const struct log *log;
    const struct proc_title *title;
};

/* Exit statuses of the children that mean "starting me again will not help". The others are counted
 * by the restart throttle. */
#define WORKER_EXIT_USAGE       2
#define WORKER_EXIT_UNREACHABLE 3
#define WORKER_EXIT_REFUSED     5
#define WORKER_EXIT_FAILED      8  /* of the worker: its processes kept dying */
#define WORKER_EXIT_MODULE      70 /* of a runner: a module could not be loaded */

#endif
