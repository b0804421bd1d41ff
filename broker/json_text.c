#include "broker/json_text.h"

#ifdef __SSE2__
#include <emmintrin.h>
#endif
#include <endian.h>
#include <float.h>
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

size_t json_text_utf8(const unsigned char *p, size_t n, uint32_t *code)
{
    size_t len = p[0] < 0x80 ? 1 : p[0] >= 0xf0 ? 4 : p[0] >= 0xe0 ? 3 : 2;
    static const uint32_t smallest[] = {0, 0, 0x80, 0x800, 0x10000};

    if (len > n || (p[0] >= 0x80 && p[0] < 0xc2) || p[0] > 0xf4)
        return 0;
    *code = len == 1 ? p[0] : p[0] & (0xffu >> (len + 1));
    for (size_t i = 1; i < len; i++) {
        if ((p[i] & 0xc0) != 0x80)
            return 0;
        *code = *code << 6 | (p[i] & 0x3fu);
    }
    if (*code < smallest[len] || *code > 0x10ffff || (*code >= 0xd800 && *code <= 0xdfff))
        return 0;
    return len;
}

#ifdef __SSE2__
/* A bit for each of sixteen bytes that is not plain. As signed bytes, those below the space are all
 * that are below it or above 0x7f. */
static __m128i not_plain(const char *text)
{
    const __m128i space = _mm_set1_epi8(' '), del = _mm_set1_epi8(0x7f);
    const __m128i quote = _mm_set1_epi8('"'), slash = _mm_set1_epi8('\\');
    __m128i v = _mm_loadu_si128((const __m128i_u *)(const void *)text);
    __m128i a = _mm_or_si128(_mm_cmpgt_epi8(space, v), _mm_cmpeq_epi8(v, del));
    __m128i b = _mm_or_si128(_mm_cmpeq_epi8(v, quote), _mm_cmpeq_epi8(v, slash));

    return _mm_or_si128(a, b);
}

static unsigned not_plain_16(const char *text)
{
    return (unsigned)_mm_movemask_epi8(not_plain(text));
}

/* So many bytes are plain: twice sixteen at a time, while there are that many. */
static size_t pass_plain(const char *text, size_t n)
{
    size_t i = 0;

    while (n - i >= 32 &&
           !_mm_movemask_epi8(_mm_or_si128(not_plain(text + i), not_plain(text + i + 16))))
        i += 32;
    return i;
}

size_t json_text_run(const char *text, size_t n)
{
    char tail[] = {' ', ' ', ' ', ' ', ' ', ' ', ' ', ' ', ' ', ' ', ' ', ' ', ' ', ' ', ' ', ' '};
    size_t i = 0;
    unsigned hits;

    while (n - i >= sizeof(tail)) {
        hits = not_plain_16(text + i);
        if (hits)
            return i + (size_t)__builtin_ctz(hits);
        i += sizeof(tail);
        i += pass_plain(text + i, n - i); /* most end before */
    }
    if (i == n)
        return n;
    if (n >= sizeof(tail)) { /* the last sixteen, of which the first are known to be plain */
        hits = not_plain_16(text + n - sizeof(tail));
        return hits ? n - sizeof(tail) + (size_t)__builtin_ctz(hits) : n;
    }
    memcpy(tail, text, n);
    hits = not_plain_16(tail);
    return hits ? (size_t)__builtin_ctz(hits) : n;
}
#else
static bool is_plain(unsigned char c)
{
    return c >= ' ' && c < 0x7f && c != '"' && c != '\\';
}

#define EACH(byte) (0x0101010101010101u * (uint64_t)(byte))

/* The high bit of each byte that is not plain. A byte of x is zero where (x - 1) & ~x has its high
 * bit set; a borrow can only touch bytes above a byte that is a hit itself, so the lowest is right.
 */
static uint64_t not_plain(uint64_t v)
{
    uint64_t quote = v ^ EACH('"'), slash = v ^ EACH('\\'), del = v ^ EACH(0x7f);

    return (((quote - EACH(1)) & ~quote) | ((slash - EACH(1)) & ~slash) | ((del - EACH(1)) & ~del) |
            ((v - EACH(' ')) & ~v) | v) &
           EACH(0x80);
}

