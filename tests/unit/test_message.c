#include "broker/message.h"
#include "tests/support/check.h"

#define NOW_MS 1700000000000

/* What is written is read back: every member of a spec. */
static void encoded_message_parses(void **state)
{
    struct uuid_source ids = UUID_SOURCE_INIT;
    struct err e = ERR_INIT;
    struct buf out = BUF_INIT;
    struct message m;
    json_t *args = json_pack("[i, f]", 2, 0.1), *kwargs = json_pack("{s:s}", "y", "\xc3\xa9'");
    json_t *headers = json_pack("{s:s}", "x-custom", "v");
    struct message_spec spec = {.task = "math.add",
                                .id = "8ff6dae3-2477-4fcb-b33f-c9d69373e0f1",
                                .parent_id = "p",
                                .group = "g",
                                .group_index = 3,
                                .args = args,
                                .kwargs = kwargs,
                                .headers = headers,
                                .queue = "q",
                                .reply_to = "r",
                                .eta_ms = NOW_MS + 1,
                                .expires_ms = NOW_MS + 2000,
                                .hard_limit_s = 30,
                                .soft_limit_s = 2.5,
                                .retries = 1,
                                .priority = 5,
                                .ignore_result = 1,
                                .now_ms = NOW_MS};

    (void)state;
    CHECK_OK(message_encode(&out, &spec, &ids, &e));
    CHECK_OK(message_parse(&m, buf_slice(&out), &e));
    assert_string_equal(m.task, "math.add");
    assert_string_equal(m.id, spec.id);
    assert_string_equal(m.root_id, spec.id);
    assert_string_equal(m.parent_id, "p");
    assert_string_equal(m.group, "g");
    assert_int_equal(m.group_index, 3);
    assert_string_equal(m.queue, "q");
    assert_string_equal(m.reply_to, "r");
    assert_string_equal(m.correlation_id, spec.id);
    assert_int_equal(m.eta_ms, NOW_MS + 1);
    assert_int_equal(m.expires_ms, NOW_MS + 2000);
    assert_true(m.hard_limit_s == 30 && m.soft_limit_s == 2.5);
    assert_int_equal(m.retries, 1);
    assert_int_equal(m.priority, 5);
    assert_int_equal(m.ignore_result, 1);
    assert_int_equal(m.sent_ms, NOW_MS);
    assert_int_equal(m.protocol, 2);
    assert_null(m.args);
    CHECK_OK(message_open_body(&m, &e));
    assert_true(json_equal(m.args, args));
    assert_true(json_equal(m.kwargs, kwargs));
    assert_null(m.embed);
    message_release(&m);
    buf_release(&out);
    json_decref(args);
    json_decref(kwargs);
    json_decref(headers);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(encoded_message_parses),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
