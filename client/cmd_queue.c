/* celeriac queue ls|peek|purge, and purge under Celery's name. */
#include "base/table.h"
#include "broker/message.h"
#include "client/cli.h"
#include "client/commands.h"
#include "client/queues.h"

#include <stdio.h>

static int run_ls(struct command_context *ctx, const struct opt_values *v, int argc, char **argv)
{
    (void)argc;
    (void)argv;
    return cli_show(ctx, v, BROKER_ASK_QUEUES, NULL, 0, queues_print);
}

static const struct command command_ls = {
    .name = "ls",
    .summary = "List the queues and how many messages each holds.",
    .opts = {cli_broker_rows, NULL},
    .run = run_ls,
};

static void add_message(struct table *t, const json_t *row)
{
    const char *envelope = cli_member(row, "envelope");
    int64_t not_before_ms = json_integer_value(json_object_get(row, "not_before_ms"));
    char when[40];
    struct message m;
    struct err e = ERR_INIT;

    message_parse(&m, slice_of(envelope ? envelope : ""), &e);
    cli_time(not_before_ms, when, sizeof(when));
    table_cell(t, cli_member(row, "state"));
    table_cellf(t, "%lld", (long long)json_integer_value(json_object_get(row, "priority")));
    table_cell(t, when);
    table_cell(t, m.id);
    table_cell(t, m.task);
    table_cell(t, e.code == ERR_NONE ? cli_member(m.headers, "argsrepr") : e.text);
    table_cell(t, cli_member(m.headers, "kwargsrepr"));
    message_release(&m);
}

static int print_messages(const struct command_context *ctx, const json_t *messages)
{
    static const char *const names[] = {"STATE", ">PRIORITY", "NOT BEFORE", "ID",
                                        "TASK",  "ARGS",      "KWARGS",     NULL};
    struct table t;
    json_t *row;
    size_t i;

    table_init(&t, names);
    json_array_foreach(messages, i, row) add_message(&t, row);
    return cli_print_table(ctx, &t);
}

static int run_peek(struct command_context *ctx, const struct opt_values *v, int argc, char **argv)
{
    (void)argc;
    return cli_show(ctx, v, BROKER_ASK_PEEK, argv[0], opt_int(v, "limit"), print_messages);
}

static const struct command command_peek = {
    .name = "peek",
    .summary = "Show the messages of a queue without taking them.",
    .positional = "QUEUE",
    .details = "Those that would be delivered next come first, then delayed ones by time, then "
               "those that a worker holds.",
    .opts = {cli_limit_rows, cli_broker_rows, NULL},
    .args_min = 1,
    .args_max = 1,
    .run = run_peek,
};

/* -1 with e, or how many messages are gone. */
static int64_t purge_one(struct session *s, const char *queue, struct err *e)
{
    json_t *answer = cli_ask(s, BROKER_ASK_PURGE, queue, NULL, 0, e);
    int64_t purged = answer ? json_integer_value(json_object_get(answer, "purged")) : -1;

    json_decref(answer);
    return purged;
}

static int print_purged(const struct command_context *ctx, const char *queue, int64_t purged)
{
    if (ctx->output == COMMAND_JSON)
        return cli_print_new_json(
            json_pack("{s:o,s:I}", "queue", cli_json_text(queue), "purged", (json_int_t)purged));
    printf("%s: %lld messages purged\n", queue, (long long)purged);
    return EXITCODE_OK;
}

static int purge(struct command_context *ctx, const struct opt_values *v, const char *const *queues,
                 size_t n)
{
    struct err e = ERR_INIT;
    struct session s;
    char what[120];
    int status;

    snprintf(what, sizeof(what), "purge the waiting and delayed messages of '%.40s'%s", queues[0],
             n > 1 ? " and others" : "");
    status = cli_confirm(ctx, v, what);
    if (status == EXITCODE_OK)
        status = cli_open(&s, ctx, v, true);
    if (status != EXITCODE_OK)
        return status;
    for (size_t i = 0; i < n && status == EXITCODE_OK; i++) {
        int64_t purged = purge_one(&s, queues[i], &e);

        if (purged < 0)
            status = command_fail(ctx, &e);
        else
            status = print_purged(ctx, queues[i], purged);
    }
    session_close(&s);
    return status;
}

static int run_queue_purge(struct command_context *ctx, const struct opt_values *v, int argc,
                           char **argv)
{
    return purge(ctx, v, (const char *const *)argv, (size_t)argc);
}

static const struct command command_queue_purge = {
    .name = "purge",
    .summary = "Throw away the waiting and delayed messages of queues.",
    .positional = "QUEUE...",
    .details = "Messages that a worker holds stay. What was thrown away is counted as failed and "
               "as purged.",
    .opts = {cli_force_rows, cli_broker_rows, NULL},
    .args_min = 1,
    .args_max = -1,
    .run = run_queue_purge,
};

static const struct opt_row purge_rows[] = {
    {.name = "queues",
     .letter = 'Q',
     .kind = OPT_LIST,
     .flags = OPT_LINE_ONLY,
     .arg = "QUEUE,...",
     .fallback = "celery",
     .help = "The queues to purge."},
    {.name = NULL},
};

static int run_purge(struct command_context *ctx, const struct opt_values *v, int argc, char **argv)
{
    size_t n;
    const char *const *queues = opt_list(v, "queues", &n);

    if (argc > 0)
        return run_queue_purge(ctx, v, argc, argv);
    if (n == 0)
        return command_usage(ctx, "no queue is named");
    return purge(ctx, v, queues, n);
}

const struct command command_purge = {
    .name = "purge",
    .summary = "Celery's name for 'queue purge'.",
    .positional = "[QUEUE...]",
    .opts = {purge_rows, cli_force_rows, cli_broker_rows, NULL},
    .args_max = -1,
    .run = run_purge,
};

static const struct command *const subs[] = {&command_ls, &command_peek, &command_queue_purge,
                                             NULL};

const struct command command_queue = {
    .name = "queue",
    .summary = "Look into queues, or empty them.",
    .subs = subs,
};
