/*
 * json_text.h - JSON text as Python writes it, and reading it within bounds.
 *
 * Purpose: the messages and results of Celery are compared, logged and looked at by people next to
 * ours, so ours have the same bytes as json.dumps with its defaults: separators ", " and ": ", all
 * but printable ASCII escaped as \uXXXX in lower case, reals in their shortest form that reads back
 * as the same number. Model: the writer appends to a struct buf without an intermediate copy; the
 * reader is jansson behind a count of the values, since one byte of text ("[") can cost a hundred
 * bytes of memory. Invariants: no input makes the writer or the reader recurse deeper than
 * JSON_PARSER_MAX_DEPTH (2,048); a value that contains itself is refused. Fork rule: none.
 */
#ifndef BROKER_JSON_TEXT_H
#define BROKER_JSON_TEXT_H

#include "base/buf.h"
#include "base/err.h"

#include <jansson.h>
#include <stdint.h>

/* More values than this in one text are refused. */
#define JSON_TEXT_VALUES_MAX (4u * 1000 * 1000)

/* text as a JSON string with its quotes. ERR_USAGE when it is not UTF-8; nothing is appended then.
 */
int json_text_string(struct buf *out, struct slice text, struct err *e);

/* How many bytes in front stand for themselves in a JSON string as Python writes it: printable
 * ASCII but quote and backslash. */
size_t json_text_run(const char *text, size_t n);

/* A value of any kind; NULL is written as null. ERR_USAGE for one nested too deep or in itself. */
int json_text_value(struct buf *out, const json_t *value, struct err *e);

/* value as Python's repr writes a float ("0.1", "1e+16", "2.0"); it must be finite. */
void json_text_real(struct buf *out, double value);

/* Bytes of the UTF-8 sequence at p, where n > 0 bytes are left; 0 when it is none. *code gets the
 * code point. */
size_t json_text_utf8(const unsigned char *p, size_t n, uint32_t *code);

/* A new reference, or NULL with ERR_DEADLETTER: "WHAT is not JSON: cause". Duplicate keys: the last
 * one wins, as in Python. \u0000 is allowed in values, not in keys. NaN, Infinity and integers
 * beyond 64 bits, which Python would take, are refused. */
json_t *json_text_read(struct slice text, const char *what, struct err *e);

/* A shallow copy of an object or array, or NULL: jansson's own leaves out members that it has no
 * memory for. */
json_t *json_text_copy(const json_t *value);

/* jansson 2.14 drops a character of a text silently when it has no memory for it, and calls a
 * string that it has none for an invalid token. After this call json_text_read knows: ERR_NOMEM. It
 * sets the process's allocator of jansson, so it is for a program of ours to call, at its start,
 * not for a library. */
void json_text_watch_memory(void);

#endif
