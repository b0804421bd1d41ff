/*
 * redis_push.h - what goes to one list at once; for redis_push.c and redis_transact.c.
 *
 * Model: a request whose state is a redis_push. It is a script, or a transaction where that is
 * allowed, the list is known to be one, and nobody has seen the messages. Fork rule: as redis.h.
 */
#ifndef BROKER_REDIS_PUSH_H
#define BROKER_REDIS_PUSH_H

#include "broker/redis.h"

struct redis_push {
    char token[REDIS_TOKEN_SIZE]; /* its key */
    char list[];
};

/* Its `done`. */
void redis_pushed(void *owner, struct redis_request *r, const redisReply *reply);
/* Appends them as arguments and as items. */
void redis_push_envelopes(struct redis_request *r, const struct broker_message *v, size_t n);

/* --- redis_transact.c --- */
/* Writes it as a transaction and submits it. Taken, as by redis_submit. */
int redis_transact(struct redis_broker *b, struct redis_request *r, const struct broker_message *v,
                   size_t n, struct err *e);

#endif
