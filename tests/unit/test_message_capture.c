/* Messages that Celery 5.2.6 and 5.6.2 sent, byte for byte but for the host name. */
#include "broker/message.h"
#include "tests/support/check.h"
#include "tests/support/file.h"

#include <glob.h>
#include <stdlib.h>

#define MESSAGES TEST_SOURCE_DIR "/support/messages/"

static void load(struct message *m, const char *name)
{
    struct err e = ERR_INIT;
    char path[512];
    struct buf text = BUF_INIT;

    snprintf(path, sizeof(path), "%s%s.json", MESSAGES, name);
    assert_int_equal(file_read(&text, path), 0);
    CHECK_OK(message_parse(m, buf_slice(&text), &e));
    CHECK_OK(message_open_body(m, &e));
    buf_release(&text);
}

static void assert_json(const json_t *value, const char *want)
{
    json_t *wanted = json_loads(want, JSON_DECODE_ANY, NULL);

    if (!json_equal(value, wanted))
        fail_msg("got %s, wanted %s", json_dumps(value, JSON_ENCODE_ANY), want);
    json_decref(wanted);
}

static void all_open(void **state)
{
    struct err e = ERR_INIT;
    glob_t found;

    (void)state;
    assert_int_equal(glob(MESSAGES "*.json", 0, NULL, &found), 0);
    assert_true(found.gl_pathc >= 20);
    for (size_t i = 0; i < found.gl_pathc; i++) {
        struct buf text = BUF_INIT;
        struct message m;

        assert_int_equal(file_read(&text, found.gl_pathv[i]), 0);
        CHECK_OK(message_parse(&m, buf_slice(&text), &e));
        CHECK_OK(message_open_body(&m, &e));
        CHECK_OK(message_open_body(&m, &e));
        assert_memory_equal(m.task, "tasks.", 6);
        assert_int_equal(strlen(m.id), 36);
        assert_string_equal(m.queue, "celery");
        assert_true(!m.embed || json_object_size(m.embed) == 4);
        message_release(&m);
        buf_release(&text);
    }
    globfree(&found);
}

static void basic(void **state)
{
    struct message m;

    (void)state;
    load(&m, "basic-5.6");
    assert_string_equal(m.task, "tasks.add");
    assert_string_equal(m.id, "8ff6dae3-2477-4fcb-b33f-c9d69373e0f1");
    assert_string_equal(m.root_id, m.id);
    assert_null(m.parent_id);
    assert_null(m.group);
    assert_null(m.eta);
    assert_int_equal(m.group_index, -1);
    assert_int_equal(m.ignore_result, 0);
    assert_int_equal(m.protocol, 2);
    assert_true(m.hard_limit_s == 0 && m.soft_limit_s == 0);
    assert_int_equal(m.sent_ms, 0);
    assert_json(m.args, "[2, 3]");
    assert_json(m.kwargs, "{}");
    message_release(&m);
}

static void options(void **state)
{
    struct message m;

    (void)state;
    load(&m, "options-5.2");
    assert_true(m.hard_limit_s == 30 && m.soft_limit_s == 20);
    assert_int_equal(m.priority, 5);
    assert_int_equal(m.ignore_result, 1);
    assert_int_equal(m.expires_ms - m.eta_ms, 60000);
    assert_int_equal(m.eta_ms, 1795225616016);
    assert_json(m.args, "[2]");
    assert_json(m.kwargs, "{\"y\": 3}");
    message_release(&m);
}

static void compressed_and_linked(void **state)
{
    struct message m;

    (void)state;
    load(&m, "compressed-5.2");
    assert_json(m.args, "[1, 2]");
    message_release(&m);
    load(&m, "link-5.2");
    assert_int_equal(json_array_size(json_object_get(m.embed, "callbacks")), 1);
    assert_int_equal(json_array_size(json_object_get(m.embed, "errbacks")), 1);
    assert_true(json_is_null(json_object_get(m.embed, "chain")));
    message_release(&m);
    load(&m, "chord-5.2");
    assert_true(json_is_object(json_object_get(m.embed, "chord")));
    assert_int_equal(m.group_index, 0);
    assert_string_equal(m.group, "44d991f9-fe41-4f34-a6d7-b4871123cfe8");
    message_release(&m);
}

