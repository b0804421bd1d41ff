#include "broker/amqp_reader.h"

#include "broker/amqp.h"
#include "broker/amqp_table.h"

#include <stdio.h>

#define PREFETCH     1000
#define ACK_EACH     250
#define ACK_MS       1000 /* what is left is acknowledged after that */
#define CHANNELS_MAX 64

static struct amqp_wire *wire_of(struct amqp_broker *b)
{
    return &b->wires[AMQP_READ];
}

static struct amqp_reader *reader_on(const struct amqp_broker *b, int channel)
{
    struct amqp_reader *r = b->readers;

    while (r && r->channel != channel)
        r = r->next;
    return r;
}

/* --- subscribing --- */

/* A channel that was closed a moment ago may still be closing: then the next one. */
static int open_channel(struct amqp_broker *b, struct amqp_reader *r, struct err *e)
{
    for (int n = AMQP_CH_READERS; n < AMQP_CH_READERS + CHANNELS_MAX; n++) {
        if (reader_on(b, n))
            continue;
        if (link_open_channel(wire_of(b)->link, n, e) == 0) {
            r->channel = n;
            return 0;
        }
        if (e->code != ERR_BUG)
            return -1;
    }
    return err_set(e, ERR_BUG, "too many readers of '%s'", r->stream);
}

static void on_consuming(void *owner, void *context, uint64_t number,
                         const struct amqp_answer *answer)
{
    struct amqp_broker *b = owner;
    struct amqp_reader *r = reader_on(b, (int)number);

    (void)context;
    if (!r || !answer->method)
        return; /* what a refusal leads to: reader_channel_closed */
    r->live = true;
    if (r->ops->on_live)
        r->ops->on_live(b, r);
}

static amqp_field_value_t start_value(const struct reader_start *start)
{
    amqp_field_value_t value = amqp_value_of_integer(start->number);

    if (start->from == READER_FIRST)
        return amqp_value_of_text(slice_of("first"));
    if (start->from == READER_NEXT)
        return amqp_value_of_text(slice_of("next"));
    if (start->from == READER_TIME) {
        value.kind = AMQP_FIELD_KIND_TIMESTAMP;
        value.value.u64 = start->number > 0 ? (uint64_t)start->number : 0;
    }
    return value;
}

static int consume(struct amqp_broker *b, struct amqp_reader *r, struct err *e)
{
    struct amqp_link *l = wire_of(b)->link;
    amqp_table_entry_t entry = {amqp_cstring_bytes("x-stream-offset"), start_value(&r->start)};
    amqp_basic_qos_t qos = {.prefetch_count = PREFETCH};
    amqp_basic_consume_t m = {.queue = amqp_cstring_bytes(r->stream),
                              .consumer_tag = amqp_cstring_bytes("reader"),
                              .arguments = {.num_entries = 1, .entries = &entry}};

    if (link_call(l, r->channel, AMQP_BASIC_QOS_METHOD, &qos, NULL, NULL, 0, e) != 0)
        return -1;
    return link_call(l, r->channel, AMQP_BASIC_CONSUME_METHOD, &m, on_consuming, NULL,
                     (uint64_t)r->channel, e);
}

static void subscribe(struct amqp_broker *b, struct amqp_reader *r)
{
    struct err e = ERR_INIT;

    r->live = false;
    r->unacked = 0;
    r->unacked_tag = 0;
    r->ack_at_ms = CLOCK_NEVER;
    if (open_channel(b, r, &e) != 0 || consume(b, r, &e) != 0)
        wire_drop(wire_of(b), &e);
}

static void detach(struct amqp_reader *r)
{
    r->channel = 0;
    r->live = false;
    r->ack_at_ms = CLOCK_NEVER;
}

/* --- beginning and ending --- */

void reader_begin(struct amqp_broker *b, struct amqp_reader *r, const char *stream,
                  const struct reader_start *start, const struct reader_ops *ops)
{
    struct amqp_wire *w = wire_of(b);

    reader_end(b, r);
    *r = (struct amqp_reader){.ops = ops,
                              .stream = stream,
                              .start = *start,
                              .ack_at_ms = CLOCK_NEVER,
                              .next = b->readers};
    b->readers = r;
    wire_want(b, AMQP_READ);
    if (w->ready && !w->broken)
        subscribe(b, r);
}

void reader_end(struct amqp_broker *b, struct amqp_reader *r)
{
    static const amqp_channel_close_t close = {.reply_code = AMQP_REPLY_SUCCESS};
    struct amqp_reader **at = &b->readers;

    while (*at && *at != r)
        at = &(*at)->next;
    if (!*at)
        return;
    *at = r->next;
    r->ops = NULL;
    if (r->channel && wire_of(b)->link)
        link_call(wire_of(b)->link, r->channel, AMQP_CHANNEL_CLOSE_METHOD, &close, NULL, NULL, 0,
                  NULL);
    detach(r);
}

/* --- records --- */

static void ack(struct amqp_broker *b, struct amqp_reader *r)
{
    link_ack(wire_of(b)->link, r->channel, r->unacked_tag, true, NULL);
    r->unacked = 0;
    r->ack_at_ms = CLOCK_NEVER;
}

static void count_delivery(struct amqp_broker *b, struct amqp_reader *r, uint64_t tag)
{
    r->unacked_tag = tag;
    if (++r->unacked >= ACK_EACH)
        ack(b, r);
    else if (r->ack_at_ms == CLOCK_NEVER)
        r->ack_at_ms = amqp_now(b) + ACK_MS;
}

