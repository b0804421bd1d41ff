/*
 * memory_store.h - the data that brokers opened as memory:NAME share; for broker/memory*.c only.
 *
 * Purpose: the reference of the contract, in plain structures. Model: a job is in exactly one list:
 * one of its queue's four priority lists (waiting), the store's delayed list (by time), the store's
 * leased list (by deadline), or one of its queue's two graves. The leased ones are also found by
 * their fence, which is the receipt. A result cell exists while it has a document or somebody
 * watches it. A claim names its holder by the fence, so it holds while that lease does. Invariants:
 * counts of a queue equal the lengths of its lists; totals change in the same function that moves
 * the job. Ownership: the store owns jobs, queues, tokens and cells; a broker owns its events. Fork
 * rule: as broker.h; a store is shared by brokers of one process and one thread.
 */
#ifndef BROKER_MEMORY_STORE_H
#define BROKER_MEMORY_STORE_H

#include "broker/answer.h"
#include "broker/backend.h"
#include "broker/events.h"

#define MEMORY_STEPS  4 /* kombu's priority steps: 0, 3, 6, 9 */
#define MEMORY_GRAVES 2

enum memory_state { MEMORY_WAITING, MEMORY_DELAYED, MEMORY_LEASED, MEMORY_DEAD, MEMORY_STATES };

struct memory;

struct memory_job {
    struct memory_job *prev;
    struct memory_job *next;
    struct memory_queue *queue; /* borrowed from the store */
    enum memory_state state;
    int priority;
    bool delivered;        /* at least once */
    int64_t at_ms;         /* delayed: not before; leased: deadline; dead: buried */
    uint64_t fence;        /* leased: of this delivery; dead: its handle */
    struct memory *holder; /* leased: to tell of a loss; NULL when that broker was closed */
    char *node;            /* leased: owned */
    uint64_t generation;   /* leased */
    enum broker_grave grave;
    struct slice envelope; /* owned, as the following */
    struct slice cause;
    struct slice id;
    struct slice task;
};

struct memory_list {
    struct memory_job *head;
    struct memory_job *tail;
};

struct memory_queue {
    struct memory_queue *next; /* sorted by name */
    struct slice name;         /* owned */
    struct memory_list waiting[MEMORY_STEPS];
    struct memory_list graves[MEMORY_GRAVES];
    int64_t counts[MEMORY_STATES];
    int64_t buried[MEMORY_GRAVES];
};

struct memory_watch {
    struct memory_watch *next;
    struct memory *broker; /* borrowed */
    uint64_t tag;
};

struct memory_cell {
    struct slice id;  /* owned */
    struct slice doc; /* owned; {NULL,0}: none stored */
    int64_t expires_at_ms;
    struct memory_watch *watches; /* owned */
};

struct memory_token {
    struct memory_token *next;
    int64_t until_ms;
    struct slice text; /* owned */
};

/* What a node announced last. */
struct memory_node {
    struct memory_node *next; /* sorted by node */
    struct slice node;        /* owned */
    struct slice json;        /* owned */
    int64_t until_ms;
};

/* Who may run what a key stands for, or ran it. */
struct memory_claim {
    struct memory_claim *prev; /* a ring: the sweep looks at each in turn */
    struct memory_claim *next;
    struct slice key; /* owned */
    struct slice id;  /* owned: task id of the holder, or of the first that succeeded */
    bool done;
    uint64_t fence;   /* the holder's delivery */
    int64_t until_ms; /* done: end of the window; else what a retry keeps, 0 for nothing */
};

/* What the end of a delivery means for the key it holds. */
enum memory_settled { MEMORY_CLAIM_DONE, MEMORY_CLAIM_KEPT, MEMORY_CLAIM_GIVEN_UP };

struct memory_store {
    struct memory_store *next; /* in the list of named stores */
    char *name;                /* "" for a private one */
    int users;
    struct memory_queue *queues;
    struct memory_node *nodes;
    struct memory_list delayed;
    struct memory_list leased;
    void *by_fence; /* tsearch(3) trees: struct memory_job, memory_cell, memory_token */
    void *cells;
    void *tokens;
    void *claims;                    /* likewise: struct memory_claim */
    struct memory_claim *next_claim; /* in the ring, to be looked at; NULL: there is none */
    struct memory_token *token_head; /* oldest first */
    struct memory_token *token_tail;
    uint64_t last_fence;
    struct answer_totals totals; /* what waits, is delayed or leased is counted by queue */
};

/* A broker on a store. */
struct memory {
    struct broker base;
    struct memory_store *store; /* shared */
    struct event_queue events;
    const struct clock *clock; /* borrowed */
    char *node;                /* owned; NULL: leases nothing */
    uint64_t generation;
    int64_t lease_ms;
    int64_t result_expires_ms;
    struct memory_queue **queues; /* owned array, shared queues */
    size_t queues_len;
    size_t turn; /* the queue that the next fetch begins with */
    int credit;
    bool announced; /* its node has a record */
};

