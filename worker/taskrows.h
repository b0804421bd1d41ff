/*
 * taskrows.h - the tasks that the runners have, as the dispatcher knows them.
 *
 * Model: filled from the JSON that a runner sends first (registry.h); a later runner's table is
 * merged, so that pointers into the table stay valid and run-time averages are kept. Invariant:
 * entries are never removed. Fork rule: one per dispatcher.
 */
#ifndef WORKER_TASKROWS_H
#define WORKER_TASKROWS_H

#include "worker/policy.h"

struct taskrows {
    struct task_options **rows; /* owned, sorted by name */
    size_t len;
};

void taskrows_release(struct taskrows *t);
int taskrows_merge(struct taskrows *t, struct slice json, struct err *e);

/* Borrowed for the table's life, or NULL. */
struct task_options *taskrows_find(const struct taskrows *t, const char *name);

#endif
