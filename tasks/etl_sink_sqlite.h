/*
 * etl_sink_sqlite.h - the inside of the SQLite sink, shared by its parts.
 *
 * Purpose: etl_sink_sqlite.c stores chunks (the runner's half), etl_place_sqlite.c recognises logs
 * and etl_tail_sqlite.c takes back unfinished lines (the loader's half). Nobody else includes this.
 *
 * Fork rule: a database handle is opened after the fork and never crosses one.
 */
#ifndef CELERIAC_ETL_SINK_SQLITE_H
#define CELERIAC_ETL_SINK_SQLITE_H

#include "tasks/etl_db.h"
#include "tasks/etl_sink.h"

enum etl_sql {
    ETL_SQL_BEGIN,
    ETL_SQL_COMMIT,
    ETL_SQL_ROLLBACK,
    ETL_SQL_SOURCE_FIND,
    ETL_SQL_SOURCE_ADD,
    ETL_SQL_LEDGER_FIND,
    ETL_SQL_LEDGER_ADD,
    ETL_SQL_EVENT_ADD,
    ETL_SQL_QUARANTINE_ADD,
    ETL_SQL_REASONS,
    ETL_SQLS
};

struct etl_sink_sqlite {
    struct etl_sink sink; /* first: the pointer is cast */
    struct etl_db db;
    sqlite3_stmt *stmts[ETL_SQLS]; /* owned */
};

/* One generation of a log. */
struct etl_source_row {
    const char *path;
    uint64_t device;
    uint64_t inode;
    const char *generation;
    const char *format;
    uint64_t head_len;
    const char *head_hash;
};

int etl_sink_sqlite_begin(struct etl_sink_sqlite *sink, struct etl_err *err);
int etl_sink_sqlite_commit(struct etl_sink_sqlite *sink, struct etl_err *err);
void etl_sink_sqlite_rollback(struct etl_sink_sqlite *sink);

/* The row's id: 1 and *id, 0 when there is none, -1. */
int etl_sink_sqlite_find_source(struct etl_sink_sqlite *sink, const struct etl_source_row *row,
                                int64_t *id, struct etl_err *err);
int etl_sink_sqlite_add_source(struct etl_sink_sqlite *sink, const struct etl_source_row *row,
                               int64_t *id, struct etl_err *err);

/* etl_place_sqlite.c */
int etl_sink_sqlite_place(struct etl_sink *sink, const struct etl_source *source,
                          const struct etl_format *format, struct etl_place *place,
                          struct etl_err *err);

/* etl_tail_sqlite.c: takes back the last lines that had no LF when they were loaded and may have
 * been continued since, because the log is now this long. Inside a transaction. */
int etl_sink_sqlite_reopen(struct etl_sink_sqlite *sink, int64_t source, uint64_t size,
                           struct etl_err *err);

#endif
