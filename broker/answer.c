#include "broker/answer.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

/* Length of the well-formed UTF-8 sequence at s, 0 when there is none (RFC 3629: no overlong forms,
 * no surrogates, nothing above U+10FFFF). */
static size_t utf8_len(const unsigned char *s, size_t len)
{
    static const struct {
        unsigned char lead_from, lead_to, second_from, second_to;
        unsigned char len;
    } forms[] = {
        {0xc2, 0xdf, 0x80, 0xbf, 2}, {0xe0, 0xe0, 0xa0, 0xbf, 3}, {0xe1, 0xec, 0x80, 0xbf, 3},
        {0xed, 0xed, 0x80, 0x9f, 3}, {0xee, 0xef, 0x80, 0xbf, 3}, {0xf0, 0xf0, 0x90, 0xbf, 4},
        {0xf1, 0xf3, 0x80, 0xbf, 4}, {0xf4, 0xf4, 0x80, 0x8f, 4},
    };

    for (size_t i = 0; i < sizeof(forms) / sizeof(forms[0]); i++) {
        if (s[0] < forms[i].lead_from || s[0] > forms[i].lead_to || len < forms[i].len)
            continue;
        if (s[1] < forms[i].second_from || s[1] > forms[i].second_to)
            return 0;
        for (size_t k = 2; k < forms[i].len; k++) {
            if ((s[k] & 0xc0) != 0x80)
                return 0;
        }
        return forms[i].len;
    }
    return 0;
}

/* Writes what stands at s, which is not plain ASCII text, and returns how many bytes that was. */
static size_t escape(struct buf *out, const unsigned char *s, size_t len)
{
    size_t n;

    if (*s == '"' || *s == '\\') {
        buf_addf(out, "\\%c", *s);
        return 1;
    }
    if (*s < 0x80) {
        buf_addf(out, "\\u%04x", *s);
        return 1;
    }
    n = utf8_len(s, len);
    if (n == 0) {
        buf_adds(out, "\\ufffd");
        return 1;
    }
    buf_add(out, s, n);
    return n;
}

static bool is_plain(unsigned char c)
{
    return c >= ' ' && c < 0x7f && c != '"' && c != '\\';
}

void answer_text(struct buf *out, struct slice text)
{
    const unsigned char *s = (const unsigned char *)text.ptr;
    size_t i = 0;

    if (!s) {
        buf_adds(out, "null");
        return;
    }
    buf_adds(out, "\"");
    while (i < text.len) {
        size_t run = i;

        while (run < text.len && is_plain(s[run]))
            run++;
        buf_add(out, s + i, run - i);
        i = run;
        if (i < text.len)
            i += escape(out, s + i, text.len - i);
    }
    buf_adds(out, "\"");
}

static void separate(struct buf *out)
{
    struct slice text = buf_slice(out);

    if (text.len && text.ptr[text.len - 1] == '}')
        buf_adds(out, ",");
}

static void add_text(struct buf *out, const char *name, struct slice text)
{
    buf_addf(out, ",\"%s\":", name);
    answer_text(out, text);
}

void answer_begin(struct buf *out)
{
    buf_adds(out, "[");
}

void answer_end(struct buf *out)
{
    buf_adds(out, "]");
}

void answer_queue(struct buf *out, const struct answer_queue *row)
{
    separate(out);
    buf_adds(out, "{\"queue\":");
    answer_text(out, row->queue);
    buf_addf(out,
             ",\"waiting\":%" PRId64 ",\"delayed\":%" PRId64 ",\"leased\":%" PRId64
             ",\"dead\":%" PRId64 ",\"unknown\":%" PRId64 "}",
             row->waiting, row->delayed, row->leased, row->dead, row->unknown);
}

void answer_totals(struct buf *out, const struct answer_totals *t)
{
    buf_addf(out,
             "{\"published\":%" PRId64 ",\"succeeded\":%" PRId64 ",\"failed\":%" PRId64
             ",\"retried\":%" PRId64 ",\"dead\":%" PRId64 ",\"waiting\":%" PRId64
             ",\"leased\":%" PRId64 ",\"delayed\":%" PRId64 ",\"duplicates\":%" PRId64
             ",\"purged\":%" PRId64 ",\"removed\":%" PRId64 "}",
             t->published, t->succeeded, t->failed, t->retried, t->dead, t->waiting, t->leased,
             t->delayed, t->duplicates, t->purged, t->removed);
}

void answer_peek(struct buf *out, const struct answer_peek *row)
{
    separate(out);
    buf_addf(out, "{\"state\":\"%s\",\"priority\":%d,\"not_before_ms\":%" PRId64, row->state,
             row->priority, row->not_before_ms);
    add_text(out, "envelope", row->envelope);
    buf_adds(out, "}");
}

const char *answer_grave(enum broker_grave grave)
{
    return grave == BROKER_UNKNOWN ? "unknown" : "dead";
}

void answer_dead(struct buf *out, const struct answer_dead *row)
{
    separate(out);
    buf_adds(out, "{\"handle\":");
    answer_text(out, row->handle);
    add_text(out, "queue", row->queue);
    buf_addf(out, ",\"grave\":\"%s\"", answer_grave(row->grave));
    add_text(out, "cause", row->cause);
    add_text(out, "id", row->id);
    add_text(out, "task", row->task);
    buf_addf(out, ",\"at_ms\":%" PRId64 ",\"size\":%zu", row->at_ms, row->size);
    if (row->envelope.ptr)
        add_text(out, "envelope", row->envelope);
    buf_adds(out, "}");
}

void answer_node(struct buf *out, struct slice node, struct slice json)
{
    json_t *root = json_loadb(json.ptr, json.len, JSON_ALLOW_NUL, NULL);
    char *text;

    if (json_is_object(root)) {
        if (!json_object_get(root, "node"))
            json_object_set_new(root, "node", json_stringn(node.ptr, node.len));
        text = json_dumps(root, JSON_COMPACT);
        separate(out);
        if (text)
            buf_adds(out, text);
        else
            out->failed = true;
        free(text);
    }
    json_decref(root);
}

void answer_check(struct buf *out, const char *check, enum answer_verdict verdict,
                  const char *advice, const char *fmt, ...)
{
    static const char *const words[] = {"ok", "warn", "bad"};
    char value[512];
    va_list args;

    va_start(args, fmt);
    vsnprintf(value, sizeof(value), fmt, args);
    va_end(args);
    separate(out);
    buf_adds(out, "{\"check\":");
    answer_text(out, slice_of(check));
    add_text(out, "value", slice_of(value));
    buf_addf(out, ",\"verdict\":\"%s\"", words[verdict]);
    add_text(out, "advice", slice_of(advice));
    buf_adds(out, "}");
}

void answer_count(struct buf *out, const char *name, int64_t n)
{
    buf_addf(out, "{\"%s\":%" PRId64 "}", name, n);
}
