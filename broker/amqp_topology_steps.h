/*
 * amqp_topology_steps.h - what has to be said to the server for each kind of wish; for
 * amqp_topology.c only.
 *
 * Model: a wish is a list of steps, made one at a time when its turn comes; amqp_topology.c runs
 * them and knows which may be left out. Invariant: the same wish gives the same steps. Ownership: a
 * step borrows the wish's name and points into itself: use it where it is. Fork rule: none, plain
 * values.
 */
#ifndef BROKER_AMQP_TOPOLOGY_STEPS_H
#define BROKER_AMQP_TOPOLOGY_STEPS_H

#include "broker/amqp_ladder.h"
#include "broker/amqp_topology.h"

/* What a step says to the server. */
struct topology_step {
    struct amqp_declare d;
    enum amqp_queue_type delays; /* of what messages wait in */
    bool passive;                /* look whether the queue is there */
    bool makes;                  /* left out when the queue was found */
    bool exclusive;
    bool auto_delete;
};

/* The n-th step; false behind the last. */
bool topology_step(struct topology_step *s, const struct topology_wish *wish, int n,
                   enum amqp_queue_type delays);

#endif
