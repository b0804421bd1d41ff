/* Field tables as JSON and back, through the bytes of a frame. */
#include "broker/amqp_table.h"
#include "broker/json_text.h"
#include "tests/support/check.h"

#include <math.h>
#include <stdlib.h>

struct fixture {
    amqp_pool_t pool;
    struct buf text;
    amqp_table_t table;
};

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));

    init_amqp_pool(&f->pool, 4096);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;

    empty_amqp_pool(&f->pool);
    buf_release(&f->text);
    free(f);
    return 0;
}

/* What a peer reads: the table through the library's encoder and decoder. */
static void through_frame(struct fixture *f)
{
    size_t size = amqp_table_size(&f->table), end = 0;
    amqp_bytes_t frame = {size, amqp_pool_alloc(&f->pool, size)};

    assert_int_equal(amqp_encode_table(frame, &f->table, &end), 0);
    assert_int_equal(end, size);
    end = 0;
    assert_int_equal(amqp_decode_table(frame, &f->pool, &f->table, &end), 0);
    assert_int_equal(end, size);
}

static void from_text(struct fixture *f, const char *json)
{
    struct err e = ERR_INIT;
    json_t *object = json_loads(json, JSON_ALLOW_NUL, NULL);

    assert_non_null(object);
    CHECK_OK(amqp_table_from_json(&f->table, object, &f->pool, &e));
    json_decref(object);
}

static const char *to_text(struct fixture *f)
{
    struct err e = ERR_INIT;

    buf_clear(&f->text);
    CHECK_OK(amqp_table_text(&f->text, &f->table, &e));
    return buf_str(&f->text);
}

static void one_entry(struct fixture *f, amqp_field_value_t value)
{
    f->table = (amqp_table_t){0};
    assert_int_equal(amqp_table_set(&f->table, "k", value, &f->pool, NULL), 0);
}

static void json_survives(void **state)
{
    static const char *const texts[] = {
        "{}",
        "{\"\": \"\"}",
        "{\"a\": null, \"b\": true, \"c\": false, \"d\": \"x\", \"e\": [], \"f\": {}}",
        "{\"n\": [0, -1, 2147483647, 2147483648, -2147483647, -2147483648, 9223372036854775807, "
        "-9223372036854775808]}",
        "{\"r\": [0.1, -2.0, 1e+300, 5e-324]}",
        "{\"u\": \"\\u00e9\\u20ac\\ud83d\\ude00\\u0000\\n\\\"\"}",
        "{\"\\u00e9\": {\"__type__\": \"uuid\", \"__value__\": {\"hex\": \"00\"}}}",
        "{\"deep\": [[{\"a\": [{\"b\": [1, [2, [3]]]}]}]]}",
        "{\"t\": {\"__type__\": \"datetime\", \"__value__\": \"2026-11-21T01:46:55+00:00\"}}",
        "{\"t\": {\"__type__\": \"datetime\", \"__value__\": \"2026-11-21T01:46:55.5+00:00\"}}",
        "{\"t\": {\"__type__\": \"datetime\", \"__value__\": \"2026-11-21\"}}",
        "{\"d\": [{\"__type__\": \"decimal\", \"__value__\": \"-1.20\"}, "
        "{\"__type__\": \"decimal\", \"__value__\": \"0.007\"}, "
        "{\"__type__\": \"decimal\", \"__value__\": \"2147483647\"}, "
        "{\"__type__\": \"decimal\", \"__value__\": \"2147483648\"}, "
        "{\"__type__\": \"decimal\", \"__value__\": \"1E+5\"}, "
        "{\"__type__\": \"decimal\", \"__value__\": \"-0\"}]}",
        "{\"x\": [{\"__type__\": \"base64\", \"__value__\": \"/wA=\"}, "
        "{\"__type__\": \"base64\", \"__value__\": \"YWJj\"}, "
        "{\"__type__\": \"base64\", \"__value__\": \"\"}, "
        "{\"__type__\": \"base64\", \"__value__\": \"YWJ\"}, "
        "{\"__type__\": \"base64\", \"__value__\": \"YW Jj\"}, "
        "{\"__type__\": \"base64\", \"__value__\": \"/wB=\"}]}",
        "{\"y\": {\"__type__\": \"base64\", \"__value__\": \"YWJj\", \"more\": 1}}",
    };
    struct fixture *f = *state;

    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        from_text(f, texts[i]);
        assert_string_equal(to_text(f), texts[i]);
        through_frame(f);
        assert_string_equal(to_text(f), texts[i]);
    }
}

