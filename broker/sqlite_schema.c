#include "broker/sqlite.h"

#include <stdio.h>

/*
 * Invariants of the tables, kept by every transaction:
 *  1. A row of messages is named by exactly one row of ready, delayed or leases. So a message is in
 *     one state, and moving it touches small rows only: the envelope is written once.
 *  2. A row of dead has no row in messages; reviving one moves it back under its old id.
 *  3. ready is ordered as it is delivered: queue, step (priority / 3), place. Places only grow; a
 *     message that goes back to the front takes the place it had, which is before all that was
 *     behind it.
 *  4. leases.fence grows with every delivery and is never used twice: it is the receipt.
 *  5. state has one row; its counters and published = succeeded + failed + removed + rows of dead,
 *     ready, delayed and leases hold after every COMMIT.
 *  6. results.version grows with every write; a watcher reads what is above the last it saw. A row
 *     with success=1 is not overwritten while it lives.
 *  7. A token of the last 60 s is in tokens_0 or tokens_1. Every 60 s the older table is emptied
 *     and becomes the one written to: no index of times, no row-wise sweep.
 *  8. A row of nodes is what one node says of itself; it counts until until_ms, and any row may be
 *     missing at any time.
 *  9. A row of claims is a dedup key: state 0 held by the lease `fence`, as long as that lease is
 * in leases; 1 kept for the retry of `job` until until_ms; 2 done by `job`, remembered until
 *     until_ms. In state 0 until_ms only says when the sweep looks whether the lease still is.
 */
static const char ddl[] =
    "CREATE TABLE state(published INTEGER NOT NULL, succeeded INTEGER NOT NULL,"
    " failed INTEGER NOT NULL, retried INTEGER NOT NULL, duplicates INTEGER NOT NULL,"
    " purged INTEGER NOT NULL, removed INTEGER NOT NULL, last_id INTEGER NOT NULL,"
    " last_fence INTEGER NOT NULL, last_version INTEGER NOT NULL, tokens_at_ms INTEGER NOT NULL,"
    " tokens_turn INTEGER NOT NULL);"
    "INSERT INTO state VALUES(0,0,0,0,0,0,0,0,0,0,0,0);"
    "CREATE TABLE queues(id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);"
    "CREATE TABLE messages(id INTEGER PRIMARY KEY, priority INTEGER NOT NULL, job TEXT,"
    " envelope BLOB NOT NULL);"
    "CREATE TABLE ready(queue INTEGER NOT NULL, step INTEGER NOT NULL, place INTEGER NOT NULL,"
    " message INTEGER NOT NULL, again INTEGER NOT NULL, PRIMARY KEY(queue, step, place))"
    " WITHOUT ROWID;"
    "CREATE TABLE delayed(at_ms INTEGER NOT NULL, message INTEGER NOT NULL,"
    " queue INTEGER NOT NULL, step INTEGER NOT NULL, again INTEGER NOT NULL,"
    " PRIMARY KEY(at_ms, message)) WITHOUT ROWID;"
    "CREATE TABLE leases(fence INTEGER PRIMARY KEY, message INTEGER NOT NULL,"
    " queue INTEGER NOT NULL, step INTEGER NOT NULL, place INTEGER NOT NULL,"
    " owner INTEGER NOT NULL, until_ms INTEGER NOT NULL, generation INTEGER NOT NULL,"
    " node TEXT NOT NULL);"
    "CREATE TABLE dead(id INTEGER PRIMARY KEY, queue INTEGER NOT NULL, grave INTEGER NOT NULL,"
    " priority INTEGER NOT NULL, cause TEXT, job TEXT, task TEXT, at_ms INTEGER NOT NULL,"
    " envelope BLOB NOT NULL);"
    "CREATE INDEX dead_by_queue ON dead(grave, queue);"
    "CREATE TABLE results(version INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE,"
    " success INTEGER NOT NULL, expires_ms INTEGER, doc BLOB NOT NULL);"
    "CREATE INDEX results_by_expiry ON results(expires_ms) WHERE expires_ms IS NOT NULL;"
    "CREATE TABLE tokens_0(token BLOB PRIMARY KEY, at_ms INTEGER NOT NULL) WITHOUT ROWID;"
    "CREATE TABLE tokens_1(token BLOB PRIMARY KEY, at_ms INTEGER NOT NULL) WITHOUT ROWID;"
    "CREATE TABLE nodes(node TEXT PRIMARY KEY, until_ms INTEGER NOT NULL, doc BLOB NOT NULL)"
    " WITHOUT ROWID;"
    "PRAGMA application_id=0x43656c71;" /* "Celq" */
    "PRAGMA user_version=2;";

/* Steps from an older layout to the next, in the transaction that found it: step i makes version
 * FIRST_VERSION + i + 1. They only add, so that a process of the older version that has the file
 * open goes on; it just cannot open it again. A new file is made old and takes the same steps. */
