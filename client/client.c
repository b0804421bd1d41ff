/* The public functions of celeriac.h over sessions. */
#include "client/celeriac.h"

#include "base/exitcode.h"
#include "broker/result.h"
#include "client/results.h"
#include "client/send.h"
#include "client/task_call.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct celeriac {
    struct session session;
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
    free(c);
}

static int prepare(struct celeriac *c, const char *task,
                   const struct celeriac_task_options *options, struct outgoing *o, struct err *e)
{
    struct task_call call;
    int status = task_call_from_options(&call, task, options, e);

    call.origin = c->session.origin;
    if (status == 0)
        status = task_call_encode(&call, &c->session.ids, clock_wall_ms(c->session.clock), o, e);
    task_call_release(&call);
    return status;
}

int celeriac_send(struct celeriac *c, const char *task, const struct celeriac_task_options *options,
                  char id_out[CELERIAC_ID_SIZE], struct celeriac_error *err)
{
    struct outgoing o = {.id = ""};
    struct err e = ERR_INIT;
    int status = prepare(c, task, options, &o, &e);

    if (status == 0)
        status = send_all(&c->session, &o, 1, &e);
    if (id_out)
        memcpy(id_out, status == 0 ? o.id : "", status == 0 ? sizeof(o.id) : 1);
    outgoing_release(&o);
    return conclude(status, err, &e);
}

static void tell_ids(const struct outgoing *v, size_t n, char (*ids)[CELERIAC_ID_SIZE])
{
    for (size_t i = 0; ids && i < n; i++) {
        if (v && v[i].state == OUTGOING_CONFIRMED)
            memcpy(ids[i], v[i].id, sizeof(v[i].id));
        else
            ids[i][0] = '\0';
    }
}

int celeriac_send_many(struct celeriac *c, const char *const *tasks,
                       const struct celeriac_task_options *const *options, size_t n,
                       char (*ids)[CELERIAC_ID_SIZE], struct celeriac_error *err)
{
    struct outgoing *v = calloc(n + 1, sizeof(*v));
    struct err e = ERR_INIT;
    int status = v ? 0 : err_nomem(&e);

    /* All are checked before the first is sent: a mistake in one leaves nothing half done. */
    for (size_t i = 0; i < n && status == 0; i++) {
        status = prepare(c, tasks[i], options ? options[i] : NULL, &v[i], &e);
        if (status < 0)
            err_wrap(&e, "task %zu", i);
    }
    if (status == 0)
        status = send_all(&c->session, v, n, &e);
    tell_ids(v, n, ids);
    for (size_t i = 0; v && i < n; i++)
        outgoing_release(&v[i]);
    free(v);
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
