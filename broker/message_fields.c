/* Headers and properties of a task message: one row each says what kind a field may have, which
 * numbers it may hold and where it is kept. Null always means absent. */
#include "base/isotime.h"
#include "broker/broker.h"
#include "broker/message_parts.h"

#include <math.h>
#include <stdlib.h>

#define KIND    MESSAGE_KIND
#define STRING  KIND(JSON_STRING)
#define INTEGER KIND(JSON_INTEGER)
#define NUMBER  (KIND(JSON_INTEGER) | KIND(JSON_REAL))
#define BOOLEAN (KIND(JSON_TRUE) | KIND(JSON_FALSE))
#define ARRAY   KIND(JSON_ARRAY)
#define OBJECT  KIND(JSON_OBJECT)

#define NOWHERE      MESSAGE_NOWHERE
#define AT(member)   offsetof(struct message, member)
#define TIME_LIMIT_S 1e9 /* 31 years: milliseconds of it can be added to any clock */

static const struct message_field header_fields[] = {
    {"task", STRING, AT(task), 0, 0},
    {"root_id", STRING, AT(root_id), 0, 0},
    {"parent_id", STRING, AT(parent_id), 0, 0},
    {"group", STRING, AT(group), 0, 0},
    {"eta", STRING, AT(eta), 0, 0},
    {"expires", STRING, AT(expires), 0, 0},
    {"group_index", INTEGER, AT(group_index), 0, INT32_MAX},
    {"retries", INTEGER, AT(retries), 0, INT32_MAX},
    {"timelimit", ARRAY, NOWHERE, 0, 0},
    {"ignore_result", BOOLEAN, NOWHERE, 0, 0},
    {"redelivered", BOOLEAN, NOWHERE, 0, 0},
    {"compression", STRING, AT(compression), 0, 0},
    {"lang", STRING, NOWHERE, 0, 0},
    {"shadow", STRING, NOWHERE, 0, 0},
    {"origin", STRING, NOWHERE, 0, 0},
    {"argsrepr", STRING, NOWHERE, 0, 0},
    {"kwargsrepr", STRING, NOWHERE, 0, 0},
    {"replaced_task_nesting", INTEGER, NOWHERE, 0, INT32_MAX},
    {"stamped_headers", ARRAY, NOWHERE, 0, 0},
    {"stamps", OBJECT, NOWHERE, 0, 0},
    {MESSAGE_H_LOST, INTEGER, AT(lost), 0, INT32_MAX},
    {MESSAGE_H_SENT_MS, INTEGER, AT(sent_ms), 0, INT64_MAX},
    {MESSAGE_H_WAITS, INTEGER, AT(waits), 0, INT32_MAX},
    {MESSAGE_H_DEDUP, OBJECT, NOWHERE, 0, 0},
};

static const struct message_field property_fields[] = {
    {"correlation_id", STRING, AT(correlation_id), 0, 0},
    {"reply_to", STRING, AT(reply_to), 0, 0},
    {"delivery_mode", INTEGER, NOWHERE, 0, 2},
    {"priority", INTEGER | STRING, NOWHERE, INT32_MIN, INT32_MAX},
    {"expiration", STRING | INTEGER, NOWHERE, 0, INT64_MAX},
    {"body_encoding", STRING, AT(body_encoding), 0, 0},
    {"delivery_tag", STRING | INTEGER, NOWHERE, 0, INT64_MAX},
};

static int find_field(const struct message_field *fields, size_t n, struct slice name,
                      const struct message_field **field)
{
    for (size_t i = 0; name.len && i < n; i++) {
        const char *known = fields[i].name;

        if (known[0] == name.ptr[0] && strncmp(known, name.ptr, name.len) == 0 &&
            !known[name.len]) {
            *field = &fields[i];
            return (int)i;
        }
    }
    return -1;
}

int message_header_field(struct slice name, const struct message_field **field)
{
    return find_field(header_fields, sizeof(header_fields) / sizeof(header_fields[0]), name, field);
}

int message_property_field(struct slice name, const struct message_field **field)
{
    return find_field(property_fields, sizeof(property_fields) / sizeof(property_fields[0]), name,
                      field);
}

const char *message_kind_word(const json_t *value)
{
    static const char *const words[] = {
        [JSON_OBJECT] = "an object",   [JSON_ARRAY] = "an array", [JSON_STRING] = "a string",
        [JSON_INTEGER] = "an integer", [JSON_REAL] = "a real",    [JSON_TRUE] = "a boolean",
        [JSON_FALSE] = "a boolean",    [JSON_NULL] = "null",
    };

    return value ? words[json_typeof(value)] : "missing";
}

