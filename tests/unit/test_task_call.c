/* From JSON lines to messages, and what is refused. */
#include "tests/support/check.h"

#include "broker/message.h"
#include "client/sigpipe.h"
#include "client/task_call.h"

#include <unistd.h>

#define NOW_MS 1795000000000

static struct err e;

static int take(struct task_call *call, const char *text, json_t **object)
{
    *object = json_loads(text, JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL);
    assert_non_null(*object);
    return task_call_from_json(call, *object, &e);
}

static void refuse(const char *text, const char *piece)
{
    struct task_call call;
    json_t *object;

    CHECK_ERR(take(&call, text, &object), ERR_USAGE, piece);
    task_call_release(&call);
    json_decref(object);
}

static void names_what_is_wrong(void **state)
{
    (void)state;
    refuse("[]", "must be a JSON object, not an array");
    refuse("{}", "\"task\" is missing");
    refuse("{\"task\": 1}", "\"task\" must be text, not a number");
    refuse("{\"task\": \"\"}", "\"task\" is empty");
    refuse("{\"task\": \"a\\u0000b\"}", "NUL");
    refuse("{\"task\": \"a\\nb\"}", "control bytes");
    refuse("{\"task\": \"a\", \"args\": {}}", "\"args\" must be an array, not an object");
    refuse("{\"task\": \"a\", \"kwargs\": 3}", "\"kwargs\" must be an object, not a number");
    refuse("{\"task\": \"a\", \"headers\": true}", "\"headers\" must be an object, not true");
    refuse("{\"task\": \"a\", \"priority\": 10}",
           "\"priority\" must be a whole number from 0 to 9");
    refuse("{\"task\": \"a\", \"priority\": 1.5}", "\"priority\" must be a whole number");
    refuse("{\"task\": \"a\", \"countdown\": -1}", "\"countdown\" is out of range");
    refuse("{\"task\": \"a\", \"countdown\": \"x\"}", "\"countdown\" must be a number of seconds");
    refuse("{\"task\": \"a\", \"countdown\": 1e300}", "\"countdown\" is out of range");
    refuse("{\"task\": \"a\", \"dedup\": 5}", "\"dedup\" must be text, not a number");
    refuse("{\"task\": \"a\", \"dedup\": \"\"}", "\"dedup\" is empty");
    refuse("{\"task\": \"a\", \"dedup\": \"k\", \"window\": 0}", "\"window\" must be above 0");
    refuse("{\"task\": \"a\", \"dedup\": \"k\", \"window\": 1e8}", "at most 31622400 seconds");
    refuse("{\"task\": \"a\", \"dedup\": \"k\", \"headers\": {\"celeriac_dedup\": {}}}",
           "exclude each other");
    refuse("{\"task\": \"a\", \"eta\": 5}", "\"eta\" must be an ISO-8601 time");
    refuse("{\"task\": \"a\", \"eta\": \"noon\"}", "'noon' is no ISO-8601 time");
    refuse("{\"task\": \"a\", \"expires\": []}", "\"expires\" must be a number of seconds");
    refuse("{\"task\": \"a\", \"expires\": 0}", "\"expires\" must be above 0 seconds");
    refuse("{\"task\": \"a\", \"expires\": -1}", "\"expires\" is out of range");
    refuse("{\"task\": \"a\", \"eta\": \"2026-02-30T08:00:00Z\"}", "is no ISO-8601 time");
    refuse("{\"task\": \"a\", \"ignore_result\": 1}", "\"ignore-result\" must be true or false");
    refuse("{\"task\": \"a\", \"coutdown\": 1}", "did you mean \"countdown\"?");
    refuse("{\"task\": \"a\", \"eta\": \"2026-11-21T00:00:00Z\", \"countdown\": 1}", "exclude");
    refuse("{\"task\": \"a\", \"time_limit\": 1, \"soft_time_limit\": 2}", "is longer than");
    refuse("{\"task\": \"a\", \"id\": \"0123456789012345678901234567890123456\"}",
           "longer than 36");
}

static struct outgoing encoded(const char *text)
{
    struct uuid_source ids = UUID_SOURCE_INIT;
    struct outgoing o = {.id = ""};
    struct task_call call;
    json_t *object;

    CHECK_OK(take(&call, text, &object));
    CHECK_OK(task_call_encode(&call, &ids, NOW_MS, &o, &e));
    task_call_release(&call);
    json_decref(object);
    return o;
}

