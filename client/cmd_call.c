/* celeriac call: enqueue one task, or many from standard input (bulk.h). */
#include "client/bulk.h"
#include "client/cli.h"
#include "client/commands.h"
#include "client/results.h"
#include "client/show.h"
#include "client/task_call.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct opt_row rows[] = {
    {.name = "args",
     .letter = 'a',
     .kind = OPT_TEXT,
     .flags = OPT_LINE_ONLY,
     .arg = "JSON",
     .help = "Positional arguments, a JSON array."},
    {.name = "kwargs",
     .letter = 'k',
     .kind = OPT_TEXT,
     .flags = OPT_LINE_ONLY,
     .arg = "JSON",
     .help = "Keyword arguments, a JSON object."},
    {.name = "queue",
     .letter = 'Q',
     .kind = OPT_TEXT,
     .flags = OPT_LINE_ONLY,
     .arg = "QUEUE",
     .help = "The queue to send to; celery when not given."},
    {.name = "countdown",
     .kind = OPT_NUMBER,
     .flags = OPT_LINE_ONLY,
     .arg = "SECONDS",
     .min = 0,
     .max = 3.2e9,
     .help = "Run it so many seconds from now."},
    {.name = "eta",
     .kind = OPT_TEXT,
     .flags = OPT_LINE_ONLY,
     .arg = "TIME",
     .help = "Run it at this ISO-8601 time; without a zone it is UTC."},
    {.name = "expires",
     .kind = OPT_TEXT,
     .flags = OPT_LINE_ONLY,
     .arg = "WHEN",
     .help = "Do not run it after so many seconds, or after this ISO-8601 time."},
    {.name = "priority",
     .kind = OPT_INT,
     .flags = OPT_LINE_ONLY,
     .arg = "N",
     .min = 0,
     .max = 9,
     .help = "0 to 9; on Redis and SQLite a lower number goes first, as in Celery on Redis."},
    {.name = "wait",
     .kind = OPT_NUMBER,
     .flags = OPT_LINE_ONLY,
     .arg = "SECONDS",
     .min = 0,
     .max = 3.2e9,
     .help = "Wait for the result and print it as JSON; 0 waits for ever. A failed task: the "
             "exception on standard error and exit status 1."},
    {.name = "id",
     .also = "task-id",
     .kind = OPT_TEXT,
     .flags = OPT_LINE_ONLY,
     .arg = "ID",
     .help =
         "The task's id, at most 36 characters; a new UUID when not given. On Redis and SQLite an "
         "id that was sent in the last 60 seconds is confirmed and not sent again."},
    {.name = "headers",
     .kind = OPT_TEXT,
     .flags = OPT_LINE_ONLY,
     .arg = "JSON",
     .help = "More message headers, a JSON object."},
    {.name = "dedup",
     .kind = OPT_TEXT,
     .flags = OPT_LINE_ONLY,
     .arg = "KEY",
     .help = "Tasks with this key are one piece of work: it is run once, the others get its "
             "result, as long as the window is. Any text up to 512 bytes; all tasks of a broker "
             "share the keys."},
    {.name = "window",
     .kind = OPT_NUMBER,
     .flags = OPT_LINE_ONLY,
     .arg = "SECONDS",
     .min = 0.001,
     .max = 31622400,
     .help = "How long a success is remembered under its --dedup key; 3600 when not given."},
    {.name = "time-limit",
     .kind = OPT_NUMBER,
     .flags = OPT_LINE_ONLY,
     .arg = "SECONDS",
     .min = 0,
     .max = 3.2e9,
     .help = "Kill the task after so many seconds."},
    {.name = "soft-time-limit",
     .kind = OPT_NUMBER,
     .flags = OPT_LINE_ONLY,
     .arg = "SECONDS",
     .min = 0,
     .max = 3.2e9,
     .help = "Ask the task to stop after so many seconds."},
    {.name = "ignore-result", .kind = OPT_FLAG, .flags = OPT_LINE_ONLY, .help = "Store no result."},
    {.name = NULL},
};

