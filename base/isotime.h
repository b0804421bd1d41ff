/*
 * isotime.h - ISO-8601 times as Celery writes and reads them.
 *
 * Model: milliseconds since 1970-01-01 UTC on our side. Written form:
 * 2026-11-21T01:48:22.848590+00:00. Read: the offset form, "Z", a naive time (taken as UTC,
 * Celery's default), any number of fraction digits, "T" or a space. Fork rule: none; no locale and
 * no time zone database is consulted.
 */
#ifndef BASE_ISOTIME_H
#define BASE_ISOTIME_H

#include <stddef.h>
#include <stdint.h>

#define ISOTIME_SIZE 33

/* out gets terminated text; wall_us in microseconds since 1970. */
void isotime_format_us(int64_t wall_us, char out[ISOTIME_SIZE]);

/* 0 and *wall_ms, or -1 when the text is not a time. */
int isotime_parse(const char *text, int64_t *wall_ms);

/* Microseconds since 1970, now. */
int64_t isotime_now_us(void);

#endif
