/* The link beside a peer that we are ourselves. */
#include "broker/amqp_assembly.h"
#include "tests/support/amqp_peer.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

/* --- life --- */

static void heartbeats_go_out_and_silence_ends_it(void **state)
{
    struct amqp_piece piece;
    struct peer p;

    (void)state;
    peer_open(&p);
    assert_int_equal(link_deadline(p.seen.link) - p.clock.mono_now_ms, PEER_HEARTBEAT * 1000 / 2);
    clock_fake_advance(&p.clock, PEER_HEARTBEAT * 1000 / 2 - 1);
    peer_turn(&p);
    peer_expect_nothing(&p);
    clock_fake_advance(&p.clock, 1);
    peer_turn(&p);
    assert_true(peer_heard(&p, &piece, NULL, 0));
    assert_int_equal(piece.type, AMQP_FRAME_HEARTBEAT);
    peer_expect_nothing(&p);
    peer_frame(&p, AMQP_FRAME_HEARTBEAT, 0, "", 0);
    clock_fake_advance(&p.clock, PEER_HEARTBEAT * 1000 * 10);
    peer_turn(&p); /* late, but the answer is there */
    assert_int_equal(p.seen.down, 0);
    clock_fake_advance(&p.clock, PEER_HEARTBEAT * 2000 - 1);
    peer_turn(&p);
    assert_int_equal(p.seen.down, 0);
    clock_fake_advance(&p.clock, 1);
    peer_turn(&p);
    assert_int_equal(p.seen.down, 1);
    assert_non_null(strstr(p.seen.down_why.text, "no sign of life from the server for 20 s"));
    peer_close(&p);
}

static void the_server_says_goodbye(void **state)
{
    amqp_connection_close_t bye = {
        .reply_code = 320, .reply_text = amqp_cstring_bytes("CONNECTION_FORCED - maintenance")};
    struct peer p;

    (void)state;
    peer_open(&p);
    peer_say(&p, 0, AMQP_CONNECTION_CLOSE_METHOD, &bye);
    peer_turn(&p);
    assert_int_equal(p.seen.down, 1);
    assert_int_equal(p.seen.down_why.code, ERR_RECONNECT);
    assert_non_null(strstr(p.seen.down_why.text, "maintenance (320)"));
    peer_expect(&p, 0, AMQP_CONNECTION_CLOSE_OK_METHOD);
    peer_close(&p);
}

/* Said and hung up: the reason is read although writing fails first. */
static void the_reason_outlives_a_broken_pipe(void **state)
{
    amqp_connection_close_t bye = {.reply_code = 320,
                                   .reply_text = amqp_cstring_bytes("maintenance")};
    amqp_queue_declare_t declare = {.queue = amqp_cstring_bytes("q")};
    struct peer p;
    struct err e;

    (void)state;
    peer_open(&p);
    peer_say(&p, 0, AMQP_CONNECTION_CLOSE_METHOD, &bye);
    peer_flush(&p);
    close(p.fd);
    p.fd = -1;
    CHECK_OK(
        link_call(p.seen.link, 1, AMQP_QUEUE_DECLARE_METHOD, &declare, case_answered, NULL, 0, &e));
    link_pump(p.seen.link);
    assert_int_equal(p.seen.down, 1);
    assert_int_equal(p.seen.answers, 1);
    assert_int_equal(p.seen.answer_why.code, ERR_RECONNECT);
    assert_non_null(strstr(p.seen.down_why.text, "maintenance"));
    peer_close(&p);
}

static void closing_says_goodbye(void **state)
{
    struct peer p;

    (void)state;
    peer_open(&p);
    link_close(p.seen.link);
    p.seen.link = NULL;
    peer_expect(&p, 0, AMQP_CONNECTION_CLOSE_METHOD);
    assert_int_equal(p.seen.down, 0);
    peer_close(&p);
}

