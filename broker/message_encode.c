/* A task message as text: written straight into the buffer, in the order and style of Celery. */
#include "base/isotime.h"
#include "broker/base64.h"
#include "broker/json_text.h"
#include "broker/message.h"

#include <unistd.h>

#define USUAL_SIZE  1280 /* an envelope with few arguments fits, and a lent buffer need not grow */
#define TIME_MAX_MS 253402300799999 /* the last millisecond of the year 9999 */

/* Written below; user headers of these names are not sent again by `carry`. */
static const char *const own_headers[] = {
    "lang",          "task",         "id",
    "shadow",        "eta",          "expires",
    "group",         "group_index",  "retries",
    "timelimit",     "root_id",      "parent_id",
    "argsrepr",      "kwargsrepr",   "origin",
    "ignore_result", "redelivered",  "compression",
    "x-death",       MESSAGE_H_LOST, MESSAGE_H_SENT_MS,
    MESSAGE_H_WAITS,
};

struct writer {
    struct buf *out;
    const struct message_spec *spec;
    struct err *e;
    bool first;
    bool failed;
};

static void put_text(struct writer *w, const char *text)
{
    if (!text)
        buf_adds(w->out, "null");
    else if (json_text_string(w->out, slice_of(text), w->e) < 0)
        w->failed = true;
}

static void put_value(struct writer *w, const json_t *value)
{
    if (json_text_value(w->out, value, w->e) < 0)
        w->failed = true;
}

static void put_separator(struct writer *w)
{
    if (!w->first)
        buf_add(w->out, ", ", 2);
    w->first = false;
}

static void put_key(struct writer *w, const char *name)
{
    put_separator(w);
    put_text(w, name);
    buf_add(w->out, ": ", 2);
}

/* A header's name with what stands around it; the first header has nothing before it. */
#define HEADER(name)                                                                               \
    (struct header)                                                                                \
    {                                                                                              \
        ", \"" name "\": ", sizeof(", \"" name "\": ") - 1, name                                   \
    }

struct header {
    const char *text;
    size_t len;
    const char *name;
};

/* Begins a header of ours. False when the user gave this header: it is then written already. */
static bool put_header(struct writer *w, struct header h)
{
    const json_t *given = w->spec->headers ? json_object_get(w->spec->headers, h.name) : NULL;
    size_t skip = w->first ? 2 : 0;

    w->first = false;
    buf_add(w->out, h.text + skip, h.len - skip);
    if (given)
        put_value(w, given);
    return !given;
}

static void header_text(struct writer *w, struct header h, const char *text)
{
    if (put_header(w, h))
        put_text(w, text);
}

static void header_integer(struct writer *w, struct header h, int64_t value, bool null)
{
    if (!put_header(w, h))
        return;
    if (null)
        buf_adds(w->out, "null");
    else
        buf_addi(w->out, value);
}

static void header_time(struct writer *w, struct header h, int64_t wall_ms)
{
    char text[ISOTIME_SIZE];

    if (!put_header(w, h))
        return;
    if (wall_ms)
        isotime_format_us(wall_ms * 1000, text);
    put_text(w, wall_ms ? text : NULL);
}

static void put_limit(struct writer *w, double seconds)
{
    if (seconds <= 0)
        buf_adds(w->out, "null");
    else if (seconds == (double)(int64_t)seconds)
        buf_addi(w->out, (int64_t)seconds);
    else
        json_text_real(w->out, seconds);
}

static void header_limits(struct writer *w)
{
    if (!put_header(w, HEADER("timelimit")))
        return;
    buf_adds(w->out, "[");
    put_limit(w, w->spec->hard_limit_s);
    buf_adds(w->out, ", ");
    put_limit(w, w->spec->soft_limit_s);
    buf_adds(w->out, "]");
}

/* Arguments as text for people: how from the value, how from its text, what where there is none. */
struct repr_of {
    void (*value)(struct buf *out, const json_t *value);
    bool (*text)(struct buf *out, struct slice text);
    const char *none;
};

static const struct repr_of args_repr = {message_args_repr, message_args_repr_text, "\"()\""};
static const struct repr_of kwargs_repr = {message_kwargs_repr, message_kwargs_repr_text, "\"{}\""};

/* False, and nothing written, when it is not that simple. */
static bool put_plain_repr(struct writer *w, const struct repr_of *of, struct slice text)
{
    size_t before = w->out->len;
    struct slice made;

    buf_add(w->out, "\"", 1);
    if (of->text(w->out, text) && !w->out->failed) {
        made = buf_slice(w->out);
        made = slice_make(made.ptr + before + 1, made.len - before - 1);
        if (json_text_run(made.ptr, made.len) == made.len) {
            buf_add(w->out, "\"", 1);
            return true;
        }
    }
    w->out->len = before;
    return false;
}

static void put_repr(struct writer *w, const struct repr_of *of, const json_t *value)
{
    struct buf text = BUF_INIT;

    of->value(&text, value);
    put_text(w, buf_str(&text));
    w->out->failed |= text.failed;
    buf_release(&text);
}

