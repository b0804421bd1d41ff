#include "broker/sqlite.h"

#define LEASE_COLUMNS "fence, message, queue, step, place, owner"

/* Every statement of the backend but the schema's. Texts that change the file are run inside the
 * one transaction of a poll only; but for SQL_NODE_PUT and _SWEEP, which are each their own. */
static const char *const texts[SQL_COUNT] = {
    [SQL_BEGIN] = "BEGIN IMMEDIATE",
    [SQL_BEGIN_READ] = "BEGIN",
    [SQL_COMMIT] = "COMMIT",
    [SQL_ROLLBACK] = "ROLLBACK",
    [SQL_VERSION] = "PRAGMA data_version",
    [SQL_STATE_GET] =
        "SELECT published, succeeded, failed, retried, duplicates, purged, removed, last_id,"
        " last_fence, last_version, tokens_at_ms, tokens_turn FROM state",
    [SQL_STATE_SET] =
        "UPDATE state SET published=?1, succeeded=?2, failed=?3, retried=?4, duplicates=?5,"
        " purged=?6, removed=?7, last_id=?8, last_fence=?9, last_version=?10, tokens_at_ms=?11,"
        " tokens_turn=?12",
    [SQL_QUEUE_GET] = "SELECT id FROM queues WHERE name=?1",
    [SQL_QUEUE_ADD] = "INSERT INTO queues(name) VALUES(?1)",

    [SQL_MESSAGE_ADD] = "INSERT INTO messages(id, priority, job, envelope) VALUES(?1,?2,?3,?4)",
    [SQL_MESSAGE_SET] = "UPDATE messages SET envelope=?2 WHERE id=?1",
    [SQL_MESSAGE_DEL] = "DELETE FROM messages WHERE id=?1",

    [SQL_READY_ADD] =
        "INSERT INTO ready(queue, step, place, message, again) VALUES(?1,?2,?3,?4,?5)",
    [SQL_READY_ANY] = "SELECT 1 FROM ready WHERE queue=?1 LIMIT 1",
    [SQL_READY_HEAD] =
        "SELECT r.step, r.place, r.message, r.again, m.envelope FROM ready r"
        " CROSS JOIN messages m ON m.id=r.message WHERE r.queue=?1 ORDER BY r.step, r.place"
        " LIMIT ?2",
    [SQL_READY_CUT] = "DELETE FROM ready WHERE queue=?1 AND step=?2 AND place<=?3",

    [SQL_DELAYED_ADD] =
        "INSERT INTO delayed(at_ms, message, queue, step, again) VALUES(?1,?2,?3,?4,?5)",
    [SQL_DELAYED_DUE] =
        "SELECT at_ms, message, queue, step, again FROM delayed ORDER BY at_ms, message LIMIT ?1",
    [SQL_DELAYED_CUT] = "DELETE FROM delayed WHERE (at_ms, message) <= (?1, ?2)",

    [SQL_TOKEN_SEEN] = "SELECT 1 FROM tokens_0 WHERE token=?1 AND at_ms>?2 UNION ALL"
                       " SELECT 1 FROM tokens_1 WHERE token=?1 AND at_ms>?2",
    [SQL_TOKEN_ADD_0] = "INSERT OR REPLACE INTO tokens_0(token, at_ms) VALUES(?1,?2)",
    [SQL_TOKEN_ADD_1] = "INSERT OR REPLACE INTO tokens_1(token, at_ms) VALUES(?1,?2)",
    [SQL_TOKEN_CLEAR_0] = "DELETE FROM tokens_0",
    [SQL_TOKEN_CLEAR_1] = "DELETE FROM tokens_1",

    [SQL_LEASE_ADD] = "INSERT INTO leases(" LEASE_COLUMNS ", until_ms, generation, node)"
                      " VALUES(?1,?2,?3,?4,?5,?6,?7,?8,?9)",
    [SQL_LEASE_GET] = "SELECT " LEASE_COLUMNS " FROM leases WHERE fence=?1 AND message=?2",
    [SQL_LEASE_RENEW] = "UPDATE leases SET until_ms=?3 WHERE fence=?1 AND message=?2",
    [SQL_LEASE_DEL] = "DELETE FROM leases WHERE fence=?1 AND message=?2",
    [SQL_LEASE_EXPIRED] =
        "SELECT " LEASE_COLUMNS " FROM leases WHERE until_ms<=?1 ORDER BY fence LIMIT ?2",
    [SQL_LEASE_OLDER] =
        "SELECT " LEASE_COLUMNS " FROM leases WHERE node=?1 AND generation<?2 LIMIT ?3",
    [SQL_LEASE_MINE] = "SELECT " LEASE_COLUMNS " FROM leases WHERE owner=?1 LIMIT ?2",

    [SQL_RESULT_PUT] =
        "INSERT INTO results(version, id, success, expires_ms, doc) VALUES(?1,?2,?3,?4,?5)"
        " ON CONFLICT(id) DO UPDATE SET version=excluded.version, success=excluded.success,"
        " expires_ms=excluded.expires_ms, doc=excluded.doc"
        " WHERE results.success=0 OR results.expires_ms<=?6",
    [SQL_RESULT_GET] = "SELECT version, doc, id FROM results WHERE id=?1"
                       " AND (expires_ms IS NULL OR expires_ms>?2)",
    [SQL_RESULT_DEL] = "DELETE FROM results WHERE id=?1",
    [SQL_RESULT_NEWER] = "SELECT version, id, doc FROM results WHERE version>?1 ORDER BY version",
    [SQL_RESULT_EXPIRED] = "SELECT 1 FROM results WHERE expires_ms<=?1 LIMIT 1",
    [SQL_RESULT_SWEEP] = "DELETE FROM results WHERE version IN (SELECT version FROM results"
                         " WHERE expires_ms<=?1 ORDER BY expires_ms LIMIT ?2)",

    [SQL_CLAIM_GET] =
        "SELECT state, job, fence, until_ms,"
        " EXISTS(SELECT 1 FROM leases WHERE leases.fence=claims.fence) FROM claims WHERE key=?1",
    [SQL_CLAIM_PUT] = "INSERT OR REPLACE INTO claims(key, state, job, fence, until_ms)"
                      " VALUES(?1,0,?2,?3,?4)",
    [SQL_CLAIM_SETTLE] =
        "UPDATE claims SET state=?3, until_ms=?4 WHERE key=?1 AND fence=?2 AND state=0",
    [SQL_CLAIM_DEL] = "DELETE FROM claims WHERE key=?1 AND fence=?2 AND state=0",
    [SQL_CLAIM_EXPIRED] = "SELECT 1 FROM claims WHERE until_ms<=?1 LIMIT 1",
    [SQL_CLAIM_SWEEP] =
        "DELETE FROM claims WHERE key IN (SELECT key FROM claims c WHERE until_ms<=?1 AND NOT"
        " (state=0 AND EXISTS(SELECT 1 FROM leases WHERE leases.fence=c.fence))"
        " ORDER BY until_ms LIMIT ?2)",
    [SQL_CLAIM_POSTPONE] = "UPDATE claims SET until_ms=?2 WHERE until_ms<=?1 AND state=0",

    [SQL_DEAD_ADD] =
        "INSERT INTO dead(id, queue, grave, priority, cause, job, task, at_ms, envelope)"
        " SELECT id, ?2, ?3, priority, ?4, coalesce(?5, job), ?6, ?7, envelope FROM messages"
        " WHERE id=?1",
    [SQL_DEAD_LIST] =
        "SELECT d.id, q.name, d.grave, d.cause, d.job, d.task, d.at_ms, length(d.envelope)"
        " FROM dead d JOIN queues q ON q.id=d.queue WHERE ?1 IS NULL OR q.name=?1"
        " ORDER BY q.name, d.grave, d.at_ms, d.id LIMIT ?2",
    [SQL_DEAD_GET] =
        "SELECT d.id, q.name, d.grave, d.cause, d.job, d.task, d.at_ms, length(d.envelope),"
        " d.envelope FROM dead d JOIN queues q ON q.id=d.queue WHERE d.id=?1",
    [SQL_DEAD_IDS] =
        "SELECT d.id, d.queue, d.priority FROM dead d JOIN queues q ON q.id=d.queue"
        " WHERE (?1 IS NULL OR d.id=?1) AND (?2 IS NULL OR q.name=?2) ORDER BY d.at_ms, d.id",
    [SQL_DEAD_REVIVE] = "INSERT INTO messages(id, priority, job, envelope)"
                        " SELECT id, priority, job, envelope FROM dead WHERE id=?1",
    [SQL_DEAD_DEL] = "DELETE FROM dead WHERE id=?1",

    [SQL_ASK_QUEUES] =
        "SELECT q.name, coalesce(r.n,0), coalesce(d.n,0), coalesce(l.n,0), coalesce(x.n,0),"
        " coalesce(u.n,0) FROM queues q"
        " LEFT JOIN (SELECT queue, count(*) n FROM ready GROUP BY queue) r ON r.queue=q.id"
        " LEFT JOIN (SELECT queue, count(*) n FROM delayed GROUP BY queue) d ON d.queue=q.id"
        " LEFT JOIN (SELECT queue, count(*) n FROM leases GROUP BY queue) l ON l.queue=q.id"
        " LEFT JOIN (SELECT queue, count(*) n FROM dead WHERE grave=0 GROUP BY queue) x"
        " ON x.queue=q.id"
        " LEFT JOIN (SELECT queue, count(*) n FROM dead WHERE grave=1 GROUP BY queue) u"
        " ON u.queue=q.id ORDER BY q.name",
    [SQL_ASK_TOTALS] = "SELECT (SELECT count(*) FROM ready), (SELECT count(*) FROM leases),"
                       " (SELECT count(*) FROM delayed), (SELECT count(*) FROM dead)",
    [SQL_ASK_PEEK] =
        "SELECT kind, priority, at, envelope FROM ("
        "SELECT * FROM (SELECT 0 kind, r.step a, r.place z, m.priority, 0 at, m.envelope"
        " FROM ready r JOIN messages m ON m.id=r.message WHERE r.queue=?1"
        " ORDER BY r.step, r.place LIMIT ?2)"
        " UNION ALL SELECT * FROM (SELECT 1, d.at_ms, d.message, m.priority, d.at_ms, m.envelope"
        " FROM delayed d JOIN messages m ON m.id=d.message WHERE d.queue=?1"
        " ORDER BY d.at_ms, d.message LIMIT ?2)"
        " UNION ALL SELECT * FROM (SELECT 2, l.fence, 0, m.priority, 0, m.envelope"
        " FROM leases l JOIN messages m ON m.id=l.message WHERE l.queue=?1"
        " ORDER BY l.fence LIMIT ?2)) ORDER BY kind, a, z LIMIT ?2",
    [SQL_PURGE_READY_MESSAGES] =
        "DELETE FROM messages WHERE id IN (SELECT message FROM ready WHERE queue=?1)",
    [SQL_PURGE_READY] = "DELETE FROM ready WHERE queue=?1",
    [SQL_PURGE_DELAYED_MESSAGES] =
        "DELETE FROM messages WHERE id IN (SELECT message FROM delayed WHERE queue=?1)",
    [SQL_PURGE_DELAYED] = "DELETE FROM delayed WHERE queue=?1",
    [SQL_QUEUE_DROP] = "DELETE FROM queues WHERE id=?1"
                       " AND NOT EXISTS (SELECT 1 FROM ready WHERE queue=?1)"
                       " AND NOT EXISTS (SELECT 1 FROM delayed WHERE queue=?1)"
                       " AND NOT EXISTS (SELECT 1 FROM leases WHERE queue=?1)"
                       " AND NOT EXISTS (SELECT 1 FROM dead WHERE queue=?1)",

    [SQL_NODE_PUT] = "INSERT OR REPLACE INTO nodes(node, until_ms, doc) VALUES(?1,?2,?3)",
    [SQL_NODE_DEL] = "DELETE FROM nodes WHERE node=?1",
    [SQL_NODE_SWEEP] = "DELETE FROM nodes WHERE until_ms<=?1",
    [SQL_ASK_NODES] = "SELECT node, doc FROM nodes WHERE until_ms>?1 ORDER BY node",
};