/* A socket closed at once may take an acknowledgement with it that the server has not read yet. */
static void leaving_waits_for_the_answer(void **state)
{
    static const amqp_connection_close_ok_t ok = {0};
    amqp_connection_blocked_t blocked = {.reason = amqp_cstring_bytes("")};
    struct peer p;
    struct err e;

    (void)state;
    peer_open(&p);
    assert_false(link_owes(p.seen.link));
    CHECK_OK(link_ack(p.seen.link, 1, 1, false, &e));
    assert_true(link_owes(p.seen.link));
    link_leave(p.seen.link);
    assert_false(link_owes(p.seen.link));
    assert_int_equal(link_ack(p.seen.link, 1, 2, false, &e), -1);
    peer_turn(&p);
    peer_expect(&p, 1, AMQP_BASIC_ACK_METHOD);
    peer_expect(&p, 0, AMQP_CONNECTION_CLOSE_METHOD);
    peer_say(&p, 0, AMQP_CONNECTION_BLOCKED_METHOD, &blocked);
    peer_turn(&p);
    assert_true(link_is_up(p.seen.link));
    peer_say(&p, 0, AMQP_CONNECTION_CLOSE_OK_METHOD, &ok);
    peer_turn(&p);
    assert_false(link_is_up(p.seen.link));
    assert_int_equal(p.seen.down + p.seen.blocked, 0);
    link_close(p.seen.link);
    p.seen.link = NULL;
    peer_expect_nothing(&p);
    peer_close(&p);
}

static void blocked_during_the_login_is_told(void **state)
{
    amqp_connection_blocked_t blocked = {.reason = amqp_cstring_bytes("low on memory")};
    amqp_connection_unblocked_t unblocked = {0};
    struct peer p = {.fd = -1};
    struct err e;

    (void)state;
    peer_login(&p);
    peer_say(&p, 0, AMQP_CONNECTION_BLOCKED_METHOD, &blocked);
    CHECK_OK(peer_open_with_rest(&p, &e));
    assert_true(link_is_blocked(p.seen.link));
    assert_int_equal(link_deadline(p.seen.link), p.clock.mono_now_ms);
    peer_turn(&p);
    assert_int_equal(p.seen.blocked, 1);
    peer_say(&p, 0, AMQP_CONNECTION_UNBLOCKED_METHOD, &unblocked);
    peer_turn(&p);
    assert_int_equal(p.seen.unblocked, 1);
    peer_close(&p);
}

static void half_a_frame_behind_the_login_is_an_error(void **state)
{
    struct peer p = {.fd = -1};
    struct err e;

    (void)state;
    peer_login(&p);
    buf_add(&p.out, "\x08\0\0\0", 4);
    CHECK_ERR(peer_open_with_rest(&p, &e), ERR_RECONNECT, "right after the login");
    peer_close(&p);
}

/* --- input --- */

static char last_body[64];

static void keep_body(struct amqp_case *c, const struct amqp_incoming *in)
{
    (void)c;
    snprintf(last_body, sizeof(last_body), "%.*s", SLICE_ARG(in->body));
}

static void frames_come_byte_by_byte(void **state)
{
    struct peer p;
    struct buf all = BUF_INIT;

    (void)state;
    peer_open(&p);
    p.seen.on_delivered = keep_body;
    peer_message(&p, 1, "hello");
    peer_message(&p, 2, "");
    peer_message(&p, 3, "again");
    buf_add(&all, buf_slice(&p.out).ptr, p.out.len);
    buf_clear(&p.out);
    for (size_t i = 0; i < all.len; i++) {
        buf_add(&p.out, buf_slice(&all).ptr + i, 1);
        peer_turn(&p);
    }
    assert_int_equal(p.seen.delivered, 3);
    assert_int_equal(p.seen.bytes, 10);
    assert_string_equal(last_body, "again");
    buf_release(&all);
    peer_close(&p);
}

static void one_pump_hands_out_a_bounded_number(void **state)
{
    struct peer p;

    (void)state;
    peer_open(&p);
    for (int i = 0; i < 1000; i++)
        peer_message(&p, (uint64_t)i + 1, "x");
    peer_flush(&p);
    for (int pumps = 0; p.seen.delivered < 1000; pumps++) {
        link_pump(p.seen.link);
        assert_int_equal(p.seen.delivered, pumps < 3 ? (pumps + 1) * 256 : 1000);
        if (pumps < 3)
            assert_int_equal(link_deadline(p.seen.link), p.clock.mono_now_ms);
    }
    assert_true(link_deadline(p.seen.link) > p.clock.mono_now_ms);
    peer_close(&p);
}

static void an_unknown_frame_is_skipped(void **state)
{
    struct peer p;

    (void)state;
    peer_open(&p);
    peer_frame(&p, 77, 1, "what", 4);
    peer_message(&p, 1, "x");
    peer_turn(&p);
    assert_int_equal(p.seen.delivered, 1);
    peer_close(&p);
}

