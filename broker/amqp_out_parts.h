/*
 * amqp_out_parts.h - what the files of amqp_out.h share; nobody else includes it.
 *
 * Model: amqp_step.c makes steps and copies messages into them, amqp_out_write.c makes frames of
 * one message, amqp_out.c has the queue of all: in which order they leave, which are confirmed,
 * which go again. Invariants: a message is in exactly one place: held back by its step, waiting in
 * the queue, or written under its sequence number. Ownership: who takes it out of its place ends it
 * (out_ended), which may answer and free its step. Fork rule: as amqp_out.h.
 */
#ifndef BROKER_AMQP_OUT_PARTS_H
#define BROKER_AMQP_OUT_PARTS_H

#include "broker/amqp_ladder.h"
#include "broker/amqp_out.h"

/* One message. Its texts and its body lie behind it. */
struct amqp_out {
    struct amqp_out *next;
    struct out_step *step;
    struct out_spec spec;
    struct grave_note grave;
    uint64_t sequence;
    int64_t written_at_ms; /* monotonic */
    unsigned refusals;     /* how often its queue was not there after all */
    bool returned;
};

/* --- amqp_step.c --- */
/* It was confirmed (why NULL) or will never be: freed, and its step with its last one. */
void out_ended(struct amqp_broker *b, struct amqp_out *out, const struct err *why);
/* The same without a word to anybody: the broker is closed. */
void out_free(struct amqp_out *out);

/* --- amqp_out_write.c --- */
/* False: what it needs is being declared, or was refused and it was given up. */
bool out_has_all(struct amqp_broker *b, const struct amqp_out *out, const struct amqp_delay *plan);
/* Writes its frames and sets its sequence number. ERR_RECONNECT: not now; other errors: never. */
int out_write(struct amqp_broker *b, struct amqp_out *out, const struct amqp_delay *plan,
              struct err *e);

/* --- amqp_out.c --- */
/* The first waiting message will never leave. */
void out_give_up(struct amqp_broker *b, const struct err *why);

#endif
