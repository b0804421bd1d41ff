/*
 * etl_report.h - what a load did and what the database holds now, for people and for programs.
 *
 * Model: lines, inserted and duplicates are of this run; rows, quarantine by reason, paths,
 * statuses and times are read back from the database. Both forms have the same content. Bytes that
 * a terminal or JSON could not take are shown as \xNN. Fork rule: none.
 */
#ifndef APP_ETL_REPORT_H
#define APP_ETL_REPORT_H

#include <jansson.h>
#include <stdio.h>

#include "app/etl_jobs.h"
#include "tasks/etl_summary.h"

struct etl_report {
    const char *db;
    const struct etl_set *set;
    const struct etl_totals *totals;
    const struct etl_summary *summary;
};

void etl_report_table(FILE *out, const struct etl_report *report);
void etl_report_json(FILE *out, const struct etl_report *report);

/* Bytes as printable ASCII, anything else as \xNN, shortened to width; the caller frees it. */
char *etl_report_text(const char *bytes, size_t len, size_t width);

#endif
