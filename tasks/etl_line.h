/*
 * etl_line.h - one line of an access log: the event in it, or the reason why there is none.
 *
 * Purpose: the pure heart of the ETL tasks. docs/etl-format.md is its contract, and the test
 * `etl_agree` holds it against an independent parser in Python, line by line.
 *
 * Model: a line is a byte range of a file, with its LF. Its text (LF, one CR and a leading BOM
 * taken off) either parses as the file's format and is an event, or it is bad with exactly one
 * reason. A format is a row of flags, so a further one of the same family is one more row.
 *
 * Invariants:
 * 1. Every line is an event or bad with one reason; no input makes the reader fail or allocate.
 * 2. All slices of an event point into the line or into the arena; both must outlive it.
 * 3. The arena needs as many free bytes as the line is long, no more.
 * 4. No text parses as two formats.
 *
 * Fork and threads: pure functions, no state.
 */
#ifndef CELERIAC_ETL_LINE_H
#define CELERIAC_ETL_LINE_H

#include "tasks/etl_field.h"

/* Grows whenever a line may get another verdict or value than before; part of every ledger key. */
#define ETL_FORMAT_VERSION 1

#define ETL_LINE_MAX_LEN    1048576 /* without its LF; longer ones are ETL_TOO_LONG */
#define ETL_FORMAT_SAMPLE   1000    /* lines that vote for a file's format */
#define ETL_FORMATS         4
#define ETL_DURATION_ABSENT (-1)

enum etl_reason {
    ETL_OK,
    ETL_TOO_LONG,
    ETL_EMPTY,
    ETL_FORMAT, /* a line of another format than its file */
    ETL_GLUED,
    ETL_VHOST,
    ETL_ADDRESS,
    ETL_USER,
    ETL_TIME,
    ETL_REQUEST,
    ETL_STATUS,
    ETL_BYTES,
    ETL_REFERER,
    ETL_AGENT,
    ETL_REQUEST_TIME,
    ETL_REQUEST_ID,
    ETL_TRAILING,
    ETL_REASONS /* how many there are */
};

struct etl_format {
    const char *name;
    bool has_vhost;
    bool has_agent; /* referer and agent */
    bool has_timed; /* request time and request id */
};

struct etl_event {
    struct etl_slice vhost;
    struct etl_slice address;
    struct etl_slice user;
    struct etl_slice method;
    struct etl_slice path;
    struct etl_slice query;
    struct etl_slice protocol;
    struct etl_slice request; /* what was asked, when it does not read as a request; else null */
    struct etl_slice referer;
    struct etl_slice agent;
    int64_t time_s; /* since 1970, UTC */
    int64_t bytes;
    int64_t duration_ms; /* or ETL_DURATION_ABSENT */
    int32_t zone_min;
    int32_t status;
    bool has_request_id;
    unsigned char request_id[ETL_REQUEST_ID_LEN];
};

/* The table of formats, in the order in which ties are decided. i < ETL_FORMATS. */
const struct etl_format *etl_format_at(size_t i);

/* NULL when there is no such format. */
const struct etl_format *etl_format_named(const char *name);

/* Chooses by majority of the first ETL_FORMAT_SAMPLE lines; data begins at offset 0 of the file. */
const struct etl_format *etl_format_choose(struct etl_slice data);

/* "too_long", "empty", ...; "ok" for ETL_OK. */
const char *etl_reason_name(enum etl_reason reason);

/* Length of the line that begins at data, with its LF; data.len > 0. */
size_t etl_line_len(struct etl_slice data);

/* Reads one line (with its LF, if it has one) that begins at this offset of its file. */
enum etl_reason etl_line_read(const struct etl_format *format, struct etl_slice line,
                              uint64_t offset, struct etl_arena *arena, struct etl_event *event);

#endif
