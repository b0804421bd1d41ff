/*
 * command.h - the table of commands, and how a command line becomes one that runs.
 *
 * Purpose: the program's composition: app/ is the one place that knows client and worker.
 * Model: words in front of options name the command (and the sub-command of a family); options may
 * stand before and after each of them; the values are then completed from environment, file and
 * defaults. Adding a command = its struct command and one row here. Fork rule: nothing is opened.
 */
#ifndef APP_COMMAND_H
#define APP_COMMAND_H

#include "base/command.h"

/* cmd_etl.c: it needs both the client and the tasks, so it lives here. */
extern const struct command command_etl;
/* cmd_doctor.c: it asks a broker, and RabbitMQ's management API beside it. */
extern const struct command command_doctor;

/* cmd_bench.c, cmd_advise.c: they start workers and are their clients. */
extern const struct command command_bench;
extern const struct command command_advise;

/* The program as a command whose subs are all commands. */
const struct command *app_root(void);

/* Runs a command line (argv without the program's name): the exit status. */
int app_run(int argc, char **argv, const struct proc_title *title);

#endif
