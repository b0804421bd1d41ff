/*
 * file.h - a file as the argument of a task.
 *
 * Purpose: tasks that are told a path instead of a text, so that large contents need not travel
 * through the broker.
 * Model: the argument `path` (the first one) names a regular file that the runner can read; its
 * bytes come in blocks, and a cancelled call ends between two of them. The file is read as it is
 * at that time: a task that must know that nobody changed it since carries a checksum.
 * Ownership: a block is borrowed until take() returns.
 * Fork rule: none, nothing is kept.
 */
#ifndef TASKS_FILE_H
#define TASKS_FILE_H

#include <stdbool.h>
#include <stddef.h>

#include "tasks/task.h"

typedef void file_take(void *user, const unsigned char *bytes, size_t len);

/* Hands all bytes of the call's file to take(). false: *rc is what the task has to return, and the
 * verdict is given. */
bool file_read(struct celeriac_call *call, file_take *take, void *user, int *rc);

#endif
