/* Specs: what is refused, what a signature becomes, how arguments read. */
#include "broker/message.h"
#include "tests/support/check.h"

#include <stdlib.h>

#define ID     "8ff6dae3-2477-4fcb-b33f-c9d69373e0f1"
#define NOW_MS 1700000000000

static void refuse(struct message_spec spec, const char *piece)
{
    struct uuid_source ids = UUID_SOURCE_INIT;
    struct err e = ERR_INIT;
    struct buf out = BUF_INIT;

    buf_adds(&out, "before");
    CHECK_ERR(message_encode(&out, &spec, &ids, &e), ERR_USAGE, piece);
    assert_string_equal(buf_str(&out), "before");
    buf_release(&out);
}

static void what_can_not_be_sent_is_refused(void **state)
{
    json_t *text = json_string("x");
    const struct message_spec good = {.task = "t", .id = ID, .group_index = -1};
    struct message_spec s;

    (void)state;
    s = good, s.task = NULL, refuse(s, "name of a task");
    s = good, s.task = "", refuse(s, "name of a task");
    s = good, s.task = "\xff", refuse(s, "not UTF-8");
    s = good, s.id = "", refuse(s, "needs an id");
    s = good, s.args = text, refuse(s, "must be a JSON array");
    s = good, s.kwargs = text, refuse(s, "must be a JSON object");
    s = good, s.headers = text, refuse(s, "must be a JSON object");
    s = good, s.priority = 10, refuse(s, "priority");
    s = good, s.priority = -1, refuse(s, "priority");
    s = good, s.retries = -1, refuse(s, "retries");
    s = good, s.eta_ms = -1, refuse(s, "eta");
    s = good, s.expires_ms = INT64_MAX, refuse(s, "expires");
    s = good, s.hard_limit_s = 1e10, refuse(s, "time limit");
    json_decref(text);
}

static void arguments_over_the_limit_are_refused(void **state)
{
    size_t len = MESSAGE_BODY_MAX;
    char *big = malloc(len);
    struct message_spec spec = {.task = "t", .id = ID, .group_index = -1};

    (void)state;
    assert_non_null(big);
    memset(big, 'x', len);
    spec.args = json_pack("[o]", json_stringn_nocheck(big, len));
    refuse(spec, "the limit is");
    json_decref(spec.args);
    free(big);
}

