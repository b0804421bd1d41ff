/* Publishing: in scripts that grow while they wait; and what goes to some lists at once, without
 * Lua where the lists are known (redis_transact.c). */
#include "broker/redis_push.h"
#include "base/analyzer.h"
#include "base/decimal.h"
#include "base/fault.h"

#include <assert.h>
#include <stdlib.h>

#define AROUND    1024
#define KNOWN_MAX 4096 /* lists */

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

static bool are_known(const struct redis_broker *b, const struct redis_push *p)
{
    for (size_t i = 0; i < p->lists_len; i++) {
        if (!redis_names_has(&b->known_lists, slice_of(p->lists[i].key)))
            return false;
    }
    return true;
}

/* Of more lists than are remembered the last ones go through the script. */
static void learn(struct redis_broker *b, const char *list)
{
    if (b->known_lists.len < KNOWN_MAX)
        redis_names_add(&b->known_lists, slice_of(list));
}

/* --- its end --- */

void redis_push_landed(struct redis_broker *b, const struct redis_request *r,
                       const struct redis_push_list *list, size_t from)
{
    learn(b, list->key);
    for (size_t i = from; i < from + list->len; i++)
        event_queue_done(&b->events, BROKER_PUBLISHED, r->items[i].tag, 0);
}

void redis_push_refused(struct redis_broker *b, const struct redis_request *r,
                        const struct redis_push_list *list, size_t from, const struct err *why)
{
    for (size_t i = from; i < from + list->len; i++)
        event_queue_fail(&b->events, r->items[i].tag, why);
}

/* The script answers with the lists that refused theirs. CRASH: after the push, before its caller
 * is told - a resend of the batch pushes nothing. */
static void pushed(void *owner, struct redis_request *r, const redisReply *reply)
{
    struct redis_broker *b = owner;
    const struct redis_push *p = r->state;
    size_t bad = 0, from = 0;

    FAULT_POINT("redis.after-publish");
    for (size_t i = 0; i < p->lists_len; from += p->lists[i++].len) {
        const redisReply *at = redis_at(reply, bad);
        struct err e;

        if (at->type != REDIS_REPLY_INTEGER || (size_t)at->integer != i) {
            redis_push_landed(b, r, &p->lists[i], from);
            continue;
        }
        redis_text_err(b, &e, redis_at(reply, bad + 1));
        redis_push_refused(b, r, &p->lists[i], from, &e);
        bad += 2;
    }
}

static const struct redis_op op_push = {
    .name = "publish", .done = pushed, .failed = redis_fail_items, .free_state = free};

/* --- the request --- */

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

static struct slice suffix_of(const struct broker_message *m)
{
    return slice_of(redis_step_suffix(redis_step_of(m->priority)));
}

/* NULL when out of memory. The caller frees it. */
static struct redis_push *push_of(const struct redis_load *load)
{
    size_t size = sizeof(struct redis_push) + load->lists_len * sizeof(struct redis_push_list);
    struct redis_push *p;
    char *key;

    for (size_t i = 0; i < load->lists_len; i++)
        size += load->first[i]->queue.len + suffix_of(load->first[i]).len + 1;
    p = malloc(size);
    if (!p)
        return NULL;
    put_token(p->token, load->first[0]);
    p->lists_len = load->lists_len;
    key = (char *)&p->lists[load->lists_len];
    for (size_t i = 0; i < load->lists_len; i++) {
        p->lists[i] = (struct redis_push_list){.key = key, .len = load->lens[i]};
        key = put(put(key, load->first[i]->queue), suffix_of(load->first[i])) + 1;
    }
    return p;
}

void redis_push_envelopes(struct redis_request *r, const struct broker_message *const *v,
                          size_t len)
{
    for (size_t i = 0; i < len; i++) {
        redis_arg(r, v[i]->envelope);
        if (redis_request_item(r, v[i]->tag, NULL) != 0)
            r->args.failed = true;
    }
}

/* At once, with what stands around and behind the envelopes. */
static void reserve(struct buf *args, const struct redis_load *load)
{
    size_t len = AROUND;

    for (size_t i = 0; i < load->len; i++)
        len += load->v[i]->envelope.len + 16;
    buf_reserve(args, len);
}

static void add_key(struct redis_request *r, const char *name)
{
    redis_key(r, slice_of(name));
}

static void write_push(struct redis_request *r, const struct redis_load *load)
{
    const struct redis_push *p = r->state;

    add_key(r, REDIS_TOTALS);
    add_key(r, p->token);
    for (size_t i = 0; i < p->lists_len; i++) {
        add_key(r, p->lists[i].key);
        redis_argi(r, (int64_t)p->lists[i].len);
    }
    redis_push_envelopes(r, load->v, load->len);
}

/* Only messages that nobody has seen: for those no token has to be asked for. */
static bool may_transact(const struct redis_broker *b, const struct broker_message *m,
                         const struct redis_push *p)
{
    return m->fresh && b->transactions && are_known(b, p);
}

static struct redis_request *push_request(struct redis_broker *b, const struct redis_load *load,
                                          struct err *e)
{
    struct redis_push *p = push_of(load);
    struct redis_request *r;

    if (!p) {
        err_nomem(e);
        return NULL;
    }
    r = redis_new(b, &op_push, may_transact(b, load->first[0], p) ? REDIS_RAW : REDIS_SCRIPT_PUSH,
                  e);
    if (!r) {
        free(p);
        return NULL;
    }
    r->state = p;
    return r;
}

/* The request holds its push. */
ANALYZER_LOSES_SIGHT
static int push_load(struct redis_broker *b, const struct redis_load *load, struct err *e)
{
    struct redis_request *r = push_request(b, load, e);

    if (!r)
        return -1;
    reserve(&r->args, load);
    if (r->script == REDIS_RAW)
        return redis_transact(b, r, load, e);
    write_push(r, load);
    return redis_submit(b, r, e);
}
ANALYZER_SEES_AGAIN

/* Alone and now, with a token and nothing in front that it could join. */
static bool is_single(const struct redis_broker *b, const struct broker_message *m, size_t n)
{
    return n == 1 && m->token.len && !m->continues && m->not_before_ms == 0 &&
           !b->main.waiting.head;
}

/* How many messages from v on it has dealt with; 0: e says why none. */
static size_t publish_some(struct redis_broker *b, const struct broker_message *v, size_t n,
                           struct err *e)
{
    struct redis_load load;

    if (is_single(b, v, n))
        redis_load_one(&load, v);
    else
        redis_load_gather(&load, v, n);
    if (load.len)
        return push_load(b, &load, e) == 0 ? load.len : 0;
    return publish_one(b, v, e) == 0 ? 1 : 0;
}

int redis_publish(struct broker *base, const struct broker_message *v, size_t n, struct err *e)
{
    struct redis_broker *b = (struct redis_broker *)base;

    for (size_t i = 0; i < n; i++) {
        redis_declare(b, v[i].queue);
        redis_watch_sent(b, v[i].id);
    }
    for (size_t i = 0, some; i < n; i += some) {
        some = publish_some(b, v + i, n - i, e);
        if (!some)
            return -1;
    }
    return 0;
}
