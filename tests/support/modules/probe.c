/*
 * A module for the tests: tasks that use what task.h offers. Compiled several times with other
 * numbers to make modules that must be refused.
 */
#include "tasks/task.h"

#ifndef PROBE_MAJOR
#define PROBE_MAJOR CELERIAC_TASK_ABI_MAJOR
#endif
#ifndef PROBE_NAME
#define PROBE_NAME "probe.spawn"
#endif
#ifndef PROBE_PARAMS
#define PROBE_PARAMS "task, n=1"
#endif
#ifndef PROBE_ROW_SIZE
#define PROBE_ROW_SIZE sizeof(struct celeriac_task)
#endif

#ifndef PROBE_MORE
#define PROBE_MORE .ack_early = CELERIAC_UNSET
#endif

static json_t *signature_of(struct celeriac_call *call)
{
    return celeriac_signature(json_string_value(celeriac_arg(call, 0, "task")), json_pack("[i]", 7),
                              NULL, NULL);
}

static int run_spawn(struct celeriac_call *call)
{
    json_int_t n = json_integer_value(celeriac_arg(call, 1, "n"));
    json_t *ids = json_array();
    char id[CELERIAC_TASK_ID_SIZE];

    for (json_int_t i = 0; i < n; i++) {
        if (call->fn->spawn(call, signature_of(call), id) == 0)
            json_array_append_new(ids, json_string(id));
    }
    return celeriac_ok(call, ids);
}

static int run_send_now(struct celeriac_call *call)
{
    char id[CELERIAC_TASK_ID_SIZE];

    if (call->fn->send_now(call, signature_of(call), id) < 0)
        return 1;
    return celeriac_ok(call, json_string(id));
}

static int run_progress(struct celeriac_call *call)
{
    if (call->fn->progress(call, "SUCCESS", json_null()) == 0)
        return 1;
    if (call->fn->progress(call, "HALFWAY", json_pack("{s:i}", "done", 50)) < 0)
        return 2;
    call->fn->log(call, CELERIAC_LOG_INFO, "half of it");
    return celeriac_ok(call, json_true());
}

/* Says what it sees, and that the last verdict wins. */
static int run_inspect(struct celeriac_call *call)
{
    celeriac_fail(call, "ValueError", "an earlier verdict");
    return celeriac_ok(
        call, json_pack("{s:s, s:s, s:s, s:I, s:I, s:I, s:f, s:b, s:O, s:O}", "task", call->task,
                        "id", call->id, "hostname", call->hostname, "retries",
                        (json_int_t)call->retries, "attempt", (json_int_t)call->attempt, "fence",
                        (json_int_t)call->fence, "soft", call->soft_limit_s, "deadline",
                        call->deadline_ms > 0, "args", call->args, "kwargs", call->kwargs));
}

static int run_replace(struct celeriac_call *call)
{
    return call->fn->replace(call, celeriac_signature("noop", NULL, NULL, NULL));
}

/* Text in another encoding, as a C library may hand it out. */
static int run_latin1(struct celeriac_call *call)
{
    return call->fn->fail(call,
                          "Caf\xe9"
                          "Error",
                          NULL, json_string("x"), "line 1: caf\xe9");
}

static int init_fails(void)
{
    return -1;
}

#define ROW(row_name, row_params, row_run)                                                         \
    .size = PROBE_ROW_SIZE, .name = (row_name), .params = (row_params), .run = (row_run)

static const struct celeriac_task rows[] = {
    {ROW(PROBE_NAME, PROBE_PARAMS, run_spawn), PROBE_MORE},
    {ROW("probe.send_now", "task", run_send_now)},
    {ROW("probe.progress", "", run_progress), .track_started = CELERIAC_YES},
    {ROW("probe.inspect", "x, y={\"a\": [1]}, *rest, z=2", run_inspect)},
    {ROW("probe.replace", NULL, run_replace)},
    {ROW("probe.latin1", NULL, run_latin1)},
    {ROW("probe.init", NULL, run_replace), .init = init_fails},
    {ROW("probe.quiet", NULL, run_inspect), .ignore_result = CELERIAC_YES, .result_expires_s = 5},
};

#ifndef PROBE_NO_SYMBOL
__attribute__((visibility("default"))) const struct celeriac_module celeriac_module = {
    sizeof(struct celeriac_module),
    PROBE_MAJOR,
    CELERIAC_TASK_ABI_MINOR,
    "probe",
    rows,
    sizeof(rows) / sizeof(rows[0]),
    sizeof(struct celeriac_task),
};
#else
const struct celeriac_task *probe_rows(void);
const struct celeriac_task *probe_rows(void)
{
    return rows;
}
#endif