static void encodes_every_member(void **state)
{
    struct outgoing o = encoded(
        "{\"task\": \"t\", \"args\": [1, \"a\\u0000\"], \"kwargs\": {\"k\": 2}, \"id\": \"i-1\","
        " \"queue\": \"q\", \"priority\": 4, \"countdown\": 1.5, \"expires\": 60,"
        " \"headers\": {\"x\": 5}, \"time-limit\": 9, \"soft_time_limit\": 8,"
        " \"ignore_result\": true, \"root_id\": \"r\", \"parent-id\": \"p\", \"group\": \"g\"}");
    struct message m;

    (void)state;
    assert_string_equal(o.id, "i-1");
    assert_true(slice_is(outgoing_queue(&o), "q"));
    assert_int_equal(o.priority, 4);
    assert_int_equal(o.not_before_ms, NOW_MS + 1500);
    CHECK_OK(message_parse(&m, outgoing_envelope(&o), &e));
    CHECK_OK(message_open_body(&m, &e));
    assert_string_equal(m.task, "t");
    assert_string_equal(m.id, "i-1");
    assert_string_equal(m.root_id, "r");
    assert_string_equal(m.parent_id, "p");
    assert_string_equal(m.group, "g");
    assert_int_equal(m.eta_ms, NOW_MS + 1500);
    assert_int_equal(m.expires_ms, NOW_MS + 60000);
    assert_true(m.hard_limit_s == 9 && m.soft_limit_s == 8);
    assert_int_equal(m.ignore_result, 1);
    assert_int_equal(json_integer_value(json_object_get(m.headers, "x")), 5);
    assert_int_equal(json_array_size(m.args), 2);
    assert_int_equal(json_string_length(json_array_get(m.args, 1)), 2);
    assert_int_equal(json_integer_value(json_object_get(m.kwargs, "k")), 2);
    message_release(&m);
    outgoing_release(&o);
}

static struct outgoing encoded_plain(const struct task_call *begin, const char *text)
{
    struct uuid_source ids = UUID_SOURCE_INIT;
    struct outgoing o = {.id = ""};
    struct task_call call = *begin;
    struct task_names names;

    assert_true(task_call_from_plain(&call, &names, slice_of(text)));
    CHECK_OK(task_call_encode(&call, &ids, NOW_MS, &o, &e));
    return o;
}

/* But for white space in the arguments a plain line makes the message that its value makes. */
static void a_plain_line_is_the_same_task(void **state)
{
    static const char *const lines[] = {
        "{\"task\": \"t\", \"id\": \"i\"}",
        " {\"id\":\"i\",\"task\":\"a.b c\",\"queue\":\"q\"} ",
        ("{\"task\": \"t\", \"id\": \"i\", \"args\": [1, \"x y\", [null, true]], "
         "\"kwargs\": {\"k\": 0.5}}"),
        "{\"task\": \"t\", \"id\": \"i\", \"args\": [], \"kwargs\": {}}",
        "{\"task\": \"t\", \"id\": \"i\", \"args\": [\"\\u00e9\\n\", \"a\\\"b\", \"it's\"]}",
    };
    const struct task_call begin = {.origin = "gen1@here"};

    (void)state;
    for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++) {
        struct outgoing a = encoded(lines[i]), b = encoded_plain(&begin, lines[i]);
        struct message x, y;

        CHECK_OK(message_parse(&x, outgoing_envelope(&a), &e));
        CHECK_OK(message_parse(&y, outgoing_envelope(&b), &e));
        json_object_del(x.headers, "origin");
        json_object_del(y.headers, "origin");
        json_object_del(x.properties, "delivery_tag");
        json_object_del(y.properties, "delivery_tag");
        assert_true(json_equal(x.envelope, y.envelope));
        assert_true(slice_eq(outgoing_queue(&a), outgoing_queue(&b)));
        message_release(&x);
        message_release(&y);
        outgoing_release(&a);
        outgoing_release(&b);
    }
}

