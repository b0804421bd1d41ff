/*
 * send.h - enqueue messages and know that they are there.
 *
 * Purpose: confirmed, idempotent sending over restarts of the broker.
 * Model: messages go out in batches; each carries its id as token, so that a message which is sent
 * again because its confirmation was lost is pushed once. What fails in a way that may pass is
 * tried again with backoff until the deadline; what is refused is final at once, for that message
 * alone. Invariants: OUTGOING_CONFIRMED means the broker has it; anything else means "not
 * confirmed", and after a lost connection it may be there all the same - sending it again with the
 * same id is safe for 60 s. Ownership: an outgoing owns its envelope. Fork rule: as session.h.
 */
#ifndef CLIENT_SEND_H
#define CLIENT_SEND_H

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
    char *envelope; /* owned */
    size_t envelope_len;
    char *queue; /* owned */
    int priority;
    int64_t not_before_ms;
    enum outgoing_state state;
    struct err err; /* why it was refused, or failed last */
};

void outgoing_release(struct outgoing *o);

/* Sends n messages: 0 when all are confirmed; else -1 with what happened to the first that is not,
 * ERR_PARTIAL when others are. The states tell which. */
int send_all(struct session *s, struct outgoing *v, size_t n, struct err *e);

#endif
