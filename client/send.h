/*
 * send.h - enqueue messages and know that they are there.
 *
 * Purpose: confirmed, idempotent sending over restarts of the broker.
 * Model: messages go out in batches; each carries its id as token, so that a message which is sent
 * again because its confirmation was lost is pushed once. What fails in a way that may pass is
 * tried again with backoff until the deadline; what is refused is final at once, for that message
 * alone. Invariants: OUTGOING_CONFIRMED means the broker has it; anything else means "not
 * confirmed", and after a lost connection it may be there all the same - sending it again with the
 * same id is safe for 60 s. Ownership: an outgoing owns its memory, which the next message in its
 * place uses again. Fork rule: as session.h.
 */
#ifndef CLIENT_SEND_H
#define CLIENT_SEND_H

#include "base/buf.h"
#include "client/session.h"

#define SEND_BATCH 512

enum outgoing_state {
    OUTGOING_NEW,
    OUTGOING_SENT, /* handed to the broker, not yet confirmed */
    OUTGOING_CONFIRMED,
    OUTGOING_REFUSED
};

struct outgoing {
    char id[UUID_SIZE];
    struct buf text;     /* owned: the envelope, and behind it the queue's name */
    size_t envelope_len; /* of text */
    int priority;
    bool named; /* its id was given, and may have been used before */
    int64_t not_before_ms;
    enum outgoing_state state;
    struct err err; /* why it was refused, or failed last */
};

/* For another message; begins with memory that is zero. */
void outgoing_begin(struct outgoing *o);
void outgoing_release(struct outgoing *o);

static inline struct slice outgoing_envelope(const struct outgoing *o)
{
    return slice_make(buf_slice(&o->text).ptr, o->envelope_len);
}

static inline struct slice outgoing_queue(const struct outgoing *o)
{
    return slice_make(buf_slice(&o->text).ptr + o->envelope_len, o->text.len - o->envelope_len);
}

/* A batch on its way: begun, pumped while the caller does something else, ended. Several may be on
 * their way; what arrives for one reaches it while another is pumped, but what is to be sent again
 * waits for its own sending_end. Everything here is send.c's. */
struct sending {
    struct session *s;
    struct sending *next;
    struct outgoing *v; /* borrowed: at most SEND_BATCH */
    size_t n;
    size_t open;         /* neither confirmed nor refused */
    uint64_t tag;        /* of v[0] in the last publish that named it */
    bool published;      /* once at least: what is sent now may be there already */
    bool again;          /* something is to be sent again */
    int64_t retry_ms;    /* when */
    int64_t deadline_ms; /* for all of it */
    unsigned tries;
    char batch[UUID_SIZE]; /* names this sending; "" for a single message: its id will do */
    struct err why;        /* the broker can not be used */
};

/* v: borrowed until sending_end. */
void sending_begin(struct sending *sending, struct session *s, struct outgoing *v, size_t n);

/* Moves bytes and takes answers, without waiting. */
void sending_pump(struct sending *sending);

/* True when every message has its answer. */
bool sending_is_over(const struct sending *sending);

/* Gives it the full time from now. */
void sending_renew(struct sending *sending);

/* Waits until every message has an answer or the time is over; returns as send_all. */
int sending_end(struct sending *sending, struct err *e);

/* Why a message that was sent is not confirmed; -1. */
int outgoing_explain(const struct session *s, const struct outgoing *o, struct err *e);

/* Sends n messages, at most SEND_BATCH: 0 when all are confirmed; else -1 with what happened to the
 * first that is not, ERR_PARTIAL when others are. The states tell which. */
int send_all(struct session *s, struct outgoing *v, size_t n, struct err *e);

#endif