static void other_lines_are_left_to_the_full_reader(void **state)
{
    static const char *const lines[] = {
        "",
        "7",
        "[]",
        "{}",
        "{\"task\": \"t\"",
        "{\"task\": \"t\"} x",
        "{\"task\": \"t\",}",
        "{\"task\": \"\"}",
        "{\"task\": null}",
        "{\"task\": \"t\", \"task\": \"u\"}",
        "{\"task\": \"t\\n\"}",
        "{\"task\": \"t\x7f\"}",
        "{\"task\": \"caf\xc3\xa9\"}",
        "{\"args\": []}",
        "{\"task\": \"t\", \"args\": {}}",
        "{\"task\": \"t\", \"args\": [], \"args\": [1]}",
        "{\"task\": \"t\", \"args\": [\"\xc3\xa9\"]}",
        "{\"task\": \"t\", \"args\": [1e3]}",
        "{\"task\": \"t\", \"args\": [01]}",
        "{\"task\": \"t\", \"args\": null}",
        "{\"task\": \"t\", \"kwargs\": []}",
        "{\"task\": \"t\", \"id\": \"0123456789012345678901234567890123456\"}",
        "{\"task\": \"t\", \"countdown\": 1}",
        "{\"task\": \"t\", \"task_id\": \"i\"}",
        "{\"task\": \"t\", \"priority\": 3}",
    };
    struct task_call call = {.priority = 5};
    struct task_names names;

    (void)state;
    for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++) {
        assert_false(task_call_from_plain(&call, &names, slice_of(lines[i])));
        assert_null(call.task);
        assert_null(call.args_text.ptr);
    }
    assert_int_equal(call.priority, 5);
}

static void a_program_gives_arguments_of_any_form(void **state)
{
    static const char *const args[] = {"[1, 2]", " [ 1,2 ] ", "[1, 2e0]", "[1, \"\xc3\xa9\"]"};

    (void)state;
    for (size_t i = 0; i < sizeof(args) / sizeof(args[0]); i++) {
        struct celeriac_task_options how = CELERIAC_TASK_OPTIONS_INIT;
        struct uuid_source ids = UUID_SOURCE_INIT;
        struct outgoing o = {.id = ""};
        struct task_call call;
        struct message m;

        how.args_json = args[i];
        how.kwargs_json = "{\"k\": 1}";
        CHECK_OK(task_call_from_options(&call, "t", &how, &e));
        CHECK_OK(task_call_encode(&call, &ids, NOW_MS, &o, &e));
        CHECK_OK(message_parse(&m, outgoing_envelope(&o), &e));
        CHECK_OK(message_open_body(&m, &e));
        assert_int_equal(json_array_size(m.args), 2);
        assert_int_equal(json_integer_value(json_object_get(m.kwargs, "k")), 1);
        message_release(&m);
        outgoing_release(&o);
        task_call_release(&call);
    }
}

static void a_program_gives_arguments_of_the_wrong_form(void **state)
{
    struct celeriac_task_options how = CELERIAC_TASK_OPTIONS_INIT;
    struct task_call call;

    (void)state;
    how.args_json = "{}";
    CHECK_ERR(task_call_from_options(&call, "t", &how, &e), ERR_USAGE, "must be an array");
    task_call_release(&call);
    how.args_json = "[1";
    CHECK_ERR(task_call_from_options(&call, "t", &how, &e), ERR_USAGE, "args is no valid JSON");
    task_call_release(&call);
}

static void a_dedup_key_travels_as_a_header(void **state)
{
    struct outgoing o = encoded("{\"task\": \"t\", \"dedup\": \"order 7\", \"window\": 1.5,"
                                " \"headers\": {\"x\": 5}}");
    struct message m;

    (void)state;
    CHECK_OK(message_parse(&m, outgoing_envelope(&o), &e));
    assert_true(slice_is(m.dedup_key, "order 7"));
    assert_int_equal(m.dedup_window_ms, 1500);
    assert_int_equal(json_integer_value(json_object_get(m.headers, "x")), 5);
    message_release(&m);
    outgoing_release(&o);
    o = encoded("{\"task\": \"t\", \"dedup\": \"order 7\"}");
    CHECK_OK(message_parse(&m, outgoing_envelope(&o), &e));
    assert_int_equal(m.dedup_window_ms, 3600000);
    message_release(&m);
    outgoing_release(&o);
}

