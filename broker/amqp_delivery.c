/* Deliveries: what comes, what may be handed out, what is acknowledged. */
#include "base/fault.h"
#include "broker/amqp.h"
#include "broker/amqp_envelope.h"

#include <stdlib.h>
#include <string.h>

#define ACK_MS 10 /* an end out of order is acknowledged alone after that */
/* So long after a connection was lost a message that waited in the broker may be a second copy. */
#define TWICE_MS 600000

/* --- coming --- */

static char *keep_text(char *at, struct slice *to, struct slice from)
{
    if (!from.ptr)
        return at;
    memcpy(at, from.ptr, from.len);
    *to = slice_make(at, from.len);
    return at + from.len;
}

static int keep_facts(struct amqp_held *h, const struct amqp_facts *f)
{
    size_t len = f->id.len + f->task.len + f->reply_to.len + f->correlation_id.len;
    char *at = h->texts = malloc(len + 1);

    if (!at)
        return -1;
    at = keep_text(at, &h->id, f->id);
    at = keep_text(at, &h->task, f->task);
    at = keep_text(at, &h->reply_to, f->reply_to);
    keep_text(at, &h->correlation_id, f->correlation_id);
    if (f->held.len < sizeof(h->token))
        keep_text(h->token, &(struct slice){0}, f->held);
    h->retries = f->retries;
    h->priority = f->priority;
    return 0;
}

/*
 * Whether a message that another queue handed on may be one that ran already. One that was rejected
 * or went over a delivery limit was delivered before: yes. One that was dropped from a full queue
 * was not. One whose time was over comes from a delay. Such queues hand on at least once: when
 * the server dies between the target's confirmation and its own note of it, a second copy comes,
 * and nothing in it says so. To look up every delayed message would make every worker read the
 * last hour of the results stream and follow it for as long as anybody retries anything, which is
 * far more than the job itself costs. But that window only opens when a server dies, and then our
 * connection to it ends as well: so they are looked up for a while after we lost one. What is left
 * is a second copy after the death of another node of a cluster than ours, and one that travels on
 * for longer than TWICE_MS; a dedup key stops those.
 */
static bool died_twice(const struct amqp_broker *b, const struct amqp_facts *f)
{
    if (!f->died || slice_is(f->death_reason, "maxlen"))
        return false;
    return !slice_is(f->death_reason, "expired") ||
           (b->lost_at_ms && amqp_now(b) - b->lost_at_ms < TWICE_MS);
}

static struct amqp_held *new_held(struct amqp_broker *b, const struct amqp_incoming *in,
                                  size_t queue, struct err *e)
{
    struct amqp_held *h = calloc(1, sizeof(*h));
    struct buf envelope = BUF_INIT;
    struct amqp_facts facts;

    if (!h)
        goto nomem;
    amqp_envelope_facts(&facts, in->properties);
    h->tag = in->delivery_tag;
    h->epoch = b->epoch;
    h->queue = queue;
    h->since_ms = amqp_now(b);
    h->redelivered = in->redelivered || facts.delivery_count > 0;
    h->suspicious = h->redelivered || facts.again || facts.held.len || died_twice(b, &facts);
    if (keep_facts(h, &facts) != 0 ||
        amqp_envelope_from_delivery(&envelope, in, slice_of(b->queues[queue].name), e) != 0)
        goto nomem;
    h->envelope = buf_detach(&envelope, &h->envelope_len);
    if (h->envelope)
        return h;
nomem:
    buf_release(&envelope);
    held_free(h);
    err_nomem(e);
    return NULL;
}

void amqp_take_delivery(struct amqp_broker *b, const struct amqp_incoming *in, size_t queue)
{
    struct err e = ERR_INIT;
    struct amqp_held *h = new_held(b, in, queue, &e);

    if (!h || held_ring_add(&b->held, h) != 0) {
        held_free(h);
        err_nomem(&e);
        wire_drop(&b->wires[AMQP_CONSUME], &e); /* the server delivers it again */
        return;
    }
    if (*h->token)
        amqp_returned(b, h);
    else if (h->suspicious && amqp_aside_has(b, h))
        amqp_done_with(b, h); /* a copy of it is out there */
    else if (h->suspicious && h->id.ptr)
        amqp_suspect(b, h);
    else
        amqp_offer(b, h, false);
}

void amqp_offer(struct amqp_broker *b, struct amqp_held *h, bool front)
{
    struct held_list *list = &b->queues[h->queue].waiting;

    h->state = HELD_WAITING;
    if (front)
        held_list_push_front(list, h);
    else
        held_list_push(list, h);
}

