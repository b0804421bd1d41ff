/*
 * redis_restore.h - putting leased messages back; for redis_restore.c and redis_sweep.c only.
 *
 * Purpose: a release, a lapsed lease, a predecessor's lease and a lost reply end in the same move.
 * Model: a restore reads entries, takes them apart (scripts do not decode JSON) and moves them with
 * a script that tests again that each is still there. CRASH: after the read, before the move -
 * nothing has changed, the next sweep begins anew. Invariant: an item of a caller (event) ends with
 * one event. Ownership: a request owns its restore. Fork rule: as redis.h.
 */
#ifndef BROKER_REDIS_RESTORE_H
#define BROKER_REDIS_RESTORE_H

#include "broker/redis.h"

#define REDIS_RESTORE_BATCH 64 /* entries read at a time: their values may be long */

struct redis_restore_item {
    uint64_t tag;
    bool event; /* RELEASED or REFUSED for tag */
    bool front;
    bool ours; /* a field our script wrote */
    int64_t not_before_ms;
    int64_t limit_ms; /* moved only if its score is not later; 0: any */
    struct redis_lease lease;
    char *field;    /* owned */
    char *envelope; /* owned: instead of the recorded one; NULL: as it was */
    size_t envelope_len;
    struct redis_entry entry;
};

struct redis_restore {
    struct redis_broker *b;
    struct redis_restore_item *items; /* owned */
    size_t len;
};

/* With room for cap items. NULL when out of memory. */
struct redis_restore *redis_restore_new(struct redis_broker *b, size_t cap);

/* free_state of a struct redis_op. NULL is a no-op. */
void redis_restore_free(void *state);

/* Begins; job is taken. */
int redis_restore_read(struct redis_broker *b, struct redis_restore *job, struct err *e);

#endif
