/*
 * amqp_index.h - which runs have ended already, and how many ended how; pure.
 *
 * Purpose: a delivery that may be a second one (redelivered, dead-lettered, resent) is looked up
 * here before it runs, and the totals come from here too.
 *
 * Model: fed with every record of the results stream in log order. The first record of (task id,
 * retries) that ends a run (succeeded, failed, continues, dead) counts; later ones are duplicates
 * and change nothing but that counter. A first one that says that another job's success stands for
 * it (AMQP_RESULT_TWIN) ends its pair and is counted under duplicates, too. A REVIVED takes the
 * dead one back: the pair may end once more. Log time T is the greatest stamp so far; a pair is
 * forgotten when T - T(its end) > window, or earlier when there are more than `max` (the oldest
 * first; counted as evicted).
 *
 * Invariants: all who read the same log from the same offset have equal counters. Memory is bounded
 * by max pairs. Nothing costs more than a few table lookups per record. Fork rule: none; one
 * thread.
 */
#ifndef BROKER_AMQP_INDEX_H
#define BROKER_AMQP_INDEX_H

#include "base/err.h"
#include "broker/amqp_record.h"

#include <stddef.h>

struct amqp_index;

struct amqp_index_config {
    int64_t window_ms; /* 0: 3,600,000 */
    size_t max;        /* pairs; 0: 4,000,000 */
};

struct amqp_index_counters {
    uint64_t succeeded, failed, retried, dead; /* failed: with what was purged */
    uint64_t duplicates, purged, removed;
    uint64_t revived; /* of the dead: dead - revived were not sent again */
};

struct amqp_index_entry {
    enum amqp_result_outcome outcome;
    int64_t offset; /* of the record, to read its document */
    int64_t at_ms;  /* log time */
};

/* NULL when out of memory. */
struct amqp_index *amqp_index_new(const struct amqp_index_config *config);
void amqp_index_free(struct amqp_index *x); /* NULL is a no-op */
void amqp_index_reset(struct amqp_index *x);

/* Takes one record; offsets below the next are skipped. counted: it was the first that ended its
 * pair. -1: out of memory. */
int amqp_index_apply(struct amqp_index *x, int64_t offset, const struct amqp_result_record *r,
                     bool *counted, struct err *e);

/* How the pair ended; false: not that this index knows. entry may be NULL. */
bool amqp_index_find(const struct amqp_index *x, struct slice id, uint32_t retries,
                     struct amqp_index_entry *entry);

void amqp_index_counters(const struct amqp_index *x, struct amqp_index_counters *out);

size_t amqp_index_len(const struct amqp_index *x);
uint64_t amqp_index_evicted(const struct amqp_index *x);
int64_t amqp_index_time(const struct amqp_index *x);
int64_t amqp_index_next(const struct amqp_index *x);

#endif
