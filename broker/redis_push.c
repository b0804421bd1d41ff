/* Publishing: in scripts that grow while they wait; and what goes to one list at once, without Lua
 * where the list is known (redis_transact.c). */
#include "broker/redis_push.h"
#include "base/analyzer.h"
#include "base/decimal.h"
#include "base/fault.h"

#include <assert.h>
#include <stdlib.h>

#define AROUND    1024
#define KNOWN_MAX 4096 /* bytes of names */

bool redis_is_delayed(const struct redis_broker *b, int64_t not_before_ms)
{
    return not_before_ms > clock_wall_ms(b->clock);
}

void redis_push_key(struct redis_request *r, struct slice queue, int priority, bool delayed)
{
    if (delayed)
        redis_key2(r, REDIS_DELAYED_OF, queue);
    else
        redis_key3(r, "", queue, redis_step_suffix(redis_step_of(priority)));
}

/* Grows within this process, so that equal times keep their order. */
void redis_arg_tag(struct redis_broker *b, struct redis_request *r, int priority,
                   struct slice queue)
{
    uint64_t number = (uint64_t)clock_wall_ms(b->clock) << 20;
    struct buf tag = BUF_INIT;

    b->last_number = number > b->last_number ? number : b->last_number + 1;
    redis_tag(&tag, b->last_number, b->instance, priority, queue);
    redis_arg(r, buf_slice(&tag));
    if (tag.failed)
        r->args.failed = true;
    buf_release(&tag);
}

/* Flags: counted as published, has a token, is delayed. Then envelope, due, tag. */
void redis_push_args(struct redis_broker *b, struct redis_request *r,
                     const struct broker_message *m, bool delayed)
{
    char flags[4] = {m->continues ? '0' : '1', m->token.len ? '1' : '0', delayed ? '1' : '0', 0};

    redis_args(r, flags);
    redis_arg(r, m->envelope);
    redis_argi(r, delayed ? m->not_before_ms : 0);
    if (delayed)
        redis_arg_tag(b, r, m->priority, m->queue);
    else
        redis_args(r, "");
}

/* The script answers with the items that failed; all others are there. CRASH: after the publish
 * script, before its caller is told - a resend with the same token pushes nothing. */
static void published(void *owner, struct redis_request *r, const redisReply *reply)
{
    struct redis_broker *b = owner;
    size_t bad = 0;

    FAULT_POINT("redis.after-publish");
    for (size_t i = 0; i < r->items_len; i++) {
        const redisReply *at = redis_at(reply, bad);

        if (at->type == REDIS_REPLY_INTEGER && (size_t)at->integer == i) {
            struct err e;

            redis_text_err(b, &e, redis_at(reply, bad + 1));
            event_queue_fail(&b->events, r->items[i].tag, &e);
            bad += 2;
        } else {
            event_queue_done(&b->events, BROKER_PUBLISHED, r->items[i].tag, 0);
        }
    }
}

static const struct redis_op op_publish = {
    .name = "publish", .done = published, .failed = redis_fail_items};

static int add_message(struct redis_broker *b, struct redis_request *r,
                       const struct broker_message *m)
{
    bool delayed = redis_is_delayed(b, m->not_before_ms);

    redis_push_key(r, m->queue, m->priority, delayed);
    redis_key2(r, REDIS_TOKEN, m->token);
    redis_push_args(b, r, m, delayed);
    return redis_request_item(r, m->tag, NULL);
}

static struct redis_request *publish_request(struct redis_broker *b, bool *fresh, struct err *e)
{
    struct redis_request *r = redis_batch(b, &op_publish, REDIS_SCRIPT_PUBLISH, fresh, e);

    if (r && *fresh) {
        redis_key(r, slice_of(REDIS_TOTALS));
        redis_key(r, slice_of(REDIS_DELAYED));
        redis_key(r, slice_of(REDIS_DELAYED_MSG));
    }
    return r;
}

static int publish_one(struct redis_broker *b, const struct broker_message *m, struct err *e)
{
    bool fresh;
    struct redis_request *r = publish_request(b, &fresh, e);

    if (!r)
        return -1;
    if (add_message(b, r, m) != 0)
        r->args.failed = true;
    return fresh ? redis_submit(b, r, e) : 0;
}

/* --- lists that are known to be lists, or empty --- */

static bool is_known(const struct redis_broker *b, const char *list)
{
    struct slice names = buf_slice(&b->known_lists);

    for (size_t i = 0; i < names.len; i += strlen(names.ptr + i) + 1) {
        if (strcmp(names.ptr + i, list) == 0)
            return true;
    }
    return false;
}

/* Of more lists than fit the last ones go through the script. */
static void learn(struct redis_broker *b, const char *list)
{
    size_t len = strlen(list) + 1;

    if (b->known_lists.len + len <= KNOWN_MAX && !is_known(b, list))
        buf_add(&b->known_lists, list, len);
}

static char *put(char *to, struct slice text)
{
    memcpy(to, text.ptr, text.len);
    to[text.len] = '\0';
    return to + text.len;
}

/* One of its own for each part of a batch. */
static void put_token(char *to, const struct broker_message *m)
{
    char room[DECIMAL_SIZE];

    assert(m->token.len <= 64 && m->batch.len <= 40); /* broker.h */
    to = put(to, slice_of(REDIS_TOKEN));
    if (m->batch.len)
        put(put(put(to, m->batch), slice_of("/")), decimal_of(room, m->batch_at));
    else
        put(to, m->token);
}