/* One entry's text as both readers see it. */
static void read_both(struct fixture *f, const char *text, bool good)
{
    struct err e = ERR_INIT;
    json_t *json = json_loads(text, JSON_ALLOW_NUL, NULL);
    int status =
        amqp_table_from_text(&f->table, slice_of(text), AMQP_TABLE_DEPTH_MAX, &f->pool, &e);

    if ((json != NULL) != good || (status == 0) != good)
        fail_msg("%s: jansson %d, status %d, \"%s\"", text, json != NULL, status, e.text);
    if (good) {
        json_t *again = amqp_table_to_json(&f->table, &e);

        if (!json_equal(json, again))
            fail_msg("%s: %s", text, to_text(f));
        json_decref(again);
    } else {
        assert_int_equal(e.code, ERR_USAGE);
    }
    json_decref(json);
}

/* Not one text more, not one less. */
/* NOLINTNEXTLINE(readability-function-size): nearly all of it are two tables */
static void reads_what_jansson_reads(void **state)
{
    static const char *const good[] = {
        " {\t\"a\"\r:\n1 , \"b\":[ ] ,\"c\":{ }} ",
        "{\"n\": [0, -0, 10, 1.0, 1e5, 1E-2, -1.5e+3, 1e-400]}",
        "{\"s\": \"\\\"\\\\\\/\\b\\f\\n\\r\\t\\u0041\\u00fF\\u20AC\\ud83d\\ude00x\"}",
        "{\"\\u0061b\": 1, \"ab\": 2}",
        "{\"u\": \"\xc3\xa9 \xe2\x82\xac \xf0\x9f\x98\x80 \x7f\"}",
    };
    static const char *const bad[] = {
        "",
        " ",
        "{",

        "1",
        "{}x",
        "{} {}",
        "{,}",
        "{\"a\"}",
        "{\"a\":}",
        "{\"a\":1,}",
        "{\"a\" 1}",
        "{a:1}",
        "{1:1}",
        "{\"a\":1 \"b\":2}",
        "{\"a\":[1,]}",
        "{\"a\":[,]}",
        "{\"a\":[1 2]}",
        "{\"a\":[1}",
        "{\"a\":[1",
        "{\"a\":tru}",
        "{\"a\":True}",
        "{\"a\":nul",
        "{\"a\":01}",
        "{\"a\":1.}",
        "{\"a\":.5}",
        "{\"a\":-}",
        "{\"a\":+1}",
        "{\"a\":1e}",
        "{\"a\":1e+}",
        "{\"a\":0x1}",
        "{\"a\":1e400}",
        "{\"a\":NaN}",
        "{\"a\":Infinity}",
        "{\"a\":9223372036854775808}",
        "{\"a\":-9223372036854775809}",
        "{\"a\":99999999999999999999}",
        "{\"a\":\"x}",
        "{\"a\":\"x\\\"}",
        "{\"a\":\"\\",
        "{\"a\":\"\\x\"}",
        "{\"a\":\"\\u12\"}",
        "{\"a\":\"\\u00@0\"}",
        "{\"a\":\"\\u00g0\"}",
        "{\"a\":\"\\ud800\"}",
        "{\"a\":\"\\ud800\\u0041\"}",
        "{\"a\":\"\\udc00\"}",
        "{\"a\":\"\\ud800\\",
        "{\"a\":\"\n\"}",
        "{\"a\":\"\xff\"}",
        "{\"a\":\"\xc3\"}",
        "{\"a\":\"\xc0\xaf\"}",
        "{\"a\":\"\xed\xa0\x80\"}",
        "{\"a\":\"\xf4\x90\x80\x80\"}",
        "{\"a\\u0000b\":1}",
        "{\"\xff\":1}",
        "{'a':1}",
        "{\"a\":1}//",
        "{\"a\":\"\\n\xff\"}",
        "{\"a\":\"\\n",
        "{\"a\":\"\\n\n\"}",
    };
    struct fixture *f = *state;

    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++)
        read_both(f, good[i], true);
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        read_both(f, bad[i], false);
}

