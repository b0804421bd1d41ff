#include "base/fault.h"
#include "broker/redis.h"

#include <stdlib.h>

#define FETCH_MAX   256
#define FETCH_BYTES (8 << 20)
#define SMALL       (FETCH_BYTES / FETCH_MAX) /* as many of them as one fetch wants are welcome */
#define LISTS       64                        /* that a fetch names: most of them hold something */
#define LOOKED_AT   1024                      /* when most of them do not */
#define PASSED_MOST 32                        /* empty ones it may pass */

static int take(struct redis_broker *b, uint64_t fence, size_t chosen, const redisReply *element)
{
    size_t list = chosen < b->lists.chosen_len ? b->lists.chosen[chosen] : 0;
    size_t queue = redis_lists_queue(&b->lists, list);
    struct slice envelope = redis_slice(element);
    struct redis_lease lease = {.fence = fence,
                                .generation = b->generation,
                                .lease_ms = (uint32_t)b->lease_ms,
                                .instance = b->instance,
                                .queue = (uint32_t)queue,
                                .step = (uint8_t)redis_lists_step(&b->lists, list),
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

/* One that came back because its script was not there has lost its CLIENT CACHING: the bell does
 * not ring for what it saw. */
static void learn(struct redis_broker *b, const struct redis_request *r, const redisReply *reply)
{
    const redisReply *empty = redis_at(reply, 1);
    size_t n = b->lists.chosen_len;

    if (empty->type == REDIS_REPLY_INTEGER)
        n = empty->integer > 0 ? (size_t)empty->integer : 0;
    b->passed = b->listening ? 0 : n;
    if (b->listening)
        redis_lists_heard(&b->lists, r->reloaded ? 0 : n);
}

/* CRASH: after the fetch script, before the deliveries are handed out - the entries in `unacked`
 * come back: by the successor's take-over at once, else when the lease is over. */
static void hand_out(struct redis_broker *b, const redisReply *reply, size_t n)
{
    if (n)
        FAULT_POINT("redis.after-fetch");
    redis_bulk_found(b, n);
    for (size_t i = 0; i < n; i++) {
        const redisReply *element = redis_at(reply, 3 + 2 * i);

        take(b, (uint64_t)redis_at(reply, 0)->integer + i,
             (size_t)redis_at(reply, 2 + 2 * i)->integer, element);
        b->bulks.likely = b->bulks.likely && element->len <= SMALL;
    }
}

/* Whatever was found, it is for these. */
static void spend(struct redis_broker *b, size_t n)
{
    b->credit = b->credit > (int)n ? b->credit - (int)n : 0;
    b->dry = n == 0;
    if (n)
        b->rang_in_vain = false;
}

static void fetched(void *owner, struct redis_request *r, const redisReply *reply)
{
    struct redis_broker *b = owner;
    const redisReply *second = redis_at(reply, 3);
    size_t n = reply->elements / 2 ? reply->elements / 2 - 1 : 0;

    b->refused = false;
    if (second->type == REDIS_REPLY_INTEGER) {
        FAULT_POINT("redis.after-bulk");
        n = redis_bulk_leased(b, reply, r->reloaded);
        redis_bulk_found(b, n);
        spend(b, n);
        learn(b, r, reply);
        return;
    }
    b->fetching = false;
    if (redis_at(reply, 1)->type == REDIS_REPLY_INTEGER && redis_at(reply, 1)->integer < 0)
        b->bulks.refused = true;
    hand_out(b, reply, n);
    spend(b, n);
    learn(b, r, reply);
    redis_fetch(b);
}

void redis_fetched_bulk(struct redis_broker *b, const struct redis_bulk *bulk,
                        const redisReply *reply, bool last)
{
    FAULT_POINT("redis.after-fetch");
    for (size_t i = 0; i < bulk->len; i++) {
        const redisReply *element = redis_at(reply, bulk->pushed ? bulk->len - 1 - i : i);

        take(b, bulk->fence + i, bulk->list, element);
        b->bulks.likely = b->bulks.likely && element->len <= SMALL;
    }
    if (!last)
        return;
    b->fetching = false;
    redis_fetch(b);
}

static void fetch_failed(void *owner, struct redis_request *r, const struct err *why)
{
    struct redis_broker *b = owner;

    (void)r;
    b->fetching = false;
    b->bulks.likely = false;
    if (b->listening)
        redis_lists_heard(&b->lists, 0);
    redis_tick_soon(b);
    if (why->code != ERR_RECONNECT && !b->refused)
        log_warn(b->log, "fetch failed", "error=\"%s\"", why->text);
    b->refused = true;
}

static const struct redis_op op_fetch = {
    .name = "fetch", .done = fetched, .failed = fetch_failed, .once = true};

static size_t most_lists(const struct redis_broker *b)
{
    if (!b->tracking)
        return SIZE_MAX; /* it is not known which are empty */
    return b->look ? LOOKED_AT : LISTS;
}

void redis_list_key(struct redis_broker *b, struct redis_request *r, size_t list)
{
    redis_key3(r, "", slice_of(b->queues[redis_lists_queue(&b->lists, list)].name),
               redis_step_suffix(redis_lists_step(&b->lists, list)));
}

static void add_lists(struct redis_broker *b, struct redis_request *r)
{
    redis_lists_choose(&b->lists, most_lists(b), b->listening);
    for (size_t i = 0; i < b->lists.chosen_len; i++) {
        size_t list = b->lists.chosen[i];
        const struct redis_queue *q = &b->queues[redis_lists_queue(&b->lists, list)];

        redis_list_key(b, r, list);
        redis_arg(r, slice_make(q->tail, q->tail_len));
    }
}

static const char *mode(const struct redis_broker *b)
{
    if (!b->listening)
        return "";
    return b->look ? "look" : "listen";
}

static bool may_find(const struct redis_broker *b)
{
    return b->tracking ? b->lists.maybe > 0 : !b->dry;
}

/* What a fetch in bulk finds empty is looked at again, until that is too much. A command of its own
 * is cheaper than a script that listens: there each command that reads makes the server remember
 * all that was named. */
static void listen_for_passed(struct redis_broker *b)
{
    if (!b->tracking || b->passed < PASSED_MOST)
        return;
    redis_bell_listen_for(b, b->passed);
    b->passed = 0;
}

static void fetch(struct redis_broker *b)
{
    struct redis_request *r;
    bool bulk, likely;

    if (b->credit <= 0 || b->fetching || !b->recovered || b->closing ||
        b->main.phase != REDIS_READY || !may_find(b))
        return;
    b->wanted = b->credit < FETCH_MAX ? b->credit : FETCH_MAX;
    bulk = redis_bulk_wanted(b, b->wanted);
    likely = bulk && b->bulks.likely;
    if (likely)
        listen_for_passed(b);
    if (!may_find(b))
        return; /* the answer fetches */
    r = redis_new(b, &op_fetch, REDIS_SCRIPT_FETCH, NULL);
    if (!r)
        return;
    b->listening = b->tracking && !likely;
    if (b->listening)
        redis_bell_listen(b);
    redis_argi(r, b->wanted);
    redis_arg_score(r, clock_wall_ms(b->clock));
    redis_args(r, b->field_head);
    redis_args(r, b->field_tail);
    redis_argi(r, FETCH_BYTES);
    redis_args(r, mode(b));
    redis_bulk_args(b, r, bulk);
    add_lists(b, r);
    b->look = false;
    b->fetching = redis_submit(b, r, NULL) == 0;
    if (!b->fetching && b->listening)
        redis_lists_heard(&b->lists, 0);
    if (b->fetching)
        redis_bulk_read_ahead(b, bulk);
}

void redis_fetch(struct redis_broker *b)
{
    if (!b->refused)
        fetch(b);
}

void redis_fetch_anew(struct redis_broker *b)
{
    redis_lists_forget(&b->lists);
    b->look = true;
    b->dry = false;
    fetch(b);
}
