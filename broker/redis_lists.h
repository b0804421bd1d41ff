/*
 * redis_lists.h - which of a worker's lists may hold something.
 *
 * Purpose: a fetch names the lists that may hold something, so that it costs what it finds and not
 * what the worker could find: of a thousand queues and four steps each, most are empty. Model: a
 * list (a queue and a step) is MAYBE until a fetch saw it empty, which made the bell ring for it;
 * then it is EMPTY until the bell names it. While a fetch is under way its lists are ASKED, so that
 * what the bell says meanwhile is not lost. Without a bell every list stays MAYBE.
 *
 * Invariants: maybe counts the lists that are MAYBE; lists are chosen step by step (kombu's order)
 * and within a step from a queue on that moves with every choice, so that none starves. Ownership:
 * queues are borrowed. Fork rule: as redis.h.
 */
#ifndef BROKER_REDIS_LISTS_H
#define BROKER_REDIS_LISTS_H

#include "base/slice.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct redis_queue {
    char *name; /* owned */
    char *tail; /* owned: tail of a recorded value */
    size_t tail_len;
};

struct redis_lists {
    const struct redis_queue *queues;
    size_t queues_len;
    unsigned char *states; /* owned; of step * queues_len + queue */
    size_t maybe;
    size_t *by_name; /* owned: queues in the order of their names */
    size_t *chosen;  /* owned: the lists of the last choice, in order */
    size_t chosen_len;
    size_t first; /* the queue that the next choice begins with */
};

/* All MAYBE. -1 when out of memory: releasing it is right all the same. */
int redis_lists_init(struct redis_lists *l, const struct redis_queue *queues, size_t queues_len);
void redis_lists_release(struct redis_lists *l);

/* Nothing is known any more. */
void redis_lists_forget(struct redis_lists *l);

/* Something was pushed to that list, or key. False when it is none of ours. */
bool redis_lists_pushed(struct redis_lists *l, struct slice queue, int step);
bool redis_lists_pushed_key(struct redis_lists *l, struct slice key);

/* Chooses at most so many that are MAYBE. listen: they are ASKED until redis_lists_heard. */
void redis_lists_choose(struct redis_lists *l, size_t most, bool listen);

/* The end of a choice with listen: its first lists are empty and the bell rings for them. */
void redis_lists_heard(struct redis_lists *l, size_t empty);

/* The same of any lists, outside of a choice: they are ASKED until redis_lists_answered. */
void redis_lists_ask(struct redis_lists *l, const size_t *lists, size_t n);
void redis_lists_answered(struct redis_lists *l, const size_t *lists, size_t n, bool empty);

size_t redis_lists_queue(const struct redis_lists *l, size_t list);
int redis_lists_step(const struct redis_lists *l, size_t list);

#endif
