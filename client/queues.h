/*
 * queues.h - the table of queues that status and `queue ls` show.
 *
 * Fork rule: none.
 */
#ifndef CLIENT_QUEUES_H
#define CLIENT_QUEUES_H

#include "base/command.h"

#include <jansson.h>

/* queues: borrowed, the answer to BROKER_ASK_QUEUES. The exit status. */
int queues_print(const struct command_context *ctx, const json_t *queues);

#endif
