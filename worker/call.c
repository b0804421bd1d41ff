#include "worker/call.h"

#include "base/isotime.h"
#include "worker/cancel.h"
#include "worker/canvas.h"

#include <math.h>
#include <stdlib.h>
#include <unistd.h>

#define COUNTDOWN_MAX_S 3155760000.0 /* a century: more is a mistake */

static struct call *call_of(struct celeriac_call *base)
{
    return (struct call *)base;
}

static void record_release(struct call_record *r)
{
    json_decref(r->value);
    json_decref(r->args);
    json_decref(r->kwargs);
    json_decref(r->headers);
    free(r->type);
    free(r->module);
    free(r->traceback);
    free(r->queue);
    *r = (struct call_record){.countdown_ms = -1, .priority = -1};
}

/* Forgets an earlier verdict: the last one wins. */
static struct call_record *decide(struct call *call, enum call_decision decision)
{
    record_release(&call->record);
    call->record.decision = decision;
    return &call->record;
}

static char *copy_text(const char *text)
{
    return text ? strdup(text) : NULL;
}

/* A copy that JSON can hold: text that is not UTF-8 keeps its ASCII. */
static char *copy_utf8(const char *text)
{
    char *copy = copy_text(text);
    json_t *valid = copy ? json_string(copy) : NULL;

    if (copy && !valid) {
        for (char *c = copy; *c; c++) {
            if ((unsigned char)*c >= 0x80)
                *c = '?';
        }
    }
    json_decref(valid);
    return copy;
}

/* One line in the worker's log about a request of the task that could not be met. Returns -1. */
static int refuse(struct call *call, const char *what, const struct err *e)
{
    log_warn(call->env->log, "task asked for something that can not be done",
             "task=%s id=%s what=%s cause=\"%s\"", call->base.task, call->base.id, what, e->text);
    return -1;
}

void call_fail(struct call *call, const char *type, const char *module, json_t *messages,
               const char *traceback)
{
    struct call_record *r = decide(call, CALL_FAIL);

    r->type = copy_utf8(type && *type ? type : "RuntimeError");
    r->module = copy_utf8(module);
    r->traceback = copy_utf8(traceback);
    r->value = messages ? messages : json_array();
    if (!json_is_array(r->value)) {
        json_t *list = json_pack("[o]", r->value);

        r->value = list;
    }
}

void call_fail_text(struct call *call, const char *type, const char *module, const char *text)
{
    char *copy = copy_utf8(text);

    call_fail(call, type, module, json_string(copy), NULL);
    free(copy);
}

int call_add_child(struct call *call, const char *id)
{
    if (!call->children)
        call->children = json_array();
    return json_array_append_new(call->children, json_pack("[[s, n], n]", id));
}

static int fn_cancelled(struct celeriac_call *base)
{
    (void)base;
    return cancel_raised();
}

int call_note(struct call *call, const char *state, json_t *result)
{
    struct result_doc doc = {
        .status = state,
        .result = result,
        .children = call->children,
        .group_id = call->base.group,
        .parent_id = call->base.parent_id,
        .task_id = call->base.id,
    };
    struct buf text = BUF_INIT;
    struct err e = ERR_INIT;
    int rc = result_encode(&text, &doc, &e);

    if (rc == 0) {
        frame_put(call->env->jobs, CHANNEL_NOTE, 0, call->job, buf_slice(&text));
        rc = frame_flush(call->env->jobs, &e) == FRAME_OK ? 0 : -1;
    }
    buf_release(&text);
    return rc < 0 ? refuse(call, state, &e) : 0;
}

static bool is_final(const char *state)
{
    static const char *const finals[] = {"SUCCESS", "FAILURE", "REVOKED", "RETRY", "PENDING"};

    for (size_t i = 0; i < sizeof(finals) / sizeof(finals[0]); i++) {
        if (strcmp(state, finals[i]) == 0)
            return true;
    }
    return false;
}

static int fn_progress(struct celeriac_call *base, const char *state, json_t *meta)
{
    struct call *call = call_of(base);
    struct err e = ERR_INIT;
    int rc;

    if (!state || !*state || is_final(state)) {
        err_set(&e, ERR_USAGE, "\"%s\" is not a state between start and end", state ? state : "");
        rc = refuse(call, "progress", &e);
    } else {
        rc = call_note(call, state, meta);
    }
    json_decref(meta);
    return rc;
}

static struct canvas_sender sender_of(const struct call *call)
{
    return (struct canvas_sender){call->message, call->env->ids, isotime_now_us() / 1000};
}

static void not_implemented(struct call *call, const char *what)
{
    call_fail_text(call, "NotImplementedError", NULL, what);
}

