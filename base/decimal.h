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
#define DECIMAL_SIZE 20

/* n as text at the end of room; not terminated. Borrowed from room. */
static inline struct slice decimal_of(char room[DECIMAL_SIZE], int64_t n)
{
    uint64_t rest = n < 0 ? 0 - (uint64_t)n : (uint64_t)n;
    size_t at = DECIMAL_SIZE;

    do {
        room[--at] = (char)('0' + rest % 10);
        rest /= 10;
    } while (rest);
    if (n < 0)
        room[--at] = '-';
    return slice_make(room + at, DECIMAL_SIZE - at);
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