static void a_body_may_be_as_long_as_the_server_has_one(void **state)
{
    struct peer p;

    (void)state;
    peer_open(&p);
    peer_deliver(&p, 1);
    peer_header(&p, LINK_BODY_MAX, "\0\0", 2);
    peer_turn(&p);
    assert_true(link_is_up(p.seen.link));
    peer_close(&p);
}

static void too_long(struct peer *p)
{
    peer_deliver(p, 1);
    peer_header(p, LINK_BODY_MAX + 1, "\0\0", 2);
}

static void far_too_long(struct peer *p)
{
    peer_deliver(p, 1);
    peer_header(p, UINT64_MAX, "\0\0", 2);
}

static void more_than_announced(struct peer *p)
{
    peer_deliver(p, 1);
    peer_header(p, 3, "\0\0", 2);
    peer_frame(p, AMQP_FRAME_BODY, 1, "xxxx", 4);
}

static void header_alone(struct peer *p)
{
    peer_header(p, 3, "\0\0", 2);
}

static void short_header(struct peer *p)
{
    peer_deliver(p, 1);
    peer_frame(p, AMQP_FRAME_HEADER, 1, "\0\x3c\0\0", 4);
}

static void body_alone(struct peer *p)
{
    peer_frame(p, AMQP_FRAME_BODY, 1, "x", 1);
}

static void message_in_message(struct peer *p)
{
    peer_deliver(p, 1);
    peer_deliver(p, 2);
}

static void broken_deliver(struct peer *p)
{
    peer_frame(p, AMQP_FRAME_METHOD, 1, "\0\x3c\0\x3c\xff", 5);
    peer_header(p, 0, "\0\0", 2);
}

static void stranger(struct peer *p)
{
    amqp_basic_ack_t ack = {.delivery_tag = 1};

    peer_say(p, 9, AMQP_BASIC_ACK_METHOD, &ack);
}

static void unasked(struct peer *p)
{
    amqp_queue_purge_ok_t ok = {1};

    peer_say(p, 1, AMQP_QUEUE_PURGE_OK_METHOD, &ok);
}

static void unasked_get(struct peer *p)
{
    amqp_basic_get_ok_t ok = {.delivery_tag = 1};

    peer_say(p, 1, AMQP_BASIC_GET_OK_METHOD, &ok);
}

static void misplaced(struct peer *p)
{
    amqp_connection_unblocked_t m = {0};

    peer_say(p, 1, AMQP_CONNECTION_UNBLOCKED_METHOD, &m);
}

static void no_number(struct peer *p)
{
    peer_frame(p, AMQP_FRAME_METHOD, 1, "\0\x3c", 2);
}

static void no_end(struct peer *p)
{
    buf_add(&p->out, "\x08\0\0\0\0\0\0X", 8);
}

static void huge_frame(struct peer *p)
{
    buf_add(&p->out, "\x01\0\x01\x7f\xff\xff\xff", 7);
}

static void http(struct peer *p)
{
    buf_adds(&p->out, "HTTP/1.1 400 Bad Request\r\n\r\n");
}

static void what_is_not_amqp_ends_the_link(void **state)
{
    static const struct {
        void (*say)(struct peer *p);
        const char *piece;
    } rows[] = {
        {too_long, "536870913 bytes, more than the limit of 536870912"},
        {far_too_long, "more than the limit"},
        {more_than_announced, "out of turn"},
        {header_alone, "out of turn"},
        {short_header, "out of turn"},
        {body_alone, "out of turn"},
        {message_in_message, "inside of a message"},
        {broken_deliver, "can not be read"},
        {stranger, "channel 9"},
        {unasked, "nobody asked for"},
        {unasked_get, "nobody asked for"},
        {misplaced, "does not belong"},
        {no_number, "without a number"},
        {no_end, "mark at its end"},
        {huge_frame, "more than the"},
        {http, "more than the"},
    };
    struct peer p;

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        peer_open(&p);
        rows[i].say(&p);
        peer_turn(&p);
        assert_int_equal(p.seen.down, 1);
        assert_int_equal(p.seen.down_why.code, ERR_RECONNECT);
        if (!strstr(p.seen.down_why.text, rows[i].piece))
            fail_msg("got \"%s\", wanted \"%s\"", p.seen.down_why.text, rows[i].piece);
        assert_int_equal(p.seen.delivered, 0);
        peer_close(&p);
    }
}

/* --- headers --- */

static size_t put_length(char *to, size_t n)
{
    for (int i = 0; i < 4; i++)
        to[i] = (char)(n >> (24 - 8 * i));
    return 4;
}

