/*
 * etl_field.h - the fields of an access-log line: how each is read, and what its bytes mean.
 *
 * Purpose: everything below the level of a line. A field reader gets the bytes of one field, says
 * whether they are a valid one, and decodes them. docs/etl-format.md is the contract (sections 3,
 * 4 and 5 there).
 *
 * Model: fields are slices: borrowed bytes with a length, never ended by NUL. `at == NULL` is
 * "null", which is not the same as an empty slice. Unescaped text needs memory of its own; it comes
 * from a bump arena that the caller made at least as large as the escaped text, so nothing here
 * allocates or can run out.
 *
 * Fork and threads: pure functions, no state.
 */
#ifndef CELERIAC_ETL_FIELD_H
#define CELERIAC_ETL_FIELD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define ETL_TIME_LEN       26 /* dd/Mon/yyyy:HH:MM:SS +hhmm */
#define ETL_REQUEST_ID_LEN 16 /* bytes; twice as many hexadecimal digits in the log */

struct etl_slice {
    const char *at; /* borrowed; NULL: null */
    size_t len;
};

/* Memory for unescaped text, given back all at once by its owner. */
struct etl_arena {
    char *at; /* owned by whoever made the arena */
    size_t used;
    size_t cap;
};

bool etl_field_is_ipv4(struct etl_slice text);
bool etl_field_is_ipv6(struct etl_slice text);
bool etl_field_is_address(struct etl_slice text);

/* name ":" port, and not an address as a whole. */
bool etl_field_is_vhost(struct etl_slice text);

/* text points at ETL_TIME_LEN readable bytes. utc_s: seconds since 1970; zone_min: minutes east. */
bool etl_field_time(const char *text, int64_t *utc_s, int32_t *zone_min);

/* Exactly three digits. */
bool etl_field_status(struct etl_slice text, int32_t *status);

/* `-` (0) or 1-19 digits of at most 2^63-1. */
bool etl_field_bytes(struct etl_slice text, int64_t *bytes);

/* 1-10 digits, a point, 3 digits; in milliseconds. */
bool etl_field_duration(struct etl_slice text, int64_t *duration_ms);

/* 32 hexadecimal digits. */
bool etl_field_request_id(struct etl_slice text, unsigned char id[ETL_REQUEST_ID_LEN]);

/* Length of the quoted string that begins at text (its opening quote), both quotes included; 0 when
 * there is none or the text ends inside. */
size_t etl_field_quoted_len(struct etl_slice text);

/* The text with its escapes resolved: the slice itself when it has none, else bytes in the arena,
 * which must have text.len bytes left. */
struct etl_slice etl_field_unescape(struct etl_slice text, struct etl_arena *arena);

/* Splits "method SP target SP protocol"; false when the request does not read so. */
bool etl_field_request(struct etl_slice text, struct etl_slice *method, struct etl_slice *target,
                       struct etl_slice *protocol);

#endif