static int bind_one(sqlite3_stmt *stmt, int at, const struct sqlite_arg *arg)
{
    if (arg->kind == SQLITE_ARG_INT)
        return sqlite3_bind_int64(stmt, at, arg->number);
    if (!arg->bytes.ptr)
        return sqlite3_bind_null(stmt, at);
    /* Static: a statement is always run to its end, or reset, before the caller's bytes go. */
    if (arg->kind == SQLITE_ARG_TEXT)
        return sqlite3_bind_text64(stmt, at, arg->bytes.ptr, arg->bytes.len, SQLITE_STATIC,
                                   SQLITE_UTF8);
    return sqlite3_bind_blob64(stmt, at, arg->bytes.ptr, arg->bytes.len, SQLITE_STATIC);
}

int sqlite_bind(struct sqlite_broker *b, enum sqlite_stmt_id id, sqlite3_stmt **out,
                const struct sqlite_arg *args, size_t n)
{
    int rc = SQLITE_OK;

    if (!b->stmts[id])
        rc = sqlite3_prepare_v3(b->db, texts[id], -1, SQLITE_PREPARE_PERSISTENT, &b->stmts[id],
                                NULL);
    *out = b->stmts[id];
    for (size_t i = 0; rc == SQLITE_OK && i < n; i++)
        rc = bind_one(*out, (int)i + 1, &args[i]);
    return rc;
}

