/* Every allocation on the way of a message fails once: an honest error, nothing leaked or crashed.
 */
#include "broker/amqp_envelope.h"
#include "tests/support/check.h"
#include "tests/support/file.h"

#include <stdlib.h>

#define MESSAGE TEST_SOURCE_DIR "/support/messages/stamped-5.6.json"

/* The linker sends these calls of ours here (--wrap). */
void *__real_realloc(void *old, size_t size);
void *__wrap_realloc(void *old, size_t size);
void *__real_amqp_pool_alloc(amqp_pool_t *pool, size_t size);
void *__wrap_amqp_pool_alloc(amqp_pool_t *pool, size_t size);

static long left = -1; /* allocations until the one that fails; -1: none does */

static bool fails(void)
{
    return left >= 0 && left-- == 0;
}

void *__wrap_realloc(void *old, size_t size)
{
    return fails() ? NULL : __real_realloc(old, size);
}

void *__wrap_amqp_pool_alloc(amqp_pool_t *pool, size_t size)
{
    return fails() ? NULL : __real_amqp_pool_alloc(pool, size);
}

static void *jansson_alloc(size_t size)
{
    return fails() ? NULL : malloc(size);
}

/* There, and back. 0 when nothing failed. */
static int once(struct slice envelope, struct buf *back)
{
    struct amqp_outgoing out;
    struct amqp_incoming in = {.routing_key = slice_of("q"), .properties = &out.properties};
    struct err e = ERR_INIT;
    amqp_pool_t pool;
    int status;

    init_amqp_pool(&pool, 4096);
    status = amqp_envelope_to_message(&out, envelope, 0, &pool, &e);
    if (status == 0)
        status = amqp_outgoing_header(&out, AMQP_H_AGAIN, amqp_value_of_bool(true), &pool, &e);
    if (status == 0) {
        in.body = out.body;
        status = amqp_envelope_from_delivery(back, &in, slice_of("q"), &e);
    }
    if (status < 0)
        assert_int_equal(e.code, ERR_NOMEM);
    empty_amqp_pool(&pool);
    return status;
}

static void failures_are_told(struct slice envelope)
{
    struct buf want = BUF_INIT;
    int failures = 0;

    assert_int_equal(once(envelope, &want), 0);
    for (long n = 0;; n++) {
        struct buf back = BUF_INIT;
        int status;

        left = n;
        status = once(envelope, &back);
        if (status == 0)
            assert_string_equal(buf_str(&back), buf_str(&want));
        failures += status < 0;
        buf_release(&back);
        if (left >= 0)
            break;
    }
    left = -1;
    assert_true(failures > 3);
    buf_release(&want);
}

static void a_message(void **state)
{
    struct buf text = BUF_INIT;

    (void)state;
    assert_int_equal(file_read(&text, MESSAGE), 0);
    failures_are_told(buf_slice(&text));
    buf_release(&text);
}

static void all_kinds(void **state)
{
    (void)state;
    failures_are_told(slice_of(
        "{\"body\": \"YQ==\", \"content-type\": \"t\", \"content-encoding\": \"e\", \"headers\": "
        "{\"a\": [1, "
        "{}], \"d\": {\"__type__\": \"decimal\", \"__value__\": \"1.5\"}, \"b\": {\"__type__\": "
        "\"base64\", \"__value__\": \"/wA=\"}}, \"properties\": {\"body_encoding\": \"base64\", "
        "\"expiration\": \"5\", \"type\": \"t\"}}"));
}

static void what_is_carried(void **state)
{
    (void)state;
    failures_are_told(slice_of("{\"headers\": {\"id\": \"i\", \"task\": \"t\"}}"));
}

static void what_is_refused(void **state)
{
    struct buf want = BUF_INIT;
    amqp_basic_properties_t p = {._flags = AMQP_BASIC_HEADERS_FLAG};
    struct amqp_incoming in = {.properties = &p};
    amqp_table_entry_t entry = {amqp_cstring_bytes("n\xff"), amqp_value_of_bool(true)};
    struct err e = ERR_INIT;

    (void)state;
    p.headers = (amqp_table_t){1, &entry};
    CHECK_OK(amqp_envelope_from_delivery(&want, &in, slice_of("q"), &e));
    for (long n = 0;; n++) {
        struct buf back = BUF_INIT;

        left = n;
        if (amqp_envelope_from_delivery(&back, &in, slice_of("q"), &e) < 0)
            assert_int_equal(e.code, ERR_NOMEM);
        else
            assert_string_equal(buf_str(&back), buf_str(&want));
        buf_release(&back);
        if (left >= 0)
            break;
    }
    left = -1;
    buf_release(&want);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_message),
        cmocka_unit_test(all_kinds),
        cmocka_unit_test(what_is_carried),
        cmocka_unit_test(what_is_refused),
    };

    json_set_alloc_funcs(jansson_alloc, free);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
