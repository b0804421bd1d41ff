/*
 * bulk.h - many tasks from standard input.
 *
 * Purpose: `celeriac call -`. Model: lines are read as they come, encoded, and sent in batches;
 * a batch goes out when it is full or when the input has nothing ready, so that a slow producer is
 * served at once and a fast one in few steps. Ids appear in the order of the lines once the broker
 * confirmed them. A line of the plain form (task_call.h) is sent without building JSON values, any
 * other is read by jansson, whose word it is what is wrong with a line. While some
 * batches are on their way the next is read and encoded (pipeline.h). Invariants: a bad line is
 * reported with its number and stops nothing; memory is bounded by three batches. Fork rule: as
 * session.h.
 */
#ifndef CLIENT_BULK_H
#define CLIENT_BULK_H

#include "base/command.h"
#include "client/send.h"

#include <jansson.h>

/* defaults: borrowed object of members for lines that do not have them. Returns the exit status. */
int bulk_send(struct session *s, const struct command_context *ctx, json_t *defaults);

#endif
