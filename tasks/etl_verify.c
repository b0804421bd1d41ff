#include "tasks/etl_verify.h"

#include <stdlib.h>
#include <string.h>

#include "tasks/etl_db.h"

#define CHUNK_LEN ((uint64_t)4 * 1024 * 1024)
#define BUSY_MS   20000

static const char events_sql[] = "SELECT id, time, status, bytes, request_id, path FROM event"
                                 " WHERE id >= ? AND id < ? ORDER BY id";
static const char bad_sql[] = "SELECT id, reason, length FROM quarantine"
                              " WHERE id >= ? AND id < ? ORDER BY id";
static const char elsewhere_sql[] = "SELECT 1 FROM event WHERE request_id = ?";
static const char paths_sql[] = "SELECT DISTINCT path FROM source ORDER BY id";

/* Rows of one table, in order of their key. */
struct rows {
    sqlite3_stmt *stmt;
    bool at_row;
};

struct merge {
    struct etl_db db;
    int64_t source;
    struct rows events;
    struct rows bad;
    sqlite3_stmt *elsewhere;
    struct etl_verdict *verdict;
};

static int rows_next(struct merge *merge, struct rows *rows, struct etl_err *err)
{
    int code = sqlite3_step(rows->stmt);

    rows->at_row = code == SQLITE_ROW;
    return rows->at_row || code == SQLITE_DONE ? 0 : etl_db_fail(&merge->db, "read", err);
}

static int rows_open(struct merge *merge, struct rows *rows, const char *sql, struct etl_err *err)
{
    if (etl_db_prepare(&merge->db, sql, &rows->stmt, err) != 0)
        return -1;
    sqlite3_bind_int64(rows->stmt, 1, etl_db_key(merge->source, 0));
    sqlite3_bind_int64(rows->stmt, 2, etl_db_key(merge->source + 1, 0));
    return rows_next(merge, rows, err);
}

/* Moves to the row with this key: 1 when there is one, 0, or -1. Rows passed over are extra. */
static int rows_seek(struct merge *merge, struct rows *rows, int64_t key, struct etl_err *err)
{
    while (rows->at_row && sqlite3_column_int64(rows->stmt, 0) < key) {
        merge->verdict->extra++;
        if (rows_next(merge, rows, err) != 0)
            return -1;
    }
    return rows->at_row && sqlite3_column_int64(rows->stmt, 0) == key;
}

static bool column_is(sqlite3_stmt *stmt, int column, const void *bytes, size_t len)
{
    const void *stored = sqlite3_column_blob(stmt, column);

    return (size_t)sqlite3_column_bytes(stmt, column) == len &&
           (len == 0 || memcmp(stored, bytes, len) == 0);
}

static bool event_fits(sqlite3_stmt *stmt, const struct etl_event *event)
{
    return sqlite3_column_int64(stmt, 1) == event->time_s &&
           sqlite3_column_int(stmt, 2) == event->status &&
           sqlite3_column_int64(stmt, 3) == event->bytes &&
           column_is(stmt, 4, event->request_id, event->has_request_id ? ETL_REQUEST_ID_LEN : 0) &&
           column_is(stmt, 5, event->path.at, event->path.len);
}

/* Is the event stored under another offset? 1, 0, or -1. */
static int is_elsewhere(struct merge *merge, const struct etl_event *event, struct etl_err *err)
{
    int code;

    if (!event->has_request_id)
        return 0;
    sqlite3_bind_blob(merge->elsewhere, 1, event->request_id, ETL_REQUEST_ID_LEN, SQLITE_STATIC);
    code = sqlite3_step(merge->elsewhere);
    sqlite3_reset(merge->elsewhere);
    if (code == SQLITE_ROW || code == SQLITE_DONE)
        return code == SQLITE_ROW;
    return etl_db_fail(&merge->db, "read", err);
}

static int check_event(struct merge *merge, int64_t key, const struct etl_event *event,
                       struct etl_err *err)
{
    struct etl_verdict *verdict = merge->verdict;
    int found = rows_seek(merge, &merge->events, key, err);

    if (found < 0)
        return -1;
    if (found == 1) {
        *(event_fits(merge->events.stmt, event) ? &verdict->rows : &verdict->wrong) += 1;
        return rows_next(merge, &merge->events, err);
    }
    found = is_elsewhere(merge, event, err);
    if (found < 0)
        return -1;
    *(found == 1 ? &verdict->duplicates : &verdict->missing) += 1;
    return 0;
}

