/*
 * etl_canon.h - a read line as text, always the same bytes for the same line.
 *
 * Purpose: the canonical output of docs/etl-format.md, section 7. `celeriac etl parse` prints it,
 * and the tests compare it with what the independent parser prints.
 *
 * Model: bytes, not characters: what is not printable ASCII becomes \u00NN of the byte.
 *
 * Fork rule: holds nothing between calls.
 */
#ifndef CELERIAC_ETL_CANON_H
#define CELERIAC_ETL_CANON_H

#include <stdio.h>

#include "tasks/etl_batch.h"

/* The line about the file. */
void etl_canon_format(FILE *out, const struct etl_format *format);

/* One line about each record; the first has this line number. Errors are left in the stream. */
void etl_canon_batch(FILE *out, const struct etl_batch *batch, uint64_t first_line);

#endif
