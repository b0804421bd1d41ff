/*
 * bench_sqlite DIR [JOBS]: what the SQLite broker adds to SQLite.
 *
 * For batches of 1, 16 and 256 it publishes, fetches and finishes JOBS messages of 1 KiB through
 * the broker, and does the least a queue could do with bare SQLite: insert rows, select and mark
 * them, delete them and insert a result, the same number to a transaction. One JSON line per case.
 */
#include "broker/backend.h"

#include <inttypes.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define ENVELOPE_LEN 1024
#define BATCH_MAX    256

static char envelope[ENVELOPE_LEN];
static const char result[] = "{\"status\": \"SUCCESS\", \"result\": null, \"traceback\": null, "
                             "\"children\": [], \"date_done\": \"2026-01-01T00:00:00+00:00\"}";

struct rates {
    double publish, fetch, finish; /* per second */
};

static void die(const char *what)
{
    fprintf(stderr, "bench_sqlite: %s\n", what);
    exit(1);
}

static double rate(int n, int64_t since_ns)
{
    return n * 1e9 / (double)(clock_nano() - since_ns);
}

static void make_id(char id[40], int n)
{
    /* As scattered as a random id: the index of results is not filled in order. */
    uint64_t h = ((uint64_t)n + 1) * 0x9e3779b97f4a7c15u;

    snprintf(id, 40, "%08x-%04x-4000-8000-%012" PRIx64, (unsigned)h, (unsigned)(h >> 32) & 0xffff,
             (h >> 16) & 0xffffffffffffu);
}

/* --- through the broker --- */

static int pump(struct broker *b, enum broker_event_kind kind, struct broker_receipt *receipts,
                int want)
{
    struct broker_event events[BATCH_MAX];
    int got = 0;

    while (got < want) {
        int n = b->ops->poll(b, events, BATCH_MAX);

        for (int i = 0; i < n; i++) {
            if (events[i].kind == kind && receipts)
                receipts[got] = events[i].receipt;
            got += events[i].kind == kind;
        }
    }
    return got;
}

static void publish_all(struct broker *b, int jobs, int batch, bool tokens)
{
    struct broker_message m[BATCH_MAX] = {{0}};
    char ids[BATCH_MAX][40];
    struct err e;

    for (int done = 0; done < jobs; done += batch) {
        for (int i = 0; i < batch; i++) {
            make_id(ids[i], done + i);
            m[i] = (struct broker_message){.queue = slice_of("celery"),
                                           .envelope = slice_make(envelope, ENVELOPE_LEN),
                                           .id = slice_of(ids[i]),
                                           .token = slice_of(tokens ? ids[i] : NULL)};
        }
        if (b->ops->publish(b, m, (size_t)batch, &e) != 0)
            die(e.text);
        pump(b, BROKER_PUBLISHED, NULL, batch);
    }
}

static void finish_batch(struct broker *b, const struct broker_receipt *receipts, int first, int n)
{
    struct broker_finish f[BATCH_MAX] = {{0}};
    char ids[BATCH_MAX][40];
    struct err e;

    for (int i = 0; i < n; i++) {
        make_id(ids[i], first + i);
        f[i] = (struct broker_finish){.receipt = receipts[first + i],
                                      .outcome = BROKER_JOB_SUCCEEDED,
                                      .result_id = slice_of(ids[i]),
                                      .result = slice_of(result)};
    }
    if (b->ops->finish(b, f, (size_t)n, &e) != 0)
        die(e.text);
    pump(b, BROKER_FINISHED, NULL, n);
}

static struct broker *open_broker(const char *dir, int batch)
{
    static const char *const queues[] = {"celery"};
    struct broker_config config = {.node = "bench",
                                   .generation = 1,
                                   .queues = queues,
                                   .queues_len = 1,
                                   .lease_ms = 30000,
                                   .result_expires_ms = 86400000,
                                   .clock = clock_system()};
    char url[512];
    struct uri uri;
    struct err e;
    struct broker *b = NULL;

    snprintf(url, sizeof(url), "sqlite:%s/broker-%d-%d.db", dir, batch, (int)getpid());
    if (uri_parse(&uri, url, &e) == 0)
        b = sqlite_open(&uri, &config, &e);
    if (!b)
        die(e.text);
    uri_release(&uri);
    return b;
}

static struct rates run_broker(const char *dir, int jobs, int batch, bool tokens)
{
    struct broker *b = open_broker(dir, tokens ? -batch : batch);
    struct broker_receipt *receipts = calloc((size_t)jobs + BATCH_MAX, sizeof(*receipts));
    struct rates r;
    int64_t at = clock_nano();

    publish_all(b, jobs, batch, tokens);
    r.publish = rate(jobs, at);
    at = clock_nano();
    for (int done = 0; done < jobs; done += batch) {
        b->ops->credit(b, batch);
        pump(b, BROKER_DELIVERED, receipts + done, batch);
    }
    r.fetch = rate(jobs, at);
    at = clock_nano();
    for (int done = 0; done < jobs; done += batch)
        finish_batch(b, receipts, done, batch);
    r.finish = rate(jobs, at);
    b->ops->close(b, false);
    free(receipts);
    return r;
}

/* --- bare --- */

static sqlite3_stmt *prepare(sqlite3 *db, const char *sql)
{
    sqlite3_stmt *stmt = NULL;

    if (sqlite3_prepare_v2(db, sql, -1, &stmt, NULL) != SQLITE_OK)
        die(sqlite3_errmsg(db));
    return stmt;
}

static void run(sqlite3 *db, const char *sql)
{
    if (sqlite3_exec(db, sql, NULL, NULL, NULL) != SQLITE_OK)
        die(sqlite3_errmsg(db));
}

