#include "broker/redis_ask.h"

#include <stdlib.h>

#define LIMIT 100

void redis_ask_free(void *state)
{
    struct ask *ask = state;

    if (!ask)
        return;
    words_release(&ask->names);
    free(ask->queue);
    free(ask->handle);
    free(ask);
}

void redis_ask_failed(void *owner, struct redis_request *r, const struct err *why)
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

struct redis_request *redis_ask_step(struct redis_broker *b, struct ask *ask,
                                     const struct redis_op *op, enum redis_script_id script)
{
    struct err e;
    struct redis_request *r = redis_new(b, op, script, &e);

    if (r) {
        r->state = ask;
        return r;
    }
    event_queue_fail(&b->events, ask->tag, &e);
    redis_ask_free(ask);
    return NULL;
}

struct ask *redis_ask_take(struct redis_request *r)
{
    struct ask *ask = r->state;

    r->state = NULL;
    return ask;
}

static void queue_lists(struct redis_request *r, const char *name)
{
    for (int step = 0; step < REDIS_STEPS; step++)
        redis_key3(r, "", slice_of(name), redis_step_suffix(step));
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
        ask_names(b, redis_ask_take(r)); /* a queue came in between */
        return;
    }
    totals.waiting = redis_at(reply, 1)->integer;
    totals.leased = redis_at(reply, 2)->integer;
    totals.delayed = redis_at(reply, 3)->integer;
    for (size_t i = 5; i + 1 < reply->elements; i += 2)
        read_counter(&totals, redis_slice(redis_at(reply, i)), redis_slice(redis_at(reply, i + 1)));
    totals.published += redis_at(reply, 4)->integer;
    answer_totals(&out, &totals);
    redis_answer(b, ask->tag, &out);
}

static const struct redis_op op_totals = {
    .name = "totals", .done = got_totals, .failed = redis_ask_failed, .free_state = redis_ask_free};

static void ask_totals(struct redis_broker *b, struct ask *ask)
{
    struct redis_request *r = redis_ask_step(b, ask, &op_totals, REDIS_SCRIPT_TOTALS);

    if (!r)
        return;
    redis_key(r, slice_of(REDIS_TOTALS));
    redis_key(r, slice_of(REDIS_UNACKED));
    redis_key(r, slice_of(REDIS_DELAYED));
    redis_key(r, slice_of(REDIS_QUEUES));
    redis_key(r, slice_of(REDIS_SENT));
    redis_key(r, slice_of(REDIS_BULK));
    for (size_t i = 0; i < ask->names.len; i++)
        queue_lists(r, ask->names.items[i]);
    redis_proceed(b, r);
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
    redis_answer(owner, ask->tag, &out);
}

static const struct redis_op op_queues = {
    .name = "queues", .done = got_queues, .failed = redis_ask_failed, .free_state = redis_ask_free};

static void ask_queues(struct redis_broker *b, struct ask *ask)
{
    struct redis_request *r = redis_ask_step(b, ask, &op_queues, REDIS_SCRIPT_QUEUES);

    if (!r)
        return;
    redis_key(r, slice_of(REDIS_UNACKED));
    redis_key(r, slice_of(REDIS_BULK));
    for (size_t i = 0; i < ask->names.len; i++) {
        queue_lists(r, ask->names.items[i]);
        redis_key2(r, REDIS_DELAYED_OF, slice_of(ask->names.items[i]));
        redis_key3(r, "", slice_of(ask->names.items[i]), ".dead");
        redis_key3(r, "", slice_of(ask->names.items[i]), ".unknown");
    }
    redis_proceed(b, r);
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
    const struct ask *ask = r->state;
    struct buf out = BUF_INIT;

    answer_begin(&out);
    for (size_t i = 0; i + 3 < reply->elements; i += 4)
        peek_row(owner, &out, reply, i);
    answer_end(&out);
    redis_answer(owner, ask->tag, &out);
}

static const struct redis_op op_peek = {
    .name = "peek", .done = got_peek, .failed = redis_ask_failed, .free_state = redis_ask_free};

