#include "client/task_call.h"

#include "base/isotime.h"
#include "base/suggest.h"
#include "broker/broker.h"
#include "broker/json_scan.h"
#include "broker/json_text.h"
#include "broker/message.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define QUEUE_DEFAULT "celery"
#define SECONDS_MAX   3.2e9 /* a hundred years */

struct member;

/* Puts a value that fits into its place in the call. */
typedef int set_fn(struct task_call *call, const struct member *m, json_t *value, struct err *e);

struct member {
    const char *name;
    set_fn *set;
    size_t at;      /* offset in struct task_call */
    size_t seconds; /* set_time: offset of the relative form, or 0 when there is none */
};

static void *place(struct task_call *call, size_t at)
{
    return (char *)call + at;
}

static const char *kind_of(const json_t *value)
{
    static const char *const words[] = {"an object", "an array", "text",  "a number",
                                        "a number",  "true",     "false", "null"};

    return words[json_typeof(value)];
}

static int wrong_type(const char *name, const char *wanted, const json_t *value, struct err *e)
{
    return err_set(e, ERR_USAGE, "\"%s\" must be %s, not %s", name, wanted, kind_of(value));
}

static int set_text(struct task_call *call, const struct member *m, json_t *value, struct err *e)
{
    const char *text = json_string_value(value);

    if (!text)
        return wrong_type(m->name, "text", value, e);
    if (strlen(text) != json_string_length(value) || !*text)
        return err_set(e, ERR_USAGE, "\"%s\" is empty or holds a NUL character", m->name);
    *(const char **)place(call, m->at) = text;
    return 0;
}

static void set_json(struct task_call *call, const struct member *m, json_t *value)
{
    json_t **slot = place(call, m->at);

    json_decref(*slot);
    *slot = json_incref(value);
}

static int set_array(struct task_call *call, const struct member *m, json_t *value, struct err *e)
{
    if (!json_is_array(value))
        return wrong_type(m->name, "an array", value, e);
    set_json(call, m, value);
    return 0;
}

static int set_object(struct task_call *call, const struct member *m, json_t *value, struct err *e)
{
    if (!json_is_object(value))
        return wrong_type(m->name, "an object", value, e);
    set_json(call, m, value);
    return 0;
}

static int set_bool(struct task_call *call, const struct member *m, json_t *value, struct err *e)
{
    if (!json_is_boolean(value))
        return wrong_type(m->name, "true or false", value, e);
    *(bool *)place(call, m->at) = json_is_true(value);
    return 0;
}

static int seconds_at(struct task_call *call, const struct member *m, json_t *value, size_t at,
                      struct err *e)
{
    double seconds = json_number_value(value);

    if (!json_is_number(value))
        return wrong_type(m->name, "a number of seconds", value, e);
    if (!(seconds >= 0 && seconds <= SECONDS_MAX))
        return err_set(e, ERR_USAGE, "\"%s\" is out of range: %g seconds", m->name, seconds);
    *(double *)place(call, at) = seconds;
    return 0;
}

static int set_seconds(struct task_call *call, const struct member *m, json_t *value, struct err *e)
{
    return seconds_at(call, m, value, m->at, e);
}

static int set_window(struct task_call *call, const struct member *m, json_t *value, struct err *e)
{
    double seconds = json_number_value(value);

    if (!json_is_number(value))
        return wrong_type(m->name, "a number of seconds", value, e);
    if (!(seconds > 0 && seconds <= MESSAGE_WINDOW_MAX_S))
        return err_set(e, ERR_USAGE, "\"%s\" must be above 0 and at most %.0f seconds (366 days)",
                       m->name, MESSAGE_WINDOW_MAX_S);
    *(double *)place(call, m->at) = seconds;
    return 0;
}

