#include "tests/support/amqp_peer.h"

#include "broker/amqp_login.h"

#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

void peer_say(struct peer *p, int channel, amqp_method_number_t id, const void *decoded)
{
    struct err e;

    CHECK_OK(frames_add_method(&p->out, PEER_FRAME_MAX, channel, id, decoded, &e));
}

void peer_frame(struct peer *p, int type, int channel, const void *payload, size_t len)
{
    unsigned char head[7] = {(unsigned char)type,        0,
                             (unsigned char)channel,     (unsigned char)(len >> 24),
                             (unsigned char)(len >> 16), (unsigned char)(len >> 8),
                             (unsigned char)len};

    buf_add(&p->out, head, sizeof(head));
    buf_add(&p->out, payload, len);
    buf_add(&p->out, "\xce", 1);
}

/* The header of a message: size and encoded properties. */
void peer_header(struct peer *p, uint64_t size, const void *properties, size_t len)
{
    unsigned char payload[4096] = {0, 60};

    for (int i = 0; i < 8; i++)
        payload[4 + i] = (unsigned char)(size >> (56 - 8 * i));
    memcpy(payload + 12, properties, len);
    peer_frame(p, AMQP_FRAME_HEADER, 1, payload, 12 + len);
}

void peer_deliver(struct peer *p, uint64_t tag)
{
    amqp_basic_deliver_t deliver = {.consumer_tag = amqp_cstring_bytes("c"),
                                    .delivery_tag = tag,
                                    .routing_key = amqp_cstring_bytes("q")};

    peer_say(p, 1, AMQP_BASIC_DELIVER_METHOD, &deliver);
}

void peer_message(struct peer *p, uint64_t tag, const char *body)
{
    peer_deliver(p, tag);
    peer_header(p, strlen(body), "\0\0", 2);
    if (*body)
        peer_frame(p, AMQP_FRAME_BODY, 1, body, strlen(body));
}

void peer_flush(struct peer *p)
{
    ssize_t n = write(p->fd, buf_slice(&p->out).ptr, p->out.len);

    assert_int_equal(n, p->out.len);
    buf_clear(&p->out);
}

void peer_turn(struct peer *p)
{
    peer_flush(p);
    link_pump(p->seen.link);
}

static void hear(struct peer *p)
{
    char bytes[65536];
    ssize_t n;

    while ((n = recv(p->fd, bytes, sizeof(bytes), MSG_DONTWAIT)) > 0)
        buf_add(&p->in, bytes, (size_t)n);
}

/* The next frame that the link sent; false when there is none. */
bool peer_heard(struct peer *p, struct amqp_piece *piece, char *payload, size_t size)
{
    size_t used;
    struct err e;

    hear(p);
    if (frames_split(buf_slice(&p->in), PEER_FRAME_MAX, piece, &used, &e) != 1)
        return false;
    if (payload)
        memcpy(payload, piece->payload.ptr, piece->payload.len < size ? piece->payload.len : size);
    buf_consume(&p->in, used);
    return true;
}

void peer_expect(struct peer *p, int channel, amqp_method_number_t id)
{
    struct amqp_piece piece;
    char payload[4] = "";

    assert_true(peer_heard(p, &piece, payload, sizeof(payload)));
    assert_int_equal(piece.type, AMQP_FRAME_METHOD);
    assert_int_equal(piece.channel, channel);
    assert_int_equal(frames_u32(payload), id);
}

void peer_expect_nothing(struct peer *p)
{
    struct amqp_piece piece;

    assert_false(peer_heard(p, &piece, NULL, 0));
    assert_int_equal(p->in.len, 0);
}

/* What a server says at a login, all at once: the library reads it as it goes. */
void peer_login(struct peer *p)
{
    amqp_connection_start_t start = {.version_minor = 9,
                                     .mechanisms = amqp_cstring_bytes("PLAIN AMQPLAIN"),
                                     .locales = amqp_cstring_bytes("en_US")};
    amqp_connection_tune_t tune = {
        .channel_max = 2047, .frame_max = PEER_FRAME_MAX, .heartbeat = PEER_HEARTBEAT};
    amqp_connection_open_ok_t ok = {.known_hosts = amqp_cstring_bytes("")};

    peer_say(p, 0, AMQP_CONNECTION_START_METHOD, &start);
    peer_say(p, 0, AMQP_CONNECTION_TUNE_METHOD, &tune);
    peer_say(p, 0, AMQP_CONNECTION_OPEN_OK_METHOD, &ok);
}

/* Logs in; what is in p->out behind the login comes right after it. */
int peer_open_with_rest(struct peer *p, struct err *e)
{
    struct amqp_address a = {
        .vhost = (char *)"/", .user = (char *)"u", .password = (char *)"p", .heartbeat_s = 60};
    amqp_connection_state_t c;
    int pair[2], heartbeat_s;

    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair), 0);
    p->fd = pair[1];
    peer_flush(p);
    c = login_over(pair[0], &a, "peer", "test", 5000, &heartbeat_s, e);
    assert_non_null(c);
    assert_int_equal(heartbeat_s, PEER_HEARTBEAT);
    hear(p);
    buf_clear(&p->in);
    clock_fake_init(&p->clock, 0);
    return case_start(&p->seen, c, heartbeat_s, &p->clock.base, e);
}

/* A link with channel 1 open. */
void peer_open(struct peer *p)
{
    static const amqp_channel_open_ok_t ok = {{0, NULL}};
    struct err e;

    *p = (struct peer){.fd = -1};
    peer_login(p);
    CHECK_OK(peer_open_with_rest(p, &e));
    CHECK_OK(link_open_channel(p->seen.link, 1, &e));
    peer_say(p, 1, AMQP_CHANNEL_OPEN_OK_METHOD, &ok);
    peer_turn(p);
    peer_expect(p, 1, AMQP_CHANNEL_OPEN_METHOD);
    peer_expect_nothing(p);
}

void peer_close(struct peer *p)
{
    case_close(&p->seen);
    close(p->fd);
    buf_release(&p->in);
    buf_release(&p->out);
}
