/*
 * limit_amqp URL: the limit on RabbitMQ, through librabbitmq.
 *
 * What a good plain program does for the same promises, and nothing else: persistent messages
 * published with confirms, two batches open; taken by a consumer, which publishes a result each to
 * a stream with confirms, and acknowledges a batch at once when its results are confirmed, while
 * the next batch is on its way. No task is looked at, no process forked for it. Ways: the queue is
 * `classic` or `quorum`. The size is of a message's body; its properties are a delivery mode.
 */
#include "bench/limit/limit.h"
#include "broker/amqp_lib.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define QUEUE   "limit.jobs"
#define STREAM  "limit.results"
#define REPLIES "limit.replies"

/* A connection that publishes: how many were sent, and how many of them are confirmed. */
struct sender {
    amqp_connection_state_t c;
    uint64_t sent, confirmed;
};

static void check(amqp_connection_state_t c, const char *what)
{
    if (amqp_get_rpc_reply(c).reply_type != AMQP_RESPONSE_NORMAL)
        limit_die("%s failed", what);
}

static amqp_connection_state_t connect_to(const char *url)
{
    struct amqp_connection_info info;
    amqp_connection_state_t c = amqp_new_connection();
    amqp_socket_t *socket = amqp_tcp_socket_new(c);
    char *text = strdup(url);

    if (!text || !socket || amqp_parse_url(text, &info) != AMQP_STATUS_OK ||
        amqp_socket_open(socket, info.host, info.port) != AMQP_STATUS_OK)
        limit_die("connecting failed");
    if (amqp_login(c, info.vhost, 0, 131072, 0, AMQP_SASL_METHOD_PLAIN, info.user, info.password)
            .reply_type != AMQP_RESPONSE_NORMAL)
        limit_die("login failed");
    amqp_channel_open(c, 1);
    check(c, "opening a channel");
    free(text);
    return c;
}

static void declare(amqp_connection_state_t c, const char *name, const char *type)
{
    amqp_table_entry_t entry = {
        amqp_cstring_bytes("x-queue-type"),
        {.kind = AMQP_FIELD_KIND_UTF8, .value.bytes = amqp_cstring_bytes(type)}};
    amqp_table_t arguments = {1, &entry};

    amqp_queue_delete(c, 1, amqp_cstring_bytes(name), 0, 0);
    check(c, "deleting a queue");
    amqp_queue_declare(c, 1, amqp_cstring_bytes(name), 0, 1, 0, 0, arguments);
    check(c, "declaring a queue");
}

static void declare_all(const struct limit_run *run)
{
    amqp_connection_state_t c = connect_to(run->url);

    declare(c, QUEUE, run->way);
    declare(c, STREAM, "stream");
    declare(c, REPLIES, "classic");
    amqp_destroy_connection(c);
}

static void open_sender(struct sender *s, const struct limit_run *run)
{
    *s = (struct sender){.c = connect_to(run->url)};
    amqp_confirm_select(s->c, 1);
    check(s->c, "confirms");
}

static void publish(struct sender *s, const char *queue, const char *bytes, size_t len)
{
    amqp_basic_properties_t p = {._flags = AMQP_BASIC_DELIVERY_MODE_FLAG, .delivery_mode = 2};
    amqp_bytes_t body = {.len = len, .bytes = (void *)bytes};

    if (amqp_basic_publish(s->c, 1, amqp_empty_bytes, amqp_cstring_bytes(queue), 0, 0, &p, body) !=
        AMQP_STATUS_OK)
        limit_die("publishing failed");
    s->sent++;
}

/* Waits until at most `open` are not confirmed. Confirms may come out of order, so they are
 * counted; a multiple one confirms all up to its number. */
static void confirm(struct sender *s, uint64_t open)
{
    while (s->confirmed + open < s->sent) {
        const amqp_basic_ack_t *ack;
        amqp_frame_t frame;

        amqp_maybe_release_buffers(s->c);
        if (amqp_simple_wait_frame(s->c, &frame) != AMQP_STATUS_OK)
            limit_die("waiting for confirms failed");
        if (frame.payload.method.id != AMQP_BASIC_ACK_METHOD)
            limit_die("a message was not confirmed");
        ack = frame.payload.method.decoded;
        s->confirmed = ack->multiple ? ack->delivery_tag : s->confirmed + 1;
    }
}

static void push_all(const struct limit_run *run, int64_t jobs, uint64_t open)
{
    struct sender s;

    open_sender(&s, run);
    for (int64_t n = 0; n < jobs; n++) {
        publish(&s, QUEUE, run->envelope, run->envelope_len);
        confirm(&s, open);
    }
    confirm(&s, 0);
    amqp_destroy_connection(s.c);
}

static void produce(const struct limit_run *run)
{
    push_all(run, run->jobs, 2 * (uint64_t)run->batch);
}

static amqp_connection_state_t consume(const struct limit_run *run, const char *queue, int prefetch)
{
    amqp_connection_state_t c = connect_to(run->url);

    amqp_basic_qos(c, 1, 0, (uint16_t)prefetch, 0);
    amqp_basic_consume(c, 1, amqp_cstring_bytes(queue), amqp_empty_bytes, 0, 0, 0,
                       amqp_empty_table);
    check(c, "consuming");
    return c;
}

