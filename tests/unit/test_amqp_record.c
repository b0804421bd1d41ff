/* The records of the two streams: what is written is read, and nothing else is. */
#include "broker/amqp_record.h"
#include "tests/support/check.h"

#include <stdlib.h>

#define ID "3c3d771f-8894-4485-b561-575090d13ba7"

static struct amqp_claim_record a_claim(void)
{
    return (struct amqp_claim_record){.kind = AMQP_CLAIM_DONE,
                                      .window_ms = 3600000,
                                      .prev = 0x0102030405060708,
                                      .now_ms = 1795225702848,
                                      .host = 0x1112131415161718,
                                      .nonce = 0x2122232425262728,
                                      .key = amqp_key_of(slice_of("order-17")),
                                      .id = slice_of(ID),
                                      .doc = slice_of("{\"status\": \"SUCCESS\"}")};
}

static struct amqp_result_record a_result(void)
{
    return (struct amqp_result_record){.outcome = AMQP_RESULT_CONTINUES,
                                       .flags = AMQP_RESULT_AGAIN | AMQP_RESULT_UNTOLD,
                                       .retries = 7,
                                       .count = 9,
                                       .expires_ms = 86400000,
                                       .now_ms = 1795225702848,
                                       .host = 1,
                                       .nonce = UINT64_MAX,
                                       .id = slice_of(ID),
                                       .doc = slice_of("{}")};
}

static void claims_come_back_as_they_were(void **state)
{
    struct amqp_claim_record in = a_claim(), out;
    struct buf bytes = BUF_INIT;

    (void)state;
    amqp_claim_write(&bytes, &in);
    assert_false(bytes.failed);
    assert_int_equal(bytes.len, AMQP_CLAIM_HEAD + in.id.len + in.doc.len);
    assert_true(amqp_claim_read(&out, buf_slice(&bytes)));
    assert_int_equal(out.kind, in.kind);
    assert_int_equal(out.window_ms, in.window_ms);
    assert_int_equal(out.prev, in.prev);
    assert_int_equal(out.now_ms, in.now_ms);
    assert_int_equal(out.host, in.host);
    assert_int_equal(out.nonce, in.nonce);
    assert_memory_equal(&out.key, &in.key, sizeof(in.key));
    assert_true(slice_eq(out.id, in.id));
    assert_true(slice_eq(out.doc, in.doc));
    buf_release(&bytes);
}

static void results_come_back_as_they_were(void **state)
{
    struct amqp_result_record in = a_result(), out;
    struct buf bytes = BUF_INIT;

    (void)state;
    amqp_result_write(&bytes, &in);
    assert_int_equal(bytes.len, AMQP_RESULT_HEAD + in.id.len + in.doc.len);
    assert_true(amqp_result_read(&out, buf_slice(&bytes)));
    assert_int_equal(out.outcome, in.outcome);
    assert_int_equal(out.flags, in.flags);
    assert_int_equal(out.retries, in.retries);
    assert_int_equal(out.count, in.count);
    assert_int_equal(out.expires_ms, in.expires_ms);
    assert_int_equal(out.now_ms, in.now_ms);
    assert_int_equal(out.host, in.host);
    assert_int_equal(out.nonce, in.nonce);
    assert_true(slice_eq(out.id, in.id));
    assert_true(slice_eq(out.doc, in.doc));
    buf_release(&bytes);
}

/* Hosts of different builds share a stream, so the bytes are fixed. */
static void the_layout_is_fixed(void **state)
{
    static const unsigned char claim[] = {
        1,    2,    2,    0,    1,    0,    0,    0,    0xe8, 0x03, 0,    0,    0,    0,
        0,    0,    0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x10, 0x27, 0,    0,
        0,    0,    0,    0,    0x05, 0,    0,    0,    0,    0,    0,    0,    0x06, 0,
        0,    0,    0,    0,    0,    0,    0x99, 0xaa, 0x06, 0xd3, 0x01, 0x47, 0x98, 0xd8,
        0x60, 0x01, 0xc3, 0x24, 0x46, 0x8d, 0x49, 0x7f, 'i',  'd',  '!'};
    static const unsigned char result[] = {
        1, 4, 1, 0, 3, 0, 0, 0, 0x10, 0x27, 0,    0,    0,    0,    0,    0,    5,   0,   0,  0,
        0, 0, 0, 0, 6, 0, 0, 0, 0,    0,    0,    0,    2,    0,    0,    0,    1,   0,   0,  0,
        8, 0, 0, 0, 0, 0, 0, 0, 0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 'i', 'd', '!'};
    struct buf bytes = BUF_INIT;

    (void)state;
    amqp_claim_write(&bytes, &(struct amqp_claim_record){.kind = AMQP_CLAIM_ALIVE,
                                                         .window_ms = 1000,
                                                         .prev = AMQP_RECORD_NONE,
                                                         .now_ms = 10000,
                                                         .host = 5,
                                                         .nonce = 6,
                                                         .key = amqp_key_of(slice_of("")),
                                                         .id = slice_of("id"),
                                                         .doc = slice_of("!")});
    assert_int_equal(bytes.len, sizeof(claim));
    assert_memory_equal(buf_slice(&bytes).ptr, claim, sizeof(claim));
    buf_clear(&bytes);
    amqp_result_write(&bytes, &(struct amqp_result_record){.outcome = AMQP_RESULT_DEAD,
                                                           .flags = AMQP_RESULT_READY,
                                                           .retries = 3,
                                                           .count = 8,
                                                           .expires_ms = -2,
                                                           .now_ms = 10000,
                                                           .host = 5,
                                                           .nonce = 6,
                                                           .id = slice_of("id"),
                                                           .doc = slice_of("!")});
    assert_int_equal(bytes.len, sizeof(result));
    assert_memory_equal(buf_slice(&bytes).ptr, result, sizeof(result));
    buf_release(&bytes);
}