static void header_repr(struct writer *w, struct header h, const struct repr_of *of,
                        const json_t *value, struct slice text)
{
    json_t *read;

    if (!put_header(w, h))
        return;
    if (value) {
        put_repr(w, of, value);
    } else if (!text.ptr) {
        buf_adds(w->out, of->none);
    } else if (!put_plain_repr(w, of, text)) {
        read = json_loadb(text.ptr, text.len, JSON_ALLOW_NUL, NULL);
        read ? put_repr(w, of, read) : (void)(w->out->failed = true); /* no memory: it is JSON */
        json_decref(read);
    }
}

void message_origin(char out[MESSAGE_ORIGIN_SIZE])
{
    char host[128] = "";

    gethostname(host, sizeof(host) - 1);
    snprintf(out, MESSAGE_ORIGIN_SIZE, "gen%d@%s", (int)getpid(), host);
}

static void header_origin(struct writer *w)
{
    char origin[MESSAGE_ORIGIN_SIZE];

    if (!w->spec->origin)
        message_origin(origin);
    header_text(w, HEADER("origin"), w->spec->origin ? w->spec->origin : origin);
}

static bool is_own(const char *name)
{
    for (size_t i = 0; i < sizeof(own_headers) / sizeof(own_headers[0]); i++) {
        if (strcmp(name, own_headers[i]) == 0)
            return true;
    }
    return false;
}

/* The user's headers: those of the message that is continued, then those given now. */
static void put_user_headers(struct writer *w)
{
    const char *name;
    json_t *value;

    json_object_foreach(w->spec->carry, name, value)
    {
        if (!is_own(name) && !json_object_get(w->spec->headers, name)) {
            put_key(w, name);
            put_value(w, value);
        }
    }
    json_object_foreach(w->spec->headers, name, value)
    {
        if (!is_own(name)) {
            put_key(w, name);
            put_value(w, value);
        }
    }
}

/* As most are: none of the headers between id and root_id is set. */
static bool is_ordinary(const struct message_spec *s)
{
    return !s->headers && !s->shadow && !s->eta_ms && !s->expires_ms && !s->group &&
           s->group_index < 0 && s->retries == 0 && s->hard_limit_s <= 0 && s->soft_limit_s <= 0;
}

static void put_options(struct writer *w)
{
    const struct message_spec *s = w->spec;

    if (is_ordinary(s)) {
        buf_adds(w->out, ", \"shadow\": null, \"eta\": null, \"expires\": null, \"group\": null, "
                         "\"group_index\": null, \"retries\": 0, \"timelimit\": [null, null]");
        return;
    }
    header_text(w, HEADER("shadow"), s->shadow);
    header_time(w, HEADER("eta"), s->eta_ms);
    header_time(w, HEADER("expires"), s->expires_ms);
    header_text(w, HEADER("group"), s->group);
    header_integer(w, HEADER("group_index"), s->group_index, s->group_index < 0);
    header_integer(w, HEADER("retries"), s->retries, false);
    header_limits(w);
}

static void put_headers(struct writer *w)
{
    const struct message_spec *s = w->spec;

    buf_adds(w->out, "{");
    w->first = true;
    header_text(w, HEADER("lang"), "py");
    header_text(w, HEADER("task"), s->task);
    header_text(w, HEADER("id"), s->id);
    put_options(w);
    header_text(w, HEADER("root_id"), s->root_id ? s->root_id : s->id);
    header_text(w, HEADER("parent_id"), s->parent_id);
    header_repr(w, HEADER("argsrepr"), &args_repr, s->args, s->args_text);
    header_repr(w, HEADER("kwargsrepr"), &kwargs_repr, s->kwargs, s->kwargs_text);
    header_origin(w);
    if (put_header(w, HEADER("ignore_result")))
        buf_adds(w->out, s->ignore_result ? "true" : "false");
    put_user_headers(w);
    if (s->now_ms)
        header_integer(w, HEADER(MESSAGE_H_SENT_MS), s->now_ms, false);
    buf_adds(w->out, "}");
}

static void put_properties(struct writer *w, struct uuid_source *ids)
{
    const struct message_spec *s = w->spec;
    char tag[UUID_SIZE];

    buf_adds(w->out, "{\"correlation_id\": ");
    put_text(w, s->id);
    buf_adds(w->out, ", \"reply_to\": ");
    put_text(w, s->reply_to ? s->reply_to : "");
    buf_adds(w->out, ", \"delivery_mode\": 2");
    if (s->expires_ms && s->now_ms)
        buf_addf(w->out, ", \"expiration\": \"%lld\"",
                 (long long)(s->expires_ms > s->now_ms ? s->expires_ms - s->now_ms : 0));
    buf_adds(w->out, ", \"delivery_info\": {\"exchange\": \"\", \"routing_key\": ");
    put_text(w, s->queue ? s->queue : "celery");
    uuid_next(ids, tag);
    buf_adds(w->out, "}, \"priority\": ");
    buf_addi(w->out, s->priority);
    buf_adds(w->out, ", \"body_encoding\": \"base64\", \"delivery_tag\": \"");
    buf_adds(w->out, tag);
    buf_adds(w->out, "\"}");
}