static int check_bad(struct merge *merge, int64_t key, const struct etl_record *record,
                     struct etl_err *err)
{
    const char *reason = etl_reason_name((enum etl_reason)record->reason);
    struct etl_verdict *verdict = merge->verdict;
    int found = rows_seek(merge, &merge->bad, key, err);

    if (found < 0)
        return -1;
    if (found == 0) {
        verdict->missing++;
        return 0;
    }
    if (column_is(merge->bad.stmt, 1, reason, strlen(reason)) &&
        (size_t)sqlite3_column_int64(merge->bad.stmt, 2) == record->len)
        verdict->quarantined++;
    else
        verdict->wrong++;
    return rows_next(merge, &merge->bad, err);
}

static int check_batch(struct merge *merge, const struct etl_batch *batch, struct etl_err *err)
{
    int rc = 0;

    for (size_t i = 0; rc == 0 && i < batch->records_len; i++) {
        const struct etl_record *record = &batch->records[i];
        int64_t key = etl_db_key(merge->source, record->offset);

        rc = record->reason == ETL_OK ? check_event(merge, key, &batch->events[record->event], err)
                                      : check_bad(merge, key, record, err);
    }
    merge->verdict->lines += batch->records_len;
    return rc;
}

static int check_chunk(struct merge *merge, const struct etl_source *source,
                       const struct etl_format *format, const struct etl_cut *cut,
                       struct etl_err *err)
{
    struct etl_chunk_data data;
    struct etl_batch batch;
    int rc;

    if (etl_chunk_read(&data, source->data_path, cut, err) != 0)
        return -1;
    rc = etl_batch_read(&batch, format, data.bytes, cut->begin, err);
    if (rc == 0) {
        rc = check_batch(merge, &batch, err);
        etl_batch_release(&batch);
    }
    etl_chunk_release(&data);
    return rc;
}

static int check_all(struct merge *merge, const struct etl_source *source,
                     const struct etl_format *format, struct etl_err *err)
{
    struct etl_cut cut = {0, 0, 0, 0};
    int rc;

    while ((rc = etl_source_cut(source, cut.end, CHUNK_LEN, &cut, err)) == 1)
        if (check_chunk(merge, source, format, &cut, err) != 0)
            return -1;
    if (rc < 0 || rows_seek(merge, &merge->events, INT64_MAX, err) < 0)
        return -1;
    return rows_seek(merge, &merge->bad, INT64_MAX, err) < 0 ? -1 : 0;
}

int etl_verify(const char *db, const struct etl_source *source, const struct etl_place *place,
               struct etl_verdict *verdict, struct etl_err *err)
{
    struct merge merge = {.source = place->id, .verdict = verdict};
    int rc = -1;

    memset(verdict, 0, sizeof(*verdict));
    if (etl_db_open(&merge.db, db, ETL_DB_READ, BUSY_MS, err) != 0)
        return -1;
    if (etl_db_run(&merge.db, "BEGIN", "read", err) == 0 &&
        rows_open(&merge, &merge.events, events_sql, err) == 0 &&
        rows_open(&merge, &merge.bad, bad_sql, err) == 0 &&
        etl_db_prepare(&merge.db, elsewhere_sql, &merge.elsewhere, err) == 0)
        rc = check_all(&merge, source, place->format, err);
    sqlite3_finalize(merge.events.stmt);
    sqlite3_finalize(merge.bad.stmt);
    sqlite3_finalize(merge.elsewhere);
    etl_db_close(&merge.db);
    return rc;
}

static int take_paths(struct etl_db *db, struct etl_paths *paths, struct etl_err *err)
{
    sqlite3_stmt *stmt = NULL;
    int code = SQLITE_DONE;
    int rc = etl_db_prepare(db, paths_sql, &stmt, err);

    while (rc == 0 && (code = sqlite3_step(stmt)) == SQLITE_ROW)
        rc = etl_paths_add(paths, (const char *)sqlite3_column_text(stmt, 0), err);
    if (rc == 0 && code != SQLITE_DONE)
        rc = etl_db_fail(db, "read", err);
    sqlite3_finalize(stmt);
    return rc;
}

int etl_paths_read(struct etl_paths *paths, const char *path, struct etl_err *err)
{
    struct etl_db db;
    int rc;

    memset(paths, 0, sizeof(*paths));
    if (etl_db_open(&db, path, ETL_DB_READ, BUSY_MS, err) != 0)
        return -1;
    rc = take_paths(&db, paths, err);
    etl_db_close(&db);
    if (rc != 0)
        etl_paths_release(paths);
    return rc;
}