static int set_time(struct task_call *call, const struct member *m, json_t *value, struct err *e)
{
    const char *text = json_string_value(value);

    if (!text && m->seconds) {
        if (json_is_number(value) && json_number_value(value) == 0)
            return err_set(e, ERR_USAGE, "\"%s\" must be above 0 seconds, or a time", m->name);
        return seconds_at(call, m, value, m->seconds, e);
    }
    if (!text)
        return wrong_type(m->name, "an ISO-8601 time", value, e);
    if (isotime_parse(text, place(call, m->at)) < 0)
        return err_set(e, ERR_USAGE,
                       "\"%s\": '%.60s' is no ISO-8601 time such as 2026-11-21T08:30:00+01:00",
                       m->name, text);
    return 0;
}

static int set_priority(struct task_call *call, const struct member *m, json_t *value,
                        struct err *e)
{
    json_int_t priority = json_integer_value(value);

    if (!json_is_integer(value) || priority < 0 || priority > 9)
        return err_set(e, ERR_USAGE, "\"%s\" must be a whole number from 0 to 9", m->name);
    *(int64_t *)place(call, m->at) = priority;
    return 0;
}

#define AT(field) offsetof(struct task_call, field)

static const struct member members[] = {
    {"task", set_text, AT(task), 0},
    {"args", set_array, AT(args), 0},
    {"kwargs", set_object, AT(kwargs), 0},
    {"id", set_text, AT(id), 0},
    {"task-id", set_text, AT(id), 0}, /* as Celery says */
    {"queue", set_text, AT(queue), 0},
    {"priority", set_priority, AT(priority), 0},
    {"countdown", set_seconds, AT(countdown_s), 0},
    {"eta", set_time, AT(eta_ms), 0},
    {"expires", set_time, AT(expires_ms), AT(expires_in_s)},
    {"headers", set_object, AT(headers), 0},
    {"dedup", set_text, AT(dedup), 0},
    {"window", set_window, AT(dedup_window_s), 0},
    {"time-limit", set_seconds, AT(hard_limit_s), 0},
    {"soft-time-limit", set_seconds, AT(soft_limit_s), 0},
    {"ignore-result", set_bool, AT(ignore_result), 0},
    {"root-id", set_text, AT(root_id), 0},
    {"parent-id", set_text, AT(parent_id), 0},
    {"group", set_text, AT(group), 0},
    {"reply-to", set_text, AT(reply_to), 0},
    {"shadow", set_text, AT(shadow), 0},
};

#define MEMBERS (sizeof(members) / sizeof(*members))

/* Names are written with '-' or '_'. */
static bool same_name(const char *a, const char *b)
{
    for (; *a && *b; a++, b++) {
        if ((*a == '_' ? '-' : *a) != (*b == '_' ? '-' : *b))
            return false;
    }
    return *a == *b;
}

static const struct member *find_member(const char *name)
{
    for (size_t i = 0; i < MEMBERS; i++) {
        if (same_name(name, members[i].name))
            return &members[i];
    }
    return NULL;
}

/* name: one of the table. */
static const struct member *known_member(const char *name)
{
    const struct member *m = find_member(name);

    assert(m);
    return m;
}

static int unknown_member(const char *name, struct err *e)
{
    struct suggest near;

    suggest_init(&near, name);
    for (size_t i = 0; i < MEMBERS; i++)
        suggest_offer(&near, members[i].name);
    if (near.best)
        return err_set(e, ERR_USAGE, "unknown member \"%.60s\"; did you mean \"%s\"?", name,
                       near.best);
    return err_set(e, ERR_USAGE, "unknown member \"%.60s\"", name);
}

static bool has_control_bytes(const char *text)
{
    for (; *text; text++) {
        if ((unsigned char)*text < ' ' || *text == 0x7f)
            return true;
    }
    return false;
}

