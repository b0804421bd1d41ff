#include "broker/json_plain.h"
#include "broker/json_text.h"
#include "tests/support/check.h"

#include <math.h>
#include <stdlib.h>

static void reals_are_pythons(void **state)
{
    static const struct {
        double value;
        const char *text;
    } rows[] = {
        {0, "0.0"},
        {-0.0, "-0.0"},
        {0.1, "0.1"},
        {1.5, "1.5"},
        {-2, "-2.0"},
        {1e15, "1000000000000000.0"},
        {1e16, "1e+16"},
        {1e22, "1e+22"},
        {1e-5, "1e-05"},
        {0.0001, "0.0001"},
        {1.0 / 3, "0.3333333333333333"},
        {0.1 + 0.2, "0.30000000000000004"},
        {5e-324, "5e-324"},
        {2.5e-310, "2.5e-310"},
        {1.7976931348623157e308, "1.7976931348623157e+308"},
        /* 17 digits and no point would be an integer to a reader. */
        {24942497494369024.0, "2.4942497494369024e+16"},
        {123456789012345680.0, "1.2345678901234568e+17"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct buf out = BUF_INIT;

        json_text_real(&out, rows[i].value);
        assert_string_equal(buf_str(&out), rows[i].text);
        buf_release(&out);
    }
}

static void strings_are_ascii(void **state)
{
    struct err e = ERR_INIT;
    struct buf out = BUF_INIT;

    (void)state;
    CHECK_OK(json_text_string(&out, slice_make("a\"\\/\n\r\t\b\f\0\x7f", 11), &e));
    assert_string_equal(buf_str(&out), "\"a\\\"\\\\/\\n\\r\\t\\b\\f\\u0000\\u007f\"");
    buf_clear(&out);
    CHECK_OK(json_text_string(&out, slice_of("\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80"), &e));
    assert_string_equal(buf_str(&out), "\"\\u00e9\\u20ac\\ud83d\\ude00\"");
    buf_release(&out);
}

/* Every length and place, in memory that ends where the text does. */
static void plain_runs_end_at_the_first_other_byte(void **state)
{
    static const unsigned char others[] = {'"', '\\', 0x7f, 0x80, 0xff, 0x1f, '\n', 0};

    (void)state;
    for (size_t n = 1; n <= 70; n++) {
        char *text = malloc(n);

        assert_non_null(text);
        memset(text, '~', n);
        text[n / 2] = ' ';
        assert_int_equal(json_text_run(text, n), n);
        for (size_t at = 0; at < n; at++) {
            text[at] = (char)others[(n + at) % sizeof(others)];
            text[n - 1] = at + 1 < n ? '"' : text[n - 1];
            assert_int_equal(json_text_run(text, n), at);
            text[at] = '!';
            text[n - 1] = '~';
        }
        free(text);
    }
    assert_int_equal(json_text_run("", 0), 0);
}

/* Overlong forms, surrogates, cut sequences, beyond U+10FFFF. */
static void what_is_not_utf8_is_refused(void **state)
{
    static const char *const wrong[] = {
        "x\xff",        "\x80",     "\xc3",  "\xc0\xaf",         "\xe0\x80\xaf",
        "\xed\xa0\x80", "\xe2\x82", "\xc3(", "\xf4\x90\x80\x80", "\xf8\x88\x80\x80\x80"};
    struct err e = ERR_INIT;
    struct buf out = BUF_INIT;

    (void)state;
    buf_adds(&out, "kept");
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        CHECK_ERR(json_text_string(&out, slice_of(wrong[i]), &e), ERR_USAGE, "not UTF-8");
        assert_string_equal(buf_str(&out), "kept");
    }
    buf_release(&out);
}

static void values_are_written_in_order(void **state)
{
    const char *text = "{\"b\": [1, -2, 2.5, null, true, false, \"x\"], \"a\": {}, \"c\": []}";
    struct err e = ERR_INIT;
    struct buf out = BUF_INIT;
    json_t *value = json_text_read(slice_of(text), "it", &e);

    (void)state;
    CHECK_OK(json_text_value(&out, value, &e));
    assert_string_equal(buf_str(&out), text);
    buf_clear(&out);
    CHECK_OK(json_text_value(&out, NULL, &e));
    assert_string_equal(buf_str(&out), "null");
    json_decref(value);
    buf_release(&out);
}

