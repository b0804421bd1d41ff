#include "app/etl_report.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/buf.h"

#define PATH_WIDTH 60

static const int percents[ETL_PERCENTILES] = {50, 95, 99};

char *etl_report_text(const char *bytes, size_t len, size_t width)
{
    struct buf text = BUF_INIT;

    for (size_t i = 0; i < len; i++) {
        unsigned char c = (unsigned char)bytes[i];

        if (text.len + 4 > width && i + 1 < len) {
            buf_adds(&text, "...");
            break;
        }
        if (c >= 0x20 && c < 0x7F && c != '\\')
            buf_add(&text, &bytes[i], 1);
        else
            buf_addf(&text, "\\x%02x", c);
    }
    buf_adds(&text, "");
    return buf_detach(&text, NULL);
}

static double lines_per_s(const struct etl_totals *totals)
{
    return totals->seconds > 0 ? (double)totals->counts.lines / totals->seconds : 0;
}

static void minute_text(int64_t time_s, char *text, size_t size)
{
    time_t when = (time_t)time_s;
    struct tm tm;

    if (gmtime_r(&when, &tm) == NULL || strftime(text, size, "%Y-%m-%d %H:%M UTC", &tm) == 0)
        snprintf(text, size, "%" PRId64, time_s);
}

static void row_number(FILE *out, const char *name, uint64_t value)
{
    fprintf(out, "  %-24s %12" PRIu64 "\n", name, value);
}

static void table_counts(FILE *out, const struct etl_report *report)
{
    const struct etl_counts *counts = &report->totals->counts;

    fprintf(out, "This run\n");
    row_number(out, "lines", report->set->lines);
    row_number(out, "inserted", counts->inserted);
    row_number(out, "quarantined", counts->quarantined);
    for (int i = ETL_OK + 1; i < ETL_REASONS; i++)
        if (counts->reasons[i] > 0)
            fprintf(out, "    %-22s %12" PRIu64 "\n", etl_reason_name((enum etl_reason)i),
                    counts->reasons[i]);
    row_number(out, "duplicates", counts->duplicates);
    if (counts->inserted == 0 && report->set->lines > 0)
        fprintf(out, "  nothing new: every event of these logs was in the database already\n");
}

static void table_paths(FILE *out, const struct etl_summary *summary)
{
    if (summary->top_len > 0)
        fprintf(out, "\nTop paths\n");
    for (size_t i = 0; i < summary->top_len; i++) {
        char *text = etl_report_text(summary->top[i].bytes, summary->top[i].len, PATH_WIDTH);

        fprintf(out, "  %12" PRIu64 "  %s\n", summary->top[i].count, text != NULL ? text : "");
        free(text);
    }
}

static void table_statuses(FILE *out, const struct etl_summary *summary)
{
    fprintf(out, "\nStatus classes\n");
    for (int i = 0; i < ETL_STATUS_CLASSES; i++)
        if (summary->status[i] > 0)
            fprintf(out, "  %12" PRIu64 "  %dxx\n", summary->status[i], i);
}

static void table_times(FILE *out, const struct etl_summary *summary)
{
    char minute[40];

    if (summary->busiest_count > 0) {
        minute_text(summary->busiest_minute_s, minute, sizeof(minute));
        fprintf(out, "  %-24s %12s  (%" PRIu64 " events)\n", "busiest minute", minute,
                summary->busiest_count);
    }
    for (int i = 0; summary->timed > 0 && i < ETL_PERCENTILES; i++) {
        char name[32];

        snprintf(name, sizeof(name), "request time p%d", percents[i]);
        fprintf(out, "  %-24s %12.3f s\n", name, (double)summary->percentile_ms[i] / 1000);
    }
}

static void table_database(FILE *out, const struct etl_report *report)
{
    const struct etl_summary *summary = report->summary;

    fprintf(out, "\nDatabase %s\n", report->db);
    row_number(out, "rows", summary->rows);
    row_number(out, "in quarantine", summary->quarantined);
    fprintf(out, "  %-24s %12.0f\n", "bytes", summary->bytes);
    table_times(out, summary);
    table_statuses(out, summary);
    table_paths(out, summary);
}

static void table_runners(FILE *out, const struct etl_totals *totals)
{
    fprintf(out, "\nRunners\n  %10s %8s %10s\n", "PID", "JOBS", "CPU S");
    for (size_t i = 0; i < totals->runners_len; i++)
        fprintf(out, "  %10" PRId64 " %8" PRIu64 " %10.3f\n", totals->runners[i].pid,
                totals->runners[i].jobs, totals->runners[i].cpu_s);
    fprintf(out, "  %" PRIu64 " jobs in %.3f s, %.0f lines per second\n", totals->jobs,
            totals->seconds, lines_per_s(totals));
}