/* Encodes a signature into out. signature: taken. */
static int put_signature(struct call *call, struct buf *out, json_t *signature, char *id_out)
{
    static const struct canvas_with plain = CANVAS_PLAIN;
    struct canvas_sender from = sender_of(call);
    size_t before = out->len;
    struct err e = ERR_INIT;
    int rc = canvas_put(out, signature, &from, &plain, id_out, &e);

    json_decref(signature);
    if (rc == 0 && call_add_child(call, id_out) == 0)
        return 0;
    out->len = before;
    if (rc == 0)
        err_nomem(&e);
    if (e.code == ERR_REFUSED)
        not_implemented(call, e.text);
    return refuse(call, "a signature", &e);
}

static int fn_spawn(struct celeriac_call *base, json_t *signature, char id_out[])
{
    struct call *call = call_of(base);
    struct err e = ERR_INIT;

    if (call->followups_len >= CHANNEL_FOLLOWUPS_MAX) {
        json_decref(signature);
        err_set(&e, ERR_USAGE, "a task may spawn at most %d others", CHANNEL_FOLLOWUPS_MAX);
        return refuse(call, "spawn", &e);
    }
    if (put_signature(call, &call->followups, signature, id_out) < 0)
        return -1;
    call->followups_len++;
    return 0;
}

static int fn_send_now(struct celeriac_call *base, json_t *signature, char id_out[])
{
    struct call *call = call_of(base);
    struct frame_link *jobs = call->env->jobs;
    struct buf followup = BUF_INIT;
    struct err e = ERR_INIT;
    int rc = put_signature(call, &followup, signature, id_out);

    if (rc == 0) {
        frame_put(jobs, CHANNEL_SEND, 0, call->job, buf_slice(&followup));
        if (frame_flush(jobs, &e) != FRAME_OK)
            rc = refuse(call, "send_now", &e);
    }
    buf_release(&followup);
    return rc;
}

static int fn_add_to_chord(struct celeriac_call *base, json_t *signature, char id_out[])
{
    json_decref(signature);
    id_out[0] = '\0';
    not_implemented(call_of(base), "add_to_chord is not implemented");
    return -1;
}

static int fn_replace(struct celeriac_call *base, json_t *signature)
{
    json_decref(signature);
    not_implemented(call_of(base), "replace is not implemented");
    return -1;
}

static void fn_log(struct celeriac_call *base, enum celeriac_log_level level, const char *text)
{
    log_event(call_of(base)->env->log, (enum log_level)level, "task says",
              "task=%s id=%s text=\"%s\"", base->task, base->id, text ? text : "");
}

static int fn_ok(struct celeriac_call *base, json_t *value)
{
    struct call *call = call_of(base);

    decide(call, CALL_OK)->value = value ? value : json_null();
    return 0;
}

static int fn_fail(struct celeriac_call *base, const char *type, const char *module,
                   json_t *messages, const char *traceback)
{
    call_fail(call_of(base), type, module, messages, traceback);
    return 0;
}

/* A copy as this version knows it: what an older module did not have is not set. */
static struct celeriac_retry read_retry(const struct celeriac_retry *how)
{
    struct celeriac_retry known = CELERIAC_RETRY_INIT;

    if (how)
        memcpy(&known, how, how->size < sizeof(known) ? how->size : sizeof(known));
    return known;
}

static int check_retry(const struct celeriac_retry *how, int64_t *eta_ms, struct err *e)
{
    if (isnan(how->countdown_s) || how->countdown_s > COUNTDOWN_MAX_S)
        return err_set(e, ERR_USAGE, "a countdown of %g seconds", how->countdown_s);
    if (how->eta && isotime_parse(how->eta, eta_ms) < 0)
        return err_set(e, ERR_USAGE, "\"%s\" is not an ISO-8601 time", how->eta);
    if (how->args && !json_is_array(how->args))
        return err_set(e, ERR_USAGE, "args is not an array");
    if (how->kwargs && !json_is_object(how->kwargs))
        return err_set(e, ERR_USAGE, "kwargs is not an object");
    if (how->headers && !json_is_object(how->headers))
        return err_set(e, ERR_USAGE, "headers is not an object");
    if (how->priority > 9)
        return err_set(e, ERR_USAGE, "a priority of %d", how->priority);
    return 0;
}

/* ["text"], whatever bytes the text has. */
static json_t *text_list(const char *text)
{
    char *copy = copy_utf8(text);
    json_t *list = json_pack("[s]", copy);

    free(copy);
    return list;
}

static int fn_retry(struct celeriac_call *base, const struct celeriac_retry *how_given)
{
    struct call *call = call_of(base);
    struct celeriac_retry how = read_retry(how_given);
    struct call_record *r;
    struct err e = ERR_INIT;
    int64_t eta_ms = 0;

    if (check_retry(&how, &eta_ms, &e) < 0)
        return refuse(call, "retry", &e);
    r = decide(call, CALL_RETRY);
    r->countdown_ms = how.countdown_s < 0 ? -1 : (int64_t)llround(how.countdown_s * 1000);
    r->eta_ms = eta_ms;
    r->max_retries = how.max_retries;
    r->priority = how.priority;
    r->queue = copy_text(how.queue);
    r->args = json_incref(how.args);
    r->kwargs = json_incref(how.kwargs);
    r->headers = json_incref(how.headers);
    if (how.exc_type) {
        r->type = copy_utf8(how.exc_type);
        r->value = how.exc_message ? text_list(how.exc_message) : json_array();
    }
    return 0;
}

