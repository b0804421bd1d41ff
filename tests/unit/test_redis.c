/* Names, recorded values, held leases and error classes of the Redis backend; no server. */
#include "tests/support/check.h"

#include "broker/redis_conn.h"
#include "broker/redis_held.h"
#include "broker/redis_keys.h"

#include <stdlib.h>

#define S(text) slice_make(text, sizeof(text) - 1)

static void test_fields_parse_back(void **state)
{
    const struct redis_lease lease = {
        .fence = 12345678901u, .generation = 7, .lease_ms = 30000, .instance = 0xdeadbeef};
    struct redis_lease back;
    struct slice node;
    struct buf field = BUF_INIT;

    (void)state;
    redis_field(&field, "a/b@host", &lease);
    assert_string_equal(buf_str(&field), 
                        "a/b@host/00000000000000000007/00000000012345678901/0000030000/deadbeef");
    assert_int_equal(redis_field_parse(buf_slice(&field), &node, &back), 0);
    assert_true(slice_is(node, "a/b@host"));
    assert_true(field.len > 64);
    assert_memory_equal(&back, &lease, sizeof(lease));
    buf_release(&field);
}

static void test_fields_of_kombu_are_not_ours(void **state)
{
    static const char *const others[] = {"b3ce8d5b-debb-4154-a561-61992146c987",
                                         "",
                                         "/",
                                         "a/1/2/3",
                                         "a/x/1/30000/deadbeef",
                                         "a/1/1/30000/",
                                         "a/1/1/-5/deadbeef",
                                         "a/1/1/30000/1deadbeef",
                                         "a/1/1/99999999999/deadbeef"};
    struct redis_lease lease;
    struct slice node;

    (void)state;
    for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++)
        assert_int_equal(redis_field_parse(slice_of(others[i]), &node, &lease), -1);
}

static void test_steps_of_priority(void **state)
{
    static const int want[] = {0, 0, 0, 1, 1, 1, 2, 2, 2, 3};

    (void)state;
    for (int i = 0; i < 10; i++)
        assert_int_equal(redis_step_of(i), want[i]);
    assert_int_equal(redis_step_of(-1), 0);
    assert_int_equal(redis_step_of(255), 3);
    assert_string_equal(redis_step_suffix(1), "\x06\x16"
                                              "3");
}

static void test_tags_parse_back(void **state)
{
    struct buf tag = BUF_INIT;
    struct slice queue;
    int priority;

    (void)state;
    redis_tag(&tag, 0x123456789abcdefu, 0xff, 9, S("a/b"));
    assert_int_equal(redis_tag_parse(buf_slice(&tag), &priority, &queue), 0);
    assert_int_equal(priority, 9);
    assert_true(slice_is(queue, "a/b"));
    assert_int_equal(redis_tag_parse(S("short"), &priority, &queue), -1);
    buf_release(&tag);
}

/* What the fetch script records comes back byte for byte when it is not JSON, marked when it is. */
static void restore(struct slice element, struct slice queue, const char *want, int priority)
{
    struct buf value = BUF_INIT;
    struct redis_entry entry;
    struct err e = ERR_INIT;

    buf_adds(&value, "[");
    buf_add(&value, element.ptr, element.len);
    redis_value_tail(&value, queue);
    CHECK_OK(redis_entry_parse(&entry, buf_slice(&value), true, &e));
    assert_string_equal(entry.envelope, want);
    assert_string_equal(entry.exchange, "");
    assert_true(slice_is(queue, entry.routing_key));
    assert_int_equal(entry.priority, priority);
    redis_entry_release(&entry);
    buf_release(&value);
}

static void test_our_values(void **state)
{
    (void)state;
    restore(S("not json ,\"\",\"x\"] at all"), S("q"), "not json ,\"\",\"x\"] at all", 0);
    restore(S(""), S("q"), "", 0);
    restore(S("[1]"), S("we\"ird\\,\"\",\"q"), "[1]", 0);
    restore(
        S("{\"headers\": {\"id\": \"i\"}, \"properties\": {\"priority\": 5, \"delivery_info\": "
          "{}}}"),
        S("celery"),
        "{\"headers\": {\"id\": \"i\", \"redelivered\": true}, \"properties\": {\"priority\": 5, "
        "\"delivery_info\": {\"redelivered\": true}}}",
        5);
}

static void test_values_of_kombu(void **state)
{
    static const char good[] =
        "[{\"body\": \"W10=\", \"headers\": {}, \"properties\": {\"priority\": 99}}, "
        "\"named\", \"a.b\"]";
    static const char *const bad[] = {
        "", "[", "{}", "[1, \"\", \"q\"]", "[{}, \"\"]", "[{}, \"\", \"\"]", "[{}, 1, 2]"};
    struct redis_entry entry;
    struct err e = ERR_INIT;

    (void)state;
    CHECK_OK(redis_entry_parse(&entry, slice_of(good), false, &e));
    assert_string_equal(entry.exchange, "named");
    assert_string_equal(entry.routing_key, "a.b");
    assert_int_equal(entry.priority, 9);
    assert_non_null(strstr(entry.envelope, "\"redelivered\": true"));
    redis_entry_release(&entry);
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        CHECK_ERR(redis_entry_parse(&entry, slice_of(bad[i]), false, &e), ERR_DEADLETTER,
                  "recorded");
        redis_entry_release(&entry);
    }
}