/* More entries than the first room has. */
static void many_entries(void **state)
{
    struct fixture *f = *state;
    struct buf text = BUF_INIT;
    struct err e = ERR_INIT;
    int64_t number;

    buf_adds(&text, "{\"a\": [");
    for (int i = 0; i < 1000; i++)
        buf_addf(&text, "%s%d", i ? "," : "", i);
    buf_adds(&text, "]");
    for (int i = 0; i < 1000; i++)
        buf_addf(&text, ",\"k%d\": %d", i, i);
    buf_adds(&text, "}");
    CHECK_OK(amqp_table_from_text(&f->table, buf_slice(&text), 2, &f->pool, &e));
    assert_int_equal(f->table.num_entries, 1001);
    assert_true(amqp_value_integer(amqp_table_get(&f->table, "k777"), &number));
    assert_int_equal(number, 777);
    assert_int_equal(f->table.entries[0].value.value.array.num_entries, 1000);
    assert_int_equal(f->table.entries[0].value.value.array.entries[999].value.i32, 999);
    CHECK_ERR(amqp_table_from_text(&f->table, buf_slice(&text), 1, &f->pool, &e), ERR_USAGE,
              "deeper than 1");
    buf_release(&text);
}

/* The kinds that py-amqp chooses, but for the sign of 64 bits. */
static void kinds_are_celerys(void **state)
{
    static const struct {
        const char *json;
        char kind;
    } rows[] = {
        {"{\"k\": true}", 't'},
        {"{\"k\": null}", 'V'},
        {"{\"k\": \"x\"}", 'S'},
        {"{\"k\": 2147483647}", 'I'},
        {"{\"k\": -2147483647}", 'I'},
        {"{\"k\": -2147483648}", 'L'},
        {"{\"k\": 2147483648}", 'l'},
        {"{\"k\": 1.5}", 'd'},
        {"{\"k\": [1]}", 'A'},
        {"{\"k\": {\"a\": 1}}", 'F'},
        {"{\"k\": {\"__type__\": \"datetime\", \"__value__\": \"1970-01-01T00:00:07+00:00\"}}",
         'T'},
        {"{\"k\": {\"__type__\": \"decimal\", \"__value__\": \"1.5\"}}", 'D'},
        {"{\"k\": {\"__type__\": \"base64\", \"__value__\": \"YWJj\"}}", 'x'},
        {"{\"k\": {\"__type__\": \"base64\", \"__value__\": \"/wA=\"}}", 'S'},
    };
    struct fixture *f = *state;

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        from_text(f, rows[i].json);
        assert_int_equal(f->table.num_entries, 1);
        assert_int_equal(f->table.entries[0].value.kind, rows[i].kind);
    }
}

