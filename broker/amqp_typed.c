#include "broker/amqp_typed.h"

#include "base/isotime.h"
#include "broker/amqp_table.h"
#include "broker/base64.h"
#include "broker/json_text.h"

#include <nettle/base64.h>
#include <stdio.h>
#include <string.h>

#define TIME_MAX_S 253402300799 /* the last second of the year 9999 */
#define TIME_LEN   25           /* 2026-11-21T01:46:55+00:00 */

static void open_typed(struct buf *out, const char *type)
{
    buf_adds(out, "{\"__type__\": \"");
    buf_adds(out, type);
    buf_adds(out, "\", \"__value__\": \"");
}

void typed_put_bytes(struct buf *out, struct slice bytes)
{
    open_typed(out, "base64");
    base64_put(out, bytes);
    buf_adds(out, "\"}");
}

void typed_put_text(struct buf *out, struct slice text)
{
    if (json_text_string(out, text, NULL) < 0)
        typed_put_bytes(out, text);
}

void typed_put_integer(struct buf *out, int64_t number)
{
    char text[24], *at = text + sizeof(text);
    uint64_t rest = number < 0 ? 0 - (uint64_t)number : (uint64_t)number;

    do
        *--at = (char)('0' + rest % 10);
    while (rest /= 10);
    if (number < 0)
        *--at = '-';
    buf_add(out, at, (size_t)(text + sizeof(text) - at));
}

/* The number without quotes; a point where there are decimals, so that 1.20 stays 1.20. */
static void decimal_text(struct buf *out, amqp_decimal_t decimal)
{
    int64_t value = (int32_t)decimal.value; /* signed, as py-amqp has it */
    char digits[16];
    int len = snprintf(digits, sizeof(digits), "%lld", (long long)(value < 0 ? -value : value));
    int whole = len - decimal.decimals;

    if (value < 0)
        buf_adds(out, "-");
    if (whole <= 0)
        buf_adds(out, "0");
    else
        buf_add(out, digits, (size_t)whole);
    if (decimal.decimals == 0)
        return;
    buf_adds(out, ".");
    for (int i = whole; i < 0; i++)
        buf_adds(out, "0");
    buf_adds(out, digits + (whole > 0 ? whole : 0));
}

void typed_put_decimal(struct buf *out, amqp_decimal_t decimal)
{
    open_typed(out, "decimal");
    decimal_text(out, decimal);
    buf_adds(out, "\"}");
}

/* Without the fraction, which a field of whole seconds has not. */
static void time_text(int64_t seconds, char to[ISOTIME_SIZE])
{
    isotime_format_us(seconds * 1000000, to);
    memmove(to + 19, to + 26, strlen(to + 26) + 1);
}

int typed_put_time(struct buf *out, uint64_t seconds, struct err *e)
{
    char text[ISOTIME_SIZE];

    if (seconds > TIME_MAX_S)
        return err_set(e, ERR_DEADLETTER, "a header holds a time behind the year 9999");
    time_text((int64_t)seconds, text);
    open_typed(out, "datetime");
    buf_adds(out, text);
    buf_adds(out, "\"}");
    return 0;
}

/* The readers below return 1 when the text was theirs, 0 when not, -1 when memory ends. */

/* Terminated text, when it fits. */
static bool copy_text(char *to, size_t size, struct slice text)
{
    if (text.len >= size || memchr(text.ptr, '\0', text.len))
        return false;
    memcpy(to, text.ptr, text.len);
    to[text.len] = '\0';
    return true;
}

static int read_time(amqp_field_value_t *out, struct slice value, amqp_pool_t *pool, struct err *e)
{
    char text[TIME_LEN + 1], again[ISOTIME_SIZE];
    int64_t ms;

    (void)pool;
    (void)e;
    if (value.len != TIME_LEN || !copy_text(text, sizeof(text), value) ||
        isotime_parse(text, &ms) < 0 || ms < 0)
        return 0;
    time_text(ms / 1000, again);
    if (strcmp(text, again) != 0)
        return 0;
    out->kind = AMQP_FIELD_KIND_TIMESTAMP;
    out->value.u64 = (uint64_t)(ms / 1000);
    return 1;
}

