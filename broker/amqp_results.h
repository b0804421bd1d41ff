/*
 * amqp_results.h - results over RabbitMQ: what the files that deal with them share; private to
 * them.
 *
 * Model: every state that a job reaches is one record of the stream celeriac.results, and, when its
 * sender named a queue, one message to that queue. So there are three ways to a result:
 *  - amqp_lookup.c reads the stream once for all who ask now, from the time of the oldest id to a
 *    sync record of its own (what is the result: amqp_verdict.h), while amqp_recent.c asks the
 *    nodes: an answer of theirs makes the reading shorter;
 *  - amqp_watch.c follows the stream for those who wait, and has it read once for what was there
 *    before;
 *  - amqp_replies.c has a queue of its own, named in every task that this broker publishes: who
 *    waits for what he sent himself reads no stream.
 * Ownership: struct amqp_results is the broker's, made when first needed. Fork rule: as amqp.h.
 */
#ifndef BROKER_AMQP_RESULTS_H
#define BROKER_AMQP_RESULTS_H

#include "broker/amqp.h"
#include "broker/amqp_docs.h"
#include "broker/amqp_reader.h"
#include "broker/amqp_verdict.h"

/* Documents of the own queue that are kept for a question that may come. */
#define REPLIES_MAX_BYTES (64u * 1024 * 1024)

/* The ids of one reading of the stream. */
struct lookup_batch {
    struct id_table ids;
    int64_t from_ms; /* wall clock; where it has to begin */
};

struct amqp_lookups {
    struct amqp_reader reader;
    struct lookup_batch now;  /* being read */
    struct lookup_batch then; /* came too late for it */
    bool live;
    uint64_t host;
    uint64_t nonce; /* of the sync record that ends it */
};

struct amqp_watches {
    struct amqp_reader reader; /* runs while somebody waits for what is not ours */
    struct id_table ids;
    size_t followed; /* those that the reader is for */
    bool live;
};

struct amqp_replies {
    char queue[UUID_SIZE]; /* "": none is wanted */
    unsigned epoch;        /* grows when the queue may have been gone: replies may then be lost */
    bool declaring;
    bool asked;            /* to consume it: from now on it goes when the connection does */
    bool live;             /* it is consumed */
    bool lost;             /* it has gone before */
    struct kept_docs sent; /* tasks with the queue in them. mark: the epoch of the queue that they
                              answer to; 0: it may have been gone for a while */
};

/* Correlation ids of what nodes answer; the number of the reading follows. */
#define RECENT_ANSWER "results."

struct amqp_results {
    struct amqp_lookups lookups;
    struct amqp_watches watches;
    struct amqp_replies replies;
    struct kept_docs recent; /* records of successes that this node stored; max 0: none are kept */
};

/* NULL when out of memory. */
struct amqp_results *results_of(struct amqp_broker *b);
/* A RESULT event. */
void results_tell(struct amqp_broker *b, uint64_t tag, struct slice doc);

/* --- amqp_lookup.c --- */
typedef void lookup_told_fn(struct amqp_broker *b, void *context, const struct slice *doc,
                            const struct err *why);

/* A RESULT event with that tag will say what is stored. */
int lookup_get(struct amqp_broker *b, uint64_t tag, struct slice id, struct err *e);
/* watch_looked will be told. */
int lookup_watched(struct amqp_broker *b, struct slice id, struct err *e);
/* told is called once: with the document, {NULL,0} for none, or with why it is not known; with
 * neither when the broker is closed. */
int lookup_ask(struct amqp_broker *b, struct slice id, lookup_told_fn *told, void *context,
               struct err *e);
/* Begins what was asked, unless something is being read. */
void lookups_start(struct amqp_broker *b);
/* A node has the record of a success, as an answer to the reading of that number. */
void lookup_heard(struct amqp_broker *b, uint64_t number, struct slice bytes);
void lookups_release(struct amqp_broker *b);

/* --- amqp_watch.c --- */
int watch_add(struct amqp_broker *b, uint64_t tag, struct slice id, struct err *e);
void watch_remove(struct amqp_broker *b, struct slice id);
void watch_looked(struct amqp_broker *b, struct slice id, const struct amqp_verdict *v);
/* The own queue brought a document. */
void watch_replied(struct amqp_broker *b, struct slice id, struct slice doc);
/* Replies may have been lost: who waits for them follows the stream from now on. */
void watches_follow_all(struct amqp_broker *b);
void watches_release(struct amqp_broker *b);

/* --- amqp_replies.c --- */
/* NULL: not sent by us, or forgotten since. */
const struct kept_doc *replies_find(const struct amqp_broker *b, struct slice id);
/* Its document comes to the own queue, or has come. */
bool replies_complete(const struct amqp_broker *b, const struct kept_doc *sent);
void replies_forget(struct amqp_broker *b, struct slice id);
void replies_release(struct amqp_broker *b);

/* --- amqp_recent.c --- */
/* Asks all nodes for results. */
void recent_ask(struct amqp_broker *b, const struct id_table *ids, uint64_t number);
/* Part of a step: tells all nodes to forget one. */
int recent_forget(struct amqp_broker *b, struct out_step *step, struct slice id, struct err *e);

#endif
