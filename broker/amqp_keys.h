/*
 * amqp_keys.h - the table of keys under the claim ledger: memory, lookup, removal in time.
 *
 * Purpose: a million keys in about 110 bytes each, with nothing that walks them.
 *
 * Model: entries live in pages and never move; a slot is an entry's number. An open-addressing
 * index maps a key to its slot. Every entry stands in a queue: queue k holds those that had less
 * than 2^k seconds to live when they were last changed. Log time never goes back, so a queue is
 * nearly in the order in which its entries end, and removal looks at its head only; an entry stays
 * at most twice as long as it has to. Whether it still counts is therefore never asked of its
 * presence but of until_ms.
 *
 * A task id that is a UUID, as nearly all are, is kept in 16 bytes. Result documents hang on their
 * entry and stand in one list in the order they came, from which the oldest go when there are too
 * many bytes of them.
 *
 * Invariants: slot 0 is nobody. An entry is in exactly one queue from _add to its removal. Fork
 * rule: none.
 */
#ifndef BROKER_AMQP_KEYS_H
#define BROKER_AMQP_KEYS_H

#include "broker/amqp_record.h"

#include <stddef.h>

#define AMQP_KEYS_QUEUES 64
#define AMQP_ENTRY_TEXT  36 /* of a UUID */

enum amqp_entry_state {
    AMQP_ENTRY_FREE, /* nobody owns it: given back, or just made */
    AMQP_ENTRY_RUNNING,
    AMQP_ENTRY_DONE,
    AMQP_ENTRY_KEPT /* for a retry of the job that ran */
};

struct amqp_doc {
    struct amqp_doc *older, *newer;
    uint32_t slot;
    uint32_t len;
    char bytes[];
};

struct amqp_entry {
    struct amqp_key key;
    union {
        unsigned char uuid[16];
        char *text; /* owned */
    } id;
    struct amqp_doc *doc; /* owned; may be NULL */
    int64_t offset;       /* of the record that made the state */
    int64_t base;         /* doubtful: the offset that this record built on */
    int64_t until_ms;     /* the last log time at which it is in this state */
    uint64_t host;

    uint32_t older, newer; /* in its queue; newer also links free slots */
    uint16_t id_len;
    uint8_t state;
    uint8_t queue;
    bool packed : 1;   /* id is in uuid */
    bool doubtful : 1; /* decided on incomplete knowledge; amqp_ledger.c */
};

struct amqp_keys_queue {
    uint32_t oldest, newest;
};

struct amqp_keys {
    struct amqp_entry **pages; /* owned */
    size_t pages_len, pages_cap;
    uint32_t free;   /* first free slot */
    uint32_t unused; /* first slot never used */
    size_t len;
    struct amqp_keys_bucket *index; /* owned */
    size_t mask;
    struct amqp_keys_queue queues[AMQP_KEYS_QUEUES];
    uint64_t queued; /* bit k: queue k is not empty */
    struct amqp_doc *oldest_doc, *newest_doc;
    size_t docs_len, docs_max; /* bytes */
    int64_t slack_ms;          /* how long an entry is kept beyond its end */
};

void amqp_keys_init(struct amqp_keys *t, size_t docs_max, int64_t slack_ms);
void amqp_keys_release(struct amqp_keys *t);

/* 0: not there. */
uint32_t amqp_keys_find(const struct amqp_keys *t, const struct amqp_key *key);

/* The key must not be there. The entry is free and has no id. 0: out of memory. */
uint32_t amqp_keys_add(struct amqp_keys *t, const struct amqp_key *key);

/* Borrowed; stays where it is until it is removed. */
struct amqp_entry *amqp_keys_at(const struct amqp_keys *t, uint32_t slot);

/* Puts it into a state that lasts until until_ms, at log time now_ms. */
void amqp_keys_change(struct amqp_keys *t, uint32_t slot, enum amqp_entry_state state,
                      int64_t until_ms, int64_t now_ms);

/* -1: out of memory; the entry then has no id. */
int amqp_keys_set_id(struct amqp_keys *t, uint32_t slot, struct slice id);

/* The text, borrowed from the entry, or written to room for a UUID. */
struct slice amqp_keys_id(const struct amqp_entry *entry, char room[AMQP_ENTRY_TEXT]);

/* Takes the place of the one that is there; {NULL,0}: none. Not kept when it is over docs_max or
 * memory is short: documents can be had elsewhere. */
void amqp_keys_set_doc(struct amqp_keys *t, uint32_t slot, struct slice doc);

/* Removes at most budget entries that ended more than slack_ms before now_ms. */
void amqp_keys_expire(struct amqp_keys *t, int64_t now_ms, int budget);

/* Calls fn for every entry. */
void amqp_keys_each(const struct amqp_keys *t,
                    void (*fn)(void *context, const struct amqp_entry *entry), void *context);

/* Memory of pages and index. */
size_t amqp_keys_bytes(const struct amqp_keys *t);

#endif
