/* The SQLite sink: every event once, whatever is loaded again. */
#include "tests/unit/etl_fixture.h"

#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define HEAD            "192.0.2.7 - - [10/Oct/2000:13:55:36 -0700] "
#define PLAIN(path)     HEAD "\"GET " path " HTTP/1.0\" 200 5 \"-\" \"-\"\n"
#define TIMED(path, id) HEAD "\"GET " path " HTTP/1.0\" 200 5 \"-\" \"-\" 0.001 " id "\n"
#define ID_1            "00000000000000000000000000000001"
#define ID_2            "00000000000000000000000000000002"

#define LOG PLAIN("/1") PLAIN("/2") "\n" PLAIN("/3") "noise\n" PLAIN("/4")

static void expect_counts(struct etl_counts got, uint64_t inserted, uint64_t quarantined,
                          uint64_t duplicates)
{
    assert_int_equal(got.inserted, inserted);
    assert_int_equal(got.quarantined, quarantined);
    assert_int_equal(got.duplicates, duplicates);
}

static void expect_rows(const char *db, int64_t events, int64_t bad)
{
    assert_int_equal(etl_number(db, "SELECT count(*) FROM event"), events);
    assert_int_equal(etl_number(db, "SELECT count(*) FROM quarantine"), bad);
    assert_int_equal(etl_number(db, "SELECT sum(inserted) FROM ledger"), events);
}

static void a_chunk_again_changes_nothing(void **state)
{
    struct etl_fixture *f = *state;
    struct etl_sink *sink = etl_must_sink(f->db);
    struct etl_counts counts;

    etl_write_text(f->log, LOG);
    counts = etl_load(sink, f->log, f->spool, 1 << 20);
    expect_counts(counts, 4, 2, 0);
    assert_int_equal(counts.reasons[ETL_EMPTY], 1);
    assert_int_equal(counts.reasons[ETL_ADDRESS], 1);
    assert_false(counts.replayed);
    counts = etl_load(sink, f->log, f->spool, 1 << 20);
    expect_counts(counts, 4, 2, 0);
    assert_int_equal(counts.reasons[ETL_EMPTY], 1);
    assert_int_equal(counts.reasons[ETL_ADDRESS], 1);
    assert_true(counts.replayed);
    expect_rows(f->db, 4, 2);
    assert_int_equal(etl_number(f->db, "SELECT count(*) FROM ledger"), 1);
    etl_sink_close(sink);
}

static void other_bounds_over_the_same_bytes_double_nothing(void **state)
{
    struct etl_fixture *f = *state;
    struct etl_sink *sink = etl_must_sink(f->db);

    etl_write_text(f->log, LOG);
    expect_counts(etl_load(sink, f->log, f->spool, 1 << 20), 4, 2, 0);
    expect_counts(etl_load(sink, f->log, f->spool, 1), 0, 2, 4);
    for (uint64_t wanted = 50; wanted < 400; wanted += 90)
        etl_load(sink, f->log, f->spool, wanted);
    expect_rows(f->db, 4, 2);
    etl_sink_close(sink);
}

static void two_identical_requests_are_two_events(void **state)
{
    struct etl_fixture *f = *state;
    struct etl_sink *sink = etl_must_sink(f->db);

    etl_write_text(f->log, PLAIN("/") PLAIN("/"));
    expect_counts(etl_load(sink, f->log, f->spool, 1 << 20), 2, 0, 0);
    etl_sink_close(sink);
}

static void a_request_id_is_one_event_wherever_it_stands(void **state)
{
    struct etl_fixture *f = *state;
    struct etl_sink *sink = etl_must_sink(f->db);
    char other[128];

    snprintf(other, sizeof(other), "%s/other.log", f->folder);
    etl_write_text(f->log, TIMED("/", ID_1) TIMED("/", ID_1));
    etl_write_text(other, TIMED("/", ID_2) TIMED("/", ID_1));
    expect_counts(etl_load(sink, f->log, f->spool, 1 << 20), 1, 0, 1);
    expect_counts(etl_load(sink, other, f->spool, 1 << 20), 1, 0, 1);
    expect_rows(f->db, 2, 0);
    etl_sink_close(sink);
}

