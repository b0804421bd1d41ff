/*
 * cmd_help.h - celeriac help: the texts that are generated from the tables.
 *
 * Model: `help COMMAND` prints what COMMAND --help prints; hidden options write the man pages and
 * the completion script, for the build. Fork rule: as base/command.h.
 */
#ifndef APP_CMD_HELP_H
#define APP_CMD_HELP_H

#include "base/command.h"

#include <stdio.h>

extern const struct command command_help_row;

/* Writes a command's help; returns the exit status that fits the stream. */
int help_show(FILE *to, const struct command *command, const char *path);

#endif