/* Properties with a headers table of arrays inside of each other; the length. */
static size_t nested(char *to, size_t depth)
{
    size_t at = 2, arrays = depth - 1, inner = arrays * 5;

    memcpy(to, "\x20\0", 2); /* headers only */
    at += put_length(to + at, arrays ? inner + 2 : 0);
    if (arrays) {
        memcpy(to + at, "\1k", 2);
        at += 2;
    }
    while (arrays--) {
        to[at++] = 'A';
        inner -= 5;
        at += put_length(to + at, inner);
    }
    return at;
}

static bool was_malformed;
static int was_headers;

static void keep_malformed(struct amqp_case *c, const struct amqp_incoming *in)
{
    (void)c;
    was_malformed = in->malformed;
    was_headers = in->properties->headers.num_entries;
    assert_string_equal(in->malformed ? "" : "t",
                        in->properties->_flags & AMQP_BASIC_HEADERS_FLAG ? "t" : "");
}

/* A message nobody can read is handed out as such; the link lives on. */
static void headers_that_nest_or_lie_are_marked(void **state)
{
    char deep[4096];
    struct peer p;

    (void)state;
    peer_open(&p);
    p.seen.on_delivered = keep_malformed;
    for (size_t depth = 1; depth < 700; depth += depth < 60 || depth > 70 ? 20 : 1) {
        peer_deliver(&p, 1);
        peer_header(&p, 1, deep, nested(deep, depth));
        peer_frame(&p, AMQP_FRAME_BODY, 1, "x", 1);
        peer_turn(&p);
        assert_int_equal(p.seen.down, 0);
        assert_int_equal(was_malformed, depth > CONTENT_NEST);
        assert_int_equal(was_headers, depth > 1 && depth <= CONTENT_NEST);
    }
    assert_true(p.seen.delivered == p.seen.bytes && p.seen.delivered > 20);
    peer_close(&p);
}

/* --- methods --- */

static void questions_of_the_server_are_answered(void **state)
{
    amqp_channel_flow_t flow = {.active = 0};
    amqp_basic_cancel_t cancel = {.consumer_tag = amqp_cstring_bytes("c")};
    struct peer p;

    (void)state;
    peer_open(&p);
    peer_say(&p, 1, AMQP_CHANNEL_FLOW_METHOD, &flow);
    peer_say(&p, 1, AMQP_BASIC_CANCEL_METHOD, &cancel);
    cancel.nowait = 1;
    peer_say(&p, 1, AMQP_BASIC_CANCEL_METHOD, &cancel);
    peer_turn(&p);
    assert_int_equal(p.seen.cancelled, 2);
    peer_expect(&p, 1, AMQP_CHANNEL_FLOW_OK_METHOD);
    peer_expect(&p, 1, AMQP_BASIC_CANCEL_OK_METHOD);
    peer_expect_nothing(&p);
    peer_close(&p);
}

static void confirms_out_of_order(void **state)
{
    static const amqp_confirm_select_ok_t ok = {0};
    amqp_basic_ack_t ack = {.delivery_tag = 3};
    amqp_basic_nack_t nack = {.delivery_tag = 5, .multiple = 1};
    struct peer p;
    struct err e;

    (void)state;
    peer_open(&p);
    CHECK_OK(link_confirm_select(p.seen.link, 1, &e));
    peer_say(&p, 1, AMQP_CONFIRM_SELECT_OK_METHOD, &ok);
    for (uint64_t n = 1; n <= 200; n++)
        assert_int_equal(case_publish(&p.seen, 1, "q", true, slice_of("")), n);
    peer_say(&p, 1, AMQP_BASIC_ACK_METHOD, &ack);
    peer_say(&p, 1, AMQP_BASIC_ACK_METHOD, &ack); /* twice: once is told */
    peer_turn(&p);
    assert_int_equal(p.seen.confirmed, 1);
    assert_int_equal(p.seen.last_confirmed, 3);
    peer_say(&p, 1, AMQP_BASIC_NACK_METHOD, &nack);
    peer_turn(&p);
    assert_int_equal(p.seen.nacked, 4);
    ack = (amqp_basic_ack_t){.delivery_tag = 999}; /* never published */
    peer_say(&p, 1, AMQP_BASIC_ACK_METHOD, &ack);
    ack = (amqp_basic_ack_t){.delivery_tag = 0, .multiple = 1}; /* all */
    peer_say(&p, 1, AMQP_BASIC_ACK_METHOD, &ack);
    peer_turn(&p);
    assert_int_equal(p.seen.confirmed, 196);
    peer_close(&p);
}

