#include "broker/redis_keys.h"

#include "broker/message.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>

_Static_assert(sizeof(struct redis_lease) == 32, "a lease has padding");
_Static_assert(sizeof(struct redis_lease) <= sizeof(struct broker_receipt),
               "a receipt is too small");

const char *redis_step_suffix(int step)
{
    static const char *const suffixes[REDIS_STEPS] = {"", REDIS_SEP "3", REDIS_SEP "6",
                                                      REDIS_SEP "9"};

    return suffixes[step];
}

int redis_step_of(int priority)
{
    if (priority < 0)
        return 0;
    return priority > 9 ? REDIS_STEPS - 1 : priority / 3;
}

void redis_lease_store(struct broker_receipt *to, const struct redis_lease *lease)
{
    memset(to, 0, sizeof(*to));
    memcpy(to->bytes, lease, sizeof(*lease));
}

void redis_lease_load(struct redis_lease *to, const struct broker_receipt *from)
{
    memcpy(to, from->bytes, sizeof(*to));
}

/* --- fields --- */

void redis_field_head(struct buf *out, const char *node, uint64_t generation)
{
    buf_addf(out, "%s/%020" PRIu64 "/", node, generation);
}

void redis_field_tail(struct buf *out, uint32_t lease_ms, uint32_t instance)
{
    buf_addf(out, "/%010" PRIu32 "/%08" PRIx32, lease_ms, instance);
}

void redis_field(struct buf *out, const char *node, const struct redis_lease *lease)
{
    redis_field_head(out, node, lease->generation);
    buf_addf(out, "%0*" PRIu64, REDIS_FENCE_DIGITS, lease->fence);
    redis_field_tail(out, lease->lease_ms, lease->instance);
}

/* Takes the part behind the last slash off. */
static bool cut_number(struct slice *text, int base, uint64_t max, uint64_t *out)
{
    char copy[24];
    char *end;
    size_t at = text->len;

    while (at > 0 && text->ptr[at - 1] != '/')
        at--;
    if (at == 0 || text->len == at || text->len - at >= sizeof(copy))
        return false;
    memcpy(copy, text->ptr + at, text->len - at);
    copy[text->len - at] = '\0';
    if (copy[0] == '-' || copy[0] == '+' || copy[0] == ' ')
        return false;
    *out = strtoull(copy, &end, base);
    text->len = at - 1;
    return *end == '\0' && *out <= max;
}

int redis_field_parse(struct slice field, struct slice *node, struct redis_lease *lease)
{
    uint64_t n[4];

    *lease = (struct redis_lease){0};
    if (!cut_number(&field, 16, UINT32_MAX, &n[0]) || !cut_number(&field, 10, UINT32_MAX, &n[1]) ||
        !cut_number(&field, 10, UINT64_MAX, &n[2]) || !cut_number(&field, 10, UINT64_MAX, &n[3]))
        return -1;
    lease->instance = (uint32_t)n[0];
    lease->lease_ms = (uint32_t)n[1];
    lease->fence = n[2];
    lease->generation = n[3];
    *node = field;
    return 0;
}

void redis_quote(struct buf *out, struct slice text)
{
    buf_adds(out, "\"");
    for (size_t i = 0; i < text.len; i++) {
        unsigned char c = (unsigned char)text.ptr[i];

        if (c == '"' || c == '\\')
            buf_addf(out, "\\%c", c);
        else if (c < 0x20)
            buf_addf(out, "\\u%04x", c);
        else
            buf_add(out, &text.ptr[i], 1);
    }
    buf_adds(out, "\"");
}

void redis_value_tail(struct buf *out, struct slice queue)
{
    buf_adds(out, ",\"\",");
    redis_quote(out, queue);
    buf_adds(out, "]");
}

/* --- delayed messages --- */

void redis_tag(struct buf *out, uint64_t number, uint32_t instance, int priority,
               struct slice queue)
{
    buf_addf(out, "%016" PRIx64 "%08" PRIx32 "/%d/", number, instance, priority);
    buf_add(out, queue.ptr, queue.len);
}

