/*
 * etl_worker.h - a worker of our own for a measurement.
 *
 * Purpose: calibrate needs a worker with a certain number of runners on a queue of its own.
 * Model: the same program is started again as `celeriac worker`; it ends with TERM, and is killed
 * when that takes too long. Fork rule: fork and exec at once; nothing is shared.
 */
#ifndef APP_ETL_WORKER_H
#define APP_ETL_WORKER_H

#include <sys/types.h>

#include "base/err.h"

/* log: file that takes what the worker says. */
int etl_worker_start(const char *broker, int runners, const char *log, pid_t *pid, struct err *e);

/* 0 when it is still running. */
int etl_worker_check(pid_t pid, struct err *e);

void etl_worker_stop(pid_t pid);

#endif
