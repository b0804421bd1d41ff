/*
 * bench_amqp_link URL link|plain|drain [MESSAGES]: what the link costs beside librabbitmq's own
 * calls.
 *
 * Publishes MESSAGES persistent messages of 700 bytes to a queue of its own with confirms, at most
 * WINDOW open, then consumes them, acknowledging every 64; through the link, or (plain) with
 * amqp_basic_publish and amqp_consume_message. One JSON line per phase. Under `strace -c -f` the
 * calls per message show. "drain" publishes and consumes at once, through the link.
 */
#include "broker/amqp_dial.h"
#include "broker/amqp_link.h"

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>

#define WINDOW   256
#define ACK_EACH 64

static char body[700];

struct bench {
    const char *mode;
    amqp_connection_state_t connection;
    struct amqp_link *link;
    size_t count, sent, confirmed, delivered;
    int64_t began_ns;
    double began_cpu_us;
};

static double cpu_us(void)
{
    struct rusage u;

    getrusage(RUSAGE_SELF, &u);
    return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) * 1e6 +
           (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec);
}

static void begin(struct bench *b)
{
    b->began_ns = clock_nano();
    b->began_cpu_us = cpu_us();
}

static void report(const struct bench *b, const char *phase)
{
    double s = (double)(clock_nano() - b->began_ns) / 1e9;

    printf("{\"by\": \"%s\", \"phase\": \"%s\", \"messages\": %zu, \"per_s\": %.0f, "
           "\"cpu_us_per_message\": %.2f}\n",
           b->mode, phase, b->count, (double)b->count / s,
           (cpu_us() - b->began_cpu_us) / (double)b->count);
    fflush(stdout);
}

static void check(int ok, const char *what, const struct err *e)
{
    if (ok)
        return;
    fprintf(stderr, "bench_amqp_link: %s: %s\n", what, e ? e->text : "failed");
    exit(1);
}

static void dial(struct bench *b, const char *url, int *heartbeat_s)
{
    struct amqp_address address;
    struct amqp_dialed dialed;
    struct amqp_dial *d;
    struct err e = ERR_INIT;
    struct uri uri;
    int status;

    check(uri_parse(&uri, url, &e) == 0 && amqp_address_make(&address, &uri, &e) == 0, "url", &e);
    d = dial_start(&address, "bench", 0, address.timeout_ms, &e);
    check(d != NULL, "dial", &e);
    for (struct pollfd p = {.fd = dial_fd(d), .events = POLLIN};
         (status = dial_take(d, &dialed, &e)) == 0;)
        poll(&p, 1, -1);
    check(status == 1, "dial", &e);
    b->connection = dialed.connection;
    *heartbeat_s = dialed.heartbeat_s;
    amqp_address_release(&address);
    uri_release(&uri);
}

/* --- through the link --- */

static void on_delivered(void *owner, struct amqp_link *l, const struct amqp_incoming *in)
{
    struct bench *b = owner;
    struct err e;

    if (++b->delivered % ACK_EACH == 0 || b->delivered == b->count)
        check(link_ack(l, in->channel, in->delivery_tag, true, &e) == 0, "ack", &e);
}

static void on_confirm(void *owner, struct amqp_link *l, int channel, uint64_t sequence, bool ok)
{
    struct bench *b = owner;

    (void)l;
    (void)channel;
    (void)sequence;
    check(ok, "confirm", NULL);
    b->confirmed++;
}

static void on_down(void *owner, struct amqp_link *l, const struct err *why)
{
    (void)owner;
    (void)l;
    check(0, "link", why);
}

static void turn(struct bench *b)
{
    struct pollfd p;

    link_poll_wants(b->link, &p);
    poll(&p, 1, clock_poll_timeout(clock_system(), link_deadline(b->link)));
    link_pump(b->link);
}

static void publish_more(struct bench *b)
{
    amqp_basic_properties_t properties = {._flags = AMQP_BASIC_DELIVERY_MODE_FLAG,
                                          .delivery_mode = 2};
    struct err e;

    for (; b->sent < b->count && b->sent - b->confirmed < WINDOW; b->sent++)
        check(link_publish(b->link, 1, slice_of(""), slice_of("bench"), false, &properties,
                           slice_make(body, sizeof(body)), NULL, &e) == 0,
              "publish", &e);
}

static void consume(struct bench *b)
{
    amqp_basic_qos_t qos = {.prefetch_count = WINDOW};
    amqp_basic_consume_t start = {.queue = amqp_cstring_bytes("bench")};
    struct err e;

    check(link_call(b->link, 1, AMQP_BASIC_QOS_METHOD, &qos, NULL, NULL, 0, &e) == 0 &&
              link_call(b->link, 1, AMQP_BASIC_CONSUME_METHOD, &start, NULL, NULL, 0, &e) == 0,
          "consume", &e);
}

