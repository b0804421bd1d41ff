/* Dead letters: the questions about them, from a list to sending them again. */
#include "broker/redis_ask.h"

#include <jansson.h>
#include <stdlib.h>

#define HANDLE 16 /* digits of the digest that name a dead message */
#define RAISE  64 /* dead messages sent again per step */

static const char *grave_suffix(size_t grave)
{
    return grave % 2 ? ".unknown" : ".dead";
}

static void grave_keys(struct redis_request *r, const char *name, const char *suffix)
{
    redis_key3(r, "", slice_of(name), suffix);
    redis_key3(r, REDIS_REASONS, slice_of(name), suffix);
}

/* --- list, show --- */

static struct slice text_of(const json_t *reason, const char *name)
{
    const json_t *value = json_object_get(reason, name);

    if (!json_is_string(value))
        return (struct slice){NULL, 0};
    return slice_make(json_string_value(value), json_string_length(value));
}

/* A handle is the beginning of the element's digest, at-sign, name of the grave. */
static void dead_row(struct buf *out, const char *queue, const char *suffix, struct slice sha,
                     struct slice reason, size_t size, struct slice envelope)
{
    json_t *why = json_loadb(reason.ptr, reason.len, 0, NULL);
    struct answer_dead row = {.queue = slice_of(queue),
                              .grave = suffix[1] == 'd' ? BROKER_DEAD : BROKER_UNKNOWN,
                              .cause = text_of(why, "cause"),
                              .id = text_of(why, "id"),
                              .task = text_of(why, "task"),
                              .at_ms = json_integer_value(json_object_get(why, "at_ms")),
                              .size = size,
                              .envelope = envelope};
    struct buf handle = BUF_INIT;

    if (!row.cause.ptr)
        row.cause = slice_of("no reason is recorded: another program put it there");
    buf_addf(&handle, "%.*s@%s%s", HANDLE, sha.ptr, queue, suffix);
    row.handle = buf_slice(&handle);
    answer_dead(out, &row);
    buf_release(&handle);
    json_decref(why);
}

static void got_dead(void *owner, struct redis_request *r, const redisReply *reply)
{
    const struct ask *ask = r->state;
    struct buf out = BUF_INIT;

    answer_begin(&out);
    for (size_t i = 0; i + 3 < reply->elements; i += 4) {
        size_t grave = (size_t)redis_at(reply, i)->integer;

        dead_row(&out, ask->names.items[grave / 2], grave_suffix(grave),
                 redis_slice(redis_at(reply, i + 2)), redis_slice(redis_at(reply, i + 3)),
                 (size_t)redis_at(reply, i + 1)->integer, (struct slice){NULL, 0});
    }
    answer_end(&out);
    redis_answer(owner, ask->tag, &out);
}

static const struct redis_op op_dead = {
    .name = "dead", .done = got_dead, .failed = redis_ask_failed, .free_state = redis_ask_free};

void redis_dead_list(struct redis_broker *b, struct ask *ask)
{
    struct redis_request *r = redis_ask_step(b, ask, &op_dead, REDIS_SCRIPT_DEAD);

    if (!r)
        return;
    for (size_t i = 0; i < 2 * ask->names.len; i++)
        grave_keys(r, ask->names.items[i / 2], grave_suffix(i));
    redis_argi(r, ask->limit);
    redis_proceed(b, r);
}

/* Splits a handle: ask->names becomes its one queue. False when it is none. */
static bool read_handle(struct ask *ask)
{
    char *at = strchr(ask->handle, '@');
    char *dot = at ? strrchr(at, '.') : NULL;

    if (!dot || (strcmp(dot, ".dead") != 0 && strcmp(dot, ".unknown") != 0) || at == ask->handle)
        return false;
    ask->grave = strcmp(dot, ".unknown") == 0;
    *at = '\0';
    return words_add(&ask->names, slice_make(at + 1, (size_t)(dot - at - 1))) == 0;
}

static void got_one(void *owner, struct redis_request *r, const redisReply *reply)
{
    const struct ask *ask = r->state;
    struct slice envelope = redis_slice(redis_at(reply, 2));
    struct buf out = BUF_INIT;

    if (envelope.ptr)
        dead_row(&out, ask->names.items[0], grave_suffix(ask->grave),
                 redis_slice(redis_at(reply, 0)), redis_slice(redis_at(reply, 1)), envelope.len,
                 envelope);
    else
        buf_adds(&out, "{}");
    redis_answer(owner, ask->tag, &out);
}

