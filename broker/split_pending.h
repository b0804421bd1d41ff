/*
 * split_pending.h - what waits for its result to be stored; for split*.c only.
 *
 * Purpose: a finish, bury or claim whose caller's memory is gone by the time its second step can be
 * taken. Model: one block holds the item and a copy of everything it points to; the item's address
 * is its tag, with BROKER_TAG_RESERVED, so an event finds it in one step. All of a broker are in a
 * list, for close. Ownership: the list owns them. Fork rule: none, plain memory.
 */
#ifndef BROKER_SPLIT_PENDING_H
#define BROKER_SPLIT_PENDING_H

#include "broker/backend.h"

/* A finish, bury or claim under way. Everything it points to stands behind it in the same block. */
struct split_pending {
    struct split_pending *prev;
    struct split_pending *next;
    uint64_t tag; /* the caller's */
    bool duplicate;
    bool is_bury;
    struct broker_finish finish;
    struct broker_bury bury;
    struct slice first; /* a claim: the id that succeeded */
    unsigned claimed;   /* and the flags of its answer */
    struct broker_message *followups;
    char *text; /* where the next copied text goes */
};

/* With room for that many follow-ups and bytes of text; all: the list it joins. NULL: no memory. */
struct split_pending *split_pending_new(struct split_pending **all, uint64_t tag, size_t followups,
                                        size_t text);
void split_pending_free(struct split_pending **all, struct split_pending *p);

/* A copy of the text in the room that was reserved. */
struct slice split_pending_keep(struct split_pending *p, struct slice text);

/* The whole item without its result, under the pending one's tag. NULL: no memory. */
struct split_pending *split_pending_finish(struct split_pending **all,
                                           const struct broker_finish *f);
struct split_pending *split_pending_bury(struct split_pending **all,
                                         const struct broker_bury *bury);

uint64_t split_pending_tag(const struct split_pending *p);
struct split_pending *split_pending_of(uint64_t tag);

#endif