static void a_program_gives_a_key_in_its_options(void **state)
{
    struct celeriac_task_options how = CELERIAC_TASK_OPTIONS_INIT;
    struct uuid_source ids = UUID_SOURCE_INIT;
    struct outgoing o = {.id = ""};
    struct task_call call;
    struct message m;

    (void)state;
    how.dedup_key = "order 7";
    how.dedup_window_s = 60;
    CHECK_OK(task_call_from_options(&call, "t", &how, &e));
    CHECK_OK(task_call_encode(&call, &ids, NOW_MS, &o, &e));
    CHECK_OK(message_parse(&m, outgoing_envelope(&o), &e));
    assert_true(slice_is(m.dedup_key, "order 7"));
    assert_int_equal(m.dedup_window_ms, 60000);
    message_release(&m);
    outgoing_release(&o);
    task_call_release(&call);
}

static void a_program_gives_a_wrong_key(void **state)
{
    struct celeriac_task_options how = CELERIAC_TASK_OPTIONS_INIT;
    struct uuid_source ids = UUID_SOURCE_INIT;
    struct outgoing o = {.id = ""};
    struct task_call call;

    (void)state;
    how.dedup_key = "order 7";
    how.dedup_window_s = -1;
    CHECK_ERR(task_call_from_options(&call, "t", &how, &e), ERR_USAGE, "\"window\"");
    how.dedup_window_s = 0;
    how.dedup_key = "caf\xe9";
    CHECK_OK(task_call_from_options(&call, "t", &how, &e));
    CHECK_ERR(task_call_encode(&call, &ids, NOW_MS, &o, &e), ERR_USAGE, "not UTF-8");
    outgoing_release(&o);
    task_call_release(&call);
    /* A program built before the option has a shorter structure. */
    how.size = offsetof(struct celeriac_task_options, dedup_key);
    how.dedup_key = "must not be read";
    CHECK_OK(task_call_from_options(&call, "t", &how, &e));
    assert_null(call.dedup);
    task_call_release(&call);
}

static void fills_in_what_is_not_said(void **state)
{
    struct outgoing o = encoded("{\"task\": \"t\", \"id\": null, \"queue\": null}");
    struct message m;

    (void)state;
    assert_int_equal(strlen(o.id), 36);
    assert_true(slice_is(outgoing_queue(&o), "celery"));
    assert_int_equal(o.not_before_ms, 0);
    CHECK_OK(message_parse(&m, outgoing_envelope(&o), &e));
    assert_string_equal(m.id, o.id);
    assert_string_equal(m.root_id, o.id);
    assert_int_equal(m.expires_ms, 0);
    message_release(&m);
    outgoing_release(&o);
}

static void takes_times_as_text(void **state)
{
    struct outgoing o = encoded("{\"task\": \"t\", \"eta\": \"2026-11-21T01:00:00+01:00\","
                                " \"expires\": \"2026-11-22T00:00:00\"}");
    struct message m;

    (void)state;
    assert_int_equal(o.not_before_ms, 1795219200000);
    CHECK_OK(message_parse(&m, outgoing_envelope(&o), &e));
    assert_int_equal(m.expires_ms, 1795219200000 + 86400000);
    message_release(&m);
    outgoing_release(&o);
}

static bool pipe_signal_pending(void)
{
    sigset_t pending;

    sigpending(&pending);
    return sigismember(&pending, SIGPIPE) == 1;
}

/* With SIGPIPE at its default the write below would end this program. */
static void survives_a_broken_pipe(void **state)
{
    struct sigpipe_guard guard;
    int fds[2];

    (void)state;
    assert_int_equal(pipe(fds), 0);
    close(fds[0]);
    sigpipe_enter(&guard);
    assert_int_equal(write(fds[1], "x", 1), -1);
    assert_true(pipe_signal_pending());
    sigpipe_leave(&guard);
    assert_false(pipe_signal_pending());
    close(fds[1]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_what_is_wrong),
        cmocka_unit_test(encodes_every_member),
        cmocka_unit_test(a_plain_line_is_the_same_task),
        cmocka_unit_test(other_lines_are_left_to_the_full_reader),
        cmocka_unit_test(a_program_gives_arguments_of_any_form),
        cmocka_unit_test(a_program_gives_arguments_of_the_wrong_form),
        cmocka_unit_test(a_dedup_key_travels_as_a_header),
        cmocka_unit_test(a_program_gives_a_key_in_its_options),
        cmocka_unit_test(a_program_gives_a_wrong_key),
        cmocka_unit_test(fills_in_what_is_not_said),
        cmocka_unit_test(takes_times_as_text),
        cmocka_unit_test(survives_a_broken_pipe),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