static void depth_is_bounded(void **state)
{
    struct err e = ERR_INIT;
    struct buf out = BUF_INIT;
    json_t *value = json_array();

    (void)state;
    for (int i = 1; i < JSON_PARSER_MAX_DEPTH; i++) {
        json_t *outer = json_array();

        json_array_append_new(outer, value);
        value = outer;
    }
    CHECK_OK(json_text_value(&out, value, &e));
    {
        json_t *outer = json_array();

        json_array_append_new(outer, value);
        CHECK_ERR(json_text_value(&out, outer, &e), ERR_USAGE, "nested deeper");
        json_decref(outer);
    }
    buf_release(&out);
}

/* A task can build a ring; writing it must end. */
static void a_ring_is_refused(void **state)
{
    struct err e = ERR_INIT;
    struct buf out = BUF_INIT;
    json_t *outer = json_array(), *inner = json_object();

    (void)state;
    json_object_set(inner, "outer", outer);
    json_array_append(outer, inner);
    json_array_append_new(outer, inner);
    CHECK_ERR(json_text_value(&out, outer, &e), ERR_USAGE, "contains itself");
    json_object_clear(inner);
    json_decref(outer);
    buf_release(&out);
}

static void reading_names_what_it_read(void **state)
{
    struct err e = ERR_INIT;

    (void)state;
    assert_null(json_text_read(slice_of("[1, 2"), "the thing", &e));
    assert_int_equal(e.code, ERR_DEADLETTER);
    assert_non_null(strstr(e.text, "the thing is not JSON: "));
    assert_null(json_text_read(slice_of("NaN"), "the thing", &e));
    assert_null(json_text_read(slice_make(NULL, 0), "the thing", &e));
}

/* Commas inside strings are no values. */
static void long_strings_are_no_flood(void **state)
{
    size_t len = JSON_TEXT_VALUES_MAX * 2 + 2;
    char *text = malloc(len);
    struct err e = ERR_INIT;
    json_t *value;

    (void)state;
    assert_non_null(text);
    memset(text, ',', len);
    text[0] = text[len - 1] = '"';
    value = json_text_read(slice_make(text, len), "it", &e);
    assert_true(json_is_string(value));
    json_decref(value);
    free(text);
}

static void plain_text_is_read_alike(void **state)
{
    static const char *const texts[] = {
        "null",
        " true ",
        "false",
        "-0",
        "-12345678901234567",
        "\"\"",
        "\"a b\"",
        "[]",
        "{}",
        "[1, [2, [\"x\"]], {\"a\": null, \"b\": {}}]",
        "{\"a\": 1, \"b\": 2, \"a\": [3]}",
    };
    struct err e = ERR_INIT;

    (void)state;
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        json_t *plain = json_plain_read(slice_of(texts[i]));
        json_t *value = json_text_read(slice_of(texts[i]), "it", &e);

        assert_non_null(plain);
        assert_true(json_equal(plain, value));
        json_decref(plain);
        json_decref(value);
    }
}

static void other_text_is_left_to_the_full_reader(void **state)
{
    static const char *const texts[] = {
        "",
        "1.5",
        "1e3",
        "9999999999999999999",
        "\"\\n\"",
        "\"\xc3\xa9\"",
        "[1,",
        "[1]]",
        "{\"a\"}",
        "[1 2]",
        "{\"a\\n\": 1}",
        "[1, 2.5]",
        "nul",
        "[,]",
        "01",
        "\"a",
        "{\"a\": \"\\u0041\"}",
    };
    struct buf deep = BUF_INIT;

    (void)state;
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
        assert_null(json_plain_read(slice_of(texts[i])));
    for (int i = 0; i < 100000; i++)
        buf_adds(&deep, "[");
    assert_null(json_plain_read(buf_slice(&deep)));
    buf_release(&deep);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reals_are_pythons),
        cmocka_unit_test(strings_are_ascii),
        cmocka_unit_test(plain_runs_end_at_the_first_other_byte),
        cmocka_unit_test(what_is_not_utf8_is_refused),
        cmocka_unit_test(values_are_written_in_order),
        cmocka_unit_test(depth_is_bounded),
        cmocka_unit_test(a_ring_is_refused),
        cmocka_unit_test(reading_names_what_it_read),
        cmocka_unit_test(long_strings_are_no_flood),
        cmocka_unit_test(plain_text_is_read_alike),
        cmocka_unit_test(other_text_is_left_to_the_full_reader),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