/* A copy is another log: without request ids, its events are others. */
static void a_copy_is_another_log(void **state)
{
    struct etl_fixture *f = *state;
    struct etl_sink *sink = etl_must_sink(f->db);
    char other[128];

    snprintf(other, sizeof(other), "%s/other.log", f->folder);
    etl_write_text(f->log, LOG);
    etl_write_text(other, LOG);
    expect_counts(etl_load(sink, f->log, f->spool, 1 << 20), 4, 2, 0);
    expect_counts(etl_load(sink, other, f->spool, 1 << 20), 4, 2, 0);
    etl_sink_close(sink);
}

static void an_append_keeps_the_generation(void **state)
{
    struct etl_fixture *f = *state;
    struct etl_sink *sink = etl_must_sink(f->db);

    etl_write_text(f->log, PLAIN("/1"));
    expect_counts(etl_load(sink, f->log, f->spool, 1 << 20), 1, 0, 0);
    for (int i = 0; i < 30; i++) {
        etl_append_text(f->log, PLAIN("/2"));
        expect_counts(etl_load(sink, f->log, f->spool, 1 << 20), 1, 0, (uint64_t)i + 1);
    }
    assert_int_equal(etl_number(f->db, "SELECT count(*) FROM source"), 1);
    /* The prefix that recognises the log grew with it, up to its limit. */
    assert_int_equal(etl_number(f->db, "SELECT head_len FROM source"), ETL_HEAD_LEN);
    expect_rows(f->db, 31, 0);
    etl_sink_close(sink);
}

static void a_renamed_log_is_the_same(void **state)
{
    struct etl_fixture *f = *state;
    struct etl_sink *sink = etl_must_sink(f->db);
    char rotated[128];

    snprintf(rotated, sizeof(rotated), "%s.1", f->log);
    etl_write_text(f->log, LOG);
    expect_counts(etl_load(sink, f->log, f->spool, 1 << 20), 4, 2, 0);
    assert_int_equal(rename(f->log, rotated), 0);
    assert_true(etl_load(sink, rotated, f->spool, 1 << 20).replayed);
    etl_write_text(f->log, PLAIN("/new"));
    expect_counts(etl_load(sink, f->log, f->spool, 1 << 20), 1, 0, 0);
    expect_rows(f->db, 5, 2);
    etl_sink_close(sink);
}

/* Truncated in place and written anew: same path, device and inode, even the same first line. */
static void a_truncated_log_is_a_new_generation(void **state)
{
    struct etl_fixture *f = *state;
    struct etl_sink *sink = etl_must_sink(f->db);

    etl_write_text(f->log, PLAIN("/1") PLAIN("/2"));
    expect_counts(etl_load(sink, f->log, f->spool, 1 << 20), 2, 0, 0);
    etl_write_text(f->log, PLAIN("/9"));
    expect_counts(etl_load(sink, f->log, f->spool, 1 << 20), 1, 0, 0);
    etl_write_text(f->log, PLAIN("/1") PLAIN("/3"));
    expect_counts(etl_load(sink, f->log, f->spool, 1 << 20), 2, 0, 0);
    assert_int_equal(etl_number(f->db, "SELECT count(DISTINCT generation) FROM source"), 3);
    expect_rows(f->db, 5, 0);
    etl_sink_close(sink);
}

/* The same first 1,024 bytes, and yet another file in the same place. */
static void the_same_beginning_is_not_enough(void **state)
{
    struct etl_fixture *f = *state;
    struct etl_sink *sink = etl_must_sink(f->db);

    etl_write_text(f->log, "");
    for (int i = 0; i < 20; i++)
        etl_append_text(f->log, PLAIN("/1"));
    etl_append_text(f->log, PLAIN("/a"));
    expect_counts(etl_load(sink, f->log, f->spool, 300), 21, 0, 0);
    etl_write_text(f->log, "");
    for (int i = 0; i < 20; i++)
        etl_append_text(f->log, PLAIN("/1"));
    etl_append_text(f->log, PLAIN("/b"));
    expect_counts(etl_load(sink, f->log, f->spool, 300), 21, 0, 0);
    assert_int_equal(etl_number(f->db, "SELECT count(*) FROM source WHERE generation LIKE '%.2'"),
                     1);
    etl_sink_close(sink);
}

