/*
 * redis_held.h - the leases this broker holds, by fence number.
 *
 * Purpose: know what to hand back at close, and tell our own live leases from orphans after a
 * broken connection swallowed a fetch's reply. Model: open addressing with linear probing, fence 0
 * is an empty slot; removal moves followers back, so there are no tombstones. Fork rule: none.
 */
#ifndef BROKER_REDIS_HELD_H
#define BROKER_REDIS_HELD_H

#include "broker/redis_keys.h"

struct redis_held {
    struct redis_lease *slots; /* owned; cap is 0 or a power of two */
    size_t cap;
    size_t len;
};

void redis_held_release(struct redis_held *held);
int redis_held_add(struct redis_held *held, const struct redis_lease *lease);
const struct redis_lease *redis_held_find(const struct redis_held *held, uint64_t fence);
void redis_held_remove(struct redis_held *held, uint64_t fence);

#endif
