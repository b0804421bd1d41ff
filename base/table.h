/*
 * table.h - aligned columns for people.
 *
 * Model: name the columns, add cells row by row, print. Columns are as wide as their widest cell;
 * the last one is not padded. A name that begins with '>' makes a right-aligned column. Invariants:
 * control bytes of a cell become '?', so that a message can not steer a terminal; width counts
 * UTF-8 characters. A failed allocation shows as -1 from table_print. Fork rule: none.
 */
#ifndef BASE_TABLE_H
#define BASE_TABLE_H

#include "base/buf.h"

#include <stdbool.h>
#include <stdio.h>

#define TABLE_COLUMNS_MAX 12

struct table {
    const char *names[TABLE_COLUMNS_MAX]; /* borrowed; "" for a table without a head */
    size_t columns;
    struct buf cells; /* terminated texts, one behind the other */
    size_t cells_len;
};

/* names: NULL-terminated. */
void table_init(struct table *t, const char *const *names);
void table_release(struct table *t);

/* text NULL: "-". */
void table_cell(struct table *t, const char *text);
void table_cellf(struct table *t, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* Prints a bold head if bold. With no rows only the head. */
int table_print(struct table *t, FILE *to, bool bold);

#endif