/* Kinds that we never send. */
static void every_kind_is_read(void **state)
{
    struct fixture *f = *state;
    amqp_field_value_t v = {.kind = AMQP_FIELD_KIND_I8};

    v.value.i8 = -5;
    one_entry(f, v);
    through_frame(f);
    assert_string_equal(to_text(f), "{\"k\": -5}");
    v = (amqp_field_value_t){.kind = AMQP_FIELD_KIND_U8};
    v.value.u8 = 200;
    one_entry(f, v);
    through_frame(f);
    assert_string_equal(to_text(f), "{\"k\": 200}");
    v = (amqp_field_value_t){.kind = AMQP_FIELD_KIND_I16};
    v.value.i16 = -300;
    one_entry(f, v);
    through_frame(f);
    assert_string_equal(to_text(f), "{\"k\": -300}");
    v = (amqp_field_value_t){.kind = AMQP_FIELD_KIND_U16};
    v.value.u16 = 60000;
    one_entry(f, v);
    through_frame(f);
    assert_string_equal(to_text(f), "{\"k\": 60000}");
    v = (amqp_field_value_t){.kind = AMQP_FIELD_KIND_U32};
    v.value.u32 = 4000000000u;
    one_entry(f, v);
    through_frame(f);
    assert_string_equal(to_text(f), "{\"k\": 4000000000}");
    v = (amqp_field_value_t){.kind = AMQP_FIELD_KIND_F32};
    v.value.f32 = 0.5f;
    one_entry(f, v);
    through_frame(f);
    assert_string_equal(to_text(f), "{\"k\": 0.5}");
    v = (amqp_field_value_t){.kind = AMQP_FIELD_KIND_U64};
    v.value.u64 = (uint64_t)-5000000000;
    one_entry(f, v);
    through_frame(f);
    assert_string_equal(to_text(f), "{\"k\": -5000000000}");
}

/* With nothing appended. */
static void assert_refused(struct fixture *f, enum err_code code, const char *piece)
{
    struct err e = ERR_INIT;

    buf_clear(&f->text);
    buf_adds(&f->text, "before");
    CHECK_ERR(amqp_table_text(&f->text, &f->table, &e), code, piece);
    assert_string_equal(buf_str(&f->text), "before");
}

static void inexpressible_is_refused(void **state)
{
    static const char bad_name[] = "a\xff", nul_name[] = "a\0b";
    struct fixture *f = *state;
    amqp_field_value_t v = {.kind = AMQP_FIELD_KIND_F64};

    v.value.f64 = (double)NAN;
    one_entry(f, v);
    assert_refused(f, ERR_DEADLETTER, "NaN");
    v.kind = AMQP_FIELD_KIND_TIMESTAMP;
    v.value.u64 = UINT64_MAX;
    one_entry(f, v);
    assert_refused(f, ERR_DEADLETTER, "year 9999");
    v.kind = '?';
    one_entry(f, v);
    assert_refused(f, ERR_DEADLETTER, "unknown kind 0x3f");
    one_entry(f, amqp_value_of_bool(true));
    f->table.entries[0].key = (amqp_bytes_t){2, (void *)(uintptr_t)bad_name};
    assert_refused(f, ERR_DEADLETTER, "not UTF-8");
    f->table.entries[0].key = (amqp_bytes_t){3, (void *)(uintptr_t)nul_name};
    assert_refused(f, ERR_DEADLETTER, "NUL");
}

static json_t *nested(int depth, bool lists)
{
    json_t *value = json_object();

    for (int i = 1; i < depth; i++) {
        json_t *outer =
            lists && i < depth - 1 ? json_pack("[o]", value) : json_pack("{so}", "a", value);

        value = outer;
    }
    return value;
}

static void nesting_is_bounded(void **state)
{
    struct fixture *f = *state;
    struct err e = ERR_INIT;

    for (int lists = 0; lists < 2; lists++) {
        json_t *good = nested(AMQP_TABLE_DEPTH_MAX, lists),
               *bad = nested(AMQP_TABLE_DEPTH_MAX + 1, lists);
        amqp_table_t outer = {0};
        amqp_field_value_t v = {.kind = AMQP_FIELD_KIND_TABLE};

        CHECK_ERR(amqp_table_from_json(&f->table, bad, &f->pool, &e), ERR_USAGE, "deeper than 32");
        CHECK_OK(amqp_table_from_json(&f->table, good, &f->pool, &e));
        to_text(f);
        v.value.table = f->table;
        CHECK_OK(amqp_table_set(&outer, "o", v, &f->pool, &e));
        f->table = outer;
        assert_refused(f, ERR_DEADLETTER, "deeper than 32");
        json_decref(good);
        json_decref(bad);
    }
}

