/* celeriac bench: how fast this broker is with a worker of this machine. */
#include "app/command.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "app/spread.h"
#include "app/trial.h"
#include "base/clock.h"
#include "base/table.h"
#include "broker/uri.h"
#include "client/cli.h"

#define SINGLES_MAX 2000 /* jobs that are sent one at a time */
#define TRIPS_MAX   1000
#define PAYLOAD_MAX 1000000

static const struct opt_row rows[] = {
    {.name = "jobs",
     .letter = 'n',
     .kind = OPT_INT,
     .flags = OPT_LINE_ONLY,
     .arg = "N",
     .fallback = "10000",
     .min = 1,
     .max = 1e6,
     .help = "No-op jobs of each measurement; at most 2,000 are sent one at a time, and 1,000 make "
             "a round trip."},
    {.name = "repeat",
     .kind = OPT_INT,
     .flags = OPT_LINE_ONLY,
     .arg = "N",
     .fallback = "3",
     .min = 1,
     .max = SPREAD_MAX,
     .help = "Measure so often, and show the smallest, the median and the largest figure."},
    {.name = "runners",
     .letter = 'c',
     .kind = OPT_INT,
     .arg = "N",
     .min = 1,
     .max = 1024,
     .help = "Runners of the worker that is started; default: one per core."},
    {.name = "payload",
     .kind = OPT_INT,
     .flags = OPT_LINE_ONLY,
     .arg = "BYTES",
     .fallback = "64",
     .min = 0,
     .max = PAYLOAD_MAX,
     .help = "Length of the one argument of each job."},
    {.name = "no-worker",
     .kind = OPT_FLAG,
     .flags = OPT_LINE_ONLY,
     .help = "Start no worker: use the one that takes jobs from --queue. There is no drain then."},
    {.name = "queue",
     .letter = 'Q',
     .kind = OPT_TEXT,
     .flags = OPT_LINE_ONLY,
     .arg = "QUEUE",
     .fallback = "celery",
     .help = "With --no-worker: where a worker of Celeriac waits."},
    {.name = "deadline",
     .kind = OPT_NUMBER,
     .flags = OPT_LINE_ONLY,
     .arg = "SECONDS",
     .fallback = "300",
     .min = 1,
     .max = 86400,
     .help = "Give up when the jobs of one measurement take longer."},
    {.name = NULL},
};

enum figure { ENQUEUE_SINGLE, ENQUEUE_BULK, DRAIN, END_TO_END, TRIP_P50, TRIP_P99, FIGURES };

static const struct {
    const char *name;
    const char *shown;
    const char *unit;
} figures[FIGURES] = {
    [ENQUEUE_SINGLE] = {"enqueue_single", "enqueue, one at a time", "jobs/s"},
    [ENQUEUE_BULK] = {"enqueue_bulk", "enqueue, in bulk", "jobs/s"},
    [DRAIN] = {"drain", "drain, with the worker's start", "jobs/s"},
    [END_TO_END] = {"end_to_end", "end to end", "jobs/s"},
    [TRIP_P50] = {"round_trip_p50", "round trip, p50", "us"},
    [TRIP_P99] = {"round_trip_p99", "round trip, p99", "us"},
};

struct bench {
    const struct command_context *ctx;
    struct trial trial;
    struct trial_job job;
    size_t jobs;
    size_t repeat, round; /* counted from 0 */
    int runners;
    bool own_worker;
    struct spread spreads[FIGURES];
};

static double seconds_since(int64_t began)
{
    return (double)(clock_nano() - began) / 1e9;
}

/* One line that is written over on a terminal, a line each elsewhere. */
static void tell(const struct bench *b, const char *what)
{
    bool tty = b->ctx->err_tty;

    fprintf(stderr, "%sceleriac: bench %zu of %zu: %s%s", tty ? "\r\033[K" : "", b->round + 1,
            b->repeat, what, tty ? "" : "\n");
}

static void tell_end(const struct bench *b)
{
    if (b->ctx->err_tty)
        fputs("\r\033[K", stderr);
}