/* Half of a line, in two chunkings, then the whole of it. */
static void an_unfinished_line_is_taken_back(void **state)
{
    struct etl_fixture *f = *state;
    struct etl_sink *sink = etl_must_sink(f->db);
    size_t half = sizeof(PLAIN("/22")) - 2;

    etl_write_text(f->log, PLAIN("/1"));
    etl_write_file(f->log, "ab", PLAIN("/22"), half);
    expect_counts(etl_load(sink, f->log, f->spool, 1 << 20), 2, 0, 0);
    expect_counts(etl_load(sink, f->log, f->spool, 1), 0, 0, 2);
    etl_append_text(f->log, "x\n" PLAIN("/3"));
    expect_counts(etl_load(sink, f->log, f->spool, 1 << 20), 1, 1, 1);
    expect_rows(f->db, 2, 1);
    assert_int_equal(etl_number(f->db, "SELECT count(*) FROM ledger WHERE inserted < 0 OR "
                                       "duplicates < 0 OR quarantined < 0"),
                     0);
    assert_int_equal(etl_number(f->db, "SELECT count(*) FROM event WHERE path = '/22'"), 0);
    etl_sink_close(sink);
}

/* The same with a half line that was bad. */
static void an_unfinished_bad_line_is_taken_back(void **state)
{
    struct etl_fixture *f = *state;
    struct etl_sink *sink = etl_must_sink(f->db);

    etl_write_text(f->log, PLAIN("/1"));
    etl_write_file(f->log, "ab", PLAIN("/2"), 50);
    expect_counts(etl_load(sink, f->log, f->spool, 1 << 20), 1, 1, 0);
    expect_counts(etl_load(sink, f->log, f->spool, 1), 0, 1, 1);
    etl_append_text(f->log, &PLAIN("/2")[50]);
    expect_counts(etl_load(sink, f->log, f->spool, 1 << 20), 1, 0, 1);
    expect_rows(f->db, 2, 0);
    etl_sink_close(sink);
}

static void every_byte_is_kept(void **state)
{
    static const char line[] = HEAD "\"GET /\xff HTTP/1.0\" 200 5 \"a\0b\" \"\xC3\xA9\"\n"
                                    "bad \0 line\n";
    struct etl_fixture *f = *state;
    struct etl_sink *sink = etl_must_sink(f->db);

    etl_write_file(f->log, "wb", line, sizeof(line) - 1);
    expect_counts(etl_load(sink, f->log, f->spool, 1 << 20), 1, 1, 0);
    assert_int_equal(etl_number(f->db, "SELECT count(*) FROM event WHERE path = x'2fff' AND "
                                       "referer = x'610062' AND agent = char(233)"),
                     1);
    assert_int_equal(
        etl_number(f->db, "SELECT raw = x'6261642000206c696e650a' AND length = 11 FROM quarantine"),
        1);
    etl_sink_close(sink);
}

static void a_replaced_chunk_is_refused(void **state)
{
    struct etl_fixture *f = *state;
    struct etl_sink *sink = etl_must_sink(f->db);
    struct etl_chunk chunk = {"/log", 1, 2, "g", etl_format_named("combined"), {0, 10, 7, 1}, 3};
    struct etl_counts counts;
    struct etl_batch batch;
    struct etl_err err;

    assert_int_equal(etl_batch_read(&batch, chunk.format, (struct etl_slice){"\n", 1}, 0, &err), 0);
    assert_int_equal(etl_sink_seen(sink, &chunk, &counts, &err), 0);
    assert_int_equal(etl_sink_store(sink, &chunk, &batch, &counts, &err), 0);
    assert_int_equal(etl_sink_seen(sink, &chunk, &counts, &err), 1);
    assert_int_equal(counts.quarantined, 1);
    assert_int_equal(etl_number(f->db, "SELECT fence FROM ledger"), 3);
    chunk.cut.checksum = 8;
    assert_int_equal(etl_sink_seen(sink, &chunk, &counts, &err), -1);
    assert_int_equal(err.kind, ETL_ERR_CHANGED);
    assert_int_equal(etl_sink_store(sink, &chunk, &batch, &counts, &err), -1);
    assert_int_equal(err.kind, ETL_ERR_CHANGED);
    etl_batch_release(&batch);
    etl_sink_close(sink);
}

