/*
 * cancel.h - the flag that SIGUSR1 sets.
 *
 * Purpose: let the supervisor reach user code that is running.
 * Model: the handler does nothing but set the flag; without SA_RESTART the system call that user
 * code waits in returns EINTR, so a task that looks at cancelled() after an interruption ends soon.
 * Invariant: the flag belongs to the job at hand; it is lowered before each.
 * Fork rule: install in the runner, after the fork. The flag is the one piece of static state of
 * the runner, because a signal handler has no other place to write to.
 */
#ifndef WORKER_CANCEL_H
#define WORKER_CANCEL_H

#include <stdbool.h>

void cancel_install(void);
void cancel_lower(void);
bool cancel_raised(void);

#endif