static int check(const struct task_call *call, struct err *e)
{
    if (!call->task || !*call->task)
        return err_set(e, ERR_USAGE, "\"task\" is missing");
    if (call->id && strlen(call->id) >= UUID_SIZE)
        return err_set(e, ERR_USAGE, "\"id\" is longer than %d characters: '%.60s'", UUID_SIZE - 1,
                       call->id);
    if (has_control_bytes(call->task) || (call->id && has_control_bytes(call->id)) ||
        (call->queue && has_control_bytes(call->queue)))
        return err_set(e, ERR_USAGE, "\"task\", \"id\" and \"queue\" can not hold control bytes");
    if (call->dedup && strlen(call->dedup) > BROKER_KEY_MAX)
        return err_set(e, ERR_USAGE, "\"dedup\" is longer than %d bytes", BROKER_KEY_MAX);
    if (call->dedup && json_object_get(call->headers, MESSAGE_H_DEDUP))
        return err_set(e, ERR_USAGE,
                       "\"dedup\" and the header \"" MESSAGE_H_DEDUP "\" exclude each other");
    if (call->eta_ms && call->countdown_s > 0)
        return err_set(e, ERR_USAGE, "\"eta\" and \"countdown\" exclude each other");
    if (call->soft_limit_s > 0 && call->hard_limit_s > 0 && call->soft_limit_s > call->hard_limit_s)
        return err_set(e, ERR_USAGE, "\"soft-time-limit\" is longer than \"time-limit\"");
    return 0;
}

int task_call_from_json(struct task_call *call, json_t *object, struct err *e)
{
    const char *name;
    json_t *value;

    *call = (struct task_call){.task = NULL};
    if (!json_is_object(object))
        return err_set(e, ERR_USAGE, "a task must be a JSON object, not %s", kind_of(object));
    json_object_foreach(object, name, value)
    {
        const struct member *m = find_member(name);

        if (!m)
            return unknown_member(name, e);
        if (!json_is_null(value) && m->set(call, m, value, e) < 0)
            return -1;
    }
    return check(call, e);
}

json_t *task_call_json(const char *member, const char *text, struct err *e)
{
    json_error_t why;
    json_t *value = json_loads(text, JSON_DECODE_ANY | JSON_ALLOW_NUL, &why);

    if (!value)
        err_set(e, ERR_USAGE, "%s is no valid JSON: %s at column %d: %.60s", member, why.text,
                why.column, text);
    return value;
}

static int option_json(struct task_call *call, const char *name, const char *text, struct err *e)
{
    const struct member *m;
    json_t *value;
    int status;

    if (!text)
        return 0;
    value = task_call_json(name, text, e);
    if (!value)
        return -1;
    m = known_member(name);
    status = m->set(call, m, value, e);
    json_decref(value);
    return status;
}

/* Text that need not be read: JSON of one kind ('[' or '{') that is sent as it is. */
static bool is_plain(struct slice *text, char open)
{
    struct json_scan s;

    json_scan_init(&s, *text);
    return json_scan_value(&s, text, NULL) == (open == '[' ? JSON_ARRAY : JSON_OBJECT) &&
           json_scan_done(&s);
}

static int option_args(struct task_call *call, const struct celeriac_task_options *o, struct err *e)
{
    struct slice args = slice_of(o->args_json), kwargs = slice_of(o->kwargs_json);

    if (args.ptr && is_plain(&args, '['))
        call->args_text = args;
    else if (option_json(call, "args", o->args_json, e) < 0)
        return -1;
    if (kwargs.ptr && is_plain(&kwargs, '{'))
        call->kwargs_text = kwargs;
    else if (option_json(call, "kwargs", o->kwargs_json, e) < 0)
        return -1;
    return 0;
}

static int option_number(struct task_call *call, const char *name, double number, struct err *e)
{
    const struct member *m;
    json_t *value;
    int status;

    if (number == 0)
        return 0;
    if (!isfinite(number))
        return err_set(e, ERR_USAGE, "\"%s\" is not finite", name);
    value = json_real(number);
    if (!value)
        return err_nomem(e);
    m = known_member(name);
    status = m->set(call, m, value, e);
    json_decref(value);
    return status;
}