static void no_other_length_is_read(void **state)
{
    struct amqp_claim_record claim = a_claim();
    struct amqp_result_record result = a_result();
    struct buf claims = BUF_INIT, results = BUF_INIT;

    (void)state;
    amqp_claim_write(&claims, &claim);
    amqp_result_write(&results, &result);
    for (size_t len = 0; len < claims.len; len++)
        assert_false(amqp_claim_read(&claim, slice_make(buf_slice(&claims).ptr, len)));
    for (size_t len = 0; len < results.len; len++)
        assert_false(amqp_result_read(&result, slice_make(buf_slice(&results).ptr, len)));
    buf_add(&claims, "", 1);
    buf_add(&results, "", 1);
    assert_false(amqp_claim_read(&claim, buf_slice(&claims)));
    assert_false(amqp_result_read(&result, buf_slice(&results)));
    buf_release(&claims);
    buf_release(&results);
}

/* One byte of a good record changed to what no record has. */
struct damage {
    size_t at;
    unsigned char byte;
};

static void damage_is_not_read(void **state)
{
    static const struct damage claims[] = {{0, 0},    {0, 2},     {1, 0},     {1, 8},    {1, 255},
                                           {3, 4},    {2, 0},     {4, 0},     {7, 255},  {15, 255},
                                           {23, 255}, {31, 0x80}, {31, 0x01}, {29, 0xff}};
    static const struct damage results[] = {{0, 0},  {0, 2},  {1, 0},    {1, 11},   {1, 255},
                                            {33, 4}, {32, 0}, {39, 255}, {15, 0x80}};
    struct amqp_claim_record claim = a_claim(), claim_read;
    struct amqp_result_record result = a_result(), result_read;
    struct buf bytes = BUF_INIT;

    (void)state;
    for (size_t i = 0; i < sizeof(claims) / sizeof(claims[0]); i++) {
        buf_clear(&bytes);
        amqp_claim_write(&bytes, &claim);
        bytes.mem[bytes.start + claims[i].at] = (char)claims[i].byte;
        assert_false(amqp_claim_read(&claim_read, buf_slice(&bytes)));
    }
    for (size_t i = 0; i < sizeof(results) / sizeof(results[0]); i++) {
        buf_clear(&bytes);
        amqp_result_write(&bytes, &result);
        bytes.mem[bytes.start + results[i].at] = (char)results[i].byte;
        assert_false(amqp_result_read(&result_read, buf_slice(&bytes)));
    }
    buf_release(&bytes);
}

/* A done that names no claim could end any run. */
static void only_a_claim_may_build_on_nothing(void **state)
{
    struct amqp_claim_record claim = a_claim(), read;
    struct buf bytes = BUF_INIT;

    (void)state;
    claim.prev = AMQP_RECORD_NONE;
    for (int kind = AMQP_CLAIM; kind <= AMQP_CLAIM_SYNC; kind++) {
        bool alone = kind == AMQP_CLAIM || kind == AMQP_CLAIM_ALIVE || kind == AMQP_CLAIM_SYNC;

        buf_clear(&bytes);
        claim.kind = (enum amqp_claim_kind)kind;
        amqp_claim_write(&bytes, &claim);
        assert_int_equal(amqp_claim_read(&read, buf_slice(&bytes)), alone);
    }
    buf_release(&bytes);
}

/* Or a replica that began late could not judge it. */
static void a_claim_says_how_long_what_it_cites_holds(void **state)
{
    static const struct {
        int64_t prev, until_ms;
        bool good;
    } cases[] = {
        {AMQP_RECORD_NONE, 0, true}, {AMQP_RECORD_NONE, 1, false}, {0, 1, true}, {0, 0, false}};
    struct amqp_claim_record claim = a_claim(), read;
    struct buf bytes = BUF_INIT;

    (void)state;
    claim.kind = AMQP_CLAIM;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        buf_clear(&bytes);
        claim.prev = cases[i].prev;
        claim.until_ms = cases[i].until_ms;
        amqp_claim_write(&bytes, &claim);
        assert_int_equal(amqp_claim_read(&read, buf_slice(&bytes)), cases[i].good);
        if (cases[i].good)
            assert_int_equal(read.until_ms, cases[i].until_ms);
    }
    buf_release(&bytes);
}

static void an_id_that_does_not_fit_is_not_written(void **state)
{
    struct amqp_claim_record claim = a_claim();
    struct buf bytes = BUF_INIT;
    char *text = calloc(1, AMQP_RECORD_ID_MAX + 1);

    (void)state;
    assert_non_null(text);
    claim.id = slice_make(text, AMQP_RECORD_ID_MAX);
    amqp_claim_write(&bytes, &claim);
    assert_false(bytes.failed);
    assert_true(amqp_claim_read(&claim, buf_slice(&bytes)));
    assert_int_equal(claim.id.len, AMQP_RECORD_ID_MAX);
    claim.id.len++;
    amqp_claim_write(&bytes, &claim);
    assert_true(bytes.failed);
    buf_release(&bytes);
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(claims_come_back_as_they_were),
        cmocka_unit_test(results_come_back_as_they_were),
        cmocka_unit_test(the_layout_is_fixed),
        cmocka_unit_test(no_other_length_is_read),
        cmocka_unit_test(damage_is_not_read),
        cmocka_unit_test(only_a_claim_may_build_on_nothing),
        cmocka_unit_test(a_claim_says_how_long_what_it_cites_holds),
        cmocka_unit_test(an_id_that_does_not_fit_is_not_written),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
