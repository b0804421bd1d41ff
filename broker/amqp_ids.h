/*
 * amqp_ids.h - a table of things by task id.
 *
 * Purpose: a scan compares every record of the stream with the ids that somebody asks about.
 * Model: chained hashing; the entry is the first member of its owner's structure, the text lies
 * there too. Grows with its contents. Invariant: one entry per id. Ownership: entries are the
 * owner's; the table frees only its own memory. Fork rule: none.
 */
#ifndef BROKER_AMQP_IDS_H
#define BROKER_AMQP_IDS_H

#include "base/slice.h"

#include <stdint.h>

struct id_entry {
    struct id_entry *next;
    uint64_t hash;
    struct slice id; /* borrowed from the owner */
};

struct id_table {
    struct id_entry **buckets; /* owned; NULL while empty */
    size_t mask;
    size_t len;
};

void id_table_release(struct id_table *t);
/* entry->id is set and not in the table. -1: out of memory. */
int id_table_add(struct id_table *t, struct id_entry *entry);
struct id_entry *id_table_find(const struct id_table *t, struct slice id);
void id_table_remove(struct id_table *t, struct id_entry *entry);
/* fn may not change the table. */
void id_table_each(const struct id_table *t, void (*fn)(void *context, struct id_entry *entry),
                   void *context);
/* Empties it and hands every entry to fn, which may free it or put it into a table again. */
void id_table_drain(struct id_table *t, void (*fn)(void *context, struct id_entry *entry),
                    void *context);

#endif