/* Options whose argument is JSON; a number may be given as text as well as JSON. */
static const char *const json_options[] = {"args", "kwargs", "headers", NULL};
static const char *const number_options[] = {"countdown", "window", "time-limit", "soft-time-limit",
                                             NULL};
static const char *const text_options[] = {"queue", "dedup", "eta", "id", NULL};

static int put(json_t *object, const char *name, json_t *value, struct err *e)
{
    return json_object_set_new(object, name, value) < 0 ? err_nomem(e) : 0;
}

static int put_text(json_t *object, const char *name, const char *text, struct err *e)
{
    json_t *value = json_string(text);

    if (!value)
        return err_set(e, ERR_USAGE, "--%s is not UTF-8 text", name);
    return put(object, name, value, e);
}

/* --expires takes seconds or a time. */
static int put_expires(json_t *object, const char *text, struct err *e)
{
    char *end;
    double seconds = strtod(text, &end);

    if (*end || end == text || !isfinite(seconds) || strpbrk(text, "xX"))
        return put_text(object, "expires", text, e);
    return put(object, "expires", json_real(seconds), e);
}

static int put_json_options(json_t *object, const struct opt_values *v, struct err *e)
{
    for (const char *const *name = json_options; *name; name++) {
        const char *text = opt_text(v, *name);
        char where[24];
        json_t *value;

        if (!text)
            continue;
        snprintf(where, sizeof(where), "--%s", *name);
        value = task_call_json(where, text, e);
        if (!value || put(object, *name, value, e) < 0)
            return -1;
    }
    return 0;
}

/* The options of call as the JSON object that a line of `call -` is. */
static int options_object(json_t *object, const struct opt_values *v, struct err *e)
{
    const char *expires = opt_text(v, "expires");

    if (put_json_options(object, v, e) < 0)
        return -1;
    for (const char *const *name = number_options; *name; name++) {
        if (opt_text(v, *name) && put(object, *name, json_real(opt_number(v, *name)), e) < 0)
            return -1;
    }
    for (const char *const *name = text_options; *name; name++) {
        const char *text = opt_text(v, *name);

        if (text && put_text(object, *name, text, e) < 0)
            return -1;
    }
    if (expires && put_expires(object, expires, e) < 0)
        return -1;
    if (opt_text(v, "priority") &&
        put(object, "priority", json_integer(opt_int(v, "priority")), e) < 0)
        return -1;
    if (opt_flag(v, "ignore-result"))
        return put(object, "ignore-result", json_true(), e);
    return 0;
}

static int encode(struct session *s, json_t *object, struct outgoing *o, struct err *e)
{
    struct task_call call;
    int status = task_call_from_json(&call, object, e);

    call.origin = s->origin;
    if (status == 0)
        status = task_call_encode(&call, &s->ids, clock_wall_ms(s->clock), o, e);
    task_call_release(&call);
    return status;
}

struct awaited {
    const struct command_context *ctx;
    int status;
};

static int show_awaited(void *user, size_t index, struct slice document)
{
    struct awaited *awaited = user;

    (void)index;
    awaited->status = show_result(awaited->ctx, document);
    return 0;
}

static int wait_for(struct session *s, const struct command_context *ctx, const char *id,
                    double seconds)
{
    struct awaited awaited = {ctx, EXITCODE_OK};
    int64_t deadline_ms = seconds > 0 ? session_now(s) + (int64_t)(seconds * 1000) : CLOCK_NEVER;
    struct err e = ERR_INIT;

    if (results_wait(s, &id, 1, deadline_ms, show_awaited, &awaited, &e) == 0)
        return awaited.status;
    if (e.code == ERR_TIMEOUT)
        err_set(&e, ERR_TIMEOUT, "task %s was sent but is not ready within %g s", id, seconds);
    else
        err_wrap(&e, "task %s was sent, its result is not known", id);
    return command_fail(ctx, &e);
}

