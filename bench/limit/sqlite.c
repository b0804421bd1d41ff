/*
 * limit_sqlite DIR: the limit in SQLite.
 *
 * The least that a queue in one file can do: insert rows; select and mark the oldest of them;
 * delete them and insert a result each; so many to a transaction, and what ends one batch begins
 * the next in the same one. Write-ahead log, results found by
 * id, messages and results as long as ours. Nothing is looked into, no lease is kept, nothing
 * counted. `cycle` is all three one after the other, by one process that has the file for itself.
 * Ways: synchronous is `normal` or `full`.
 */
#include "bench/limit/limit.h"

#include <sqlite3.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

struct store {
    sqlite3 *db;
    const struct limit_run *run;
    char path[512];
};

static void run_sql(struct store *s, const char *sql)
{
    if (sqlite3_exec(s->db, sql, NULL, NULL, NULL) != SQLITE_OK)
        limit_die("%s: %s", s->path, sqlite3_errmsg(s->db));
}

static sqlite3_stmt *prepare(struct store *s, const char *sql)
{
    sqlite3_stmt *stmt = NULL;

    if (sqlite3_prepare_v2(s->db, sql, -1, &stmt, NULL) != SQLITE_OK)
        limit_die("%s: %s", s->path, sqlite3_errmsg(s->db));
    return stmt;
}

static void step(struct store *s, sqlite3_stmt *stmt)
{
    int rc = sqlite3_step(stmt);

    if (rc != SQLITE_DONE && rc != SQLITE_ROW)
        limit_die("%s: %s", s->path, sqlite3_errmsg(s->db));
    sqlite3_reset(stmt);
}

static void remove_files(const struct store *s)
{
    static const char *const endings[] = {"", "-wal", "-shm"};
    char name[sizeof(s->path) + 8];

    for (size_t i = 0; i < sizeof(endings) / sizeof(endings[0]); i++) {
        snprintf(name, sizeof(name), "%s%s", s->path, endings[i]);
        unlink(name);
    }
}

static void open_store(struct store *s, const struct limit_run *run)
{
    s->run = run;
    snprintf(s->path, sizeof(s->path), "%s/limit-%d.db", run->url, (int)getpid());
    remove_files(s);
    if (sqlite3_open(s->path, &s->db) != SQLITE_OK)
        limit_die("%s: %s", s->path, sqlite3_errmsg(s->db));
    run_sql(s, strcmp(run->way, "full") == 0 ? "PRAGMA synchronous=FULL"
                                             : "PRAGMA synchronous=NORMAL");
    run_sql(s, "PRAGMA journal_mode=WAL;PRAGMA wal_autocheckpoint=4000;"
               "CREATE TABLE jobs(id INTEGER PRIMARY KEY, state INT, envelope BLOB);"
               "CREATE INDEX waiting ON jobs(id) WHERE state=0;"
               "CREATE TABLE results(version INTEGER PRIMARY KEY, id TEXT UNIQUE, doc BLOB)");
}

static int64_t count(struct store *s, const char *sql)
{
    sqlite3_stmt *stmt = prepare(s, sql);
    int64_t n = sqlite3_step(stmt) == SQLITE_ROW ? sqlite3_column_int64(stmt, 0) : -1;

    sqlite3_finalize(stmt);
    return n;
}

static void close_store(struct store *s)
{
    sqlite3_close(s->db);
    remove_files(s);
}

/* --- insert, claim, finish --- */

static void insert(struct store *s, int64_t jobs, int batch)
{
    sqlite3_stmt *add = prepare(s, "INSERT INTO jobs(state, envelope) VALUES(0, ?1)");

    sqlite3_bind_blob(add, 1, s->run->envelope, (int)s->run->envelope_len, SQLITE_STATIC);
    for (int64_t done = 0; done < jobs; done += batch) {
        run_sql(s, "BEGIN IMMEDIATE");
        for (int i = 0; i < batch; i++)
            step(s, add);
        run_sql(s, "COMMIT");
    }
    sqlite3_finalize(add);
}

struct taking {
    sqlite3_stmt *head, *mark, *drop, *put;
    int64_t ids[LIMIT_BATCH_MAX];
    int n;
};