static void test_bindings(void **state)
{
    static const struct {
        const char *pattern, *key;
        bool match;
    } cases[] = {
        {"celery", "celery", true}, {"celery", "celeryd", false}, {"a.*", "a.b", true},
        {"a.*", "a.b.c", false},    {"a.*", "a", false},          {"#", "", true},
        {"#", "a.b", true},         {"a.#", "a", true},           {"a.#", "a.b.c", true},
        {"#.c", "a.b.c", true},     {"#.c", "a.b", false},        {"*.b.#", "a.b", true},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct buf member = BUF_INIT;
        struct slice queue;

        buf_addf(&member, "%s" REDIS_SEP "^x$" REDIS_SEP "target", cases[i].pattern);
        if (redis_binding_match(buf_slice(&member), slice_of(cases[i].key), &queue) !=
            cases[i].match)
            fail_msg("%s against %s", cases[i].pattern, cases[i].key);
        if (cases[i].match)
            assert_true(slice_is(queue, "target"));
        buf_release(&member);
    }
}

static void test_foreign_and_redelivered(void **state)
{
    (void)state;
    assert_true(redis_is_foreign(S("{\"headers\": {\"lang\": \"py\"}, \"properties\": {}}")));
    assert_true(redis_is_foreign(S("{\"headers\":{\"lang\":\"js\"},\"properties\":{}}")));
    assert_true(redis_is_foreign(S("{\"headers\": {}, \"properties\": {}}"))); /* protocol 1 */
    assert_false(
        redis_is_foreign(S("{\"headers\": {\"celeriac_sent_ms\": 1}, \"properties\": {}}")));
    assert_false(redis_is_foreign(S("anything")));
    assert_true(redis_was_redelivered(S("{\"redelivered\": true}")));
    assert_true(redis_was_redelivered(S("{\"redelivered\":true}")));
    assert_false(redis_was_redelivered(S("{\"redelivered\": false}")));
}

static void test_held_leases(void **state)
{
    struct redis_held held = {0};

    (void)state;
    for (uint64_t fence = 1; fence <= 5000; fence++) {
        struct redis_lease lease = {.fence = fence, .queue = (uint32_t)fence % 7};

        assert_int_equal(redis_held_add(&held, &lease), 0);
    }
    assert_int_equal(redis_held_add(&held, &(struct redis_lease){.fence = 5}), 0);
    assert_int_equal(held.len, 5000);
    for (uint64_t fence = 1; fence <= 5000; fence += 2)
        redis_held_remove(&held, fence);
    redis_held_remove(&held, 1);
    redis_held_remove(&held, 99999);
    assert_int_equal(held.len, 2500);
    for (uint64_t fence = 1; fence <= 5000; fence++) {
        const struct redis_lease *lease = redis_held_find(&held, fence);

        assert_int_equal(lease != NULL, fence % 2 == 0);
        if (lease)
            assert_int_equal(lease->queue, fence % 7);
    }
    redis_held_release(&held);
}

static void test_errors_are_classified(void **state)
{
    static const struct {
        const char *text;
        enum err_code code;
    } cases[] = {
        {"OOM command not allowed when used memory > 'maxmemory'.", ERR_AGAIN},
        {"LOADING Redis is loading the dataset in memory", ERR_AGAIN},
        {"BUSY Redis is busy running a script.", ERR_AGAIN},
        {"READONLY You can't write against a read only replica.", ERR_AGAIN},
        {"MISCONF Redis is configured to save RDB snapshots", ERR_AGAIN},
        {"ERR Error running script (call to f_12): @user_script:1: @user_script: 1: -OOM command "
         "not allowed",
         ERR_AGAIN},
        {"NOAUTH Authentication required.", ERR_OPERATOR},
        {"WRONGPASS invalid username-password pair", ERR_OPERATOR},
        {"NOPERM this user has no permissions", ERR_OPERATOR},
        {"ERR The user executing the script can't run this command or subcommand", ERR_OPERATOR},
        {"ERR ACL failure in script: User u has no permissions to run the 'lpush' command",
         ERR_OPERATOR},
        {"ERR DB index is out of range", ERR_OPERATOR},
        {"ERR syntax error", ERR_BUG},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        assert_int_equal(redis_classify(cases[i].text), cases[i].code);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_fields_parse_back),
        cmocka_unit_test(test_fields_of_kombu_are_not_ours),
        cmocka_unit_test(test_steps_of_priority),
        cmocka_unit_test(test_tags_parse_back),
        cmocka_unit_test(test_our_values),
        cmocka_unit_test(test_values_of_kombu),
        cmocka_unit_test(test_bindings),
        cmocka_unit_test(test_foreign_and_redelivered),
        cmocka_unit_test(test_held_leases),
        cmocka_unit_test(test_errors_are_classified),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
