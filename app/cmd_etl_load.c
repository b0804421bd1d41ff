#include "app/etl.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "app/etl_progress.h"
#include "app/etl_report.h"

static const struct opt_row rows[] = {
    {.name = "db",
     .kind = OPT_TEXT,
     .flags = OPT_FILE_ARG,
     .arg = "PATH",
     .fallback = ETL_DB_DEFAULT,
     .help = "The SQLite database to load into; made if it is missing."},
    {.name = "chunk-size",
     .kind = OPT_INT,
     .arg = "BYTES",
     .fallback = ETL_CHUNK_LEN_DEFAULT,
     .min = 1,
     .max = 1073741824,
     .help = "Cut the logs into chunks of about so many bytes, one task each."},
    {.name = "format",
     .kind = OPT_CHOICE,
     .flags = OPT_LINE_ONLY,
     .arg = "FORMAT",
     .choices = "common|combined|vhost_combined|combined_timed",
     .help = "Read new logs as this format instead of choosing one by majority. A log that was "
             "loaded before keeps its format."},
    {.name = "queue",
     .letter = 'Q',
     .kind = OPT_TEXT,
     .arg = "NAME",
     .help = "Send the tasks to this queue; default: celery."},
    {.name = "spool",
     .kind = OPT_TEXT,
     .flags = OPT_FILE_ARG,
     .arg = "FOLDER",
     .help = "Unpack packed logs in this folder; default: beside an sqlite queue, else in TMPDIR. "
             "Workers must be able to read it."},
    {.name = "wait",
     .kind = OPT_NUMBER,
     .flags = OPT_LINE_ONLY,
     .arg = "SECONDS",
     .fallback = "0",
     .min = 0,
     .max = 3.2e9,
     .help = "Give up waiting after so long; 0 waits for ever."},
    {.name = NULL},
};

/* One run of the command. */
struct load {
    struct command_context *ctx;
    const struct opt_values *v;
    char *db; /* owned, absolute */
    struct etl_set set;
    struct etl_progress progress;
    struct etl_totals totals;
};

static void say_idle(void *user)
{
    struct etl_progress *progress = user;

    etl_progress_end(progress);
    fprintf(progress->out,
            "celeriac: no job is finished yet; is a worker running on this broker and queue? "
            "(waiting; Ctrl-C leaves the jobs in the queue)\n");
}

/* The folder for unpacked logs, which the workers must see: the one given, else "PATH-spool" beside
 * an sqlite queue, else one in TMPDIR. Owned by the caller; NULL when out of memory. */
static char *spool_folder(const char *given, const char *broker_url)
{
    const char *tmp = getenv("TMPDIR");
    char *folder = NULL;
    int n;

    if (given != NULL)
        return strdup(given);
    if (broker_url != NULL && strncmp(broker_url, "sqlite:", 7) == 0) {
        const char *path = broker_url + 7;

        path += strncmp(path, "//", 2) == 0 ? 2 : 0;
        n = asprintf(&folder, "%.*s-spool", (int)strcspn(path, "?"), path);
    } else {
        n = asprintf(&folder, "%s/celeriac-spool-%lu", tmp != NULL && *tmp != '\0' ? tmp : "/tmp",
                     (unsigned long)getuid());
    }
    return n < 0 ? NULL : folder;
}

static int open_set(struct load *load, int argc, char **argv, struct err *e)
{
    char *spool = spool_folder(opt_text(load->v, "spool"), opt_text(load->v, "broker"));
    char *spool_path = NULL;
    struct etl_set_options options = {
        .format = opt_text(load->v, "format"),
        .chunk_len = (uint64_t)opt_int(load->v, "chunk-size"),
    };
    struct etl_err err;
    int rc = -1;

    if (spool == NULL) {
        err_nomem(e);
    } else if (etl_absolute(spool, &spool_path, e) == 0) {
        options.spool = spool_path;
        rc = etl_set_open_in(&load->set, load->db, argv, (size_t)argc, options, &err);
        if (rc != 0)
            etl_err_take(e, &err);
    }
    free(spool_path);
    free(spool);
    return rc;
}