static const struct redis_op op_show = {
    .name = "show", .done = got_one, .failed = redis_ask_failed, .free_state = redis_ask_free};

static void exhume(struct redis_broker *b, struct ask *ask, const struct redis_op *op)
{
    struct redis_request *r = redis_ask_step(b, ask, op, REDIS_SCRIPT_EXHUME);

    if (!r)
        return;
    grave_keys(r, ask->names.items[0], grave_suffix(ask->grave));
    redis_args(r, ask->handle);
    redis_proceed(b, r);
}

/* --- send again, remove --- */

static void answer_raised(struct redis_broker *b, struct ask *ask)
{
    struct buf out = BUF_INIT;

    answer_count(&out, ask->question == BROKER_ASK_DEAD_RETRY ? "moved" : "removed", ask->count);
    redis_answer(b, ask->tag, &out);
    redis_ask_free(ask);
}

static void raised(void *owner, struct redis_request *r, const redisReply *reply)
{
    struct redis_broker *b = owner;
    struct ask *ask = redis_ask_take(r);

    ask->count += reply->integer;
    /* Nothing moved: the rest of this grave cannot be (a key of a wrong type). */
    if (reply->integer == 0 && strcmp(ask->handle, "all") == 0)
        ask->grave++;
    if (strcmp(ask->handle, "all") == 0)
        redis_dead_raise(b, ask);
    else
        answer_raised(b, ask);
}

static const struct redis_op op_raise = {
    .name = "raise", .done = raised, .failed = redis_ask_failed, .free_state = redis_ask_free};

/* from: elements begin there in the reply. */
static void raise_elements(struct redis_broker *b, struct ask *ask, const redisReply *reply,
                           size_t from)
{
    /* Read first: a step that can not be made frees the question. */
    const char *name = ask->names.items[ask->grave / 2];
    struct redis_request *r = redis_ask_step(b, ask, &op_raise, REDIS_SCRIPT_UNBURY);

    if (!r)
        return;
    redis_key(r, slice_of(REDIS_TOTALS));
    grave_keys(r, name, grave_suffix(ask->grave));
    redis_args(r, ask->question == BROKER_ASK_DEAD_RETRY ? "retry" : "rm");
    for (size_t i = reply->elements; i-- > from;) {
        struct slice element = redis_slice(redis_at(reply, i));

        redis_push_key(r, slice_of(name), redis_envelope_priority(element), false);
        redis_arg(r, element);
    }
    redis_proceed(b, r);
}

static void got_exhumed(void *owner, struct redis_request *r, const redisReply *reply)
{
    struct redis_broker *b = owner;
    struct ask *ask = redis_ask_take(r);

    if (reply->elements < 3)
        answer_raised(b, ask);
    else
        raise_elements(b, ask, reply, 2);
}

static const struct redis_op op_exhume = {.name = "exhume",
                                          .done = got_exhumed,
                                          .failed = redis_ask_failed,
                                          .free_state = redis_ask_free};

static void got_range(void *owner, struct redis_request *r, const redisReply *reply)
{
    struct redis_broker *b = owner;
    struct ask *ask = redis_ask_take(r);

    if (reply->elements == 0) {
        ask->grave++;
        redis_dead_raise(b, ask);
    } else {
        raise_elements(b, ask, reply, 0);
    }
}

static const struct redis_op op_range = {
    .name = "range", .done = got_range, .failed = redis_ask_failed, .free_state = redis_ask_free};

void redis_dead_raise(struct redis_broker *b, struct ask *ask)
{
    struct redis_request *r;

    if (ask->grave >= 2 * ask->names.len) {
        answer_raised(b, ask);
        return;
    }
    r = redis_ask_step(b, ask, &op_range, REDIS_PLAIN);
    if (!r)
        return;
    _Static_assert(RAISE == 64, "the range below");
    redis_key(r, slice_of("LRANGE"));
    redis_key3(r, "", slice_of(ask->names.items[ask->grave / 2]), grave_suffix(ask->grave));
    redis_key(r, slice_of("-64"));
    redis_key(r, slice_of("-1"));
    redis_proceed(b, r);
}

void redis_dead_by_handle(struct redis_broker *b, struct ask *ask)
{
    bool show = ask->question == BROKER_ASK_DEAD_SHOW;
    struct buf out = BUF_INIT;

    if (read_handle(ask)) {
        exhume(b, ask, show ? &op_show : &op_exhume);
    } else if (show) {
        buf_adds(&out, "{}");
        redis_answer(b, ask->tag, &out);
        redis_ask_free(ask);
    } else {
        answer_raised(b, ask);
    }
}