/* The transaction is all or nothing: an insert that fails half-way leaves no row. */
static void a_failed_chunk_leaves_nothing(void **state)
{
    struct etl_fixture *f = *state;
    struct etl_sink *sink = etl_must_sink(f->db);
    struct etl_chunk chunk = {"/log", 1, 2, "g", etl_format_named("combined"), {0, 10, 7, 1}, 3};
    struct etl_counts counts;
    struct etl_batch batch;
    struct etl_err err;
    sqlite3 *other;

    assert_int_equal(sqlite3_open(f->db, &other), SQLITE_OK);
    assert_int_equal(sqlite3_exec(other,
                                  "CREATE TRIGGER stop BEFORE INSERT ON event WHEN new.path = '/3' "
                                  "BEGIN SELECT raise(ABORT, 'disk is full'); END",
                                  NULL, NULL, NULL),
                     SQLITE_OK);
    assert_int_equal(
        etl_batch_read(&batch, chunk.format, (struct etl_slice){LOG, sizeof(LOG) - 1}, 0, &err), 0);
    assert_int_equal(etl_sink_store(sink, &chunk, &batch, &counts, &err), -1);
    assert_non_null(strstr(err.text, "disk is full"));
    assert_int_equal(etl_number(f->db, "SELECT count(*) FROM event"), 0);
    assert_int_equal(etl_number(f->db, "SELECT count(*) FROM quarantine"), 0);
    assert_int_equal(etl_number(f->db, "SELECT count(*) FROM ledger"), 0);
    assert_int_equal(sqlite3_exec(other, "DROP TRIGGER stop", NULL, NULL, NULL), SQLITE_OK);
    assert_int_equal(etl_sink_store(sink, &chunk, &batch, &counts, &err), 0);
    expect_counts(counts, 4, 2, 0);
    etl_batch_release(&batch);
    sqlite3_close(other);
    etl_sink_close(sink);
}

static void a_locked_database_is_busy_not_broken(void **state)
{
    struct etl_fixture *f = *state;
    struct etl_chunk chunk = {"/log", 1, 2, "g", etl_format_named("combined"), {0, 10, 7, 1}, 3};
    struct etl_batch batch = {0};
    struct etl_counts counts;
    struct etl_err err;
    struct etl_sink *sink = etl_sink_sqlite_open(f->db, 20, &err);
    sqlite3 *other;

    assert_non_null(sink);
    assert_int_equal(sqlite3_open(f->db, &other), SQLITE_OK);
    assert_int_equal(sqlite3_exec(other, "BEGIN IMMEDIATE", NULL, NULL, NULL), SQLITE_OK);
    assert_int_equal(etl_sink_store(sink, &chunk, &batch, &counts, &err), -1);
    assert_int_equal(err.kind, ETL_ERR_BUSY);
    assert_int_equal(sqlite3_exec(other, "COMMIT", NULL, NULL, NULL), SQLITE_OK);
    assert_int_equal(etl_sink_store(sink, &chunk, &batch, &counts, &err), 0);
    sqlite3_close(other);
    etl_sink_close(sink);
}

static void expect_refused(const char *db, const char *piece)
{
    struct etl_err err;

    assert_null(etl_sink_sqlite_open(db, 20, &err));
    assert_int_equal(err.kind, ETL_ERR_DATABASE);
    if (strstr(err.text, piece) == NULL || strstr(err.text, db) == NULL)
        fail_msg("\"%s\" names neither %s nor %s", err.text, db, piece);
}

static void unusable_databases_are_named(void **state)
{
    struct etl_fixture *f = *state;
    char missing[128];
    sqlite3 *other;

    snprintf(missing, sizeof(missing), "%s/no/such/folder.db", f->folder);
    expect_refused(missing, "No such file");
    expect_refused(f->folder, "cannot open");
    etl_write_text(f->db, "this is a text file, and it is long enough to have a header that SQLite "
                          "takes a look at: it needs a hundred bytes or so\n");
    expect_refused(f->db, "not a database");
    assert_int_equal(unlink(f->db), 0);
    assert_int_equal(sqlite3_open(f->db, &other), SQLITE_OK);
    assert_int_equal(sqlite3_exec(other, "CREATE TABLE mine (x)", NULL, NULL, NULL), SQLITE_OK);
    sqlite3_close(other);
    expect_refused(f->db, "some other program");
}