void etl_report_table(FILE *out, const struct etl_report *report)
{
    table_counts(out, report);
    table_database(out, report);
    table_runners(out, report->totals);
}

static json_t *reasons_json(const uint64_t reasons[ETL_REASONS])
{
    json_t *object = json_object();

    for (int i = ETL_OK + 1; i < ETL_REASONS; i++)
        if (reasons[i] > 0)
            json_object_set_new(object, etl_reason_name((enum etl_reason)i),
                                json_integer((json_int_t)reasons[i]));
    return object;
}

static json_t *paths_json(const struct etl_summary *summary)
{
    json_t *list = json_array();

    for (size_t i = 0; i < summary->top_len; i++) {
        char *text = etl_report_text(summary->top[i].bytes, summary->top[i].len, SIZE_MAX);

        json_array_append_new(list, json_pack("{s:s, s:I}", "path", text != NULL ? text : "",
                                              "count", (json_int_t)summary->top[i].count));
        free(text);
    }
    return list;
}

static json_t *statuses_json(const struct etl_summary *summary)
{
    json_t *object = json_object();
    char name[] = "0xx";

    for (int i = 0; i < ETL_STATUS_CLASSES; i++) {
        name[0] = (char)('0' + i);
        if (summary->status[i] > 0)
            json_object_set_new(object, name, json_integer((json_int_t)summary->status[i]));
    }
    return object;
}

static json_t *minute_json(const struct etl_summary *summary)
{
    char minute[40];

    if (summary->busiest_count == 0)
        return json_null();
    minute_text(summary->busiest_minute_s, minute, sizeof(minute));
    return json_pack("{s:s, s:I, s:I}", "minute", minute, "time",
                     (json_int_t)summary->busiest_minute_s, "count",
                     (json_int_t)summary->busiest_count);
}

static json_t *percentiles_json(const struct etl_summary *summary)
{
    json_t *object = summary->timed > 0 ? json_object() : json_null();
    char name[8];

    for (int i = 0; summary->timed > 0 && i < ETL_PERCENTILES; i++) {
        snprintf(name, sizeof(name), "p%d", percents[i]);
        json_object_set_new(object, name, json_real((double)summary->percentile_ms[i] / 1000));
    }
    return object;
}

static json_t *runners_json(const struct etl_totals *totals)
{
    json_t *list = json_array();

    for (size_t i = 0; i < totals->runners_len; i++)
        json_array_append_new(list, json_pack("{s:I, s:I, s:f}", "pid",
                                              (json_int_t)totals->runners[i].pid, "jobs",
                                              (json_int_t)totals->runners[i].jobs, "cpu_s",
                                              totals->runners[i].cpu_s));
    return list;
}

/* An integer as long as it is exact. */
static json_t *bytes_json(double bytes)
{
    return bytes < 9007199254740992.0 ? json_integer((json_int_t)bytes) : json_real(bytes);
}

static void json_numbers(json_t *object, const struct etl_report *report)
{
    const struct etl_counts *counts = &report->totals->counts;
    const struct {
        const char *key;
        uint64_t value;
    } numbers[] = {
        {"logs", report->set->logs_len},
        {"lines", report->set->lines},
        {"rows", report->summary->rows},
        {"inserted", counts->inserted},
        {"quarantined", counts->quarantined},
        {"duplicates", counts->duplicates},
        {"in_quarantine", report->summary->quarantined},
        {"jobs", report->totals->jobs},
        {"jobs_failed", report->totals->failed},
        {"jobs_replayed", report->totals->replayed},
    };

    for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++)
        json_object_set_new(object, numbers[i].key, json_integer((json_int_t)numbers[i].value));
}

void etl_report_json(FILE *out, const struct etl_report *report)
{
    json_t *object = json_object();

    json_object_set_new(object, "db", json_string(report->db));
    json_numbers(object, report);
    json_object_set_new(object, "reasons", reasons_json(report->totals->counts.reasons));
    json_object_set_new(object, "lines_per_s", json_real(lines_per_s(report->totals)));
    json_object_set_new(object, "seconds", json_real(report->totals->seconds));
    json_object_set_new(object, "bytes", bytes_json(report->summary->bytes));
    json_object_set_new(object, "status", statuses_json(report->summary));
    json_object_set_new(object, "top_paths", paths_json(report->summary));
    json_object_set_new(object, "busiest_minute", minute_json(report->summary));
    json_object_set_new(object, "request_time_s", percentiles_json(report->summary));
    json_object_set_new(object, "runners", runners_json(report->totals));
    json_dumpf(object, out, JSON_COMPACT | JSON_REAL_PRECISION(12));
    fputc('\n', out);
    json_decref(object);
}