/* The server begins with a whole chunk, so the first ones may be older than what was wanted. */
static bool is_wanted(const struct amqp_reader *r, int64_t offset)
{
    return r->start.from != READER_OFFSET || offset >= r->start.number;
}

static void take_record(struct amqp_broker *b, const struct amqp_incoming *in)
{
    struct amqp_reader *r = reader_on(b, in->channel);
    int64_t offset;

    if (!r)
        return;
    count_delivery(b, r, in->delivery_tag);
    if (!(in->properties->_flags & AMQP_BASIC_HEADERS_FLAG) ||
        !amqp_value_integer(amqp_table_get(&in->properties->headers, "x-stream-offset"), &offset) ||
        !is_wanted(r, offset))
        return;
    r->start = (struct reader_start){READER_OFFSET, offset + 1};
    r->ops->on_record(b, r, offset, in->body); /* may end it */
}

/* --- the connection --- */

static void on_delivered(void *owner, struct amqp_link *l, const struct amqp_incoming *in)
{
    (void)l;
    if (in->channel == AMQP_CH_REPLIES)
        amqp_replies_delivered(owner, in);
    else
        take_record(owner, in);
}

/* False: it goes on trying. */
static bool refuse(struct amqp_broker *b, struct amqp_reader *r, const struct err *why)
{
    const struct reader_ops *ops = r->ops;

    if (!ops->on_refused || why->code == ERR_RECONNECT)
        return false;
    reader_end(b, r);
    ops->on_refused(b, r, why);
    return true;
}

static struct amqp_reader *reader_at(const struct amqp_broker *b, uint64_t number)
{
    struct amqp_reader *r = b->readers;

    while (r && (uint64_t)(uintptr_t)r != number)
        r = r->next;
    return r;
}

static void on_stream(void *owner, uint64_t number, const struct err *why)
{
    struct amqp_broker *b = owner;
    struct amqp_reader *wished = reader_at(b, number);

    if (why && wished && refuse(b, wished, why))
        return;
    if (why) {
        wire_drop(wire_of(b), why);
        return;
    }
    for (struct amqp_reader *r = b->readers; r; r = r->next) {
        if (!r->channel)
            subscribe(b, r);
    }
}

/* 404: nobody has made the stream yet, or it was deleted and counts from 0 again. */
static void declare(struct amqp_broker *b, struct amqp_reader *r)
{
    struct topology_wish wish = {.kind = TOPOLOGY_STREAM,
                                 .name = slice_of(r->stream),
                                 .number =
                                     r->ops->age_s ? r->ops->age_s(b) : amqp_results_age_s(b)};
    struct amqp_topology *t = &wire_of(b)->topology;
    struct err e = ERR_INIT;

    if (r->start.from != READER_NEXT)
        r->start = (struct reader_start){READER_FIRST, 0};
    topology_forget(t, TOPOLOGY_STREAM, wish.name);
    if (topology_ensure(t, &wish, on_stream, (uint64_t)(uintptr_t)r, &e) != 0)
        wire_drop(wire_of(b), &e);
}

static void on_channel_closed(void *owner, struct amqp_link *l, int channel, int code,
                              const struct err *why)
{
    struct amqp_broker *b = owner;
    struct amqp_reader *r = reader_on(b, channel);

    (void)l;
    if (channel == AMQP_CH_TOPOLOGY) {
        topology_channel_closed(&wire_of(b)->topology);
    } else if (r && code == 404) {
        detach(r);
        declare(b, r);
    } else if (r && code == 403 && why && refuse(b, r, why)) {
        return;
    } else {
        wire_drop(wire_of(b), why);
    }
}

/* The queue was deleted: begin anew with what may have taken its place. */
static void on_cancelled(void *owner, struct amqp_link *l, int channel, struct slice consumer_tag)
{
    struct amqp_broker *b = owner;
    struct err why = ERR_INIT;

    (void)l;
    (void)consumer_tag;
    err_set(&why, ERR_RECONNECT, "a queue that was read was deleted (channel %d)", channel);
    wire_drop(wire_of(b), &why);
}

static void on_down(void *owner, struct amqp_link *l, const struct err *why)
{
    (void)l;
    wire_drop(wire_of(owner), why);
}

static const struct amqp_link_events read_events = {
    .on_delivered = on_delivered,
    .on_cancelled = on_cancelled,
    .on_channel_closed = on_channel_closed,
    .on_down = on_down,
};

static int read_up(struct amqp_broker *b, struct err *e)
{
    wire_ready(b, AMQP_READ);
    for (struct amqp_reader *r = b->readers; r; r = r->next)
        subscribe(b, r);
    return amqp_replies_up(b, e);
}

static void read_down(struct amqp_broker *b, const struct err *why)
{
    (void)why;
    for (struct amqp_reader *r = b->readers; r; r = r->next)
        detach(r);
    amqp_replies_down(b);
}

const struct amqp_role_ops amqp_read_role = {"read", &read_events, read_up, read_down};

/* --- time --- */

int64_t reader_deadline(const struct amqp_broker *b)
{
    int64_t at = CLOCK_NEVER;

    for (const struct amqp_reader *r = b->readers; r; r = r->next)
        at = r->ack_at_ms < at ? r->ack_at_ms : at;
    return at;
}

void reader_tick(struct amqp_broker *b)
{
    if (!wire_of(b)->ready || wire_of(b)->broken)
        return;
    for (struct amqp_reader *r = b->readers; r; r = r->next) {
        if (r->channel && amqp_now(b) >= r->ack_at_ms)
            ack(b, r);
    }
}