/* A copy on the heap; an absent slice stays absent. -1 when out of memory. */
int memory_copy(struct slice *to, struct slice from);
void memory_drop(struct slice *owned);
/* Like strcmp. */
int memory_compare(struct slice a, struct slice b);

/* memory_store.c: stores, queues, tokens */
struct memory_store *memory_store_join(const char *name);
void memory_store_leave(struct memory_store *store);
/* Finds or adds; NULL when out of memory. */
struct memory_queue *memory_store_queue(struct memory_store *store, struct slice name);
struct memory_queue *memory_store_known(struct memory_store *store, struct slice name);
/* 1: seen in the last 60 s; 0: new and remembered from now; -1: out of memory. */
int memory_store_token(struct memory_store *store, struct slice token, int64_t now_ms);

/* memory_job.c: jobs and the lists they move between */
struct memory_job *memory_job_new(struct memory_store *store, const struct broker_message *m);
void memory_job_free(struct memory_job *job);
void memory_job_wait(struct memory_store *store, struct memory_job *job, bool front);
void memory_job_delay(struct memory_store *store, struct memory_job *job, int64_t not_before_ms);
/* -1 when out of memory: the job then waits as before. */
int memory_job_lease(struct memory *broker, struct memory_job *job, int64_t now_ms);
void memory_job_renew(struct memory_store *store, struct memory_job *job, int64_t until_ms);
void memory_job_bury(struct memory_store *store, struct memory_job *job, enum broker_grave grave,
                     int64_t now_ms);
/* Takes the job out of wherever it is; it is the caller's then. */
void memory_job_take(struct memory_store *store, struct memory_job *job);
struct memory_job *memory_job_first(struct memory_queue *queue);
struct memory_job *memory_job_by_fence(struct memory_store *store, uint64_t fence);
/* Promotes what is due and returns what has expired. */
void memory_tick(struct memory_store *store, int64_t now_ms);
/* Puts the leases that match (broker NULL: any of node below generation) to the front. */
void memory_reclaim(struct memory_store *store, const struct memory *broker, const char *node,
                    uint64_t generation);
void memory_receipt(struct broker_receipt *receipt, uint64_t fence);
uint64_t memory_receipt_fence(const struct broker_receipt *receipt);

/* memory_result.c */
/* 0 stored, 1 there is a SUCCESS already, -1 out of memory. Rings the watches. */
int memory_result_put(struct memory_store *store, struct slice id, struct slice doc,
                      int64_t expires_at_ms, int64_t now_ms);
struct slice memory_result_doc(struct memory_store *store, struct slice id, int64_t now_ms);
int memory_result_watch(struct memory *broker, uint64_t tag, struct slice id, int64_t now_ms);
void memory_result_unwatch(struct memory *broker, struct slice id);
void memory_result_unwatch_all(struct memory *broker);
void memory_result_forget(struct memory_store *store, struct slice id);
void memory_result_free(struct memory_store *store);

/* memory_node.c */
/* 0, or -1 when out of memory: the record is then as it was. */
int memory_node_put(struct memory_store *store, struct slice node, struct slice json,
                    int64_t until_ms);
void memory_node_remove(struct memory_store *store, struct slice node);
void memory_node_sweep(struct memory_store *store, int64_t now_ms);
void memory_node_free(struct memory_store *store);

/* memory_claim.c */
/* Answers by the flags and the id (borrowed from the store until its next call) of *event. -1 when
 * out of memory. */
int memory_claim_take(struct memory_store *store, const struct broker_claim *claim, int64_t now_ms,
                      struct broker_event *event);
/* No more than its sense: a key that this delivery does not hold is left alone. */
void memory_claim_settle(struct memory_store *store, uint64_t fence, struct slice key,
                         enum memory_settled how, int64_t until_ms);
void memory_claim_free(struct memory_store *store);

/* memory.c: what its ops share with those of memory_finish.c */
static inline struct memory *memory_of(struct broker *b)
{
    return (struct memory *)b;
}
static inline int64_t memory_now(const struct memory *m)
{
    return clock_wall_ms(m->clock);
}
/* BROKER_FAILED for an item that there was no memory for. */
void memory_fail(struct memory *m, uint64_t tag);
/* To its queue, now or later; counted unless it continues a job. */
void memory_enqueue(struct memory *m, struct memory_job *job, const struct broker_message *message);
/* Wall clock; 0: the broker's default, negative: never. */
int64_t memory_expires_at(const struct memory *m, int64_t expires_ms);

/* memory_finish.c */
int memory_finish(struct broker *b, const struct broker_finish *v, size_t n, struct err *e);
int memory_release(struct broker *b, const struct broker_release *v, size_t n, struct err *e);
int memory_bury(struct broker *b, const struct broker_bury *v, size_t n, struct err *e);
int memory_claim_op(struct broker *b, const struct broker_claim *v, size_t n, struct err *e);

/* memory_ask.c */
void memory_ask(struct memory *broker, const struct broker_ask *ask, struct buf *out);

/* memory_doctor.c */
void memory_doctor(struct memory *broker, const struct broker_ask *ask, struct buf *out);

#endif
