/*
 * redis_push.h - a load on its way (redis_load.h); for redis_push.c and redis_transact.c.
 *
 * Model: a request whose state is a redis_push, and whose items stand as in the load. It is a
 * script, or a transaction where that is allowed, the lists are known to be some, and nobody has
 * seen the messages. Fork rule: as redis.h.
 */
#ifndef BROKER_REDIS_PUSH_H
#define BROKER_REDIS_PUSH_H

#include "broker/redis.h"
#include "broker/redis_load.h"

struct redis_push_list {
    const char *key; /* owned: behind the push */
    size_t len;      /* messages */
};

struct redis_push {
    char token[REDIS_TOKEN_SIZE]; /* its key */
    size_t lists_len;
    struct redis_push_list lists[];
};

/* Appends len of them as arguments and as items. */
void redis_push_envelopes(struct redis_request *r, const struct broker_message *const *v,
                          size_t len);
/* The len items from `from` on are there, in that list; or are not. */
void redis_push_landed(struct redis_broker *b, const struct redis_request *r,
                       const struct redis_push_list *list, size_t from);
void redis_push_refused(struct redis_broker *b, const struct redis_request *r,
                        const struct redis_push_list *list, size_t from, const struct err *why);

/* --- redis_transact.c --- */
/* Writes it as a transaction and submits it. Taken, as by redis_submit. */
int redis_transact(struct redis_broker *b, struct redis_request *r, const struct redis_load *load,
                   struct err *e);

#endif