static int enqueue(struct bench *b, size_t jobs, bool bulk, struct err *e)
{
    int64_t began = clock_nano();

    if (trial_send(&b->trial, &b->job, jobs, bulk, e) < 0)
        return -1;
    spread_add(&b->spreads[bulk ? ENQUEUE_BULK : ENQUEUE_SINGLE],
               (double)jobs / seconds_since(began));
    return 0;
}

static size_t at_most(size_t n, size_t most)
{
    return n < most ? n : most;
}

/* Both ways of sending; nobody works meanwhile, unless the worker is not ours. */
static int measure_enqueue(struct bench *b, struct err *e)
{
    tell(b, "enqueue");
    if (trial_connect(&b->trial, e) < 0 || enqueue(b, at_most(b->jobs, SINGLES_MAX), false, e) < 0)
        return -1;
    return enqueue(b, b->jobs, true, e);
}

/* The backlog that was just made. */
static int measure_drain(struct bench *b, struct err *e)
{
    size_t jobs = b->trial.ids_len;
    int64_t began;

    tell(b, "drain");
    began = clock_nano();
    if (trial_start_worker(&b->trial, b->runners, e) < 0 || trial_connect(&b->trial, e) < 0 ||
        trial_wait(&b->trial, e) < 0)
        return -1;
    spread_add(&b->spreads[DRAIN], (double)jobs / seconds_since(began));
    return 0;
}

static int measure_end_to_end(struct bench *b, struct err *e)
{
    int64_t began;

    tell(b, "end to end");
    began = clock_nano();
    if (trial_send(&b->trial, &b->job, b->jobs, true, e) < 0 || trial_wait(&b->trial, e) < 0)
        return -1;
    spread_add(&b->spreads[END_TO_END], (double)b->jobs / seconds_since(began));
    return trial_collect(&b->trial, NULL, e);
}

static int measure_trips(struct bench *b, struct err *e)
{
    size_t n = at_most(b->jobs, TRIPS_MAX);
    double us[TRIPS_MAX];

    tell(b, "round trips");
    for (size_t i = 0; i < n; i++) {
        if (trial_trip(&b->trial, &b->job, &us[i], e) < 0)
            return -1;
    }
    spread_sort(us, n);
    spread_add(&b->spreads[TRIP_P50], spread_quantile(us, n, 0.5));
    spread_add(&b->spreads[TRIP_P99], spread_quantile(us, n, 0.99));
    return 0;
}

static int measure_once(struct bench *b, struct err *e)
{
    double us;
    int rc;

    /* A worker that is not there is found out by one job, not by thousands. */
    if (!b->own_worker &&
        (trial_connect(&b->trial, e) < 0 || trial_trip(&b->trial, &b->job, &us, e) < 0))
        return -1;
    rc = measure_enqueue(b, e);
    if (rc == 0 && b->own_worker)
        rc = measure_drain(b, e);
    if (rc == 0)
        rc = trial_collect(&b->trial, NULL, e);
    if (rc == 0)
        rc = measure_end_to_end(b, e);
    if (rc == 0)
        rc = measure_trips(b, e);
    trial_stop_worker(&b->trial);
    return rc;
}

/* --- what is printed --- */

static void print_table(const struct bench *b)
{
    static const char *const names[] = {"FIGURE", ">MIN", ">MEDIAN", ">MAX", "UNIT", NULL};
    struct table t;

    table_init(&t, names);
    for (size_t i = 0; i < FIGURES; i++) {
        const struct spread *s = &b->spreads[i];

        if (s->len == 0)
            continue;
        table_cell(&t, figures[i].shown);
        table_cellf(&t, "%.0f", spread_min(s));
        table_cellf(&t, "%.0f", spread_median(s));
        table_cellf(&t, "%.0f", spread_max(s));
        table_cell(&t, figures[i].unit);
    }
    table_print(&t, stdout, b->ctx->color);
    table_release(&t);
}

