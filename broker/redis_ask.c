#include "base/words.h"
#include "broker/answer.h"
#include "broker/redis.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>

#define LIMIT  100
#define HANDLE 16 /* digits of the digest that name a dead message */
#define RAISE  64 /* dead messages sent again per step */

/* A question under way. Most need the list of queues first, then a script over all of their keys.
 */
struct ask {
    uint64_t tag;
    enum broker_question question;
    int64_t limit;
    char *queue;        /* owned; "" for none */
    char *handle;       /* owned */
    struct words names; /* the queues, sorted */
    size_t grave;       /* 2 * queue + (0 dead, 1 unknown): where DEAD_RETRY and DEAD_RM are */
    int64_t count;
};

static void ask_free(void *state)
{
    struct ask *ask = state;

    if (!ask)
        return;
    words_release(&ask->names);
    free(ask->queue);
    free(ask->handle);
    free(ask);
}

static void ask_failed(void *owner, struct redis_request *r, const struct err *why)
{
    struct redis_broker *b = owner;
    struct ask *ask = r->state;

    if (ask)
        event_queue_fail(&b->events, ask->tag, why);
}

void redis_answer(struct redis_broker *b, uint64_t tag, struct buf *out)
{
    struct broker_event event = {.kind = BROKER_ANSWER, .tag = tag};
    struct err e;

    buf_str(out); /* terminated behind its end */
    event.data = buf_slice(out);
    if (out->failed) {
        err_nomem(&e);
        event_queue_fail(&b->events, tag, &e);
    } else {
        event_queue_push(&b->events, &event);
    }
    buf_release(out);
}

static void answer(struct redis_broker *b, const struct ask *ask, struct buf *out)
{
    redis_answer(b, ask->tag, out);
}

static const char *grave_suffix(size_t grave)
{
    return grave % 2 ? ".unknown" : ".dead";
}

/* A new step of the question; takes it from the last request. NULL: it failed and was told. */
static struct redis_request *next_step(struct redis_broker *b, struct ask *ask,
                                       const struct redis_op *op, enum redis_script_id script)
{
    struct err e;
    struct redis_request *r = redis_new(b, op, script, &e);

    if (r) {
        r->state = ask;
        return r;
    }
    event_queue_fail(&b->events, ask->tag, &e);
    ask_free(ask);
    return NULL;
}

static struct ask *take_ask(struct redis_request *r)
{
    struct ask *ask = r->state;

    r->state = NULL;
    return ask;
}

static void send_step(struct redis_broker *b, struct redis_request *r)
{
    redis_submit(b, r, NULL);
}

static void queue_lists(struct redis_request *r, const char *name)
{
    for (int step = 0; step < REDIS_STEPS; step++)
        redis_key3(r, "", slice_of(name), redis_step_suffix(step));
}

static void grave_keys(struct redis_request *r, const char *name, const char *suffix)
{
    redis_key3(r, "", slice_of(name), suffix);
    redis_key3(r, REDIS_REASONS, slice_of(name), suffix);
}

/* --- TOTALS --- */

static void ask_names(struct redis_broker *b, struct ask *ask);

static const struct {
    const char *name;
    size_t at;
} counters[] = {
    {"published", offsetof(struct answer_totals, published)},
    {"succeeded", offsetof(struct answer_totals, succeeded)},
    {"failed", offsetof(struct answer_totals, failed)},
    {"retried", offsetof(struct answer_totals, retried)},
    {"dead", offsetof(struct answer_totals, dead)},
    {"duplicates", offsetof(struct answer_totals, duplicates)},
    {"purged", offsetof(struct answer_totals, purged)},
    {"removed", offsetof(struct answer_totals, removed)},
};

static void read_counter(struct answer_totals *totals, struct slice name, struct slice value)
{
    for (size_t i = 0; i < sizeof(counters) / sizeof(counters[0]); i++) {
        if (slice_is(name, counters[i].name) && value.ptr)
            *(int64_t *)(void *)((char *)totals + counters[i].at) = strtoll(value.ptr, NULL, 10);
    }
}

