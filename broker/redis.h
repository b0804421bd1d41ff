/*
 * redis.h - the Redis backend's own structure; for redis_*.c only.
 *
 * Model: two connections. `main` carries every command in a pipeline; `bell`, opened when there is
 * something to wait for, is subscribed to the server's invalidation messages (a list we found empty
 * was pushed to) and to the channels of watched results. Neither is ever waited on. A step
 * (redis.c) reads both, runs what is due, writes, and hands events out. What is due: fetch and
 * delayed messages, when the bell rang or their time has come, and at a tick, which is for what was
 * missed (seldom while there is a bell, else it is all there is); leases, when the first can have
 * lapsed. Files: redis_push.c, redis_load.c, redis_transact.c and redis_tally.c publish,
 * redis_queue.c what queues there are, redis_fetch.c, redis_lists.c and redis_bulk.c fetch,
 * redis_finish.c what ends or keeps a lease, redis_claim.c dedup keys, redis_restore.c and
 * redis_sweep.c everything that puts a leased message back (release; expiry, take-over, orphans),
 * redis_delayed.c, redis_results.c and redis_watch.c results, redis_bell.c, redis_ask.c and
 * redis_dead.c what operators ask, redis_node.c, redis_address.c where it is, redis_keys.c names
 * and texts, redis_script.c the atomic steps, redis_conn.c the wire. Invariants: one fetch at a
 * time; none before the leases of dead predecessors were looked for. Fork rule: open after fork,
 * one process, one thread.
 */
#ifndef BROKER_REDIS_H
#define BROKER_REDIS_H

#include "broker/backend.h"
#include "broker/events.h"
#include "broker/redis_address.h"
#include "broker/redis_bulk.h"
#include "broker/redis_conn.h"
#include "broker/redis_held.h"
#include "broker/redis_keys.h"
#include "broker/redis_lists.h"
#include "broker/redis_names.h"
#include "broker/redis_tally.h"

/* Items and bytes of one request; the first that goes over is its last. */
#define REDIS_BATCH_ITEMS   128
#define REDIS_BATCH_BYTES   (256u << 10)
#define REDIS_TICK_MS       1000
#define REDIS_LULL_MS       10000 /* between ticks while the bell is there */
#define REDIS_IDS           500   /* keys of one command */
#define REDIS_WATCH_BUCKETS 1024

/* A result somebody waits for, or said it would. */
struct redis_watch {
    struct redis_watch *next;
    uint64_t tag;
    struct buf early; /* the document that came before somebody asked */
    bool asked;       /* for, under tag */
    bool expected;    /* was subscribed before it was asked for */
    bool published;   /* its message went out through this handle */
    size_t id_len;
    char id[];
};

struct redis_broker {
    struct broker base;
    struct redis_address address;
    const struct clock *clock;
    const struct log *log;
    char result_db[REDIS_DB_SIZE]; /* "": the broker's own */
    char *node;                    /* owned */
    uint64_t generation;
    uint32_t instance;
    int64_t lease_ms;
    int64_t result_expires_ms;
    char *field_head;           /* owned */
    char *field_tail;           /* owned */
    struct redis_queue *queues; /* owned */
    size_t queues_len;
    struct redis_lists lists;

    struct uuid_source random;
    struct event_queue events;
    struct redis_conn main;
    struct redis_conn bell;
    struct redis_held held;
    struct redis_bulks bulks;
    struct redis_names declared; /* queues, on this connection */
    uint64_t last_number;
    struct redis_tally tally;
    struct redis_names known_lists; /* keys that hold a list or nothing */
    bool transactions;              /* MULTI and EXEC are there and allowed */
    bool no_transactions;           /* they are not: not asked again */
    bool announced;                 /* its node has a record */
    int64_t name_at_ms;             /* monotonic: when its name is written again */

