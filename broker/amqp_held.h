/*
 * amqp_held.h - the deliveries that this connection has not acknowledged, by delivery tag.
 *
 * Purpose: the server counts what was delivered on a channel 1, 2, 3 and lets us acknowledge "all
 * up to n" with one method. Model: a ring of pointers from the oldest tag that is not acknowledged;
 * an entry is taken out when it is done, and the finished prefix moves the ring's beginning. Lists
 * link entries that wait for the same thing, through one member: an entry is in at most one list.
 * Ownership: the ring owns its entries until they are removed. Fork rule: none, plain memory.
 */
#ifndef BROKER_AMQP_HELD_H
#define BROKER_AMQP_HELD_H

#include "base/slice.h"
#include "base/uuid.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum held_state {
    HELD_SUSPECT,  /* looked up in the results stream before anything else */
    HELD_WAITING,  /* may be handed out */
    HELD_DELAYED,  /* handed back for a moment: due_at_ms */
    HELD_LENT,     /* the caller has it */
    HELD_SETTLING, /* its results are on their way out */
    HELD_DONE      /* to be acknowledged */
};

struct amqp_owned; /* a dedup key that a delivery holds; amqp_claim.h */

struct amqp_held {
    struct amqp_held *next;  /* in the list it is in */
    struct amqp_owned *owns; /* the first of its dedup keys, or NULL */
    uint64_t tag;
    uint64_t fence; /* of the last time it was handed out */
    enum held_state state;
    bool redelivered;
    bool suspicious;       /* what follows from it is marked as possibly sent before */
    bool kept_aside;       /* acknowledged early: a copy waits in the broker (amqp_long.c) */
    bool copying;          /* that copy is on its way out */
    uint32_t epoch;        /* of the connection it came on */
    char token[UUID_SIZE]; /* of the job and its copies; "": none was ever sent */
    size_t queue;          /* index of the consumed queue */
    int64_t due_at_ms;     /* HELD_DELAYED; monotonic */
    int64_t since_ms;      /* delivered at; monotonic */
    int64_t retries;
    int priority;
    char *envelope; /* owned */
    size_t envelope_len;
    char *texts;     /* owned: what the slices below point into */
    struct slice id; /* {NULL, 0}: not in the headers */
    struct slice task;
    struct slice reply_to;
    struct slice correlation_id;
};

struct held_list {
    struct amqp_held *head;
    struct amqp_held **end; /* NULL for an empty list never used */
    size_t len;
};

void held_list_push(struct held_list *list, struct amqp_held *h);
void held_list_push_front(struct held_list *list, struct amqp_held *h);
struct amqp_held *held_list_pop(struct held_list *list);
/* False when it is not in it. */
bool held_list_remove(struct held_list *list, struct amqp_held *h);

struct held_ring {
    struct amqp_held **slots; /* owned; cap is 0 or a power of two */
    size_t cap;
    uint64_t first; /* tag of the oldest one kept; 0 before the first delivery */
    uint64_t end;   /* tag behind the newest one */
};

/* Taken. Tags come in order. -1 when out of memory. */
int held_ring_add(struct held_ring *r, struct amqp_held *h);
/* NULL when it was acknowledged or never came. */
struct amqp_held *held_ring_find(const struct held_ring *r, uint64_t tag);
/* Frees the entry of that tag. */
void held_ring_remove(struct held_ring *r, uint64_t tag);
/* The entry of that tag is the caller's from now on. */
void held_ring_take(struct held_ring *r, uint64_t tag);
/* The last tag of the run of HELD_DONE or removed entries at the beginning, 0 when the oldest one
 * is not done. What is in it is freed. */
uint64_t held_ring_finished_prefix(struct held_ring *r);
/* Forgets everything: a new connection counts from 1 again. */
void held_ring_clear(struct held_ring *r);
void held_ring_release(struct held_ring *r);

void held_free(struct amqp_held *h);

/* The caller has it, or its end is on the way. */
bool held_at_work(const struct amqp_held *h);
/* Whether it is of the job with that token (of copies), or with that id and number of retries. */
bool held_same_job(const struct amqp_held *h, struct slice token, struct slice id, int64_t retries);

#endif
