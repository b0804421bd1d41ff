/*
 * etl_fixture.h - a folder with a log and a database, for the tests of sources and sinks.
 *
 * Purpose: each test gets an empty folder that is removed afterwards. Fork rule: none.
 */
#ifndef TESTS_ETL_FIXTURE_H
#define TESTS_ETL_FIXTURE_H

#include "tasks/etl_sink.h"
#include "tests/support/check.h"

struct etl_fixture {
    char folder[64];
    char log[96];
    char db[96];
    char spool[96];
};

/* cmocka's setup and teardown; *state is the fixture. */
int etl_fixture_setup(void **state);
int etl_fixture_teardown(void **state);

void etl_write_file(const char *path, const char *mode, const char *data, size_t len);
void etl_write_text(const char *path, const char *text);
void etl_append_text(const char *path, const char *text);

/* Opens with an assertion. */
void etl_must_open(struct etl_source *source, const char *path, const char *spool);
struct etl_sink *etl_must_sink(const char *db);

/* The first number of a query. */
int64_t etl_number(const char *db, const char *sql);

/* The chunks of one load, in order: all of the log, cut at wanted_len. Sums their counts. */
struct etl_counts etl_load(struct etl_sink *sink, const char *path, const char *spool,
                           uint64_t wanted_len);

#endif
