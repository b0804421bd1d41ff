#include "app/command.h"

#include "app/cmd_help.h"
#include "app/select.h"
#include "client/commands.h"
#include "worker/command.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void fill_context(struct command_context *ctx, const struct opt_values *v, struct log *log)
{
    const char *no_color = getenv("NO_COLOR");
    enum log_level level = LOG_LEVEL_INFO;

    log_level_parse(opt_text(v, "loglevel"), &level);
    log_init(log, STDERR_FILENO, level, "celeriac");
    ctx->log = log;
    ctx->output = strcmp(opt_text(v, "output"), "json") == 0 ? COMMAND_JSON : COMMAND_TABLE;
    ctx->in_tty = isatty(STDIN_FILENO);
    ctx->out_tty = isatty(STDOUT_FILENO);
    ctx->err_tty = isatty(STDERR_FILENO);
    ctx->color = ctx->out_tty && !(no_color && *no_color);
}

static int check_arguments(struct command_context *ctx, const struct command *command, int argc,
                           char **argv)
{
    if (argc < command->args_min)
        return command_usage(ctx, "%s: %s is missing; see 'celeriac %s --help'", ctx->name,
                             command->positional, ctx->name);
    if (command->args_max >= 0 && argc > command->args_max)
        return command_usage(ctx, "%s: unexpected argument '%s'", ctx->name,
                             argv[command->args_max]);
    return EXITCODE_OK;
}

/* log: where the context's log lives. */
static int run_selected(struct command_context *ctx, struct selection *s, struct log *log)
{
    const struct command *command = s->command;
    struct err e = ERR_INIT;
    int status;

    if (opt_flag(&s->values, "help"))
        return help_show(stdout, command, s->path);
    if (opt_flag(&s->values, "version"))
        return printf("celeriac %s\n", CELERIAC_VERSION) < 0;
    if (!command->run && s->values.args_len == 0)
        return help_show(stderr, command, s->path);
    if (!command->run)
        return command_usage(ctx, "%s", s->unknown);
    if (selection_complete(s, app_root(), &e) < 0)
        return command_fail(ctx, &e);
    fill_context(ctx, &s->values, log);
    status = check_arguments(ctx, command, (int)s->values.args_len, s->values.args);
    if (status != EXITCODE_OK)
        return status;
    return command->run(ctx, &s->values, (int)s->values.args_len, s->values.args);
}

int app_run(int argc, char **argv, const struct proc_title *title)
{
    struct command_context ctx = {.name = "celeriac", .title = title};
    struct selection selected;
    struct err e = ERR_INIT;
    struct log log;
    int status;

    if (selection_make(&selected, app_root(), argc, argv, &e) < 0) {
        status = command_fail(&ctx, &e);
    } else {
        /* Messages begin with the program's name already. */
        ctx.name = strchr(selected.path, ' ') ? strchr(selected.path, ' ') + 1 : selected.path;
        status = run_selected(&ctx, &selected, &log);
    }
    selection_release(&selected);
    /* Output that could not be written (a full disk) must not look like success. */
    if (fflush(stdout) != 0 && status == EXITCODE_OK) {
        err_set(&e, ERR_OPERATOR, "can not write to standard output");
        status = command_fail(&ctx, &e);
    }
    return status;
}

static const struct command *const all_commands[] = {
    &command_worker,
    &command_call,
    &command_result,
    &command_status,
    &command_queue,
    &command_purge,
    &command_dead,
    &command_doctor,
    &command_bench,
    &command_advise,
    &command_etl,
    &command_help_row,
    NULL,
};

static const struct command root = {
    .name = "celeriac",
    .summary = "A multi-process job queue that speaks Celery's protocol.",
    .details =
        "Workers, producers and operators of task queues on Redis, on RabbitMQ or in an SQLite "
        "file, with or without Python's Celery at the other end.",
    .subs = all_commands,
};

const struct command *app_root(void)
{
    return &root;
}
