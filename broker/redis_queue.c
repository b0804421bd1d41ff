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
