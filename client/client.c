/* The public functions of celeriac.h over sessions. */
#include "client/celeriac.h"

#include "base/exitcode.h"
#include "broker/result.h"
#include "client/pipeline.h"
#include "client/results.h"
#include "client/send.h"
#include "client/task_call.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct celeriac {
    struct session session;
    struct outgoing alone;     /* the last that was sent by itself: its memory serves the next */
    struct pipeline *pipeline; /* NULL until many are sent */
};

/* The public codes are the exit codes: one table, in base/exitcode.c, serves both. */
_Static_assert((int)CELERIAC_TASK_FAILED == (int)EXITCODE_TASK_FAILED &&
                   (int)CELERIAC_USAGE == (int)EXITCODE_USAGE &&
                   (int)CELERIAC_UNREACHABLE == (int)EXITCODE_UNREACHABLE &&
                   (int)CELERIAC_NOT_FOUND == (int)EXITCODE_NOT_FOUND &&
                   (int)CELERIAC_REFUSED == (int)EXITCODE_REFUSED &&
                   (int)CELERIAC_TIMEOUT == (int)EXITCODE_TIMEOUT &&
                   (int)CELERIAC_PARTIAL == (int)EXITCODE_PARTIAL,
               "enum celeriac_code and enum exitcode have the same numbers");

static int report(struct celeriac_error *to, const struct err *e)
{
    if (to) {
        enum exitcode code = exitcode_of(e->code);

        to->code = code == EXITCODE_INTERNAL ? CELERIAC_REFUSED : (enum celeriac_code)code;
        snprintf(to->text, sizeof(to->text), "%s", e->text);
    }
    return -1;
}

static int succeeded(struct celeriac_error *to)
{
    if (to)
        *to = (struct celeriac_error){CELERIAC_OK, ""};
    return 0;
}

static int conclude(int status, struct celeriac_error *to, const struct err *e)
{
    return status < 0 ? report(to, e) : succeeded(to);
}

struct celeriac *celeriac_open(const char *url, const struct celeriac_options *options,
                               struct celeriac_error *err)
{
    struct celeriac_options o = CELERIAC_OPTIONS_INIT;
    struct celeriac *c = calloc(1, sizeof(*c));
    struct err e = ERR_INIT;
    struct session_config config;

    if (options)
        memcpy(&o, options, options->size < sizeof(o) ? options->size : sizeof(o));
    config = (struct session_config){
        .url = url, .result_url = o.result_url, .timeout_ms = o.timeout_ms, .replies = true};
    if (!c)
        err_nomem(&e);
    if (!c || session_open(&c->session, &config, &e) < 0) {
        free(c);
        report(err, &e);
        return NULL;
    }
    succeeded(err);
    return c;
}

void celeriac_close(struct celeriac *c)
{
    if (!c)
        return;
    session_close(&c->session);
    outgoing_release(&c->alone);
    pipeline_free(c->pipeline);
    free(c);
}

static int prepare(struct celeriac *c, const char *task,
                   const struct celeriac_task_options *options, bool alone, struct outgoing *o,
                   struct err *e)
{
    struct task_call call;
    int status = task_call_from_options(&call, task, options, e);

    call.origin = c->session.origin;
    if (status == 0 && alone && !call.id)
        call.new_id = ahead_take(&c->session);
    if (status == 0)
        status = task_call_encode(&call, &c->session.ids, clock_wall_ms(c->session.clock), o, e);
    task_call_release(&call);
    return status;
}

int celeriac_send(struct celeriac *c, const char *task, const struct celeriac_task_options *options,
                  char id_out[CELERIAC_ID_SIZE], struct celeriac_error *err)
{
    struct outgoing *o = &c->alone;
    struct err e = ERR_INIT;
    int status = prepare(c, task, options, true, o, &e);

    if (status == 0) {
        ahead_sent(&c->session, o->id);
        status = send_all(&c->session, o, 1, &e);
    }
    if (id_out)
        memcpy(id_out, status == 0 ? o->id : "", status == 0 ? sizeof(o->id) : 1);
    return conclude(status, err, &e);
}

