/* Specs made from something else: from a message that is tried again, and from a signature. */
#include "base/isotime.h"
#include "broker/message.h"

#include <math.h>
#include <stdio.h>

#define AT(member)  offsetof(struct message_spec, member)
#define SECONDS_MAX 1e9

int message_spec_retry(struct message_spec *spec, struct message *m, struct err *e)
{
    json_t *headers = message_headers(m);

    if (!headers)
        return err_nomem(e);
    *spec = (struct message_spec){
        .task = m->task,
        .id = m->id,
        .root_id = m->root_id,
        .parent_id = m->id,
        .group = m->group,
        .group_index = m->group_index,
        .args = m->args,
        .kwargs = m->kwargs,
        .embed = m->embed,
        .carry = headers,
        .queue = m->queue,
        .reply_to = m->reply_to,
        .shadow = json_string_value(json_object_get(headers, "shadow")),
        .expires_ms = m->expires_ms,
        .hard_limit_s = m->hard_limit_s,
        .soft_limit_s = m->soft_limit_s,
        .retries = m->retries + 1,
        .priority = m->priority,
        .ignore_result = m->ignore_result == 1,
    };
    return 0;
}

/* One option of a signature: a reader that knows its kind and the member of the spec it sets. */
struct option {
    const char *name;
    const char *wanted; /* for the error */
    bool (*read)(const json_t *value, void *to);
    size_t at;
};

static bool read_text(const json_t *value, void *to)
{
    *(const char **)to = json_string_value(value);
    return json_is_string(value) && strlen(json_string_value(value)) == json_string_length(value);
}

static bool read_count(const json_t *value, void *to)
{
    *(int64_t *)to = json_integer_value(value);
    return json_is_integer(value) && json_integer_value(value) >= 0 &&
           json_integer_value(value) <= INT32_MAX;
}

static bool read_priority(const json_t *value, void *to)
{
    *(int *)to = (int)json_integer_value(value);
    return json_is_integer(value) && json_integer_value(value) >= 0 &&
           json_integer_value(value) <= 9;
}

static bool read_seconds(const json_t *value, void *to)
{
    double seconds = json_number_value(value);

    *(double *)to = seconds;
    return json_is_number(value) && seconds >= 0 && seconds <= SECONDS_MAX;
}

static bool read_flag(const json_t *value, void *to)
{
    *(int *)to = json_is_true(value);
    return json_is_boolean(value);
}

static bool read_object(const json_t *value, void *to)
{
    /* The spec borrows the object and does not change it. */
    *(json_t **)to = (json_t *)(uintptr_t)value;
    return json_is_object(value);
}

/* Read by others below, or of no meaning here. */
static bool read_nothing(const json_t *value, void *to)
{
    (void)value;
    (void)to;
    return true;
}

static const struct option options[] = {
    {"task_id", "a text of at most 36 bytes", read_text, AT(id)},
    {"queue", "a text", read_text, AT(queue)},
    {"routing_key", "a text", read_nothing, 0},
    {"priority", "an integer from 0 to 9", read_priority, AT(priority)},
    {"time_limit", "a number of seconds", read_seconds, AT(hard_limit_s)},
    {"soft_time_limit", "a number of seconds", read_seconds, AT(soft_limit_s)},
    {"headers", "an object", read_object, AT(headers)},
    {"shadow", "a text", read_text, AT(shadow)},
    {"ignore_result", "true or false", read_flag, AT(ignore_result)},
    {"reply_to", "a text", read_text, AT(reply_to)},
    {"root_id", "a text", read_text, AT(root_id)},
    {"parent_id", "a text", read_text, AT(parent_id)},
    {"group_id", "a text", read_text, AT(group)},
    {"group_index", "an integer, not negative", read_count, AT(group_index)},
    {"retries", "an integer, not negative", read_count, AT(retries)},
    {"countdown", "a number of seconds", read_nothing, 0},
    {"eta", "an ISO-8601 time", read_nothing, 0},
    {"expires", "a number of seconds or an ISO-8601 time", read_nothing, 0},
    {"serializer", "", read_nothing, 0},
    {"compression", "", read_nothing, 0},
    {"exchange", "", read_nothing, 0},
    {"delivery_mode", "", read_nothing, 0},
    {"retry", "", read_nothing, 0},
    {"retry_policy", "", read_nothing, 0},
};