    bool told; /* a BROKER_STATE was given */
    bool up;   /* what it said */
    bool closing;
    bool no_tracking; /* the server has none or refuses it: the tick alone, said once */
    int credit;
    int wanted; /* of the last fetch */
    bool fetching;
    bool recovering; /* looking for leases of predecessors and orphans */
    bool recovered;
    bool dry;          /* without tracking: the last fetch found nothing, wait for the tick */
    bool look;         /* the next fetch probably finds all its lists empty */
    bool refused;      /* the last fetch was: said once, and only the tick asks again */
    bool listening;    /* the fetch under way makes the bell ring for what it finds empty */
    size_t passed;     /* lists that the last fetch found empty without listening */
    bool rang_in_vain; /* the last bell brought nothing */
    int64_t ring_at_ms;
    int64_t tick_at_ms;
    int64_t sweep_at_ms; /* monotonic: no lease lapses earlier */
    int64_t due_at_ms;   /* monotonic: the next delayed message; CLOCK_NEVER */
    bool looking_due;
    bool look_again; /* what made us look came while a look was under way */
    bool moved_some; /* the last time that some were due */
    bool sweeping;
    int64_t sweep_offset;
    int restoring; /* restores under way, for close */
    bool tracking; /* the working connection tells the bell what changed */
    long long bell_id;
    struct redis_watch *watches[REDIS_WATCH_BUCKETS];
    size_t watches_len;
    struct redis_request *goodbyes; /* owned: an UNSUBSCRIBE that is in no hurry; NULL */
};

/* --- redis.c --- */
struct redis_request *redis_new(struct redis_broker *b, const struct redis_op *op,
                                enum redis_script_id script, struct err *e);
/* Taken. -1 when building it ran out of memory: nothing is submitted. */
int redis_submit(struct redis_broker *b, struct redis_request *r, struct err *e);
/* Taken. For a later step of something that was submitted: no memory is the op's failure. */
void redis_proceed(struct redis_broker *b, struct redis_request *r);
/* The waiting request at the end of the line, if a small batch may still grow it; else a new one.
 */
struct redis_request *redis_batch(struct redis_broker *b, const struct redis_op *op,
                                  enum redis_script_id script, bool *fresh, struct err *e);
/* What failed is asked again by the next tick, which is to come soon. */
void redis_tick_soon(struct redis_broker *b);
void redis_fail_items(void *owner, struct redis_request *r, const struct err *why);
void redis_refuse(struct redis_broker *b, uint64_t tag);
/* The two databases, as the first two arguments. */
void redis_arg_dbs(struct redis_broker *b, struct redis_request *r);
void redis_arg_score(struct redis_request *r, int64_t wall_ms);
/* The life of a result in ms, 0 for ever, from what a caller says (broker_finish). */
int64_t redis_px(const struct redis_broker *b, int64_t expires_ms);
void redis_arg_px(struct redis_broker *b, struct redis_request *r, int64_t expires_ms);
/* The lease's field as argument; false when the receipt is not one of this broker's queues. */
bool redis_arg_field(struct redis_broker *b, struct redis_request *r,
                     const struct redis_lease *lease);
/* What a connection must, or may, get a good answer to before it is ready. Ends with NULL. */
void redis_greet(struct redis_conn *c, bool must, const char *const *words);
void redis_greet_auth(struct redis_conn *c);
struct slice redis_slice(const redisReply *reply);
const redisReply *redis_at(const redisReply *array, size_t i);
/* An error text in a script's reply, as an error. */
void redis_text_err(struct redis_broker *b, struct err *e, const redisReply *reply);

/* --- redis_queue.c --- */
void redis_declare(struct redis_broker *b, struct slice queue);
/* --- redis_push.c --- */
int redis_publish(struct broker *base, const struct broker_message *v, size_t n, struct err *e);
/* Destination key and the four arguments of a message that a script pushes or delays. */
void redis_push_key(struct redis_request *r, struct slice queue, int priority, bool delayed);
void redis_push_args(struct redis_broker *b, struct redis_request *r,
                     const struct broker_message *m, bool delayed);
bool redis_is_delayed(const struct redis_broker *b, int64_t not_before_ms);
void redis_arg_tag(struct redis_broker *b, struct redis_request *r, int priority,
                   struct slice queue);

/* --- redis_transact.c --- */
/* Whether the server lets this client use MULTI: for brokers that consume nothing. */
void redis_ask_transactions(struct redis_broker *b, struct redis_conn *c);