/* The next delivery's tag. */
static uint64_t take(amqp_connection_state_t c, size_t len)
{
    amqp_envelope_t envelope;
    uint64_t tag;

    amqp_maybe_release_buffers(c);
    if (amqp_consume_message(c, &envelope, NULL, 0).reply_type != AMQP_RESPONSE_NORMAL)
        limit_die("consuming failed");
    if (envelope.message.body.len != len)
        limit_die("a message of %zu bytes came back", envelope.message.body.len);
    tag = envelope.delivery_tag;
    amqp_destroy_envelope(&envelope);
    return tag;
}

static void take_all(const struct limit_run *run)
{
    amqp_connection_state_t in = consume(run, QUEUE, 4 * run->batch);
    uint64_t last = 0; /* of the batch whose results are on their way */
    struct sender out;

    open_sender(&out, run);
    for (int64_t n = 1; n <= run->jobs; n++) {
        uint64_t tag = take(in, run->envelope_len);

        publish(&out, STREAM, run->result, run->result_len);
        if (n % run->batch)
            continue;
        confirm(&out, (uint64_t)run->batch);
        if (last)
            amqp_basic_ack(in, 1, last, 1);
        last = tag;
    }
    confirm(&out, 0);
    amqp_basic_ack(in, 1, last, 1);
    amqp_channel_close(in, 1, AMQP_REPLY_SUCCESS); /* the server has read the acknowledgement */
    amqp_destroy_connection(in);
    amqp_destroy_connection(out.c);
}

static void check_empty(const struct limit_run *run)
{
    amqp_connection_state_t c = connect_to(run->url);
    const amqp_queue_declare_ok_t *ok =
        amqp_queue_declare(c, 1, amqp_cstring_bytes(QUEUE), 1, 0, 0, 0, amqp_empty_table);

    check(c, "asking for the queue");
    if (!ok || ok->message_count != 0)
        limit_die("something is left");
    amqp_destroy_connection(c);
}

/* --- cases --- */

static void run_push(const struct limit_run *run, double *values)
{
    int64_t at;

    declare_all(run);
    at = clock_nano();
    produce(run);
    values[0] = limit_rate(run->jobs, at);
}

static void run_confirm(const struct limit_run *run, double *values)
{
    int64_t at;

    declare_all(run);
    at = clock_nano();
    push_all(run, run->trips, 0);
    values[0] = limit_rate(run->trips, at);
}

static void run_drain(const struct limit_run *run, double *values)
{
    int64_t at;

    declare_all(run);
    push_all(run, run->jobs, 2 * LIMIT_BATCH_MAX);
    at = clock_nano();
    take_all(run);
    values[0] = limit_rate(run->jobs, at);
    check_empty(run);
}

static void run_cycle(const struct limit_run *run, double *values)
{
    int64_t at;
    pid_t producer;

    declare_all(run);
    at = clock_nano();
    producer = limit_spawn(produce, run);
    take_all(run);
    values[0] = limit_rate(run->jobs, at);
    limit_join(producer);
    check_empty(run);
}

/* One job at a time: the result goes to the stream, and to who waits for it. */
static void serve(const struct limit_run *run)
{
    amqp_connection_state_t in = consume(run, QUEUE, 1);
    struct sender out;

    open_sender(&out, run);
    for (int64_t i = 0; i < run->trips; i++) {
        uint64_t tag = take(in, run->envelope_len);

        publish(&out, STREAM, run->result, run->result_len);
        publish(&out, REPLIES, run->result, run->result_len);
        confirm(&out, 0);
        amqp_basic_ack(in, 1, tag, 0);
    }
    amqp_channel_close(in, 1, AMQP_REPLY_SUCCESS);
    amqp_destroy_connection(in);
    amqp_destroy_connection(out.c);
}

static void run_round_trip(const struct limit_run *run, double *values)
{
    double *us = calloc((size_t)run->trips, sizeof(*us));
    amqp_connection_state_t replies;
    struct sender s;
    pid_t worker;

    if (!us)
        limit_die("out of memory");
    declare_all(run);
    open_sender(&s, run);
    replies = consume(run, REPLIES, 100);
    worker = limit_spawn(serve, run);
    for (int64_t i = 0; i < run->trips; i++) {
        int64_t at = clock_nano();

        publish(&s, QUEUE, run->envelope, run->envelope_len);
        confirm(&s, 0);
        amqp_basic_ack(replies, 1, take(replies, run->result_len), 0);
        us[i] = (double)(clock_nano() - at) / 1e3;
    }
    limit_join(worker);
    limit_percentiles(us, (size_t)run->trips, values);
    free(us);
    amqp_destroy_connection(replies);
    amqp_destroy_connection(s.c);
}

int main(int argc, char **argv)
{
    static const char *const ways[] = {"classic", "quorum", NULL};
    static const struct limit_case cases[] = {
        {"push", ways, true, {{"limit_push", "jobs/s"}}, run_push},
        {"confirm", ways, false, {{"limit_confirm", "jobs/s"}}, run_confirm},
        {"drain", ways, true, {{"limit_drain", "jobs/s"}}, run_drain},
        {"cycle", ways, true, {{"limit_cycle", "jobs/s"}}, run_cycle},
        {"round_trip", ways, false, LIMIT_TRIP_FIGURES, run_round_trip},
    };
    static const struct limit_program program = {"amqp", "amqp://USER:PASSWORD@HOST:PORT/VHOST",
                                                 cases, sizeof(cases) / sizeof(cases[0])};

    return limit_main(&program, argc, argv);
}