/* All digits as one number: more than 31 bits are too many. */
static bool read_digits(const char *text, int64_t *value)
{
    *value = 0;
    for (const char *p = text; *p && *value <= INT32_MAX; p++) {
        if (*p >= '0' && *p <= '9')
            *value = *value * 10 + (*p - '0');
    }
    return *value <= INT32_MAX;
}

static int read_decimal(amqp_field_value_t *out, struct slice value, amqp_pool_t *pool,
                        struct err *e)
{
    char text[UINT8_MAX + 16];
    const char *point;
    struct buf again = BUF_INIT;
    amqp_decimal_t d = {0};
    int64_t number;
    int same;

    (void)pool;
    if (!copy_text(text, sizeof(text), value) || !read_digits(text, &number))
        return 0;
    point = strchr(text, '.');
    if (point && strlen(point + 1) > UINT8_MAX)
        return 0;
    d.decimals = point ? (uint8_t)strlen(point + 1) : 0;
    d.value = (uint32_t)(*text == '-' ? -number : number);
    decimal_text(&again, d);
    same = again.failed ? err_nomem(e) : strcmp(buf_str(&again), text) == 0;
    buf_release(&again);
    if (same == 1) {
        out->kind = AMQP_FIELD_KIND_DECIMAL;
        out->value.decimal = d;
    }
    return same;
}

/* True when text is just what the encoder makes of the bytes. */
static bool is_canonical(struct slice text, amqp_bytes_t bytes)
{
    struct base64_encode_ctx ctx;
    char piece[BASE64_ENCODE_LENGTH(96) + BASE64_ENCODE_FINAL_LENGTH];
    size_t at = 0;

    if (BASE64_ENCODE_RAW_LENGTH(bytes.len) != text.len)
        return false;
    base64_encode_init(&ctx);
    for (size_t i = 0; i < bytes.len; i += 96) {
        size_t n = bytes.len - i < 96 ? bytes.len - i : 96;
        size_t len = base64_encode_update(&ctx, piece, n, (const uint8_t *)bytes.bytes + i);

        if (i + n == bytes.len)
            len += base64_encode_final(&ctx, piece + len);
        if (memcmp(text.ptr + at, piece, len) != 0)
            return false;
        at += len;
    }
    return at == text.len;
}

static bool is_utf8(amqp_bytes_t bytes)
{
    struct buf scratch = BUF_INIT;
    bool is = json_text_string(&scratch, slice_make(bytes.bytes, bytes.len), NULL) == 0;

    buf_release(&scratch);
    return is;
}

static int read_bytes(amqp_field_value_t *out, struct slice text, amqp_pool_t *pool, struct err *e)
{
    struct base64_decode_ctx ctx;
    amqp_bytes_t bytes = {0};
    size_t len;

    bytes.bytes = amqp_pool_alloc(pool, BASE64_DECODE_LENGTH(text.len) + 1);
    if (!bytes.bytes)
        return err_nomem(e);
    base64_decode_init(&ctx);
    if (!base64_decode_update(&ctx, &len, bytes.bytes, text.len, text.ptr) ||
        !base64_decode_final(&ctx))
        return 0;
    bytes.len = len;
    if (!is_canonical(text, bytes))
        return 0;
    /* A long string that is no text came as one (Python's bytes do); the others as 'x'. */
    out->kind = is_utf8(bytes) ? AMQP_FIELD_KIND_BYTES : AMQP_FIELD_KIND_UTF8;
    out->value.bytes = bytes;
    return 1;
}

int typed_read(amqp_field_value_t *value, amqp_pool_t *pool, struct err *e)
{
    static const struct {
        const char *type;
        int (*read)(amqp_field_value_t *out, struct slice value, amqp_pool_t *pool, struct err *e);
    } types[] = {{"base64", read_bytes}, {"datetime", read_time}, {"decimal", read_decimal}};
    const amqp_table_t *table = &value->value.table;
    struct slice type, text;

    if (table->num_entries != 2 || !amqp_value_text(amqp_table_get(table, "__type__"), &type) ||
        !amqp_value_text(amqp_table_get(table, "__value__"), &text))
        return 0;
    for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++) {
        if (slice_is(type, types[i].type))
            return types[i].read(value, text, pool, e) < 0 ? -1 : 0;
    }
    return 0;
}
