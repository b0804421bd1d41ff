#include "tasks/etl_sink_sqlite.h"

#include <inttypes.h>
#include <string.h>

static const char *const sql[ETL_SQLS] = {
    [ETL_SQL_BEGIN] = "BEGIN IMMEDIATE",
    [ETL_SQL_COMMIT] = "COMMIT",
    [ETL_SQL_ROLLBACK] = "ROLLBACK",
    [ETL_SQL_SOURCE_FIND] = "SELECT id FROM source"
                            " WHERE path = ? AND device = ? AND inode = ? AND generation = ?",
    [ETL_SQL_SOURCE_ADD] = "INSERT INTO source"
                           " (path, device, inode, generation, format, head_len, head_hash)"
                           " VALUES (?, ?, ?, ?, ?, ?, ?)",
    [ETL_SQL_LEDGER_FIND] = "SELECT checksum, lines, inserted, quarantined, duplicates FROM ledger"
                            " WHERE source = ? AND begin = ? AND end = ? AND format_version = ?",
    [ETL_SQL_LEDGER_ADD] = "INSERT INTO ledger (source, begin, end, format_version, checksum,"
                           " fence, lines, inserted, quarantined, duplicates, open_line)"
                           " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
    /* Only a key that is there already may be skipped: no OR IGNORE, which would also swallow a
     * missing value. */
    [ETL_SQL_EVENT_ADD] = "INSERT INTO event (id, time, zone, address, user, vhost, method, path,"
                          " query, protocol, request, status, bytes, referer, agent, request_time,"
                          " request_id)"
                          " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
                          " ON CONFLICT DO NOTHING",
    [ETL_SQL_QUARANTINE_ADD] = "INSERT INTO quarantine (id, length, reason, raw)"
                               " VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING",
    [ETL_SQL_REASONS] = "SELECT reason, count(*) FROM quarantine WHERE id >= ? AND id < ?"
                        " GROUP BY reason",
};

static struct etl_sink_sqlite *from_sink(struct etl_sink *sink)
{
    return (struct etl_sink_sqlite *)sink;
}

/* Runs a statement that answers with no row. */
static int run(struct etl_sink_sqlite *sink, enum etl_sql which, const char *doing,
               struct etl_err *err)
{
    int code = sqlite3_step(sink->stmts[which]);
    int rc = code == SQLITE_DONE ? 0 : etl_db_fail(&sink->db, doing, err);

    sqlite3_reset(sink->stmts[which]);
    return rc;
}

int etl_sink_sqlite_begin(struct etl_sink_sqlite *sink, struct etl_err *err)
{
    return run(sink, ETL_SQL_BEGIN, "begin writing", err);
}

int etl_sink_sqlite_commit(struct etl_sink_sqlite *sink, struct etl_err *err)
{
    return run(sink, ETL_SQL_COMMIT, "commit", err);
}

void etl_sink_sqlite_rollback(struct etl_sink_sqlite *sink)
{
    /* SQLite has rolled back by itself after some errors. */
    if (!sqlite3_get_autocommit(sink->db.handle))
        sqlite3_step(sink->stmts[ETL_SQL_ROLLBACK]);
    sqlite3_reset(sink->stmts[ETL_SQL_ROLLBACK]);
}

static void bind_string(sqlite3_stmt *stmt, int index, const char *text)
{
    etl_db_bind(stmt, index, (struct etl_slice){text, strlen(text)});
}

static void bind_identity(sqlite3_stmt *stmt, const struct etl_source_row *row)
{
    bind_string(stmt, 1, row->path);
    sqlite3_bind_int64(stmt, 2, (sqlite3_int64)row->device);
    sqlite3_bind_int64(stmt, 3, (sqlite3_int64)row->inode);
    bind_string(stmt, 4, row->generation);
}

int etl_sink_sqlite_find_source(struct etl_sink_sqlite *sink, const struct etl_source_row *row,
                                int64_t *id, struct etl_err *err)
{
    sqlite3_stmt *stmt = sink->stmts[ETL_SQL_SOURCE_FIND];
    int code;

    bind_identity(stmt, row);
    code = sqlite3_step(stmt);
    if (code == SQLITE_ROW)
        *id = sqlite3_column_int64(stmt, 0);
    else if (code != SQLITE_DONE)
        etl_db_fail(&sink->db, "look up the log", err);
    sqlite3_reset(stmt);
    return code == SQLITE_ROW ? 1 : code == SQLITE_DONE ? 0 : -1;
}

