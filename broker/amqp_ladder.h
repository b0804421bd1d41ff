/*
 * amqp_ladder.h - how a message waits in RabbitMQ: plans, names and topology; pure.
 *
 * Purpose: the broker has no "deliver at", only queues whose messages time out. Two arrangements of
 * such queues, and the rule which one a delay uses.
 *
 * Model, the ladder: Celery's native delayed delivery, names and arguments exactly kombu's, so that
 * Python programs share it. Level n (27 to 0) is a topic exchange and a queue "celery_delayed_<n>";
 * the queue keeps a message 2^n seconds and hands it to the exchange below. The routing key is the
 * delay as 28 binary digits with dots, then the destination queue's name: at level n the digit says
 * whether to wait there or to pass. Level 0 hands to "celery_delayed_delivery", to which the
 * destination is bound. Where kombu enters at level 27, a message of ours enters at its highest
 * digit that is 1: the way from there is the same, and 27 topic matches are saved (ten times the
 * throughput). kombu binds a destination with "#.<queue>", which also catches what is meant for a
 * queue "x.<queue>"; ours is 28 times "*." and the name, which matches nothing else.
 *
 * Model, the steps: for the round delays that a backoff is made of (steps_ms in the source) a
 * fanout exchange and one queue "celeriac.delay.<ms>", exact to the millisecond. The message is
 * published with the destination's name as routing key; the queue dead-letters to the default
 * exchange and keeps the key, so it arrives there with one hop. The queues never expire: one that
 * expires takes its messages along, and publishing does not count as use. They are few, because the
 * steps are fixed. A delay takes a step when it is at most 50 ms or 2 % shorter than it.
 *
 * Both kinds are quorum queues with at-least-once dead-lettering where the server has them (3.10),
 * classic otherwise: those hand on without waiting for a confirmation.
 *
 * Invariants: never early (a delay is rounded up: to the step, to the whole second on the ladder);
 * all queues of one step or level have one TTL, so nothing waits behind a longer delay. A message
 * with a shorter expiration of its own would be handed on too early: take it off
 * (amqp_outgoing_delayed). One that has an x-death header would be dropped on its second way as
 * going round in a circle: amqp_envelope_to_message takes it off. Whoever declares finds a queue of
 * the same name with another type (406): leave it, it does the same. Fork rule: none, plain values.
 */
#ifndef BROKER_AMQP_LADDER_H
#define BROKER_AMQP_LADDER_H

#include "base/err.h"
#include "base/slice.h"
#include "broker/amqp_table.h"

#define AMQP_LADDER_LEVELS   28
#define AMQP_LADDER_MAX_S    ((1 << AMQP_LADDER_LEVELS) - 1) /* 8.5 years */
#define AMQP_LADDER_DELIVERY "celery_delayed_delivery"
/* Bytes in front of the destination in a routing key of the ladder. */
#define AMQP_LADDER_DIGITS (2 * AMQP_LADDER_LEVELS)
/* A destination with a longer name has no place in such a key. */
#define AMQP_LADDER_QUEUE_MAX (AMQP_SHORT_MAX - AMQP_LADDER_DIGITS)

enum amqp_delay_kind {
    AMQP_DELAY_NONE,  /* now: publish to the default exchange */
    AMQP_DELAY_STEP,  /* declare amqp_step_topology of `step`, then publish */
    AMQP_DELAY_LADDER /* declare amqp_ladder_topology and amqp_ladder_binding, then publish */
};

struct amqp_delay {
    enum amqp_delay_kind kind;
    int step;         /* index in the steps; -1 */
    int64_t delay_ms; /* how long the broker will keep it: what was asked for or more */
    char exchange[32];
    char routing_key[AMQP_SHORT_MAX + 1];
};

/* Where to publish a message for `queue` so that it is delivered at not_before_ms, both wall clock.
 * ERR_USAGE: further away than the ladder reaches, or a name that does not fit or has a word that
 * means something else in a binding ("*", "#"). */
int amqp_delay_plan(struct amqp_delay *plan, int64_t not_before_ms, int64_t now_ms,
                    struct slice queue, struct err *e);

/* Milliseconds of a step, 0 behind the last. */
int64_t amqp_step_ms(int step);

/* The destination in a routing key of the ladder: behind its digits. Any other key as it is. */
struct slice amqp_ladder_destination(struct slice routing_key);

enum amqp_queue_type { AMQP_CLASSIC, AMQP_QUORUM };

enum amqp_declare_kind {
    AMQP_DECLARE_EXCHANGE, /* name, type; durable */
    AMQP_DECLARE_QUEUE,    /* name, arguments; durable */
    AMQP_BIND_QUEUE,       /* queue `name` to exchange `source` with `key` */
    AMQP_BIND_EXCHANGE     /* exchange `name` to exchange `source` with `key` */
};

/* One thing to declare. Its texts and arguments point into itself (and name of a binding to the
 * caller's slice): use it where it is, do not copy it. */
struct amqp_declare {
    enum amqp_declare_kind kind;
    struct slice name;
    struct slice type;
    struct slice source;
    struct slice key;
    amqp_table_t arguments;

    char name_text[32];
    char source_text[32];
    char next_text[32];
    char key_text[AMQP_SHORT_MAX + 1];
    amqp_table_entry_t entries[6];
};

/* The n-th thing to declare, in order; false behind the last. */
bool amqp_ladder_topology(struct amqp_declare *d, int n, enum amqp_queue_type type);
bool amqp_step_topology(struct amqp_declare *d, int n, int step, enum amqp_queue_type type);

/* The binding that a destination needs for the ladder; it must exist. ERR_USAGE for the names that
 * amqp_delay_plan refuses. */
int amqp_ladder_binding(struct amqp_declare *d, struct slice queue, struct err *e);

#endif
