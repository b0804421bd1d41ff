/*
 * pipeline.h - messages on their way while the next are prepared.
 *
 * Purpose: what `celeriac call -` and celeriac_send_many share: the broker works on some batches
 * while the next is encoded, and never waits for us in between.
 * Model: a ring of batches. One is filled, message by message; when it is full, or when the caller
 * flushes, it goes out behind those that are on their way; when all are used the oldest is waited
 * for. Answers are taken now and then while a batch is filled. A batch that has ended is handed to
 * `landed`, in the order in which they were begun. Invariants: nothing new goes out once a message
 * got no answer at all (`broken`); what waits behind a batch that landed well has the full time
 * from then. Memory is kept for the next messages. Fork rule: as session.h.
 */
#ifndef CLIENT_PIPELINE_H
#define CLIENT_PIPELINE_H

#include "client/send.h"

#define PIPELINE_BATCHES 3
#define PIPELINE_BYTES   (8u * 1024 * 1024) /* of a batch: bounds the memory of big messages */

struct pipeline_batch {
    struct outgoing v[SEND_BATCH];
    uint64_t numbers[SEND_BATCH]; /* the caller's, of each message */
    size_t len;
    size_t bytes;
    struct sending sending;
};

/* why: what happened to the first message that is not confirmed. */
typedef void pipeline_landed_fn(void *user, const struct pipeline_batch *batch,
                                const struct err *why);

struct pipeline {
    struct session *s;
    pipeline_landed_fn *landed;
    void *user;
    size_t size; /* messages of a full batch */
    size_t bytes_max;
    size_t filling; /* number of the batch that is filled */
    size_t oldest;  /* of the first that is on its way */
    size_t under_way;
    bool broken; /* some message got no answer: the broker is away */
    struct pipeline_batch batches[PIPELINE_BATCHES];
};

/* NULL: no memory. */
struct pipeline *pipeline_new(struct session *s);
void pipeline_free(struct pipeline *p);

/* Before the first message, and again behind a flush. size: of a batch, at most SEND_BATCH.
 * bytes_max: with more it goes out before it is full. */
void pipeline_begin(struct pipeline *p, size_t size, size_t bytes_max, pipeline_landed_fn *landed,
                    void *user);

/* Where the next message is to be encoded. It counts with pipeline_add. Not once it is broken. */
struct outgoing *pipeline_slot(struct pipeline *p);
void pipeline_add(struct pipeline *p, uint64_t number);

/* Sends what was added and waits until all has landed. Once broken, what was not sent is dropped:
 * its number of messages is returned. */
size_t pipeline_flush(struct pipeline *p);

#endif
