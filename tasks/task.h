/*
 * task.h - the only header that the author of a task needs.
 *
 * Purpose: a task is one C function `int run(struct celeriac_call *call)` plus one row of
 * `struct celeriac_task`. Built-in tasks are rows of tasks/builtin.c; others live in a shared
 * object that exports `celeriac_module` and is loaded with `celeriac worker -A FILE.so`.
 *
 * Model: `call` gives the whole request as borrowed values and, through `call->fn`, the functions
 * that a task may call. The task sets a verdict (ok, fail, retry, reject, ignore; the last one
 * wins) and returns 0. Returning non-zero without a verdict is a FAILURE of type RuntimeError;
 * returning 0 without a verdict is SUCCESS with result null.
 *
 * Ownership: everything read from `call` is borrowed and valid until run() returns. A json_t
 * argument that is named "taken" loses one reference to the callee, whatever it returns (as
 * jansson's `_new` functions do); all others are borrowed.
 *
 * ABI: every structure begins with its size, and members are only ever appended. A module built for
 * major number 1 runs in every later worker of major number 1; the loader refuses only a larger
 * major.
 *
 * Fork and threads: run() executes in a forked runner process, one call at a time, in the process's
 * only thread. init() runs once per runner, after the fork: open databases and sockets there, never
 * in a constructor of the shared object. The runner's standard input is /dev/null; its standard
 * output and error are the worker's.
 */
#ifndef CELERIAC_TASK_H
#define CELERIAC_TASK_H

#include <jansson.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define CELERIAC_TASK_ABI_MAJOR 1
#define CELERIAC_TASK_ABI_MINOR 1

/* Length of a task id as text, with the final NUL. */
#define CELERIAC_TASK_ID_SIZE 37

/* "Not set" is 0 in every row, so that a row names only what it changes. */
#define CELERIAC_UNSET     0
#define CELERIAC_YES       1
#define CELERIAC_NO        2
#define CELERIAC_ZERO      (-1) /* for max_retries: none at all */
#define CELERIAC_UNLIMITED (-2) /* for max_retries: for ever */

enum celeriac_log_level {
    CELERIAC_LOG_DEBUG = 10,
    CELERIAC_LOG_INFO = 20,
    CELERIAC_LOG_WARNING = 30,
    CELERIAC_LOG_ERROR = 40
};

struct celeriac_call;

/* What a retry changes. Start from CELERIAC_RETRY_INIT; negative numbers and NULL mean "not set".
 */
struct celeriac_retry {
    size_t size;
    double countdown_s; /* seconds until the next attempt; not set: the row's backoff with jitter */
    const char *eta;    /* ISO-8601, used instead of countdown_s */
    const char
        *exc_type; /* recorded with state RETRY, and as the FAILURE when retries are exhausted */
    const char *exc_message;
    int max_retries; /* instead of the row's; CELERIAC_ZERO and CELERIAC_UNLIMITED as there, 0: not
                        set */
    json_t *args;    /* borrowed; replaces the positional arguments */
    json_t *kwargs;  /* borrowed; replaces the keyword arguments */
    json_t *headers; /* borrowed; merged into the message's headers */
    int priority;    /* 0-9 */
    const char *queue;
};
#define CELERIAC_RETRY_INIT                                                                        \
    {                                                                                              \
        sizeof(struct celeriac_retry), -1.0, NULL, NULL, NULL, 0, NULL, NULL, NULL, -1, NULL       \
    }

/* The functions a task may call. Those that return int return 0, or -1 when the request could not
 * be understood or delivered to the dispatcher (the reason is in the worker's log). */
