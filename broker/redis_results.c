#include "broker/redis.h"

/* --- store --- */

static void stored(void *owner, struct redis_request *r, const redisReply *reply)
{
    struct redis_broker *b = owner;
    size_t kept = 0;

    for (size_t i = 0; i < r->items_len; i++) {
        const redisReply *at = redis_at(reply, kept);
        bool duplicate = at->type == REDIS_REPLY_INTEGER && (size_t)at->integer == i;

        kept += duplicate;
        event_queue_done(&b->events, BROKER_STORED, r->items[i].tag,
                         duplicate ? BROKER_DUPLICATE : 0);
    }
}

static const struct redis_op op_store = {
    .name = "store", .done = stored, .failed = redis_fail_items};

int redis_store(struct broker *base, const struct broker_store *v, size_t n, struct err *e)
{
    struct redis_broker *b = (struct redis_broker *)base;

    for (size_t i = 0; i < n; i++) {
        bool fresh;
        struct redis_request *r = redis_batch(b, &op_store, REDIS_SCRIPT_STORE, &fresh, e);

        if (!r)
            return -1;
        if (fresh)
            redis_arg_dbs(b, r);
        redis_key2(r, REDIS_RESULT, v[i].id);
        redis_arg_px(b, r, v[i].expires_ms);
        redis_arg(r, v[i].result);
        if (redis_request_item(r, v[i].tag, NULL) != 0)
            r->args.failed = true;
        if (fresh && redis_submit(b, r, e) != 0)
            return -1;
    }
    return 0;
}

/* --- get and forget --- */

static void got(void *owner, struct redis_request *r, const redisReply *reply)
{
    struct redis_broker *b = owner;

    for (size_t i = 0; i < r->items_len; i++) {
        struct broker_event event = {
            .kind = BROKER_RESULT, .tag = r->items[i].tag, .data = redis_slice(redis_at(reply, i))};

        event_queue_push(&b->events, &event);
    }
}

static void forgotten(void *owner, struct redis_request *r, const redisReply *reply)
{
    struct redis_broker *b = owner;

    (void)reply;
    for (size_t i = 0; i < r->items_len; i++)
        event_queue_done(&b->events, BROKER_FORGOTTEN, r->items[i].tag, 0);
}

static const struct redis_op op_get = {.name = "get", .done = got, .failed = redis_fail_items};
static const struct redis_op op_forget = {
    .name = "forget", .done = forgotten, .failed = redis_fail_items};

/* Results in the broker's own database need no script to be read. */
struct redis_request *redis_ids_request(struct redis_broker *b, const struct redis_op *op,
                                        enum redis_script_id script, struct err *e)
{
    bool plain = script == REDIS_SCRIPT_GET && !b->result_db[0];
    struct redis_request *r = redis_new(b, op, plain ? REDIS_PLAIN : script, e);

    if (r && plain)
        redis_key(r, slice_of("MGET"));
    else if (r)
        redis_arg_dbs(b, r);
    return r;
}

static int submit_ids(struct redis_broker *b, const struct redis_op *op,
                      enum redis_script_id script, const uint64_t *tags, const struct slice *ids,
                      size_t n, struct err *e)
{
    struct redis_request *r = redis_ids_request(b, op, script, e);

    if (!r)
        return -1;
    for (size_t i = 0; i < n; i++) {
        redis_key2(r, REDIS_RESULT, ids[i]);
        if (redis_request_item(r, tags[i], NULL) != 0)
            r->args.failed = true;
    }
    return redis_submit(b, r, e);
}

static int in_batches(struct broker *base, const struct redis_op *op, enum redis_script_id script,
                      const uint64_t *tags, const struct slice *ids, size_t n, struct err *e)
{
    for (size_t at = 0; at < n; at += REDIS_IDS) {
        size_t some = n - at < REDIS_IDS ? n - at : REDIS_IDS;

        if (submit_ids((struct redis_broker *)base, op, script, tags + at, ids + at, some, e) != 0)
            return -1;
    }
    return 0;
}

int redis_result_get(struct broker *base, const uint64_t *tags, const struct slice *ids, size_t n,
                     struct err *e)
{
    return in_batches(base, &op_get, REDIS_SCRIPT_GET, tags, ids, n, e);
}

int redis_result_forget(struct broker *base, const uint64_t *tags, const struct slice *ids,
                        size_t n, struct err *e)
{
    return in_batches(base, &op_forget, REDIS_SCRIPT_FORGET, tags, ids, n, e);
}