static void by_link(struct bench *b, int heartbeat_s)
{
    static const struct amqp_link_events events = {
        .on_delivered = on_delivered, .on_confirm = on_confirm, .on_down = on_down};
    amqp_queue_declare_t declare = {.queue = amqp_cstring_bytes("bench"), .exclusive = 1};
    bool both = strcmp(b->mode, "drain") == 0;
    struct err e;

    b->link = link_start(b->connection, heartbeat_s, "bench", b, &events, clock_system(), NULL, &e);
    check(b->link != NULL, "link", &e);
    check(link_open_channel(b->link, 1, &e) == 0 && link_confirm_select(b->link, 1, &e) == 0 &&
              link_call(b->link, 1, AMQP_QUEUE_DECLARE_METHOD, &declare, NULL, NULL, 0, &e) == 0,
          "set-up", &e);
    if (both)
        consume(b);
    begin(b);
    while (b->confirmed < b->count) {
        publish_more(b);
        turn(b);
    }
    report(b, both ? "both" : "publish");
    begin(b);
    if (!both)
        consume(b);
    while (b->delivered < b->count)
        turn(b);
    if (!both)
        report(b, "consume");
    link_close(b->link);
}

/* --- with the library's own calls --- */

static void take_confirm(struct bench *b)
{
    amqp_frame_t frame;
    amqp_basic_ack_t *ack;

    amqp_maybe_release_buffers(b->connection);
    check(amqp_simple_wait_frame(b->connection, &frame) == AMQP_STATUS_OK &&
              frame.payload.method.id == AMQP_BASIC_ACK_METHOD,
          "confirm", NULL);
    ack = frame.payload.method.decoded;
    b->confirmed = ack->multiple ? ack->delivery_tag : b->confirmed + 1;
}

static void plain_publish(struct bench *b)
{
    amqp_basic_properties_t properties = {._flags = AMQP_BASIC_DELIVERY_MODE_FLAG,
                                          .delivery_mode = 2};
    amqp_bytes_t bytes = {sizeof(body), body};

    while (b->confirmed < b->count) {
        for (; b->sent < b->count && b->sent - b->confirmed < WINDOW; b->sent++)
            check(amqp_basic_publish(b->connection, 1, amqp_empty_bytes,
                                     amqp_cstring_bytes("bench"), 0, 0, &properties,
                                     bytes) == AMQP_STATUS_OK,
                  "publish", NULL);
        take_confirm(b);
    }
}

static void plain_consume(struct bench *b)
{
    amqp_envelope_t envelope;

    amqp_basic_qos(b->connection, 1, 0, WINDOW, 0);
    amqp_basic_consume(b->connection, 1, amqp_cstring_bytes("bench"), amqp_empty_bytes, 0, 0, 0,
                       amqp_empty_table);
    while (b->delivered < b->count) {
        amqp_maybe_release_buffers(b->connection);
        check(amqp_consume_message(b->connection, &envelope, NULL, 0).reply_type ==
                  AMQP_RESPONSE_NORMAL,
              "consume", NULL);
        if (++b->delivered % ACK_EACH == 0 || b->delivered == b->count)
            amqp_basic_ack(b->connection, 1, envelope.delivery_tag, 1);
        amqp_destroy_envelope(&envelope);
    }
}

static void by_library(struct bench *b)
{
    amqp_channel_open(b->connection, 1);
    amqp_confirm_select(b->connection, 1);
    amqp_queue_declare(b->connection, 1, amqp_cstring_bytes("bench"), 0, 0, 1, 0, amqp_empty_table);
    check(amqp_get_rpc_reply(b->connection).reply_type == AMQP_RESPONSE_NORMAL, "set-up", NULL);
    begin(b);
    plain_publish(b);
    report(b, "publish");
    begin(b);
    plain_consume(b);
    report(b, "consume");
    amqp_destroy_connection(b->connection);
}

int main(int argc, char **argv)
{
    struct bench b = {.mode = argc > 2 ? argv[2] : "link",
                      .count = argc > 3 ? strtoul(argv[3], NULL, 10) : 50000};
    int heartbeat_s;

    if (argc < 2) {
        fprintf(stderr, "usage: bench_amqp_link URL [link|plain|drain [MESSAGES]]\n");
        return 2;
    }
    memset(body, 'b', sizeof(body));
    dial(&b, argv[1], &heartbeat_s);
    if (strcmp(b.mode, "plain") == 0)
        by_library(&b);
    else
        by_link(&b, heartbeat_s);
    return 0;
}
