#include "tasks/etl_sink_sqlite.h"

/* The last line of a log that is being written may have no LF yet. It is a line like any other and
 * is loaded as far as it goes; but when the log has grown, the same offset begins a longer line,
 * whose key would be taken. So the ledger remembers where such a line began, and the next load
 * takes it back before it cuts the log anew.
 *
 * The ledger row keeps its key and checksum, so that its job, should it be delivered once more, is
 * still answered from the ledger and cannot bring the half line back; only its counts shrink.
 *
 * A log that is being written should have one loader at a time: a chunk that another loader has
 * stored over the line meanwhile has counted it as a duplicate of its half. */
static const char open_sql[] =
    "SELECT begin, end, format_version, open_line, inserted, duplicates FROM ledger"
    " WHERE source = ? AND open_line IS NOT NULL AND end < ? ORDER BY open_line, duplicates";
static const char event_sql[] = "DELETE FROM event WHERE id = ?";
static const char bad_sql[] = "DELETE FROM quarantine WHERE id = ?";
static const char shrink_sql[] =
    "UPDATE ledger SET open_line = NULL, lines = lines - 1, inserted = inserted - ?1,"
    " quarantined = quarantined - ?2, duplicates = duplicates - ?3"
    " WHERE source = ?4 AND begin = ?5 AND end = ?6 AND format_version = ?7";

enum { FIND, DROP_EVENT, DROP_BAD, SHRINK, STATEMENTS };

static const char *const statements[STATEMENTS] = {open_sql, event_sql, bad_sql, shrink_sql};

/* What a half line was, for all ledger rows that counted it. */
struct half_line {
    int64_t offset;
    bool was_event; /* and no ledger row has given it back yet */
    bool was_bad;
};

/* Runs a statement that changes rows; *changed: whether it did. */
static int run_once(struct etl_sink_sqlite *sink, sqlite3_stmt *stmt, bool *changed,
                    struct etl_err *err)
{
    int code = sqlite3_step(stmt);
    int rc = code == SQLITE_DONE ? 0 : etl_db_fail(&sink->db, "take back a line", err);

    *changed = rc == 0 && sqlite3_changes(sink->db.handle) > 0;
    sqlite3_reset(stmt);
    return rc;
}

static int drop_line(struct etl_sink_sqlite *sink, sqlite3_stmt **stmts, int64_t source,
                     struct half_line *half, struct etl_err *err)
{
    int64_t key = etl_db_key(source, (uint64_t)half->offset);

    sqlite3_bind_int64(stmts[DROP_EVENT], 1, key);
    sqlite3_bind_int64(stmts[DROP_BAD], 1, key);
    if (run_once(sink, stmts[DROP_EVENT], &half->was_event, err) != 0)
        return -1;
    return run_once(sink, stmts[DROP_BAD], &half->was_bad, err);
}

/* Corrects the ledger row that FIND stands at. */
static int shrink(struct etl_sink_sqlite *sink, sqlite3_stmt **stmts, int64_t source,
                  struct half_line *half, struct etl_err *err)
{
    bool inserted = half->was_event && sqlite3_column_int64(stmts[FIND], 4) > 0;
    bool changed;

    sqlite3_bind_int(stmts[SHRINK], 1, inserted);
    sqlite3_bind_int(stmts[SHRINK], 2, half->was_bad);
    sqlite3_bind_int(stmts[SHRINK], 3, !inserted && !half->was_bad);
    sqlite3_bind_int64(stmts[SHRINK], 4, source);
    for (int i = 0; i < 3; i++)
        sqlite3_bind_int64(stmts[SHRINK], 5 + i, sqlite3_column_int64(stmts[FIND], i));
    if (inserted)
        half->was_event = false;
    return run_once(sink, stmts[SHRINK], &changed, err);
}

static int reopen(struct etl_sink_sqlite *sink, sqlite3_stmt **stmts, int64_t source,
                  struct etl_err *err)
{
    struct half_line half = {-1, false, false};
    int code;

    while ((code = sqlite3_step(stmts[FIND])) == SQLITE_ROW) {
        int64_t offset = sqlite3_column_int64(stmts[FIND], 3);

        if (offset != half.offset) {
            half.offset = offset;
            if (drop_line(sink, stmts, source, &half, err) != 0)
                return -1;
        }
        if (shrink(sink, stmts, source, &half, err) != 0)
            return -1;
    }
    return code == SQLITE_DONE ? 0 : etl_db_fail(&sink->db, "read the ledger", err);
}

int etl_sink_sqlite_reopen(struct etl_sink_sqlite *sink, int64_t source, uint64_t size,
                           struct etl_err *err)
{
    sqlite3_stmt *stmts[STATEMENTS] = {NULL};
    int rc = 0;

    for (int i = 0; rc == 0 && i < STATEMENTS; i++)
        rc = etl_db_prepare(&sink->db, statements[i], &stmts[i], err);
    if (rc == 0) {
        sqlite3_bind_int64(stmts[FIND], 1, source);
        sqlite3_bind_int64(stmts[FIND], 2, (sqlite3_int64)size);
        rc = reopen(sink, stmts, source, err);
    }
    for (int i = 0; i < STATEMENTS; i++)
        sqlite3_finalize(stmts[i]);
    return rc;
}
