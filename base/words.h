/*
 * words.h - a growing list of texts that it owns.
 *
 * Purpose: names of queues, ids from standard input, values of an option: one way to keep them.
 * Model: items[0..len) are terminated copies in the order they were added. Invariants: an add that
 * fails leaves the list as it was. A zeroed structure is an empty list. Fork rule: none.
 */
#ifndef BASE_WORDS_H
#define BASE_WORDS_H

#include "base/slice.h"

#include <stdbool.h>
#include <stddef.h>

struct words {
    char **items; /* owned, each of them too */
    size_t len;
    size_t cap;
};

#define WORDS_INIT                                                                                 \
    {                                                                                              \
        NULL, 0, 0                                                                                 \
    }

/* Frees everything; the list is empty then. */
void words_release(struct words *w);

/* Adds a copy of the text. -1 when out of memory. */
int words_add(struct words *w, struct slice text);

bool words_has(const struct words *w, struct slice text);

/* By strcmp. */
void words_sort(struct words *w);

#endif