int etl_sink_sqlite_add_source(struct etl_sink_sqlite *sink, const struct etl_source_row *row,
                               int64_t *id, struct etl_err *err)
{
    sqlite3_stmt *stmt = sink->stmts[ETL_SQL_SOURCE_ADD];

    bind_identity(stmt, row);
    bind_string(stmt, 5, row->format);
    sqlite3_bind_int64(stmt, 6, (sqlite3_int64)row->head_len);
    bind_string(stmt, 7, row->head_hash);
    if (run(sink, ETL_SQL_SOURCE_ADD, "write down the log", err) != 0)
        return -1;
    *id = sqlite3_last_insert_rowid(sink->db.handle);
    return 0;
}

static struct etl_source_row row_of_chunk(const struct etl_chunk *chunk, const char *empty_hash)
{
    return (struct etl_source_row){chunk->source,     chunk->device,       chunk->inode,
                                   chunk->generation, chunk->format->name, 0,
                                   empty_hash};
}

/* The source row of a chunk. The loader has made it; a task that somebody sent by hand makes it
 * here, recognisable by nothing but its ledger (a prefix of length zero fits every file). */
static int need_source(struct etl_sink_sqlite *sink, const struct etl_chunk *chunk, int64_t *id,
                       struct etl_err *err)
{
    char empty_hash[ETL_HASH_TEXT_SIZE];
    struct etl_source_row row;
    int rc;

    etl_hash_text(etl_hash_of_nothing(), empty_hash);
    row = row_of_chunk(chunk, empty_hash);
    rc = etl_sink_sqlite_find_source(sink, &row, id, err);
    if (rc != 0)
        return rc < 0 ? -1 : 0;
    return etl_sink_sqlite_add_source(sink, &row, id, err);
}

/* What was quarantined of a chunk, by reason. */
static int read_reasons(struct etl_sink_sqlite *sink, int64_t source, const struct etl_cut *cut,
                        struct etl_counts *counts, struct etl_err *err)
{
    sqlite3_stmt *stmt = sink->stmts[ETL_SQL_REASONS];
    int code;

    sqlite3_bind_int64(stmt, 1, etl_db_key(source, cut->begin));
    sqlite3_bind_int64(stmt, 2, etl_db_key(source, cut->end));
    while ((code = sqlite3_step(stmt)) == SQLITE_ROW) {
        const char *name = (const char *)sqlite3_column_text(stmt, 0);

        for (int i = 0; name != NULL && i < ETL_REASONS; i++)
            if (strcmp(name, etl_reason_name((enum etl_reason)i)) == 0)
                counts->reasons[i] = (uint64_t)sqlite3_column_int64(stmt, 1);
    }
    if (code != SQLITE_DONE)
        etl_db_fail(&sink->db, "count the quarantine", err);
    sqlite3_reset(stmt);
    return code == SQLITE_DONE ? 0 : -1;
}

static int ledger_row(const struct etl_chunk *chunk, sqlite3_stmt *stmt, struct etl_counts *counts,
                      struct etl_err *err)
{
    char checksum[ETL_HASH_TEXT_SIZE];
    const char *stored = (const char *)sqlite3_column_text(stmt, 0);

    etl_hash_text(chunk->cut.checksum, checksum);
    if (stored == NULL || strcmp(stored, checksum) != 0)
        return etl_err_set(err, ETL_ERR_CHANGED,
                           "%s: bytes %" PRIu64 " to %" PRIu64 " were loaded before with other "
                           "content; load the log again",
                           chunk->source, chunk->cut.begin, chunk->cut.end);
    memset(counts, 0, sizeof(*counts));
    counts->lines = (uint64_t)sqlite3_column_int64(stmt, 1);
    counts->inserted = (uint64_t)sqlite3_column_int64(stmt, 2);
    counts->quarantined = (uint64_t)sqlite3_column_int64(stmt, 3);
    counts->duplicates = (uint64_t)sqlite3_column_int64(stmt, 4);
    counts->replayed = true;
    return 1;
}

/* 1 with the counts of the first run, 0, or -1. */
static int find_ledger(struct etl_sink_sqlite *sink, int64_t source, const struct etl_chunk *chunk,
                       struct etl_counts *counts, struct etl_err *err)
{
    sqlite3_stmt *stmt = sink->stmts[ETL_SQL_LEDGER_FIND];
    int code;
    int rc = 0;

    sqlite3_bind_int64(stmt, 1, source);
    sqlite3_bind_int64(stmt, 2, (sqlite3_int64)chunk->cut.begin);
    sqlite3_bind_int64(stmt, 3, (sqlite3_int64)chunk->cut.end);
    sqlite3_bind_int(stmt, 4, ETL_FORMAT_VERSION);
    code = sqlite3_step(stmt);
    if (code == SQLITE_ROW)
        rc = ledger_row(chunk, stmt, counts, err);
    else if (code != SQLITE_DONE)
        rc = etl_db_fail(&sink->db, "look into the ledger", err);
    sqlite3_reset(stmt);
    if (rc == 1 && read_reasons(sink, source, &chunk->cut, counts, err) != 0)
        return -1;
    return rc;
}