static const char *const steps[] = {
    "CREATE TABLE claims(key BLOB PRIMARY KEY, state INTEGER NOT NULL, job TEXT NOT NULL,"
    " fence INTEGER NOT NULL, until_ms INTEGER NOT NULL) WITHOUT ROWID;"
    "CREATE INDEX claims_by_time ON claims(until_ms);"
    "PRAGMA user_version=3;",
};

#define APPLICATION_ID 0x43656c71
#define FIRST_VERSION  2 /* the oldest that can be carried on */
#define SCHEMA_VERSION (FIRST_VERSION + (int64_t)(sizeof(steps) / sizeof(steps[0])))

/* The first column of the first row of a statement that is run once. */
static int ask_number(struct sqlite_broker *b, const char *sql, int64_t *number)
{
    sqlite3_stmt *stmt = NULL;
    int rc = sqlite3_prepare_v2(b->db, sql, -1, &stmt, NULL);

    if (rc == SQLITE_OK) {
        rc = sqlite3_step(stmt);
        *number = rc == SQLITE_ROW ? sqlite3_column_int64(stmt, 0) : 0;
        rc = rc == SQLITE_ROW || rc == SQLITE_DONE ? SQLITE_OK : rc;
    }
    sqlite3_finalize(stmt);
    return rc;
}

/* Write-ahead logging stays with the file once set; the first time it needs the file alone. */
static int set_wal(struct sqlite_broker *b, struct err *e)
{
    sqlite3_stmt *stmt = NULL;
    int rc = sqlite3_prepare_v2(b->db, "PRAGMA journal_mode=WAL", -1, &stmt, NULL);

    if (rc == SQLITE_OK) {
        rc = sqlite3_step(stmt);
        if (rc == SQLITE_ROW && !slice_is(sqlite_column(stmt, 0), "wal")) {
            err_set(e, ERR_OPERATOR,
                    "queue file '%s' cannot use write-ahead logging (it stays in mode '%s'): keep "
                    "it on a local file system",
                    b->path, (const char *)sqlite3_column_text(stmt, 0));
            rc = SQLITE_ERROR;
        } else if (rc == SQLITE_ROW) {
            rc = SQLITE_OK;
        }
    }
    sqlite3_finalize(stmt);
    return rc;
}

static int refuse(const struct sqlite_broker *b, struct err *e, const char *why)
{
    err_set(e, ERR_OPERATOR, "queue file '%s' %s", b->path, why);
    return SQLITE_ERROR;
}

static int take_steps(struct sqlite_broker *b, int64_t version)
{
    int rc = SQLITE_OK;

    for (; rc == SQLITE_OK && version < SCHEMA_VERSION; version++)
        rc = sqlite3_exec(b->db, steps[version - FIRST_VERSION], NULL, NULL, NULL);
    return rc;
}

/* Inside a transaction: ours, empty, or somebody else's? */
static int check_or_create(struct sqlite_broker *b, struct err *e)
{
    int64_t application = 0, version = 0, tables = 0;
    int rc = ask_number(b, "PRAGMA application_id", &application);

    if (rc == SQLITE_OK)
        rc = ask_number(b, "PRAGMA user_version", &version);
    if (rc == SQLITE_OK)
        rc = ask_number(b, "SELECT count(*) FROM sqlite_schema", &tables);
    if (rc != SQLITE_OK)
        return rc;
    if (application == APPLICATION_ID)
        return version >= FIRST_VERSION && version <= SCHEMA_VERSION
                   ? take_steps(b, version)
                   : refuse(b, e,
                            "was made by another version of celeriac: drain it with that version, "
                            "or name another file");
    if (application != 0 || tables != 0)
        return refuse(b, e, "is a database of another program: name another file");
    rc = sqlite3_exec(b->db, ddl, NULL, NULL, NULL);
    return rc == SQLITE_OK ? take_steps(b, FIRST_VERSION) : rc;
}

int sqlite_schema(struct sqlite_broker *b, struct err *e)
{
    char tuning[200];
    int rc;

    /* The log is folded back every 16 MiB: fewer fsyncs than SQLite's 4 MiB at the same safety. */
    snprintf(tuning, sizeof(tuning),
             "PRAGMA encoding='UTF-8';PRAGMA synchronous=%s;PRAGMA wal_autocheckpoint=4000;"
             "PRAGMA journal_size_limit=67108864;PRAGMA cache_size=-8000;PRAGMA temp_store=MEMORY",
             b->full_sync ? "FULL" : "NORMAL");
    rc = sqlite3_exec(b->db, tuning, NULL, NULL, NULL);
    if (rc == SQLITE_OK)
        rc = set_wal(b, e);
    if (rc == SQLITE_OK)
        rc = sqlite3_exec(b->db, "BEGIN IMMEDIATE", NULL, NULL, NULL);
    if (rc != SQLITE_OK)
        return rc;
    rc = check_or_create(b, e);
    if (rc == SQLITE_OK)
        rc = sqlite3_exec(b->db, "COMMIT", NULL, NULL, NULL);
    if (rc != SQLITE_OK)
        sqlite_rollback(b);
    return rc;
}
