#include "tasks/etl_summary.h"

#include <stdlib.h>
#include <string.h>

#include "tasks/etl_db.h"

/* Takes one row of a query; -1 ends it with an error that the function has set. */
typedef int row_fn(struct etl_summary *summary, sqlite3_stmt *stmt, struct etl_err *err);

static int take_totals(struct etl_summary *summary, sqlite3_stmt *stmt, struct etl_err *err)
{
    (void)err;
    summary->rows = (uint64_t)sqlite3_column_int64(stmt, 0);
    summary->bytes = sqlite3_column_double(stmt, 1);
    summary->timed = (uint64_t)sqlite3_column_int64(stmt, 2);
    return 0;
}

static int take_reason(struct etl_summary *summary, sqlite3_stmt *stmt, struct etl_err *err)
{
    const char *name = (const char *)sqlite3_column_text(stmt, 0);
    uint64_t count = (uint64_t)sqlite3_column_int64(stmt, 1);

    (void)err;
    summary->quarantined += count;
    for (int i = 0; name != NULL && i < ETL_REASONS; i++)
        if (strcmp(name, etl_reason_name((enum etl_reason)i)) == 0)
            summary->reasons[i] += count;
    return 0;
}

static int take_status(struct etl_summary *summary, sqlite3_stmt *stmt, struct etl_err *err)
{
    int class = sqlite3_column_int(stmt, 0);

    (void)err;
    if (class >= 0 && class < ETL_STATUS_CLASSES)
        summary->status[class] = (uint64_t)sqlite3_column_int64(stmt, 1);
    return 0;
}

static int take_path(struct etl_summary *summary, sqlite3_stmt *stmt, struct etl_err *err)
{
    const void *bytes = sqlite3_column_blob(stmt, 0);
    size_t len = (size_t)sqlite3_column_bytes(stmt, 0);
    struct etl_top_path *top = &summary->top[summary->top_len];

    if (summary->top_len == ETL_TOP_PATHS)
        return 0;
    top->bytes = malloc(len + 1);
    if (top->bytes == NULL)
        return etl_err_set(err, ETL_ERR_MEMORY, "out of memory");
    if (len > 0)
        memcpy(top->bytes, bytes, len);
    top->bytes[len] = '\0';
    top->len = len;
    top->count = (uint64_t)sqlite3_column_int64(stmt, 1);
    summary->top_len++;
    return 0;
}

static int take_minute(struct etl_summary *summary, sqlite3_stmt *stmt, struct etl_err *err)
{
    (void)err;
    summary->busiest_minute_s = sqlite3_column_int64(stmt, 0);
    summary->busiest_count = (uint64_t)sqlite3_column_int64(stmt, 1);
    return 0;
}

/* Rows come as (duration, events so far, in order of duration): the nearest rank. */
static int take_duration(struct etl_summary *summary, sqlite3_stmt *stmt, struct etl_err *err)
{
    static const uint64_t percents[ETL_PERCENTILES] = {50, 95, 99};
    uint64_t before = (uint64_t)sqlite3_column_int64(stmt, 2);
    uint64_t until = (uint64_t)sqlite3_column_int64(stmt, 1);

    (void)err;
    for (int i = 0; i < ETL_PERCENTILES; i++) {
        uint64_t rank = (summary->timed * percents[i] + 99) / 100;

        if (rank > before && rank <= until)
            summary->percentile_ms[i] = sqlite3_column_int64(stmt, 0);
    }
    return 0;
}

static const struct {
    const char *sql;
    row_fn *take;
} questions[] = {
    {"SELECT count(*), total(bytes), count(request_time) FROM event", take_totals},
    {"SELECT reason, count(*) FROM quarantine GROUP BY reason", take_reason},
    {"SELECT status / 100, count(*) FROM event GROUP BY 1", take_status},
    {"SELECT path, count(*) FROM event WHERE path IS NOT NULL GROUP BY path"
     " ORDER BY 2 DESC, 1 LIMIT 10",
     take_path},
    {"SELECT time - ((time % 60) + 60) % 60, count(*) FROM event GROUP BY 1"
     " ORDER BY 2 DESC, 1 LIMIT 1",
     take_minute},
    {"SELECT request_time, sum(n) OVER (ORDER BY request_time),"
     " sum(n) OVER (ORDER BY request_time) - n"
     " FROM (SELECT request_time, count(*) AS n FROM event WHERE request_time IS NOT NULL"
     " GROUP BY request_time) ORDER BY request_time",
     take_duration},
};

static int ask(struct etl_db *db, struct etl_summary *summary, const char *sql, row_fn *take,
               struct etl_err *err)
{
    sqlite3_stmt *stmt;
    int code;
    int rc = 0;

    if (etl_db_prepare(db, sql, &stmt, err) != 0)
        return -1;
    while (rc == 0 && (code = sqlite3_step(stmt)) != SQLITE_DONE)
        rc = code == SQLITE_ROW ? take(summary, stmt, err) : etl_db_fail(db, "read", err);
    sqlite3_finalize(stmt);
    return rc;
}

int etl_summary_read(struct etl_summary *summary, const char *path, struct etl_err *err)
{
    struct etl_db db;
    int rc;

    memset(summary, 0, sizeof(*summary));
    if (etl_db_open(&db, path, ETL_DB_READ, ETL_SUMMARY_BUSY_MS, err) != 0)
        return -1;
    rc = etl_db_run(&db, "BEGIN", "read", err);
    for (size_t i = 0; rc == 0 && i < sizeof(questions) / sizeof(questions[0]); i++)
        rc = ask(&db, summary, questions[i].sql, questions[i].take, err);
    if (rc == 0)
        rc = etl_db_run(&db, "COMMIT", "read", err);
    if (rc == 0)
        etl_db_fold(&db);
    etl_db_close(&db);
    if (rc != 0)
        etl_summary_release(summary);
    return rc;
}

void etl_summary_release(struct etl_summary *summary)
{
    for (size_t i = 0; i < summary->top_len; i++)
        free(summary->top[i].bytes);
    memset(summary, 0, sizeof(*summary));
}
