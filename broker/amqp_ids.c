#include "broker/amqp_ids.h"

#include <stdlib.h>
#include <xxhash.h>

#define BUCKETS_MIN 16

void id_table_release(struct id_table *t)
{
    free(t->buckets);
    *t = (struct id_table){0};
}

static void put(struct id_entry **buckets, size_t mask, struct id_entry *entry)
{
    struct id_entry **at = &buckets[entry->hash & mask];

    entry->next = *at;
    *at = entry;
}

static int grow(struct id_table *t)
{
    size_t cap = t->buckets ? (t->mask + 1) * 2 : BUCKETS_MIN;
    struct id_entry **buckets = calloc(cap, sizeof(*buckets));

    if (!buckets)
        return -1;
    for (size_t i = 0; t->buckets && i <= t->mask; i++) {
        struct id_entry *entry = t->buckets[i];

        while (entry) {
            struct id_entry *next = entry->next;

            put(buckets, cap - 1, entry);
            entry = next;
        }
    }
    free(t->buckets);
    t->buckets = buckets;
    t->mask = cap - 1;
    return 0;
}

int id_table_add(struct id_table *t, struct id_entry *entry)
{
    if ((!t->buckets || t->len > t->mask) && grow(t) != 0 && !t->buckets)
        return -1;
    entry->hash = XXH3_64bits(entry->id.ptr, entry->id.len);
    put(t->buckets, t->mask, entry);
    t->len++;
    return 0;
}

struct id_entry *id_table_find(const struct id_table *t, struct slice id)
{
    struct id_entry *entry;
    uint64_t hash;

    if (t->len == 0)
        return NULL;
    hash = XXH3_64bits(id.ptr, id.len);
    for (entry = t->buckets[hash & t->mask]; entry; entry = entry->next) {
        if (entry->hash == hash && slice_eq(entry->id, id))
            return entry;
    }
    return NULL;
}

void id_table_remove(struct id_table *t, struct id_entry *entry)
{
    struct id_entry **at = &t->buckets[entry->hash & t->mask];

    while (*at != entry)
        at = &(*at)->next;
    *at = entry->next;
    t->len--;
}

void id_table_each(const struct id_table *t, void (*fn)(void *context, struct id_entry *entry),
                   void *context)
{
    for (size_t i = 0; t->len > 0 && i <= t->mask; i++) {
        for (struct id_entry *entry = t->buckets[i]; entry; entry = entry->next)
            fn(context, entry);
    }
}

void id_table_drain(struct id_table *t, void (*fn)(void *context, struct id_entry *entry),
                    void *context)
{
    struct id_entry *all = NULL;

    for (size_t i = 0; t->len > 0 && i <= t->mask; i++) {
        while (t->buckets[i]) {
            struct id_entry *entry = t->buckets[i];

            t->buckets[i] = entry->next;
            entry->next = all;
            all = entry;
        }
    }
    t->len = 0;
    while (all) {
        struct id_entry *next = all->next;

        fn(context, all);
        all = next;
    }
}
