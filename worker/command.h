/*
 * command.h - the `worker` command; see base/command.h. Fork rule: as there; it becomes the
 * supervisor.
 */
#ifndef WORKER_COMMAND_H
#define WORKER_COMMAND_H

#include "base/command.h"

extern const struct command command_worker;

#endif
