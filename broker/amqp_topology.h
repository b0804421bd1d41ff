/*
 * amqp_topology.h - exchanges, queues and bindings, declared when first needed.
 *
 * Purpose: nobody has to prepare a RabbitMQ for us, and what somebody prepared is adopted. Model: a
 * wish (a task queue, a grave, a stream, the delay ladder, ...) is a list of steps, run one after
 * another on a channel of its own without waiting. A queue is looked for first (passive declare):
 * one that is there is used as it is, whatever its type; only 404 leads to a declaration. An
 * exchange or queue that exists with other arguments (406) or belongs to another connection (405)
 * is adopted too. What was granted is remembered for the life of the connection; the server closes
 * the channel at every refusal, which the owner tells us (topology_channel_closed): it is opened
 * again and the step is judged by the refusal.
 * Invariant: granted in the order wished. Ownership: names are copied. Fork rule: as amqp_link.h.
 */
#ifndef BROKER_AMQP_TOPOLOGY_H
#define BROKER_AMQP_TOPOLOGY_H

#include "broker/amqp_ids.h"
#include "broker/amqp_link.h"

/* Fanout to all nodes. */
#define QUERY_EXCHANGE "celeriac.query"

enum topology_kind {
    TOPOLOGY_TASK_QUEUE, /* as Celery declares it: direct exchange, queue and binding of one name */
    TOPOLOGY_GRAVE,      /* a durable queue on the default exchange alone */
    TOPOLOGY_REPLIES,    /* a client's own reply queue, as Celery's rpc:// declares it */
    TOPOLOGY_STREAM,
    TOPOLOGY_QUERY, /* this node's exclusive queue, bound to the query exchange */
    TOPOLOGY_QUERY_EXCHANGE,
    TOPOLOGY_LADDER,      /* the delay ladder */
    TOPOLOGY_LADDER_EXIT, /* from the ladder to a queue */
    TOPOLOGY_DELAY_QUEUE  /* the queue of one fixed delay */
};

struct topology_wish {
    enum topology_kind kind;
    struct slice name; /* of the queue; empty for the ladder */
    int64_t
        number; /* TOPOLOGY_DELAY_QUEUE: the step; TOPOLOGY_STREAM: age to keep, in
                   seconds, 0: for ever; TOPOLOGY_REPLIES: ms after which an unused queue goes */
};

/* why NULL: it is there. */
typedef void topology_done_fn(void *owner, uint64_t number, const struct err *why);

struct topology_job;

struct amqp_topology {
    struct amqp_link *link; /* borrowed; NULL while down */
    int channel;
    void *owner;
    struct id_table granted;   /* owned; by kind, number and name */
    struct topology_job *jobs; /* owned; the first one is under way */
};

void topology_init(struct amqp_topology *t, int channel, void *owner);
void topology_release(struct amqp_topology *t);

/* A new connection: nothing is known to be there. Its channel is opened here. */
int topology_up(struct amqp_topology *t, struct amqp_link *link, struct err *e);
/* The connection is gone: what was wished and not granted is wished again with the next one. */
void topology_down(struct amqp_topology *t);
/* The link told that our channel was closed (after the call's own answer). */
void topology_channel_closed(struct amqp_topology *t);

bool topology_has(const struct amqp_topology *t, const struct topology_wish *wish);
/* Runs done when it is there or was refused, now if it is known. */
int topology_ensure(struct amqp_topology *t, const struct topology_wish *wish,
                    topology_done_fn *done, uint64_t number, struct err *e);
/* A queue was deleted by somebody: it has to be looked for again. */
void topology_forget(struct amqp_topology *t, enum topology_kind kind, struct slice name);

#endif
