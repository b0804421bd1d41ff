/*
 * amqp_grave.h - walking through messages that lie in queues; private to amqp_dead.c.
 *
 * Purpose: AMQP shows a message only to who fetches it. Model: a walk is part of a question and
 * goes through queues by name; each message is fetched (basic.get) without acknowledgement, read
 * into the letter at hand and given to visit, which ends with grave_next or grave_stop. What was
 * left is put back when its queue is through, and comes back marked as redelivered; what was
 * acknowledged is gone. At the end of the walk `done` is called. A queue that is not there is
 * empty, one that is refused fails the question. Invariant: visit is called for one message at a
 * time; slices of a letter's row are borrowed until it returns. Ownership: the work is the
 * question's. Fork rule: as amqp.h.
 */
#ifndef BROKER_AMQP_GRAVE_H
#define BROKER_AMQP_GRAVE_H

#include "broker/amqp_ask.h"

struct dead_letter {
    struct answer_dead row;
    int64_t retries;
    int priority;
    uint64_t tag;
    bool last; /* of its queue */
    char own_handle[24];
    struct buf envelope; /* owned: without the headers of the grave */
};

typedef void grave_visit_fn(struct amqp_broker *b, struct question *q, struct dead_letter *letter);

struct grave_work {
    json_t *graves; /* owned: names to walk through */
    size_t at;
    grave_visit_fn *visit;
    ask_next_fn *done;
    uint64_t tag;  /* the last one that was fetched and left as it was; 0: none */
    bool emptied;  /* the queue at hand has no more, or enough was seen */
    int64_t count; /* the owner's to use, like out */
    struct buf out;
    struct dead_letter letter; /* the one at hand */
};

/* Makes the question's work, with no queue to walk through yet. NULL: the question has failed. */
struct grave_work *grave_begin(struct amqp_broker *b, struct question *q, grave_visit_fn *visit,
                               ask_next_fn *done);
/* Walks through the graves of the question's queue, or of all, behind a survey. */
void grave_walk_all(struct amqp_broker *b, struct question *q);
/* The next message, the next queue, or the end. */
void grave_walk_on(struct amqp_broker *b, struct question *q);
/* The letter at hand was visited: on. */
void grave_next(struct amqp_broker *b, struct question *q);
/* Enough was seen. */
void grave_stop(struct amqp_broker *b, struct question *q);
/* The letter at hand stays as it was; all that stay are put back together. */
void grave_leave(struct grave_work *w);
/* The letter at hand is handled: it goes for good. */
void grave_acknowledge(struct amqp_broker *b, struct grave_work *w);

#endif
