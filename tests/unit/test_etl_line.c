/* Lines of access logs: docs/etl-format.md, one test a rule. */
#include "tasks/etl_batch.h"
#include "tests/support/check.h"

#include <stdio.h>
#include <stdlib.h>

#define HEAD     "192.0.2.7 - - [10/Oct/2000:13:55:36 -0700] "
#define COMBINED HEAD "\"GET / HTTP/1.0\" 200 5 \"-\" \"-\""
#define TIMED    COMBINED " 0.007 00112233445566778899AABBCCDDEEFF"

struct reading {
    char *text; /* owned copy without room to spare, so that ASan sees a read beyond it */
    char arena_text[4096];
    struct etl_arena arena;
    struct etl_event event;
    enum etl_reason reason;
};

static void read_bytes(struct reading *r, const char *format, const char *line, size_t len,
                       uint64_t offset)
{
    r->text = malloc(len > 0 ? len : 1);
    assert_non_null(r->text);
    memcpy(r->text, line, len);
    r->arena = (struct etl_arena){r->arena_text, 0, sizeof(r->arena_text)};
    r->reason = etl_line_read(etl_format_named(format), (struct etl_slice){r->text, len}, offset,
                              &r->arena, &r->event);
}

static void expect_reason(const char *format, const char *line, size_t len, enum etl_reason want)
{
    struct reading r;

    read_bytes(&r, format, line, len, 7);
    if (r.reason != want)
        fail_msg("%.*s: got %s, wanted %s", (int)len, line, etl_reason_name(r.reason),
                 etl_reason_name(want));
    free(r.text);
}

#define EXPECT(line, want) expect_reason("combined", line, sizeof(line) - 1, want)

static void expect_text(struct etl_slice got, const char *want)
{
    if (want == NULL) {
        assert_null(got.at);
        return;
    }
    assert_non_null(got.at);
    assert_int_equal(got.len, strlen(want));
    assert_memory_equal(got.at, want, got.len);
}

static void reads_every_field(void **state)
{
    static const char line[] =
        "2001:db8::1 - anna [10/Oct/2000:13:55:36 -0700] \"GET /a/b?x=1&y HTTP/1.1\" 404 2326 "
        "\"http://e.org/\" \"say \\x22hi\\\\\" 1.002 00112233445566778899AABBCCDDEEFF\n";
    static const unsigned char id[ETL_REQUEST_ID_LEN] = {0x00, 0x11, 0x22, 0x33, 0x44, 0x55,
                                                         0x66, 0x77, 0x88, 0x99, 0xAA, 0xBB,
                                                         0xCC, 0xDD, 0xEE, 0xFF};
    struct reading r;

    (void)state;
    read_bytes(&r, "combined_timed", line, sizeof(line) - 1, 0);
    assert_int_equal(r.reason, ETL_OK);
    expect_text(r.event.vhost, NULL);
    expect_text(r.event.address, "2001:db8::1");
    expect_text(r.event.user, "anna");
    assert_int_equal(r.event.time_s, 971211336);
    assert_int_equal(r.event.zone_min, -420);
    expect_text(r.event.method, "GET");
    expect_text(r.event.path, "/a/b");
    expect_text(r.event.query, "x=1&y");
    expect_text(r.event.protocol, "HTTP/1.1");
    expect_text(r.event.request, NULL);
    assert_int_equal(r.event.status, 404);
    assert_int_equal(r.event.bytes, 2326);
    expect_text(r.event.referer, "http://e.org/");
    expect_text(r.event.agent, "say \"hi\\");
    assert_int_equal(r.event.duration_ms, 1002);
    assert_true(r.event.has_request_id);
    assert_memory_equal(r.event.request_id, id, sizeof(id));
    free(r.text);
}

static void dashes_are_null(void **state)
{
    struct reading r;

    (void)state;
    read_bytes(&r, "combined", COMBINED, sizeof(COMBINED) - 1, 0);
    assert_int_equal(r.reason, ETL_OK);
    expect_text(r.event.user, NULL);
    expect_text(r.event.query, NULL);
    expect_text(r.event.referer, NULL);
    expect_text(r.event.agent, NULL);
    assert_int_equal(r.event.duration_ms, ETL_DURATION_ABSENT);
    assert_false(r.event.has_request_id);
    free(r.text);
}

static void vhost_is_kept_with_its_port(void **state)
{
    struct reading r;

    (void)state;
    read_bytes(&r, "vhost_combined", "e.org:80 " COMBINED, sizeof("e.org:80 " COMBINED) - 1, 0);
    assert_int_equal(r.reason, ETL_OK);
    expect_text(r.event.vhost, "e.org:80");
    expect_text(r.event.address, "192.0.2.7");
    free(r.text);
}