static void claim(struct store *s, struct taking *t)
{
    sqlite3_bind_int(t->head, 1, s->run->batch);
    for (t->n = 0; t->n < s->run->batch && sqlite3_step(t->head) == SQLITE_ROW; t->n++) {
        if (sqlite3_column_bytes(t->head, 1) != (int)s->run->envelope_len)
            limit_die("%s: a message came back shorter or longer", s->path);
        t->ids[t->n] = sqlite3_column_int64(t->head, 0);
    }
    sqlite3_reset(t->head);
    for (int i = 0; i < t->n; i++) {
        sqlite3_bind_int64(t->mark, 1, t->ids[i]);
        step(s, t->mark);
    }
}

static void finish(struct store *s, struct taking *t)
{
    char id[LIMIT_ID_SIZE];

    for (int i = 0; i < t->n; i++) {
        sqlite3_bind_int64(t->drop, 1, t->ids[i]);
        step(s, t->drop);
        limit_id(id, t->ids[i]);
        sqlite3_bind_text(t->put, 1, id, -1, SQLITE_STATIC);
        sqlite3_bind_blob(t->put, 2, s->run->result, (int)s->run->result_len, SQLITE_STATIC);
        step(s, t->put);
    }
}

static void take_all(struct store *s)
{
    struct taking t = {
        .head = prepare(s, "SELECT id, envelope FROM jobs WHERE state=0 ORDER BY id LIMIT ?1"),
        .mark = prepare(s, "UPDATE jobs SET state=1 WHERE id=?1"),
        .drop = prepare(s, "DELETE FROM jobs WHERE id=?1"),
        .put = prepare(s, "INSERT OR REPLACE INTO results(id, doc) VALUES(?1,?2)")};

    do {
        run_sql(s, "BEGIN IMMEDIATE");
        finish(s, &t);
        claim(s, &t);
        run_sql(s, "COMMIT");
    } while (t.n > 0);
    sqlite3_finalize(t.head);
    sqlite3_finalize(t.mark);
    sqlite3_finalize(t.drop);
    sqlite3_finalize(t.put);
    if (count(s, "SELECT count(*) FROM jobs") != 0 ||
        count(s, "SELECT count(*) FROM results") != s->run->jobs)
        limit_die("%s: something is left, or not as many results as jobs", s->path);
}

/* --- cases --- */

static void run_push(const struct limit_run *run, double *values)
{
    struct store s;
    int64_t at;

    open_store(&s, run);
    at = clock_nano();
    insert(&s, run->jobs, run->batch);
    values[0] = limit_rate(run->jobs, at);
    close_store(&s);
}

static void run_confirm(const struct limit_run *run, double *values)
{
    struct store s;
    int64_t at;

    open_store(&s, run);
    at = clock_nano();
    insert(&s, run->trips, 1);
    values[0] = limit_rate(run->trips, at);
    close_store(&s);
}

static void run_drain(const struct limit_run *run, double *values)
{
    struct store s;
    int64_t at;

    open_store(&s, run);
    insert(&s, run->jobs, run->batch);
    at = clock_nano();
    take_all(&s);
    values[0] = limit_rate(run->jobs, at);
    close_store(&s);
}

static void run_cycle(const struct limit_run *run, double *values)
{
    struct store s;
    int64_t at;

    open_store(&s, run);
    at = clock_nano();
    insert(&s, run->jobs, run->batch);
    take_all(&s);
    values[0] = limit_rate(run->jobs, at);
    close_store(&s);
}

int main(int argc, char **argv)
{
    static const char *const ways[] = {"normal", "full", NULL};
    static const struct limit_case cases[] = {
        {"push", ways, true, {{"limit_push", "jobs/s"}}, run_push},
        {"confirm", ways, false, {{"limit_confirm", "jobs/s"}}, run_confirm},
        {"drain", ways, true, {{"limit_drain", "jobs/s"}}, run_drain},
        {"cycle", ways, true, {{"limit_cycle", "jobs/s"}}, run_cycle},
    };
    static const struct limit_program program = {"sqlite", "DIR", cases,
                                                 sizeof(cases) / sizeof(cases[0])};

    return limit_main(&program, argc, argv);
}
