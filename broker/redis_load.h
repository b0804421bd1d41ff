/*
 * redis_load.h - the messages that one request pushes, for some lists.
 *
 * Purpose: a producer that feeds a thousand queues in turn shall not pay for each message as for
 * one that goes alone. Model: messages of a batch that follow each other make a load, up to a
 * request's worth; in it they stand list by list, each list's in the order they came. Invariants:
 * where a load ends depends on its messages alone: so a resend is cut alike, and has the same
 * tokens. Ownership: messages are borrowed of the caller of broker_publish. Fork rule: none.
 */
#ifndef BROKER_REDIS_LOAD_H
#define BROKER_REDIS_LOAD_H

#include "broker/redis.h"

struct redis_load {
    size_t len; /* 0: the first message does not go with others */
    size_t lists_len;
    const struct broker_message *first[REDIS_BATCH_ITEMS]; /* of each list */
    size_t lens[REDIS_BATCH_ITEMS];                        /* messages of each list */
    const struct broker_message *v[REDIS_BATCH_ITEMS];     /* list by list */
};

/* As many of the n messages from v on as go together. */
void redis_load_gather(struct redis_load *load, const struct broker_message *v, size_t n);
void redis_load_one(struct redis_load *load, const struct broker_message *m);

#endif