static void got_totals(void *owner, struct redis_request *r, const redisReply *reply)
{
    struct redis_broker *b = owner;
    struct answer_totals totals = {0};
    struct ask *ask = r->state;
    struct buf out = BUF_INIT;

    if ((size_t)redis_at(reply, 0)->integer != ask->grave) {
        ask_names(b, take_ask(r)); /* a queue came in between */
        return;
    }
    totals.waiting = redis_at(reply, 1)->integer;
    totals.leased = redis_at(reply, 2)->integer;
    totals.delayed = redis_at(reply, 3)->integer;
    for (size_t i = 4; i + 1 < reply->elements; i += 2)
        read_counter(&totals, redis_slice(redis_at(reply, i)), redis_slice(redis_at(reply, i + 1)));
    answer_totals(&out, &totals);
    answer(b, ask, &out);
}

static const struct redis_op op_totals = {
    .name = "totals", .done = got_totals, .failed = ask_failed, .free_state = ask_free};

static void ask_totals(struct redis_broker *b, struct ask *ask)
{
    struct redis_request *r = next_step(b, ask, &op_totals, REDIS_SCRIPT_TOTALS);

    if (!r)
        return;
    redis_key(r, slice_of(REDIS_TOTALS));
    redis_key(r, slice_of(REDIS_UNACKED));
    redis_key(r, slice_of(REDIS_DELAYED));
    redis_key(r, slice_of(REDIS_QUEUES));
    for (size_t i = 0; i < ask->names.len; i++)
        queue_lists(r, ask->names.items[i]);
    send_step(b, r);
}

/* --- QUEUES --- */

/* Whether the quoted routing key at the end of a recorded value is this queue. */
static bool is_quoted(struct slice quoted, const char *name)
{
    struct buf want = BUF_INIT;
    bool same;

    redis_quote(&want, slice_of(name));
    same = slice_eq(buf_slice(&want), quoted);
    buf_release(&want);
    return same;
}

static int64_t leased_of(const redisReply *reply, size_t from, const char *name)
{
    for (size_t i = from; i + 1 < reply->elements; i += 2) {
        if (is_quoted(redis_slice(redis_at(reply, i)), name))
            return redis_at(reply, i + 1)->integer;
    }
    return 0;
}

static void got_queues(void *owner, struct redis_request *r, const redisReply *reply)
{
    const struct ask *ask = r->state;
    struct buf out = BUF_INIT;

    answer_begin(&out);
    for (size_t i = 0; i < ask->names.len; i++) {
        struct answer_queue row = {
            .queue = slice_of(ask->names.items[i]),
            .waiting = redis_at(reply, 4 * i)->integer,
            .delayed = redis_at(reply, 4 * i + 1)->integer,
            .dead = redis_at(reply, 4 * i + 2)->integer,
            .unknown = redis_at(reply, 4 * i + 3)->integer,
            .leased = leased_of(reply, 4 * ask->names.len, ask->names.items[i]),
        };

        answer_queue(&out, &row);
    }
    answer_end(&out);
    answer(owner, ask, &out);
}

static const struct redis_op op_queues = {
    .name = "queues", .done = got_queues, .failed = ask_failed, .free_state = ask_free};

static void ask_queues(struct redis_broker *b, struct ask *ask)
{
    struct redis_request *r = next_step(b, ask, &op_queues, REDIS_SCRIPT_QUEUES);

    if (!r)
        return;
    redis_key(r, slice_of(REDIS_UNACKED));
    for (size_t i = 0; i < ask->names.len; i++) {
        queue_lists(r, ask->names.items[i]);
        redis_key2(r, REDIS_DELAYED_OF, slice_of(ask->names.items[i]));
        redis_key3(r, "", slice_of(ask->names.items[i]), ".dead");
        redis_key3(r, "", slice_of(ask->names.items[i]), ".unknown");
    }
    send_step(b, r);
}

/* --- PEEK --- */