static void arguments_read_as_in_python(void **state)
{
    static const struct {
        const char *args, *want;
    } rows[] = {
        {"[]", "()"},
        {"[2]", "(2,)"},
        {"[2, 3]", "(2, 3)"},
        {"[true, false, null, 1.0, -7]", "(True, False, None, 1.0, -7)"},
        {"[\"it's\", \"\\\"q\\\"\"]", "('it\\'s', '\"q\"')"},
        {"[{\"y\": 3, \"z\": []}, []]", "({'y': 3, 'z': []}, [])"},
        {"[[[[1]]], {\"a\": {\"b\": []}}]", "([[[...]]], {'a': {'b': [...]}})"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct buf out = BUF_INIT;
        json_t *args = json_loads(rows[i].args, 0, NULL);

        message_args_repr(&out, args);
        assert_string_equal(buf_str(&out), rows[i].want);
        json_decref(args);
        buf_release(&out);
    }
}

/* What the text alone is enough for must read as the value does. */
static bool reads_alike(const char *text)
{
    struct buf made = BUF_INIT, want = BUF_INIT;
    json_t *value = json_loads(text, 0, NULL);
    bool sure;

    assert_non_null(value);
    if (*text == '[') {
        sure = message_args_repr_text(&made, slice_of(text));
        message_args_repr(&want, value);
    } else {
        sure = message_kwargs_repr_text(&made, slice_of(text));
        message_kwargs_repr(&want, value);
    }
    if (sure)
        assert_string_equal(buf_str(&made), buf_str(&want));
    json_decref(value);
    buf_release(&made);
    buf_release(&want);
    return sure;
}

static void arguments_read_the_same_from_text(void **state)
{
    static const char *const sure[] = {
        "[]",
        "{}",
        "[ ]",
        "[2]",
        "[ 2 , 3]",
        "[true,false,null,1.0,-7,0.5,-0.0,10.25]",
        "[\"it's\",\"''\",\"\"]",
        "[{\"y\":3,\"z\":[]},[],[1]]",
        "[[[[1,2]]],{\"a\":{\"b\":[]}}]",
        "{\"a\": {\"b\": {\"c\": {\"d\": 1}}}, \"it's\": [1,[2,[3,[4]]]]}",
        "[0.123, 999999999.25]",
        "[0.001, 123456789012.25]"};
    static const char *const unsure[] = {"[-0]",
                                         "[1.50]",
                                         "[0.00001]",
                                         "[0.1234567890123456]",
                                         "[\"\\n\"]",
                                         "{\"a\":1,\"a\":2}",
                                         "[{\"b\":0,\"b\":1}]"};

    (void)state;
    for (size_t i = 0; i < sizeof(sure) / sizeof(sure[0]); i++)
        assert_true(reads_alike(sure[i]));
    for (size_t i = 0; i < sizeof(unsure) / sizeof(unsure[0]); i++)
        assert_false(reads_alike(unsure[i]));
}

/* Around the cut: texts whose repr is as long as may be, a little less and a little more. */
static void arguments_are_cut_the_same_from_text(void **state)
{
    static const char *const forms[][2] = {
        {"[\"", "\"]"},        {"[\"", "\", 1, 2]"},   {"[[\"", "\", 7], [8]]"},
        {"{\"k\": \"", "\"}"}, {"{\"", "\": [1, 2]}"}, {"[{\"", "\": 1}, 2]"},
    };
    char words[1101], text[1200];

    (void)state;
    memset(words, 'x', sizeof(words));
    for (size_t i = 9; i < sizeof(words); i += 10)
        words[i] = i % 20 == 9 ? ' ' : '\'';
    for (size_t i = 0; i < sizeof(forms) / sizeof(forms[0]); i++) {
        for (int n = 900; n <= 1100; n++) {
            snprintf(text, sizeof(text), "%s%.*s%s", forms[i][0], n, words, forms[i][1]);
            assert_true(reads_alike(text));
        }
    }
}

/* Cut where Celery cuts, brackets closed. */
static void long_arguments_are_cut(void **state)
{
    struct buf out = BUF_INIT;
    char text[2001];
    json_t *args;

    (void)state;
    memset(text, 'x', 2000);
    text[2000] = '\0';
    args = json_pack("[s, i]", text, 7);
    message_args_repr(&out, args);
    assert_int_equal(out.len, 2 + 1023 + 4 + 6);
    assert_string_equal(buf_str(&out) + out.len - 11, "x...', ...)");
    json_decref(args);
    buf_clear(&out);
    args = json_array();
    for (int i = 0; i < 1000; i++)
        json_array_append_new(args, json_integer(i));
    message_args_repr(&out, args);
    assert_true(out.len < 1040);
    assert_string_equal(buf_str(&out) + out.len - 6, ", ...)");
    json_decref(args);
    buf_release(&out);
}

struct signed_call {
    struct message_spec spec;
    char id[UUID_SIZE];
    int64_t not_before_ms;
    struct err e;
    json_t *signature;
};

static int from_text(struct signed_call *c, const char *text, const struct message *parent)
{
    struct uuid_source ids = UUID_SOURCE_INIT;

    *c = (struct signed_call){.e = ERR_INIT};
    c->signature = json_loads(text, JSON_DECODE_ANY, NULL);
    assert_non_null(c->signature);
    return message_spec_signature(&c->spec, c->signature, parent, &ids, NOW_MS, c->id,
                                  &c->not_before_ms, &c->e);
}

static void a_signature_becomes_a_spec(void **state)
{
    const struct message parent = {.id = "parent", .root_id = "root"};
    struct signed_call c;

    (void)state;
    assert_int_equal(
        from_text(&c, "{\"task\": \"t\", \"args\": [1], \"kwargs\": {\"a\": 2}}", &parent), 0);
    assert_string_equal(c.spec.task, "t");
    assert_int_equal(strlen(c.id), 36);
    assert_ptr_equal(c.spec.id, c.id);
    assert_string_equal(c.spec.parent_id, "parent");
    assert_string_equal(c.spec.root_id, "root");
    assert_int_equal(c.not_before_ms, 0);
    assert_int_equal(c.spec.group_index, -1);
    json_decref(c.signature);
}

static void options_of_a_signature(void **state)
{
    struct signed_call c;

    (void)state;
    assert_int_equal(
        from_text(
            &c,
            "{\"task\": \"t\", \"subtask_type\": null, \"immutable\": false, \"options\": "
            "{\"task_id\": \"" ID "\", \"queue\": \"q\", \"priority\": 3, \"countdown\": 1.5, "
            "\"expires\": 10, \"time_limit\": 4, \"soft_time_limit\": 2, \"headers\": {\"h\": "
            "1}, \"shadow\": \"s\", \"ignore_result\": true, \"retry\": true, \"group_id\": "
            "\"g\", \"reply_to\": null}}",
            NULL),
        0);
    assert_string_equal(c.id, ID);
    assert_string_equal(c.spec.queue, "q");
    assert_int_equal(c.spec.priority, 3);
    assert_int_equal(c.not_before_ms, NOW_MS + 1500);
    assert_int_equal(c.spec.eta_ms, NOW_MS + 1500);
    assert_int_equal(c.spec.expires_ms, NOW_MS + 10000);
    assert_true(c.spec.hard_limit_s == 4 && c.spec.soft_limit_s == 2);
    assert_int_equal(json_object_size(c.spec.headers), 1);
    assert_string_equal(c.spec.shadow, "s");
    assert_string_equal(c.spec.group, "g");
    assert_int_equal(c.spec.ignore_result, 1);
    json_decref(c.signature);
    assert_int_equal(from_text(&c,
                               "{\"task\": \"t\", \"options\": {\"eta\": "
                               "\"2026-11-21T01:46:55+00:00\", \"routing_key\": \"r\"}}",
                               NULL),
                     0);
    assert_int_equal(c.not_before_ms, 1795225615000);
    assert_string_equal(c.spec.queue, "r");
    json_decref(c.signature);
}

static void bad_signatures_name_the_member(void **state)
{
    static const char *const rows[][2] = {
        {"[]", "must be an object"},
        {"{}", "\"task\""},
        {"{\"task\": \"\"}", "\"task\""},
        {"{\"task\": 7}", "\"task\""},
        {"{\"task\": \"t\", \"args\": {}}", "\"args\""},
        {"{\"task\": \"t\", \"kwargs\": []}", "\"kwargs\""},
        {"{\"task\": \"t\", \"options\": []}", "\"options\""},
        {"{\"task\": \"t\", \"options\": {\"priority\": 10}}", "\"priority\""},
        {"{\"task\": \"t\", \"options\": {\"priority\": \"1\"}}", "\"priority\""},
        {"{\"task\": \"t\", \"options\": {\"countdown\": -1}}", "\"countdown\""},
        {"{\"task\": \"t\", \"options\": {\"countdown\": 1e300}}", "\"countdown\""},
        {"{\"task\": \"t\", \"options\": {\"eta\": 5}}", "\"eta\""},
        {"{\"task\": \"t\", \"options\": {\"expires\": \"soon\"}}", "\"expires\""},
        {"{\"task\": \"t\", \"options\": {\"task_id\": \"\"}}", "\"task_id\""},
        {"{\"task\": \"t\", \"options\": {\"task_id\": \"" ID "x\"}}", "\"task_id\""},
        {"{\"task\": \"t\", \"options\": {\"link\": []}}", "\"link\""},
        {"{\"task\": \"t\", \"options\": {\"quue\": \"q\"}}", "\"quue\""},
    };
    struct signed_call c;

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        assert_int_equal(from_text(&c, rows[i][0], NULL), -1);
        if (c.e.code != ERR_USAGE || !strstr(c.e.text, rows[i][1]))
            fail_msg("%s: %s", rows[i][0], c.e.text);
        json_decref(c.signature);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_can_not_be_sent_is_refused),
        cmocka_unit_test(arguments_over_the_limit_are_refused),
        cmocka_unit_test(arguments_read_as_in_python),
        cmocka_unit_test(long_arguments_are_cut),
        cmocka_unit_test(arguments_read_the_same_from_text),
        cmocka_unit_test(arguments_are_cut_the_same_from_text),
        cmocka_unit_test(a_signature_becomes_a_spec),
        cmocka_unit_test(options_of_a_signature),
        cmocka_unit_test(bad_signatures_name_the_member),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
