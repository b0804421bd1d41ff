/*
 * What nodes say of themselves: a text under a key of its own that the server forgets in time, and
 * a sorted set of the names, so that no key is ever searched for. A name whose key is gone is no
 * longer told; the score only bounds how long the name is kept, because clocks of hosts differ.
 */
#include "base/words.h"
#include "broker/answer.h"
#include "broker/redis.h"

#include <stdio.h>
#include <stdlib.h>

#define NAME_KEPT_MS  3600000
#define NAME_EVERY_MS 60000

/* News: what fails is said again later, so nobody is told. */
static const struct redis_op op_announce = {.name = "announce", .once = true};

static struct redis_request *command(const char *const *words)
{
    struct redis_request *r = redis_request_new(&op_announce, REDIS_PLAIN);

    for (; r && *words; words++)
        redis_key(r, slice_of(*words));
    return r;
}

static void key_number(struct redis_request *r, int64_t n)
{
    char text[24];

    snprintf(text, sizeof(text), "%lld", (long long)n);
    redis_key(r, slice_of(text));
}

static int set_record(struct redis_broker *b, struct slice json, int64_t ttl_ms, struct err *e)
{
    struct redis_request *r = command((const char *[]){"SET", NULL});

    if (!r)
        return err_nomem(e);
    redis_key2(r, REDIS_NODE, slice_of(b->node));
    redis_key(r, json);
    redis_key(r, slice_of("PX"));
    key_number(r, ttl_ms);
    return redis_submit(b, r, e);
}

static int set_name(struct redis_broker *b, int64_t ttl_ms, struct err *e)
{
    int64_t now = clock_wall_ms(b->clock);
    struct redis_request *r;

    if (clock_mono_ms(b->clock) < b->name_at_ms)
        return 0;
    b->name_at_ms = clock_mono_ms(b->clock) + NAME_EVERY_MS;
    r = command((const char *[]){"ZADD", REDIS_NODES, NULL});
    if (!r)
        return err_nomem(e);
    key_number(r, now + ttl_ms);
    redis_key(r, slice_of(b->node));
    if (redis_submit(b, r, e) != 0)
        return -1;
    r = command((const char *[]){"ZREMRANGEBYSCORE", REDIS_NODES, "-inf", NULL});
    if (!r)
        return err_nomem(e);
    key_number(r, now - NAME_KEPT_MS);
    return redis_submit(b, r, e);
}

int redis_announce(struct broker *base, struct slice json, int64_t ttl_ms, struct err *e)
{
    struct redis_broker *b = (struct redis_broker *)base;

    /* Without a connection they would pile up. */
    if (b->main.phase != REDIS_READY)
        return 0;
    b->announced = true;
    return set_record(b, json, ttl_ms, e) == 0 ? set_name(b, ttl_ms, e) : -1;
}

void redis_node_remove(struct redis_broker *b)
{
    struct redis_request *r;

    if (!b->announced)
        return;
    r = command((const char *[]){"DEL", NULL});
    if (r) {
        redis_key2(r, REDIS_NODE, slice_of(b->node));
        redis_submit(b, r, NULL);
    }
    r = command((const char *[]){"ZREM", REDIS_NODES, b->node, NULL});
    if (r)
        redis_submit(b, r, NULL);
}

/* --- NODES: the names, then their records --- */

struct nodes {
    uint64_t tag;
    struct words names; /* sorted */
};

static void nodes_free(void *state)
{
    struct nodes *n = state;

    if (n)
        words_release(&n->names);
    free(n);
}

static void nodes_failed(void *owner, struct redis_request *r, const struct err *why)
{
    struct redis_broker *b = owner;
    const struct nodes *n = r->state;

    event_queue_fail(&b->events, n->tag, why);
}

static void got_records(void *owner, struct redis_request *r, const redisReply *reply)
{
    const struct nodes *n = r->state;
    struct buf out = BUF_INIT;

    answer_begin(&out);
    for (size_t i = 0; i < n->names.len; i++) {
        struct slice json = redis_slice(redis_at(reply, i));

        if (json.ptr)
            answer_node(&out, slice_of(n->names.items[i]), json);
    }
    answer_end(&out);
    redis_answer(owner, n->tag, &out);
}

static int take_names(struct nodes *n, const redisReply *reply)
{
    for (size_t i = 0; i < reply->elements; i++) {
        struct slice name = redis_slice(redis_at(reply, i));

        if (name.ptr && words_add(&n->names, name) < 0)
            return -1;
    }
    words_sort(&n->names);
    return 0;
}

static const struct redis_op op_records = {
    .name = "nodes", .done = got_records, .failed = nodes_failed, .free_state = nodes_free};

/* NULL when out of memory. Does not take n. */
static struct redis_request *ask_records(const struct nodes *n)
{
    struct redis_request *r = redis_request_new(&op_records, REDIS_PLAIN);

    if (!r)
        return NULL;
    redis_key(r, slice_of("MGET"));
    for (size_t i = 0; i < n->names.len; i++)
        redis_key2(r, REDIS_NODE, slice_of(n->names.items[i]));
    if (!redis_request_broken(r))
        return r;
    redis_request_free(r);
    return NULL;
}

static void got_names(void *owner, struct redis_request *r, const redisReply *reply)
{
    struct redis_broker *b = owner;
    struct nodes *n = r->state;
    struct redis_request *next;
    struct buf none = BUF_INIT;
    struct err e = ERR_INIT;

    if (reply->elements == 0) {
        buf_adds(&none, "[]");
        redis_answer(b, n->tag, &none);
    } else if (take_names(n, reply) == 0 && (next = ask_records(n))) {
        r->state = NULL;
        next->state = n;
        redis_conn_submit(&b->main, next);
    } else {
        err_nomem(&e);
        event_queue_fail(&b->events, n->tag, &e);
    }
}

static const struct redis_op op_names = {
    .name = "nodes", .done = got_names, .failed = nodes_failed, .free_state = nodes_free};

int redis_ask_nodes(struct redis_broker *b, const struct broker_ask *ask, struct err *e)
{
    struct nodes *n = calloc(1, sizeof(*n));
    struct redis_request *r = n ? redis_new(b, &op_names, REDIS_PLAIN, e) : NULL;

    if (!r) {
        free(n);
        return err_nomem(e);
    }
    n->tag = ask->tag;
    r->state = n;
    redis_key(r, slice_of("ZRANGE"));
    redis_key(r, slice_of(REDIS_NODES));
    redis_key(r, slice_of("0"));
    redis_key(r, slice_of("-1"));
    return redis_submit(b, r, e);
}
