/*
 * redis_names.h - a set of names.
 *
 * Purpose: to know which queues and lists a connection has met, of which a producer may have
 * thousands. Model: a tree of libc's (tsearch), so that asking takes as many comparisons as a list
 * of names has halves. Ownership: names are copied. Fork rule: as redis.h.
 */
#ifndef BROKER_REDIS_NAMES_H
#define BROKER_REDIS_NAMES_H

#include "base/slice.h"

#include <stdbool.h>

struct redis_names {
    void *root; /* owned */
    size_t len;
};

bool redis_names_has(const struct redis_names *names, struct slice name);
/* Without memory it is not there. */
void redis_names_add(struct redis_names *names, struct slice name);
void redis_names_clear(struct redis_names *names);

#endif