static int option_time(const char *name, const char *text, int64_t *to, struct err *e)
{
    if (text && isotime_parse(text, to) < 0)
        return err_set(e, ERR_USAGE, "\"%s\": '%.60s' is no ISO-8601 time", name, text);
    return 0;
}

int task_call_from_options(struct task_call *call, const char *task,
                           const struct celeriac_task_options *options, struct err *e)
{
    struct celeriac_task_options o = CELERIAC_TASK_OPTIONS_INIT;

    /* A program built against an older header has a shorter structure. */
    if (options)
        memcpy(&o, options, options->size < sizeof(o) ? options->size : sizeof(o));
    *call = (struct task_call){.task = task,
                               .id = o.id,
                               .queue = o.queue,
                               .root_id = o.root_id,
                               .parent_id = o.parent_id,
                               .group = o.group,
                               .reply_to = o.reply_to,
                               .shadow = o.shadow,
                               .dedup = o.dedup_key,
                               .priority = o.priority,
                               .ignore_result = o.ignore_result != 0};
    if (o.priority < 0 || o.priority > 9)
        return err_set(e, ERR_USAGE, "priority %d is not from 0 to 9", o.priority);
    if (option_args(call, &o, e) < 0 || option_json(call, "headers", o.headers_json, e) < 0 ||
        option_number(call, "window", o.dedup_window_s, e) < 0 ||
        option_number(call, "countdown", o.countdown_s, e) < 0 ||
        option_number(call, "expires", o.expires_s, e) < 0 ||
        option_number(call, "soft-time-limit", o.soft_limit_s, e) < 0 ||
        option_number(call, "time-limit", o.hard_limit_s, e) < 0 ||
        option_time("eta", o.eta, &call->eta_ms, e) < 0 ||
        option_time("expires", o.expires, &call->expires_ms, e) < 0)
        return -1;
    return check(call, e);
}

/* --- a plain line --- */

/* A member that is text, as C text; false when it is none, was there before, or is not simple. */
static bool take_name(struct json_scan *s, char *to, size_t size)
{
    struct slice text;
    bool escaped;

    if (*to || json_scan_value(s, &text, &escaped) != JSON_STRING || escaped || text.len == 0 ||
        text.len >= size || memchr(text.ptr, 0x7f, text.len))
        return false;
    memcpy(to, text.ptr, text.len);
    to[text.len] = '\0';
    return true;
}

static bool take_text(struct json_scan *s, struct slice *to, int type)
{
    return !to->ptr && json_scan_value(s, to, NULL) == type;
}

struct plain_line {
    struct task_names *names;
    struct slice args;
    struct slice kwargs;
};

static bool take_member(struct plain_line *line, struct json_scan *s, struct slice name)
{
    if (slice_is(name, "task"))
        return take_name(s, line->names->task, sizeof(line->names->task));
    if (slice_is(name, "args"))
        return take_text(s, &line->args, JSON_ARRAY);
    if (slice_is(name, "kwargs"))
        return take_text(s, &line->kwargs, JSON_OBJECT);
    if (slice_is(name, "id"))
        return take_name(s, line->names->id, sizeof(line->names->id));
    if (slice_is(name, "queue"))
        return take_name(s, line->names->queue, sizeof(line->names->queue));
    return false;
}

static bool scan_line(struct plain_line *line, struct slice text)
{
    struct slice name;
    struct json_scan s;

    line->names->task[0] = line->names->id[0] = line->names->queue[0] = '\0';
    json_scan_init(&s, text);
    if (!json_scan_enter(&s, '{'))
        return false;
    while (json_scan_member(&s, &name)) {
        if (!take_member(line, &s, name))
            return false;
    }
    return json_scan_done(&s) && line->names->task[0];
}

bool task_call_from_plain(struct task_call *call, struct task_names *names, struct slice line)
{
    struct plain_line plain = {.names = names};

    if (!scan_line(&plain, line))
        return false;
    call->task = names->task;
    call->id = names->id[0] ? names->id : call->id;
    call->queue = names->queue[0] ? names->queue : call->queue;
    call->args_text = plain.args;
    call->kwargs_text = plain.kwargs;
    return true;
}

