/* celeriac status: the totals and the queues of a broker. */
#include "base/table.h"
#include "client/cli.h"
#include "client/commands.h"
#include "client/queues.h"

#include <stdio.h>

/* Shown in this order; JSON has whatever the broker tells besides. */
static const char *const counters[] = {"published",  "succeeded", "failed",  "retried",
                                       "dead",       "waiting",   "leased",  "delayed",
                                       "duplicates", "purged",    "removed", NULL};

static void print_totals(const struct command_context *ctx, const json_t *totals)
{
    static const char *const names[] = {"TOTAL", ">JOBS", NULL};
    struct table t;

    table_init(&t, names);
    for (const char *const *name = counters; *name; name++) {
        table_cell(&t, *name);
        table_cellf(&t, "%lld", (long long)json_integer_value(json_object_get(totals, *name)));
    }
    table_print(&t, stdout, ctx->color);
    table_release(&t);
}

static void print_status(const struct command_context *ctx, const struct session *s, json_t *totals,
                         json_t *queues)
{
    json_t *all;

    if (ctx->output == COMMAND_TABLE) {
        printf("broker: %s\n\n", s->name);
        print_totals(ctx, totals);
        putchar('\n');
        queues_print(ctx, queues);
        return;
    }
    all = json_pack("{s:s,s:O,s:O}", "broker", s->name, "totals", totals, "queues", queues);
    cli_print_json(all);
    json_decref(all);
}

static int run(struct command_context *ctx, const struct opt_values *v, int argc, char **argv)
{
    struct err e = ERR_INIT;
    json_t *totals, *queues = NULL;
    struct session s;
    int status = cli_open(&s, ctx, v, true);

    (void)argc;
    (void)argv;
    if (status != EXITCODE_OK)
        return status;
    totals = cli_ask(&s, BROKER_ASK_TOTALS, NULL, NULL, 0, &e);
    if (totals)
        queues = cli_ask(&s, BROKER_ASK_QUEUES, NULL, NULL, 0, &e);
    if (queues)
        print_status(ctx, &s, totals, queues);
    else
        status = command_fail(ctx, &e);
    json_decref(totals);
    json_decref(queues);
    session_close(&s);
    return status;
}

const struct command command_status = {
    .name = "status",
    .summary = "Show the totals of a broker and its queues.",
    .details = "Totals are counted by the broker in the step that changes a job: published = "
               "succeeded + failed + dead + waiting + delayed + leased at every instant, and a job "
               "that was recorded twice would show.",
    .opts = {cli_broker_rows, NULL},
    .run = run,
};
