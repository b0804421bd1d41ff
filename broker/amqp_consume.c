#include "base/fault.h"
#include "broker/amqp_ask.h"
#include "broker/amqp_envelope.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PREFETCH_MAX  4096
#define PREFETCH_FINE 16 /* up to that many the prefetch is exact, then a power of two */
#define SHRINK_MS     5000
#define ACK_MS        10 /* an end out of order is acknowledged alone after that */
/* So long after a connection was lost a message that waited in the broker may be a second copy. */
#define TWICE_MS 600000

/* --- deliveries --- */

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

/* Consumer tags are "<queue's index>.<count>". */
static size_t queue_of(const struct amqp_broker *b, struct slice tag)
{
    size_t index = 0;

    for (size_t i = 0; i < tag.len && tag.ptr[i] != '.'; i++)
        index = index * 10 + (size_t)(tag.ptr[i] - '0');
    return index < b->queues_len ? index : 0;
}

static void take_delivery(struct amqp_broker *b, const struct amqp_incoming *in)
{
    struct err e = ERR_INIT;
    struct amqp_held *h = new_held(b, in, queue_of(b, in->consumer_tag), &e);

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

static void on_delivered(void *owner, struct amqp_link *l, const struct amqp_incoming *in)
{
    (void)l;
    if (in->channel == AMQP_CH_ASK)
        query_asked(owner, in);
    else
        take_delivery(owner, in);
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

/* --- consumers and their prefetch --- */

static void refuse_consumer(struct amqp_broker *b, const struct amqp_queue *q,
                            const struct amqp_answer *answer)
{
    struct err e = *answer->why;

    if (answer->code)
        e.code = ERR_OPERATOR;
    err_wrap(&e, "cannot consume from queue '%s'", q->name);
    wire_drop(&b->wires[AMQP_CONSUME], &e);
}

static void follow_demand(struct amqp_broker *b);

static void on_consuming(void *owner, void *context, uint64_t number,
                         const struct amqp_answer *answer)
{
    struct amqp_broker *b = owner;
    struct amqp_queue *q = &b->queues[number];
    const amqp_basic_consume_ok_t *ok;

    (void)context;
    if (!answer->method) {
        q->changing = false;
        refuse_consumer(b, q, answer);
        return;
    }
    ok = answer->method->decoded; /* they come in any order */
    q = &b->queues[queue_of(b, slice_make(ok->consumer_tag.bytes, ok->consumer_tag.len))];
    q->changing = false;
    q->consuming = true;
    follow_demand(b); /* more may be wanted since it was asked */
}

static int cancel_consumer(struct amqp_broker *b, const char *tag)
{
    amqp_basic_cancel_t m = {.consumer_tag = amqp_cstring_bytes(tag), .nowait = 1};

    return *tag ? link_tell(b->wires[AMQP_CONSUME].link, AMQP_CH_WORK, AMQP_BASIC_CANCEL_METHOD, &m,
                            NULL)
                : 0;
}

/* A consumer keeps the prefetch it began with, so another one takes its place. */
static void consume(struct amqp_broker *b, size_t index, int prefetch)
{
    struct amqp_queue *q = &b->queues[index];
    struct amqp_link *l = b->wires[AMQP_CONSUME].link;
    amqp_basic_qos_t qos = {.prefetch_count = (uint16_t)prefetch, .global = 0};
    amqp_basic_consume_t m = {.queue = amqp_cstring_bytes(q->name)};
    char old[sizeof(q->tag)];

    snprintf(old, sizeof(old), "%s", q->tag);
    snprintf(q->tag, sizeof(q->tag), "%zu.%u", index, ++b->consumers);
    m.consumer_tag = amqp_cstring_bytes(q->tag);
    q->changing = true;
    q->prefetch = prefetch;
    if (link_call(l, AMQP_CH_WORK, AMQP_BASIC_QOS_METHOD, &qos, NULL, NULL, 0, NULL) == 0 &&
        link_call(l, AMQP_CH_WORK, AMQP_BASIC_CONSUME_METHOD, &m, on_consuming, NULL, index,
                  NULL) == 0)
        cancel_consumer(b, old);
}

static int prefetch_for(int wanted)
{
    int n = 1;

    if (wanted <= PREFETCH_FINE)
        return wanted;
    while (n < wanted && n < PREFETCH_MAX)
        n *= 2;
    return n;
}

/* All that the caller holds was acknowledged early: what the server would send in its place could
 * only wait here. */
static void pause(struct amqp_broker *b)
{
    for (size_t i = 0; i < b->queues_len; i++) {
        struct amqp_queue *q = &b->queues[i];

        if (q->changing || q->prefetch == 0)
            continue;
        cancel_consumer(b, q->tag);
        q->tag[0] = '\0';
        q->prefetch = 0;
        q->consuming = false;
    }
}

/* The prefetch follows what the caller holds and wants: no more is kept from other workers. */
static void follow_demand(struct amqp_broker *b)
{
    int want = prefetch_for(b->credit + b->lent), have = 0;
    bool shrink;

    if (b->credit == 0)
        return;
    for (size_t i = 0; i < b->queues_len; i++) {
        if (b->queues[i].changing || !b->queues[i].known)
            return;
        have = b->queues[i].prefetch > have ? b->queues[i].prefetch : have;
    }
    shrink = want < have && (have <= PREFETCH_FINE || want * 4 <= have);
    if (!shrink)
        b->shrink_at_ms = amqp_now(b) + SHRINK_MS;
    if (want <= have && (!shrink || amqp_now(b) < b->shrink_at_ms))
        return;
    for (size_t i = 0; i < b->queues_len; i++)
        consume(b, i, want);
}

/* A queue that was deleted and declared again has no consumer, while the others have theirs. */
static void consume_again(struct amqp_broker *b)
{
    int have = 0;

    for (size_t i = 0; i < b->queues_len; i++)
        have = b->queues[i].prefetch > have ? b->queues[i].prefetch : have;
    for (size_t i = 0; i < b->queues_len && have > 0; i++) {
        if (b->queues[i].prefetch == 0)
            consume(b, i, have);
    }
}

void amqp_credit(struct broker *base, int n)
{
    struct amqp_broker *b = amqp_of(base);

    b->credit = b->queues_len ? n : 0;
    if (b->wires[AMQP_CONSUME].ready && !b->wires[AMQP_CONSUME].broken)
        follow_demand(b);
    amqp_hand_out(b);
}

/* --- time --- */

static int64_t first_due(const struct amqp_broker *b)
{
    int64_t at = CLOCK_NEVER;

    for (const struct amqp_held *h = b->delayed.head; h; h = h->next)
        at = h->due_at_ms < at ? h->due_at_ms : at;
    return at;
}

int64_t amqp_consume_deadline(const struct amqp_broker *b)
{
    int64_t due = first_due(b);

    return due < b->ack_at_ms ? due : b->ack_at_ms;
}

void amqp_consume_tick(struct amqp_broker *b)
{
    int64_t now_ms = amqp_now(b);

    for (struct amqp_held *h = b->delayed.head, *next; h; h = next) {
        next = h->next;
        if (h->due_at_ms <= now_ms && held_list_remove(&b->delayed, h))
            amqp_offer(b, h, false);
    }
    if (b->aside.len && b->lent == 0 && b->credit == 0 && b->wires[AMQP_CONSUME].ready &&
        !b->wires[AMQP_CONSUME].broken)
        pause(b);
}

/* --- the consuming connection --- */

static void on_queue(void *owner, uint64_t number, const struct err *why)
{
    struct amqp_broker *b = owner;

    if (why) {
        wire_drop(&b->wires[AMQP_CONSUME], why);
        return;
    }
    b->queues[number].declared = true;
    for (size_t i = 0; i < b->queues_len; i++) {
        if (!b->queues[i].declared)
            return;
    }
    amqp_kinds_look(b);
}

void amqp_kinds_known(struct amqp_broker *b)
{
    for (size_t i = 0; i < b->queues_len; i++) {
        if (!b->queues[i].known)
            return; /* it was deleted meanwhile, and is looked at again */
    }
    wire_ready(b, AMQP_CONSUME);
    consume_again(b);
    follow_demand(b);
}

static int want_queue(struct amqp_broker *b, size_t index, struct err *e)
{
    struct topology_wish wish = {.kind = TOPOLOGY_TASK_QUEUE,
                                 .name = slice_of(b->queues[index].name)};

    return topology_ensure(&b->wires[AMQP_CONSUME].topology, &wish, on_queue, index, e);
}

/* Somebody deleted the queue: it is declared and consumed again. */
static void on_cancelled(void *owner, struct amqp_link *l, int channel, struct slice tag)
{
    struct amqp_broker *b = owner;
    size_t index = queue_of(b, tag);
    struct amqp_queue *q = &b->queues[index];
    struct err e = ERR_INIT;

    (void)l;
    (void)channel;
    if (!slice_is(tag, q->tag))
        return;
    q->tag[0] = '\0';
    q->consuming = false;
    q->declared = q->known = false;
    q->prefetch = 0;
    topology_forget(&b->wires[AMQP_CONSUME].topology, TOPOLOGY_TASK_QUEUE, slice_of(q->name));
    if (want_queue(b, index, &e) != 0)
        wire_drop(&b->wires[AMQP_CONSUME], &e);
}

static void on_channel_closed(void *owner, struct amqp_link *l, int channel, int code,
                              const struct err *why)
{
    struct amqp_broker *b = owner;
    struct amqp_wire *w = &b->wires[AMQP_CONSUME];
    struct err advice = ERR_INIT;

    (void)l;
    (void)code;
    if (channel == AMQP_CH_TOPOLOGY)
        topology_channel_closed(&w->topology);
    else if (channel != AMQP_CH_DOCTOR)
        wire_drop(w, amqp_timed_out(b, why, &advice) ? &advice : why);
}

static void on_down(void *owner, struct amqp_link *l, const struct err *why)
{
    struct amqp_broker *b = owner;

    (void)l;
    wire_drop(&b->wires[AMQP_CONSUME], why);
}

static const struct amqp_link_events consume_events = {
    .on_delivered = on_delivered,
    .on_cancelled = on_cancelled,
    .on_channel_closed = on_channel_closed,
    .on_down = on_down,
};

static int consume_up(struct amqp_broker *b, struct err *e)
{
    if (link_open_channel(b->wires[AMQP_CONSUME].link, AMQP_CH_WORK, e) != 0)
        return -1;
    for (size_t i = 0; i < b->queues_len; i++) {
        if (want_queue(b, i, e) != 0)
            return -1;
    }
    return query_listen(b, e);
}

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

/* The server has taken everything back and will deliver it again, to anybody. */
static void consume_down(struct amqp_broker *b, const struct err *why)
{
    (void)why;
    tell_lost(b);
    amqp_claims_forget(b);
    amqp_suspects_forget(b);
    for (size_t i = 0; i < b->queues_len; i++) {
        struct amqp_queue *q = &b->queues[i];

        q->waiting = (struct held_list){0};
        q->tag[0] = '\0';
        q->consuming = false;
        q->changing = false;
        q->declared = q->known = false;
        q->prefetch = 0;
    }
    amqp_recent_listen(b, false);
    b->delayed = (struct held_list){0};
    held_ring_clear(&b->held);
    amqp_aside_down(b);
    b->lent = 0;
    b->ack_at_ms = CLOCK_NEVER;
    b->lost_at_ms = amqp_now(b);
    b->epoch++;
}

const struct amqp_role_ops amqp_consume_role = {"consume", &consume_events, consume_up,
                                                consume_down};