static void peek_row(struct redis_broker *b, struct buf *out, const redisReply *reply, size_t i)
{
    struct slice state = redis_slice(redis_at(reply, i));
    struct slice tag = redis_slice(redis_at(reply, i + 1));
    struct slice due = redis_slice(redis_at(reply, i + 2));
    struct answer_peek row = {.state = "waiting", .envelope = redis_slice(redis_at(reply, i + 3))};
    struct redis_entry entry = {0};
    struct slice queue;

    (void)b;
    row.priority = (int)redis_at(reply, i + 1)->integer;
    if (slice_is(state, "d")) {
        row.state = "delayed";
        if (tag.ptr)
            redis_tag_parse(tag, &row.priority, &queue);
        row.not_before_ms = due.ptr ? (int64_t)strtod(due.ptr, NULL) : 0;
    } else if (slice_is(state, "l")) {
        row.state = "leased";
        /* The envelope is the first element of the recorded array. */
        if (redis_entry_parse(&entry, row.envelope, false, NULL) == 0 ||
            redis_entry_parse(&entry, row.envelope, true, NULL) == 0) {
            row.envelope = slice_make(entry.envelope, entry.envelope_len);
            row.priority = entry.priority;
        }
    }
    answer_peek(out, &row);
    redis_entry_release(&entry);
}

static void got_peek(void *owner, struct redis_request *r, const redisReply *reply)
{
    struct buf out = BUF_INIT;

    answer_begin(&out);
    for (size_t i = 0; i + 3 < reply->elements; i += 4)
        peek_row(owner, &out, reply, i);
    answer_end(&out);
    answer(owner, r->state, &out);
}

static const struct redis_op op_peek = {
    .name = "peek", .done = got_peek, .failed = ask_failed, .free_state = ask_free};

static void ask_peek(struct redis_broker *b, struct ask *ask)
{
    struct redis_request *r = next_step(b, ask, &op_peek, REDIS_SCRIPT_PEEK);
    struct buf quoted = BUF_INIT;

    if (!r)
        return;
    redis_quote(&quoted, slice_of(ask->queue));
    redis_key(r, slice_of(REDIS_UNACKED));
    redis_key(r, slice_of(REDIS_DELAYED_MSG));
    redis_key2(r, REDIS_DELAYED_OF, slice_of(ask->queue));
    queue_lists(r, ask->queue);
    redis_argi(r, ask->limit);
    redis_arg(r, buf_slice(&quoted));
    buf_release(&quoted);
    send_step(b, r);
}

/* --- PURGE --- */

static void got_count(void *owner, struct redis_request *r, const redisReply *reply)
{
    struct buf out = BUF_INIT;

    answer_count(&out, "purged", reply->integer);
    answer(owner, r->state, &out);
}

static const struct redis_op op_purge = {
    .name = "purge", .done = got_count, .failed = ask_failed, .free_state = ask_free};

static void ask_purge(struct redis_broker *b, struct ask *ask)
{
    struct redis_request *r = next_step(b, ask, &op_purge, REDIS_SCRIPT_PURGE);

    if (!r)
        return;
    redis_key(r, slice_of(REDIS_TOTALS));
    redis_key(r, slice_of(REDIS_DELAYED));
    redis_key(r, slice_of(REDIS_DELAYED_MSG));
    redis_key2(r, REDIS_DELAYED_OF, slice_of(ask->queue));
    queue_lists(r, ask->queue);
    send_step(b, r);
}

/* --- DEAD, DEAD_SHOW --- */

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
    answer(owner, ask, &out);
}

static const struct redis_op op_dead = {
    .name = "dead", .done = got_dead, .failed = ask_failed, .free_state = ask_free};

static void ask_dead(struct redis_broker *b, struct ask *ask)
{
    struct redis_request *r = next_step(b, ask, &op_dead, REDIS_SCRIPT_DEAD);

    if (!r)
        return;
    for (size_t i = 0; i < 2 * ask->names.len; i++)
        grave_keys(r, ask->names.items[i / 2], grave_suffix(i));
    redis_argi(r, ask->limit);
    send_step(b, r);
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
    answer(owner, ask, &out);
}