int redis_tag_parse(struct slice tag, int *priority, struct slice *queue)
{
    if (tag.len < 28 || tag.ptr[24] != '/' || tag.ptr[26] != '/')
        return -1;
    *priority = tag.ptr[25] - '0';
    *queue = slice_make(tag.ptr + 27, tag.len - 27);
    return *priority >= 0 && *priority <= 9 ? 0 : -1;
}

/* --- envelopes --- */

static int priority_of(const json_t *envelope)
{
    const json_t *p = json_object_get(json_object_get(envelope, "properties"), "priority");
    json_int_t n = json_is_integer(p) ? json_integer_value(p) : 0;

    return n < 0 ? 0 : n > 9 ? 9 : (int)n;
}

static void mark(json_t *envelope)
{
    json_t *headers = json_object_get(envelope, "headers");
    json_t *info = json_object_get(json_object_get(envelope, "properties"), "delivery_info");

    if (json_is_object(headers))
        json_object_set_new(headers, "redelivered", json_true());
    if (json_is_object(info))
        json_object_set_new(info, "redelivered", json_true());
}

static int add_bytes(const char *bytes, size_t len, void *data)
{
    buf_add(data, bytes, len);
    return 0;
}

static void dump(struct buf *out, const json_t *value)
{
    json_dump_callback(value, add_bytes, out, JSON_ENCODE_ANY | JSON_REAL_PRECISION(17));
}

static json_t *load(struct slice text)
{
    return json_loadb(text.ptr ? text.ptr : "", text.len, JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL);
}

bool redis_mark_redelivered(struct buf *out, struct slice envelope, int *priority)
{
    json_t *value = load(envelope);
    bool is_envelope = json_is_object(value);

    if (is_envelope) {
        mark(value);
        *priority = priority_of(value);
        dump(out, value);
    }
    json_decref(value);
    return is_envelope;
}

int redis_envelope_priority(struct slice envelope)
{
    json_t *value = load(envelope);
    int priority = priority_of(value);

    json_decref(value);
    return priority;
}

/* Kombu and we write the body first; it has no quote when it is base64. */
static struct slice behind_body(struct slice envelope)
{
    static const char body[] = "{\"body\": \"";
    const size_t begin = sizeof(body) - 1;
    const char *end = NULL;

    if (envelope.len > begin && memcmp(envelope.ptr, body, begin) == 0)
        end = memchr(envelope.ptr + begin, '"', envelope.len - begin);
    return end ? slice_make(end, envelope.len - (size_t)(end - envelope.ptr)) : envelope;
}

bool redis_is_foreign(struct slice envelope)
{
    static const char kombu[] = "\"properties\"";
    static const char ours[] = "\"" MESSAGE_H_SENT_MS "\"";
    struct slice rest = behind_body(envelope);

    /* Most are ours. */
    return rest.ptr && !memmem(rest.ptr, rest.len, ours, sizeof(ours) - 1) &&
           memmem(rest.ptr, rest.len, kombu, sizeof(kombu) - 1);
}

bool redis_was_redelivered(struct slice envelope)
{
    static const char name[] = "\"redelivered\":";
    struct slice rest = behind_body(envelope);
    const char *at = rest.ptr ? memmem(rest.ptr, rest.len, name, sizeof(name) - 1) : NULL;

    while (at) {
        const char *end = rest.ptr + rest.len;

        at += sizeof(name) - 1;
        if (at < end && *at == ' ')
            at++;
        if (end - at >= 4 && memcmp(at, "true", 4) == 0)
            return true;
        at = memmem(at, (size_t)(end - at), name, sizeof(name) - 1);
    }
    return false;
}

/* --- recorded values --- */

static char *copy_string(const json_t *value)
{
    return strdup(json_is_string(value) ? json_string_value(value) : "");
}

/* Where ,"","queue"] begins, or -1. Inside the quoted queue every quote has a backslash in front,
 * so the last bare ,"," is the one the script wrote. */
static long find_tail(struct slice value)
{
    for (long at = (long)value.len - 8; at > 0; at--) {
        if (memcmp(value.ptr + at, ",\"\",\"", 5) == 0)
            return at;
    }
    return -1;
}

