/*
 * redis_keys.h - names of keys and the texts that are kept under them; pure.
 *
 * Purpose: one place that knows how kombu lays messages out in Redis and how we extend it.
 * Model: a queue is four lists, one for each step of priority (0, 3, 6, 9): the plain name, and the
 * name with "\x06\x16" and the step behind it. A leased message is a field of the hash `unacked`:
 * ours is <node>/<generation>/<fence>/<lease ms>/<instance>, kombu's a UUID; its value is the JSON
 * array [envelope, exchange, routing key]. The parts behind the fence tell any other broker how
 * long this lease lasts, and brokers of one node and generation apart. A delayed message is a
 * member <16 hexadecimal digits: when it was made><instance>/<priority>/<queue> of a sorted set.
 * Invariants: a field of ours parses back; a redis_entry's envelope is the element byte for byte,
 * or the same JSON with the redelivered marks that kombu sets. Fork rule: none.
 */
#ifndef BROKER_REDIS_KEYS_H
#define BROKER_REDIS_KEYS_H

#include "base/buf.h"
#include "base/err.h"
#include "broker/broker.h"

#define REDIS_SEP         "\x06\x16"
#define REDIS_UNACKED     "unacked"
#define REDIS_INDEX       "unacked_index"
#define REDIS_BINDING     "_kombu.binding."
#define REDIS_RESULT      "celery-task-meta-"
#define REDIS_TOTALS      "celeriac:totals"
#define REDIS_SENT        "celeriac:sent"
#define REDIS_QUEUES      "celeriac:queues"
#define REDIS_FENCE       "celeriac:fence"
#define REDIS_BULK        "celeriac:bulk" /* the lists: + ":" + name */
#define REDIS_TOKEN       "celeriac:token:"
#define REDIS_DELAYED     "celeriac:delayed"
#define REDIS_DELAYED_MSG "celeriac:delayed:messages"
#define REDIS_DELAYED_OF  "celeriac:delayed:queue:" /* + queue */
#define REDIS_REASONS     "celeriac:reasons:"       /* + name of the grave */
#define REDIS_DEDUP       "celeriac:dedup:"         /* + key */
#define REDIS_NODES       "celeriac:nodes"
#define REDIS_NODE        "celeriac:node:" /* + node */
#define REDIS_BELL        "__redis__:invalidate"

#define REDIS_STEPS 4

/* "" for step 0, else separator and digit; step is 0..3. */
const char *redis_step_suffix(int step);
int redis_step_of(int priority);

/* What a receipt of this backend holds; copied in and out of struct broker_receipt. */
struct redis_lease {
    uint64_t fence;
    uint64_t generation;
    uint32_t lease_ms;
    uint32_t instance;
    uint32_t queue; /* index in redis_broker.queues */
    uint8_t step;
    uint8_t foreign; /* another program's: counted as published when it leaves our hands */
    uint8_t zero[2]; /* in place of padding: receipts are compared as bytes */
};

void redis_lease_store(struct broker_receipt *to, const struct redis_lease *lease);
void redis_lease_load(struct redis_lease *to, const struct broker_receipt *from);

/* Appends the field in front of the fence, the whole field, what stands behind the fence. Its
 * numbers are as wide as they can be, so that the field has more than 64 bytes: of shorter members
 * Redis makes a packed list while they are fewer than 128, and ZADD walks through half of it. */
#define REDIS_FENCE_DIGITS 20
void redis_field_head(struct buf *out, const char *node, uint64_t generation);
void redis_field_tail(struct buf *out, uint32_t lease_ms, uint32_t instance);
void redis_field(struct buf *out, const char *node, const struct redis_lease *lease);

/* 0 when the field is of our form; node is borrowed from it. */
int redis_field_parse(struct slice field, struct slice *node, struct redis_lease *lease);

/* The tail of a recorded value: ,"","queue"] */
void redis_value_tail(struct buf *out, struct slice queue);

/* A JSON string with its quotes, as it stands in a tail. */
void redis_quote(struct buf *out, struct slice text);

/* A delayed message's tag, and back. */
void redis_tag(struct buf *out, uint64_t number, uint32_t instance, int priority,
               struct slice queue);
int redis_tag_parse(struct slice tag, int *priority, struct slice *queue);

/* A recorded value taken apart. */
struct redis_entry {
    char *envelope; /* owned: marked redelivered where it is JSON */
    size_t envelope_len;
    char *exchange;    /* owned; "" for the anonymous one */
    char *routing_key; /* owned */
    int priority;
};

/* ours: written by our fetch script, so that an element that is not JSON comes back untouched.
 * ERR_DEADLETTER when a foreign value is not what kombu writes. */
int redis_entry_parse(struct redis_entry *entry, struct slice value, bool ours, struct err *e);
void redis_entry_release(struct redis_entry *entry);

/* Sets headers.redelivered and properties.delivery_info.redelivered; false (nothing appended) when
 * the text is not an envelope. priority: of the properties, 0 when absent. */
bool redis_mark_redelivered(struct buf *out, struct slice envelope, int *priority);

int redis_envelope_priority(struct slice envelope);

/* Sent by another program: an envelope without our time of sending. Not by its language, which
 * protocol 1 has not and clients in other languages give as they like. */
bool redis_is_foreign(struct slice envelope);
bool redis_was_redelivered(struct slice envelope);

/* A member of a binding set ("key SEP pattern SEP queue") that the routing key matches: the queue.
 */
bool redis_binding_match(struct slice member, struct slice routing_key, struct slice *queue);

#endif
