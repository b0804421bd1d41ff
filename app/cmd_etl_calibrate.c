#include "app/etl.h"

#include <inttypes.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "app/etl_jobs.h"
#include "app/own_worker.h"
#include "app/scratch.h"
#include "base/proc.h"

#define SAMPLE_MAX_LEN ((uint64_t)64 * 1024 * 1024)
#define ROUNDS_MAX     2000
#define DB_ROUNDS_MAX  64
#define READY_MS       30000
#define LIMITS         4

static const struct opt_row rows[] = {
    {.name = "chunk-size",
     .kind = OPT_INT,
     .arg = "BYTES",
     .fallback = ETL_CHUNK_LEN_DEFAULT,
     .min = 1,
     .max = 1073741824,
     .help = "Cut the logs into chunks of about so many bytes, one task each."},
    {.name = "runners",
     .letter = 'c',
     .kind = OPT_INT,
     .arg = "N",
     .min = 1,
     .max = 1024,
     .help = "Compare one runner with so many; default: one per core."},
    {.name = "seconds",
     .kind = OPT_NUMBER,
     .flags = OPT_LINE_ONLY,
     .arg = "SECONDS",
     .fallback = "2",
     .min = 0.01,
     .max = 3600,
     .help = "Repeat the chunks until one measurement takes at least about so long."},
    {.name = NULL},
};

/* One way of handling the chunks. */
struct mode {
    const char *key;
    const char *name;
    const char *task;
    bool inserts;
    size_t rounds_max;
};

static const struct mode modes[] = {
    {"parse", "parse only", "etl.parse_chunk", false, ROUNDS_MAX},
    {"insert", "parse + insert", "etl.load_chunk", true, DB_ROUNDS_MAX},
};

#define MODES (sizeof(modes) / sizeof(modes[0]))

struct calibration {
    struct etl_set set;
    char folder[SCRATCH_PATH_SIZE]; /* scratch: queues, databases, unpacked logs */
    double seconds;                 /* wanted, of one measurement */
    int runners;
    unsigned queues; /* made so far */
    unsigned dbs;
};

/* A mode's figures. */
struct scaling {
    double lines_per_s[2]; /* with 1 and with N runners */
    double cpu_s_per_line[2];
    double speedup;
    double parallel; /* fitted share, Amdahl's P */
};

/* What Amdahl's law says n runners are worth. */
static double amdahl(double parallel, double n)
{
    return 1.0 / (1.0 - parallel + parallel / n);
}

static void fit(struct scaling *scaling, int runners)
{
    scaling->speedup = scaling->lines_per_s[1] / scaling->lines_per_s[0];
    scaling->parallel = 0;
    if (runners > 1)
        scaling->parallel = (1.0 - 1.0 / scaling->speedup) / (1.0 - 1.0 / runners);
    scaling->parallel = fmin(1.0, fmax(0.0, scaling->parallel));
}

/* A new database for each round, so that every round inserts what the first one did. */
static int make_dbs(struct calibration *calibration, char **paths, size_t n, struct err *e)
{
    struct etl_err err;

    for (size_t i = 0; i < n; i++) {
        struct etl_sink *sink;

        if (asprintf(&paths[i], "%s/events-%u.db", calibration->folder, calibration->dbs++) < 0) {
            paths[i] = NULL;
            return err_nomem(e);
        }
        sink = etl_sink_sqlite_open(paths[i], ETL_BUSY_MS, &err);
        if (sink == NULL)
            return etl_err_take(e, &err);
        etl_sink_close(sink);
    }
    return 0;
}

static void remove_dbs(char **paths, size_t n)
{
    static const char *const ends[] = {"", "-wal", "-shm"};
    char path[128];

    for (size_t i = 0; i < n; i++) {
        for (size_t k = 0; paths[i] != NULL && k < sizeof(ends) / sizeof(ends[0]); k++) {
            snprintf(path, sizeof(path), "%s%s", paths[i], ends[k]);
            unlink(path);
        }
        free(paths[i]);
    }
}

static int run_rounds(struct calibration *calibration, struct celeriac *client,
                      const struct mode *mode, size_t rounds, struct etl_totals *totals,
                      struct err *e)
{
    char **dbs = calloc(rounds, sizeof(*dbs));
    struct etl_jobs_options options = {.task = mode->task, .rounds = rounds};
    int rc = -1;

