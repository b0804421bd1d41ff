#include "tests/support/amqp_case.h"

#include <stdio.h>

static void on_delivered(void *owner, struct amqp_link *l, const struct amqp_incoming *in)
{
    struct amqp_case *c = owner;
    struct err e;

    c->delivered++;
    c->bytes += in->body.len;
    if (c->on_delivered)
        c->on_delivered(c, in);
    if (c->ack)
        CHECK_OK(link_ack(l, in->channel, in->delivery_tag, false, &e));
}

static void on_returned(void *owner, struct amqp_link *l, const struct amqp_incoming *in,
                        uint64_t sequence)
{
    struct amqp_case *c = owner;

    (void)l;
    c->returned++;
    c->returned_sequence = sequence;
    c->returned_code = in->reply_code;
    snprintf(c->returned_key, sizeof(c->returned_key), "%.*s", SLICE_ARG(in->routing_key));
}

static void on_confirm(void *owner, struct amqp_link *l, int channel, uint64_t sequence, bool ok)
{
    struct amqp_case *c = owner;

    (void)l;
    (void)channel;
    if (ok)
        c->confirmed++;
    else
        c->nacked++;
    c->last_confirmed = sequence;
    if (c->on_confirmed)
        c->on_confirmed(c);
}

static void on_cancelled(void *owner, struct amqp_link *l, int channel, struct slice tag)
{
    struct amqp_case *c = owner;

    (void)l;
    (void)channel;
    (void)tag;
    c->cancelled++;
}

static void on_blocked(void *owner, struct amqp_link *l, bool blocked, struct slice reason)
{
    struct amqp_case *c = owner;

    (void)reason;
    assert_int_equal(link_is_blocked(l), blocked);
    if (blocked)
        c->blocked++;
    else
        c->unblocked++;
}

static void on_channel_closed(void *owner, struct amqp_link *l, int channel, int code,
                              const struct err *why)
{
    struct amqp_case *c = owner;

    (void)l;
    c->channels_closed++;
    c->closed_code = code;
    c->closed_why = *why;
    if (c->on_closed)
        c->on_closed(c, channel);
}

static void on_down(void *owner, struct amqp_link *l, const struct err *why)
{
    struct amqp_case *c = owner;

    assert_false(link_is_up(l));
    c->down++;
    c->down_why = *why;
}

static const struct amqp_link_events events = {
    on_delivered, on_returned, on_confirm, on_cancelled, on_blocked, on_channel_closed, on_down,
};

void case_init(struct amqp_case *c, const char *url)
{
    struct err e = ERR_INIT;
    struct uri uri;

    *c = (struct amqp_case){.link = NULL};
    CHECK_OK(uri_parse(&uri, url, &e));
    CHECK_OK(amqp_address_make(&c->address, &uri, &e));
    uri_release(&uri);
}

int case_dial(struct amqp_case *c, size_t first, struct amqp_dialed *out, struct err *e)
{
    struct amqp_dial *d = dial_start(&c->address, "test", first, c->address.timeout_ms, e);
    struct pollfd p;
    int status = 0;

    assert_non_null(d);
    p = (struct pollfd){.fd = dial_fd(d), .events = POLLIN};
    while (status == 0) {
        assert_int_equal(poll(&p, 1, CASE_LIMIT_MS), 1);
        status = dial_take(d, out, e);
    }
    return status == 1 ? 0 : -1;
}

void case_open(struct amqp_case *c, const char *url)
{
    struct amqp_dialed dialed;
    struct err e = ERR_INIT;

    case_init(c, url);
    CHECK_OK(case_dial(c, 0, &dialed, &e));
    CHECK_OK(case_start(c, dialed.connection, dialed.heartbeat_s, clock_system(), &e));
}

int case_start(struct amqp_case *c, amqp_connection_state_t taken, int heartbeat_s,
               const struct clock *clock, struct err *e)
{
    c->link = link_start(taken, heartbeat_s, "test", c, &events, clock, NULL, e);
    return c->link ? 0 : -1;
}

void case_close(struct amqp_case *c)
{
    link_close(c->link);
    amqp_address_release(&c->address);
}

void case_turn(struct amqp_case *c, int timeout_ms)
{
    int wait_ms = clock_poll_timeout(clock_system(), link_deadline(c->link));
    struct pollfd p;
    int64_t before;

    if (wait_ms < 0 || wait_ms > timeout_ms)
        wait_ms = timeout_ms;
    link_poll_wants(c->link, &p);
    poll(&p, 1, wait_ms);
    before = clock_mono_ms(clock_system());
    link_pump(c->link);
    before = clock_mono_ms(clock_system()) - before;
    if (before > c->longest_pump_ms)
        c->longest_pump_ms = before;
}

static void keep_count(struct amqp_case *c, const amqp_method_t *method)
{
    if (!method)
        return;
    if (method->id == AMQP_QUEUE_DECLARE_OK_METHOD)
        c->answer_count = ((amqp_queue_declare_ok_t *)method->decoded)->message_count;
    if (method->id == AMQP_QUEUE_PURGE_OK_METHOD)
        c->answer_count = ((amqp_queue_purge_ok_t *)method->decoded)->message_count;
}

void case_answered(void *owner, void *context, uint64_t number, const struct amqp_answer *answer)
{
    struct amqp_case *c = owner;

    (void)context;
    (void)number;
    c->answers++;
    c->answer_code = answer->code;
    c->answer_codes += answer->code;
    c->answer_id = answer->method ? answer->method->id : 0;
    assert_true((answer->why == NULL) == (answer->method != NULL));
    if (answer->why)
        c->answer_why = *answer->why;
    else
        keep_count(c, answer->method);
    if (answer->message) {
        c->answer_count = answer->message->left;
        snprintf(c->answer_body, sizeof(c->answer_body), "%.*s", SLICE_ARG(answer->message->body));
    }
}

bool case_call(struct amqp_case *c, int channel, amqp_method_number_t id, const void *decoded)
{
    size_t before = c->answers;
    struct err e;

    CHECK_OK(link_call(c->link, channel, id, decoded, case_answered, NULL, 0, &e));
    CASE_UNTIL(c, c->answers > before);
    return c->answer_id != 0;
}

void case_queue(struct amqp_case *c, int channel, const char *name)
{
    amqp_queue_declare_t declare = {.queue = amqp_cstring_bytes(name), .exclusive = 1};

    assert_true(case_call(c, channel, AMQP_QUEUE_DECLARE_METHOD, &declare));
}

void case_consume(struct amqp_case *c, int channel, const char *queue, uint16_t prefetch)
{
    amqp_basic_qos_t qos = {.prefetch_count = prefetch};
    amqp_basic_consume_t consume = {.queue = amqp_cstring_bytes(queue)};

    assert_true(case_call(c, channel, AMQP_BASIC_QOS_METHOD, &qos));
    assert_true(case_call(c, channel, AMQP_BASIC_CONSUME_METHOD, &consume));
}

uint64_t case_publish(struct amqp_case *c, int channel, const char *key, bool mandatory,
                      struct slice body)
{
    amqp_basic_properties_t properties = {._flags = AMQP_BASIC_DELIVERY_MODE_FLAG,
                                          .delivery_mode = 2};
    uint64_t sequence = 0;
    struct err e;

    CHECK_OK(link_publish(c->link, channel, slice_of(""), slice_of(key), mandatory, &properties,
                          body, &sequence, &e));
    return sequence;
}