/* NULL when out of memory. The caller frees it. */
static struct redis_push *push_of(const struct broker_message *m)
{
    struct slice suffix = slice_of(redis_step_suffix(redis_step_of(m->priority)));
    struct redis_push *p = malloc(sizeof(*p) + m->queue.len + suffix.len + 1);

    if (!p)
        return NULL;
    put_token(p->token, m);
    put(put(p->list, m->queue), suffix);
    return p;
}

/* CRASH: after the push, before its caller is told - a resend of the batch pushes nothing. */
void redis_pushed(void *owner, struct redis_request *r, const redisReply *reply)
{
    struct redis_broker *b = owner;
    const struct redis_push *p = r->state;

    (void)reply;
    FAULT_POINT("redis.after-publish");
    learn(b, p->list);
    for (size_t i = 0; i < r->items_len; i++)
        event_queue_done(&b->events, BROKER_PUBLISHED, r->items[i].tag, 0);
}

static const struct redis_op op_push = {
    .name = "publish", .done = redis_pushed, .failed = redis_fail_items, .free_state = free};

/* --- what goes together --- */

/* A delayed message goes alone: at a resend its time may have come. */
static bool same_list(const struct broker_message *a, const struct broker_message *m)
{
    return slice_eq(a->queue, m->queue) && slice_eq(a->batch, m->batch) && a->fresh == m->fresh &&
           redis_step_of(a->priority) == redis_step_of(m->priority) && !m->continues &&
           m->not_before_ms == 0;
}

/* How many messages from v on go to one list under one batch, at most a request's worth. Messages
 * fail by runs and come again by runs, and what is not next to each other in the batch is not
 * joined: so a resend is cut alike, and its parts have the same tokens. */
static size_t run_of(const struct broker_message *v, size_t n)
{
    size_t len = 0, bytes = 0;

    while (len < n && len < REDIS_BATCH_ITEMS && bytes < REDIS_BATCH_BYTES && v[0].batch.len &&
           v[len].batch_at == v[0].batch_at + len && same_list(&v[0], &v[len]))
        bytes += v[len++].envelope.len;
    return len;
}

void redis_push_envelopes(struct redis_request *r, const struct broker_message *v, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        redis_arg(r, v[i].envelope);
        if (redis_request_item(r, v[i].tag, NULL) != 0)
            r->args.failed = true;
    }
}

/* At once, with what stands around and behind the envelopes. */
static void reserve(struct buf *args, const struct broker_message *v, size_t n)
{
    size_t len = AROUND;

    for (size_t i = 0; i < n; i++)
        len += v[i].envelope.len + 16;
    buf_reserve(args, len);
}

static void add_key(struct redis_request *r, const char *name)
{
    redis_key(r, slice_of(name));
}

static void write_push(struct redis_request *r, const struct broker_message *v, size_t n)
{
    const struct redis_push *p = r->state;

    add_key(r, REDIS_TOTALS);
    add_key(r, p->token);
    add_key(r, p->list);
    redis_push_envelopes(r, v, n);
}

/* Only messages that nobody has seen: for those no token has to be asked for. */
static bool may_transact(const struct redis_broker *b, const struct broker_message *m,
                         const struct redis_push *p)
{
    return m->fresh && b->transactions && is_known(b, p->list);
}

static struct redis_request *push_request(struct redis_broker *b, const struct broker_message *m,
                                          struct err *e)
{
    struct redis_push *p = push_of(m);
    struct redis_request *r;

    if (!p) {
        err_nomem(e);
        return NULL;
    }
    r = redis_new(b, &op_push, may_transact(b, m, p) ? REDIS_RAW : REDIS_SCRIPT_PUSH, e);
    if (!r) {
        free(p);
        return NULL;
    }
    r->state = p;
    return r;
}

/* The request holds its push. */
ANALYZER_LOSES_SIGHT
static int push_run(struct redis_broker *b, const struct broker_message *v, size_t n, struct err *e)
{
    struct redis_request *r = push_request(b, &v[0], e);

    if (!r)
        return -1;
    reserve(&r->args, v, n);
    if (r->script == REDIS_RAW)
        return redis_transact(b, r, v, n, e);
    write_push(r, v, n);
    return redis_submit(b, r, e);
}
ANALYZER_SEES_AGAIN

/* Alone and now, with a token and nothing in front that it could join. */
static bool is_single(const struct redis_broker *b, const struct broker_message *m, size_t n)
{
    return n == 1 && m->token.len && !m->continues && m->not_before_ms == 0 &&
           !b->main.waiting.head;
}

int redis_publish(struct broker *base, const struct broker_message *v, size_t n, struct err *e)
{
    struct redis_broker *b = (struct redis_broker *)base;

    for (size_t i = 0; i < n; i++) {
        redis_declare(b, v[i].queue);
        redis_watch_sent(b, v[i].id);
    }
    for (size_t i = 0, run; i < n; i += run) {
        run = is_single(b, &v[i], n) ? 1 : run_of(v + i, n - i);
        if (run ? push_run(b, v + i, run, e) != 0 : publish_one(b, &v[i], e) != 0)
            return -1;
        run += !run;
    }
    return 0;
}
