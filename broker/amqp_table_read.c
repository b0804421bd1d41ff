/* JSON text as a field table, in one pass and without a tree in between: this happens for every
 * message that is sent. Reads what jansson reads, and nothing else. */
#include "broker/amqp_table.h"
#include "broker/amqp_typed.h"
#include "broker/json_text.h"

#include <locale.h>
#include <math.h>
#include <stdlib.h>

struct reader {
    const char *start;
    const char *at;
    const char *end;
    int depth; /* containers around the value being read */
    int depth_max;
    amqp_pool_t *pool;
    struct err *e;
};

static int read_value(struct reader *r, amqp_field_value_t *out);

static int broken(const struct reader *r, const char *why)
{
    return err_set(r->e, ERR_USAGE, "it is not JSON: %s at byte %zu", why,
                   (size_t)(r->at - r->start));
}

static void skip_space(struct reader *r)
{
    while (r->at < r->end && (*r->at == ' ' || *r->at == '\n' || *r->at == '\t' || *r->at == '\r'))
        r->at++;
}

/* Blanks, then the character if it is there. */
static bool accept(struct reader *r, char c)
{
    skip_space(r);
    if (r->at == r->end || *r->at != c)
        return false;
    r->at++;
    return true;
}

/* --- strings --- */

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static bool read_hex4(struct reader *r, uint32_t *unit)
{
    *unit = 0;
    if (r->end - r->at < 4)
        return false;
    for (int i = 0; i < 4; i++) {
        int digit = hex_digit(*r->at++);

        if (digit < 0)
            return false;
        *unit = *unit << 4 | (uint32_t)digit;
    }
    return true;
}

/* Behind "\u". Half of a pair alone is no character. */
static bool read_code(struct reader *r, uint32_t *code)
{
    uint32_t low;

    if (!read_hex4(r, code) || (*code >= 0xdc00 && *code <= 0xdfff))
        return false;
    if (*code < 0xd800 || *code > 0xdbff)
        return true;
    if (r->end - r->at < 2 || r->at[0] != '\\' || r->at[1] != 'u')
        return false;
    r->at += 2;
    if (!read_hex4(r, &low) || low < 0xdc00 || low > 0xdfff)
        return false;
    *code = 0x10000 + ((*code - 0xd800) << 10) + (low - 0xdc00);
    return true;
}

static char *put_code(char *to, uint32_t code)
{
    if (code < 0x80) {
        *to++ = (char)code;
        return to;
    }
    if (code < 0x800) {
        *to++ = (char)(0xc0 | code >> 6);
    } else if (code < 0x10000) {
        *to++ = (char)(0xe0 | code >> 12);
        *to++ = (char)(0x80 | (code >> 6 & 0x3f));
    } else {
        *to++ = (char)(0xf0 | code >> 18);
        *to++ = (char)(0x80 | (code >> 12 & 0x3f));
        *to++ = (char)(0x80 | (code >> 6 & 0x3f));
    }
    *to++ = (char)(0x80 | (code & 0x3f));
    return to;
}

/* Behind a backslash. */
static char *read_escape(struct reader *r, char *to)
{
    static const char shorts[] = "\"\"\\\\//b\bf\fn\nr\rt\t";
    uint32_t code;
    char c = r->at < r->end ? *r->at++ : '\0';

    if (c == 'u')
        return read_code(r, &code) ? put_code(to, code) : NULL;
    for (const char *s = shorts; *s; s += 2) {
        if (*s == c) {
            *to = s[1];
            return to + 1;
        }
    }
    return NULL;
}

/* Bytes of the next character of a string that stands for itself: 0 at a quote or backslash, and
 * with an error set where no string goes on. */
static size_t plain_len(const struct reader *r)
{
    unsigned char c = r->at < r->end ? (unsigned char)*r->at : '\0';
    uint32_t code;
    size_t len;

    if (c == '"' || c == '\\')
        return 0;
    if (c < ' ') {
        broken(r, r->at < r->end ? "a control character in a string" : "a string without end");
        return 0;
    }
    if (c < 0x80)
        return 1;
    len = json_text_utf8((const unsigned char *)r->at, (size_t)(r->end - r->at), &code);
    if (!len)
        broken(r, "a string that is not UTF-8");
    return len;
}

static void skip_plain(struct reader *r)
{
    size_t len;

    while ((len = plain_len(r)))
        r->at += len;
}

static bool at_delimiter(const struct reader *r)
{
    return r->at < r->end && (*r->at == '"' || *r->at == '\\');
}