    memset(totals, 0, sizeof(*totals));
    if (dbs == NULL)
        return err_nomem(e);
    options.dbs = mode->inserts ? (const char *const *)dbs : NULL;
    if (!mode->inserts || make_dbs(calibration, dbs, rounds, e) == 0)
        rc = etl_jobs_run(client, &calibration->set, &options, totals, e);
    if (rc == 0 && totals->failed > 0)
        rc = err_set(e, ERR_PARTIAL, "%" PRIu64 " jobs of the measurement failed", totals->failed);
    remove_dbs(dbs, rounds);
    free(dbs);
    return rc;
}

/* The first round starts everything and tells how many make a measurement of the wanted length. */
static int measure_with(struct calibration *calibration, struct celeriac *client,
                        const struct mode *mode, struct etl_totals *totals, struct err *e)
{
    double first_s = 0;
    double rounds;

    for (int warm = 0; warm < 2; warm++) {
        if (run_rounds(calibration, client, mode, 1, totals, e) != 0)
            return -1;
        first_s = totals->seconds;
        etl_totals_release(totals);
    }
    rounds = ceil(1.1 * calibration->seconds / fmax(first_s, 1e-4));
    rounds = fmin(fmax(rounds, 1), (double)mode->rounds_max);
    return run_rounds(calibration, client, mode, (size_t)rounds, totals, e);
}

static int measure(struct calibration *calibration, const struct mode *mode, int runners,
                   struct etl_totals *totals, struct err *e)
{
    struct celeriac_options how = CELERIAC_OPTIONS_INIT;
    struct celeriac_error why;
    struct celeriac *client;
    char url[96];
    char log[96];
    struct own_worker own = {.broker = url, .runners = runners, .log = log};
    pid_t worker;
    int rc;

    snprintf(url, sizeof(url), "sqlite:%s/queue-%u.db", calibration->folder, calibration->queues++);
    snprintf(log, sizeof(log), "%s/worker.log", calibration->folder);
    how.timeout_ms = READY_MS;
    if (own_worker_start(&own, &worker, e) != 0)
        return -1;
    client = celeriac_open(url, &how, &why);
    if (client == NULL)
        rc = etl_client_err(e, &why);
    else
        rc = measure_with(calibration, client, mode, totals, e);
    celeriac_close(client);
    if (rc == 0)
        rc = own_worker_check(worker, e);
    own_worker_stop(worker);
    return rc;
}

static int scale(struct calibration *calibration, const struct mode *mode, struct scaling *scaling,
                 struct err *e)
{
    const int runners[2] = {1, calibration->runners};

    for (int i = 0; i < 2; i++) {
        struct etl_totals totals = {0};
        double cpu_s = 0;

        if (i == 1 && calibration->runners == 1) {
            scaling->lines_per_s[1] = scaling->lines_per_s[0];
            scaling->cpu_s_per_line[1] = scaling->cpu_s_per_line[0];
            break;
        }
        if (measure(calibration, mode, runners[i], &totals, e) != 0)
            return -1;
        for (size_t k = 0; k < totals.runners_len; k++)
            cpu_s += totals.runners[k].cpu_s;
        scaling->lines_per_s[i] = (double)totals.counts.lines / totals.seconds;
        scaling->cpu_s_per_line[i] = cpu_s / (double)totals.counts.lines;
        etl_totals_release(&totals);
    }
    fit(scaling, calibration->runners);
    return 0;
}

static void print_table(const struct calibration *calibration, const struct scaling *scalings)
{
    int n = calibration->runners;

    printf("Calibration: %" PRIu64 " lines in %zu chunks, repeated, with 1 and %d runners\n",
           calibration->set.lines, calibration->set.parts_len, n);
    printf("  %-15s %14s %14s %7s %7s   Amdahl: %6s %6s %6s %6s\n", "", "1: lines/s", "N: lines/s",
           "S(N)", "P", "S(N)", "S(4)", "S(16)", "limit");
    for (size_t i = 0; i < MODES; i++) {
        const struct scaling *s = &scalings[i];

        printf("  %-15s %14.0f %14.0f %7.2f %7.3f           %6.2f %6.2f %6.2f ", modes[i].name,
               s->lines_per_s[0], s->lines_per_s[1], s->speedup, s->parallel,
               amdahl(s->parallel, n), amdahl(s->parallel, 4), amdahl(s->parallel, 16));
        if (s->parallel < 1)
            printf("%6.1f\n", 1.0 / (1.0 - s->parallel));
        else
            printf("%6s\n", "none");
    }
    if (n == 1)
        printf("  one core only: there is nothing to scale to\n");
}

