#include "client/bulk.h"

#include "broker/json_text.h"
#include "client/pipeline.h"
#include "client/show.h"
#include "client/task_call.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define READ_SIZE        65536
#define PROGRESS_EACH_MS 200

struct bulk {
    struct session *s;
    const struct command_context *ctx;
    json_t *defaults;
    json_t *usual;          /* the defaults with any task: what `plain` was filled from */
    struct task_call plain; /* what a line of the plain form begins with */
    bool plain_lines;       /* there can be such lines: the defaults are right by themselves */
    struct buf input;
    size_t searched; /* bytes of input known to hold no line end */
    bool input_ended;
    uint64_t line_number;
    struct pipeline *pipeline;
    uint64_t sent;
    uint64_t bad;        /* lines that could not be understood */
    uint64_t failed;     /* messages that were not confirmed */
    int failed_status;   /* exit status of the first of them */
    int64_t progress_ms; /* when it was shown last */
    bool told;           /* that the broker is away */
};

static void complain(struct bulk *b, uint64_t line, const struct err *e)
{
    fflush(stdout);
    fprintf(stderr, "%sceleriac: line %llu: %s\n", b->ctx->err_tty ? "\r\033[K" : "",
            (unsigned long long)line, e->text);
}

static void show_progress(struct bulk *b, bool at_once)
{
    int64_t now_ms = session_now(b->s);

    if (!b->ctx->err_tty || (!at_once && now_ms - b->progress_ms < PROGRESS_EACH_MS))
        return;
    b->progress_ms = now_ms;
    fprintf(stderr, "\r\033[K%llu sent", (unsigned long long)b->sent);
    if (b->bad)
        fprintf(stderr, ", %llu bad lines", (unsigned long long)b->bad);
    if (at_once)
        fputs("\n", stderr);
}

/* Prints the ids of the batch in order and complains about what was refused. Without an answer the
 * broker is away; one line is enough for all of those. */
static void settle(void *user, const struct pipeline_batch *batch, const struct err *why)
{
    struct bulk *b = user;

    for (size_t i = 0; i < batch->len; i++) {
        const struct outgoing *o = &batch->v[i];

        if (o->state == OUTGOING_CONFIRMED) {
            show_id(b->ctx, o->id);
            b->sent++;
        } else if (o->state == OUTGOING_REFUSED) {
            complain(b, batch->numbers[i], &o->err);
            b->failed_status = b->failed++ ? b->failed_status : (int)exitcode_of(o->err.code);
        } else {
            if (!b->told)
                complain(b, batch->numbers[i], why);
            b->failed_status = b->failed++ ? b->failed_status : (int)exitcode_of(why->code);
            b->told = true;
        }
    }
    fflush(stdout);
    show_progress(b, false);
}

/* Members that the line does not have. jansson's own function for it does not tell when memory ran
 * out, and a task without its queue would go to another one. */
static int add_defaults(json_t *object, json_t *defaults, struct err *e)
{
    const char *name;
    json_t *value;

    json_object_foreach(defaults, name, value)
    {
        if (!json_object_get(object, name) && json_object_set(object, name, value) < 0)
            return err_nomem(e);
    }
    return 0;
}

static int encode(struct bulk *b, const struct task_call *call, struct outgoing *o, struct err *e)
{
    return task_call_encode(call, &b->s->ids, clock_wall_ms(b->s->clock), o, e);
}

static int encode_object(struct bulk *b, json_t *object, struct outgoing *o, struct err *e)
{
    struct task_call call;
    int status;

    if (json_is_object(object) && add_defaults(object, b->defaults, e) < 0)
        return -1;
    status = task_call_from_json(&call, object, e);
    call.origin = b->s->origin;
    if (status == 0)
        status = encode(b, &call, o, e);
    task_call_release(&call);
    return status;
}

/* Most lines need not become JSON values. */
static int encode_line(struct bulk *b, struct slice line, struct outgoing *o, struct err *e)
{
    struct task_call call = b->plain;
    struct task_names names;
    json_error_t why;
    json_t *object;
    int status;

    if (b->plain_lines && task_call_from_plain(&call, &names, line))
        return encode(b, &call, o, e);
    object = json_loadb(line.ptr, line.len, JSON_DECODE_ANY | JSON_ALLOW_NUL, &why);
    if (!object)
        return err_set(e, ERR_USAGE, "not valid JSON: %s at column %d", why.text, why.column);
    status = encode_object(b, object, o, e);
    json_decref(object);
    return status;
}