/* From the first backslash on; begin is the string's first byte. */
static int read_escaped(struct reader *r, const char *begin, amqp_bytes_t *out)
{
    const char *close = r->at;
    char *to;

    while (close < r->end && *close != '"')
        close += *close == '\\' ? 2 : 1;
    if (close >= r->end)
        return broken(r, "a string without end");
    out->bytes = amqp_pool_alloc(r->pool, (size_t)(close - begin));
    if (!out->bytes)
        return err_nomem(r->e);
    to = out->bytes;
    for (;;) {
        memcpy(to, begin, (size_t)(r->at - begin));
        to += r->at - begin;
        if (*r->at++ == '"')
            break;
        to = read_escape(r, to);
        if (!to)
            return broken(r, "an escape that is none");
        begin = r->at;
        skip_plain(r);
        if (!at_delimiter(r))
            return -1;
    }
    out->len = (size_t)(to - (char *)out->bytes);
    return 0;
}

/* Behind the quote. */
static int read_string(struct reader *r, amqp_bytes_t *out)
{
    const char *begin = r->at;

    skip_plain(r);
    if (!at_delimiter(r))
        return -1;
    if (*r->at == '\\')
        return read_escaped(r, begin, out);
    *out = (amqp_bytes_t){(size_t)(r->at - begin), (void *)(uintptr_t)begin};
    r->at++;
    return 0;
}

/* --- numbers and words --- */

static bool skip_digits(struct reader *r)
{
    const char *begin = r->at;

    while (r->at < r->end && *r->at >= '0' && *r->at <= '9')
        r->at++;
    return r->at > begin;
}

/* 1 for a real, 0 for an integer, -1 for what is no number. */
static int skip_number(struct reader *r)
{
    bool real = false;

    if (*r->at == '-')
        r->at++;
    if (r->at < r->end && *r->at == '0')
        r->at++;
    else if (!skip_digits(r))
        return -1;
    if (r->at < r->end && *r->at == '.') {
        real = true;
        r->at++;
        if (!skip_digits(r))
            return -1;
    }
    if (r->at < r->end && (*r->at | 0x20) == 'e') {
        real = true;
        r->at++;
        if (r->at < r->end && (*r->at == '+' || *r->at == '-'))
            r->at++;
        if (!skip_digits(r))
            return -1;
    }
    return real;
}

static int make_integer(struct reader *r, const char *begin, amqp_field_value_t *out)
{
    bool negative = *begin == '-';
    uint64_t limit = negative ? (uint64_t)INT64_MAX + 1 : INT64_MAX, number = 0;

    for (const char *p = begin + negative; p < r->at; p++) {
        unsigned digit = (unsigned)(*p - '0');

        if (number > (limit - digit) / 10)
            return broken(r, "an integer beyond 64 bits");
        number = number * 10 + digit;
    }
    *out = amqp_value_of_integer(negative ? (int64_t)(0 - number) : (int64_t)number);
    return 0;
}

/* strtod wants an end, and the point of the locale that a host program may have set. */
static int make_real(struct reader *r, const char *begin, amqp_field_value_t *out)
{
    size_t len = (size_t)(r->at - begin);
    char *copy = amqp_pool_alloc(r->pool, len + 1);
    char *point;

    if (!copy)
        return err_nomem(r->e);
    memcpy(copy, begin, len);
    copy[len] = '\0';
    point = memchr(copy, '.', len);
    if (point)
        *point = *localeconv()->decimal_point;
    out->kind = AMQP_FIELD_KIND_F64;
    out->value.f64 = strtod(copy, NULL);
    return isfinite(out->value.f64) ? 0 : broken(r, "a real that is too large");
}

static int read_number(struct reader *r, amqp_field_value_t *out)
{
    const char *begin = r->at;
    int real = skip_number(r);

    if (real < 0)
        return broken(r, "a number that is none");
    return real ? make_real(r, begin, out) : make_integer(r, begin, out);
}

static int read_word(struct reader *r, amqp_field_value_t *out)
{
    static const struct {
        struct slice word;
        uint8_t kind;
        bool truth;
    } words[] = {{{"null", 4}, AMQP_FIELD_KIND_VOID, false},
                 {{"true", 4}, AMQP_FIELD_KIND_BOOLEAN, true},
                 {{"false", 5}, AMQP_FIELD_KIND_BOOLEAN, false}};

    for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
        size_t len = words[i].word.len;

        if ((size_t)(r->end - r->at) >= len && memcmp(r->at, words[i].word.ptr, len) == 0) {
            out->kind = words[i].kind;
            out->value.boolean = words[i].truth;
            r->at += len;
            return 0;
        }
    }
    return broken(r, "no value");
}

/* --- containers --- */

/* Room for one more; full ones are left behind in the pool. */
static void *make_room(struct reader *r, void *old, int n, size_t size)
{
    bool full = n == 0 || (n >= 8 && (n & (n - 1)) == 0);
    size_t room = n == 0 ? 8 : 2 * (size_t)n;
    void *more;

    if (!full)
        return old;
    more = amqp_pool_alloc(r->pool, room * size);
    if (!more)
        err_nomem(r->e);
    else if (n)
        memcpy(more, old, (size_t)n * size);
    return more;
}

