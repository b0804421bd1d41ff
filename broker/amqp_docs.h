/*
 * amqp_docs.h - a bounded memory of result documents by task id; pure.
 *
 * Purpose: a client keeps what came to its own queue until somebody asks, a node what it stored
 * last. Model: entries in the order they were added; when there are too many bytes the oldest go.
 * Invariant: no more than max bytes, what the entries themselves take counted. Ownership: documents
 * are copied. Fork rule: none.
 */
#ifndef BROKER_AMQP_DOCS_H
#define BROKER_AMQP_DOCS_H

#include "base/buf.h"
#include "broker/amqp_ids.h"

struct kept_doc {
    struct id_entry entry;
    struct kept_doc *older, *newer;
    struct buf doc;   /* empty: none yet */
    int64_t until_ms; /* the owner's to use, like mark */
    unsigned mark;
};

struct kept_docs {
    struct id_table ids;
    struct kept_doc *oldest, *newest;
    size_t bytes;
    size_t max;
};

void kept_docs_release(struct kept_docs *all);
struct kept_doc *kept_docs_find(const struct kept_docs *all, struct slice id);
/* The entry, made when it is not there. NULL: out of memory, or too large for max. */
struct kept_doc *kept_docs_add(struct kept_docs *all, struct slice id);
/* Takes the place of the document that is there. The entry may be dropped for want of memory or
 * room: false. */
bool kept_docs_set(struct kept_docs *all, struct kept_doc *k, struct slice doc);
void kept_docs_drop(struct kept_docs *all, struct kept_doc *k);

#endif
