/*
 * buf.h - a growing byte buffer.
 *
 * Purpose: build and receive bytes without counting them.
 * Model: mem[start..start+len) is content; buf_consume takes from the front without moving memory
 * until room is needed. Invariants: a failed allocation sets `failed` and later appends do nothing,
 * so that a builder checks once, at the end. buf_str always returns terminated text. buf_clear
 * keeps the memory: reuse it. Fork rule: none.
 */
#ifndef BASE_BUF_H
#define BASE_BUF_H

#include "base/analyzer.h"
#include "base/slice.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct buf {
    char *mem;    /* owned */
    size_t start; /* first byte of the content in mem */
    size_t len;
    size_t cap;
    bool failed;
};

#define BUF_INIT                                                                                   \
    {                                                                                              \
        NULL, 0, 0, 0, false                                                                       \
    }

void buf_release(struct buf *b);
void buf_clear(struct buf *b);

/* Makes room for n more bytes and returns where they go (add them with buf_commit), or NULL. */
char *buf_reserve(struct buf *b, size_t n);
void buf_commit(struct buf *b, size_t n);

/* buf_add where there is no room, or nothing to add. */
void buf_add_far(struct buf *b, const void *bytes, size_t n);

/* Inline, because a message is a hundred small pieces: most fit, and of many the length is known.
 * Without memory there is no room. */
ANALYZER_LOSES_SIGHT
static inline void buf_add(struct buf *b, const void *bytes, size_t n)
{
    size_t room = b->cap - b->start - b->len;

    if (b->failed || n > room || n == 0) {
        buf_add_far(b, bytes, n);
        return;
    }
    memcpy(b->mem + b->start + b->len, bytes, n);
    b->len += n;
}
ANALYZER_SEES_AGAIN

static inline void buf_adds(struct buf *b, const char *text)
{
    buf_add(b, text, strlen(text));
}

void buf_addi(struct buf *b, int64_t n); /* in decimal */
void buf_addf(struct buf *b, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* Drops n bytes from the front. */
void buf_consume(struct buf *b, size_t n);

/* The content as terminated text; "" when empty or failed. Borrowed until the next change. */
const char *buf_str(struct buf *b);

/* Hands the content over as malloc'ed, terminated memory and leaves b empty; NULL when an append
 * failed. */
char *buf_detach(struct buf *b, size_t *len_out);

static inline struct slice buf_slice(const struct buf *b)
{
    return slice_make(b->mem ? b->mem + b->start : "", b->len);
}

#endif
