/* A message of the common form, read from its text: nothing becomes a value but the fields that a
 * dispatcher needs. What is not of that form, be it odd, old or poison, goes to message_parse,
 * which alone finds words for it. */
#include "broker/json_scan.h"
#include "broker/message_parts.h"

#include <stdlib.h>

#define NAMES_MAX 16 /* strings that struct message has a member for */
#define HEADERS_MAX                                                                                \
    ((size_t)1 << 20) /* bytes beside the body: below JSON_TEXT_VALUES_MAX values                  \
                       */

struct skim {
    struct message *m;
    struct json_scan scan;
    struct {
        size_t at;
        struct slice text;
    } names[NAMES_MAX];
    size_t names_len;
    size_t names_bytes;
    uint32_t seen; /* of the object at hand: a bit per known member */
    bool has_id, has_task;
};

/* False the second time: of two members with one name the last would count. */
static bool first_time(struct skim *k, int number)
{
    uint32_t bit = 1u << number;
    bool first = !(k->seen & bit);

    k->seen |= bit;
    return first;
}

static bool keep_name(struct skim *k, size_t at, struct slice text)
{
    if (k->names_len == NAMES_MAX)
        return false;
    k->names[k->names_len].at = at;
    k->names[k->names_len++].text = text;
    k->names_bytes += text.len + 1;
    return true;
}

static bool keep_integer(struct skim *k, const struct message_field *f, struct slice text)
{
    int64_t number = json_scan_integer(text);

    if (number < f->min || number > f->max)
        return false;
    if (f->at != MESSAGE_NOWHERE)
        *(int64_t *)(void *)((char *)k->m + f->at) = number;
    return true;
}

static bool keep_field(struct skim *k, const struct message_field *f, int type, struct slice text,
                       bool escaped)
{
    if (type == JSON_NULL)
        return true;
    if (type < 0 || !(f->kinds & MESSAGE_KIND(type)))
        return false;
    if (type == JSON_INTEGER)
        return keep_integer(k, f, text);
    if (type != JSON_STRING || f->at == MESSAGE_NOWHERE)
        return true;
    return !escaped && keep_name(k, f->at, text);
}

/* ---- headers ---- */

static bool read_id(struct skim *k)
{
    struct slice text;
    bool escaped;

    k->has_id = json_scan_value(&k->scan, &text, &escaped) == JSON_STRING && !escaped && text.len &&
                text.len <= MESSAGE_NAME_MAX;
    return k->has_id && keep_name(k, offsetof(struct message, id), text);
}

static bool read_limit(struct skim *k, double *limit_s)
{
    struct slice text;
    int type = json_scan_element(&k->scan) ? json_scan_value(&k->scan, &text, NULL) : -1;

    if (type == JSON_INTEGER)
        *limit_s = (double)json_scan_integer(text);
    return type == JSON_NULL || (type == JSON_INTEGER && *limit_s >= 0 && *limit_s <= 1e9);
}

static bool read_limits(struct skim *k)
{
    return json_scan_enter(&k->scan, '[') && read_limit(k, &k->m->hard_limit_s) &&
           read_limit(k, &k->m->soft_limit_s) && !json_scan_element(&k->scan) && !k->scan.failed;
}

static bool read_flag(struct skim *k, const char *name)
{
    int type = json_scan_value(&k->scan, NULL, NULL);

    if (type != JSON_TRUE && type != JSON_FALSE)
        return type == JSON_NULL;
    if (strcmp(name, "ignore_result") == 0)
        k->m->ignore_result = type == JSON_TRUE;
    else
        k->m->redelivered |= type == JSON_TRUE;
    return true;
}

static bool read_header(struct skim *k, struct slice name)
{
    const struct message_field *f;
    int number = message_header_field(name, &f), type;
    struct slice text;
    bool escaped;

    if (slice_is(name, "id"))
        return !k->has_id && read_id(k);
    if (slice_is(name, MESSAGE_H_DEDUP))
        return false;
    if (number >= 0 && !first_time(k, number))
        return false;
    if (slice_is(name, "timelimit"))
        return read_limits(k);
    if (slice_is(name, "ignore_result") || slice_is(name, "redelivered"))
        return read_flag(k, f->name);
    k->has_task |= slice_is(name, "task");
    type = json_scan_value(&k->scan, &text, &escaped);
    return number < 0 ? type >= 0 : keep_field(k, f, type, text, escaped);
}

static bool read_headers(struct skim *k)
{
    struct slice name;

    if (!json_scan_enter(&k->scan, '{'))
        return false;
    k->seen = 0;
    while (json_scan_member(&k->scan, &name)) {
        if (!read_header(k, name))
            return false;
    }
    return !k->scan.failed && k->has_id && k->has_task;
}

/* ---- properties ---- */

enum { INFO_EXCHANGE = 1, INFO_ROUTING_KEY = 2, INFO_REDELIVERED = 4 };

