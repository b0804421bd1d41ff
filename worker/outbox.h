/*
 * outbox.h - messages of running tasks on their way to the broker (send_now), kept until it has
 * confirmed them.
 *
 * Model: each item is published with a token, so that a resend after a lost connection pushes
 * nothing twice. Tags carry OUTBOX_TAG, which no job number does. Invariant: an item leaves only
 * when confirmed. Fork rule: one per dispatcher.
 */
#ifndef WORKER_OUTBOX_H
#define WORKER_OUTBOX_H

#include "broker/broker.h"
#include "worker/channel.h"

#include <sys/queue.h>

#define OUTBOX_TAG (UINT64_C(1) << 62)

struct outbox_item;
TAILQ_HEAD(outbox_list, outbox_item);

struct outbox {
    struct outbox_list items;
    uint64_t last;
    size_t len;
};

void outbox_init(struct outbox *box);
void outbox_release(struct outbox *box);

/* Copies the follow-up. fence: of the job that sends, part of the token. */
int outbox_add(struct outbox *box, const struct channel_followup *f, uint64_t fence, struct err *e);

/* Publishes what has not been submitted and is due. */
void outbox_submit(struct outbox *box, struct broker *b, int64_t now_ms);

/* A PUBLISHED or FAILED event whose tag has OUTBOX_TAG. retry_at_ms: when to try again. */
void outbox_answer(struct outbox *box, const struct broker_event *event, int64_t retry_at_ms);

int64_t outbox_next_ms(const struct outbox *box);

#endif
