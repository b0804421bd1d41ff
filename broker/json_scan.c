#include "broker/json_scan.h"

#include "broker/json_text.h"

#include <string.h>

#define DEPTH_MAX  64
#define DIGITS_MAX 18 /* fits in 64 bits whatever the digits are */
#define REAL_MAX   40

void json_scan_init(struct json_scan *s, struct slice text)
{
    *s = (struct json_scan){.at = text.ptr, .end = text.ptr + text.len, .failed = !text.ptr};
}

static bool give_up(struct json_scan *s)
{
    s->failed = true;
    return false;
}

/* The first byte that is not white space; 0 at the end, as a NUL would be an error as well. */
static char next(struct json_scan *s)
{
    while (s->at < s->end && (*s->at == ' ' || *s->at == '\n' || *s->at == '\t' || *s->at == '\r'))
        s->at++;
    return s->at < s->end ? *s->at : '\0';
}

/* The next quote, backslash or byte that a plain string does not hold. */
static const char *run_end(const char *p, const char *end)
{
    for (;;) {
        p += json_text_run(p, (size_t)(end - p));
        if (p == end || *p != 0x7f)
            return p;
        p++; /* Python escapes it, others need not */
    }
}

/* Passes the escape at p, or NULL: surrogates and NUL are for the full reader. */
static const char *pass_escape(const char *p, const char *end)
{
    static const char hex[] = "0123456789abcdefABCDEF";

    if (end - p < 2 || !strchr("\"\\/bfnrtu", p[1]) || p[1] == '\0')
        return NULL;
    if (p[1] != 'u')
        return p + 2;
    if (end - p < 6 || ((p[2] == 'd' || p[2] == 'D') && p[3] >= '8') || !memcmp(p + 2, "0000", 4))
        return NULL;
    for (int i = 2; i < 6; i++) {
        if (!memchr(hex, p[i], sizeof(hex) - 1))
            return NULL;
    }
    return p + 6;
}

/* At a quote. */
static bool pass_string(struct json_scan *s, struct slice *text, bool *escaped)
{
    const char *begin = s->at + 1, *p = begin;

    *escaped = false;
    for (;;) {
        p = run_end(p, s->end);
        if (p < s->end && *p == '\\') {
            *escaped = true;
            p = pass_escape(p, s->end);
            if (!p)
                return give_up(s);
            continue;
        }
        if (p == s->end || *p != '"')
            return give_up(s);
        *text = slice_make(begin, (size_t)(p - begin));
        s->at = p + 1;
        return true;
    }
}

char json_scan_peek(struct json_scan *s)
{
    return s->failed ? '\0' : next(s);
}

bool json_scan_enter(struct json_scan *s, char open)
{
    if (s->failed || next(s) != open)
        return give_up(s);
    s->at++;
    s->fresh = true;
    return true;
}

/* To the next item of a container, or past its end. */
static bool advance(struct json_scan *s, char close)
{
    bool fresh = s->fresh;
    char c = s->failed ? '\0' : next(s);

    s->fresh = false;
    if (c == close) {
        s->at++;
        return false;
    }
    if (fresh)
        return c ? true : give_up(s);
    if (c != ',')
        return give_up(s);
    s->at++;
    return next(s) ? true : give_up(s);
}

bool json_scan_member(struct json_scan *s, struct slice *key)
{
    bool escaped;

    if (!advance(s, '}'))
        return false;
    if (*s->at != '"' || !pass_string(s, key, &escaped) || escaped || next(s) != ':')
        return give_up(s);
    s->at++;
    return true;
}

bool json_scan_element(struct json_scan *s)
{
    return advance(s, ']');
}

static size_t count_digits(const char *p, const char *end)
{
    const char *begin = p;

    while (p < end && *p >= '0' && *p <= '9')
        p++;
    return (size_t)(p - begin);
}

static int pass_number(struct json_scan *s)
{
    const char *p = s->at + (*s->at == '-');
    size_t digits = count_digits(p, s->end), decimals;
    int type = JSON_INTEGER;

    if (digits == 0 || digits > DIGITS_MAX || (*p == '0' && digits > 1))
        return -1;
    p += digits;
    if (p < s->end && *p == '.') {
        decimals = count_digits(p + 1, s->end);
        if (decimals == 0 || decimals > REAL_MAX)
            return -1;
        p += 1 + decimals;
        type = JSON_REAL;
    }
    if (p < s->end && (*p == 'e' || *p == 'E'))
        return -1;
    s->at = p;
    return type;
}

static int pass_word(struct json_scan *s, const char *word, int type)
{
    size_t len = strlen(word);

    if ((size_t)(s->end - s->at) < len || memcmp(s->at, word, len) != 0)
        return -1;
    s->at += len;
    return type;
}

static int pass_value(struct json_scan *s, struct slice *text, bool *escaped, int depth);

static int pass_container(struct json_scan *s, int type, int depth)
{
    struct slice ignored;
    bool escaped;

    if (depth >= DEPTH_MAX || !json_scan_enter(s, type == JSON_OBJECT ? '{' : '['))
        return -1;
    while (type == JSON_OBJECT ? json_scan_member(s, &ignored) : json_scan_element(s))
        pass_value(s, &ignored, &escaped, depth + 1);
    return s->failed ? -1 : type;
}

/* Sets `failed` when it returns -1. */
static int pass_value(struct json_scan *s, struct slice *text, bool *escaped, int depth)
{
    char c = s->failed ? '\0' : next(s);
    const char *begin = s->at;
    int type = -1;

    if (c == '"')
        return pass_string(s, text, escaped) ? JSON_STRING : -1;
    *escaped = false;
    if (c == '{' || c == '[')
        type = pass_container(s, c == '{' ? JSON_OBJECT : JSON_ARRAY, depth);
    else if (c == '-' || (c >= '0' && c <= '9'))
        type = pass_number(s);
    else if (c == 'n')
        type = pass_word(s, "null", JSON_NULL);
    else if (c == 't')
        type = pass_word(s, "true", JSON_TRUE);
    else if (c == 'f')
        type = pass_word(s, "false", JSON_FALSE);
    s->failed |= type < 0;
    *text = slice_make(begin, (size_t)(s->at - begin));
    return type;
}

int json_scan_value(struct json_scan *s, struct slice *text, bool *escaped)
{
    struct slice ignored;
    bool unused;

    return pass_value(s, text ? text : &ignored, escaped ? escaped : &unused, 0);
}

bool json_scan_done(struct json_scan *s)
{
    return !s->failed && !next(s) && s->at == s->end;
}

json_int_t json_scan_integer(struct slice text)
{
    size_t i = text.len && text.ptr[0] == '-';
    json_int_t n = 0;

    for (; i < text.len; i++)
        n = 10 * n + (text.ptr[i] - '0');
    return text.len && text.ptr[0] == '-' ? -n : n;
}
