/*
 * amqp_out.h - messages on their way out, and the steps they belong to.
 *
 * Purpose: an op of the contract is done when everything it publishes is confirmed. Model: a step
 * stands for one item (a publish, a finish, ...) and counts its messages; a message (out) is one
 * publish. Outs leave in the order they were added: first what they need is declared, then they are
 * written, then confirmed. When the connection breaks, those that were written and not confirmed
 * are written again with the next one, marked with the header celeriac_again, since the server may
 * have them already. When the last out of a step is confirmed, or one was refused, step->done is
 * called once and the step is freed. A step may hold back what is added to it until something else
 * was decided (out_step_hold): then it is sent behind all that was added meanwhile, or dropped.
 * Invariants: order is kept, also over a reconnection; a step is answered exactly once.
 * Ownership: everything is copied. Fork rule: none.
 */
#ifndef BROKER_AMQP_OUT_H
#define BROKER_AMQP_OUT_H

#include "base/err.h"
#include "base/uuid.h"
#include "broker/amqp_topology.h"
#include "broker/broker.h"

/* Headers of a buried message. */
#define AMQP_H_DEAD_QUEUE  "celeriac_dead_queue"
#define AMQP_H_DEAD_GRAVE  "celeriac_dead_grave"
#define AMQP_H_DEAD_CAUSE  "celeriac_dead_cause"
#define AMQP_H_DEAD_HANDLE "celeriac_dead_handle"
#define AMQP_H_DEAD_AT     "celeriac_dead_at_ms"
#define AMQP_H_DEAD_ID     "celeriac_dead_id"
#define AMQP_H_DEAD_TASK   "celeriac_dead_task"

struct amqp_broker;
struct out_step;

/* why NULL: all confirmed. */
typedef void out_done_fn(struct amqp_broker *b, struct out_step *step, const struct err *why);

struct out_step {
    out_done_fn *done;
    enum broker_event_kind event; /* what the caller is told */
    uint64_t tag;
    unsigned flags;
    struct broker_receipt receipt; /* of the delivery that ends; zero for none */
    void *owner;                   /* owned: whatever done needs, one block */
    char token[UUID_SIZE];         /* amqp_long.c: of the copies of its job; "": there are none */
    size_t waiting;                /* outs not yet confirmed */
    struct amqp_out *held;         /* owned: added while it holds back */
    struct amqp_out **held_end;
    bool holds;
    bool closed; /* every out was added */
    bool failed;
    struct err why;
};

/* What a publish says beside its body. */
struct out_spec {
    struct slice exchange;
    struct slice routing_key;
    bool mandatory;
    /* A task: body is an envelope, converted when it is written. */
    bool task;
    bool again;            /* may have been sent before */
    struct slice held;     /* of a task: the token of the job it is a copy of; empty: none */
    int priority;          /* of a task; -1: as its envelope says */
    int64_t not_before_ms; /* of a task; 0: now. routing_key is its queue */
    bool replies;          /* of a task: what becomes of it may come to the own queue, if any */
    const struct grave_note *grave; /* of a task that is buried: headers that say why; NULL: none */
    /* Anything else: bytes. */
    const char *content_type; /* NULL: not said; a constant */
    struct slice correlation_id;
    struct slice reply_to;
    bool persistent;
    struct slice body;
};

/* Why a message lies among the dead, as its headers say. */
struct grave_note {
    struct slice queue;
    enum broker_grave grave;
    struct slice cause;
    struct slice id;
    struct slice task;
    struct slice handle;
    int64_t at_ms;
};

struct amqp_out;

/* Messages written and not confirmed at one time; a power of two. */
#define OUT_WINDOW 512
/* With more than that waiting nothing is fetched. */
#define OUT_BYTES_MAX (8u * 1024 * 1024)
#define OUT_LEN_MAX   8192
/* A server that neither confirms nor says that it is blocked for so long is given up. */
#define OUT_DEADLINE_MS 60000

struct out_queue {
    struct amqp_out *head; /* not yet written */
    struct amqp_out **end;
    size_t len;              /* written or not */
    size_t bytes;            /* of their bodies */
    size_t body_max;         /* the server's max_message_size, once it refused one; 0: not known */
    bool declaring;          /* the first one waits for a declaration */
    uint64_t oldest, newest; /* sequence numbers written and not confirmed; 0: none */
    struct amqp_out *written[OUT_WINDOW]; /* by sequence number */
    amqp_pool_t pool;
};

void amqp_out_init(struct out_queue *q);
void amqp_out_release(struct out_queue *q);

/* NULL when out of memory. The step is owned by the queue from its first out on. */
struct out_step *out_step_new(out_done_fn *done, enum broker_event_kind event, uint64_t tag);
/* -1 when out of memory: the step is then failed, close it all the same. */
int out_add(struct amqp_broker *b, struct out_step *step, const struct out_spec *spec,
            struct err *e);
/* No more outs will be added. Answers at once when none waits. */
void out_step_close(struct amqp_broker *b, struct out_step *step);

/* What is added from now on waits for out_step_send, or goes with out_step_drop: done is then
 * called with why. */
void out_step_hold(struct out_step *step);
void out_step_send(struct amqp_broker *b, struct out_step *step);
void out_step_drop(struct amqp_broker *b, struct out_step *step, const struct err *why);

/* Writes what may be written. */
void amqp_out_flush(struct amqp_broker *b);
/* What the publishing connection tells. */
void amqp_out_confirmed(struct amqp_broker *b, uint64_t sequence, bool ok);
void amqp_out_returned(struct amqp_broker *b, const struct amqp_incoming *in, uint64_t sequence);
void amqp_out_down(struct amqp_broker *b);
int64_t amqp_out_deadline(const struct amqp_broker *b);
void amqp_out_tick(struct amqp_broker *b);
/* The server closed the channel because a message was too large: the limit is known from now on,
 * and that message fails when it would be sent again. */
void amqp_out_too_large(struct amqp_broker *b, const struct err *why);
/* True while so much waits to go out that nothing should be fetched. */
bool amqp_out_full(const struct amqp_broker *b);

#endif
