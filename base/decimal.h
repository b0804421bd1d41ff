/*
 * decimal.h - integers as text, without printf.
 *
 * Purpose: numbers go into every command, key and document of a job, where printf would be a tenth
 * of its cost. Model: digits are written from the end of a small array, or into a field of fixed
 * width. Locale has no say. Fork rule: none, plain values.
 */
#ifndef BASE_DECIMAL_H
#define BASE_DECIMAL_H

#include "base/slice.h"

#include <stdint.h>

/* Room for any 64-bit integer and its sign. */
struct decimal {
    char text[20];
};

/* n as text inside room; not terminated. Borrowed from room. */
static inline struct slice decimal_of(struct decimal *room, int64_t n)
{
    uint64_t rest = n < 0 ? 0 - (uint64_t)n : (uint64_t)n;
    char *end = room->text + sizeof(room->text), *at = end;

    do {
        *--at = (char)('0' + rest % 10);
        rest /= 10;
    } while (rest);
    if (n < 0)
        *--at = '-';
    return slice_make(at, (size_t)(end - at));
}

/* Exactly width digits of n, the lowest ones, with leading zeros. */
static inline void decimal_fill(char *to, int width, uint64_t n)
{
    while (width-- > 0) {
        to[width] = (char)('0' + n % 10);
        n /= 10;
    }
}

#endif
