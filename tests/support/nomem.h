/*
 * nomem.h - memory that runs out at the N-th request of our code.
 *
 * Purpose: a test repeats a piece of work, failing one request after the other, until none is left
 * to fail. Model: the linker sends our code's malloc, calloc, realloc, strdup, strndup, tsearch and
 * inflateInit_ here (--wrap in tests/unit); jansson and zlib are told to allocate here.
 * Outside of nomem_begin .. nomem_end everything succeeds. Invariants: requests are counted, so
 * that a run in which none failed is known to be the last. Fork rule: one count per process.
 */
#ifndef TESTS_NOMEM_H
#define TESTS_NOMEM_H

#include "base/buf.h"
#include "base/err.h"

#include <stdbool.h>

enum nomem_mode {
    NOMEM_ONCE, /* the N-th request alone fails */
    NOMEM_ON    /* and all behind it */
};

/* Once per program, before jansson is used. */
void nomem_init(void);

/* n: from 1 on. */
void nomem_begin(long n, enum nomem_mode mode);

/* True when a request failed since nomem_begin. */
bool nomem_end(void);

/* Does a piece of work once. 0: done, and `out` says what came out of it; -1 with e. */
typedef int nomem_work_fn(const void *user, struct buf *out, struct err *e);

struct nomem_work {
    const char *name;
    nomem_work_fn *run;
    const void *user;
};

/* Repeats the work, failing one request after the other, alone and with all behind it: every run
 * must end with ERR_NOMEM or with the same outcome as the run that had all its memory. */
void nomem_try(const struct nomem_work *work);

#endif
