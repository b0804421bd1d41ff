/*
 * amqp_envelope.h - kombu's JSON envelope as an AMQP message, and a delivery as an envelope; pure.
 *
 * Purpose: all of Celeriac outside broker/amqp_* knows a message as the bytes of the envelope that
 * kombu keeps in Redis (broker.h, message.h). Over AMQP Celery sends the same parts as properties,
 * a header table and a plain body. These two functions are the bridge, and the only place that
 * knows how the parts correspond.
 *
 * Model, envelope to message: body is decoded from base64 and becomes the body; content-type and
 * content-encoding, correlation_id, reply_to, delivery_mode, priority, expiration, message_id,
 * timestamp, type, app_id and cluster_id become the properties of those names, only where the
 * envelope has them; headers become the table (amqp_table.h). Left out is what the broker gives or
 * what belongs to the way the message had come: body_encoding, delivery_tag, delivery_info, user_id
 * (the server refuses another connection's), the headers x-delivery-count, x-death and its
 * x-first-death-*, x-last-death-* (a server before 4.0 believes an x-death that it is sent, takes
 * the message for one that goes round in a circle, and drops it).
 *
 * Model, delivery to envelope: the reverse, plus what the reader of envelopes insists on:
 * body_encoding "base64", delivery_tag, delivery_info {"exchange": "", "routing_key": the consumed
 * queue, "redelivered"}: so that a retry goes to the queue that the job came from, whatever
 * exchange it was published to (kombu's key of a delayed message even starts with 28 digits). Where
 * exchange or key were others, delivery_info has them too, as "sent_exchange" and "sent_key".
 * Properties that are absent are absent in the envelope.
 *
 * Invariants: every envelope can be sent and every delivery becomes an envelope; only memory can
 * fail. An envelope that is not one, or that does not fit AMQP (a reply_to of 300 bytes, headers
 * larger than a frame), is sent as it is, byte for byte: body with the content type AMQP_RAW_TYPE,
 * `raw` set, the reason in the error; such a delivery gives the same bytes back. A delivery that
 * JSON cannot express (names of headers that are not UTF-8, NaN, nesting without end) becomes an
 * envelope with "celeriac_refused" (message.h): its reader calls it poison with that reason; the
 * table is in it as base64 ("celeriac_table"; null when it is nested so deep that nobody should
 * touch it). One whose headers could not even be decoded (amqp_incoming.malformed) becomes such an
 * envelope too, with its properties as they came ("celeriac_properties"). Envelope to message to
 * envelope keeps body, content, headers and properties but for those left out above.
 *
 * Ownership: what is made for sending lives in the pool or is borrowed from the envelope's bytes;
 * keep both until it is encoded. Fork rule: none, plain memory.
 */
#ifndef BROKER_AMQP_ENVELOPE_H
#define BROKER_AMQP_ENVELOPE_H

#include "broker/amqp_link.h"
#include "broker/amqp_table.h"

/* A message that is an envelope which AMQP's own form cannot carry. */
#define AMQP_RAW_TYPE "application/x-celeriac-envelope"

/* Header of ours, a boolean: this message may be one that was sent before (a publish that was never
 * confirmed, a follow-up of a run that was itself suspicious), though the broker does not know. */
#define AMQP_H_AGAIN "celeriac_again"
/* Header of ours, a text: a copy of a job that was acknowledged early; its token (amqp_long.c). */
#define AMQP_H_HELD "celeriac_held"

struct amqp_outgoing {
    amqp_basic_properties_t properties;
    struct slice body;
    bool raw;
};

/* header_max: most bytes of the properties in their frame; 0: what fits a frame of 128 KiB with 4
 * KiB to spare for headers that are added later. 0, with `raw` set and e filled when it has to go
 * as it is; -1 with ERR_NOMEM. */
int amqp_envelope_to_message(struct amqp_outgoing *out, struct slice envelope, size_t header_max,
                             amqp_pool_t *pool, struct err *e);

/* Adds a header of ours, borrowed as in amqp_table_set. Also to a raw one. */
int amqp_outgoing_header(struct amqp_outgoing *out, const char *name, amqp_field_value_t value,
                         amqp_pool_t *pool, struct err *e);

/* Takes "expiration" off. For what goes to a delay queue: there it would run out while the message
 * waits, and the server hands on what ran out at once: too early. (The header "expires" stays; a
 * worker looks at it when the message comes.) */
void amqp_outgoing_delayed(struct amqp_outgoing *out);

/* Bytes that properties take in their frame, the frame's own parts not counted. */
size_t amqp_properties_size(const amqp_basic_properties_t *properties);

/* Appends the envelope. queue: the one that was consumed. -1 with ERR_NOMEM only. */
int amqp_envelope_from_delivery(struct buf *out, const struct amqp_incoming *in, struct slice queue,
                                struct err *e);

/* What the backend wants to know of a delivery, without reading JSON. Texts are borrowed from the
 * delivery, {NULL, 0} when absent. */
struct amqp_facts {
    struct slice id; /* headers; absent in protocol 1, whose id is in the body */
    struct slice task;
    struct slice reply_to;
    struct slice correlation_id;
    struct slice held;         /* AMQP_H_HELD */
    int64_t retries;           /* header; 0 when absent */
    int64_t delivery_count;    /* x-delivery-count of a quorum queue; 0 when absent */
    int priority;              /* 0-255; 0 when absent */
    bool again;                /* AMQP_H_AGAIN is true */
    bool died;                 /* has x-death, at least one entry. The newest one says: */
    struct slice death_reason; /* "expired", "rejected", "maxlen", "delivery_limit" */
};
void amqp_envelope_facts(struct amqp_facts *facts, const amqp_basic_properties_t *properties);

#endif
