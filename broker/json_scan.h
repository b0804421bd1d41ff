/*
 * json_scan.h - a cursor over JSON text that builds nothing.
 *
 * Purpose: find a few members of an object fast, without a value in memory for each of the others.
 * Model: enter a container, ask for its members or elements one after another, take each one's
 * value as the slice of its text. The cursor knows plain JSON only: printable ASCII, escapes that
 * stand for one character, integers of at most 18 digits, no exponents, moderate nesting. What goes
 * beyond is not judged: `failed` is set, and the caller asks a full reader (json_text_read).
 * Invariants: text that is scanned without `failed` is JSON which json_text_read reads as well,
 * with the same members; no byte beyond the text is touched. Source: RFC 8259. Fork rule: none.
 */
#ifndef BROKER_JSON_SCAN_H
#define BROKER_JSON_SCAN_H

#include "base/slice.h"

#include <jansson.h>
#include <stdbool.h>

struct json_scan {
    const char *at; /* borrowed */
    const char *end;
    bool fresh;  /* just inside a container: no comma before the next member */
    bool failed; /* not plain JSON from `at` on; every call returns false from now on */
};

/* text: borrowed while the cursor is used. */
void json_scan_init(struct json_scan *s, struct slice text);

/* Steps into the container that begins here: open is '{' or '['. */
bool json_scan_enter(struct json_scan *s, char open);

/* The next member of the object entered last, its value is next; false at the end of the object,
 * which is passed. key: without quotes, never with an escape. */
bool json_scan_member(struct json_scan *s, struct slice *key);

/* The same for an array. */
bool json_scan_element(struct json_scan *s);

/* The first byte of what comes next, which is not passed; 0 at the end of the text. */
char json_scan_peek(struct json_scan *s);

/* Passes one value of any kind: its type, or -1. text (may be NULL): what stands there, a string
 * without its quotes. escaped (may be NULL): the string holds escapes. */
int json_scan_value(struct json_scan *s, struct slice *text, bool *escaped);

/* True when nothing but white space is left. */
bool json_scan_done(struct json_scan *s);

/* The number that text, passed as JSON_INTEGER, stands for. */
json_int_t json_scan_integer(struct slice text);

#endif
