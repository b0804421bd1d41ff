/*
 * command.h - what a sub-command of celeriac is.
 *
 * Purpose: a command is one constant struct command, defined where its code is (client/cmd_*.c,
 * worker/cmd_worker.c, app/cmd_etl.c) and listed in app/command.c. Help, man page and completion
 * are generated from it.
 * Model: app/ finds the command, fills the option values from all sources, prepares the context and
 * calls run, whose return value is the exit status (base/exitcode.h). A command with subs has no
 * run; it is a family ("queue ls"). Data goes to stdout, messages to stderr. Ownership: everything
 * in the context is borrowed during run. Fork rule: nothing is open but the standard descriptors
 * when run begins, so a command may fork at once.
 */
#ifndef BASE_COMMAND_H
#define BASE_COMMAND_H

#include "base/err.h"
#include "base/exitcode.h"
#include "base/log.h"
#include "base/opt.h"
#include "base/proc.h"

#include <stdbool.h>

enum command_output { COMMAND_TABLE, COMMAND_JSON };

struct command_context {
    const char *name;           /* "queue ls", for messages */
    enum command_output output; /* -o */
    bool in_tty;
    bool out_tty;
    bool err_tty;
    bool color;            /* stdout is a terminal and NO_COLOR is not set */
    const struct log *log; /* to stderr, with --loglevel */
    const struct proc_title *title;
};

typedef int command_run_fn(struct command_context *ctx, const struct opt_values *v, int argc,
                           char **argv);

struct command {
    const char *name;
    const char *also;                           /* another name (Celery's), or NULL */
    const char *summary;                        /* one line, for lists */
    const char *positional;                     /* "ID...", or NULL: none are taken */
    const char *details;                        /* paragraphs split by '\n', or NULL */
    const char *examples;                       /* lines, or NULL */
    const struct opt_row *opts[OPT_TABLES_MAX]; /* arrays of rows, NULL-terminated */
    const struct command *const *subs;          /* NULL-terminated, or NULL */
    int args_min;                               /* positional arguments: fewer is a usage error */
    int args_max;                               /* more is; negative: any number */
    command_run_fn *run;                        /* argc, argv: the positional arguments */
};

/* Options of every command, accepted in front of it as well: app, broker, result-backend,
 * loglevel, config, output, help, version. */
const struct opt_row *command_shared_rows(void);

/* Writes "celeriac: text" to stderr, and returns the exit status for it. */
int command_fail(const struct command_context *ctx, const struct err *e);
int command_usage(const struct command_context *ctx, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));
int command_nomem(const struct command_context *ctx);

/* For command_usage: no broker in any option. */
#define COMMAND_NO_BROKER                                                                          \
    "no broker is given: use -b URL, CELERIAC_BROKER, CELERY_BROKER_URL or 'broker = URL' in the " \
    "configuration file"

#endif
