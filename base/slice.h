/*
 * slice.h - a borrowed run of bytes.
 *
 * Purpose: one way to hand text or binary to a function without copying it and without a final NUL.
 * Model: pointer and length; the owner is somebody else and outlives the call, or what the receiver
 * says. An absent value is {NULL, 0}; an empty one has a pointer. Fork rule: none, it is a value.
 */
#ifndef BASE_SLICE_H
#define BASE_SLICE_H

#include <stdbool.h>
#include <stddef.h>
#include <string.h>

struct slice {
    const char *ptr;
    size_t len;
};

/* printf("%.*s", SLICE_ARG(s)) */
#define SLICE_ARG(s) (int)(s).len, (s).ptr ? (s).ptr : ""

static inline struct slice slice_of(const char *text)
{
    return (struct slice){text, text ? strlen(text) : 0};
}

static inline struct slice slice_make(const void *ptr, size_t len)
{
    return (struct slice){ptr, len};
}

static inline bool slice_eq(struct slice a, struct slice b)
{
    return a.len == b.len && (a.len == 0 || memcmp(a.ptr, b.ptr, a.len) == 0);
}

/* A copy, terminated behind its end and malloc'ed; of an absent one "". NULL when out of memory. */
char *slice_dup(struct slice s);

static inline bool slice_is(struct slice a, const char *text)
{
    return slice_eq(a, slice_of(text));
}

#endif
