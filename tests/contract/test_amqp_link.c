/* The link against a real rabbitmq-server. */
#include "tests/support/amqp_case.h"
#include "tests/support/rabbitmq_server.h"

#include <stdio.h>
#include <stdlib.h>

#define MANY 20000

static char url[300];

/* Every case in a virtual host of its own. */
static int fresh(void **state)
{
    (void)state;
    return rabbitmq_fresh_url(url, sizeof(url));
}

static void open_channels(struct amqp_case *c, int n)
{
    struct err e;

    for (int i = 1; i <= n; i++)
        CHECK_OK(link_open_channel(c->link, i, &e));
}

/* --- publish, confirm, consume --- */

/* Most are small, some empty, some longer than a frame, one much longer. */
static size_t size_of(size_t i)
{
    return i % 1000 == 7 ? 131072 + i : i % 1000 == 9 ? 131064 : i == 5001 ? 3000000 : i % 97 * 8;
}

/* The body says which one it is, as far as it is long enough. */
static void check_body(struct amqp_case *c, const struct amqp_incoming *in)
{
    size_t i = c->delivered - 1;
    unsigned want = (unsigned)i, got;

    assert_int_equal(in->body.len, size_of(i));
    assert_int_equal(in->properties->delivery_mode, 2);
    assert_false(in->redelivered);
    for (size_t at = 0; at + sizeof(got) <= in->body.len; at += sizeof(got) * 1000) {
        memcpy(&got, in->body.ptr + at, sizeof(got));
        assert_int_equal(got, want);
    }
}

static void publish_numbered(struct amqp_case *c, size_t i, char *space)
{
    unsigned number = (unsigned)i;

    for (size_t at = 0; at + sizeof(number) <= size_of(i); at += sizeof(number))
        memcpy(space + at, &number, sizeof(number));
    assert_int_equal(case_publish(c, 1, "q", true, slice_make(space, size_of(i))), i + 1);
}

static void all_sizes_come_through_in_order(void **state)
{
    char *space = calloc(1, 4000000);
    struct amqp_case c;
    struct err e;
    size_t sent = 0;

    (void)state;
    case_open(&c, url);
    c.on_delivered = check_body;
    c.ack = true;
    open_channels(&c, 2);
    CHECK_OK(link_confirm_select(c.link, 1, &e));
    case_queue(&c, 2, "q");
    case_consume(&c, 2, "q", 300);
    while (c.confirmed < MANY || c.delivered < MANY) {
        for (; sent < MANY && sent - c.confirmed < 256; sent++)
            publish_numbered(&c, sent, space);
        case_turn(&c, 1000);
        assert_int_equal(c.down, 0);
    }
    assert_int_equal(c.confirmed, MANY);
    assert_int_equal(c.nacked + c.returned, 0);
    free(space);
    case_close(&c);
}

/* What waits in a queue comes in one flood; the caller polls only the descriptor and the deadline,
 * so a reader that leaves frames where poll does not see them would stop here for ever. */
static void a_flood_does_not_stall(void **state)
{
    struct amqp_case c;
    struct err e;

    (void)state;
    case_open(&c, url);
    open_channels(&c, 2);
    CHECK_OK(link_confirm_select(c.link, 1, &e));
    case_queue(&c, 2, "q");
    for (int i = 0; i < 2000; i++)
        case_publish(&c, 1, "q", true, slice_of("0123456789"));
    CASE_UNTIL(&c, c.confirmed == 2000);
    case_consume(&c, 2, "q", 0);
    while (c.delivered < 2000) {
        int wait_ms = clock_poll_timeout(clock_system(), link_deadline(c.link));
        size_t before = c.delivered;
        struct pollfd p;

        link_poll_wants(c.link, &p);
        assert_true(poll(&p, 1, wait_ms) > 0 || wait_ms == 0);
        link_pump(c.link);
        assert_true(c.delivered - before <= 256);
    }
    case_close(&c);
}

/* Deliveries that arrive together with the answers to calls. */
static void deliveries_between_answers_are_not_lost(void **state)
{
    amqp_queue_declare_t declare = {.queue = amqp_cstring_bytes("q"), .passive = 1};
    struct amqp_case c;
    struct err e;

    (void)state;
    case_open(&c, url);
    open_channels(&c, 1);
    case_queue(&c, 1, "q");
    case_consume(&c, 1, "q", 0);
    for (int i = 0; i < 500; i++) {
        case_publish(&c, 1, "q", false, slice_of("x"));
        CHECK_OK(
            link_call(c.link, 1, AMQP_QUEUE_DECLARE_METHOD, &declare, case_answered, NULL, 0, &e));
    }
    CASE_UNTIL(&c, c.delivered == 500 && c.answers == 503);
    case_close(&c);
}

