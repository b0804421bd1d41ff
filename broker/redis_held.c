#include "broker/redis_held.h"

#include <stdlib.h>

void redis_held_release(struct redis_held *held)
{
    free(held->slots);
    *held = (struct redis_held){0};
}

/* Scattered on purpose: consecutive fences in consecutive slots would be one long run, and a
 * removal walks to the end of its run. */
static size_t home_of(const struct redis_held *held, uint64_t fence)
{
    return (size_t)((fence * 0x9e3779b97f4a7c15u) >> 32) & (held->cap - 1);
}

static size_t slot_of(const struct redis_held *held, uint64_t fence)
{
    size_t i = home_of(held, fence);

    while (held->slots[i].fence && held->slots[i].fence != fence)
        i = (i + 1) & (held->cap - 1);
    return i;
}

static int grow(struct redis_held *held)
{
    struct redis_held bigger = {.cap = held->cap ? 2 * held->cap : 64};

    bigger.slots = calloc(bigger.cap, sizeof(*bigger.slots));
    if (!bigger.slots)
        return -1;
    for (size_t i = 0; i < held->cap; i++) {
        if (held->slots[i].fence)
            bigger.slots[slot_of(&bigger, held->slots[i].fence)] = held->slots[i];
    }
    bigger.len = held->len;
    free(held->slots);
    *held = bigger;
    return 0;
}

int redis_held_add(struct redis_held *held, const struct redis_lease *lease)
{
    size_t i;

    if (2 * (held->len + 1) > held->cap && grow(held) != 0)
        return -1;
    i = slot_of(held, lease->fence);
    if (!held->slots[i].fence)
        held->len++;
    held->slots[i] = *lease;
    return 0;
}

const struct redis_lease *redis_held_find(const struct redis_held *held, uint64_t fence)
{
    size_t i;

    if (!held->len || !fence)
        return NULL;
    i = slot_of(held, fence);
    return held->slots[i].fence ? &held->slots[i] : NULL;
}

void redis_held_remove(struct redis_held *held, uint64_t fence)
{
    size_t mask = held->cap - 1;
    size_t hole;

    if (!redis_held_find(held, fence))
        return;
    hole = slot_of(held, fence);
    held->len--;
    for (size_t i = (hole + 1) & mask; held->slots[i].fence; i = (i + 1) & mask) {
        size_t home = home_of(held, held->slots[i].fence);

        /* A follower may move into the hole unless its home lies behind it. */
        if (((i - home) & mask) >= ((i - hole) & mask)) {
            held->slots[hole] = held->slots[i];
            hole = i;
        }
    }
    held->slots[hole] = (struct redis_lease){0};
}