static void bind_event(sqlite3_stmt *stmt, int64_t key, const struct etl_event *event)
{
    const struct etl_slice texts[] = {event->address,  event->user,   event->vhost,
                                      event->method,   event->path,   event->query,
                                      event->protocol, event->request};

    sqlite3_bind_int64(stmt, 1, key);
    sqlite3_bind_int64(stmt, 2, event->time_s);
    sqlite3_bind_int(stmt, 3, event->zone_min);
    for (int i = 0; i < 8; i++)
        etl_db_bind(stmt, 4 + i, texts[i]);
    sqlite3_bind_int(stmt, 12, event->status);
    sqlite3_bind_int64(stmt, 13, event->bytes);
    etl_db_bind(stmt, 14, event->referer);
    etl_db_bind(stmt, 15, event->agent);
    if (event->duration_ms == ETL_DURATION_ABSENT)
        sqlite3_bind_null(stmt, 16);
    else
        sqlite3_bind_int64(stmt, 16, event->duration_ms);
    if (event->has_request_id)
        sqlite3_bind_blob(stmt, 17, event->request_id, ETL_REQUEST_ID_LEN, SQLITE_STATIC);
    else
        sqlite3_bind_null(stmt, 17);
}

static int add_event(struct etl_sink_sqlite *sink, int64_t key, const struct etl_event *event,
                     struct etl_counts *counts, struct etl_err *err)
{
    bind_event(sink->stmts[ETL_SQL_EVENT_ADD], key, event);
    if (run(sink, ETL_SQL_EVENT_ADD, "insert an event", err) != 0)
        return -1;
    if (sqlite3_changes(sink->db.handle) > 0)
        counts->inserted++;
    else
        counts->duplicates++;
    return 0;
}

static int add_bad(struct etl_sink_sqlite *sink, int64_t key, const struct etl_record *record,
                   struct etl_slice line, struct etl_counts *counts, struct etl_err *err)
{
    sqlite3_stmt *stmt = sink->stmts[ETL_SQL_QUARANTINE_ADD];
    size_t raw_len = line.len < ETL_RAW_MAX_LEN ? line.len : ETL_RAW_MAX_LEN;

    counts->quarantined++;
    counts->reasons[record->reason]++;
    sqlite3_bind_int64(stmt, 1, key);
    sqlite3_bind_int64(stmt, 2, (sqlite3_int64)line.len);
    bind_string(stmt, 3, etl_reason_name((enum etl_reason)record->reason));
    sqlite3_bind_blob64(stmt, 4, line.at, raw_len, SQLITE_STATIC);
    return run(sink, ETL_SQL_QUARANTINE_ADD, "quarantine a line", err);
}

static int add_records(struct etl_sink_sqlite *sink, int64_t source, const struct etl_batch *batch,
                       struct etl_counts *counts, struct etl_err *err)
{
    for (size_t i = 0; i < batch->records_len; i++) {
        const struct etl_record *record = &batch->records[i];
        int64_t key = etl_db_key(source, record->offset);
        int rc = record->reason == ETL_OK
                     ? add_event(sink, key, &batch->events[record->event], counts, err)
                     : add_bad(sink, key, record, etl_batch_line(batch, record), counts, err);

        if (rc != 0)
            return -1;
    }
    counts->lines = batch->records_len;
    return 0;
}

/* Where the last line begins, if it has no LF; else null. */
static void bind_open_line(sqlite3_stmt *stmt, int index, const struct etl_batch *batch)
{
    const struct etl_record *last =
        batch->records_len > 0 ? &batch->records[batch->records_len - 1] : NULL;

    if (last != NULL && batch->data.at[batch->data.len - 1] != '\n')
        sqlite3_bind_int64(stmt, index, (sqlite3_int64)last->offset);
    else
        sqlite3_bind_null(stmt, index);
}

static int add_ledger(struct etl_sink_sqlite *sink, int64_t source, const struct etl_chunk *chunk,
                      const struct etl_batch *batch, const struct etl_counts *counts,
                      struct etl_err *err)
{
    sqlite3_stmt *stmt = sink->stmts[ETL_SQL_LEDGER_ADD];
    char checksum[ETL_HASH_TEXT_SIZE];