static void protocol_1(void **state)
{
    struct message m;

    (void)state;
    load(&m, "protocol1-5.2");
    assert_int_equal(m.protocol, 1);
    assert_string_equal(m.task, "tasks.add");
    assert_string_equal(m.id, "9b488205-7971-47a9-86ff-3590b5a929f3");
    assert_string_equal(m.root_id, m.id);
    assert_true(m.eta_ms > 0);
    assert_json(m.args, "[1, 2]");
    assert_string_equal(json_string_value(json_object_get(m.headers, "task")), "tasks.add");
    message_release(&m);
}

static void hybrid(void **state)
{
    struct message m;

    (void)state;
    load(&m, "hybrid");
    assert_int_equal(m.protocol, 1);
    assert_json(m.args, "[4, 5]");
    assert_json(m.kwargs, "{\"z\": 1}");
    message_release(&m);
}

/* Raising the counter of lost workers must not lose anything else, protocol 1 included. */
static void with_header_keeps_the_rest(void **state)
{
    static const char *const names[] = {"options-5.6", "protocol1-5.6", "compressed-5.6"};
    struct err e = ERR_INIT;

    (void)state;
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        struct buf text = BUF_INIT;
        struct message m, again;

        load(&m, names[i]);
        CHECK_OK(message_with_header(&text, &m, MESSAGE_H_LOST, json_integer(3), &e));
        assert_null(json_object_get(m.headers, MESSAGE_H_LOST));
        CHECK_OK(message_parse(&again, buf_slice(&text), &e));
        CHECK_OK(message_open_body(&again, &e));
        assert_int_equal(again.lost, 3);
        assert_string_equal(again.id, m.id);
        assert_int_equal(again.eta_ms, m.eta_ms);
        assert_true(json_equal(again.properties, m.properties));
        assert_true(json_equal(again.args, m.args));
        message_release(&again);
        message_release(&m);
        buf_release(&text);
    }
}

/* Celery: same id, one retry more, parent = own id, the user's headers sent again. */
static void a_retry_keeps_what_is_the_users(void **state)
{
    struct uuid_source ids = UUID_SOURCE_INIT;
    struct err e = ERR_INIT;
    struct buf text = BUF_INIT;
    struct message_spec spec;
    struct message m, again;

    (void)state;
    load(&m, "options-5.6");
    CHECK_OK(message_spec_retry(&spec, &m, &e));
    CHECK_OK(message_encode(&text, &spec, &ids, &e));
    CHECK_OK(message_parse(&again, buf_slice(&text), &e));
    CHECK_OK(message_open_body(&again, &e));
    assert_string_equal(again.id, m.id);
    assert_string_equal(again.parent_id, m.id);
    assert_int_equal(again.retries, 1);
    assert_int_equal(again.eta_ms, 0);
    assert_int_equal(again.expires_ms, m.expires_ms);
    assert_int_equal(again.priority, 5);
    assert_true(json_equal(again.args, m.args) && !again.embed && !m.embed);
    assert_json(json_object_get(again.headers, "x-custom"), "\"v\"");
    assert_json(json_object_get(again.headers, "stamps"), "{}");
    assert_json(json_object_get(again.headers, "shadow"), "\"my.shadow\"");
    assert_json(json_object_get(again.headers, "timelimit"), "[30, 20]");
    message_release(&again);
    message_release(&m);
    buf_release(&text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_open),
        cmocka_unit_test(basic),
        cmocka_unit_test(options),
        cmocka_unit_test(compressed_and_linked),
        cmocka_unit_test(protocol_1),
        cmocka_unit_test(hybrid),
        cmocka_unit_test(with_header_keeps_the_rest),
        cmocka_unit_test(a_retry_keeps_what_is_the_users),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
