/* Consumers, how much they may keep for us, and the connection that they are on. */
#include "broker/amqp_ask.h"

#include <stdio.h>

#define PREFETCH_MAX  4096
#define PREFETCH_FINE 16 /* up to that many the prefetch is exact, then a power of two */
#define SHRINK_MS     5000

/* --- consumers and their prefetch --- */

/* Consumer tags are "<queue's index>.<count>". */
static size_t queue_of(const struct amqp_broker *b, struct slice tag)
{
    size_t index = 0;

    for (size_t i = 0; i < tag.len && tag.ptr[i] != '.'; i++)
        index = index * 10 + (size_t)(tag.ptr[i] - '0');
    return index < b->queues_len ? index : 0;
}

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

/* A job that goes on without its delivery leaves its place to others: they could only wait here. */
void amqp_consume_tick(struct amqp_broker *b)
{
    if (b->aside.len && b->lent == 0 && b->credit == 0 && b->wires[AMQP_CONSUME].ready &&
        !b->wires[AMQP_CONSUME].broken)
        pause(b);
}

/* --- the consuming connection --- */

static void on_delivered(void *owner, struct amqp_link *l, const struct amqp_incoming *in)
{
    (void)l;
    if (in->channel == AMQP_CH_ASK)
        query_asked(owner, in);
    else
        amqp_take_delivery(owner, in, queue_of(owner, in->consumer_tag));
}

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

/* The server has taken everything back and will deliver it again, to anybody. */
static void consume_down(struct amqp_broker *b, const struct err *why)
{
    (void)why;
    for (size_t i = 0; i < b->queues_len; i++) {
        struct amqp_queue *q = &b->queues[i];

        q->tag[0] = '\0';
        q->changing = false;
        q->declared = q->known = false;
        q->prefetch = 0;
    }
    amqp_recent_listen(b, false);
    amqp_deliveries_down(b);
}

const struct amqp_role_ops amqp_consume_role = {"consume", &consume_events, consume_up,
                                                consume_down};
