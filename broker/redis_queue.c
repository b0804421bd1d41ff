#include "base/fault.h"
#include "broker/redis.h"

#include <stdio.h>
#include <stdlib.h>

#define FETCH_MAX   256
#define FETCH_BYTES (8 << 20)

/* --- declaring --- */

static void declared(void *owner, struct redis_request *r, const redisReply *reply)
{
    (void)owner;
    (void)r;
    (void)reply;
}

static const struct redis_op op_declare = {.name = "declare", .done = declared};

static bool is_declared(const struct redis_broker *b, struct slice queue)
{
    struct slice names = buf_slice(&b->declared);

    for (size_t at = 0; at < names.len; at += strlen(names.ptr + at) + 1) {
        if (slice_is(queue, names.ptr + at))
            return true;
    }
    return false;
}

static void add_to_set(struct redis_broker *b, const char *prefix, struct slice rest,
                       struct slice member)
{
    struct redis_request *r = redis_new(b, &op_declare, REDIS_PLAIN, NULL);

    if (!r)
        return;
    redis_key(r, slice_of("SADD"));
    redis_key2(r, prefix, rest);
    redis_key(r, member);
    redis_submit(b, r, NULL);
}

/* Once per connection, as kombu: the binding set lets Python peers publish to the queue by its
 * exchange, ours lists the queues for the totals. */
void redis_declare(struct redis_broker *b, struct slice queue)
{
    struct buf member = BUF_INIT;

    if (is_declared(b, queue))
        return;
    buf_add(&member, queue.ptr, queue.len);
    buf_adds(&member, REDIS_SEP REDIS_SEP);
    buf_add(&member, queue.ptr, queue.len);
    add_to_set(b, REDIS_QUEUES, slice_of(""), queue);
    add_to_set(b, REDIS_BINDING, queue, buf_slice(&member));
    buf_release(&member);
    buf_add(&b->declared, queue.ptr, queue.len);
    buf_add(&b->declared, "", 1);
}

/* --- publishing --- */

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

/* CRASH: after the push script, before its caller is told - a resend of the batch pushes nothing.
 */
static void pushed(void *owner, struct redis_request *r, const redisReply *reply)
{
    struct redis_broker *b = owner;

    (void)reply;
    FAULT_POINT("redis.after-publish");
    for (size_t i = 0; i < r->items_len; i++)
        event_queue_done(&b->events, BROKER_PUBLISHED, r->items[i].tag, 0);
}

static const struct redis_op op_push = {
    .name = "publish", .done = pushed, .failed = redis_fail_items};

