/*
 * bench_amqp URL [JOBS]: the limit that Celeriac is measured against on RabbitMQ.
 *
 * What a good plain program on librabbitmq does for the same promises, nothing else: a producer
 * publishes JOBS persistent messages of 700 bytes with confirms, WINDOW open; a consumer takes each,
 * publishes a result of 300 bytes to a stream with confirms, and acknowledges the messages of which
 * the results are confirmed, BATCH at a time. No task is looked at, no process forked for it. Then
 * the same one by one, for the round trip. Both work at the same time; one JSON line each.
 */
#include "broker/amqp_lib.h"

#include "base/clock.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define WINDOW 256
#define BATCH  64
#define QUEUE  "bench.bare"
#define STREAM "bench.results"

static char task[700], result[300];

static void die(const char *what)
{
    fprintf(stderr, "bench_amqp: %s failed\n", what);
    _exit(1);
}

static void check(amqp_connection_state_t c, const char *what)
{
    if (amqp_get_rpc_reply(c).reply_type != AMQP_RESPONSE_NORMAL)
        die(what);
}

static amqp_connection_state_t connect_to(const char *url)
{
    struct amqp_connection_info info;
    amqp_connection_state_t c = amqp_new_connection();
    amqp_socket_t *socket = amqp_tcp_socket_new(c);
    char *text = strdup(url);

    if (!text || !socket || amqp_parse_url(text, &info) != AMQP_STATUS_OK ||
        amqp_socket_open(socket, info.host, info.port) != AMQP_STATUS_OK)
        die("connecting");
    if (amqp_login(c, info.vhost, 0, 131072, 0, AMQP_SASL_METHOD_PLAIN, info.user, info.password)
            .reply_type != AMQP_RESPONSE_NORMAL)
        die("login");
    amqp_channel_open(c, 1);
    check(c, "channel");
    free(text);
    return c;
}

static void declare(amqp_connection_state_t c)
{
    amqp_table_entry_t type = {amqp_cstring_bytes("x-queue-type"),
                               {.kind = AMQP_FIELD_KIND_UTF8,
                                .value.bytes = amqp_cstring_bytes("stream")}};
    amqp_table_t stream = {1, &type};

    amqp_queue_declare(c, 1, amqp_cstring_bytes(QUEUE), 0, 1, 0, 0, amqp_empty_table);
    check(c, "queue");
    amqp_queue_declare(c, 1, amqp_cstring_bytes(STREAM), 0, 1, 0, 0, stream);
    check(c, "stream");
}

static void publish(amqp_connection_state_t c, const char *queue, const char *bytes, size_t len)
{
    amqp_basic_properties_t p = {._flags = AMQP_BASIC_DELIVERY_MODE_FLAG, .delivery_mode = 2};
    amqp_bytes_t body = {.len = len, .bytes = (void *)bytes};

    if (amqp_basic_publish(c, 1, amqp_empty_bytes, amqp_cstring_bytes(queue), 0, 0, &p, body) !=
        AMQP_STATUS_OK)
        die("publishing");
}

/* Waits until everything up to `want` is confirmed. Confirms may come out of order, so they are
 * counted; a multiple one confirms all up to its number. */
static void confirm(amqp_connection_state_t c, uint64_t *confirmed, uint64_t want)
{
    while (*confirmed < want) {
        const amqp_basic_ack_t *ack;
        amqp_frame_t frame;

        amqp_maybe_release_buffers(c);
        if (amqp_simple_wait_frame(c, &frame) != AMQP_STATUS_OK)
            die("waiting for confirms");
        if (frame.payload.method.id != AMQP_BASIC_ACK_METHOD)
            die("a confirm");
        ack = frame.payload.method.decoded;
        *confirmed = ack->multiple ? ack->delivery_tag : *confirmed + 1;
    }
}

static void produce(const char *url, uint64_t jobs, uint64_t window)
{
    amqp_connection_state_t c = connect_to(url);
    uint64_t confirmed = 0;

    amqp_confirm_select(c, 1);
    check(c, "confirms");
    for (uint64_t n = 1; n <= jobs; n++) {
        publish(c, QUEUE, task, sizeof(task));
        if (n >= window)
            confirm(c, &confirmed, n - window + 1);
    }
    confirm(c, &confirmed, jobs);
    amqp_destroy_connection(c);
}

static void consume(const char *url, uint64_t jobs, uint64_t batch)
{
    amqp_connection_state_t in = connect_to(url), out = connect_to(url);
    uint64_t confirmed = 0;

    amqp_confirm_select(out, 1);
    check(out, "confirms");
    amqp_basic_qos(in, 1, 0, WINDOW, 0);
    amqp_basic_consume(in, 1, amqp_cstring_bytes(QUEUE), amqp_empty_bytes, 0, 0, 0,
                       amqp_empty_table);
    check(in, "consuming");
    for (uint64_t n = 1; n <= jobs; n++) {
        amqp_envelope_t envelope;

        amqp_maybe_release_buffers(in);
        if (amqp_consume_message(in, &envelope, NULL, 0).reply_type != AMQP_RESPONSE_NORMAL)
            die("consuming");
        publish(out, STREAM, result, sizeof(result));
        if (n % batch == 0 || n == jobs) {
            confirm(out, &confirmed, n);
            amqp_basic_ack(in, 1, envelope.delivery_tag, 1);
        }
        amqp_destroy_envelope(&envelope);
    }
    amqp_destroy_connection(in);
    amqp_destroy_connection(out);
}

static void measure(const char *url, const char *name, uint64_t jobs, uint64_t window,
                    uint64_t batch)
{
    int64_t began_ns = clock_nano();
    double s;
    int status;
    pid_t producer = fork();

    if (producer == 0) {
        produce(url, jobs, window);
        _exit(0);
    }
    consume(url, jobs, batch);
    if (waitpid(producer, &status, 0) != producer || status != 0)
        die("the producer");
    s = (double)(clock_nano() - began_ns) / 1e9;
    printf("{\"case\": \"%s\", \"by\": \"bare librabbitmq\", \"jobs\": %llu, \"per_s\": %.0f}\n",
           name, (unsigned long long)jobs, (double)jobs / s);
    fflush(stdout);
}

int main(int argc, char **argv)
{
    uint64_t jobs = argc > 2 ? strtoull(argv[2], NULL, 10) : 20000;
    amqp_connection_state_t c;

    if (argc < 2 || jobs == 0) {
        fputs("usage: bench_amqp URL [JOBS]\n", stderr);
        return 2;
    }
    memset(task, 't', sizeof(task));
    memset(result, 'r', sizeof(result));
    c = connect_to(argv[1]);
    declare(c);
    amqp_destroy_connection(c);
    measure(argv[1], "end_to_end", jobs, WINDOW, BATCH);
    measure(argv[1], "one_by_one", jobs / 20 + 1, 1, 1);
    return 0;
}