/* Three for each that is confirmed, so that the ring grows while it is walked. */
static void publish_three(struct amqp_case *c)
{
    for (int i = 0; i < 3 && c->confirmed < 1000; i++)
        case_publish(c, 1, "q", true, slice_of(""));
}

static void publishing_while_confirmed(void **state)
{
    static const amqp_confirm_select_ok_t ok = {0};
    amqp_basic_ack_t ack = {.multiple = 1};
    struct amqp_piece piece;
    struct peer p;
    struct err e;

    (void)state;
    peer_open(&p);
    p.seen.on_confirmed = publish_three;
    CHECK_OK(link_confirm_select(p.seen.link, 1, &e));
    peer_say(&p, 1, AMQP_CONFIRM_SELECT_OK_METHOD, &ok);
    assert_int_equal(case_publish(&p.seen, 1, "q", true, slice_of("")), 1);
    for (ack.delivery_tag = 1; p.seen.confirmed < 1000; ack.delivery_tag *= 2) {
        peer_say(&p, 1, AMQP_BASIC_ACK_METHOD, &ack);
        peer_turn(&p);
        while (peer_heard(&p, &piece, NULL, 0))
            ;
        assert_int_equal(p.seen.confirmed, ack.delivery_tag);
    }
    peer_close(&p);
}

/* From inside of the callback: the channel is open again and numbers begin at 1. */
static void open_again(struct amqp_case *c, int channel)
{
    struct err e;

    CHECK_OK(link_open_channel(c->link, channel, &e));
    CHECK_OK(link_confirm_select(c->link, channel, &e));
    assert_int_equal(case_publish(c, channel, "q", true, slice_of("again")), 1);
}

static void close_with(struct peer *p, const char *text)
{
    amqp_channel_close_t bye = {.reply_code = AMQP_NOT_FOUND,
                                .reply_text = amqp_cstring_bytes(text)};

    peer_say(p, 1, AMQP_CHANNEL_CLOSE_METHOD, &bye);
    peer_turn(p);
    peer_expect(p, 1, AMQP_CHANNEL_CLOSE_OK_METHOD);
}

/* Both are 404. */
static void a_queue_that_is_not_up_yet_is_no_missing_one(void **state)
{
    struct peer p;

    (void)state;
    peer_open(&p);
    close_with(&p,
               "NOT_FOUND - home node 'rabbit@here' of durable queue 'celeriac.results' in vhost "
               "'/' is down or inaccessible");
    assert_int_equal(p.seen.closed_code, AMQP_RESOURCE_ERROR);
    assert_int_equal(p.seen.closed_why.code, ERR_AGAIN);
    assert_non_null(strstr(p.seen.closed_why.text, "celeriac.results"));
    assert_int_equal(link_open_channel(p.seen.link, 1, NULL), 0);
    peer_turn(&p);
    peer_expect(&p, 1, AMQP_CHANNEL_OPEN_METHOD);
    close_with(&p, "NOT_FOUND - no queue 'celeriac.results' in vhost '/'");
    assert_int_equal(p.seen.closed_code, AMQP_NOT_FOUND);
    assert_int_equal(p.seen.closed_why.code, ERR_NOTFOUND);
    peer_close(&p);
}

static void a_channel_opens_again_in_its_callback(void **state)
{
    static const amqp_channel_open_ok_t opened = {{0, NULL}};
    static const amqp_confirm_select_ok_t ok = {0};
    amqp_channel_close_t bye = {.reply_code = 406,
                                .reply_text = amqp_cstring_bytes("PRECONDITION_FAILED - x"),
                                .class_id = 60,
                                .method_id = 80};
    amqp_basic_ack_t ack = {.delivery_tag = 1};
    struct peer p;
    struct err e;

    (void)state;
    peer_open(&p);
    p.seen.on_closed = open_again;
    CHECK_OK(link_confirm_select(p.seen.link, 1, &e));
    for (int i = 0; i < 5; i++)
        case_publish(&p.seen, 1, "q", true, slice_of(""));
    peer_deliver(&p, 1); /* a message that never ends */
    peer_say(&p, 1, AMQP_CHANNEL_CLOSE_METHOD, &bye);
    peer_say(&p, 1, AMQP_CHANNEL_OPEN_OK_METHOD, &opened);
    peer_say(&p, 1, AMQP_CONFIRM_SELECT_OK_METHOD, &ok);
    peer_say(&p, 1, AMQP_BASIC_ACK_METHOD, &ack);
    peer_message(&p, 1, "x");
    peer_turn(&p);
    assert_int_equal(p.seen.channels_closed, 1);
    assert_int_equal(p.seen.closed_code, 406);
    assert_int_equal(p.seen.confirmed, 1);
    assert_int_equal(p.seen.delivered, 1);
    assert_int_equal(p.seen.down, 0);
    peer_close(&p);
}