static int enter(struct reader *r)
{
    if (++r->depth > r->depth_max)
        return err_set(r->e, ERR_USAGE, "it is nested deeper than %d", r->depth_max);
    return 0;
}

static int read_array(struct reader *r, amqp_array_t *out)
{
    *out = (amqp_array_t){0};
    if (enter(r) < 0)
        return -1;
    if (!accept(r, ']')) {
        do {
            out->entries = make_room(r, out->entries, out->num_entries, sizeof(*out->entries));
            if (!out->entries || read_value(r, &out->entries[out->num_entries++]) < 0)
                return -1;
        } while (accept(r, ','));
        if (!accept(r, ']'))
            return broken(r, "an array without end");
    }
    r->depth--;
    return 0;
}

static int read_name(struct reader *r, amqp_bytes_t *out)
{
    if (!accept(r, '"'))
        return broken(r, "no name");
    if (read_string(r, out) < 0)
        return -1;
    if (out->len && memchr(out->bytes, '\0', out->len))
        return broken(r, "a name with NUL");
    if (out->len > AMQP_SHORT_MAX)
        return err_set(r->e, ERR_USAGE,
                       "the name of a header is longer than %d bytes: \"%.32s...\"", AMQP_SHORT_MAX,
                       (const char *)out->bytes);
    return accept(r, ':') ? 0 : broken(r, "no colon");
}

/* Of two members of one name both stay: whoever looks takes the last. */
static int read_table(struct reader *r, amqp_table_t *out)
{
    *out = (amqp_table_t){0};
    if (enter(r) < 0)
        return -1;
    if (!accept(r, '}')) {
        do {
            amqp_table_entry_t *entry;

            out->entries = make_room(r, out->entries, out->num_entries, sizeof(*out->entries));
            if (!out->entries)
                return -1;
            entry = &out->entries[out->num_entries++];
            if (read_name(r, &entry->key) < 0 || read_value(r, &entry->value) < 0)
                return -1;
        } while (accept(r, ','));
        if (!accept(r, '}'))
            return broken(r, "an object without end");
    }
    r->depth--;
    return 0;
}

static int read_object(struct reader *r, amqp_field_value_t *out)
{
    out->kind = AMQP_FIELD_KIND_TABLE;
    if (read_table(r, &out->value.table) < 0)
        return -1;
    return typed_read(out, r->pool, r->e);
}

static int read_value(struct reader *r, amqp_field_value_t *out)
{
    skip_space(r);
    switch (r->at < r->end ? *r->at : '\0') {
    case '"':
        r->at++;
        out->kind = AMQP_FIELD_KIND_UTF8;
        return read_string(r, &out->value.bytes);
    case '{':
        r->at++;
        return read_object(r, out);
    case '[':
        r->at++;
        out->kind = AMQP_FIELD_KIND_ARRAY;
        return read_array(r, &out->value.array);
    case '-':
    case '0':
    case '1':
    case '2':
    case '3':
    case '4':
    case '5':
    case '6':
    case '7':
    case '8':
    case '9':
        return read_number(r, out);
    }
    return read_word(r, out);
}

int amqp_table_from_text(amqp_table_t *out, struct slice text, int depth_max, amqp_pool_t *pool,
                         struct err *e)
{
    const char *start = text.ptr ? text.ptr : "";
    struct reader r = {start, start, start + text.len, 0, depth_max, pool, e};

    *out = (amqp_table_t){0};
    if (!accept(&r, '{'))
        return broken(&r, "no object");
    if (read_table(&r, out) < 0)
        return -1;
    skip_space(&r);
    return r.at == r.end ? 0 : broken(&r, "something behind the end");
}

int amqp_table_from_json(amqp_table_t *out, const json_t *object, amqp_pool_t *pool, struct err *e)
{
    struct buf text = BUF_INIT;
    char *copy = NULL;
    int status = -1;

    *out = (amqp_table_t){0};
    if (!object)
        return 0;
    if (!json_is_object(object))
        return err_set(e, ERR_USAGE, "headers must be an object");
    if (json_text_value(&text, object, e) < 0)
        goto out;
    if (!text.failed)
        copy = amqp_pool_alloc(pool, text.len);
    if (!copy) {
        err_nomem(e);
        goto out;
    }
    memcpy(copy, buf_str(&text), text.len);
    status = amqp_table_from_text(out, slice_make(copy, text.len), AMQP_TABLE_DEPTH_MAX, pool, e);
out:
    buf_release(&text);
    return status;
}