size_t json_text_run(const char *text, size_t n)
{
    size_t i = 0;

    for (; n - i >= sizeof(uint64_t); i += sizeof(uint64_t)) {
        uint64_t v, hits;

        memcpy(&v, text + i, sizeof(v));
        hits = not_plain(le64toh(v));
        if (hits)
            return i + (size_t)__builtin_ctzll(hits) / 8;
    }
    while (i < n && is_plain((unsigned char)text[i]))
        i++;
    return i;
}
#endif

static void put_unit(struct buf *out, uint32_t unit)
{
    static const char hex[] = "0123456789abcdef";
    char text[6] = {
        '\\', 'u', hex[unit >> 12 & 15], hex[unit >> 8 & 15], hex[unit >> 4 & 15], hex[unit & 15]};

    buf_add(out, text, sizeof(text));
}

static void put_escaped(struct buf *out, uint32_t code)
{
    static const char shorts[] = "\"\"\\\\\nn\rr\tt\bb\ff";

    for (const char *s = shorts; *s; s += 2) {
        if (code == (unsigned char)s[0]) {
            buf_add(out, "\\", 1);
            buf_add(out, s + 1, 1);
            return;
        }
    }
    if (code >= 0x10000) {
        put_unit(out, 0xd800 + ((code - 0x10000) >> 10));
        put_unit(out, 0xdc00 + ((code - 0x10000) & 0x3ff));
    } else {
        put_unit(out, code);
    }
}

int json_text_string(struct buf *out, struct slice text, struct err *e)
{
    const unsigned char *p = (const unsigned char *)text.ptr;
    size_t before = out->len;
    char *to = buf_reserve(out, text.len + 2);

    if (to && json_text_run(text.ptr, text.len) == text.len) { /* as nearly all are */
        to[0] = to[text.len + 1] = '"';
        memcpy(to + 1, text.ptr ? text.ptr : "", text.len);
        buf_commit(out, text.len + 2);
        return 0;
    }
    buf_add(out, "\"", 1);
    for (size_t i = 0; i < text.len;) {
        size_t run = json_text_run(text.ptr + i, text.len - i), len;
        uint32_t code;

        buf_add(out, p + i, run);
        i += run;
        if (i == text.len)
            break;
        len = json_text_utf8(p + i, text.len - i, &code);
        if (!len) {
            out->len = before;
            return err_set(e, ERR_USAGE, "a text is not UTF-8: byte %zu of %zu is 0x%02x", i,
                           text.len, p[i]);
        }
        put_escaped(out, code);
        i += len;
    }
    buf_add(out, "\"", 1);
    return 0;
}

/* A host program may have set a locale whose decimal point is a comma. */
static void fix_point(char *text)
{
    for (; *text; text++) {
        if (*text == ',')
            *text = '.';
    }
}

void json_text_real(struct buf *out, double value)
{
    /* 15 digits are always exact in a normal number; the smallest numbers have fewer. */
    int enough = fabs(value) < DBL_MIN ? 1 : DBL_DIG;
    char text[48];

    if (value > -1e16 && value < 1e16 && value == (double)(int64_t)value) {
        snprintf(text, sizeof(text), "%.1f", value);
    } else {
        for (int digits = enough; digits <= 17; digits++) {
            /* %g would write 17 digits without a point: an integer to every reader. */
            if (digits == 17 && fabs(value) < 1e17 && fabs(value) >= 1e16)
                snprintf(text, sizeof(text), "%.16e", value);
            else
                snprintf(text, sizeof(text), "%.*g", digits, value);
            if (strtod(text, NULL) == value)
                break;
        }
    }
    fix_point(text);
    buf_adds(out, text);
}

/* The containers around the value being written, innermost first; they live on the C stack. */
struct around {
    const json_t *value;
    const struct around *up;
    int depth;
};

static int write_value(struct buf *out, const json_t *value, const struct around *up,
                       struct err *e);

static int enter(struct around *here, const json_t *value, const struct around *up, struct err *e)
{
    *here = (struct around){value, up, up ? up->depth + 1 : 1};
    if (here->depth > JSON_PARSER_MAX_DEPTH)
        return err_set(e, ERR_USAGE, "a value is nested deeper than %d", JSON_PARSER_MAX_DEPTH);
    for (; up; up = up->up) {
        if (up->value == value)
            return err_set(e, ERR_USAGE, "a value contains itself");
    }
    return 0;
}

