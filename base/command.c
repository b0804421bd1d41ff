#include "base/command.h"

#include <stdarg.h>
#include <stdio.h>

static const struct opt_row shared_rows[] = {
    {.name = "app",
     .letter = 'A',
     .kind = OPT_LIST,
     .flags = OPT_FILE_ARG,
     .arg = "MODULE.so",
     .help = "Load the tasks of this shared object (worker). May be given several times; built-in "
             "tasks need none."},
    {.name = "broker",
     .letter = 'b',
     .kind = OPT_TEXT,
     .arg = "URL",
     .env = "CELERY_BROKER_URL",
     .help = "The broker: redis://[[user]:password@]host[:port][/db], "
             "redis+socket:///path?virtual_host=db, "
             "amqp://[user:password@]host[:port][/vhost] (amqps:// for TLS), sqlite:PATH, or "
             "memory: (tests)."},
    {.name = "result-backend",
     .kind = OPT_TEXT,
     .arg = "URL",
     .env = "CELERY_RESULT_BACKEND",
     .help = "Where results are kept; the broker itself when not given. disabled:// keeps none."},
    {.name = "loglevel",
     .letter = 'l',
     .kind = OPT_CHOICE,
     .arg = "LEVEL",
     .fallback = "info",
     .choices = "debug|info|warning|error|critical|fatal",
     .help = "Log what is at least that important, to standard error."},
    {.name = "config",
     .kind = OPT_TEXT,
     .flags = OPT_FILE_ARG,
     .arg = "FILE",
     .help =
         "Read settings from this file of 'key = value' lines; a key is an option's long name."},
    {.name = "output",
     .letter = 'o',
     .kind = OPT_CHOICE,
     .arg = "FORMAT",
     .fallback = "table",
     .choices = "table|json",
     .help = "How data is printed: a table for people, or JSON for programs."},
    {.name = "help",
     .letter = 'h',
     .kind = OPT_FLAG,
     .flags = OPT_LINE_ONLY,
     .help = "Show this help and exit."},
    {.name = "version",
     .letter = 'V',
     .kind = OPT_FLAG,
     .flags = OPT_LINE_ONLY,
     .help = "Show the version and exit."},
    {.name = NULL},
};

const struct opt_row *command_shared_rows(void)
{
    return shared_rows;
}

int command_fail(const struct command_context *ctx, const struct err *e)
{
    (void)ctx;
    fflush(stdout);
    fprintf(stderr, "celeriac: %s\n", e->text);
    return (int)exitcode_of(e->code);
}

int command_nomem(const struct command_context *ctx)
{
    struct err e = ERR_INIT;

    err_nomem(&e);
    return command_fail(ctx, &e);
}

int command_usage(const struct command_context *ctx, const char *fmt, ...)
{
    struct err e = ERR_INIT;
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(e.text, sizeof(e.text), fmt, ap);
    va_end(ap);
    e.code = ERR_USAGE;
    return command_fail(ctx, &e);
}
