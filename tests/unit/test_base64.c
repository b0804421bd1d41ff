/* base64.h says what nettle says. */
#include "broker/base64.h"
#include "tests/support/check.h"

#include <nettle/base64.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define LENGTHS 300

static void fill(uint8_t *bytes, size_t n, unsigned seed)
{
    for (size_t i = 0; i < n; i++) {
        seed = seed * 1103515245u + 12345u;
        bytes[i] = (uint8_t)(seed >> 16);
    }
}

static void every_length_is_nettles(void **state)
{
    (void)state;
    for (size_t n = 0; n < LENGTHS; n++) {
        uint8_t *bytes = malloc(n ? n : 1); /* exactly: what is read beyond is found */
        char wanted[BASE64_ENCODE_RAW_LENGTH(LENGTHS)];
        struct buf text = BUF_INIT, back = BUF_INIT;
        struct err e = ERR_INIT;

        assert_non_null(bytes);
        fill(bytes, n, (unsigned)n);
        base64_encode_raw(wanted, n, bytes);
        buf_adds(&text, "x");
        base64_put(&text, slice_make((const char *)bytes, n));
        assert_int_equal(text.len, 1 + BASE64_ENCODE_RAW_LENGTH(n));
        assert_memory_equal(buf_slice(&text).ptr + 1, wanted, text.len - 1);
        buf_consume(&text, 1);
        CHECK_OK(base64_get(&back, buf_slice(&text), &e));
        assert_int_equal(back.len, n);
        assert_memory_equal(buf_slice(&back).ptr, bytes, n);
        buf_release(&text);
        buf_release(&back);
        free(bytes);
    }
}

/* Each number of six bits at each of sixteen places. */
static void every_letter_is_nettles(void **state)
{
    (void)state;
    for (unsigned number = 0; number < 64; number++) {
        uint8_t bytes[48];
        char wanted[64];
        struct buf text = BUF_INIT;

        for (size_t i = 0; i < sizeof(bytes); i += 3) {
            bytes[i] = (uint8_t)(number << 2 | number >> 4);
            bytes[i + 1] = (uint8_t)(number << 4 | number >> 2);
            bytes[i + 2] = (uint8_t)(number << 6 | number);
        }
        base64_encode_raw(wanted, sizeof(bytes), bytes);
        base64_put(&text, slice_make((const char *)bytes, sizeof(bytes)));
        assert_int_equal(text.len, sizeof(wanted));
        assert_memory_equal(buf_slice(&text).ptr, wanted, sizeof(wanted));
        buf_release(&text);
    }
}

static bool nettle_reads(struct slice text, uint8_t *to, size_t *len)
{
    struct base64_decode_ctx ctx;

    base64_decode_init(&ctx);
    return base64_decode_update(&ctx, len, to, text.len, text.ptr) && base64_decode_final(&ctx);
}

static void what_is_odd_is_nettles(void **state)
{
    static const char *const texts[] = {
        "",       "A",        "AA",       "AAA",      "AA=A",     "A===",
        "AAA!",   "AB==",     "AA==AAAA", "AAAA\xff", "AA A\nAA", "QUJD\nREVG\n",
        "AA==\n", "AAAAAA==", "AAAAAAB=", "AAAAAAA",  "====",     "AAAA====",
    };

    (void)state;
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        uint8_t wanted[32];
        struct buf out = BUF_INIT;
        struct err e = ERR_INIT;
        size_t len = 0;
        bool reads = nettle_reads(slice_of(texts[i]), wanted, &len);

        assert_int_equal(base64_get(&out, slice_of(texts[i]), &e), reads ? 0 : -1);
        assert_int_equal(e.code, reads ? ERR_NONE : ERR_DEADLETTER);
        assert_true(!reads || (out.len == len && memcmp(buf_slice(&out).ptr, wanted, len) == 0));
        buf_release(&out);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_length_is_nettles),
        cmocka_unit_test(every_letter_is_nettles),
        cmocka_unit_test(what_is_odd_is_nettles),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