/* Our strings end at the first NUL, Python's do not: a name that reads differently is refused. */
static bool has_nul(const json_t *string)
{
    return strlen(json_string_value(string)) != json_string_length(string);
}

const char *message_need_string(const json_t *object, const char *where, const char *name,
                                struct err *e)
{
    const json_t *value = json_object_get(object, name);

    if (!json_is_string(value) || has_nul(value)) {
        err_set(e, ERR_DEADLETTER, "%s\"%s\" is %s; it must be a string", where, name,
                json_is_string(value) ? "a string with NUL" : message_kind_word(value));
        return NULL;
    }
    return json_string_value(value);
}

static int store(struct message *m, const struct message_field *f, const json_t *value,
                 const char *where, struct err *e)
{
    char *to = f->at == NOWHERE ? NULL : (char *)m + f->at;

    if (json_is_string(value)) {
        const char *text = json_string_value(value);

        if (to && has_nul(value))
            return err_set(e, ERR_DEADLETTER, "%s \"%s\" holds a NUL", where, f->name);
        if (to)
            *(const char **)(void *)to = text;
    } else if (json_is_integer(value)) {
        int64_t number = json_integer_value(value);

        if (number < f->min || number > f->max)
            return err_set(e, ERR_DEADLETTER, "%s \"%s\" is out of range: %lld", where, f->name,
                           (long long)number);
        if (to)
            *(int64_t *)(void *)to = number;
    }
    return 0;
}

static int read_fields(struct message *m, const json_t *object, const char *where,
                       const struct message_field *fields, size_t n, struct err *e)
{
    for (size_t i = 0; i < n; i++) {
        const json_t *value = json_object_get(object, fields[i].name);

        if (!value || json_is_null(value))
            continue;
        if (!(fields[i].kinds & KIND(json_typeof(value))))
            return err_set(e, ERR_DEADLETTER, "%s \"%s\" has the wrong type: it is %s", where,
                           fields[i].name, message_kind_word(value));
        if (store(m, &fields[i], value, where, e) < 0)
            return -1;
    }
    return 0;
}

static int read_limit(const json_t *value, const char *which, double *to, struct err *e)
{
    if (json_is_null(value))
        return 0;
    if (!json_is_number(value))
        return err_set(e, ERR_DEADLETTER, "header \"timelimit\": the %s limit is %s", which,
                       message_kind_word(value));
    *to = json_number_value(value);
    if (*to >= 0 && *to <= TIME_LIMIT_S)
        return 0;
    return err_set(e, ERR_DEADLETTER, "header \"timelimit\": the %s limit is out of range: %g",
                   which, *to);
}

/* [hard, soft], in this order. */
static int read_limits(struct message *m, struct err *e)
{
    const json_t *limits = json_object_get(m->headers, "timelimit");

    if (!json_is_array(limits))
        return 0;
    if (json_array_size(limits) != 2)
        return err_set(e, ERR_DEADLETTER, "header \"timelimit\" has %zu elements instead of 2",
                       json_array_size(limits));
    if (read_limit(json_array_get(limits, 0), "hard", &m->hard_limit_s, e) < 0)
        return -1;
    return read_limit(json_array_get(limits, 1), "soft", &m->soft_limit_s, e);
}

static int bad_dedup(struct err *e, const char *member, const char *why)
{
    return err_set(e, ERR_DEADLETTER, "header \"" MESSAGE_H_DEDUP "\": \"%s\" %s", member, why);
}

static int read_window(struct message *m, const json_t *window, struct err *e)
{
    double seconds = MESSAGE_WINDOW_S;

    if (window && !json_is_null(window)) {
        if (!json_is_number(window))
            return bad_dedup(e, "window", "must be a number of seconds");
        seconds = json_number_value(window);
    }
    if (!(seconds > 0 && seconds <= MESSAGE_WINDOW_MAX_S))
        return bad_dedup(e, "window", "must be above 0 and at most 31622400 seconds (366 days)");
    m->dedup_window_ms = seconds < 0.001 ? 1 : (int64_t)(seconds * 1000);
    return 0;
}

