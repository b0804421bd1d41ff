#include "worker/outbox.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

struct outbox_item {
    TAILQ_ENTRY(outbox_item) link;
    uint64_t tag;
    struct buf bytes;          /* the encoded follow-up */
    struct channel_followup f; /* points into bytes */
    char token[64];
    bool submitted;
    int64_t try_at_ms;
};

void outbox_init(struct outbox *box)
{
    *box = (struct outbox){0};
    TAILQ_INIT(&box->items);
}

static void item_free(struct outbox_item *item)
{
    buf_release(&item->bytes);
    free(item);
}

static void drop(struct outbox *box, struct outbox_item *item)
{
    TAILQ_REMOVE(&box->items, item, link);
    box->len--;
    item_free(item);
}

void outbox_release(struct outbox *box)
{
    struct outbox_item *item = TAILQ_FIRST(&box->items);

    while (item) {
        struct outbox_item *next = TAILQ_NEXT(item, link);

        item_free(item);
        item = next;
    }
    outbox_init(box);
}

int outbox_add(struct outbox *box, const struct channel_followup *f, uint64_t fence, struct err *e)
{
    struct outbox_item *item = calloc(1, sizeof(*item));
    struct slice rest;

    if (!item)
        return err_nomem(e);
    channel_put_followup(&item->bytes, f);
    rest = buf_slice(&item->bytes);
    if (item->bytes.failed || channel_next_followup(&rest, &item->f) != 1) {
        item_free(item);
        return err_nomem(e);
    }
    snprintf(item->token, sizeof(item->token), "%.*s/%" PRIu64,
             (int)(f->id.len > 40 ? 40 : f->id.len), f->id.ptr ? f->id.ptr : "", fence);
    item->tag = OUTBOX_TAG | ++box->last;
    TAILQ_INSERT_TAIL(&box->items, item, link);
    box->len++;
    return 0;
}

void outbox_submit(struct outbox *box, struct broker *b, int64_t now_ms)
{
    struct outbox_item *item;

    TAILQ_FOREACH(item, &box->items, link)
    {
        struct broker_message m = {.tag = item->tag,
                                   .queue = item->f.queue,
                                   .envelope = item->f.envelope,
                                   .token = slice_of(item->token),
                                   .id = item->f.id,
                                   .priority = item->f.priority,
                                   .not_before_ms = item->f.not_before_ms,
                                   .continues = item->f.continues != 0};

        if (item->submitted || item->try_at_ms > now_ms)
            continue;
        if (broker_publish(b, &m, 1, NULL) == 0)
            item->submitted = true;
        else
            item->try_at_ms = now_ms + 100;
    }
}

void outbox_answer(struct outbox *box, const struct broker_event *event, int64_t retry_at_ms)
{
    struct outbox_item *item;

    TAILQ_FOREACH(item, &box->items, link)
    {
        if (item->tag != event->tag)
            continue;
        if (event->kind == BROKER_PUBLISHED) {
            drop(box, item);
        } else {
            item->submitted = false;
            item->try_at_ms = retry_at_ms;
        }
        return;
    }
}

int64_t outbox_next_ms(const struct outbox *box)
{
    const struct outbox_item *item;
    int64_t next = CLOCK_NEVER;

    TAILQ_FOREACH(item, &box->items, link)
    {
        if (!item->submitted && item->try_at_ms < next)
            next = item->try_at_ms;
    }
    return next;
}
