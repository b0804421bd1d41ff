#include "base/buf.h"

#include "base/decimal.h"

#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

void buf_release(struct buf *b)
{
    free(b->mem);
    *b = (struct buf)BUF_INIT;
}

void buf_clear(struct buf *b)
{
    b->start = 0;
    b->len = 0;
    b->failed = false;
}

/* Moves the content to the front. */
static void compact(struct buf *b)
{
    if (b->start && b->len)
        memmove(b->mem, b->mem + b->start, b->len);
    b->start = 0;
}

static bool grow(struct buf *b, size_t need)
{
    size_t cap = b->cap ? b->cap : 256;
    char *mem;

    while (cap < need) {
        if (cap > SIZE_MAX / 2)
            return false;
        cap *= 2;
    }
    mem = realloc(b->mem, cap);
    if (!mem)
        return false;
    b->mem = mem;
    b->cap = cap;
    return true;
}

char *buf_reserve(struct buf *b, size_t n)
{
    if (b->failed || n > SIZE_MAX / 2 - b->len) {
        b->failed = true;
        return NULL;
    }
    if (b->cap - b->start >= b->len + n)
        return b->mem + b->start + b->len;
    /* Cheaper than growing when half was consumed; a long queue that loses little at its front is
     * not moved each time. */
    if (b->start >= b->len)
        compact(b);
    if (b->cap - b->start < b->len + n && !grow(b, b->start + b->len + n)) {
        b->failed = true;
        return NULL;
    }
    return b->mem + b->start + b->len;
}

void buf_commit(struct buf *b, size_t n)
{
    b->len += n;
}

void buf_add_far(struct buf *b, const void *bytes, size_t n)
{
    char *to;

    if (n == 0)
        return;
    to = buf_reserve(b, n);
    if (!to)
        return;
    memcpy(to, bytes, n);
    b->len += n;
}

void buf_addi(struct buf *b, int64_t n)
{
    char room[DECIMAL_SIZE];
    struct slice text = decimal_of(room, n);

    buf_add(b, text.ptr, text.len);
}

void buf_addf(struct buf *b, const char *fmt, ...)
{
    va_list ap;
    char *to;
    int n;

    va_start(ap, fmt);
    n = vsnprintf(NULL, 0, fmt, ap);
    va_end(ap);
    if (n < 0 || !(to = buf_reserve(b, (size_t)n + 1))) {
        b->failed = true;
        return;
    }
    va_start(ap, fmt);
    vsnprintf(to, (size_t)n + 1, fmt, ap);
    va_end(ap);
    b->len += (size_t)n;
}

void buf_consume(struct buf *b, size_t n)
{
    b->start += n;
    b->len -= n;
    if (b->len == 0)
        b->start = 0;
}

const char *buf_str(struct buf *b)
{
    char *end = buf_reserve(b, 1);

    if (!end)
        return "";
    *end = '\0';
    return b->mem + b->start;
}

char *buf_detach(struct buf *b, size_t *len_out)
{
    char *mem = NULL;

    buf_str(b);
    if (!b->failed) {
        compact(b);
        b->mem[b->len] = '\0';
        mem = b->mem;
        if (len_out)
            *len_out = b->len;
        *b = (struct buf)BUF_INIT;
    }
    return mem;
}
