/*
 * events.h - a queue of broker events whose texts live as long as they must.
 *
 * Purpose: backends finish work inside a poll and hand the outcome out later; the contract lends an
 * event's data until the next call. Model: event_queue_push copies what the event points to into
 * one node; event_queue_drain hands out events and frees the nodes of the previous drain. Nodes are
 * cut from chunks, of which some are kept: a queue in use allocates nothing for an event.
 * Invariants: order is kept, and no outcome is lost when memory is: an event that needs none of its
 * own (done, refused, up) is kept in a spare place and handed out after the others, one that does
 * becomes its BROKER_FAILED with ERR_NOMEM. A delivery without its envelope is dropped: its lease
 * returns by itself. Fork rule: none.
 */
#ifndef BROKER_EVENTS_H
#define BROKER_EVENTS_H

#include "broker/broker.h"

#define EVENT_SPARES 32 /* what is more than this without memory is lost all the same */

struct event_node;
struct event_chunk;

struct event_queue {
    struct event_node *head; /* not yet handed out */
    struct event_node *tail;
    struct event_node *given; /* handed out by the last drain */
    size_t len;
    struct event_chunk *cutting; /* the next node is cut from it; or NULL */
    struct event_chunk *chunks;  /* spare ones */
    size_t chunks_len;
    struct broker_event spares[EVENT_SPARES]; /* without texts, but for a constant error */
    size_t spares_len;
    bool failed; /* some event is not whole: who can undo what it tells does that instead */
};

void event_queue_init(struct event_queue *q);
void event_queue_release(struct event_queue *q);

/* Copies event with its queue, data and err texts. */
void event_queue_push(struct event_queue *q, const struct broker_event *event);

/* Shorthands for the common kinds. */
void event_queue_done(struct event_queue *q, enum broker_event_kind kind, uint64_t tag,
                      unsigned flags);
void event_queue_fail(struct event_queue *q, uint64_t tag, const struct err *err);

/* Frees what is kept for events to come. */
void event_queue_rest(struct event_queue *q);

/* Moves what waits in `from` to the end of q: a transaction's events are handed out after it. */
void event_queue_append(struct event_queue *q, struct event_queue *from);

/* Frees what the last drain lent, then hands out at most max events. */
int event_queue_drain(struct event_queue *q, struct broker_event *events, int max);

static inline bool event_queue_empty(const struct event_queue *q)
{
    return q->head == NULL && q->spares_len == 0;
}

#endif