/* A delayed message goes alone: at a resend its time may have come. */
static bool same_list(const struct broker_message *a, const struct broker_message *m)
{
    return slice_eq(a->queue, m->queue) && slice_eq(a->batch, m->batch) &&
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

static int push_run(struct redis_broker *b, const struct broker_message *v, size_t n, struct err *e)
{
    struct redis_request *r = redis_new(b, &op_push, REDIS_SCRIPT_PUSH, e);
    char suffix[24];

    if (!r)
        return -1;
    snprintf(suffix, sizeof(suffix), "/%u", v[0].batch_at);
    redis_key(r, slice_of(REDIS_TOTALS));
    redis_key3(r, REDIS_TOKEN, v[0].batch, suffix);
    redis_push_key(r, v[0].queue, v[0].priority, false);
    for (size_t i = 0; i < n; i++) {
        redis_arg(r, v[i].envelope);
        if (redis_request_item(r, v[i].tag, NULL) != 0)
            r->args.failed = true;
    }
    return redis_submit(b, r, e);
}

int redis_publish(struct broker *base, const struct broker_message *v, size_t n, struct err *e)
{
    struct redis_broker *b = (struct redis_broker *)base;

    for (size_t i = 0; i < n; i++)
        redis_declare(b, v[i].queue);
    for (size_t i = 0, run; i < n; i += run) {
        run = run_of(v + i, n - i);
        if (run ? push_run(b, v + i, run, e) != 0 : publish_one(b, &v[i], e) != 0)
            return -1;
        run += !run;
    }
    return 0;
}

/* --- fetching --- */

static int take(struct redis_broker *b, uint64_t fence, const redisReply *list,
                const redisReply *element)
{
    size_t key = (size_t)list->integer;
    size_t queue = (b->first_queue + key % b->queues_len) % b->queues_len;
    struct slice envelope = redis_slice(element);
    struct redis_lease lease = {.fence = fence,
                                .generation = b->generation,
                                .lease_ms = (uint32_t)b->lease_ms,
                                .instance = b->instance,
                                .queue = (uint32_t)queue,
                                .step = (uint8_t)(key / b->queues_len),
                                .foreign = redis_is_foreign(envelope)};
    struct broker_event event = {.kind = BROKER_DELIVERED,
                                 .fence = fence,
                                 .queue = slice_of(b->queues[queue].name),
                                 .data = envelope};

    if (redis_was_redelivered(envelope))
        event.flags = BROKER_REDELIVERED;
    redis_lease_store(&event.receipt, &lease);
    if (redis_held_add(&b->held, &lease) != 0)
        return -1; /* the lease runs out and the message comes back */
    event_queue_push(&b->events, &event);
    return 0;
}

/* CRASH: after the fetch script, before the deliveries are handed out - the entries in `unacked`
 * come back: by the successor's take-over at once, else when the lease is over. */
static void fetched(void *owner, struct redis_request *r, const redisReply *reply)
{
    struct redis_broker *b = owner;
    size_t n = reply->elements / 2;

    (void)r;
    b->fetching = false;
    if (n)
        FAULT_POINT("redis.after-fetch");
    for (size_t i = 0; i < n; i++)
        take(b, (uint64_t)redis_at(reply, 0)->integer + i, redis_at(reply, 1 + 2 * i),
             redis_at(reply, 2 + 2 * i));
    b->credit = b->credit > (int)n ? b->credit - (int)n : 0;
    b->first_queue = (b->first_queue + 1) % b->queues_len;
    if (n)
        b->rang_in_vain = false;
    if (b->arming)
        return; /* its answer is next */
    if (n) {
        /* The bell has rung and is not armed: what is left is for the next credit, not for the
         * tick. */
        b->dry = false;
        redis_fetch(b);
    } else {
        b->dry = true;
        redis_bell_arm(b);
    }
}

static void fetch_failed(void *owner, struct redis_request *r, const struct err *why)
{
    struct redis_broker *b = owner;

    (void)r;
    b->fetching = false;
    redis_tick_soon(b);
    if (why->code != ERR_RECONNECT)
        log_warn(b->log, "fetch failed", "error=\"%s\"", why->text);
}

static const struct redis_op op_fetch = {
    .name = "fetch", .done = fetched, .failed = fetch_failed, .once = true};

/* kombu's order: every queue of one step before the next step. */
static void fetch_keys(struct redis_broker *b, struct redis_request *r)
{
    for (int step = 0; step < REDIS_STEPS; step++) {
        for (size_t i = 0; i < b->queues_len; i++) {
            const struct redis_queue *q = &b->queues[(b->first_queue + i) % b->queues_len];

            redis_key3(r, "", slice_of(q->name), redis_step_suffix(step));
            redis_arg(r, slice_make(q->tail, q->tail_len));
        }
    }
}

void redis_fetch(struct redis_broker *b)
{
    struct redis_request *r;

    if (b->credit <= 0 || b->fetching || !b->recovered || b->closing ||
        b->main.phase != REDIS_READY)
        return;
    r = redis_new(b, &op_fetch, REDIS_SCRIPT_FETCH, NULL);
    if (!r)
        return;
    redis_key(r, slice_of(REDIS_UNACKED));
    redis_key(r, slice_of(REDIS_INDEX));
    redis_key(r, slice_of(REDIS_FENCE));
    redis_argi(r, b->credit < FETCH_MAX ? b->credit : FETCH_MAX);
    redis_arg_score(r, clock_wall_ms(b->clock));
    redis_args(r, b->field_head);
    redis_args(r, b->field_tail);
    redis_argi(r, FETCH_BYTES);
    fetch_keys(b, r);
    b->fetching = redis_submit(b, r, NULL) == 0;
}

void redis_fetch_idle(struct redis_broker *b)
{
    if (b->fetching)
        return;
    redis_fetch(b);
    if (b->fetching && !b->arming) {
        b->dry = true;
        redis_bell_arm(b);
    }
}