/* What is asked for may be anything: it is an event all the same, with its bytes. */
static void strange_requests_are_events(void **state)
{
    static const char *const requests[][2] = {
        {"\\x16\\x03\\x01", "\x16\x03\x01"}, /* TLS on the plain port */
        {"", ""},
        {"-", "-"},
        {"GET /", "GET /"},
        {"GET  HTTP/1.1", "GET  HTTP/1.1"},
        {"get {} HTTP/x", "get {} HTTP/x"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(requests) / sizeof(requests[0]); i++) {
        struct reading r;
        char line[256];
        int len = snprintf(line, sizeof(line), HEAD "\"%s\" 400 0 \"-\" \"-\"", requests[i][0]);

        read_bytes(&r, "combined", line, (size_t)len, 0);
        assert_int_equal(r.reason, ETL_OK);
        expect_text(r.event.method, NULL);
        expect_text(r.event.path, NULL);
        expect_text(r.event.protocol, NULL);
        expect_text(r.event.request, requests[i][1]);
        free(r.text);
    }
}

static void unescapes_both_dialects(void **state)
{
    static const struct {
        const char *written;
        const char *bytes;
        size_t len;
    } cases[] = {
        {"\\x41\\x5a", "AZ", 2},
        {"\\xC3\\xa9", "\xC3\xA9", 2},
        {"\\x00", "\0", 1},
        {"\\\"\\\\", "\"\\", 2},
        {"\\b\\t\\n\\v\\r", "\b\t\n\v\r", 5},
        {"\\q", "\\q", 2},
        {"\\x4", "\\x4", 3},
        {"\\xg0", "\\xg0", 4},
        {"\\", "\\", 1},
        {"\\\\x41", "\\x41", 4}, /* a result is not read again */
        {"plain", "plain", 5},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char text[64];
        struct etl_arena arena = {text, 0, strlen(cases[i].written)};
        struct etl_slice got = etl_field_unescape(
            (struct etl_slice){cases[i].written, strlen(cases[i].written)}, &arena);

        assert_int_equal(got.len, cases[i].len);
        assert_memory_equal(got.at, cases[i].bytes, got.len);
        assert_true(arena.used <= arena.cap);
    }
}

static void bad_lines_get_their_reason(void **state)
{
    (void)state;
    EXPECT("", ETL_EMPTY);
    EXPECT("\n", ETL_EMPTY);
    EXPECT("\r\n", ETL_EMPTY);
    EXPECT(" \t\v\f\r \r\n", ETL_EMPTY);
    EXPECT("hello world", ETL_ADDRESS);
    EXPECT("192.0.2.256 - - [", ETL_ADDRESS);
    EXPECT("192.0.2.7", ETL_USER);
    EXPECT("192.0.2.7 - [10/Oct/2000:13:55:36 -0700] \"x\" 1", ETL_USER);
    EXPECT("192.0.2.7 - - 10/Oct", ETL_TIME);
    EXPECT("192.0.2.7 - - [30/Feb/2000:13:55:36 -0700] \"\" 200 5 \"-\" \"-\"", ETL_TIME);
    EXPECT(HEAD "GET / HTTP/1.0\" 200 5 \"-\" \"-\"", ETL_REQUEST);
    EXPECT(HEAD "\"GET / HTTP/1.0", ETL_REQUEST);
    EXPECT(HEAD "\"GET \"/ HTTP/1.0\" 200 5 \"-\" \"-\"", ETL_REQUEST);
    EXPECT(HEAD "\"GET / HTTP/1.0\" 20 5 \"-\" \"-\"", ETL_STATUS);
    EXPECT(HEAD "\"GET / HTTP/1.0\" 200 -5 \"-\" \"-\"", ETL_BYTES);
    EXPECT(HEAD "\"GET / HTTP/1.0\" 200 9223372036854775808 \"-\" \"-\"", ETL_BYTES);
    EXPECT(HEAD "\"GET / HTTP/1.0\" 200 99999999999999999999 \"-\" \"-\"", ETL_BYTES);
    EXPECT(HEAD "\"GET / HTTP/1.0\" 200 5 - \"-\"", ETL_REFERER);
    EXPECT(HEAD "\"GET / HTTP/1.0\" 200 5 \"-\" \"quo\"te\"", ETL_AGENT);
    EXPECT(COMBINED " ", ETL_TRAILING);
    expect_reason("combined_timed", COMBINED " 1", sizeof(COMBINED " 1") - 1, ETL_REQUEST_TIME);
    expect_reason("combined_timed", COMBINED " 1.000 12", sizeof(COMBINED " 1.000 12") - 1,
                  ETL_REQUEST_ID);
    expect_reason("vhost_combined", "-", 1, ETL_VHOST);
}

static void lines_that_must_survive(void **state)
{
    (void)state;
    EXPECT(COMBINED "\r\n", ETL_OK);
    EXPECT(HEAD "\"GET / HTTP/1.0\" 200 9223372036854775807 \"-\" \"-\"", ETL_OK);
    EXPECT(HEAD "\"GET / HTTP/1.0\" 200 - \"-\" \"-\"", ETL_OK);
    EXPECT(HEAD "\"GET /\xff\xfe HTTP/1.0\" 200 5 \"\xC3(\" \"a\0b\"", ETL_OK);
    EXPECT("192.0.2.7 - john doe [10/Oct/2000:13:55:36 -0700] \"\" 200 5 \"-\" \"-\"", ETL_OK);
    EXPECT("192.0.2.7 -  [10/Oct/2000:13:55:36 -0700] \"\" 200 5 \"-\" \"-\"", ETL_OK);
    EXPECT(HEAD "\"\" 200 5 \"-\" \"\\\" \\\\\"", ETL_OK);
}

static void another_format_is_told_from_garbage(void **state)
{
    (void)state;
    EXPECT(HEAD "\"GET / HTTP/1.0\" 200 5", ETL_FORMAT);
    EXPECT("e.org:443 " COMBINED, ETL_FORMAT);
    EXPECT(TIMED, ETL_FORMAT);
    expect_reason("common", COMBINED, sizeof(COMBINED) - 1, ETL_FORMAT);
}

static void glued_records_are_recognised(void **state)
{
    (void)state;
    EXPECT(COMBINED COMBINED, ETL_GLUED);
    EXPECT(COMBINED " " COMBINED, ETL_GLUED);
    EXPECT(HEAD "\"GET /half" COMBINED, ETL_GLUED);
    /* A mark inside a quoted string cannot make two: its quote would end the string. */
    EXPECT(HEAD "\"\" 200 5 \"-\" \" [10/Oct/2000:13:55:36 -0700] \\\"\"", ETL_OK);
}

static void byte_order_mark_only_at_the_beginning(void **state)
{
    static const char line[] = "\xEF\xBB\xBF" COMBINED;
    struct reading r;

    (void)state;
    read_bytes(&r, "combined", line, sizeof(line) - 1, 0);
    assert_int_equal(r.reason, ETL_OK);
    free(r.text);
    expect_reason("combined", line, sizeof(line) - 1, ETL_ADDRESS);
}

static void long_lines(void **state)
{
    static const char tail[] = "\"";
    size_t head_len = sizeof(HEAD "\"\" 200 5 \"-\" \"") - 1;
    char *line = malloc(ETL_LINE_MAX_LEN + 2);
    struct reading r;

    (void)state;
    assert_non_null(line);
    memset(line, 'a', ETL_LINE_MAX_LEN + 2);
    memcpy(line, HEAD "\"\" 200 5 \"-\" \"", head_len);
    memcpy(line + ETL_LINE_MAX_LEN - 1, tail, 1);
    read_bytes(&r, "combined", line, ETL_LINE_MAX_LEN, 0);
    assert_int_equal(r.reason, ETL_OK);
    assert_int_equal(r.event.agent.len, ETL_LINE_MAX_LEN - head_len - 1);
    free(r.text);
    line[ETL_LINE_MAX_LEN] = '\n';
    read_bytes(&r, "combined", line, ETL_LINE_MAX_LEN + 1, 0);
    assert_int_equal(r.reason, ETL_OK);
    free(r.text);
    line[ETL_LINE_MAX_LEN] = 'a';
    expect_reason("combined", line, ETL_LINE_MAX_LEN + 1, ETL_TOO_LONG);
    free(line);
}

static int64_t time_of(const char *text)
{
    int64_t utc_s = 0;
    int32_t zone_min = 0;

    return etl_field_time(text, &utc_s, &zone_min) ? utc_s : INT64_MIN;
}

static void times_are_utc(void **state)
{
    (void)state;
    assert_int_equal(time_of("01/Jan/1970:00:00:00 +0000"), 0);
    assert_int_equal(time_of("01/Jan/1970:00:00:00 +0100"), -3600);
    assert_int_equal(time_of("29/Feb/2024:23:59:60 -0000"), 1709251200);
    assert_int_equal(time_of("31/Dec/9999:23:59:59 +0000"), 253402300799);
    assert_int_equal(time_of("29/Feb/2023:00:00:00 +0000"), INT64_MIN);
    assert_int_equal(time_of("29/Feb/2100:00:00:00 +0000"), INT64_MIN);
    assert_int_equal(time_of("00/Jan/2000:00:00:00 +0000"), INT64_MIN);
    assert_int_equal(time_of("01/jan/2000:00:00:00 +0000"), INT64_MIN);
    assert_int_equal(time_of("01/Jan/1969:00:00:00 +0000"), INT64_MIN);
    assert_int_equal(time_of("01/Jan/2000:24:00:00 +0000"), INT64_MIN);
    assert_int_equal(time_of("01/Jan/2000:00:00:61 +0000"), INT64_MIN);
    assert_int_equal(time_of("01/Jan/2000:00:00:00 +2400"), INT64_MIN);
    assert_int_equal(time_of("01/Jan/2000:00:00:00  0000"), INT64_MIN);
}

static struct etl_slice slice(const char *text)
{
    return (struct etl_slice){text, strlen(text)};
}

static void addresses(void **state)
{
    static const char *const good[] = {
        "0.0.0.0", "255.255.255.255", "::", "::1", "2001:db8::ff00:42:8329", "::ffff:192.0.2.1"};
    static const char *const bad[] = {
        "",      "1.2.3", "1.2.3.4.5", "01.2.3.4", "1.2.3.256", "1.2.3.4 ",  "fe80::1%eth0",
        "[::1]", "e.org", "unix:",     ":",        "1:2:3",     "1.2.3.1234"};

    (void)state;
    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++)
        if (!etl_field_is_address(slice(good[i])))
            fail_msg("%s is an address", good[i]);
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        if (etl_field_is_address(slice(bad[i])))
            fail_msg("%s is no address", bad[i]);
}