static int fn_reject(struct celeriac_call *base, int requeue)
{
    decide(call_of(base), requeue ? CALL_REQUEUE : CALL_REJECT);
    return 0;
}

static int fn_ignore(struct celeriac_call *base)
{
    decide(call_of(base), CALL_IGNORE);
    return 0;
}

static json_t *fn_headers(struct celeriac_call *base)
{
    return message_headers(call_of(base)->message);
}

static json_t *fn_properties(struct celeriac_call *base)
{
    return message_properties(call_of(base)->message);
}

static json_t *fn_embed(struct celeriac_call *base)
{
    struct call *call = call_of(base);

    if (call->message->embed)
        return call->message->embed;
    if (!call->embed)
        call->embed = json_pack("{s:n, s:n, s:n, s:n}", "callbacks", "errbacks", "chain", "chord");
    return call->embed;
}

static const struct celeriac_call_fns functions = {
    .size = sizeof(struct celeriac_call_fns),
    .cancelled = fn_cancelled,
    .progress = fn_progress,
    .spawn = fn_spawn,
    .add_to_chord = fn_add_to_chord,
    .send_now = fn_send_now,
    .log = fn_log,
    .ok = fn_ok,
    .fail = fn_fail,
    .retry = fn_retry,
    .replace = fn_replace,
    .reject = fn_reject,
    .ignore = fn_ignore,
    .headers = fn_headers,
    .properties = fn_properties,
    .embed = fn_embed,
};

static const char *chord_id(const struct message *m)
{
    json_t *options = json_object_get(json_object_get(m->embed, "chord"), "options");

    return json_string_value(json_object_get(options, "task_id"));
}

static void fill_base(struct celeriac_call *base, const struct message *m)
{
    base->args = m->args;
    base->kwargs = m->kwargs;
    base->task = m->task;
    base->id = m->id;
    base->root_id = m->root_id;
    base->parent_id = m->parent_id;
    base->group = m->group;
    base->chord = chord_id(m);
    base->reply_to = m->reply_to;
    base->eta = m->eta;
    base->expires = m->expires;
    base->group_index = m->group_index;
    base->retries = m->retries;
}

void call_init(struct call *call, const struct call_env *env, struct message *message,
               const struct registry_entry *entry, const struct channel_run *run, uint64_t job)
{
    struct celeriac_call *base = &call->base;

    *call = (struct call){.env = env,
                          .message = message,
                          .entry = entry,
                          .run = run,
                          .job = job,
                          .record = {.countdown_ms = -1, .priority = -1}};
    base->size = sizeof(*base);
    base->fn = &functions;
    fill_base(base, message);
    base->hostname = env->node;
    base->attempt = run->attempt;
    base->fence = run->fence;
    base->soft_limit_s = run->soft_limit_s;
    base->hard_limit_s = run->hard_limit_s;
    if (run->hard_limit_s > 0)
        base->deadline_ms = isotime_now_us() / 1000 + (int64_t)(run->hard_limit_s * 1000);
}

void call_release(struct call *call)
{
    record_release(&call->record);
    json_decref(call->kwargs);
    json_decref(call->embed);
    json_decref(call->children);
    free(call->duplicate_of);
    buf_release(&call->followups);
    *call = (struct call){.job = 0};
}

int call_bind(struct call *call)
{
    struct err e = ERR_INIT;

    if (!call->entry->params)
        return 0;
    if (params_bind(call->entry->params, call->base.task, call->base.args, call->base.kwargs,
                    &call->kwargs, &e) < 0) {
        call_fail_text(call, e.code == ERR_NOMEM ? "MemoryError" : "TypeError", NULL, e.text);
        return -1;
    }
    call->base.kwargs = call->kwargs;
    return 0;
}

static void fail_returned(struct call *call, int returned)
{
    call_fail(call, "RuntimeError", NULL,
              json_sprintf("task %s returned %d and set no verdict", call->base.task, returned),
              NULL);
}

void call_conclude(struct call *call, int returned, bool cancelled)
{
    enum call_decision decision = call->record.decision;

    if (decision != CALL_UNDECIDED && decision != CALL_FAIL)
        return;
    /* A task that reports the system call which the signal interrupted means the signal. */
    if (cancelled)
        call_fail(call, "SoftTimeLimitExceeded", "billiard.exceptions", json_array(), NULL);
    else if (decision == CALL_UNDECIDED && returned == 0)
        decide(call, CALL_OK);
    else if (decision == CALL_UNDECIDED)
        fail_returned(call, returned);
}