struct celeriac_call_fns {
    size_t size;
    /* Non-zero once the job was cancelled, its soft time limit passed, or the worker stops cold. */
    int (*cancelled)(struct celeriac_call *call);
    /* Publishes a state that is not final, at once; not atomic with the verdict. meta: taken. */
    int (*progress)(struct celeriac_call *call, const char *state, json_t *meta);
    /* Enqueues another task together with the verdict: it becomes visible only if this attempt
     * counts. signature: taken, Celery's map (see celeriac_signature). id_out receives the new
     * task's id. */
    int (*spawn)(struct celeriac_call *call, json_t *signature, char id_out[CELERIAC_TASK_ID_SIZE]);
    /* Not available in this version: returns -1 and sets the verdict NotImplementedError. */
    int (*add_to_chord)(struct celeriac_call *call, json_t *signature,
                        char id_out[CELERIAC_TASK_ID_SIZE]);
    /* Enqueues another task now, whatever becomes of this one: at least once. signature: taken. */
    int (*send_now)(struct celeriac_call *call, json_t *signature,
                    char id_out[CELERIAC_TASK_ID_SIZE]);
    void (*log)(struct celeriac_call *call, enum celeriac_log_level level, const char *text);
    /* Verdicts. value, messages: taken. */
    int (*ok)(struct celeriac_call *call, json_t *value);
    /* type: an exception's name ("ValueError"); module: NULL means "builtins"; messages: array of
     * the exception's arguments, or any single value; traceback: NULL for none. */
    int (*fail)(struct celeriac_call *call, const char *type, const char *module, json_t *messages,
                const char *traceback);
    int (*retry)(struct celeriac_call *call, const struct celeriac_retry *how);
    /* Not available in this version: returns -1 and sets the verdict NotImplementedError. */
    int (*replace)(struct celeriac_call *call, json_t *signature);
    /* Refuses the message: requeue != 0 hands it back to the queue, 0 moves it to the dead letters.
     */
    int (*reject)(struct celeriac_call *call, int requeue);
    /* Finished without storing a result. */
    int (*ignore)(struct celeriac_call *call);

    /* The request as it came; made when first asked for, borrowed, NULL without memory. Most tasks
     * never ask, and a job without them is much cheaper. */
    json_t *(*headers)(struct celeriac_call *call);    /* object, all headers of the message */
    json_t *(*properties)(struct celeriac_call *call); /* object */
    json_t *(*embed)(struct celeriac_call *call); /* object: callbacks, errbacks, chain, chord */
};

/* One request. All pointers borrowed; strings are NULL and numbers negative when the message has
 * none. */
struct celeriac_call {
    size_t size;
    const struct celeriac_call_fns *fn;
    json_t *args;     /* array */
    json_t *kwargs;   /* object; parameters of the row that were not given and have a default are
                         filled in (see celeriac_arg) */
    const char *task; /* registered name */
    const char *id;
    const char *root_id;
    const char *parent_id;
    const char *group;
    const char *chord; /* id of the chord's body, or NULL */
    const char *reply_to;
    const char *hostname; /* node name of the worker */
    const char *eta;
    const char *expires;
    int64_t group_index;
    int64_t retries;     /* 0 for the first attempt */
    int64_t attempt;     /* deliveries of this message that ended in a lost worker, plus 1 */
    double soft_limit_s; /* 0: none */
    double hard_limit_s; /* 0: none */
    int64_t deadline_ms; /* wall clock, milliseconds since 1970, of the hard limit; 0: none */
    uint64_t fence;      /* grows with every delivery in the broker: compare-and-set with it (over
                            RabbitMQ only of jobs with a dedup key: docs/guarantees.md) */
};

/* One row: a task's name, its parameters and its options. */
struct celeriac_task {
    size_t size;
    const char *name;
    /* Parameters as Python would write them, "x, y, *rest, z=1" (defaults are JSON): the arguments
     * are checked against it before run() is called, and a mismatch is a TypeError in Python's
     * words. NULL: unchecked. */
    const char *params;
    int (*run)(struct celeriac_call *call);
    int (*init)(void);  /* once per runner after fork, before its first call of this task; non-zero
                           fails the call, and the next call tries again */
    void (*exit)(void); /* when the runner leaves, if init succeeded */
    int max_retries;    /* unset: 3 */
    double backoff_s;   /* unset: 1 s; doubled with each retry */
    double backoff_max_s;    /* unset: 600 s */
    int jitter;              /* unset: yes (full jitter) */
    double soft_limit_s;     /* unset: the worker's --soft-time-limit */
    double hard_limit_s;     /* unset: the worker's --time-limit */
    int ignore_result;       /* unset: the message's header, else no */
    int ack_early;           /* unset: no: acknowledged with the result */
    int track_started;       /* unset: no */
    double result_expires_s; /* unset: the worker's --result-expires */
    /* "10/s", "100/m", "5/h": at most that many starts per worker; what comes sooner waits in the
     * broker. NULL: no limit. */
    const char *rate;
    /* Since ABI 1.1. "x, y": calls whose parameters x and y are equal are one piece of work, which
     * is done once within the window; the others get its result. "*": all arguments count. Names
     * need params. A message's own dedup header goes before this. NULL: none. */
    const char *dedup;
    double dedup_window_s; /* how long a success is remembered; unset: 3600 s */
};