static void get_answers_with_the_message(void **state)
{
    amqp_basic_get_t get = {.queue = amqp_cstring_bytes("q"), .no_ack = 1};
    struct amqp_case c;

    (void)state;
    case_open(&c, url);
    open_channels(&c, 1);
    case_queue(&c, 1, "q");
    case_publish(&c, 1, "q", false, slice_of("first"));
    case_publish(&c, 1, "q", false, slice_of("second"));
    assert_true(case_call(&c, 1, AMQP_BASIC_GET_METHOD, &get));
    assert_string_equal(c.answer_body, "first");
    assert_int_equal(c.answer_count, 1);
    assert_true(case_call(&c, 1, AMQP_BASIC_GET_METHOD, &get));
    assert_string_equal(c.answer_body, "second");
    assert_true(case_call(&c, 1, AMQP_BASIC_GET_METHOD, &get));
    assert_int_equal(c.answer_id, AMQP_BASIC_GET_EMPTY_METHOD);
    assert_int_equal(c.delivered, 0);
    case_close(&c);
}

static void a_mandatory_message_comes_back_by_number(void **state)
{
    struct amqp_case c;
    struct err e;

    (void)state;
    case_open(&c, url);
    open_channels(&c, 1);
    CHECK_OK(link_confirm_select(c.link, 1, &e));
    case_queue(&c, 1, "q");
    case_publish(&c, 1, "q", true, slice_of("a"));
    case_publish(&c, 1, "nowhere", true, slice_of("b"));
    case_publish(&c, 1, "nowhere", false, slice_of("dropped in silence"));
    CASE_UNTIL(&c, c.confirmed == 3);
    assert_int_equal(c.returned, 1);
    assert_int_equal(c.returned_sequence, 2);
    assert_int_equal(c.returned_code, 312);
    assert_string_equal(c.returned_key, "nowhere");
    case_close(&c);
}

/* --- refusals --- */

static void a_closed_channel_opens_again(void **state)
{
    amqp_queue_declare_t missing = {.queue = amqp_cstring_bytes("missing"), .passive = 1};
    amqp_queue_declare_t other = {
        .queue = amqp_cstring_bytes("q"), .exclusive = 1, .auto_delete = 1};
    struct amqp_case c;
    struct err e;

    (void)state;
    case_open(&c, url);
    open_channels(&c, 2);
    case_queue(&c, 1, "q");
    assert_false(case_call(&c, 1, AMQP_QUEUE_DECLARE_METHOD, &missing));
    assert_int_equal(c.answer_code, 404);
    assert_int_equal(c.answer_why.code, ERR_NOTFOUND);
    assert_non_null(strstr(c.answer_why.text, "missing"));
    assert_int_equal(c.channels_closed, 1);
    CHECK_ERR(link_ack(c.link, 1, 1, false, &e), ERR_REFUSED, "not open");
    CHECK_OK(link_open_channel(c.link, 1, &e));
    assert_false(case_call(&c, 1, AMQP_QUEUE_DECLARE_METHOD, &other));
    assert_int_equal(c.answer_code, 406);
    assert_int_equal(c.answer_why.code, ERR_REFUSED);
    CHECK_OK(link_open_channel(c.link, 1, &e));
    case_queue(&c, 1, "q");
    case_queue(&c, 2, "q2");
    assert_int_equal(c.down, 0);
    case_close(&c);
}

/* Of calls in a row only the one that was refused gets the code; confirms begin at 1 again. */
static void calls_behind_a_refused_one_fail_too(void **state)
{
    amqp_queue_declare_t missing = {.queue = amqp_cstring_bytes("missing"), .passive = 1};
    struct amqp_case c;
    struct err e;

    (void)state;
    case_open(&c, url);
    open_channels(&c, 1);
    CHECK_OK(link_confirm_select(c.link, 1, &e));
    assert_int_equal(case_publish(&c, 1, "q", false, slice_of("x")), 1);
    for (int i = 0; i < 3; i++)
        CHECK_OK(
            link_call(c.link, 1, AMQP_QUEUE_DECLARE_METHOD, &missing, case_answered, NULL, 0, &e));
    CASE_UNTIL(&c, c.channels_closed == 1);
    assert_int_equal(c.answers, 3);
    assert_int_equal(c.answer_codes, 404);
    assert_int_equal(c.answer_code, 0);
    assert_int_equal(c.answer_why.code, ERR_AGAIN);
    CHECK_OK(link_open_channel(c.link, 1, &e));
    CHECK_OK(link_confirm_select(c.link, 1, &e));
    assert_int_equal(case_publish(&c, 1, "q", false, slice_of("x")), 1);
    c.confirmed = 0;
    CASE_UNTIL(&c, c.confirmed == 1);
    case_close(&c);
}