static int bad_option(const char *name, const char *wanted, struct err *e)
{
    return err_set(e, ERR_USAGE, "option \"%s\" of the signature must be %s", name, wanted);
}

static int read_option(struct message_spec *spec, const char *name, const json_t *value,
                       struct err *e)
{
    if (json_is_null(value))
        return 0;
    for (size_t i = 0; i < sizeof(options) / sizeof(options[0]); i++) {
        if (strcmp(options[i].name, name) != 0)
            continue;
        if (!options[i].read(value, (char *)spec + options[i].at))
            return bad_option(name, options[i].wanted, e);
        return 0;
    }
    return err_set(e, ERR_USAGE, "option \"%s\" of the signature is not known or not supported",
                   name);
}

/* A time given as ISO text, or where allowed as seconds from now. */
static int read_time(const json_t *options_map, const char *name, bool as_text, bool as_seconds,
                     int64_t now_ms, int64_t *wall_ms, struct err *e)
{
    const json_t *value = json_object_get(options_map, name);
    double seconds;

    if (!value || json_is_null(value))
        return 0;
    if (as_seconds && json_is_number(value) && read_seconds(value, &seconds)) {
        *wall_ms = now_ms + (int64_t)llround(seconds * 1000);
        return 0;
    }
    if (as_text && json_is_string(value) && isotime_parse(json_string_value(value), wall_ms) == 0)
        return 0;
    return bad_option(name,
                      !as_text      ? "a number of seconds"
                      : !as_seconds ? "an ISO-8601 time"
                                    : "a number of seconds or an ISO-8601 time",
                      e);
}

static int read_options(struct message_spec *spec, json_t *map, int64_t now_ms, struct err *e)
{
    const char *name;
    json_t *value;

    if (map && !json_is_null(map) && !json_is_object(map))
        return err_set(e, ERR_USAGE, "\"options\" of the signature must be an object");
    json_object_foreach(map, name, value)
    {
        if (read_option(spec, name, value, e) < 0)
            return -1;
    }
    if (!spec->queue)
        spec->queue = json_string_value(json_object_get(map, "routing_key"));
    if (read_time(map, "countdown", false, true, now_ms, &spec->eta_ms, e) < 0 ||
        read_time(map, "eta", true, false, now_ms, &spec->eta_ms, e) < 0)
        return -1;
    return read_time(map, "expires", true, true, now_ms, &spec->expires_ms, e);
}

static int read_call(struct message_spec *spec, json_t *signature, struct err *e)
{
    json_t *task = json_object_get(signature, "task");
    json_t *args = json_object_get(signature, "args");
    json_t *kwargs = json_object_get(signature, "kwargs");

    if (!json_is_object(signature))
        return err_set(e, ERR_USAGE, "a signature must be an object");
    if (!json_is_string(task) || !read_text(task, &spec->task) || !*spec->task)
        return err_set(e, ERR_USAGE, "\"task\" of the signature must be the name of a task");
    if (args && !json_is_null(args) && !json_is_array(args))
        return err_set(e, ERR_USAGE, "\"args\" of the signature must be an array");
    if (kwargs && !json_is_null(kwargs) && !json_is_object(kwargs))
        return err_set(e, ERR_USAGE, "\"kwargs\" of the signature must be an object");
    spec->args = json_is_array(args) ? args : NULL;
    spec->kwargs = json_is_object(kwargs) ? kwargs : NULL;
    return 0;
}

int message_spec_signature(struct message_spec *spec, json_t *signature,
                           const struct message *parent, struct uuid_source *ids, int64_t now_ms,
                           char id_out[UUID_SIZE], int64_t *not_before_ms, struct err *e)
{
    *spec = (struct message_spec){.group_index = -1, .now_ms = now_ms};
    if (read_call(spec, signature, e) < 0 ||
        read_options(spec, json_object_get(signature, "options"), now_ms, e) < 0)
        return -1;
    if (!spec->id)
        uuid_next(ids, id_out);
    else if (*spec->id && strlen(spec->id) < UUID_SIZE)
        snprintf(id_out, UUID_SIZE, "%s", spec->id);
    else
        return bad_option("task_id", "a text of at most 36 bytes", e);
    spec->id = id_out;
    if (parent && !spec->parent_id)
        spec->parent_id = parent->id;
    if (parent && !spec->root_id)
        spec->root_id = parent->root_id;
    *not_before_ms = spec->eta_ms;
    return 0;
}