static json_t *figure_json(const struct bench *b, size_t i)
{
    const struct spread *s = &b->spreads[i];

    return json_pack("{s:s,s:s,s:f,s:f,s:f,s:I}", "case", figures[i].name, "unit", figures[i].unit,
                     "min", spread_min(s), "median", spread_median(s), "max", spread_max(s), "runs",
                     (json_int_t)s->len);
}

static void print_json(const struct bench *b, const char *broker)
{
    json_t *list = json_array(), *all;

    for (size_t i = 0; i < FIGURES; i++) {
        if (b->spreads[i].len > 0)
            json_array_append_new(list, figure_json(b, i));
    }
    all =
        json_pack("{s:s,s:I,s:o}", "broker", broker, "jobs", (json_int_t)b->jobs, "figures", list);
    if (b->own_worker)
        json_object_set_new(all, "runners", json_integer(b->runners));
    cli_print_json(all);
    json_decref(all);
}

/* --- the command --- */

static char *make_args(int64_t payload)
{
    char *text = malloc((size_t)payload + 5);

    if (text == NULL)
        return NULL;
    memcpy(text, "[\"", 2);
    memset(text + 2, 'x', (size_t)payload);
    memcpy(text + 2 + payload, "\"]", 3);
    return text;
}

static int measure(struct bench *b, const struct trial_config *config)
{
    struct err e = ERR_INIT;
    int rc = trial_open(&b->trial, config, &e);

    for (b->round = 0; rc == 0 && b->round < b->repeat; b->round++)
        rc = measure_once(b, &e);
    tell_end(b);
    trial_close(&b->trial);
    return rc == 0 ? EXITCODE_OK : command_fail(b->ctx, &e);
}

static int run_bench(struct command_context *ctx, const struct opt_values *v, int argc, char **argv)
{
    struct trial_config config = {
        .broker = opt_text(v, "broker"),
        .result_backend = opt_text(v, "result-backend"),
        .queue = opt_flag(v, "no-worker") ? opt_text(v, "queue") : NULL,
        .timeout_ms = (int64_t)(opt_number(v, "timeout") * 1000),
        .jobs_timeout_ms = (int64_t)(opt_number(v, "deadline") * 1000),
    };
    struct bench b = {.ctx = ctx,
                      .jobs = (size_t)opt_int(v, "jobs"),
                      .repeat = (size_t)opt_int(v, "repeat"),
                      .runners = opt_int(v, "runners") ? (int)opt_int(v, "runners") : proc_cores(),
                      .own_worker = !opt_flag(v, "no-worker")};
    struct uri uri;
    struct err e = ERR_INIT;
    char *args;
    int status;

    (void)argc;
    (void)argv;
    if (config.broker == NULL)
        return command_usage(ctx, COMMAND_NO_BROKER);
    if (uri_parse(&uri, config.broker, &e) < 0)
        return command_fail(ctx, &e);
    args = make_args(opt_int(v, "payload"));
    b.job = (struct trial_job){.task = "noop", .args_json = args};
    status = args != NULL ? measure(&b, &config) : EXITCODE_INTERNAL;
    if (status == EXITCODE_OK && ctx->output == COMMAND_JSON)
        print_json(&b, uri.masked);
    else if (status == EXITCODE_OK)
        print_table(&b);
    free(args);
    uri_release(&uri);
    return status;
}

const struct command command_bench = {
    .name = "bench",
    .summary = "Measure how fast a broker is with a worker of this machine.",
    .details =
        "No-op jobs go through a queue of their own and a worker of its own: enqueued one at a "
        "time (each confirmed) and in bulk, drained from a backlog by a worker that is just "
        "started, end to end with producer and worker at once, and one at a time from call to "
        "result. Their results are forgotten and the queue is empty afterwards; the broker's "
        "totals have counted them.\n"
        "With --no-worker a worker that runs already is used, through the queue it waits at.",
    .examples = "celeriac bench -b redis://localhost/0\n"
                "celeriac bench -b sqlite:/var/tmp/try.db --jobs 2000 --repeat 5 -o json",
    .opts = {rows, cli_broker_rows},
    .run = run_bench,
};