static void long_names_are_refused(void **state)
{
    struct fixture *f = *state;
    struct err e = ERR_INIT;
    char name[257];
    json_t *object = json_object();

    memset(name, 'n', sizeof(name));
    name[255] = '\0';
    json_object_set_new(object, name, json_null());
    CHECK_OK(amqp_table_from_json(&f->table, object, &f->pool, &e));
    through_frame(f);
    assert_int_equal(f->table.entries[0].key.len, 255);
    name[255] = 'n';
    name[256] = '\0';
    json_object_set_new(object, name, json_null());
    CHECK_ERR(amqp_table_from_json(&f->table, object, &f->pool, &e), ERR_USAGE, "longer than 255");
    json_decref(object);
    object = json_array();
    CHECK_ERR(amqp_table_from_json(&f->table, object, &f->pool, &e), ERR_USAGE,
              "must be an object");
    json_decref(object);
    CHECK_OK(amqp_table_from_json(&f->table, NULL, &f->pool, &e));
    assert_string_equal(to_text(f), "{}");
}

static void entries_are_found_and_set(void **state)
{
    struct fixture *f = *state;
    struct err e = ERR_INIT;
    struct slice text;
    int64_t number = 7;

    from_text(f, "{\"a\": \"x\", \"b\": 5, \"c\": null}");
    assert_true(amqp_value_text(amqp_table_get(&f->table, "a"), &text));
    assert_true(slice_is(text, "x"));
    assert_false(amqp_value_integer(amqp_table_get(&f->table, "a"), &number));
    assert_false(amqp_value_integer(amqp_table_get(&f->table, "c"), &number));
    assert_false(amqp_value_integer(amqp_table_get(&f->table, "nothing"), &number));
    assert_false(amqp_value_text(amqp_table_get(&f->table, "b"), &text));
    assert_int_equal(number, 7);
    assert_true(amqp_value_integer(amqp_table_get(&f->table, "b"), &number));
    assert_int_equal(number, 5);

    CHECK_OK(amqp_table_set(&f->table, "b", amqp_value_of_integer(6), &f->pool, &e));
    CHECK_OK(amqp_table_set(&f->table, "new", amqp_value_of_text(slice_of("y")), &f->pool, &e));
    assert_string_equal(to_text(f), "{\"a\": \"x\", \"c\": null, \"b\": 6, \"new\": \"y\"}");
    amqp_table_remove(&f->table, "a");
    amqp_table_remove(&f->table, "nothing");
    assert_string_equal(to_text(f), "{\"c\": null, \"b\": 6, \"new\": \"y\"}");
}

/* Of two entries of one name the last counts, wherever it is looked at. */
static void last_of_a_name_counts(void **state)
{
    struct fixture *f = *state;
    struct err e = ERR_INIT;
    int64_t number = 0;
    json_t *json;

    from_text(f, "{\"a\": 1, \"b\": 2}");
    f->table.entries[1].key = f->table.entries[0].key;
    assert_true(amqp_value_integer(amqp_table_get(&f->table, "a"), &number));
    assert_int_equal(number, 2);
    json = amqp_table_to_json(&f->table, &e);
    assert_int_equal(json_object_size(json), 1);
    assert_int_equal(json_integer_value(json_object_get(json, "a")), 2);
    json_decref(json);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(json_survives, setup, teardown),
        cmocka_unit_test_setup_teardown(reads_what_jansson_reads, setup, teardown),
        cmocka_unit_test_setup_teardown(many_entries, setup, teardown),
        cmocka_unit_test_setup_teardown(kinds_are_celerys, setup, teardown),
        cmocka_unit_test_setup_teardown(every_kind_is_read, setup, teardown),
        cmocka_unit_test_setup_teardown(inexpressible_is_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(nesting_is_bounded, setup, teardown),
        cmocka_unit_test_setup_teardown(long_names_are_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(entries_are_found_and_set, setup, teardown),
        cmocka_unit_test_setup_teardown(last_of_a_name_counts, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
