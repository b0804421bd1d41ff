/*
 * json_plain.h - values of plain JSON text, without jansson's reader.
 *
 * Purpose: the arguments of most jobs are plain JSON (json_scan.h), which need not be read letter by
 * letter: jansson's reader takes a hundred instructions for a byte of a string, a copy takes one.
 * Model: the cursor passes over the text, jansson's constructors make the values. Text that is not
 * plain, or for which there is no memory, is left to json_text_read, which judges it. Invariants:
 * what is made equals what json_text_read makes of the same text. Fork rule: none.
 */
#ifndef BROKER_JSON_PLAIN_H
#define BROKER_JSON_PLAIN_H

#include "base/slice.h"

#include <jansson.h>

/* A new reference, or NULL: ask json_text_read. */
json_t *json_plain_read(struct slice text);

#endif
