/* celeriac status: the totals, the queues and the workers of a broker. */
#include "base/table.h"
#include "client/cli.h"
#include "client/commands.h"
#include "client/queues.h"

#include <stdio.h>
#include <string.h>

/* Shown in this order; JSON has whatever the broker tells besides. */
static const char *const counters[] = {"published",  "succeeded", "failed",  "retried",
                                       "dead",       "waiting",   "leased",  "delayed",
                                       "duplicates", "purged",    "removed", NULL};

static int print_totals(const struct command_context *ctx, const json_t *totals)
{
    static const char *const names[] = {"TOTAL", ">JOBS", NULL};
    struct table t;

    table_init(&t, names);
    for (const char *const *name = counters; *name; name++) {
        table_cell(&t, *name);
        table_cellf(&t, "%lld", (long long)json_integer_value(json_object_get(totals, *name)));
    }
    return cli_print_table(ctx, &t);
}

static long long number(const json_t *object, const char *name)
{
    return (long long)json_integer_value(json_object_get(object, name));
}

static int runners_in(const json_t *worker, const char *state)
{
    const char *word;
    json_t *runner;
    size_t i;
    int n = 0;

    json_array_foreach(json_object_get(worker, "runners"), i, runner)
    {
        word = cli_member(runner, "state");
        n += word && strcmp(word, state) == 0;
    }
    return n;
}

/* "running", or "running, failed slots: 2 3" when some will not be started again. */
static void add_state(struct table *t, const json_t *worker)
{
    const char *state = cli_member(worker, "state"), *word;
    struct buf text = BUF_INIT;
    json_t *runner;
    size_t i;

    buf_adds(&text, state ? state : "-");
    if (runners_in(worker, "failed"))
        buf_adds(&text, ", failed slots:");
    json_array_foreach(json_object_get(worker, "runners"), i, runner)
    {
        word = cli_member(runner, "state");
        if (word && strcmp(word, "failed") == 0)
            buf_addf(&text, " %lld", number(runner, "slot"));
    }
    table_cell(t, buf_str(&text));
    buf_release(&text);
}

static int print_workers(const struct command_context *ctx, const json_t *workers)
{
    static const char *const names[] = {"NODE",  ">PID",  ">RUNNERS", ">RUNNING",
                                        ">JOBS", "STATE", NULL};
    struct table t;
    json_t *worker;
    size_t i;

    table_init(&t, names);
    json_array_foreach(workers, i, worker)
    {
        table_cell(&t, cli_member(worker, "node"));
        table_cellf(&t, "%lld", number(worker, "pid"));
        table_cellf(&t, "%d/%lld", runners_in(worker, "up"), number(worker, "concurrency"));
        table_cellf(&t, "%lld", number(worker, "running"));
        table_cellf(&t, "%lld", number(worker, "jobs"));
        add_state(&t, worker);
    }
    return cli_print_table(ctx, &t);
}

static void add_wait(struct table *t, const json_t *stages, const char *name)
{
    const json_t *us = json_object_get(stages, name);

    if (us)
        table_cellf(t, "%.3f", (double)json_integer_value(us) / 1000);
    else
        table_cell(t, "-");
}

/* Where the time of the last jobs went. */
static int print_stages(const struct command_context *ctx, const json_t *workers)
{
    static const char *const titles[] = {"NODE",    ">QUEUED ms",   ">FETCHED ms", ">DISPATCHED ms",
                                         ">RUN ms", ">RECORDED ms", NULL};
    static const char *const names[] = {"queued_us", "fetched_us", "dispatched_us", "run_us",
                                        "recorded_us"};
    struct table t;
    json_t *worker;
    size_t i;

    table_init(&t, titles);
    json_array_foreach(workers, i, worker)
    {
        table_cell(&t, cli_member(worker, "node"));
        for (size_t k = 0; k < sizeof(names) / sizeof(names[0]); k++)
            add_wait(&t, json_object_get(worker, "stages"), names[k]);
    }
    return cli_print_table(ctx, &t);
}

static int print_status(const struct command_context *ctx, const struct session *s, json_t *totals,
                        json_t *queues, json_t *workers)
{
    int status;

    if (ctx->output == COMMAND_JSON)
        return cli_print_new_json(json_pack("{s:o,s:O,s:O,s:O}", "broker", cli_json_text(s->name),
                                            "totals", totals, "queues", queues, "workers",
                                            workers));
    printf("broker: %s\n\n", s->name);
    status = print_totals(ctx, totals);
    putchar('\n');
    if (status == EXITCODE_OK)
        status = queues_print(ctx, queues);
    putchar('\n');
    if (status == EXITCODE_OK)
        status = print_workers(ctx, workers);
    if (json_array_size(workers) == 0)
        return status;
    putchar('\n');
    return status == EXITCODE_OK ? print_stages(ctx, workers) : status;
}

static int run(struct command_context *ctx, const struct opt_values *v, int argc, char **argv)
{
    struct err e = ERR_INIT;
    json_t *totals, *queues = NULL, *workers = NULL;
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
        workers = cli_ask(&s, BROKER_ASK_NODES, NULL, NULL, 0, &e);
    if (workers)
        status = print_status(ctx, &s, totals, queues, workers);
    else
        status = command_fail(ctx, &e);
    json_decref(totals);
    json_decref(queues);
    json_decref(workers);
    session_close(&s);
    return status;
}

const struct command command_status = {
    .name = "status",
    .summary = "Show the totals of a broker, its queues and its workers.",
    .details =
        "Totals are counted by the broker in the step that changes a job: published = "
        "succeeded + failed + dead + waiting + delayed + leased at every instant, and a job "
        "that was recorded twice would show.\n"
        "A worker says every few seconds that it is there, and is forgotten after twelve when "
        "it does not. RUNNERS are those that are up, of all; a failed slot is one whose "
        "process died ten times before it was ready, and is not started again.\n"
        "The last table is where the time of its last jobs went, a moving mean: waiting in "
        "the queue, in the dispatcher, on the way to the runner, in the task, and on the "
        "way to the record.",
    .opts = {cli_broker_rows, NULL},
    .run = run,
};
