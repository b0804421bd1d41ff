/*
 * amqp_verdict.h - what the result of a task is, from its records; pure.
 *
 * Purpose: a results stream keeps everything that was ever said about a task. This is the rule by
 * which all who read it come to the same document.
 *
 * Model: fed with the records of one id in log order. The document is that of the first SUCCESS,
 * and until there is one that of the latest record; FORGOTTEN takes what was there away; a document
 * whose time is over is none. Records without a document, or whose document is for nobody
 * (AMQP_RESULT_UNTOLD), say nothing about it.
 *
 * Invariant: equal records give equal documents, wherever the reading began, as long as it began
 * before the first SUCCESS. Ownership: documents are copied. Fork rule: none.
 */
#ifndef BROKER_AMQP_VERDICT_H
#define BROKER_AMQP_VERDICT_H

#include "base/buf.h"
#include "broker/amqp_record.h"

struct amqp_verdict {
    struct buf doc;   /* owned; empty: none */
    int64_t offset;   /* of the record that it stands in, or that took it away; -1: none */
    int64_t until_ms; /* wall clock: it is a result until then */
    bool success;
    bool known; /* some record was about the document, even if there is none now */
};

void amqp_verdict_init(struct amqp_verdict *v);
void amqp_verdict_release(struct amqp_verdict *v);

/* default_ms: how long a document stays whose record does not say it; negative: for ever. */
void amqp_verdict_apply(struct amqp_verdict *v, int64_t offset, const struct amqp_result_record *r,
                        int64_t default_ms);

/* {NULL,0}: there is none. Borrowed until the next change. */
struct slice amqp_verdict_doc(const struct amqp_verdict *v, int64_t now_ms);

/* True when the record has a document that is for the one who asks. */
bool amqp_verdict_has_doc(const struct amqp_result_record *r);

#endif