bool task_call_is_plain(const struct task_call *call)
{
    const char *const names[] = {call->task,      call->id,    call->queue,    call->root_id,
                                 call->parent_id, call->group, call->reply_to, call->shadow};

    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        size_t len = names[i] ? strlen(names[i]) : 0;

        if (len && json_text_run(names[i], len) < len)
            return false;
    }
    return !call->args && !call->kwargs && !call->headers && !call->dedup && !call->eta_ms &&
           !call->expires_ms && call->countdown_s == 0 && call->expires_in_s == 0 &&
           call->hard_limit_s == 0 && call->soft_limit_s == 0 &&
           call->args_text.len + call->kwargs_text.len < MESSAGE_BODY_MAX / 2;
}

void task_call_release(struct task_call *call)
{
    json_decref(call->args);
    json_decref(call->kwargs);
    json_decref(call->headers);
    call->args = call->kwargs = call->headers = NULL;
}

static int64_t ahead_ms(int64_t now_ms, double seconds)
{
    return seconds > 0 ? now_ms + (int64_t)ceil(seconds * 1000) : 0;
}

/* The user's headers, and the dedup key among them; a new reference, or NULL (there are none). */
static int all_headers(const struct task_call *call, json_t **headers, struct err *e)
{
    json_t *dedup;

    *headers = json_incref(call->headers);
    if (!call->dedup)
        return 0;
    *headers = call->headers ? json_text_copy(call->headers) : json_object();
    json_decref(call->headers);
    dedup = json_pack("{s:s, s:f}", "key", call->dedup, "window",
                      call->dedup_window_s > 0 ? call->dedup_window_s : MESSAGE_WINDOW_S);
    if (!dedup) /* the command line and the library take any bytes */
        return err_set(e, ERR_USAGE, "\"dedup\" is not UTF-8 text");
    return json_object_set_new(*headers, MESSAGE_H_DEDUP, dedup) < 0 ? err_nomem(e) : 0;
}

int task_call_encode(const struct task_call *call, struct uuid_source *ids, int64_t now_ms,
                     struct outgoing *o, struct err *e)
{
    struct message_spec spec = {
        .task = call->task,
        .id = o->id,
        .root_id = call->root_id,
        .parent_id = call->parent_id,
        .group = call->group,
        .group_index = -1,
        .args = call->args_text.ptr ? NULL : call->args,
        .kwargs = call->kwargs_text.ptr ? NULL : call->kwargs,
        .args_text = call->args_text,
        .kwargs_text = call->kwargs_text,
        .queue = call->queue ? call->queue : QUEUE_DEFAULT,
        .reply_to = call->reply_to,
        .shadow = call->shadow,
        .origin = call->origin,
        .eta_ms = call->eta_ms ? call->eta_ms : ahead_ms(now_ms, call->countdown_s),
        .expires_ms = call->expires_ms ? call->expires_ms : ahead_ms(now_ms, call->expires_in_s),
        .hard_limit_s = call->hard_limit_s,
        .soft_limit_s = call->soft_limit_s,
        .priority = (int)call->priority,
        .ignore_result = call->ignore_result,
        .now_ms = now_ms,
    };
    const char *id = call->id ? call->id : call->new_id;
    int status;

    outgoing_begin(o);
    o->priority = spec.priority;
    o->not_before_ms = spec.eta_ms;
    o->named = call->id != NULL;
    if (id)
        memcpy(o->id, id, strlen(id) + 1);
    else
        uuid_next_at(ids, now_ms, o->id); /* the time helps to find its result */
    status = all_headers(call, &spec.headers, e);
    if (status == 0)
        status = message_encode(&o->text, &spec, ids, e);
    json_decref(spec.headers);
    if (status < 0)
        return -1;
    o->envelope_len = o->text.len;
    buf_adds(&o->text, spec.queue);
    return o->text.failed ? err_nomem(e) : 0;
}