int sqlite_end(sqlite3_stmt *stmt, int rc)
{
    sqlite3_reset(stmt);
    return rc == SQLITE_DONE || rc == SQLITE_ROW ? SQLITE_OK : rc;
}

int sqlite_exec_args(struct sqlite_broker *b, enum sqlite_stmt_id id, const struct sqlite_arg *args,
                     size_t n)
{
    sqlite3_stmt *stmt;
    int rc = sqlite_bind(b, id, &stmt, args, n);

    return rc == SQLITE_OK ? sqlite_end(stmt, sqlite3_step(stmt)) : rc;
}

struct slice sqlite_column(sqlite3_stmt *stmt, int column)
{
    const void *bytes = sqlite3_column_blob(stmt, column);
    size_t len = (size_t)sqlite3_column_bytes(stmt, column);

    if (!bytes && sqlite3_column_type(stmt, column) != SQLITE_NULL)
        bytes = ""; /* SQLite gives no pointer for an empty blob */
    return slice_make(bytes, len);
}

int sqlite_changed(struct sqlite_broker *b)
{
    return sqlite3_changes(b->db);
}

void sqlite_finalize(struct sqlite_broker *b)
{
    for (size_t i = 0; i < SQL_COUNT; i++) {
        sqlite3_finalize(b->stmts[i]);
        b->stmts[i] = NULL;
    }
}
