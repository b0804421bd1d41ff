/*
 * commands.h - the commands that are clients of a broker; see base/command.h.
 *
 * Each is defined in the cmd_*.c of its name. Fork rule: as base/command.h.
 */
#ifndef CLIENT_COMMANDS_H
#define CLIENT_COMMANDS_H

#include "base/command.h"

extern const struct command command_call;
extern const struct command command_result;
extern const struct command command_status;
extern const struct command command_queue;
extern const struct command command_purge; /* Celery's name for queue purge */
extern const struct command command_dead;

#endif
