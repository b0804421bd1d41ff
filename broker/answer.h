/*
 * answer.h - the JSON texts that answer broker_ask, written once for all backends.
 *
 * Purpose: every backend answers an operator's question in the same words. Model: a backend
 * collects numbers and slices in one of the structures below and appends it to a buf; the result is
 * the data of one BROKER_ANSWER event. Lists are answer_begin, any number of rows, answer_end.
 * Invariant: the text is valid JSON whatever bytes a message holds: a byte that is not UTF-8
 * becomes U+FFFD. Fork rule: none, plain memory.
 */
#ifndef BROKER_ANSWER_H
#define BROKER_ANSWER_H

#include "base/buf.h"
#include "broker/broker.h"

struct answer_queue {
    struct slice queue;
    int64_t waiting;
    int64_t delayed;
    int64_t leased;
    int64_t dead;
    int64_t unknown;
};

struct answer_totals {
    int64_t published;
    int64_t succeeded;
    int64_t failed;
    int64_t retried;
    int64_t dead;
    int64_t waiting;
    int64_t leased;
    int64_t delayed;
    int64_t duplicates;
    int64_t purged;
    int64_t removed;
};

struct answer_peek {
    const char *state; /* "waiting", "delayed", "leased" */
    int priority;
    int64_t not_before_ms;
    struct slice envelope;
};

struct answer_dead {
    struct slice handle;
    struct slice queue;
    enum broker_grave grave;
    struct slice cause;
    struct slice id; /* {NULL,0}: null, as task */
    struct slice task;
    int64_t at_ms;         /* wall clock of the burial */
    size_t size;           /* bytes of the envelope */
    struct slice envelope; /* {NULL,0}: left out (DEAD); else written (DEAD_SHOW) */
};

/* What a doctor thinks of one thing. */
enum answer_verdict {
    ANSWER_OK,
    ANSWER_WARN, /* works, but not as well or as safely as it could */
    ANSWER_BAD   /* jobs can be lost or will not run */
};

void answer_begin(struct buf *out); /* "[" */
void answer_end(struct buf *out);   /* "]" */

/* One object each, with a comma in front where it follows another row of a list. */
void answer_queue(struct buf *out, const struct answer_queue *row);
void answer_totals(struct buf *out, const struct answer_totals *totals);
void answer_peek(struct buf *out, const struct answer_peek *row);
void answer_dead(struct buf *out, const struct answer_dead *row);

/* What a node announced; "node" is added when the object has none. A text that is no object, which
 * only another program can have written, is left out. */
void answer_node(struct buf *out, struct slice node, struct slice json);

/* A row of DOCTOR: the value is formatted, cut at 511 bytes; advice NULL: null. */
void answer_check(struct buf *out, const char *check, enum answer_verdict verdict,
                  const char *advice, const char *fmt, ...) __attribute__((format(printf, 5, 6)));

/* {"name":n}, for PURGE, DROP, DEAD_RETRY and DEAD_RM. */
void answer_count(struct buf *out, const char *name, int64_t n);

/* A JSON string with its quotes; null when absent. */
void answer_text(struct buf *out, struct slice text);

/* "dead" or "unknown". */
const char *answer_grave(enum broker_grave grave);

#endif