static int send_and_wait(struct load *load, struct err *e)
{
    const char *db = load->db;
    struct etl_jobs_options options = {
        .task = "etl.load_chunk",
        .queue = opt_text(load->v, "queue"),
        .dbs = &db,
        .rounds = 1,
        .timeout_ms = (int64_t)(opt_number(load->v, "wait") * 1000),
        .moved = etl_progress_moved,
        .idle = say_idle,
        .user = &load->progress,
    };
    struct celeriac_options how = CELERIAC_OPTIONS_INIT;
    struct celeriac_error why;
    struct celeriac *client;
    int rc;

    how.result_url = opt_text(load->v, "result-backend");
    client = celeriac_open(opt_text(load->v, "broker"), &how, &why);
    if (client == NULL)
        return etl_client_err(e, &why);
    etl_progress_init(&load->progress, stderr, load->ctx->err_tty, clock_system());
    rc = etl_jobs_run(client, &load->set, &options, &load->totals, e);
    etl_progress_end(&load->progress);
    celeriac_close(client);
    return rc;
}

/* Every line was counted when the logs were cut; what the jobs counted must be the same. */
static int judge(const struct load *load)
{
    const struct etl_counts *counts = &load->totals.counts;
    uint64_t sum = counts->inserted + counts->quarantined + counts->duplicates;

    if (load->totals.failed > 0) {
        fprintf(stderr,
                "celeriac: %" PRIu64 " of %zu chunks were not loaded; mend the cause and load "
                "again, what is loaded stays\n",
                load->totals.failed, load->set.parts_len);
        return load->totals.jobs > 0 ? EXITCODE_PARTIAL : EXITCODE_TASK_FAILED;
    }
    if (sum == load->set.lines)
        return EXITCODE_OK;
    fprintf(stderr,
            "celeriac: the logs have %" PRIu64 " lines, but %" PRIu64 " were inserted, "
            "quarantined or duplicates; run `celeriac etl verify`\n",
            load->set.lines, sum);
    return EXITCODE_PARTIAL;
}

static int print_report(const struct load *load, struct err *e)
{
    struct etl_summary summary;
    const struct etl_report report = {load->db, &load->set, &load->totals, &summary};
    struct etl_err err;

    if (etl_summary_read(&summary, load->db, &err) != 0)
        return etl_err_take(e, &err);
    (load->ctx->output == COMMAND_JSON ? etl_report_json : etl_report_table)(stdout, &report);
    etl_summary_release(&summary);
    return 0;
}

/* The unpacked copies are of no use once all their chunks are stored; a retry makes them again. */
static void remove_spooled(const struct load *load)
{
    for (size_t i = 0; i < load->set.logs_len; i++) {
        const struct etl_source *source = &load->set.logs[i].source;

        if (load->totals.failed == 0 && strcmp(source->path, source->data_path) != 0)
            unlink(source->data_path);
    }
}

static int load_all(struct load *load, int argc, char **argv, struct err *e)
{
    if (etl_absolute(opt_text(load->v, "db"), &load->db, e) != 0 ||
        open_set(load, argc, argv, e) != 0 || send_and_wait(load, e) != 0)
        return -1;
    remove_spooled(load);
    return print_report(load, e);
}

static int run_load(struct command_context *ctx, const struct opt_values *v, int argc, char **argv)
{
    struct load load = {.ctx = ctx, .v = v};
    struct err e = ERR_INIT;
    int status;

    if (opt_text(v, "broker") == NULL)
        return command_usage(ctx, COMMAND_NO_BROKER);
    status = load_all(&load, argc, argv, &e) == 0 ? judge(&load) : command_fail(ctx, &e);
    etl_totals_release(&load.totals);
    etl_set_release(&load.set);
    free(load.db);
    return status;
}

const struct command command_etl_load = {
    .name = "load",
    .summary = "Load access logs with the workers of a broker, and report.",
    .positional = "LOG...",
    .details =
        "Each log (plain or .gz) is cut into chunks, and each chunk is one etl.load_chunk task. A "
        "worker must run on the same broker and be able to read the logs and write the database. "
        "Loading again is safe: what is in the database already is recognised and counted as "
        "duplicates.\nExit status 0 only if inserted + quarantined + duplicates = lines.",
    .examples = "celeriac etl load -b sqlite:queue.db --db events.db /var/log/nginx/access.log*",
    .opts = {rows},
    .args_min = 1,
    .args_max = -1,
    .run = run_load,
};