/* Many tasks. */
struct many {
    struct celeriac *c;
    const char *const *tasks;
    const struct celeriac_task_options *const *options;
    size_t n;
    char (*ids)[CELERIAC_ID_SIZE];
    size_t confirmed;
    bool failed;
    struct err why; /* of the first that is not confirmed */
};

static int prepare_nth(const struct many *m, size_t i, struct outgoing *o, struct err *e)
{
    if (prepare(m->c, m->tasks[i], m->options ? m->options[i] : NULL, false, o, e) == 0)
        return 0;
    return err_wrap(e, "task %zu", i);
}

static void take_landed(void *user, const struct pipeline_batch *batch, const struct err *why)
{
    struct many *m = user;

    (void)why;
    for (size_t i = 0; i < batch->len; i++) {
        const struct outgoing *o = &batch->v[i];

        if (o->state != OUTGOING_CONFIRMED) {
            if (!m->failed)
                outgoing_explain(&m->c->session, o, &m->why);
            m->failed = true;
            continue;
        }
        m->confirmed++;
        if (m->ids)
            memcpy(m->ids[batch->numbers[i]], o->id, sizeof(o->id));
    }
}

/* Whether task i can be encoded; o: some place for that. */
static int check_nth(const struct many *m, size_t i, struct outgoing *o, struct err *e)
{
    const struct celeriac_task_options *options = m->options ? m->options[i] : NULL;
    struct task_call call;
    int status = task_call_from_options(&call, m->tasks[i], options, e);

    if (status == 0 && !task_call_is_plain(&call))
        status =
            task_call_encode(&call, &m->c->session.ids, clock_wall_ms(m->c->session.clock), o, e);
    task_call_release(&call);
    return status < 0 ? err_wrap(e, "task %zu", i) : 0;
}

/* All are checked before the first is sent: a mistake in one leaves nothing half done. */
static int check_many(const struct many *m, struct err *e)
{
    int status = 0;

    for (size_t i = 0; i < m->n && status == 0; i++)
        status = check_nth(m, i, pipeline_slot(m->c->pipeline), e);
    return status;
}

/* Enough batches that the broker is busy while they are encoded, none of them small. */
static size_t batch_size(size_t n)
{
    return n >= 3 * SEND_BATCH ? SEND_BATCH : SEND_BATCH / 2;
}

/* What fits into one batch is all encoded before it goes out; more must be checked first. */
static int encode_many(struct many *m, struct err *e)
{
    struct pipeline *p = m->c->pipeline;
    size_t size = batch_size(m->n);
    bool one_batch = m->n <= size;
    int status = 0;

    pipeline_begin(p, size, one_batch ? SIZE_MAX : PIPELINE_BYTES, take_landed, m);
    if (!one_batch && check_many(m, e) < 0)
        return -1;
    for (size_t i = 0; i < m->n && status == 0 && !p->broken; i++) {
        status = prepare_nth(m, i, pipeline_slot(p), e);
        if (status == 0)
            pipeline_add(p, i);
    }
    if (status == 0 || !one_batch)
        pipeline_flush(p);
    return status;
}

static int send_many(struct many *m, struct err *e)
{
    int status = encode_many(m, e);

    if (status == 0 && m->failed)
        status = err_set(e, m->why.code, "%s", m->why.text);
    if (status < 0 && m->confirmed > 0) {
        err_wrap(e, "%zu of %zu tasks confirmed", m->confirmed, m->n);
        e->code = ERR_PARTIAL;
    }
    return status;
}

