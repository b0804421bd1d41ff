/*
 * redis_ask.h - a question of an operator under way; for redis_ask.c and redis_dead.c only.
 *
 * Purpose: most questions need the list of queues first and then a script over all of their keys,
 * those about dead letters several steps more; what is known so far travels from step to step.
 * Model: struct ask is the state of the request that is under way. A step takes it from the last
 * request and gives it to the next; the last one answers and frees it. Invariant: every question
 * ends with one event, BROKER_ANSWER or BROKER_FAILED. Ownership: a request owns its ask. Fork
 * rule: as redis.h.
 */
#ifndef BROKER_REDIS_ASK_H
#define BROKER_REDIS_ASK_H

#include "base/words.h"
#include "broker/answer.h"
#include "broker/redis.h"

struct ask {
    uint64_t tag;
    enum broker_question question;
    int64_t limit;
    char *queue;        /* owned; "" for none */
    char *handle;       /* owned */
    struct words names; /* the queues, sorted */
    size_t grave;       /* 2 * queue + (0 dead, 1 unknown): where DEAD_RETRY and DEAD_RM are */
    int64_t count;
};

/* free_state and failed of a struct redis_op. */
void redis_ask_free(void *state);
void redis_ask_failed(void *owner, struct redis_request *r, const struct err *why);

/* A new step of the question; taken from the last request. NULL: it failed, was told and freed. */
struct redis_request *redis_ask_step(struct redis_broker *b, struct ask *ask,
                                     const struct redis_op *op, enum redis_script_id script);

/* Out of a request that has been answered. */
struct ask *redis_ask_take(struct redis_request *r);

/* --- redis_dead.c: all take the ask --- */

/* Of the queues in names. */
void redis_dead_list(struct redis_broker *b, struct ask *ask);

/* Sends again or removes every one of those queues, the oldest of the next grave that has any. */
void redis_dead_raise(struct redis_broker *b, struct ask *ask);

/* By handle: one grave is known. A text that is no handle finds nothing. */
void redis_dead_by_handle(struct redis_broker *b, struct ask *ask);

#endif