static int write_array(struct buf *out, const json_t *array, const struct around *up, struct err *e)
{
    struct around here;
    size_t n = json_array_size(array);

    if (enter(&here, array, up, e) < 0)
        return -1;
    buf_add(out, "[", 1);
    for (size_t i = 0; i < n; i++) {
        if (i)
            buf_add(out, ", ", 2);
        if (write_value(out, json_array_get(array, i), &here, e) < 0)
            return -1;
    }
    buf_add(out, "]", 1);
    return 0;
}

static int write_object(struct buf *out, const json_t *object, const struct around *up,
                        struct err *e)
{
    struct around here;
    const char *key;
    json_t *member;
    bool first = true;

    if (enter(&here, object, up, e) < 0)
        return -1;
    buf_add(out, "{", 1);
    /* The iterator of jansson is not const-correct; nothing is changed. */
    json_object_foreach((json_t *)(uintptr_t)object, key, member)
    {
        if (!first)
            buf_add(out, ", ", 2);
        first = false;
        if (json_text_string(out, slice_of(key), e) < 0)
            return -1;
        buf_add(out, ": ", 2);
        if (write_value(out, member, &here, e) < 0)
            return -1;
    }
    buf_add(out, "}", 1);
    return 0;
}

static int write_value(struct buf *out, const json_t *value, const struct around *up, struct err *e)
{
    switch (value ? json_typeof(value) : JSON_NULL) {
    case JSON_OBJECT:
        return write_object(out, value, up, e);
    case JSON_ARRAY:
        return write_array(out, value, up, e);
    case JSON_STRING:
        return json_text_string(out,
                                slice_make(json_string_value(value), json_string_length(value)), e);
    case JSON_INTEGER:
        buf_addi(out, json_integer_value(value));
        return 0;
    case JSON_REAL:
        json_text_real(out, json_real_value(value));
        return 0;
    case JSON_TRUE:
        buf_adds(out, "true");
        return 0;
    case JSON_FALSE:
        buf_adds(out, "false");
        return 0;
    case JSON_NULL:
        break;
    }
    buf_adds(out, "null");
    return 0;
}

int json_text_value(struct buf *out, const json_t *value, struct err *e)
{
    return write_value(out, value, NULL, e);
}

/* An upper bound of the values in a text, without reading it: each but the first of a container
 * follows a comma, each container has an opening bracket. */
static size_t count_values(struct slice text)
{
    size_t count = 1;
    bool quoted = false;

    for (size_t i = 0; i < text.len; i++) {
        char c = text.ptr[i];

        if (quoted && c == '\\')
            i++;
        else if (c == '"')
            quoted = !quoted;
        else if (!quoted && (c == ',' || c == '[' || c == '{' || c == ':'))
            count++;
    }
    return count;
}

/* True when jansson got no memory since this was last cleared; its hook has no room for a pointer
 * of ours. */
static bool *ran_out(void)
{
    static _Thread_local bool flag;

    return &flag;
}

static void *watched_malloc(size_t size)
{
    void *memory = malloc(size);

    if (!memory)
        *ran_out() = true;
    return memory;
}

void json_text_watch_memory(void)
{
    json_set_alloc_funcs(watched_malloc, free);
}

json_t *json_text_read(struct slice text, const char *what, struct err *e)
{
    json_error_t cause;
    json_t *value;

    if (count_values(text) > JSON_TEXT_VALUES_MAX) {
        err_set(e, ERR_DEADLETTER, "%s holds more than %u values", what, JSON_TEXT_VALUES_MAX);
        return NULL;
    }
    *ran_out() = false;
    value =
        json_loadb(text.ptr ? text.ptr : "", text.len, JSON_ALLOW_NUL | JSON_DECODE_ANY, &cause);
    if (value && !*ran_out())
        return value;
    json_decref(value); /* it may lack a character */
    /* For most of what it has no memory for, jansson finds no words. */
    if (*ran_out() || !cause.text[0] || json_error_code(&cause) == json_error_out_of_memory)
        err_nomem(e);
    else
        err_set(e, ERR_DEADLETTER, "%s is not JSON: %s at byte %d", what, cause.text,
                cause.position);
    return NULL;
}

json_t *json_text_copy(const json_t *value)
{
    /* jansson's copy is not const-correct; nothing is changed. */
    json_t *copy = json_copy((json_t *)(uintptr_t)value);

    if (copy && json_object_size(copy) == json_object_size(value) &&
        json_array_size(copy) == json_array_size(value))
        return copy;
    json_decref(copy);
    return NULL;
}