static const struct redis_op op_show = {
    .name = "show", .done = got_one, .failed = ask_failed, .free_state = ask_free};

static void exhume(struct redis_broker *b, struct ask *ask, const struct redis_op *op)
{
    struct redis_request *r = next_step(b, ask, op, REDIS_SCRIPT_EXHUME);

    if (!r)
        return;
    grave_keys(r, ask->names.items[0], grave_suffix(ask->grave));
    redis_args(r, ask->handle);
    send_step(b, r);
}

/* --- DEAD_RETRY, DEAD_RM --- */

static void raise_more(struct redis_broker *b, struct ask *ask);

static void answer_raised(struct redis_broker *b, struct ask *ask)
{
    struct buf out = BUF_INIT;

    answer_count(&out, ask->question == BROKER_ASK_DEAD_RETRY ? "moved" : "removed", ask->count);
    answer(b, ask, &out);
    ask_free(ask);
}

static void raised(void *owner, struct redis_request *r, const redisReply *reply)
{
    struct redis_broker *b = owner;
    struct ask *ask = take_ask(r);

    ask->count += reply->integer;
    /* Nothing moved: the rest of this grave cannot be (a key of a wrong type). */
    if (reply->integer == 0 && strcmp(ask->handle, "all") == 0)
        ask->grave++;
    if (strcmp(ask->handle, "all") == 0)
        raise_more(b, ask);
    else
        answer_raised(b, ask);
}

static const struct redis_op op_raise = {
    .name = "raise", .done = raised, .failed = ask_failed, .free_state = ask_free};

/* from: elements begin there in the reply. */
static void raise_elements(struct redis_broker *b, struct ask *ask, const redisReply *reply,
                           size_t from)
{
    /* Read first: a step that can not be made frees the question. */
    const char *name = ask->names.items[ask->grave / 2];
    struct redis_request *r = next_step(b, ask, &op_raise, REDIS_SCRIPT_UNBURY);

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
    send_step(b, r);
}

static void got_exhumed(void *owner, struct redis_request *r, const redisReply *reply)
{
    struct redis_broker *b = owner;
    struct ask *ask = take_ask(r);

    if (reply->elements < 3)
        answer_raised(b, ask);
    else
        raise_elements(b, ask, reply, 2);
}

static const struct redis_op op_exhume = {
    .name = "exhume", .done = got_exhumed, .failed = ask_failed, .free_state = ask_free};

static void got_range(void *owner, struct redis_request *r, const redisReply *reply)
{
    struct redis_broker *b = owner;
    struct ask *ask = take_ask(r);

    if (reply->elements == 0) {
        ask->grave++;
        raise_more(b, ask);
    } else {
        raise_elements(b, ask, reply, 0);
    }
}

static const struct redis_op op_range = {
    .name = "range", .done = got_range, .failed = ask_failed, .free_state = ask_free};

/* The oldest of the next grave that has any. */
static void raise_more(struct redis_broker *b, struct ask *ask)
{
    struct redis_request *r;

    if (ask->grave >= 2 * ask->names.len) {
        answer_raised(b, ask);
        return;
    }
    r = next_step(b, ask, &op_range, REDIS_PLAIN);
    if (!r)
        return;
    _Static_assert(RAISE == 64, "the range below");
    redis_key(r, slice_of("LRANGE"));
    redis_key3(r, "", slice_of(ask->names.items[ask->grave / 2]), grave_suffix(ask->grave));
    redis_key(r, slice_of("-64"));
    redis_key(r, slice_of("-1"));
    send_step(b, r);
}

/* --- the queues --- */

static int add_name(struct ask *ask, struct slice name)
{
    return name.len && !words_has(&ask->names, name) ? words_add(&ask->names, name) : 0;
}