static int send_one(struct session *s, const struct command_context *ctx,
                    const struct opt_values *v, json_t *object)
{
    struct outgoing o = {.id = ""};
    struct err e = ERR_INIT;
    int status;

    if (encode(s, object, &o, &e) < 0 || send_all(s, &o, 1, &e) < 0)
        status = command_fail(ctx, &e);
    else if (opt_text(v, "wait"))
        status = wait_for(s, ctx, o.id, opt_number(v, "wait"));
    else
        status = show_id(ctx, o.id);
    outgoing_release(&o);
    return status;
}

/* What can be known to be wrong without a broker is said before one is asked for. */
static int check_object(json_t *object, struct err *e)
{
    struct task_call call;
    int status = task_call_from_json(&call, object, e);

    task_call_release(&call);
    return status;
}

static int call_with(struct command_context *ctx, const struct opt_values *v, const char *task,
                     json_t *object)
{
    bool bulk = strcmp(task, "-") == 0;
    struct err e = ERR_INIT;
    struct session s;
    int status;

    if (options_object(object, v, &e) < 0)
        return command_fail(ctx, &e);
    if (!bulk && json_object_set_new(object, "task", json_string(task)) < 0)
        return command_usage(ctx, "the task's name is not UTF-8 text");
    if (!bulk && check_object(object, &e) < 0)
        return command_fail(ctx, &e);
    status = opt_text(v, "wait") ? cli_open_for_replies(&s, ctx, v) : cli_open(&s, ctx, v, false);
    if (status != EXITCODE_OK)
        return status;
    if (opt_text(v, "wait"))
        status = cli_check_results(ctx, &s);
    if (status == EXITCODE_OK)
        status = bulk ? bulk_send(&s, ctx, object) : send_one(&s, ctx, v, object);
    session_close(&s);
    return status;
}

static int run(struct command_context *ctx, const struct opt_values *v, int argc, char **argv)
{
    bool bulk = strcmp(argv[0], "-") == 0;
    json_t *object;
    int status;

    (void)argc;
    if (bulk && (opt_text(v, "wait") || opt_text(v, "id")))
        return command_usage(ctx, "--wait and --id do not go with '-': give \"id\" in the lines, "
                                  "and pipe the ids to 'celeriac result - --wait SECONDS'");
    if (!bulk && opt_text(v, "window") && !opt_text(v, "dedup"))
        return command_usage(ctx, "--window says how long a --dedup key counts: give that too");
    if (opt_text(v, "wait") && opt_flag(v, "ignore-result"))
        return command_usage(ctx, "--wait and --ignore-result exclude each other");
    object = json_object();
    status = object ? call_with(ctx, v, argv[0], object) : command_nomem(ctx);
    json_decref(object);
    return status;
}

const struct command command_call = {
    .name = "call",
    .summary = "Send a task to a queue, and wait for its result if wanted.",
    .positional = "TASK",
    .details =
        "Prints the task's id once the broker confirmed it. While the broker is away the sending "
        "is tried again until --timeout; a task is never enqueued twice by one call. JSON numbers "
        "beyond 64 bits are refused.\n"
        "A task with --countdown or --eta waits in the broker; a Celeriac worker moves it to its "
        "queue when it is due, so one must run even where Python workers take the queue's jobs.\n"
        "With '-' as TASK every line of standard input is one task as a JSON object: "
        "{\"task\": NAME, \"args\": [...], \"kwargs\": {...}, \"id\": ID} and the other options "
        "of call under their long names; options given on the command line are the defaults of "
        "all lines. The ids are printed one a line in the order of the input. A bad line is "
        "reported with its number and does not stop the others: exit status 7 when others were "
        "sent, 2 when none was.",
    .examples = "  celeriac -b sqlite:queue.db call math.add -a '[2, 3]' --wait 5\n"
                "  generate | celeriac call - -Q bulk > ids",
    .opts = {rows, cli_broker_rows},
    .args_min = 1,
    .args_max = 1,
    .run = run,
};