/* An exchange that is not there: the channel goes, no call is to blame. */
static void a_bad_publish_closes_the_channel(void **state)
{
    static const amqp_basic_properties_t none = {0};
    struct amqp_case c;
    struct err e;

    (void)state;
    case_open(&c, url);
    open_channels(&c, 1);
    CHECK_OK(link_publish(c.link, 1, slice_of("nobody"), slice_of("k"), true, &none, slice_of(""),
                          NULL, &e));
    CASE_UNTIL(&c, c.channels_closed == 1);
    assert_int_equal(c.closed_code, 404);
    assert_int_equal(c.answers, 0);
    case_close(&c);
}

/* basic.nack on a stream consumer and the like end the connection: 540. */
static void a_refusal_can_end_the_connection(void **state)
{
    amqp_table_entry_t type = {
        .key = amqp_cstring_bytes("x-queue-type"),
        .value = {.kind = AMQP_FIELD_KIND_UTF8, .value.bytes = amqp_cstring_bytes("stream")}};
    amqp_queue_declare_t declare = {.queue = amqp_cstring_bytes("s"),
                                    .durable = 1,
                                    .arguments = {.num_entries = 1, .entries = &type}};
    amqp_basic_get_t get = {.queue = amqp_cstring_bytes("s")};
    struct amqp_case c;
    struct err e;

    (void)state;
    case_open(&c, url);
    open_channels(&c, 1);
    assert_true(case_call(&c, 1, AMQP_QUEUE_DECLARE_METHOD, &declare));
    assert_false(case_call(&c, 1, AMQP_BASIC_GET_METHOD, &get));
    assert_int_equal(c.answer_code, 540);
    assert_int_equal(c.answer_why.code, ERR_RECONNECT);
    assert_int_equal(c.down, 1);
    assert_non_null(strstr(c.down_why.text, "540"));
    assert_int_equal(link_deadline(c.link), CLOCK_NEVER);
    CHECK_ERR(link_open_channel(c.link, 2, &e), ERR_RECONNECT, "540");
    link_pump(c.link);
    assert_int_equal(c.down, 1);
    case_close(&c);
}

static void a_deleted_queue_cancels_its_consumer(void **state)
{
    amqp_queue_delete_t delete = {.queue = amqp_cstring_bytes("q")};
    struct amqp_case c;

    (void)state;
    case_open(&c, url);
    open_channels(&c, 2);
    case_queue(&c, 1, "q");
    case_consume(&c, 1, "q", 10);
    assert_true(case_call(&c, 2, AMQP_QUEUE_DELETE_METHOD, &delete));
    CASE_UNTIL(&c, c.cancelled == 1);
    assert_string_equal(link_server(c.link, "product"), "RabbitMQ");
    assert_string_equal(link_server(c.link, "capabilities.consumer_cancel_notify"), "true");
    assert_string_equal(link_server(c.link, "no such thing"), "");
    case_close(&c);
}

static void our_own_close_is_answered(void **state)
{
    amqp_channel_close_t bye = {.reply_code = 200, .reply_text = amqp_cstring_bytes("bye")};
    struct amqp_case c;
    struct err e;

    (void)state;
    case_open(&c, url);
    open_channels(&c, 1);
    case_queue(&c, 1, "q");
    assert_true(case_call(&c, 1, AMQP_CHANNEL_CLOSE_METHOD, &bye));
    assert_int_equal(c.channels_closed, 0);
    CHECK_OK(link_open_channel(c.link, 1, &e));
    case_queue(&c, 1, "q");
    case_close(&c);
}

/* --- login --- */

static void check_login(const char *bad_url, enum err_code code, const char *piece)
{
    struct amqp_dialed dialed;
    struct amqp_case c;
    struct err e;

    case_init(&c, bad_url);
    CHECK_ERR(case_dial(&c, 0, &dialed, &e), code, piece);
    assert_null(strstr(e.text, "sesame"));
    amqp_address_release(&c.address);
}