#define NO_EMBED "{\"callbacks\": null, \"errbacks\": null, \"chain\": null, \"chord\": null}"

static int check_body(const struct writer *w, size_t len)
{
    if (len <= MESSAGE_BODY_MAX)
        return 0;
    return err_set(w->e, ERR_USAGE, "the arguments of \"%s\" need %zu bytes, the limit is %u",
                   w->spec->task, len, MESSAGE_BODY_MAX);
}

/* A part of the body: its text, its value, or what stands for none. */
static void put_part(struct writer *w, struct slice text, const json_t *value, const char *none)
{
    if (text.ptr)
        buf_add(w->out, text.ptr, text.len);
    else if (value)
        put_value(w, value);
    else
        buf_adds(w->out, none);
}

/* [args, kwargs, embed] in base64. */
static int put_body(struct writer *w)
{
    const struct message_spec *s = w->spec;
    struct buf body = BUF_INIT;
    struct writer text = {&body, s, w->e, true, false};

    buf_reserve(&body, s->args_text.len + s->kwargs_text.len + USUAL_SIZE / 4);
    buf_adds(&body, "[");
    put_part(&text, s->args_text, s->args, "[]");
    buf_adds(&body, ", ");
    put_part(&text, s->kwargs_text, s->kwargs, "{}");
    buf_adds(&body, ", ");
    put_part(&text, (struct slice){NULL, 0}, s->embed, NO_EMBED);
    buf_adds(&body, "]");
    if (check_body(w, body.len) < 0)
        text.failed = true;
    if (!text.failed && !body.failed)
        base64_put(w->out, buf_slice(&body));
    w->out->failed |= body.failed;
    buf_release(&body);
    return text.failed ? -1 : 0;
}

static bool time_fits(int64_t wall_ms)
{
    return wall_ms >= 0 && wall_ms <= TIME_MAX_MS;
}

/* What a Celery worker would stumble over is refused here. */
static int check(const struct message_spec *s, struct err *e)
{
    if (!s->task || !*s->task)
        return err_set(e, ERR_USAGE, "a message needs the name of a task");
    if (!s->id || !*s->id)
        return err_set(e, ERR_USAGE, "the message for \"%s\" needs an id", s->task);
    if (s->args && !json_is_array(s->args))
        return err_set(e, ERR_USAGE, "the arguments of \"%s\" must be a JSON array", s->task);
    if (s->kwargs && !json_is_object(s->kwargs))
        return err_set(e, ERR_USAGE, "the keyword arguments of \"%s\" must be a JSON object",
                       s->task);
    if (s->headers && !json_is_object(s->headers))
        return err_set(e, ERR_USAGE, "the headers of \"%s\" must be a JSON object", s->task);
    if (s->priority < 0 || s->priority > 9)
        return err_set(e, ERR_USAGE, "the priority of \"%s\" must be 0 to 9, not %d", s->task,
                       s->priority);
    if (s->retries < 0 || s->retries > INT32_MAX)
        return err_set(e, ERR_USAGE, "the retries of \"%s\" are out of range: %lld", s->task,
                       (long long)s->retries);
    if (!time_fits(s->eta_ms) || !time_fits(s->expires_ms))
        return err_set(e, ERR_USAGE, "eta or expires of \"%s\" is not before the year 10000",
                       s->task);
    if (!(s->hard_limit_s <= 1e9) || !(s->soft_limit_s <= 1e9))
        return err_set(e, ERR_USAGE, "a time limit of \"%s\" is longer than 1e9 seconds", s->task);
    return 0;
}

int message_encode(struct buf *out, const struct message_spec *spec, struct uuid_source *ids,
                   struct err *e)
{
    struct writer w = {out, spec, e, true, false};
    size_t before = out->len;

    if (check(spec, e) < 0)
        return -1;
    buf_reserve(out, USUAL_SIZE);
    buf_adds(out, "{\"body\": \"");
    if (put_body(&w) < 0)
        w.failed = true;
    buf_adds(out, "\", \"content-encoding\": \"utf-8\", \"content-type\": \"application/json\", "
                  "\"headers\": ");
    put_headers(&w);
    buf_adds(out, ", \"properties\": ");
    put_properties(&w, ids);
    buf_adds(out, "}");
    if (out->failed)
        return err_nomem(e);
    if (w.failed) {
        out->len = before;
        return err_wrap(e, "the message for \"%s\" can not be sent", spec->task);
    }
    return 0;
}

int message_with_header(struct buf *out, struct message *m, const char *header, json_t *value,
                        struct err *e)
{
    json_t *headers = json_text_copy(message_headers(m));
    json_t *envelope = json_text_copy(m->envelope);
    int status = -1;

    if (!envelope || !headers) {
        json_decref(value);
        err_nomem(e);
    } else if (json_object_set_new(headers, header, value) < 0 ||
               json_object_set(envelope, "headers", headers) < 0) {
        err_nomem(e);
    } else {
        status = json_text_value(out, envelope, e);
    }
    json_decref(headers);
    json_decref(envelope);
    return status == 0 && out->failed ? err_nomem(e) : status;
}