/* What a shared object exports under the name `celeriac_module`. */
struct celeriac_module {
    size_t size;
    int abi_major;
    int abi_minor;
    const char *name;
    const struct celeriac_task *tasks;
    size_t tasks_len;
    size_t task_size; /* sizeof(struct celeriac_task) where the module was built: the stride of
                         tasks */
};

#define CELERIAC_MODULE(module_name, rows)                                                         \
    __attribute__((visibility("default")))                                                         \
    const struct celeriac_module celeriac_module = {sizeof(struct celeriac_module),                \
                                                    CELERIAC_TASK_ABI_MAJOR,                       \
                                                    CELERIAC_TASK_ABI_MINOR,                       \
                                                    module_name,                                   \
                                                    rows,                                          \
                                                    sizeof(rows) / sizeof((rows)[0]),              \
                                                    sizeof(struct celeriac_task)}

/* Shorthands, so that a task reads `return celeriac_ok(call, json_integer(x + y));` */

/* The parts of the request that are made when asked for; all borrowed. */
static inline json_t *celeriac_headers(struct celeriac_call *call)
{
    return call->fn->headers(call);
}

static inline json_t *celeriac_properties(struct celeriac_call *call)
{
    return call->fn->properties(call);
}

static inline json_t *celeriac_embed(struct celeriac_call *call)
{
    return call->fn->embed(call);
}

/* exchange, routing_key, redelivered. */
static inline json_t *celeriac_delivery_info(struct celeriac_call *call)
{
    return json_object_get(call->fn->properties(call), "delivery_info");
}

/* NULL: none. */
static inline json_t *celeriac_stamps(struct celeriac_call *call)
{
    json_t *stamps = json_object_get(call->fn->headers(call), "stamps");

    return json_is_object(stamps) ? stamps : NULL;
}

static inline int celeriac_ok(struct celeriac_call *call, json_t *value)
{
    return call->fn->ok(call, value);
}

static inline int celeriac_fail(struct celeriac_call *call, const char *type, const char *message)
{
    /* In brackets, because cmocka and others have a macro fail(). */
    return (call->fn->fail)(call, type, NULL, json_string(message), NULL);
}

static inline int celeriac_retry(struct celeriac_call *call, double countdown_s, const char *why)
{
    struct celeriac_retry how = CELERIAC_RETRY_INIT;
    how.countdown_s = countdown_s;
    how.exc_type = why ? "RuntimeError" : NULL;
    how.exc_message = why;
    return call->fn->retry(call, &how);
}

static inline int celeriac_cancelled(struct celeriac_call *call)
{
    return call->fn->cancelled(call);
}

/* The argument of a parameter, however it was given: by position, by keyword, or by the default in
 * the row's params. Borrowed; NULL when there is none (only possible without params). index: the
 * parameter's position, or SIZE_MAX for one that comes after *rest. */
static inline json_t *celeriac_arg(const struct celeriac_call *call, size_t index, const char *name)
{
    json_t *value = json_array_get(call->args, index);
    return value ? value : json_object_get(call->kwargs, name);
}

/* A signature in Celery's form. args, kwargs, options: taken, NULL for none. options may hold
 * task_id, queue, priority, countdown, eta, expires, time_limit, soft_time_limit. New reference,
 * NULL when out of memory. */
static inline json_t *celeriac_signature(const char *task, json_t *args, json_t *kwargs,
                                         json_t *options)
{
    return json_pack("{s:s, s:o, s:o, s:o, s:n, s:b}", "task", task, "args",
                     args ? args : json_array(), "kwargs", kwargs ? kwargs : json_object(),
                     "options", options ? options : json_object(), "subtask_type", "immutable", 0);
}

#ifdef __cplusplus
}
#endif
#endif