static void ask_peek(struct redis_broker *b, struct ask *ask)
{
    struct redis_request *r = redis_ask_step(b, ask, &op_peek, REDIS_SCRIPT_PEEK);
    struct buf quoted = BUF_INIT;

    if (!r)
        return;
    redis_quote(&quoted, slice_of(ask->queue));
    redis_key(r, slice_of(REDIS_UNACKED));
    redis_key(r, slice_of(REDIS_DELAYED_MSG));
    redis_key2(r, REDIS_DELAYED_OF, slice_of(ask->queue));
    queue_lists(r, ask->queue);
    redis_key(r, slice_of(REDIS_BULK));
    redis_argi(r, ask->limit);
    redis_arg(r, buf_slice(&quoted));
    buf_release(&quoted);
    redis_proceed(b, r);
}

/* --- PURGE --- */

static void got_count(void *owner, struct redis_request *r, const redisReply *reply)
{
    const struct ask *ask = r->state;
    struct buf out = BUF_INIT;

    answer_count(&out, ask->question == BROKER_ASK_PURGE ? "purged" : "dropped", reply->integer);
    redis_answer(owner, ask->tag, &out);
}

static const struct redis_op op_purge = {
    .name = "purge", .done = got_count, .failed = redis_ask_failed, .free_state = redis_ask_free};

static void ask_purge(struct redis_broker *b, struct ask *ask)
{
    struct redis_request *r = redis_ask_step(b, ask, &op_purge, REDIS_SCRIPT_PURGE);

    if (!r)
        return;
    redis_key(r, slice_of(REDIS_TOTALS));
    redis_key(r, slice_of(REDIS_DELAYED));
    redis_key(r, slice_of(REDIS_DELAYED_MSG));
    redis_key2(r, REDIS_DELAYED_OF, slice_of(ask->queue));
    queue_lists(r, ask->queue);
    redis_proceed(b, r);
}

/* --- DROP --- */

static const struct redis_op op_drop = {
    .name = "drop", .done = got_count, .failed = redis_ask_failed, .free_state = redis_ask_free};

static void ask_drop(struct redis_broker *b, struct ask *ask)
{
    struct redis_request *r = redis_ask_step(b, ask, &op_drop, REDIS_SCRIPT_DROP);

    if (!r)
        return;
    redis_key(r, slice_of(REDIS_QUEUES));
    redis_key2(r, REDIS_BINDING, slice_of(ask->queue));
    redis_key2(r, REDIS_DELAYED_OF, slice_of(ask->queue));
    queue_lists(r, ask->queue);
    redis_arg(r, slice_of(ask->queue));
    redis_proceed(b, r);
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
        [BROKER_ASK_QUEUES] = ask_queues,
        [BROKER_ASK_TOTALS] = ask_totals,
        [BROKER_ASK_PEEK] = ask_peek,
        [BROKER_ASK_PURGE] = ask_purge,
        [BROKER_ASK_DEAD] = redis_dead_list,
        [BROKER_ASK_DEAD_SHOW] = NULL,
        [BROKER_ASK_DEAD_RETRY] = redis_dead_raise,
        [BROKER_ASK_DEAD_RM] = redis_dead_raise,
    };

    steps[ask->question](b, ask);
}

static void got_names(void *owner, struct redis_request *r, const redisReply *reply)
{
    struct redis_broker *b = owner;
    struct ask *ask = redis_ask_take(r);
    struct err e;

    if (collect_names(b, ask, reply) != 0) {
        err_nomem(&e);
        event_queue_fail(&b->events, ask->tag, &e);
        redis_ask_free(ask);
        return;
    }
    if (ask->question == BROKER_ASK_TOTALS)
        ask->grave = reply->elements; /* to see whether a queue comes in between */
    with_names(b, ask);
}

static const struct redis_op op_names = {
    .name = "queues", .done = got_names, .failed = redis_ask_failed, .free_state = redis_ask_free};

static void ask_names(struct redis_broker *b, struct ask *ask)
{
    struct redis_request *r = redis_ask_step(b, ask, &op_names, REDIS_PLAIN);

    if (!r)
        return;
    redis_key(r, slice_of("SMEMBERS"));
    redis_key(r, slice_of(REDIS_QUEUES));
    redis_proceed(b, r);
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
    redis_ask_free(ask);
    return NULL;
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
    if (ask->question == BROKER_ASK_DROP)
        ask_drop(b, ask);
    else if (ask->question == BROKER_ASK_DEAD_SHOW ||
             (ask->question > BROKER_ASK_DEAD_SHOW && strcmp(ask->handle, "all") != 0))
        redis_dead_by_handle(b, ask);
    else
        ask_names(b, ask);
    return 0;
}
