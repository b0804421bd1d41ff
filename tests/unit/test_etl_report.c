/* What is read back from the database: the summary, and the check against the log. */
#include "tasks/etl_summary.h"
#include "tasks/etl_verify.h"
#include "tests/unit/etl_fixture.h"

#include <sqlite3.h>
#include <stdio.h>

#define LINE(time, path, status, bytes, ms, id)                                                    \
    "192.0.2.7 - - [10/Oct/2000:" time " +0000] \"GET " path " HTTP/1.0\" " status " " bytes       \
    " \"-\" \"-\" " ms " 000000000000000000000000000000" id "\n"

static const char log_text[] = LINE("13:55:36", "/a", "200", "5", "0.001", "01")
    LINE("13:56:00", "/b?q", "200", "9223372036854775807", "0.010", "02")
        LINE("13:56:59", "/a", "301", "9223372036854775807", "0.002", "03")
            LINE("13:57:00", "/a", "009", "-", "9.000", "04")
                LINE("13:57:00", "/a", "404", "1", "0.003", "04") "\nnoise\nnoise\n";

static void load(const struct etl_fixture *f)
{
    struct etl_sink *sink = etl_must_sink(f->db);

    etl_load(sink, f->log, f->spool, 100);
    etl_sink_close(sink);
}

static void a_summary_of_everything(void **state)
{
    struct etl_fixture *f = *state;
    struct etl_summary summary;
    struct etl_err err;

    etl_write_text(f->log, log_text);
    load(f);
    assert_int_equal(etl_summary_read(&summary, f->db, &err), 0);
    assert_int_equal(summary.rows, 4);
    assert_int_equal(summary.quarantined, 3);
    assert_int_equal(summary.reasons[ETL_EMPTY], 1);
    assert_int_equal(summary.reasons[ETL_ADDRESS], 2);
    assert_int_equal(summary.top_len, 2);
    assert_string_equal(summary.top[0].bytes, "/a");
    assert_int_equal(summary.top[0].count, 3);
    assert_int_equal(summary.status[0], 1);
    assert_int_equal(summary.status[2], 2);
    assert_int_equal(summary.status[3], 1);
    assert_true(summary.bytes > 1.8e19);
    assert_int_equal(summary.busiest_minute_s, 971186160);
    assert_int_equal(summary.busiest_count, 2);
    assert_int_equal(summary.timed, 4);
    assert_int_equal(summary.percentile_ms[0], 2);
    assert_int_equal(summary.percentile_ms[1], 9000);
    etl_summary_release(&summary);
}

static void no_database_no_summary(void **state)
{
    struct etl_fixture *f = *state;
    struct etl_summary summary;
    struct etl_err err;

    assert_int_equal(etl_summary_read(&summary, f->db, &err), -1);
    assert_non_null(strstr(err.text, "no such database"));
}

static struct etl_verdict verify(const struct etl_fixture *f)
{
    struct etl_sink *sink = etl_must_sink(f->db);
    struct etl_source source;
    struct etl_place place;
    struct etl_verdict verdict;
    struct etl_err err;

    etl_must_open(&source, f->log, f->spool);
    assert_int_equal(etl_sink_place(sink, &source, NULL, &place, &err), 0);
    assert_true(place.known);
    if (etl_verify(f->db, &source, &place, &verdict, &err) != 0)
        fail_msg("%s", err.text);
    assert_int_equal(verdict.rows + verdict.quarantined + verdict.duplicates + verdict.missing +
                         verdict.wrong,
                     verdict.lines);
    etl_place_release(&place);
    etl_source_close(&source);
    etl_sink_close(sink);
    return verdict;
}

static void change(const struct etl_fixture *f, const char *sql)
{
    sqlite3 *db;

    assert_int_equal(sqlite3_open(f->db, &db), SQLITE_OK);
    assert_int_equal(sqlite3_exec(db, sql, NULL, NULL, NULL), SQLITE_OK);
    assert_int_equal(sqlite3_changes(db), 1);
    sqlite3_close(db);
}

static void a_load_is_verified(void **state)
{
    struct etl_fixture *f = *state;
    struct etl_verdict verdict;

    etl_write_text(f->log, log_text);
    load(f);
    verdict = verify(f);
    assert_true(etl_verdict_is_clean(&verdict));
    assert_int_equal(verdict.lines, 8);
    assert_int_equal(verdict.rows, 4);
    assert_int_equal(verdict.quarantined, 3);
    assert_int_equal(verdict.duplicates, 1);
}

static void every_damage_is_found(void **state)
{
    struct etl_fixture *f = *state;
    struct etl_verdict verdict;

    etl_write_text(f->log, log_text);
    load(f);
    change(f, "UPDATE event SET status = 500 WHERE path = '/b'");
    verdict = verify(f);
    assert_int_equal(verdict.wrong, 1);
    change(f, "DELETE FROM event WHERE path = '/b'");
    change(f, "DELETE FROM quarantine WHERE reason = 'empty'");
    verdict = verify(f);
    assert_int_equal(verdict.missing, 2);
    change(f, "UPDATE quarantine SET id = id + 1 WHERE id = (SELECT max(id) FROM quarantine)");
    verdict = verify(f);
    assert_int_equal(verdict.missing, 3);
    assert_int_equal(verdict.extra, 1);
    assert_false(etl_verdict_is_clean(&verdict));
}

static void an_unknown_log_is_said_to_be_unknown(void **state)
{
    struct etl_fixture *f = *state;
    struct etl_sink *sink = etl_must_sink(f->db);
    struct etl_source source;
    struct etl_place place;
    struct etl_err err;

    etl_write_text(f->log, log_text);
    etl_must_open(&source, f->log, f->spool);
    assert_int_equal(etl_sink_place(sink, &source, NULL, &place, &err), 0);
    assert_false(place.known);
    assert_int_equal(etl_number(f->db, "SELECT count(*) FROM source"), 0);
    etl_source_close(&source);
    etl_sink_close(sink);
}

static void loaded_logs_are_listed_once(void **state)
{
    struct etl_fixture *f = *state;
    struct etl_paths paths;
    struct etl_err err;

    etl_write_text(f->log, log_text);
    load(f);
    etl_write_text(f->log, "another generation\n");
    load(f);
    assert_int_equal(etl_paths_read(&paths, f->db, &err), 0);
    assert_int_equal(paths.len, 1);
    assert_string_equal(paths.items[0], f->log);
    etl_paths_release(&paths);
}

#define WITH_FOLDER(test)                                                                          \
    cmocka_unit_test_setup_teardown(test, etl_fixture_setup, etl_fixture_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_FOLDER(a_summary_of_everything),
        WITH_FOLDER(no_database_no_summary),
        WITH_FOLDER(a_load_is_verified),
        WITH_FOLDER(every_damage_is_found),
        WITH_FOLDER(an_unknown_log_is_said_to_be_unknown),
        WITH_FOLDER(loaded_logs_are_listed_once),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