static int read_dedup(struct message *m, struct err *e)
{
    const json_t *dedup = json_object_get(m->headers, MESSAGE_H_DEDUP);
    const json_t *key = json_object_get(dedup, "key");

    if (!json_is_object(dedup))
        return 0;
    if (!json_is_string(key))
        return bad_dedup(e, "key", "must be a text");
    m->dedup_key = slice_make(json_string_value(key), json_string_length(key));
    if (m->dedup_key.len == 0 || m->dedup_key.len > BROKER_KEY_MAX)
        return bad_dedup(e, "key", "must have 1 to 512 bytes");
    return read_window(m, json_object_get(dedup, "window"), e);
}

static int read_time(const char *name, const char *text, int64_t *ms, struct err *e)
{
    if (text && isotime_parse(text, ms) < 0)
        return err_set(e, ERR_DEADLETTER, "header \"%s\" is not an ISO-8601 time: \"%.64s\"", name,
                       text);
    return 0;
}

static const char *absent_if_empty(const char *text)
{
    return text && *text ? text : NULL;
}

static int check_names(const struct message *m, struct err *e)
{
    if (!absent_if_empty(m->task))
        return err_set(e, ERR_DEADLETTER, "header \"task\" is missing or empty");
    if (strlen(m->task) > MESSAGE_NAME_MAX)
        return err_set(e, ERR_DEADLETTER, "header \"task\" is longer than %d bytes",
                       MESSAGE_NAME_MAX);
    if (!m->id)
        return err_set(e, ERR_DEADLETTER, "header \"id\" is missing or not a text of 1 to %d bytes",
                       MESSAGE_NAME_MAX);
    return 0;
}

int message_complete_headers(struct message *m, struct err *e)
{
    if (read_time("eta", m->eta, &m->eta_ms, e) < 0 ||
        read_time("expires", m->expires, &m->expires_ms, e) < 0)
        return -1;
    m->parent_id = absent_if_empty(m->parent_id);
    m->group = absent_if_empty(m->group);
    m->root_id = absent_if_empty(m->root_id);
    if (!m->root_id)
        m->root_id = m->id;
    return check_names(m, e);
}

int message_read_headers(struct message *m, struct err *e)
{
    const json_t *flag;

    if (read_fields(m, m->headers, "header", header_fields,
                    sizeof(header_fields) / sizeof(header_fields[0]), e) < 0 ||
        read_limits(m, e) < 0 || read_dedup(m, e) < 0)
        return -1;
    flag = json_object_get(m->headers, "ignore_result");
    if (json_is_boolean(flag))
        m->ignore_result = json_is_true(flag);
    m->redelivered |= json_is_true(json_object_get(m->headers, "redelivered"));
    return message_complete_headers(m, e);
}

int message_clamp_priority(int64_t priority)
{
    return priority < 0 ? 0 : priority > 9 ? 9 : (int)priority;
}

/* Clamped to 0-9 as kombu does; it takes a number in a string, too. */
static int read_priority(struct message *m, struct err *e)
{
    const json_t *value = json_object_get(m->properties, "priority");
    long long priority = json_integer_value(value);

    if (json_is_string(value)) {
        const char *text = json_string_value(value);
        char *end;

        priority = strtoll(text, &end, 10);
        if (end == text || *end || has_nul(value))
            return err_set(e, ERR_DEADLETTER, "property \"priority\" is not a number: \"%.32s\"",
                           text);
    }
    m->priority = message_clamp_priority(priority);
    return 0;
}

/* The Python worker loses a message without these; better to keep it with a reason. */
int message_read_properties(struct message *m, struct err *e)
{
    const json_t *info = json_object_get(m->properties, "delivery_info");
    const json_t *tag = json_object_get(m->properties, "delivery_tag");

    if (read_fields(m, m->properties, "property", property_fields,
                    sizeof(property_fields) / sizeof(property_fields[0]), e) < 0 ||
        read_priority(m, e) < 0)
        return -1;
    if (!tag || json_is_null(tag))
        return err_set(e, ERR_DEADLETTER, "property \"delivery_tag\" is missing");
    if (!json_is_object(info))
        return err_set(e, ERR_DEADLETTER, "property \"delivery_info\" is %s; it must be an object",
                       message_kind_word(info));
    if (!message_need_string(info, "property delivery_info.", "exchange", e))
        return -1;
    m->queue = message_need_string(info, "property delivery_info.", "routing_key", e);
    if (!m->queue)
        return -1;
    m->redelivered |= json_is_true(json_object_get(info, "redelivered"));
    return 0;
}
