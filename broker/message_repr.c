/* Arguments as text for people, byte for byte what Celery's saferepr (5.2) makes of them. */
#include "broker/json_scan.h"
#include "broker/json_text.h"
#include "broker/message.h"

#include <stdio.h>

#define REPR_MAX    1024
#define REPR_LEVELS 3

/* left counts characters, not bytes. Once it is used up, ", ..." is written in place of the next
 * token, and after that only the brackets that close what is open. */
struct repr {
    struct buf *out;
    long left;
    int level;
    bool stopped;
};

static long count_chars(const char *text, size_t len)
{
    size_t plain = json_text_run(text, len);
    long n = (long)plain;

    for (size_t i = plain; i < len; i++)
        n += ((unsigned char)text[i] & 0xc0) != 0x80;
    return n;
}

/* True when the token may be written. */
static bool room(struct repr *r)
{
    if (!r->stopped && r->left <= 0) {
        buf_adds(r->out, ", ...");
        r->stopped = true;
        return false;
    }
    return !r->stopped;
}

static void put_bytes(struct repr *r, const char *token, size_t len)
{
    if (!room(r))
        return;
    buf_add(r->out, token, len);
    r->left -= count_chars(token, len);
}

static void put(struct repr *r, const char *token)
{
    put_bytes(r, token, strlen(token));
}

static void put_close(struct repr *r, const char *token)
{
    if (r->stopped)
        buf_adds(r->out, token);
    else
        put(r, token);
}

/* Celery cuts a long text at the last space of its first `max` characters. */
static size_t cut_len(const char *text, size_t len, long max)
{
    size_t end = 0, space;

    for (long n = 0; end < len; end++) {
        if (((unsigned char)text[end] & 0xc0) != 0x80 && n++ == max)
            break;
    }
    for (space = end; space > 0; space--) {
        if (text[space - 1] == ' ')
            return space - 1;
    }
    return end;
}

static void add_escaped(struct buf *out, const char *text, size_t len)
{
    const char *end = text + len, *quote;

    while (len && (quote = memchr(text, '\'', (size_t)(end - text)))) {
        buf_add(out, text, (size_t)(quote - text));
        buf_adds(out, "\\'");
        text = quote + 1;
    }
    buf_add(out, text, (size_t)(end - text));
}

static void put_quoted(struct repr *r, const char *text, size_t len)
{
    size_t before = r->out->len, n = len, added;
    long chars;
    bool cut;

    if (!room(r))
        return;
    chars = count_chars(text, len);
    cut = chars >= r->left;
    if (cut)
        n = cut_len(text, len, r->left);
    buf_adds(r->out, "'");
    add_escaped(r->out, text, n);
    buf_adds(r->out, cut ? "...'" : "'");
    added = r->out->len - before;
    r->left -= cut ? count_chars(buf_slice(r->out).ptr + before, added) : chars + (long)(added - n);
}

static void put_value(struct repr *r, const json_t *value);

/* False when the container is too deep to be shown. */
static bool open_container(struct repr *r, const char *open, const char *shut)
{
    char both[8];

    if (r->stopped)
        return false;
    if (r->level >= REPR_LEVELS) {
        snprintf(both, sizeof(both), "%s...%s", open, shut);
        put(r, both);
        return false;
    }
    r->level++;
    put(r, open);
    return true;
}

static void put_list(struct repr *r, const json_t *list, const char *open, const char *shut)
{
    size_t n = json_array_size(list);

    if (!open_container(r, open, shut))
        return;
    for (size_t i = 0; i < n && !r->stopped; i++) {
        put_value(r, json_array_get(list, i));
        if (i + 1 < n)
            put(r, ", ");
    }
    put_close(r, shut);
    r->level--;
}

static void put_dict(struct repr *r, const json_t *dict)
{
    size_t left = json_object_size(dict);
    const char *key;
    json_t *value;

    if (!open_container(r, "{", "}"))
        return;
    /* The iterator of jansson is not const-correct; nothing is changed. */
    json_object_foreach((json_t *)(uintptr_t)dict, key, value)
    {
        if (r->stopped)
            break;
        put_quoted(r, key, strlen(key));
        put(r, ": ");
        put_value(r, value);
        if (--left)
            put(r, ", ");
    }
    put_close(r, "}");
    r->level--;
}

static void put_number(struct repr *r, const json_t *value)
{
    struct buf text = BUF_INIT;

    if (json_is_integer(value))
        buf_addf(&text, "%lld", (long long)json_integer_value(value));
    else
        json_text_real(&text, json_real_value(value));
    put(r, buf_str(&text));
    r->out->failed |= text.failed;
    buf_release(&text);
}