static void a_removed_database_is_noticed(void **state)
{
    struct etl_fixture *f = *state;
    struct etl_sink *sink = etl_must_sink(f->db);

    assert_true(etl_sink_is_current(sink, f->db));
    assert_false(etl_sink_is_current(sink, f->log));
    assert_int_equal(unlink(f->db), 0);
    assert_false(etl_sink_is_current(sink, f->db));
    etl_sink_close(sink);
}

static int64_t file_len(const char *db, const char *end)
{
    char path[128];
    struct stat st;

    snprintf(path, sizeof(path), "%s%s", db, end);
    return stat(path, &st) == 0 ? (int64_t)st.st_size : 0;
}

/* Two handles that write in turn, 240 MiB altogether: the write-ahead log stays
 * bounded. */
static void the_write_ahead_log_stays_short(void **state)
{
    struct etl_fixture *f = *state;
    struct etl_sink *sinks[2] = {etl_must_sink(f->db), etl_must_sink(f->db)};
    size_t len = (size_t)4 * 1024 * 1024;
    char *line = malloc(len);
    struct etl_chunk chunk = {"/log", 1, 2, "g", etl_format_named("combined"), {0, 0, 7, 4}, 3};
    int64_t longest = 0;

    assert_non_null(line);
    memset(line, 'x', len);
    for (size_t i = 1; i <= 4; i++)
        line[i * len / 4 - 1] = '\n';
    for (uint64_t i = 0; i < 60; i++) {
        struct etl_counts counts;
        struct etl_batch batch;
        struct etl_err err;

        chunk.cut.begin = i * len;
        chunk.cut.end = chunk.cut.begin + len;
        assert_int_equal(etl_batch_read(&batch, chunk.format, (struct etl_slice){line, len},
                                        chunk.cut.begin, &err),
                         0);
        assert_int_equal(etl_sink_store(sinks[i % 2], &chunk, &batch, &counts, &err), 0);
        assert_int_equal(counts.quarantined, 4);
        longest = file_len(f->db, "-wal") > longest ? file_len(f->db, "-wal") : longest;
        etl_batch_release(&batch);
    }
    assert_true(longest > 0 && longest < 100 * 1024 * 1024);
    free(line);
    etl_sink_close(sinks[0]);
    etl_sink_close(sinks[1]);
    assert_int_equal(file_len(f->db, "-wal"), 0);
}

#define WITH_FOLDER(test)                                                                          \
    cmocka_unit_test_setup_teardown(test, etl_fixture_setup, etl_fixture_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_FOLDER(a_chunk_again_changes_nothing),
        WITH_FOLDER(other_bounds_over_the_same_bytes_double_nothing),
        WITH_FOLDER(two_identical_requests_are_two_events),
        WITH_FOLDER(a_request_id_is_one_event_wherever_it_stands),
        WITH_FOLDER(a_copy_is_another_log),
        WITH_FOLDER(an_append_keeps_the_generation),
        WITH_FOLDER(a_renamed_log_is_the_same),
        WITH_FOLDER(a_truncated_log_is_a_new_generation),
        WITH_FOLDER(the_same_beginning_is_not_enough),
        WITH_FOLDER(an_unfinished_line_is_taken_back),
        WITH_FOLDER(an_unfinished_bad_line_is_taken_back),
        WITH_FOLDER(every_byte_is_kept),
        WITH_FOLDER(a_replaced_chunk_is_refused),
        WITH_FOLDER(a_failed_chunk_leaves_nothing),
        WITH_FOLDER(a_locked_database_is_busy_not_broken),
        WITH_FOLDER(unusable_databases_are_named),
        WITH_FOLDER(a_removed_database_is_noticed),
        WITH_FOLDER(the_write_ahead_log_stays_short),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
