/*
 * etl_summary.h - what a database of events says, in a few numbers.
 *
 * Purpose: the report of `celeriac etl load`, read back from the database and not from what the
 * jobs claimed.
 *
 * Model: one read-only pass per question, inside one transaction, so that the numbers belong
 * together even while others write. Afterwards the write-ahead log is folded into the database, if
 * nobody is using it: a report stands at the end of a load.
 *
 * Fork and threads: opens and closes a handle of its own.
 */
#ifndef CELERIAC_ETL_SUMMARY_H
#define CELERIAC_ETL_SUMMARY_H

#include <stddef.h>
#include <stdint.h>

#include "tasks/etl_err.h"
#include "tasks/etl_line.h"

#define ETL_TOP_PATHS       10
#define ETL_STATUS_CLASSES  10 /* by the first digit */
#define ETL_PERCENTILES     3  /* 50, 95, 99 */
#define ETL_SUMMARY_BUSY_MS 20000

struct etl_top_path {
    char *bytes; /* owned; may hold any byte */
    size_t len;
    uint64_t count;
};

struct etl_summary {
    uint64_t rows;
    uint64_t quarantined;
    uint64_t reasons[ETL_REASONS];
    struct etl_top_path top[ETL_TOP_PATHS];
    size_t top_len;
    uint64_t status[ETL_STATUS_CLASSES];
    double bytes; /* a sum that may exceed 64 bits */
    int64_t busiest_minute_s;
    uint64_t busiest_count; /* 0: there are no events */
    int64_t percentile_ms[ETL_PERCENTILES];
    uint64_t timed; /* events that have a request time */
};

int etl_summary_read(struct etl_summary *summary, const char *db, struct etl_err *err);
void etl_summary_release(struct etl_summary *summary);

#endif