static void put_value(struct repr *r, const json_t *value)
{
    switch (value ? json_typeof(value) : JSON_NULL) {
    case JSON_OBJECT:
        put_dict(r, value);
        break;
    case JSON_ARRAY:
        put_list(r, value, "[", "]");
        break;
    case JSON_STRING:
        put_quoted(r, json_string_value(value), json_string_length(value));
        break;
    case JSON_INTEGER:
    case JSON_REAL:
        put_number(r, value);
        break;
    case JSON_TRUE:
        put(r, "True");
        break;
    case JSON_FALSE:
        put(r, "False");
        break;
    case JSON_NULL:
        put(r, "None");
        break;
    }
}

void message_args_repr(struct buf *out, const json_t *args)
{
    struct repr r = {out, REPR_MAX, 0, false};

    put_list(&r, args, "(", json_array_size(args) == 1 ? ",)" : ")");
}

void message_kwargs_repr(struct buf *out, const json_t *kwargs)
{
    struct repr r = {out, REPR_MAX, 0, false};

    put_dict(&r, kwargs);
}

/* --- from text --- */

#define KEYS_MAX 16 /* of an object that is shown; with more it is not looked for equal ones */

static bool put_text(struct repr *r, int type, struct slice text, bool escaped);

static bool put_text_list(struct repr *r, struct slice text, const char *open, bool tuple)
{
    struct json_scan s;
    struct slice item;
    size_t n = 0;
    bool escaped;

    if (!open_container(r, open, tuple ? ")" : "]"))
        return true;
    json_scan_init(&s, text);
    json_scan_enter(&s, '[');
    while (json_scan_element(&s)) {
        int type = json_scan_value(&s, &item, &escaped);

        if (n++)
            put(r, ", ");
        if (r->stopped)
            break;
        if (!put_text(r, type, item, escaped))
            return false;
    }
    put_close(r, !tuple ? "]" : n == 1 ? ",)" : ")");
    r->level--;
    return !s.failed;
}

/* Of equal keys only the last counts, which is not known here. */
static bool is_new_key(struct slice keys[KEYS_MAX], size_t n, struct slice key)
{
    if (n == KEYS_MAX)
        return false;
    for (size_t i = 0; i < n; i++) {
        if (slice_eq(keys[i], key))
            return false;
    }
    keys[n] = key;
    return true;
}

static bool put_text_dict(struct repr *r, struct slice text)
{
    struct slice keys[KEYS_MAX], key, item;
    struct json_scan s;
    size_t n = 0;
    bool escaped;

    if (!open_container(r, "{", "}"))
        return true;
    json_scan_init(&s, text);
    json_scan_enter(&s, '{');
    while (json_scan_member(&s, &key)) {
        int type = json_scan_value(&s, &item, &escaped);

        if (!is_new_key(keys, n, key))
            return false;
        if (n++)
            put(r, ", ");
        put_quoted(r, key.ptr, key.len);
        put(r, ": ");
        if (!r->stopped && !put_text(r, type, item, escaped))
            return false;
    }
    put_close(r, "}");
    r->level--;
    return !s.failed;
}

/* Written as Python would: at most 15 digits, which a float keeps, none of them superfluous, and
 * not so small that an exponent is shorter. */
static bool is_python_real(struct slice text)
{
    const char *point = memchr(text.ptr, '.', text.len);
    size_t decimals = point ? (size_t)(text.ptr + text.len - point) - 1 : 0;
    bool zero = text.ptr[text.ptr[0] == '-'] == '0';

    if (text.len > 16 || decimals == 0 || (decimals > 1 && point[decimals] == '0'))
        return false;
    return !zero || decimals < 4 || memcmp(point + 1, "000", 3) != 0;
}

static bool put_text(struct repr *r, int type, struct slice text, bool escaped)
{
    switch (type) {
    case JSON_OBJECT:
        return put_text_dict(r, text);
    case JSON_ARRAY:
        return put_text_list(r, text, "[", false);
    case JSON_STRING:
        put_quoted(r, text.ptr, text.len);
        return !escaped;
    case JSON_INTEGER:
        put_bytes(r, text.ptr, text.len);
        return !slice_is(text, "-0");
    case JSON_REAL:
        put_bytes(r, text.ptr, text.len);
        return is_python_real(text);
    default:
        put(r, type == JSON_TRUE ? "True" : type == JSON_FALSE ? "False" : "None");
        return type >= 0;
    }
}

bool message_args_repr_text(struct buf *out, struct slice args)
{
    struct repr r = {out, REPR_MAX, 0, false};

    return put_text_list(&r, args, "(", true);
}

bool message_kwargs_repr_text(struct buf *out, struct slice kwargs)
{
    struct repr r = {out, REPR_MAX, 0, false};

    return put_text_dict(&r, kwargs);
}