static void majority_chooses_the_format(void **state)
{
    static const char mixed[] = COMBINED "\n" TIMED "\n\nnoise\n" TIMED "\n" HEAD "\"\" 200 1\n";

    (void)state;
    assert_string_equal(etl_format_choose(slice(mixed))->name, "combined_timed");
    assert_string_equal(etl_format_choose(slice(""))->name, "combined");
    assert_string_equal(etl_format_choose(slice("noise\n"))->name, "combined");
    assert_string_equal(etl_format_choose(slice(TIMED "\n" HEAD "\"\" 200 1\n"))->name, "common");
}

static void only_the_first_thousand_lines_vote(void **state)
{
    size_t one = sizeof(COMBINED);
    size_t two = sizeof(TIMED);
    char *data = malloc(ETL_FORMAT_SAMPLE * one + 2000 * two);
    size_t len = 0;

    (void)state;
    assert_non_null(data);
    for (int i = 0; i < ETL_FORMAT_SAMPLE; i++, len += one)
        memcpy(data + len, COMBINED "\n", one);
    for (int i = 0; i < 2000; i++, len += two)
        memcpy(data + len, TIMED "\n", two);
    assert_string_equal(etl_format_choose((struct etl_slice){data, len})->name, "combined");
    free(data);
}

static void a_batch_counts_every_line(void **state)
{
    static const char data[] =
        COMBINED "\n\nnoise\n" COMBINED "\r\n" HEAD "\"\\x41\" 200 5 \"-\" \"no newline\"";
    struct etl_batch batch;
    struct etl_err err;
    uint64_t at = 1000;

    (void)state;
    assert_int_equal(etl_batch_read(&batch, etl_format_named("combined"), slice(data), at, &err),
                     0);
    assert_int_equal(batch.records_len, 5);
    assert_int_equal(batch.events_len, 3);
    assert_int_equal(batch.reasons[ETL_OK], 3);
    assert_int_equal(batch.reasons[ETL_EMPTY], 1);
    assert_int_equal(batch.reasons[ETL_ADDRESS], 1);
    for (size_t i = 0; i < batch.records_len; i++) {
        assert_int_equal(batch.records[i].offset, at);
        at += batch.records[i].len;
    }
    assert_int_equal(at, 1000 + sizeof(data) - 1);
    expect_text(batch.events[2].request, "A");
    etl_batch_release(&batch);
    etl_batch_release(&batch);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_every_field),
        cmocka_unit_test(dashes_are_null),
        cmocka_unit_test(vhost_is_kept_with_its_port),
        cmocka_unit_test(strange_requests_are_events),
        cmocka_unit_test(unescapes_both_dialects),
        cmocka_unit_test(bad_lines_get_their_reason),
        cmocka_unit_test(lines_that_must_survive),
        cmocka_unit_test(another_format_is_told_from_garbage),
        cmocka_unit_test(glued_records_are_recognised),
        cmocka_unit_test(byte_order_mark_only_at_the_beginning),
        cmocka_unit_test(long_lines),
        cmocka_unit_test(times_are_utc),
        cmocka_unit_test(addresses),
        cmocka_unit_test(majority_chooses_the_format),
        cmocka_unit_test(only_the_first_thousand_lines_vote),
        cmocka_unit_test(a_batch_counts_every_line),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
