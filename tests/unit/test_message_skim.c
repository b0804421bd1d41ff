/* message_skim says what message_parse says, whatever the text; the cursor under it. */
#include "broker/json_scan.h"
#include "broker/json_text.h"
#include "tests/support/check.h"
#include "tests/support/file.h"
#include "tests/support/message_same.h"

#include <glob.h>
#include <stdlib.h>

#define MESSAGES TEST_SOURCE_DIR "/support/messages/"

static void read_capture(struct buf *text, const char *name)
{
    char path[512];

    snprintf(path, sizeof(path), "%s%s.json", MESSAGES, name);
    assert_int_equal(file_read(text, path), 0);
}

static bool check_same(struct slice text)
{
    bool skimmed = false;
    const char *difference = message_same(text, &skimmed);

    if (difference)
        fail_msg("%s differs in: %.*s", difference, SLICE_ARG(text));
    return skimmed;
}

/* Celery's own messages are the common form, but for protocol 1. */
static void captures_are_skimmed(void **state)
{
    glob_t found;

    (void)state;
    assert_int_equal(glob(MESSAGES "*.json", 0, NULL, &found), 0);
    assert_true(found.gl_pathc >= 20);
    for (size_t i = 0; i < found.gl_pathc; i++) {
        struct buf text = BUF_INIT;
        bool v1 = strstr(found.gl_pathv[i], "protocol1") != NULL;

        assert_int_equal(file_read(&text, found.gl_pathv[i]), 0);
        if (check_same(buf_slice(&text)) == v1)
            fail_msg("%s was %sskimmed", found.gl_pathv[i], v1 ? "" : "not ");
        buf_release(&text);
    }
    globfree(&found);
}

static void ours_is_skimmed(void **state)
{
    struct uuid_source ids = UUID_SOURCE_INIT;
    struct message_spec spec = {.task = "math.add",
                                .id = "5c0fa3b5-1c62-4a4e-9f3e-111111111111",
                                .group_index = -1,
                                .hard_limit_s = 30,
                                .soft_limit_s = 20,
                                .priority = 3,
                                .eta_ms = 1700000000000,
                                .now_ms = 1600000000000};
    struct buf text = BUF_INIT;
    struct err e = ERR_INIT;
    struct message m = {0};

    (void)state;
    CHECK_OK(message_encode(&text, &spec, &ids, &e));
    assert_true(check_same(buf_slice(&text)));
    CHECK_OK(message_skim(&m, buf_slice(&text), &e));
    assert_string_equal(m.task, "math.add");
    assert_int_equal(m.priority, 3);
    assert_true(m.hard_limit_s == 30 && m.soft_limit_s == 20);
    assert_int_equal(m.eta_ms, 1700000000000);
    assert_int_equal(m.sent_ms, 1600000000000);
    assert_null(m.envelope);
    message_release(&m);
    buf_release(&text);
}

#ifdef CELERIAC_VALGRIND
enum { STRIDE = 8 }; /* the sanitizers' build tries them all */
#else
enum { STRIDE = 1 };
#endif

/* Every byte of a message replaced by each of these in turn, and the message cut at every byte. */
static void no_byte_makes_a_difference(void **state)
{
    static const char with[] = {'"', '\\', '{', '}', '[',  ']',    ',',    ':',    '0',    '-',
                                '.', 'e',  'n', ' ', '\n', '\x01', '\x7f', '\xc3', '\xff', '\0'};
    static const char *const names[] = {"basic-5.2", "options-5.6"};

    (void)state;
    for (size_t n = 0; n < sizeof(names) / sizeof(names[0]); n++) {
        struct buf text = BUF_INIT;

        read_capture(&text, names[n]);
        for (size_t i = 0; i < text.len; i += STRIDE) {
            char *at = text.mem + text.start + i, was = *at;

            for (size_t k = 0; k < sizeof(with); k++) {
                *at = with[k];
                check_same(buf_slice(&text));
            }
            *at = was;
            check_same(slice_make(text.mem + text.start, i));
        }
        buf_release(&text);
    }
}

#define INFO "\"delivery_info\": {\"exchange\": \"\", \"routing_key\": \"q\"}"
#define FORM(headers, properties, more)                                                            \
    "{\"body\": \"W10=\", \"content-type\": \"application/json\", \"headers\": {\"task\": \"t\", " \
    "\"id\": \"i\"" headers "}, \"properties\": {\"delivery_tag\": \"d\", " INFO properties        \
    "}" more "}"

/* Protocol 1 with a zlib body: how to read the body is said by the only header. */
static void protocol_1_may_be_compressed(void **state)
{
    static const char text[] =
        "{\"body\": \"eJyrVipJLM5WslJQKlHSUVDKTAExM0HMxKL0YiAn2lBHwSi2FgDZ3Qpk\", "
        "\"content-type\": "
        "\"application/json\", \"headers\": {\"compression\": \"application/x-gzip\"}, "
        "\"properties\": {\"body_encoding\": \"base64\", \"delivery_tag\": \"d\", " INFO "}}";
    struct err e = ERR_INIT;
    struct message m = {0};

    (void)state;
    assert_false(check_same(slice_of(text)));
    CHECK_OK(message_skim(&m, slice_of(text), &e));
    assert_string_equal(m.task, "t");
    assert_int_equal(json_array_size(m.args), 2);
    message_release(&m);
}

