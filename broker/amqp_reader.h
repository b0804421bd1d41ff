/*
 * amqp_reader.h - following a stream, on the reading connection.
 *
 * Purpose: the claim ledger, the lookup of suspicious deliveries, `result ID` and the totals all
 * read a stream record by record. Model: a reader is one consumer on a channel of its own (refusals
 * close a channel, and a stream wants its own prefetch). It begins where it is told, hands every
 * record with its offset to on_record in log order, and goes on at the next offset after a
 * reconnect. Acknowledgements are only flow control: in multiples, and for the last part by a
 * timer, since a delivery that is never acknowledged ends in consumer_timeout. Invariants: offsets
 * grow; none is told twice; one that is skipped was truncated by the server. A reader ends by
 * itself only when it is refused. A stream that is missing (404) is declared and read from its
 * beginning. Ownership: the owner's structure holds the reader; record bytes are borrowed. Fork
 * rule: as amqp_link.h.
 */
#ifndef BROKER_AMQP_READER_H
#define BROKER_AMQP_READER_H

#include "base/err.h"
#include "base/slice.h"

#include <stdbool.h>
#include <stdint.h>

struct amqp_broker;
struct amqp_reader;

enum reader_from {
    READER_FIRST, /* everything that is kept */
    READER_TIME,  /* from the chunk of that second on, in the server's clock: a little more */
    READER_OFFSET,
    READER_NEXT /* only what comes */
};

struct reader_start {
    enum reader_from from;
    int64_t number; /* READER_TIME: seconds since 1970; READER_OFFSET: the first offset wanted */
};

struct reader_ops {
    void (*on_record)(struct amqp_broker *b, struct amqp_reader *r, int64_t offset,
                      struct slice record);
    /* The server has begun the consumer (also again, after a reconnect): what is published from now
     * on will be seen. The moment to publish a sync record. */
    void (*on_live)(struct amqp_broker *b, struct amqp_reader *r);
    /* The server will have no such stream, or not for us: the reader has ended. NULL: tried again
     * for ever. */
    void (*on_refused)(struct amqp_broker *b, struct amqp_reader *r, const struct err *why);
    /* How long a stream that is declared here keeps its records. NULL: as long as results. */
    int64_t (*age_s)(const struct amqp_broker *b);
};

struct amqp_reader {
    const struct reader_ops *ops; /* NULL: not started */
    const char *stream;           /* a constant */
    struct reader_start start;    /* where the next subscription begins */
    int channel;
    bool live;
    uint64_t unacked_tag; /* the last delivery not yet acknowledged, 0 for none */
    unsigned unacked;
    int64_t ack_at_ms;
    struct amqp_reader *next; /* of the broker's running readers */
};

/* Wants the reading connection and begins as soon as it is there. */
void reader_begin(struct amqp_broker *b, struct amqp_reader *r, const char *stream,
                  const struct reader_start *start, const struct reader_ops *ops);
/* A no-op when it is not running. Safe inside on_record. */
void reader_end(struct amqp_broker *b, struct amqp_reader *r);

int64_t reader_deadline(const struct amqp_broker *b);
void reader_tick(struct amqp_broker *b);

#endif
