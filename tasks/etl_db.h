/*
 * etl_db.h - the SQLite database that events are loaded into: opening it, and its tables.
 *
 * Purpose: what the sink, the summary and the verifier share. No other file knows the schema.
 *
 * Model: five kinds of rows.
 *   source      one generation of one log: identity, format, and the prefix hash that recognises it
 *   event       one event. Its key is `source << 42 | offset`, so that the table itself is the
 *               unique index of (source, generation, offset), grows at its end and needs no second
 *               index; source and offset are shown as columns. A request id is unique by itself.
 *   quarantine  one bad line, under the same key, with reason and raw bytes
 *   ledger      one chunk that was stored: its key, counts, checksum and the fence of the attempt;
 *               open_line is the offset of a last line that had no LF, see etl_tail_sqlite.c
 *   access_log  a view of the events for people: readable times and request ids
 * Text that is not UTF-8 or holds a NUL is stored as a blob, so that no byte is lost.
 *
 * Invariants:
 * 1. A transaction that stores events stores their ledger row, or nothing.
 * 2. Per ledger row: inserted + quarantined + duplicates = lines.
 * 3. The sum of `inserted` over the ledger is the number of events.
 *
 * Fork and threads: a handle belongs to the process and thread that opened it; open after fork.
 */
#ifndef CELERIAC_ETL_DB_H
#define CELERIAC_ETL_DB_H

#include <sqlite3.h>
#include <stdint.h>

#include "tasks/etl_err.h"
#include "tasks/etl_field.h"

#define ETL_OFFSET_BITS 42 /* 4 TiB a log */
#define ETL_OFFSET_MAX  (((uint64_t)1 << ETL_OFFSET_BITS) - 1)

enum etl_db_mode {
    ETL_DB_CREATE, /* make the file and its tables if they are missing */
    ETL_DB_READ    /* they must be there */
};

struct etl_db {
    sqlite3 *handle; /* owned */
    char *path;      /* owned */
    uint64_t device; /* of the file, to notice that another one took its place */
    uint64_t inode;
    int64_t busy_ms; /* how long to wait for a lock */
    int64_t busy_until_ms;
    int wal_pages; /* length of the write-ahead log after the last commit of this handle */
};

/* busy_ms: how long a statement waits while another process writes. On failure nothing needs to be
 * closed. */
int etl_db_open(struct etl_db *db, const char *path, enum etl_db_mode mode, int64_t busy_ms,
                struct etl_err *err);
void etl_db_close(struct etl_db *db);

/* Is the file that was opened still the one under this path? */
int etl_db_is_current(const struct etl_db *db, const char *path);

/* To be called after a commit: brings a long write-ahead log back into the database, else nothing.
 * Not being able to is no error; the next commit tries again. */
void etl_db_checkpoint(struct etl_db *db);

/* The same whatever its length: when a load is over. */
void etl_db_fold(struct etl_db *db);

/* Fills err from the handle's last error: "PATH: cannot DOING: cause". Returns -1. */
int etl_db_fail(struct etl_db *db, const char *doing, struct etl_err *err);

/* Runs statements without parameters and without rows. */
int etl_db_run(struct etl_db *db, const char *sql, const char *doing, struct etl_err *err);

int etl_db_prepare(struct etl_db *db, const char *sql, sqlite3_stmt **stmt, struct etl_err *err);

/* Binds bytes without copying them: text where they are text, else a blob; null where null. */
void etl_db_bind(sqlite3_stmt *stmt, int index, struct etl_slice text);

/* The key of an event or quarantined line. */
static inline int64_t etl_db_key(int64_t source, uint64_t offset)
{
    return (int64_t)((uint64_t)source << ETL_OFFSET_BITS | offset);
}

#endif