/* Odd, but each is read in the same way; the first few are common enough to be skimmed. */
static void odd_forms_are_read_alike(void **state)
{
    static const struct {
        const char *text;
        bool skimmed;
    } cases[] = {
        {FORM("", "", ""), true},
        {FORM(", \"argsrepr\": \"(\\\"a\\\", \\u00e9)\"", "", ""), true},
        {FORM(", \"mine\": {\"a\": [1, -2.5, true, false, null, {}]}", "", ""), true},
        {FORM(", \"timelimit\": [null, 3]", ", \"priority\": 12", ", \"x\": 1"), true},
        {FORM(", \"redelivered\": true", "", ""), true},
        {FORM(", \"parent_id\": \"\", \"root_id\": null", "", ""), true},
        {FORM(", \"argsrepr\": \"\xc3\xa9\"", "", ""), false},
        {FORM(", \"group\": \"\\u00e9\"", "", ""), false},
        {FORM(", \"t\\u0061sk\": \"other\"", "", ""), false},
        {FORM(", \"task\": \"other\"", "", ""), false},
        {FORM(", \"id\": \"other\"", "", ""), false},
        {FORM("", ", \"priority\": \"7\"", ""), false},
        {FORM("", ", \"delivery_tag\": null", ""), false},
        {FORM("", ", " INFO, ""), false},
        {FORM("", "", ", \"body\": \"W10=\""), false},
        {FORM("", "", ", \"celeriac_refused\": \"why\""), false},
        {FORM(", \"timelimit\": [1.5, 3]", "", ""), false},
        {FORM(", \"timelimit\": [1]", "", ""), false},
        {FORM(", \"retries\": -1", "", ""), false},
        {FORM(", \"retries\": 1e2", "", ""), false},
        {FORM(", \"retries\": 12345678901234567890", "", ""), false},
        {FORM(", \"eta\": \"tomorrow\"", "", ""), false},
        {FORM(", \"celeriac_dedup\": {\"key\": \"k\", \"window\": 5}", "", ""), false},
        {FORM("", "", "") "x", false},
        {"", false},
        {"[]", false},
        {"{}", false},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        if (check_same(slice_of(cases[i].text)) != cases[i].skimmed)
            fail_msg("%sskimmed: %s", cases[i].skimmed ? "not " : "", cases[i].text);
    }
}

static void the_cursor_passes_what_is_json(void **state)
{
    static const char *const texts[] = {
        "1",
        "-0",
        "0.5",
        "\"\"",
        "\"a\\n\\u00e9\"",
        "[]",
        "[[], {}]",
        "{\"a\":1}",
        " true ",
        "123456789",
        "[1 ,2]",
        "{ \"a\" : [ ] }",
        "null",
        "01",
        "1.",
        "-",
        "1e5",
        "[1,]",
        "[,1]",
        "{\"a\"}",
        "{\"a\":}",
        "[1 2]",
        "\"\\x\"",
        "\"\\u12\"",
        "\"\x1f\"",
        "\"\\ud800\"",
        "\"\xff\"",
        "tru",
        "[",
        "{\"a\":1,}",
        "1 1",
        "",
        "\"",
        "]",
        "\"\\",
    };

    (void)state;
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        struct json_scan s;
        json_t *value = json_text_read(slice_of(texts[i]), "it", NULL);
        int type;

        json_scan_init(&s, slice_of(texts[i]));
        type = json_scan_value(&s, NULL, NULL);
        if (type >= 0 && json_scan_done(&s)) {
            assert_non_null(value);
            assert_int_equal(type, json_typeof(value));
        } else if (i < 13) {
            fail_msg("not passed: %s", texts[i]);
        }
        json_decref(value);
    }
}

static void the_cursor_gives_up_on_deep_nesting(void **state)
{
    char deep[1000];
    struct json_scan s;

    (void)state;
    memset(deep, '[', sizeof(deep));
    json_scan_init(&s, slice_make(deep, sizeof(deep)));
    assert_int_equal(json_scan_value(&s, NULL, NULL), -1);
    assert_true(s.failed);
}

/* One message after another in the same memory, also after one that had to be parsed. */
static void a_cleared_message_is_used_again(void **state)
{
    static const struct uuid_source fresh = UUID_SOURCE_INIT;
    static const char *const tasks[] = {"a.task.with.a.long.name", "b", "another.task", "c"};
    struct uuid_source ids = fresh;
    struct message m = {0};

    (void)state;
    for (int i = 0; i < 20; i++) {
        struct message_spec spec = {.id = "i", .task = tasks[i % 4], .queue = "celery"};
        struct buf text = BUF_INIT;
        struct err e = ERR_INIT;

        CHECK_OK(message_encode(&text, &spec, &ids, &e));
        CHECK_OK(message_skim(&m, buf_slice(&text), &e));
        assert_string_equal(m.task, tasks[i % 4]);
        assert_string_equal(m.queue, "celery");
        message_clear(&m);
        assert_null(m.task);
        assert_int_equal(message_skim(&m, slice_of("no message"), &e), -1);
        message_clear(&m);
        buf_release(&text);
    }
    message_release(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(captures_are_skimmed),
        cmocka_unit_test(ours_is_skimmed),
        cmocka_unit_test(no_byte_makes_a_difference),
        cmocka_unit_test(protocol_1_may_be_compressed),
        cmocka_unit_test(odd_forms_are_read_alike),
        cmocka_unit_test(the_cursor_passes_what_is_json),
        cmocka_unit_test(the_cursor_gives_up_on_deep_nesting),
        cmocka_unit_test(a_cleared_message_is_used_again),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
