/*
 * amqp_assembly.h - the message that is arriving on a channel.
 *
 * Purpose: a message comes as a method (basic.deliver, get-ok, return), a header frame that says
 * how long the body is, and body frames, over any number of reads. Model: the parts are copied as
 * they come and decoded when the last one is there; decoded values point into the copies and into
 * the pool, until the next content_clear. Invariants: a body longer than the limit, more body than
 * announced, or a frame out of turn is an error of the connection. Headers that nest deeper than
 * CONTENT_NEST or lie about their length are an error of the message alone: librabbitmq decodes
 * tables by recursion, and one message must not be able to overflow the stack of every consumer, so
 * they are not decoded and the message is marked. Fork rule: owned memory, one thread.
 */
#ifndef BROKER_AMQP_ASSEMBLY_H
#define BROKER_AMQP_ASSEMBLY_H

#include "base/buf.h"
#include "broker/amqp_lib.h"
#include "broker/amqp_link.h"

#define CONTENT_NEST 64

struct amqp_content {
    amqp_method_number_t method; /* 0: none is arriving */
    bool header_known;
    uint64_t size;
    struct buf method_bytes;
    struct buf header_bytes; /* the encoded properties */
    struct buf body;
};

void content_release(struct amqp_content *c);
void content_clear(struct amqp_content *c);

/* arguments: what follows the method's number. */
int content_begin(struct amqp_content *c, amqp_method_number_t method, struct slice arguments,
                  struct err *e);
int content_header(struct amqp_content *c, struct slice payload, uint64_t limit, struct err *e);
int content_body(struct amqp_content *c, struct slice payload, struct err *e);
bool content_complete(const struct amqp_content *c);

/* Decodes into *in (all but channel); borrowed from c and the pool. *method is the decoded one. */
int content_decode(const struct amqp_content *c, amqp_pool_t *pool, struct amqp_incoming *in,
                   void **method, struct err *e);

/* Whether encoded properties can be given to the library. */
bool content_sound(struct slice properties);

#endif
