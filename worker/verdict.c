#include "worker/verdict.h"

#include "base/isotime.h"
#include "broker/backoff.h"
#include "broker/json_text.h"
#include "worker/canvas.h"

#include <stdlib.h>

#define KEEP_MAX ((size_t)1 << 20) /* a larger buffer is given back after its job */

/* What the makers share. */
struct making {
    struct verdict *v;
    struct call *call;
    const struct result_times *times;
    struct canvas_sender from;
};

void verdict_init(struct verdict *v)
{
    *v = (struct verdict){.result = BUF_INIT, .followups = BUF_INIT};
}

void verdict_release(struct verdict *v)
{
    buf_release(&v->result);
    buf_release(&v->followups);
}

static void reuse(struct buf *b)
{
    if (b->cap > KEEP_MAX || b->failed)
        buf_release(b);
    else
        buf_clear(b);
}

static bool ignores_result(const struct call *call)
{
    if (call->message->ignore_result >= 0)
        return call->message->ignore_result == 1;
    return call->entry && call->entry->row.ignore_result == CELERIAC_YES;
}

static int encode_doc(struct making *m, const char *status, json_t *result, bool final,
                      struct err *e)
{
    const struct call *call = m->call;
    struct result_doc doc = {
        .status = status,
        .result = result,
        .traceback = call->record.traceback,
        .children = call->children,
        .no_children = call->record.decision == CALL_REVOKED,
        .group_id = call->base.group,
        .parent_id = call->base.parent_id,
        .task_id = call->base.id,
        .date_done_us = final ? isotime_now_us() : 0,
        .worker = call->env->node,
        .pid = call->env->pid,
        .times = m->times,
        .duplicate_of = call->record.decision == CALL_OK ? call->duplicate_of : NULL,
    };

    buf_clear(&m->v->result);
    if (ignores_result(call))
        return 0;
    if (result_encode(&m->v->result, &doc, e) < 0)
        return -1;
    if (m->v->result.len > MESSAGE_BODY_MAX)
        return err_set(e, ERR_USAGE, "a result of %zu bytes is over the limit of %u",
                       m->v->result.len, MESSAGE_BODY_MAX);
    return 0;
}

/* Documents of exceptions are small: what fails here is memory, and the runner is better dead. */
static void encode_or_die(struct making *m, const char *status, json_t *exception, bool final)
{
    struct err e = ERR_INIT;

    if (encode_doc(m, status, exception, final, &e) < 0) {
        log_error(m->call->env->log, "result can not be written", "id=%s cause=\"%s\"",
                  m->call->base.id, e.text);
        abort();
    }
    json_decref(exception);
}

static json_t *exception_of(const struct call_record *r)
{
    return r->type ? result_exception(r->type, r->module, json_incref(r->value)) : json_null();
}

/* One signature, with what is applied to it, sent with the verdict. */
static int follow(struct making *m, json_t *signature, const struct canvas_with *with,
                  struct err *e)
{
    char id[UUID_SIZE];

    if (m->v->followups_len >= CHANNEL_FOLLOWUPS_MAX)
        return err_set(e, ERR_USAGE, "more than %d messages follow", CHANNEL_FOLLOWUPS_MAX);
    if (canvas_put(&m->v->followups, signature, &m->from, with, id, e) < 0)
        return -1;
    m->v->followups_len++;
    return call_add_child(m->call, id);
}

/* A list of signatures; several of them make a group, as in Celery. */
static int follow_all(struct making *m, json_t *list, struct canvas_with with, const char *what,
                      struct err *e)
{
    char group[UUID_SIZE];
    json_t *signature;
    size_t i;

    if (!list || json_is_null(list))
        return 0;
    if (!json_is_array(list))
        return err_set(e, ERR_USAGE, "%s is not a list of signatures", what);
    if (json_array_size(list) > 1 && with.group) {
        uuid_next(m->from.ids, group);
        with.group = group;
    } else {
        with.group = NULL;
    }
    json_array_foreach(list, i, signature)
    {
        with.group_index = (int64_t)i;
        if (follow(m, signature, &with, e) < 0)
            return err_wrap(e, "%s", what);
    }
    return 0;
}

/* The last element is the next step; the others travel with it. */
static int follow_chain(struct making *m, json_t *chain, json_t *value, struct err *e)
{
    size_t n = json_array_size(chain);
    struct canvas_with with = CANVAS_PLAIN;
    int rc;

    if (!chain || json_is_null(chain) || (json_is_array(chain) && n == 0))
        return 0;
    if (!json_is_array(chain))
        return err_set(e, ERR_USAGE, "chain is not a list of signatures");
    with.argument = value;
    with.chain = json_text_copy(chain);
    if (!with.chain)
        return err_nomem(e);
    json_array_remove(with.chain, n - 1);
    rc = follow(m, json_array_get(chain, n - 1), &with, e);
    json_decref(with.chain);
    return rc < 0 ? err_wrap(e, "chain") : 0;
}