static bool is_blank(struct slice line)
{
    for (size_t i = 0; i < line.len; i++) {
        if (!strchr(" \t\r", line.ptr[i]) || !line.ptr[i])
            return false;
    }
    return true;
}

static void take_line(struct bulk *b, struct slice line)
{
    struct err e;

    b->line_number++;
    if (is_blank(line))
        return;
    if (encode_line(b, line, pipeline_slot(b->pipeline), &e) == 0) {
        pipeline_add(b->pipeline, b->line_number);
        return;
    }
    complain(b, b->line_number, &e);
    b->bad++;
}

static void take_lines(struct bulk *b)
{
    while (!b->pipeline->broken) {
        struct slice text = buf_slice(&b->input);
        const char *end = memchr(text.ptr + b->searched, '\n', text.len - b->searched);

        if (!end) {
            b->searched = text.len;
            break;
        }
        b->searched = 0;
        take_line(b, slice_make(text.ptr, (size_t)(end - text.ptr)));
        buf_consume(&b->input, (size_t)(end - text.ptr) + 1);
    }
    if (b->input_ended && b->input.len > 0 && !b->pipeline->broken)
        take_line(b, buf_slice(&b->input));
}

static bool input_is_ready(void)
{
    struct pollfd fd = {STDIN_FILENO, POLLIN, 0};

    return poll(&fd, 1, 0) > 0;
}

static int read_more(struct bulk *b, struct err *e)
{
    char *room = buf_reserve(&b->input, READ_SIZE);
    ssize_t n;

    if (!room)
        return err_nomem(e);
    n = read(STDIN_FILENO, room, READ_SIZE);
    if (n < 0 && errno == EINTR)
        return 0;
    if (n < 0)
        return err_sys(e, ERR_OPERATOR, errno, "can not read standard input");
    buf_commit(&b->input, (size_t)n);
    b->input_ended = n == 0;
    return 0;
}

static int bulk_status(const struct bulk *b)
{
    if (b->bad == 0 && b->failed == 0)
        return EXITCODE_OK;
    if (b->sent > 0)
        return EXITCODE_PARTIAL;
    return b->failed > 0 ? b->failed_status : EXITCODE_USAGE;
}

static void summarise(struct bulk *b)
{
    if (b->sent + b->bad + b->failed > 0)
        show_progress(b, true);
    if (b->bad || b->failed) {
        fflush(stdout);
        fprintf(stderr, "celeriac: %llu sent, %llu bad lines, %llu not confirmed%s\n",
                (unsigned long long)b->sent, (unsigned long long)b->bad,
                (unsigned long long)b->failed,
                b->pipeline->broken ? "; the rest of the input was not read" : "");
    }
}

/* Defaults that are wrong by themselves, or with each other, are told line by line. */
static void prepare_plain(struct bulk *b)
{
    b->usual = json_text_copy(b->defaults);
    b->plain_lines = b->usual && json_object_set_new(b->usual, "task", json_string("task")) == 0 &&
                     task_call_from_json(&b->plain, b->usual, NULL) == 0;
    b->plain.origin = b->s->origin;
}

static void bulk_release(struct bulk *b)
{
    pipeline_free(b->pipeline);
    task_call_release(&b->plain);
    json_decref(b->usual);
    buf_release(&b->input);
}

int bulk_send(struct session *s, const struct command_context *ctx, json_t *defaults)
{
    struct bulk bulk = {.s = s, .ctx = ctx, .defaults = defaults, .pipeline = pipeline_new(s)};
    struct bulk *b = &bulk;
    struct err e = ERR_INIT;
    int status;

    if (!b->pipeline)
        return command_nomem(ctx);
    pipeline_begin(b->pipeline, SEND_BATCH, PIPELINE_BYTES, settle, b);
    prepare_plain(b);
    while (!b->input_ended && !b->pipeline->broken && e.code == ERR_NONE) {
        if (!input_is_ready())
            pipeline_flush(b->pipeline);
        if (!b->pipeline->broken && read_more(b, &e) == 0)
            take_lines(b);
    }
    /* What was read and encoded while the broker went away: not sent, and so not confirmed. */
    b->failed += pipeline_flush(b->pipeline);
    summarise(b);
    status = e.code == ERR_NONE ? bulk_status(b) : command_fail(ctx, &e);
    bulk_release(b);
    return status;
}
