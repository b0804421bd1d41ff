#include "app/etl.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tasks/etl_verify.h"

static const struct opt_row rows[] = {
    {.name = "db",
     .kind = OPT_TEXT,
     .flags = OPT_FILE_ARG,
     .arg = "PATH",
     .fallback = ETL_DB_DEFAULT,
     .help = "The database that the logs were loaded into."},
    {.name = "spool",
     .kind = OPT_TEXT,
     .flags = OPT_FILE_ARG,
     .arg = "FOLDER",
     .help =
         "Unpack packed logs in this folder, and leave them there; default: a file in TMPDIR that "
         "has no name and is gone at the end."},
    {.name = NULL},
};

/* One run: what to check with, and what was found. */
struct verification {
    struct command_context *ctx;
    const char *db;
    const char *spool; /* NULL: none */
    struct etl_sink *sink;
    json_t *list; /* with -o json */
    struct etl_verdict total;
    int checked;
    int differ;
    int unchecked;
    int unchecked_status; /* of the first one */
};

static void print_row(const char *name, const struct etl_verdict *v)
{
    printf("%10" PRIu64 " %10" PRIu64 " %11" PRIu64 " %10" PRIu64 " %8" PRIu64 " %6" PRIu64
           " %6" PRIu64 "  %s\n",
           v->lines, v->rows, v->quarantined, v->duplicates, v->missing, v->wrong, v->extra, name);
}

static json_t *verdict_json(const struct etl_verdict *v)
{
    return json_pack("{s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:b}", "lines", (json_int_t)v->lines,
                     "rows", (json_int_t)v->rows, "quarantined", (json_int_t)v->quarantined,
                     "duplicates", (json_int_t)v->duplicates, "missing", (json_int_t)v->missing,
                     "wrong", (json_int_t)v->wrong, "extra", (json_int_t)v->extra, "clean",
                     etl_verdict_is_clean(v));
}

static void add_verdict(struct etl_verdict *total, const struct etl_verdict *v)
{
    total->lines += v->lines;
    total->rows += v->rows;
    total->quarantined += v->quarantined;
    total->duplicates += v->duplicates;
    total->missing += v->missing;
    total->wrong += v->wrong;
    total->extra += v->extra;
}

static void report(struct verification *run, const char *path, const struct etl_verdict *verdict)
{
    json_t *object;

    run->checked++;
    run->differ += !etl_verdict_is_clean(verdict);
    add_verdict(&run->total, verdict);
    if (run->ctx->output != COMMAND_JSON) {
        if (run->checked == 1)
            printf("%10s %10s %11s %10s %8s %6s %6s  %s\n", "LINES", "ROWS", "QUARANTINED",
                   "DUPLICATES", "MISSING", "WRONG", "EXTRA", "LOG");
        print_row(path, verdict);
        return;
    }
    object = verdict_json(verdict);
    json_object_set_new(object, "log", json_string(path));
    json_array_append_new(run->list, object);
}

static void cannot_check(struct verification *run, const struct etl_err *err)
{
    int status = etl_fail(run->ctx, err);

    if (run->unchecked++ == 0)
        run->unchecked_status = status;
}

static int check_open(struct verification *run, const struct etl_source *source,
                      struct etl_verdict *verdict, struct etl_err *err)
{
    struct etl_place place;
    int rc;

    if (etl_sink_place(run->sink, source, NULL, &place, err) != 0)
        return -1;
    if (!place.known)
        return etl_err_set(err, ETL_ERR_NOTFOUND,
                           "%s: was not loaded into %s as it is now; load it first", source->path,
                           run->db);
    rc = etl_verify(run->db, source, &place, verdict, err);
    etl_place_release(&place);
    return rc;
}

static void check(struct verification *run, const char *path)
{
    struct etl_source source;
    struct etl_verdict verdict;
    struct etl_err err;
    int rc;

    if (etl_source_open(&source, path, run->spool, &err) != 0) {
        cannot_check(run, &err);
        return;
    }
    /* Nothing can have been loaded of an empty log. */
    memset(&verdict, 0, sizeof(verdict));
    rc = source.size == 0 ? 0 : check_open(run, &source, &verdict, &err);
    etl_source_close(&source);
    if (rc == 0)
        report(run, path, &verdict);
    else
        cannot_check(run, &err);
}

static int finish(struct verification *run)
{
    if (run->ctx->output == COMMAND_JSON) {
        json_t *object = verdict_json(&run->total);

        json_object_set(object, "logs", run->list);
        json_dumpf(object, stdout, JSON_COMPACT);
        putchar('\n');
        json_decref(object);
    } else if (run->checked > 1) {
        print_row("total", &run->total);
    }
    if (run->differ > 0)
        return EXITCODE_TASK_FAILED;
    if (run->unchecked > 0)
        return run->checked > 0 ? EXITCODE_PARTIAL : run->unchecked_status;
    return EXITCODE_OK;
}

/* Without arguments: every log that the database knows. */
static int check_known(struct verification *run)
{
    struct etl_paths paths;
    struct etl_err err;

    if (etl_paths_read(&paths, run->db, &err) != 0)
        return etl_fail(run->ctx, &err);
    for (size_t i = 0; i < paths.len; i++)
        check(run, paths.items[i]);
    etl_paths_release(&paths);
    return finish(run);
}

static int check_named(struct verification *run, int argc, char **argv)
{
    if (argc == 0)
        return check_known(run);
    for (int i = 0; i < argc; i++)
        check(run, argv[i]);
    return finish(run);
}

/* A database that is not there must not be made by looking at it. */
static int probe(const char *db, struct etl_err *err)
{
    struct etl_paths paths;

    if (etl_paths_read(&paths, db, err) != 0)
        return -1;
    etl_paths_release(&paths);
    return 0;
}

static int run_verify(struct command_context *ctx, const struct opt_values *v, int argc,
                      char **argv)
{
    struct verification run = {.ctx = ctx, .db = opt_text(v, "db"), .spool = opt_text(v, "spool")};
    struct etl_err err;
    int status;

    if (probe(run.db, &err) == 0)
        run.sink = etl_sink_sqlite_open(run.db, ETL_BUSY_MS, &err);
    if (run.sink == NULL) {
        status = etl_fail(ctx, &err);
    } else {
        run.list = json_array();
        status = check_named(&run, argc, argv);
        json_decref(run.list);
        etl_sink_close(run.sink);
    }
    return status;
}

const struct command command_etl_verify = {
    .name = "verify",
    .summary = "Read logs again and compare every line with the database.",
    .positional = "[LOG...]",
    .details = "Without LOG, every log that the database knows is checked. Exit status 0 when all "
               "lines are found as they should be, 1 when something differs, 7 when some logs "
               "could not be checked.",
    .examples = "celeriac etl verify --db events.db access.log",
    .opts = {rows},
    .args_min = 0,
    .args_max = -1,
    .run = run_verify,
};