static void step(sqlite3_stmt *stmt)
{
    int rc = sqlite3_step(stmt);

    if (rc != SQLITE_DONE && rc != SQLITE_ROW)
        die(sqlite3_errmsg(sqlite3_db_handle(stmt)));
    sqlite3_reset(stmt);
}

static sqlite3 *open_bare(const char *dir, int batch)
{
    char path[512];
    sqlite3 *db;

    snprintf(path, sizeof(path), "%s/bare-%d-%d.db", dir, batch, (int)getpid());
    if (sqlite3_open(path, &db) != SQLITE_OK)
        die(path);
    run(db, "PRAGMA journal_mode=WAL;PRAGMA synchronous=NORMAL;"
            "CREATE TABLE jobs(id INTEGER PRIMARY KEY, state INT, envelope BLOB);"
            "CREATE INDEX waiting ON jobs(id) WHERE state=0;"
            "CREATE TABLE results(id TEXT PRIMARY KEY, doc BLOB)");
    return db;
}

static double bare_publish(sqlite3 *db, int jobs, int batch)
{
    sqlite3_stmt *add = prepare(db, "INSERT INTO jobs(state, envelope) VALUES(0, ?1)");
    int64_t at = clock_nano();

    for (int done = 0; done < jobs; done += batch) {
        run(db, "BEGIN IMMEDIATE");
        for (int i = 0; i < batch; i++) {
            sqlite3_bind_blob(add, 1, envelope, ENVELOPE_LEN, SQLITE_STATIC);
            step(add);
        }
        run(db, "COMMIT");
    }
    sqlite3_finalize(add);
    return rate(jobs, at);
}

static double bare_fetch(sqlite3 *db, int jobs, int batch)
{
    sqlite3_stmt *head =
        prepare(db, "SELECT id, envelope FROM jobs WHERE state=0 ORDER BY id LIMIT ?1");
    sqlite3_stmt *mark = prepare(db, "UPDATE jobs SET state=1 WHERE id=?1");
    int64_t ids[BATCH_MAX];
    int64_t at = clock_nano();

    for (int done = 0; done < jobs; done += batch) {
        int n = 0;

        run(db, "BEGIN IMMEDIATE");
        sqlite3_bind_int(head, 1, batch);
        while (n < batch && sqlite3_step(head) == SQLITE_ROW)
            ids[n++] = sqlite3_column_int64(head, 0);
        sqlite3_reset(head);
        for (int i = 0; i < n; i++) {
            sqlite3_bind_int64(mark, 1, ids[i]);
            step(mark);
        }
        run(db, "COMMIT");
    }
    sqlite3_finalize(head);
    sqlite3_finalize(mark);
    return rate(jobs, at);
}

static double bare_finish(sqlite3 *db, int jobs, int batch)
{
    sqlite3_stmt *drop = prepare(db, "DELETE FROM jobs WHERE id=?1");
    sqlite3_stmt *put = prepare(db, "INSERT OR REPLACE INTO results VALUES(?1,?2)");
    int64_t at = clock_nano();
    char id[40];

    for (int done = 0; done < jobs; done += batch) {
        run(db, "BEGIN IMMEDIATE");
        for (int i = 0; i < batch; i++) {
            make_id(id, done + i);
            sqlite3_bind_int64(drop, 1, done + i + 1);
            step(drop);
            sqlite3_bind_text(put, 1, id, -1, SQLITE_STATIC);
            sqlite3_bind_blob(put, 2, result, sizeof(result) - 1, SQLITE_STATIC);
            step(put);
        }
        run(db, "COMMIT");
    }
    sqlite3_finalize(drop);
    sqlite3_finalize(put);
    return rate(jobs, at);
}

static struct rates run_bare(const char *dir, int jobs, int batch)
{
    sqlite3 *db = open_bare(dir, batch);
    struct rates r;

    r.publish = bare_publish(db, jobs, batch);
    r.fetch = bare_fetch(db, jobs, batch);
    r.finish = bare_finish(db, jobs, batch);
    sqlite3_close(db);
    return r;
}

static void print(const char *who, int batch, const struct rates *r, const struct rates *bare)
{
    double whole = 1 / (1 / r->publish + 1 / r->fetch + 1 / r->finish);
    double bare_whole = 1 / (1 / bare->publish + 1 / bare->fetch + 1 / bare->finish);

    printf("{\"case\":\"sqlite\",\"who\":\"%s\",\"batch\":%d,\"publish_per_s\":%.0f,"
           "\"fetch_per_s\":%.0f,\"finish_per_s\":%.0f,\"whole_per_s\":%.0f,\"of_bare\":%.2f}\n",
           who, batch, r->publish, r->fetch, r->finish, whole, whole / bare_whole);
}

int main(int argc, char **argv)
{
    static const int batches[] = {1, 16, 256};
    int jobs = argc > 2 ? (int)strtol(argv[2], NULL, 10) : 20000;

    if (argc < 2 || jobs < 1)
        die("usage: bench_sqlite DIR [JOBS]");
    memset(envelope, 'x', sizeof(envelope));
    jobs = (jobs + BATCH_MAX - 1) / BATCH_MAX * BATCH_MAX;
    for (size_t i = 0; i < sizeof(batches) / sizeof(batches[0]); i++) {
        struct rates bare = run_bare(argv[1], jobs, batches[i]);
        struct rates plain = run_broker(argv[1], jobs, batches[i], false);
        struct rates tokens = run_broker(argv[1], jobs, batches[i], true);

        print("bare", batches[i], &bare, &bare);
        print("broker", batches[i], &plain, &bare);
        print("broker with tokens", batches[i], &tokens, &bare);
    }
    return 0;
}