/* The URL with another user and password, host and port, or virtual host. */
static char *variant(char *text, size_t size, const char *login, const char *where,
                     const char *vhost)
{
    const char *at = strchr(url, '@') + 1, *slash = strchr(at, '/');

    snprintf(text, size, "amqp://%s@%.*s/%s", login, where ? (int)strlen(where) : (int)(slash - at),
             where ? where : at, vhost ? vhost : slash + 1);
    return text;
}

static void login_errors_say_what_to_do(void **state)
{
    char text[400];

    (void)state;
    check_login(variant(text, sizeof(text), "guest:sesame", NULL, NULL), ERR_OPERATOR,
                "wrong password for \"guest\"");
    check_login(variant(text, sizeof(text), "nobody:sesame", NULL, NULL), ERR_OPERATOR,
                "wrong password for \"nobody\"");
    check_login(variant(text, sizeof(text), "guest:guest", NULL, "nowhere"), ERR_OPERATOR,
                "virtual host \"nowhere\"");
    check_login(variant(text, sizeof(text), "guest:guest", "127.0.0.1:1", NULL), ERR_RECONNECT,
                "127.0.0.1:1");
}

/* Whether a resolver answers that there is no such name, or nobody answers, differs by machine. */
static void a_name_that_is_not_there(void **state)
{
    struct amqp_dialed dialed;
    struct amqp_case c;
    struct err e = ERR_INIT;
    char text[400];

    (void)state;
    case_init(&c, variant(text, sizeof(text), "guest:guest", "no-such-host.invalid", NULL));
    assert_int_equal(case_dial(&c, 0, &dialed, &e), -1);
    assert_true(e.code == ERR_OPERATOR || e.code == ERR_RECONNECT);
    assert_non_null(strstr(e.text, "\"no-such-host.invalid\" can not be resolved"));
    amqp_address_release(&c.address);
}

static void the_next_host_is_tried(void **state)
{
    char text[400], where[200];
    const char *at = strchr(url, '@') + 1;
    struct amqp_dialed dialed;
    struct amqp_case c;
    struct err e;

    (void)state;
    snprintf(where, sizeof(where), "127.0.0.1:1,%.*s", (int)strcspn(at, "/"), at);
    case_init(&c, variant(text, sizeof(text), "guest:guest", where, NULL));
    assert_int_equal(c.address.hosts_len, 2);
    for (size_t first = 0; first < 3; first++) {
        CHECK_OK(case_dial(&c, first, &dialed, &e));
        assert_int_equal(dialed.host, 1);
        assert_int_equal(dialed.heartbeat_s, 15);
        amqp_destroy_connection(dialed.connection);
    }
    amqp_address_release(&c.address);
}

static void a_dial_can_be_abandoned(void **state)
{
    struct amqp_case c;
    struct pollfd p;
    struct err e;

    (void)state;
    case_init(&c, url);
    for (int i = 0; i < 20; i++)
        dial_abandon(dial_start(&c.address, "test", 0, 1000, &e));
    struct amqp_dial *d = dial_start(&c.address, "test", 0, 5000, &e);
    p = (struct pollfd){.fd = dial_fd(d), .events = POLLIN};
    assert_int_equal(poll(&p, 1, CASE_LIMIT_MS), 1);
    dial_abandon(d);
    dial_abandon(NULL);
    amqp_address_release(&c.address);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(all_sizes_come_through_in_order, fresh),
        cmocka_unit_test_setup(a_flood_does_not_stall, fresh),
        cmocka_unit_test_setup(deliveries_between_answers_are_not_lost, fresh),
        cmocka_unit_test_setup(get_answers_with_the_message, fresh),
        cmocka_unit_test_setup(a_mandatory_message_comes_back_by_number, fresh),
        cmocka_unit_test_setup(a_closed_channel_opens_again, fresh),
        cmocka_unit_test_setup(calls_behind_a_refused_one_fail_too, fresh),
        cmocka_unit_test_setup(a_bad_publish_closes_the_channel, fresh),
        cmocka_unit_test_setup(a_refusal_can_end_the_connection, fresh),
        cmocka_unit_test_setup(a_deleted_queue_cancels_its_consumer, fresh),
        cmocka_unit_test_setup(our_own_close_is_answered, fresh),
        cmocka_unit_test_setup(login_errors_say_what_to_do, fresh),
        cmocka_unit_test_setup(a_name_that_is_not_there, fresh),
        cmocka_unit_test_setup(the_next_host_is_tried, fresh),
        cmocka_unit_test_setup(a_dial_can_be_abandoned, fresh),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