static int collect_names(struct redis_broker *b, struct ask *ask, const redisReply *reply)
{
    size_t known = reply ? reply->elements : 0;
    int rc = 0;

    words_release(&ask->names);
    if (*ask->queue)
        return add_name(ask, slice_of(ask->queue));
    for (size_t i = 0; rc == 0 && i < known; i++)
        rc = add_name(ask, redis_slice(redis_at(reply, i)));
    for (size_t i = 0; rc == 0 && i < b->queues_len; i++)
        rc = add_name(ask, slice_of(b->queues[i].name));
    words_sort(&ask->names);
    return rc;
}

static void with_names(struct redis_broker *b, struct ask *ask)
{
    static void (*const steps[])(struct redis_broker *, struct ask *) = {
        [BROKER_ASK_QUEUES] = ask_queues,     [BROKER_ASK_TOTALS] = ask_totals,
        [BROKER_ASK_PEEK] = ask_peek,         [BROKER_ASK_PURGE] = ask_purge,
        [BROKER_ASK_DEAD] = ask_dead,         [BROKER_ASK_DEAD_SHOW] = NULL,
        [BROKER_ASK_DEAD_RETRY] = raise_more, [BROKER_ASK_DEAD_RM] = raise_more,
    };

    steps[ask->question](b, ask);
}

static void got_names(void *owner, struct redis_request *r, const redisReply *reply)
{
    struct redis_broker *b = owner;
    struct ask *ask = take_ask(r);
    struct err e;

    if (collect_names(b, ask, reply) != 0) {
        err_nomem(&e);
        event_queue_fail(&b->events, ask->tag, &e);
        ask_free(ask);
        return;
    }
    if (ask->question == BROKER_ASK_TOTALS)
        ask->grave = reply->elements; /* to see whether a queue comes in between */
    with_names(b, ask);
}

static const struct redis_op op_names = {
    .name = "queues", .done = got_names, .failed = ask_failed, .free_state = ask_free};

static void ask_names(struct redis_broker *b, struct ask *ask)
{
    struct redis_request *r = next_step(b, ask, &op_names, REDIS_PLAIN);

    if (!r)
        return;
    redis_key(r, slice_of("SMEMBERS"));
    redis_key(r, slice_of(REDIS_QUEUES));
    send_step(b, r);
}

/* --- the op --- */

static struct ask *ask_new(const struct broker_ask *from)
{
    struct ask *ask = calloc(1, sizeof(*ask));

    if (!ask)
        return NULL;
    ask->tag = from->tag;
    ask->question = from->question;
    ask->limit = from->limit > 0 ? from->limit : LIMIT;
    ask->queue = slice_dup(from->queue);
    ask->handle = slice_dup(from->handle);
    if (ask->queue && ask->handle)
        return ask;
    ask_free(ask);
    return NULL;
}

/* By handle: one grave is known. A text that is no handle finds nothing. */
static void ask_by_handle(struct redis_broker *b, struct ask *ask)
{
    bool show = ask->question == BROKER_ASK_DEAD_SHOW;
    struct buf out = BUF_INIT;

    if (read_handle(ask)) {
        exhume(b, ask, show ? &op_show : &op_exhume);
    } else if (show) {
        buf_adds(&out, "{}");
        answer(b, ask, &out);
        ask_free(ask);
    } else {
        answer_raised(b, ask);
    }
}

int redis_ask(struct broker *base, const struct broker_ask *question, struct err *e)
{
    struct redis_broker *b = (struct redis_broker *)base;
    struct ask *ask;

    if (question->question == BROKER_ASK_NODES)
        return redis_ask_nodes(b, question, e);
    if (question->question == BROKER_ASK_DOCTOR)
        return redis_doctor(b, question, e);
    ask = ask_new(question);
    if (!ask)
        return err_nomem(e);
    if (ask->question == BROKER_ASK_DEAD_SHOW ||
        (ask->question > BROKER_ASK_DEAD_SHOW && strcmp(ask->handle, "all") != 0))
        ask_by_handle(b, ask);
    else
        ask_names(b, ask);
    return 0;
}