    etl_hash_text(chunk->cut.checksum, checksum);
    sqlite3_bind_int64(stmt, 1, source);
    sqlite3_bind_int64(stmt, 2, (sqlite3_int64)chunk->cut.begin);
    sqlite3_bind_int64(stmt, 3, (sqlite3_int64)chunk->cut.end);
    sqlite3_bind_int(stmt, 4, ETL_FORMAT_VERSION);
    bind_string(stmt, 5, checksum);
    sqlite3_bind_int64(stmt, 6, (sqlite3_int64)chunk->fence);
    sqlite3_bind_int64(stmt, 7, (sqlite3_int64)counts->lines);
    sqlite3_bind_int64(stmt, 8, (sqlite3_int64)counts->inserted);
    sqlite3_bind_int64(stmt, 9, (sqlite3_int64)counts->quarantined);
    sqlite3_bind_int64(stmt, 10, (sqlite3_int64)counts->duplicates);
    bind_open_line(stmt, 11, batch);
    return run(sink, ETL_SQL_LEDGER_ADD, "write the ledger", err);
}

/* Inside the transaction: 1 when the chunk was there already. */
static int store_once(struct etl_sink_sqlite *sink, const struct etl_chunk *chunk,
                      const struct etl_batch *batch, struct etl_counts *counts, struct etl_err *err)
{
    int64_t source;
    int rc;

    if (need_source(sink, chunk, &source, err) != 0)
        return -1;
    rc = find_ledger(sink, source, chunk, counts, err);
    if (rc != 0)
        return rc;
    if (add_records(sink, source, batch, counts, err) != 0)
        return -1;
    return add_ledger(sink, source, chunk, batch, counts, err);
}

static int sink_store(struct etl_sink *base, const struct etl_chunk *chunk,
                      const struct etl_batch *batch, struct etl_counts *counts, struct etl_err *err)
{
    struct etl_sink_sqlite *sink = from_sink(base);
    int rc;

    memset(counts, 0, sizeof(*counts));
    if (chunk->cut.end > ETL_OFFSET_MAX)
        return etl_err_set(err, ETL_ERR_ARGUMENT, "%s: is larger than 4 TiB; split it",
                           chunk->source);
    if (etl_sink_sqlite_begin(sink, err) != 0)
        return -1;
    rc = store_once(sink, chunk, batch, counts, err);
    /* CRASH: after COMMIT, before the verdict - the redelivered job finds the ledger row. */
    if (rc == 0)
        rc = etl_sink_sqlite_commit(sink, err);
    etl_sink_sqlite_rollback(sink);
    if (rc == 0)
        etl_db_checkpoint(&sink->db);
    return rc < 0 ? -1 : 0;
}

static int sink_seen(struct etl_sink *base, const struct etl_chunk *chunk,
                     struct etl_counts *counts, struct etl_err *err)
{
    struct etl_sink_sqlite *sink = from_sink(base);
    struct etl_source_row row = row_of_chunk(chunk, "");
    int64_t source;
    int rc = etl_sink_sqlite_find_source(sink, &row, &source, err);

    return rc == 1 ? find_ledger(sink, source, chunk, counts, err) : rc;
}

static bool sink_is_current(const struct etl_sink *base, const char *name)
{
    const struct etl_sink_sqlite *sink = (const struct etl_sink_sqlite *)base;

    return etl_db_is_current(&sink->db, name);
}

static void sink_close(struct etl_sink *base)
{
    struct etl_sink_sqlite *sink = from_sink(base);

    for (int i = 0; i < ETL_SQLS; i++)
        sqlite3_finalize(sink->stmts[i]);
    etl_db_close(&sink->db);
    free(sink);
}

static const struct etl_sink_ops sqlite_ops = {
    .place = etl_sink_sqlite_place,
    .seen = sink_seen,
    .store = sink_store,
    .is_current = sink_is_current,
    .close = sink_close,
};

struct etl_sink *etl_sink_sqlite_open(const char *path, int64_t busy_ms, struct etl_err *err)
{
    struct etl_sink_sqlite *sink = calloc(1, sizeof(*sink));

    if (sink == NULL) {
        etl_err_set(err, ETL_ERR_MEMORY, "out of memory");
        return NULL;
    }
    sink->sink.ops = &sqlite_ops;
    if (etl_db_open(&sink->db, path, ETL_DB_CREATE, busy_ms, err) != 0) {
        free(sink);
        return NULL;
    }
    for (int i = 0; i < ETL_SQLS; i++)
        if (etl_db_prepare(&sink->db, sql[i], &sink->stmts[i], err) != 0) {
            sink_close(&sink->sink);
            return NULL;
        }
    return &sink->sink;
}