/* --- redis_fetch.c --- */
void redis_fetch(struct redis_broker *b); /* if anything is wanted and may be there */
void redis_list_key(struct redis_broker *b, struct redis_request *r, size_t list);
/* The same, of all lists: nothing is known of them any more. */
void redis_fetch_anew(struct redis_broker *b);
/* Hands out what was leased in bulk; the reply has its messages. last: of this fetch. */
void redis_fetched_bulk(struct redis_broker *b, const struct redis_bulk *bulk,
                        const redisReply *reply, bool last);

/* --- redis_finish.c --- */
int redis_finish(struct broker *base, const struct broker_finish *v, size_t n, struct err *e);
int redis_note(struct broker *base, const struct broker_note *v, size_t n, struct err *e);
int redis_renew(struct broker *base, const struct broker_receipt *v, size_t n, struct err *e);
int redis_bury(struct broker *base, const struct broker_bury *v, size_t n, struct err *e);

/* --- redis_claim.c --- */
int redis_claim(struct broker *base, const struct broker_claim *v, size_t n, struct err *e);
/* What tells the finish script how to settle the key; "" when there is none. */
void redis_claim_settle(struct redis_broker *b, const struct broker_finish *f, char *text,
                        size_t size);

/* --- redis_restore.c --- */
int redis_release(struct broker *base, const struct broker_release *v, size_t n, struct err *e);

/* --- redis_sweep.c --- */
void redis_sweep(struct redis_broker *b);
void redis_recover(struct redis_broker *b);
void redis_release_held(struct redis_broker *b);

/* --- redis_delayed.c --- */
void redis_look_due(struct redis_broker *b);

/* --- redis_results.c --- */
/* Ids are added as keys, REDIS_IDS at most. */
struct redis_request *redis_ids_request(struct redis_broker *b, const struct redis_op *op,
                                        enum redis_script_id script, struct err *e);
int redis_store(struct broker *base, const struct broker_store *v, size_t n, struct err *e);
int redis_result_get(struct broker *base, const uint64_t *tags, const struct slice *ids, size_t n,
                     struct err *e);
int redis_result_forget(struct broker *base, const uint64_t *tags, const struct slice *ids,
                        size_t n, struct err *e);

/* --- redis_watch.c --- */
int redis_result_watch(struct broker *base, const uint64_t *tags, const struct slice *ids, size_t n,
                       struct err *e);
void redis_result_unwatch(struct broker *base, const struct slice *ids, size_t n);
void redis_result_published(struct redis_broker *b, struct slice channel, struct slice doc);
void redis_result_subscribed(struct redis_broker *b, struct slice channel);
bool redis_result_expect(struct broker *base, const struct slice *ids, size_t n);
void redis_watch_sent(struct redis_broker *b, struct slice id); /* its message, or it will be */
void redis_watch_ready(struct redis_broker *b);                 /* the bell is subscribed anew */
void redis_watch_lost(struct redis_broker *b);                  /* its connection is gone */
void redis_watch_release(struct redis_broker *b);

/* --- redis_bell.c --- */
void redis_bell_init(struct redis_broker *b);
bool redis_bell_wanted(const struct redis_broker *b);
void redis_bell_track(struct redis_broker *b);  /* the main connection tells the bell's */
void redis_bell_listen(struct redis_broker *b); /* the next command's keys ring */
/* The first n lists that the last fetch named ring, if they are all empty still. */
void redis_bell_listen_for(struct redis_broker *b, size_t n);

/* --- redis_ask.c; redis_dead.c is behind it --- */
int redis_ask(struct broker *base, const struct broker_ask *ask, struct err *e);
void redis_answer(struct redis_broker *b, uint64_t tag, struct buf *out); /* released */

/* --- redis_node.c --- */
int redis_announce(struct broker *base, struct slice json, int64_t ttl_ms, struct err *e);
int redis_ask_nodes(struct redis_broker *b, const struct broker_ask *ask, struct err *e);
void redis_node_remove(struct redis_broker *b);

/* --- redis_doctor.c --- */
int redis_doctor(struct redis_broker *b, const struct broker_ask *ask, struct err *e);

#endif