static int follow_success(struct making *m, json_t *value, struct err *e)
{
    json_t *embed = m->call->message->embed;
    struct canvas_with with = {.argument = value, .group = "", .group_index = -1};

    if (follow_all(m, json_object_get(embed, "callbacks"), with, "callbacks", e) < 0)
        return -1;
    return follow_chain(m, json_object_get(embed, "chain"), value, e);
}

static void drop_followups_after(struct making *m, size_t len, uint32_t count, size_t children)
{
    m->v->followups.len = len;
    m->v->followups_len = count;
    while (json_array_size(m->call->children) > children)
        json_array_remove(m->call->children, json_array_size(m->call->children) - 1);
}

static void make_failure(struct making *m)
{
    struct verdict *v = m->v;
    json_t *id = json_string(m->call->base.id);
    struct canvas_with with = {.argument = id, .group_index = -1};
    size_t children = json_array_size(m->call->children), len = v->followups.len;
    uint32_t count = v->followups_len;
    struct err e = ERR_INIT;

    if (follow_all(m, json_object_get(m->call->message->embed, "errbacks"), with, "errbacks", &e) <
        0) {
        log_warn(m->call->env->log, "errbacks dropped", "id=%s cause=\"%s\"", m->call->base.id,
                 e.text);
        drop_followups_after(m, len, count, children);
    }
    json_decref(id);
    encode_or_die(m, "FAILURE", exception_of(&m->call->record), true);
    v->out.outcome = CHANNEL_FAILURE;
}

/* The task ran well, but what should follow does not work: Celery's type for the cause. */
static void fail_instead(struct making *m, const char *type, const char *module,
                         const struct err *e)
{
    call_fail_text(m->call, type, module, e->text);
    make_failure(m);
}

static void make_success(struct making *m)
{
    size_t children = json_array_size(m->call->children), len = m->v->followups.len;
    uint32_t count = m->v->followups_len;
    json_t *value = m->call->record.value;
    struct err e = ERR_INIT;

    m->v->out.outcome = CHANNEL_SUCCESS;
    if (follow_success(m, value, &e) < 0) {
        drop_followups_after(m, len, count, children);
        fail_instead(m, e.code == ERR_REFUSED ? "NotImplementedError" : "ValueError", NULL, &e);
    } else if (encode_doc(m, "SUCCESS", value, true, &e) < 0) {
        drop_followups_after(m, len, count, children);
        fail_instead(m, "EncodeError", "kombu.exceptions", &e);
    }
}

static bool is_exhausted(const struct call *call)
{
    const struct call_record *r = &call->record;
    int most = r->max_retries != CELERIAC_UNSET ? r->max_retries : call->entry->row.max_retries;

    if (most == CELERIAC_UNLIMITED)
        return false;
    return call->message->retries + 1 > (most == CELERIAC_ZERO ? 0 : most);
}

static json_t *exhausted_text(const struct call *call)
{
    const struct message *m = call->message;
    struct buf args = BUF_INIT, kwargs = BUF_INIT;
    json_t *text;

    message_args_repr(&args, call->record.args ? call->record.args : m->args);
    message_kwargs_repr(&kwargs, call->record.kwargs ? call->record.kwargs : m->kwargs);
    text = json_sprintf("Can't retry %s[%s] args:%s kwargs:%s", m->task, m->id, buf_str(&args),
                        buf_str(&kwargs));
    buf_release(&args);
    buf_release(&kwargs);
    return text;
}

/* How long until the next attempt, from the row's backoff where the task did not say. */
static int64_t countdown_of(const struct making *m)
{
    const struct celeriac_task *row = &m->call->entry->row;
    int64_t retries = m->call->message->retries;

    if (m->call->record.countdown_ms >= 0)
        return m->call->record.countdown_ms;
    return backoff_ms((int64_t)(row->backoff_s * 1000), (int64_t)(row->backoff_max_s * 1000),
                      (unsigned)(retries < 64 ? retries : 64),
                      row->jitter == CELERIAC_NO ? 0 : uuid_random(m->from.ids) | 1);
}

static int put_next_attempt(struct making *m, struct buf *out, struct err *e)
{
    const struct call_record *r = &m->call->record;
    int64_t countdown_ms = countdown_of(m);
    struct message_spec spec;

    if (message_spec_retry(&spec, m->call->message, e) < 0)
        return -1;
    spec.now_ms = m->from.now_ms;
    spec.eta_ms = r->eta_ms ? r->eta_ms : m->from.now_ms + countdown_ms;
    if (r->args)
        spec.args = r->args;
    if (r->kwargs)
        spec.kwargs = r->kwargs;
    if (r->headers)
        spec.headers = r->headers;
    if (r->priority >= 0)
        spec.priority = r->priority;
    if (r->queue)
        spec.queue = r->queue;
    return canvas_put_spec(out, &spec, spec.eta_ms > m->from.now_ms ? spec.eta_ms : 0, true,
                           m->from.ids, e);
}

