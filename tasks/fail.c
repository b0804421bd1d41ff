/*
 * fail.c - `fail`: everything that can go wrong with a job, on demand. Operators try their alarms
 * with it, and the tests every path that does not end in a result.
 *
 * mode     what happens
 * fail     FAILURE with the exception `type`(`message`)
 * retry    asks for another attempt, after `countdown` seconds when given
 * reject   the message goes to the dead letters;  requeue: back to its queue
 * ignore   finished without a result;  noverdict: returns non-zero and says nothing
 * exit, abort, segv, kill   the runner process dies;  hang: it never returns, whatever it is told
 * memory   touches `mb` MiB that are never given back, then succeeds
 */
#include "tasks/builtin.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

struct mode {
    const char *name;
    int (*run)(struct celeriac_call *call);
};

/* Every parameter has a default, so that it is always there; only its type may be wrong. */
static const char *text_arg(struct celeriac_call *call, size_t index, const char *name)
{
    const char *text = json_string_value(celeriac_arg(call, index, name));

    return text ? text : "";
}

static int do_fail(struct celeriac_call *call)
{
    return celeriac_fail(call, text_arg(call, 1, "type"), text_arg(call, 0, "message"));
}

static int do_retry(struct celeriac_call *call)
{
    json_t *countdown = json_object_get(call->kwargs, "countdown");
    struct celeriac_retry how = CELERIAC_RETRY_INIT;

    if (json_is_number(countdown))
        how.countdown_s = json_number_value(countdown);
    if (text_arg(call, 1, "type")[0]) {
        how.exc_type = text_arg(call, 1, "type");
        how.exc_message = text_arg(call, 0, "message");
    }
    return call->fn->retry(call, &how);
}

static int do_reject(struct celeriac_call *call)
{
    return call->fn->reject(call, 0);
}

static int do_requeue(struct celeriac_call *call)
{
    return call->fn->reject(call, 1);
}

static int do_ignore(struct celeriac_call *call)
{
    return call->fn->ignore(call);
}

static int do_noverdict(struct celeriac_call *call)
{
    (void)call;
    return 1;
}

static int do_exit(struct celeriac_call *call)
{
    (void)call;
    _exit(3);
}

/* A sanitizer's or a user's handler must not soften the blow. */
static int die_of(int sig)
{
    signal(sig, SIG_DFL);
    raise(sig);
    return 1;
}

static int do_abort(struct celeriac_call *call)
{
    (void)call;
    return die_of(SIGABRT);
}

static int do_segv(struct celeriac_call *call)
{
    (void)call;
    return die_of(SIGSEGV);
}

static int do_kill(struct celeriac_call *call)
{
    (void)call;
    return die_of(SIGKILL);
}

static int do_hang(struct celeriac_call *call)
{
    (void)call;
    while (pause() < 0)
        continue;
    return 1;
}

static int do_memory(struct celeriac_call *call)
{
    json_int_t mb = json_integer_value(json_object_get(call->kwargs, "mb"));
    size_t len = (size_t)(mb < 0 ? 0 : mb) << 20;
    char *bytes;

    if (len == 0)
        return celeriac_ok(call, json_integer(0));
    bytes = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (bytes == MAP_FAILED)
        return celeriac_fail(call, "MemoryError", "mb is more than this machine gives");
    memset(bytes, 1, len);
    return celeriac_ok(call, json_integer(mb));
}

static const struct mode modes[] = {
    {"fail", do_fail},       {"retry", do_retry},   {"reject", do_reject},
    {"requeue", do_requeue}, {"ignore", do_ignore}, {"noverdict", do_noverdict},
    {"exit", do_exit},       {"abort", do_abort},   {"segv", do_segv},
    {"kill", do_kill},       {"hang", do_hang},     {"memory", do_memory},
};

static int fail_run(struct celeriac_call *call)
{
    const char *name = text_arg(call, 2, "mode");

    for (size_t i = 0; i < sizeof(modes) / sizeof(modes[0]); i++) {
        if (strcmp(modes[i].name, name) == 0)
            return modes[i].run(call);
    }
    return celeriac_fail(
        call, "ValueError",
        "mode is not one of fail, retry, reject, requeue, ignore, noverdict, exit, "
        "abort, segv, kill, hang, memory");
}

static const struct celeriac_task rows[] = {
    {.size = sizeof(struct celeriac_task),
     .name = "fail",
     .params = "message=\"fail was asked for\", type=\"RuntimeError\", mode=\"fail\", *, "
               "countdown=null, mb=64",
     .run = fail_run},
};

struct builtin_table fail_tasks(void)
{
    return BUILTIN_TABLE(rows);
}