/* A full socket takes what it can; every frame goes out whole and in order. */
static void partial_sends_keep_frames_whole(void **state)
{
    char *body = MUST_HAVE(malloc(300000));
    struct amqp_piece piece;
    struct peer p;
    size_t got = 0, frames = 0;

    (void)state;
    peer_open(&p);
    memset(body, 'b', 300000);
    for (int i = 0; i < 20; i++)
        case_publish(&p.seen, 1, "q", false, slice_make(body, 300000));
    link_pump(p.seen.link);
    assert_true(link_backlog(p.seen.link) > 1000000);
    while (got < 20 * 300000) {
        while (peer_heard(&p, &piece, NULL, 0)) {
            frames++;
            if (piece.type == AMQP_FRAME_BODY)
                got += piece.payload.len;
            assert_true(piece.payload.len <= PEER_FRAME_MAX - 8);
        }
        link_pump(p.seen.link);
    }
    assert_int_equal(frames, 20 * (2 + 3));
    assert_int_equal(link_backlog(p.seen.link), 0);
    peer_expect_nothing(&p);
    free(body);
    peer_close(&p);
}

/* What does not fit a frame is refused whole: nothing of it is sent. */
static void what_does_not_fit_is_not_begun(void **state)
{
    static char value[PEER_FRAME_MAX];
    amqp_table_entry_t entry = {
        .key = amqp_cstring_bytes("k"),
        .value = {.kind = AMQP_FIELD_KIND_UTF8, .value.bytes = {sizeof(value), value}}};
    amqp_basic_properties_t properties = {._flags = AMQP_BASIC_HEADERS_FLAG,
                                          .headers = {.num_entries = 1, .entries = &entry}};
    uint64_t sequence;
    struct peer p;
    struct err e;

    (void)state;
    peer_open(&p);
    CHECK_OK(link_confirm_select(p.seen.link, 1, &e));
    CHECK_ERR(link_publish(p.seen.link, 1, slice_of(""), slice_of("q"), true, &properties,
                           slice_of("x"), &sequence, &e),
              ERR_DEADLETTER, "longer than a frame");
    properties._flags = 0;
    CHECK_OK(link_publish(p.seen.link, 1, slice_of(""), slice_of("q"), true, &properties,
                          slice_of("x"), &sequence, &e));
    assert_int_equal(sequence, 1);
    link_pump(p.seen.link);
    peer_expect(&p, 1, AMQP_CONFIRM_SELECT_METHOD);
    peer_expect(&p, 1, AMQP_BASIC_PUBLISH_METHOD);
    peer_close(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(heartbeats_go_out_and_silence_ends_it),
        cmocka_unit_test(the_server_says_goodbye),
        cmocka_unit_test(the_reason_outlives_a_broken_pipe),
        cmocka_unit_test(closing_says_goodbye),
        cmocka_unit_test(leaving_waits_for_the_answer),
        cmocka_unit_test(blocked_during_the_login_is_told),
        cmocka_unit_test(half_a_frame_behind_the_login_is_an_error),
        cmocka_unit_test(frames_come_byte_by_byte),
        cmocka_unit_test(one_pump_hands_out_a_bounded_number),
        cmocka_unit_test(an_unknown_frame_is_skipped),
        cmocka_unit_test(a_body_may_be_as_long_as_the_server_has_one),
        cmocka_unit_test(what_is_not_amqp_ends_the_link),
        cmocka_unit_test(headers_that_nest_or_lie_are_marked),
        cmocka_unit_test(questions_of_the_server_are_answered),
        cmocka_unit_test(confirms_out_of_order),
        cmocka_unit_test(publishing_while_confirmed),
        cmocka_unit_test(a_queue_that_is_not_up_yet_is_no_missing_one),
        cmocka_unit_test(a_channel_opens_again_in_its_callback),
        cmocka_unit_test(partial_sends_keep_frames_whole),
        cmocka_unit_test(what_does_not_fit_is_not_begun),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