int celeriac_send_many(struct celeriac *c, const char *const *tasks,
                       const struct celeriac_task_options *const *options, size_t n,
                       char (*ids)[CELERIAC_ID_SIZE], struct celeriac_error *err)
{
    struct many m = {c, tasks, options, n, ids, 0, false, ERR_INIT};
    struct err e = ERR_INIT;
    int status;

    for (size_t i = 0; ids && i < n; i++)
        ids[i][0] = '\0';
    if (!c->pipeline)
        c->pipeline = pipeline_new(&c->session);
    status = c->pipeline ? send_many(&m, &e) : err_nomem(&e);
    return conclude(status, err, &e);
}

/* The document of one id. */
struct found {
    char *text; /* to be the caller's; NULL: there is none */
    bool no_memory;
};

static int copy_document(void *user, size_t index, struct slice document)
{
    struct found *found = user;

    (void)index;
    if (document.ptr)
        found->text = slice_dup(document);
    found->no_memory = document.ptr && !found->text;
    return 0;
}

int celeriac_get(struct celeriac *c, const char *id, char **document, struct celeriac_error *err)
{
    struct found found = {NULL, false};
    struct err e = ERR_INIT;
    int status = results_get(&c->session, &id, 1, copy_document, &found, &e);

    if (status == 0 && found.no_memory)
        status = err_nomem(&e);
    else if (status == 0 && !found.text)
        status = err_set(&e, ERR_NOTFOUND, "no result is stored for task %s", id);
    *document = found.text;
    return conclude(status, err, &e);
}

static int64_t wait_deadline(const struct celeriac *c, int64_t timeout_ms)
{
    return timeout_ms > 0 ? session_now(&c->session) + timeout_ms : CLOCK_NEVER;
}

int celeriac_wait(struct celeriac *c, const char *id, int64_t timeout_ms, char **document,
                  struct celeriac_error *err)
{
    struct found found = {NULL, false};
    struct err e = ERR_INIT;
    int status =
        results_wait(&c->session, &id, 1, wait_deadline(c, timeout_ms), copy_document, &found, &e);

    if (status == 0 && found.no_memory)
        status = err_nomem(&e);
    *document = found.text;
    if (e.code == ERR_TIMEOUT)
        err_set(&e, ERR_TIMEOUT, "task %s is not ready within %g s", id, (double)timeout_ms / 1000);
    return conclude(status, err, &e);
}

struct ready_call {
    const char *const *ids;
    celeriac_ready_fn *on_ready;
    void *user;
    bool failed; /* no memory for a document */
};

static int call_ready(void *user, size_t index, struct slice document)
{
    struct ready_call *call = user;
    char *text = slice_dup(document);
    int stop;

    if (!text) {
        call->failed = true;
        return 1;
    }
    stop = call->on_ready ? call->on_ready(call->user, index, call->ids[index], text) : 0;
    free(text);
    return stop;
}

int celeriac_wait_many(struct celeriac *c, const char *const *ids, size_t n, int64_t timeout_ms,
                       celeriac_ready_fn *on_ready, void *user, struct celeriac_error *err)
{
    struct ready_call call = {ids, on_ready, user, false};
    struct err e = ERR_INIT;
    int status =
        results_wait(&c->session, ids, n, wait_deadline(c, timeout_ms), call_ready, &call, &e);

    if (call.failed)
        status = err_nomem(&e);
    return conclude(status, err, &e);
}

int celeriac_succeeded(const char *document)
{
    return document && result_is_success(slice_of(document));
}

char *celeriac_result_json(const char *document)
{
    json_t *root = document ? json_loads(document, JSON_ALLOW_NUL, NULL) : NULL;
    json_t *result = json_object_get(root, "result");
    char *text = result ? json_dumps(result, JSON_ENCODE_ANY) : NULL;

    json_decref(root);
    return text;
}

int celeriac_forget(struct celeriac *c, const char *id, struct celeriac_error *err)
{
    struct err e = ERR_INIT;

    return conclude(results_forget(&c->session, id, &e), err, &e);
}

void celeriac_free(void *text)
{
    free(text);
}

const char *celeriac_version(void)
{
    return CELERIAC_VERSION;
}