static struct amqp_held *next_waiting(struct amqp_broker *b)
{
    for (size_t i = 0; i < b->queues_len; i++) {
        struct amqp_held *h = held_list_pop(&b->queues[b->next_queue].waiting);

        b->next_queue = (b->next_queue + 1) % b->queues_len;
        if (h)
            return h;
    }
    return NULL;
}

void amqp_hand_out(struct amqp_broker *b)
{
    while (b->credit > 0 && !amqp_out_full(b)) {
        struct amqp_held *h = next_waiting(b);
        struct broker_event event = {.kind = BROKER_DELIVERED};

        if (!h)
            return;
        b->credit--;
        b->lent += !h->kept_aside;
        h->state = HELD_LENT;
        h->fence = ++b->fence; /* an earlier receipt of it does not hold any more */
        event.flags = h->redelivered ? BROKER_REDELIVERED : 0;
        event.fence = h->fence;
        event.receipt = amqp_receipt_of(h);
        event.queue = slice_of(b->queues[h->queue].name);
        event.data = slice_make(h->envelope, h->envelope_len);
        event_queue_push(&b->events, &event);
        FAULT_POINT("amqp.after-fetch");
    }
}

/* --- acknowledging --- */

void amqp_done_with(struct amqp_broker *b, struct amqp_held *h)
{
    if (h->kept_aside) {
        amqp_aside_end(b, h);
        return;
    }
    h->state = HELD_DONE;
    if (b->ack_at_ms == CLOCK_NEVER)
        b->ack_at_ms = amqp_now(b) + ACK_MS;
}

static void ack_odd_ones(struct amqp_broker *b, struct amqp_link *l)
{
    for (uint64_t tag = b->held.first; tag < b->held.end; tag++) {
        const struct amqp_held *h = held_ring_find(&b->held, tag);

        if (h && h->state == HELD_DONE && link_ack(l, AMQP_CH_WORK, tag, false, NULL) == 0)
            held_ring_remove(&b->held, tag);
    }
}

bool amqp_ack_flush(struct amqp_broker *b)
{
    struct amqp_wire *w = &b->wires[AMQP_CONSUME];
    uint64_t last;

    if (b->ack_at_ms == CLOCK_NEVER || !w->link || w->broken)
        return false;
    last = held_ring_finished_prefix(&b->held);
    if (last)
        link_ack(w->link, AMQP_CH_WORK, last, true, NULL);
    if (b->held.first == b->held.end)
        b->ack_at_ms = CLOCK_NEVER;
    if (amqp_now(b) < b->ack_at_ms)
        return last != 0;
    ack_odd_ones(b, w->link);
    b->ack_at_ms = CLOCK_NEVER;
    return true;
}

/* --- time --- */

static int64_t first_due(const struct amqp_broker *b)
{
    int64_t at = CLOCK_NEVER;

    for (const struct amqp_held *h = b->delayed.head; h; h = h->next)
        at = h->due_at_ms < at ? h->due_at_ms : at;
    return at;
}

int64_t amqp_deliveries_deadline(const struct amqp_broker *b)
{
    int64_t due = first_due(b);

    return due < b->ack_at_ms ? due : b->ack_at_ms;
}

void amqp_deliveries_tick(struct amqp_broker *b)
{
    int64_t now_ms = amqp_now(b);

    for (struct amqp_held *h = b->delayed.head, *next; h; h = next) {
        next = h->next;
        if (h->due_at_ms <= now_ms && held_list_remove(&b->delayed, h))
            amqp_offer(b, h, false);
    }
}

/* --- the end of the connection --- */

static void tell_lost(struct amqp_broker *b)
{
    for (uint64_t tag = b->held.first; tag < b->held.end; tag++) {
        const struct amqp_held *h = held_ring_find(&b->held, tag);
        struct broker_event lost = {.kind = BROKER_LOST};

        if (!h || h->state != HELD_LENT)
            continue;
        lost.receipt = amqp_receipt_of(h);
        event_queue_push(&b->events, &lost);
    }
}

void amqp_deliveries_down(struct amqp_broker *b)
{
    tell_lost(b);
    amqp_claims_forget(b);
    amqp_suspects_forget(b);
    for (size_t i = 0; i < b->queues_len; i++)
        b->queues[i].waiting = (struct held_list){0};
    b->delayed = (struct held_list){0};
    held_ring_clear(&b->held);
    amqp_aside_down(b);
    b->lent = 0;
    b->ack_at_ms = CLOCK_NEVER;
    b->lost_at_ms = amqp_now(b);
    b->epoch++;
}