static int parse_ours(struct redis_entry *entry, struct slice value)
{
    long at = value.len > 8 && value.ptr[0] == '[' ? find_tail(value) : -1;
    struct buf marked = BUF_INIT;
    struct slice element;
    json_t *queue;

    if (at < 0)
        return -1;
    element = slice_make(value.ptr + 1, (size_t)at - 1);
    queue = load(slice_make(value.ptr + at + 4, value.len - (size_t)at - 5));
    entry->exchange = strdup("");
    entry->routing_key = copy_string(queue);
    json_decref(queue);
    if (!redis_mark_redelivered(&marked, element, &entry->priority))
        buf_add(&marked, element.ptr, element.len);
    entry->envelope = buf_detach(&marked, &entry->envelope_len);
    buf_release(&marked);
    return 0;
}

static int parse_kombu(struct redis_entry *entry, struct slice value)
{
    json_t *array = load(value);
    json_t *envelope = json_array_get(array, 0);
    struct buf out = BUF_INIT;
    int rc = -1;

    if (json_array_size(array) == 3 && json_is_object(envelope)) {
        mark(envelope);
        dump(&out, envelope);
        entry->priority = priority_of(envelope);
        entry->exchange = copy_string(json_array_get(array, 1));
        entry->routing_key = copy_string(json_array_get(array, 2));
        entry->envelope = buf_detach(&out, &entry->envelope_len);
        rc = 0;
    }
    buf_release(&out);
    json_decref(array);
    return rc;
}

int redis_entry_parse(struct redis_entry *entry, struct slice value, bool ours, struct err *e)
{
    *entry = (struct redis_entry){0};
    if ((ours ? parse_ours(entry, value) : parse_kombu(entry, value)) != 0)
        return err_set(e, ERR_DEADLETTER,
                       "recorded delivery is not [envelope, exchange, routing key]: %.*s",
                       (int)(value.len > 60 ? 60 : value.len), value.ptr);
    if (!entry->envelope || !entry->exchange || !entry->routing_key)
        return err_nomem(e);
    if (!*entry->routing_key)
        return err_set(e, ERR_DEADLETTER, "recorded delivery names no queue");
    return 0;
}

void redis_entry_release(struct redis_entry *entry)
{
    free(entry->envelope);
    free(entry->exchange);
    free(entry->routing_key);
    *entry = (struct redis_entry){0};
}

/* --- bindings --- */

/* Topic patterns of AMQP: words between dots, * is one word, # any number. */
static bool topic_match(const char *p, const char *p_end, const char *k, const char *k_end)
{
    const char *p_dot = memchr(p, '.', (size_t)(p_end - p));
    const char *word_end = p_dot ? p_dot : p_end;
    const char *k_dot;
    const char *k_word;

    if (word_end - p == 1 && *p == '#') {
        if (!p_dot)
            return true;
        for (;; k = k_dot + 1) {
            if (topic_match(p_dot + 1, p_end, k, k_end))
                return true;
            k_dot = memchr(k, '.', (size_t)(k_end - k));
            if (!k_dot)
                return false;
        }
    }
    k_dot = memchr(k, '.', (size_t)(k_end - k));
    k_word = k_dot ? k_dot : k_end;
    if (!(word_end - p == 1 && *p == '*') &&
        (word_end - p != k_word - k || memcmp(p, k, (size_t)(k_word - k)) != 0))
        return false;
    if (p_dot && k_dot)
        return topic_match(p_dot + 1, p_end, k_dot + 1, k_end);
    return (!p_dot && !k_dot) || (p_dot && !k_dot && p_end - p_dot == 2 && p_dot[1] == '#');
}

bool redis_binding_match(struct slice member, struct slice routing_key, struct slice *queue)
{
    const char *end = member.ptr + member.len;
    const char *first = memmem(member.ptr, member.len, REDIS_SEP, 2);
    const char *second = first ? memmem(first + 2, (size_t)(end - first - 2), REDIS_SEP, 2) : NULL;

    if (!second)
        return false;
    *queue = slice_make(second + 2, (size_t)(end - second - 2));
    return slice_eq(slice_make(member.ptr, (size_t)(first - member.ptr)), routing_key) ||
           topic_match(member.ptr, first, routing_key.ptr, routing_key.ptr + routing_key.len);
}