/* The next attempt goes in front of what the task spawned: the dispatcher knows it by its place. */
static void make_retry(struct making *m)
{
    struct buf first = BUF_INIT;
    struct err e = ERR_INIT;

    if (is_exhausted(m->call)) {
        if (!m->call->record.type)
            call_fail(m->call, "MaxRetriesExceededError", "celery.exceptions",
                      exhausted_text(m->call), NULL);
        make_failure(m);
        return;
    }
    if (put_next_attempt(m, &first, &e) < 0) {
        fail_instead(m, "ValueError", NULL, &e);
    } else {
        buf_add(&first, buf_slice(&m->v->followups).ptr, m->v->followups.len);
        reuse(&m->v->followups);
        buf_add(&m->v->followups, buf_slice(&first).ptr, first.len);
        m->v->followups_len++;
        call_add_child(m->call, m->call->base.id);
        encode_or_die(m, "RETRY", exception_of(&m->call->record), false);
        m->v->out.outcome = CHANNEL_RETRY;
    }
    buf_release(&first);
}

static void drop_all_followups(struct making *m)
{
    drop_followups_after(m, 0, 0, 0);
}

static void make_reject(struct making *m)
{
    drop_all_followups(m);
    call_fail(m->call, "Reject", "celery.exceptions", json_pack("[n, b]", 0), NULL);
    encode_or_die(m, "FAILURE", exception_of(&m->call->record), true);
    m->v->out.outcome = CHANNEL_REJECT;
    m->v->out.cause = slice_of("rejected by the task");
}

static void make_requeue(struct making *m)
{
    drop_all_followups(m);
    m->v->out.outcome = CHANNEL_REQUEUE;
}

static void make_ignored(struct making *m)
{
    m->v->out.outcome = CHANNEL_IGNORED;
}

static void make_revoked(struct making *m)
{
    json_t *error =
        result_exception("TaskRevokedError", "celery.exceptions", json_string("expired"));

    encode_or_die(m, "REVOKED", error, true);
    m->v->out.outcome = CHANNEL_FAILURE;
}

static void (*const makers[])(struct making *m) = {
    [CALL_UNDECIDED] = make_success, [CALL_OK] = make_success,      [CALL_FAIL] = make_failure,
    [CALL_RETRY] = make_retry,       [CALL_REJECT] = make_reject,   [CALL_REQUEUE] = make_requeue,
    [CALL_IGNORE] = make_ignored,    [CALL_REVOKED] = make_revoked,
};

static int64_t expires_ms(const struct call *call, double default_s)
{
    double s = call->entry ? call->entry->row.result_expires_s : 0;

    if (s == 0)
        s = default_s;
    return s < 0 ? -1 : (int64_t)(s * 1000);
}

static struct making begin(struct verdict *v, struct call *call, const struct result_times *times)
{
    reuse(&v->result);
    reuse(&v->followups);
    v->followups_len = call->followups_len;
    buf_add(&v->followups, buf_slice(&call->followups).ptr, call->followups.len);
    v->followups.failed |= call->followups.failed;
    v->out = (struct channel_verdict){.run_us = times ? times->run_us : 0,
                                      .queued_us = times ? times->queued_us : -1,
                                      .dispatched_us = times ? times->dispatched_us : -1};
    return (struct making){
        v, call, times, {call->message, call->env->ids, isotime_now_us() / 1000}};
}

static void end(struct making *m)
{
    struct verdict *v = m->v;

    if (v->followups.failed) { /* as in encode_or_die */
        log_error(m->call->env->log, "out of memory for what follows", "id=%s", m->call->base.id);
        abort();
    }
    v->out.result = v->result.len ? buf_slice(&v->result) : slice_make(NULL, 0);
    v->out.followups = buf_slice(&v->followups);
    v->out.followups_len = v->followups_len;
}

void verdict_make(struct verdict *v, struct call *call, const struct result_times *times,
                  double expires_s)
{
    struct making m = begin(v, call, times);

    makers[call->record.decision](&m);
    v->out.result_expires_ms = expires_ms(call, expires_s);
    end(&m);
}

void verdict_make_poison(struct verdict *v, struct call *call, const char *cause)
{
    struct making m = begin(v, call, NULL);

    call_fail_text(call, "DecodeError", "kombu.exceptions", cause);
    if (call->base.id)
        encode_or_die(&m, "FAILURE", exception_of(&call->record), true);
    v->out.outcome = CHANNEL_POISON;
    v->out.cause = slice_of(cause);
    end(&m);
}