static json_t *line_json(double parallel)
{
    static const int counts[LIMITS] = {2, 4, 8, 16};
    json_t *line = json_object();
    char name[16];

    for (int i = 0; i < LIMITS; i++) {
        snprintf(name, sizeof(name), "%d", counts[i]);
        json_object_set_new(line, name, json_real(amdahl(parallel, counts[i])));
    }
    return line;
}

static void print_json(const struct calibration *calibration, const struct scaling *scalings)
{
    json_t *object = json_pack("{s:i, s:I, s:I}", "runners", calibration->runners, "lines",
                               (json_int_t)calibration->set.lines, "chunks",
                               (json_int_t)calibration->set.parts_len);

    for (size_t i = 0; i < MODES; i++) {
        const struct scaling *s = &scalings[i];

        json_object_set_new(object, modes[i].key,
                            json_pack("{s:f, s:f, s:f, s:f, s:f, s:f, s:o}", "lines_per_s_1",
                                      s->lines_per_s[0], "lines_per_s_n", s->lines_per_s[1],
                                      "cpu_s_per_line_1", s->cpu_s_per_line[0], "cpu_s_per_line_n",
                                      s->cpu_s_per_line[1], "speedup", s->speedup, "parallel",
                                      s->parallel, "amdahl", line_json(s->parallel)));
    }
    json_dumpf(object, stdout, JSON_COMPACT | JSON_REAL_PRECISION(9));
    putchar('\n');
    json_decref(object);
}

/* The logs are recognised in a scratch database: the tasks want a generation. */
static int open_logs(struct calibration *calibration, const struct opt_values *v, int argc,
                     char **argv, struct err *e)
{
    char spool[80];
    char db[80];
    struct etl_set_options options = {
        .spool = spool,
        .chunk_len = (uint64_t)opt_int(v, "chunk-size"),
        .bytes_max = SAMPLE_MAX_LEN,
    };
    struct etl_err err;

    snprintf(spool, sizeof(spool), "%s/spool", calibration->folder);
    snprintf(db, sizeof(db), "%s/logs.db", calibration->folder);
    if (etl_set_open_in(&calibration->set, db, argv, (size_t)argc, options, &err) != 0)
        return etl_err_take(e, &err);
    if (calibration->set.lines == 0)
        return err_set(e, ERR_USAGE, "the logs are empty: there is nothing to measure");
    return 0;
}

static int run_calibrate(struct command_context *ctx, const struct opt_values *v, int argc,
                         char **argv)
{
    struct calibration calibration = {.seconds = opt_number(v, "seconds"),
                                      .runners = (int)opt_int(v, "runners")};
    struct scaling scalings[MODES];
    struct err e = ERR_INIT;
    int rc = 0;

    if (calibration.runners == 0)
        calibration.runners = proc_cores();
    if (scratch_make(calibration.folder, &e) != 0)
        return command_fail(ctx, &e);
    rc = open_logs(&calibration, v, argc, argv, &e);
    for (size_t i = 0; rc == 0 && i < MODES; i++)
        rc = scale(&calibration, &modes[i], &scalings[i], &e);
    if (rc == 0)
        (ctx->output == COMMAND_JSON ? print_json : print_table)(&calibration, scalings);
    etl_set_release(&calibration.set);
    scratch_remove(calibration.folder);
    return rc == 0 ? EXITCODE_OK : command_fail(ctx, &e);
}

const struct command command_etl_calibrate = {
    .name = "calibrate",
    .summary = "Measure how loading these logs scales with the number of runners.",
    .positional = "LOG...",
    .details =
        "Starts workers of its own, with 1 and with N runners, on queues and databases in a "
        "scratch folder that is removed afterwards, and runs the chunks of the logs (their first "
        "64 MiB) again and again: parsed only, and parsed and inserted. P is the share of the work "
        "that runs in parallel, fitted to the measured speed-up S(N) with Amdahl's law, "
        "S(n) = 1 / (1 - P + P / n).",
    .examples = "celeriac etl calibrate access.log",
    .opts = {rows},
    .args_min = 1,
    .args_max = -1,
    .run = run_calibrate,
};