static bool read_delivery_info(struct skim *k)
{
    struct slice name, text;
    unsigned seen = 0;

    if (!json_scan_enter(&k->scan, '{'))
        return false;
    while (json_scan_member(&k->scan, &name)) {
        unsigned which = slice_is(name, "exchange")      ? INFO_EXCHANGE
                         : slice_is(name, "routing_key") ? INFO_ROUTING_KEY
                         : slice_is(name, "redelivered") ? INFO_REDELIVERED
                                                         : 0;
        bool escaped;
        int type = json_scan_value(&k->scan, &text, &escaped);

        if (type < 0 || seen & which ||
            (which & (INFO_EXCHANGE | INFO_ROUTING_KEY) && (type != JSON_STRING || escaped)))
            return false;
        if (which == INFO_ROUTING_KEY && !keep_name(k, offsetof(struct message, queue), text))
            return false;
        k->m->redelivered |= which == INFO_REDELIVERED && type == JSON_TRUE;
        seen |= which;
    }
    return !k->scan.failed && (seen & INFO_EXCHANGE) && (seen & INFO_ROUTING_KEY);
}

static bool read_property(struct skim *k, struct slice name, bool *has_info, bool *has_tag)
{
    const struct message_field *f;
    int number = message_property_field(name, &f), type;
    struct slice text;
    bool escaped;

    if (slice_is(name, "delivery_info")) {
        *has_info = !*has_info && read_delivery_info(k);
        return *has_info;
    }
    if (number >= 0 && !first_time(k, number))
        return false;
    type = json_scan_value(&k->scan, &text, &escaped);
    if (number < 0)
        return type >= 0;
    if (slice_is(name, "delivery_tag"))
        *has_tag = type != JSON_NULL;
    if (slice_is(name, "priority")) {
        if (type == JSON_INTEGER)
            k->m->priority = message_clamp_priority(json_scan_integer(text));
        else if (type != JSON_NULL)
            return false;
    }
    return keep_field(k, f, type, text, escaped);
}

static bool read_properties(struct skim *k)
{
    bool has_info = false, has_tag = false;
    struct slice name;

    if (!json_scan_enter(&k->scan, '{'))
        return false;
    k->seen = 0;
    while (json_scan_member(&k->scan, &name)) {
        if (!read_property(k, name, &has_info, &has_tag))
            return false;
    }
    return !k->scan.failed && has_info && has_tag;
}

/* ---- the envelope ---- */

static bool read_word(struct skim *k, const char *wanted, bool may_be_null)
{
    struct slice text;
    bool escaped;
    int type = json_scan_value(&k->scan, &text, &escaped);

    return (type == JSON_STRING && slice_is(text, wanted)) || (may_be_null && type == JSON_NULL);
}

static bool read_body(struct skim *k)
{
    bool escaped;

    return json_scan_value(&k->scan, &k->m->body, &escaped) == JSON_STRING && !escaped;
}

static bool read_type(struct skim *k)
{
    return read_word(k, "application/json", false);
}

static bool read_encoding(struct skim *k)
{
    return read_word(k, "utf-8", true);
}

static bool refuse(struct skim *k)
{
    (void)k;
    return false;
}

static const struct {
    const char *name;
    bool (*read)(struct skim *k);
    bool needed;
} parts[] = {
    {"body", read_body, true},
    {"headers", read_headers, true},
    {"properties", read_properties, true},
    {"content-type", read_type, true},
    {"content-encoding", read_encoding, false},
    {MESSAGE_REFUSED, refuse, false},
};

#define PARTS (sizeof(parts) / sizeof(parts[0]))

static bool read_envelope(struct skim *k)
{
    bool seen[PARTS] = {false};
    struct slice name;

    if (!json_scan_enter(&k->scan, '{'))
        return false;
    while (json_scan_member(&k->scan, &name)) {
        size_t i = 0;

        while (i < PARTS && !slice_is(name, parts[i].name))
            i++;
        if (i == PARTS) {
            json_scan_value(&k->scan, NULL, NULL);
        } else {
            if (seen[i] || !parts[i].read(k))
                return false;
            seen[i] = true;
        }
    }
    for (size_t i = 0; i < PARTS; i++) {
        if (parts[i].needed && !seen[i])
            return false;
    }
    return json_scan_done(&k->scan);
}

static bool reserve_names(struct message *m, size_t bytes)
{
    char *names = bytes > m->names_cap ? realloc(m->names, bytes) : m->names;

    if (!names)
        return false;
    m->names_cap = bytes > m->names_cap ? bytes : m->names_cap;
    m->names = names;
    return true;
}

/* One piece of memory for all strings, each with a NUL behind it. */
static bool copy_names(struct skim *k)
{
    char *to;

    if (!reserve_names(k->m, k->names_bytes))
        return false;
    to = k->m->names;
    for (size_t i = 0; i < k->names_len; i++) {
        struct slice text = k->names[i].text;

        *(const char **)(void *)((char *)k->m + k->names[i].at) = to;
        memcpy(to, text.ptr, text.len);
        to[text.len] = '\0';
        to += text.len + 1;
    }
    return true;
}

int message_skim(struct message *m, struct slice envelope, struct err *e)
{
    struct skim k = {.m = m};

    message_clear(m);
    m->protocol = 2;
    m->text = envelope;
    json_scan_init(&k.scan, envelope);
    if (envelope.len <= MESSAGE_ENVELOPE_MAX && read_envelope(&k) &&
        envelope.len - m->body.len <= HEADERS_MAX && copy_names(&k) &&
        message_complete_headers(m, NULL) == 0)
        return 0;
    message_release(m);
    return message_parse(m, envelope, e);
}
