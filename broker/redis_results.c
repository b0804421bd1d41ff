#include "broker/redis.h"

#include "base/analyzer.h"
#include "broker/result.h"

#include <stdlib.h>

#define BATCH 500 /* keys of one command */

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
static struct redis_request *ids_request(struct redis_broker *b, const struct redis_op *op,
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
    struct redis_request *r = ids_request(b, op, script, e);

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
    for (size_t at = 0; at < n; at += BATCH) {
        size_t some = n - at < BATCH ? n - at : BATCH;

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

/* --- watch --- */

/* Watches hang in a table by a hash of their id. */
static size_t bucket_of(struct slice id)
{
    uint64_t h = 1469598103934665603u;

    for (size_t i = 0; i < id.len; i++)
        h = (h ^ (unsigned char)id.ptr[i]) * 1099511628211u;
    return (size_t)(h ^ (h >> 32)) % REDIS_WATCH_BUCKETS;
}

static struct redis_watch **find_watch(struct redis_broker *b, struct slice id)
{
    struct redis_watch **at = &b->watches[bucket_of(id)];

    while (*at && !slice_eq(slice_make((*at)->id, (*at)->id_len), id))
        at = &(*at)->next;
    return at;
}

static void drop_watch(struct redis_broker *b, struct redis_watch **at)
{
    struct redis_watch *w = *at;

    *at = w->next;
    b->watches_len--;
    free(w);
}

/* Answers of the subscriber's own commands arrive as pushed messages. */
static const struct redis_op op_channel = {.name = "channel"};

static void unsubscribe(struct redis_broker *b, struct slice id)
{
    struct redis_request *r;

    if (b->bell.phase != REDIS_READY)
        return; /* it is not on the next connection's list */
    r = redis_request_new(&op_channel, REDIS_PLAIN);
    if (!r)
        return;
    redis_key(r, slice_of("UNSUBSCRIBE"));
    redis_key2(r, REDIS_RESULT, id);
    redis_conn_submit(&b->bell, r);
}

/* Hands a document out; the watch ends with a ready state. */
static void give(struct redis_broker *b, struct redis_watch **at, struct slice doc)
{
    struct broker_event event = {.kind = BROKER_RESULT, .tag = (*at)->tag, .data = doc};

    event_queue_push(&b->events, &event);
    if (!result_is_ready(doc))
        return;
    unsubscribe(b, slice_make((*at)->id, (*at)->id_len));
    drop_watch(b, at);
}

void redis_result_published(struct redis_broker *b, struct slice channel, struct slice doc)
{
    const size_t prefix = sizeof(REDIS_RESULT) - 1;
    struct redis_watch **at;

    if (channel.len <= prefix || !doc.ptr)
        return;
    at = find_watch(b, slice_make(channel.ptr + prefix, channel.len - prefix));
    if (*at)
        give(b, at, doc);
}

/* What was stored before the subscription held. The ids travel in the request's state. */
struct watch_ids {
    size_t len;
    struct slice ids[BATCH]; /* owned texts */
};

static void free_ids(void *state)
{
    struct watch_ids *ids = state;

    if (!ids)
        return;
    for (size_t i = 0; i < ids->len; i++)
        free((char *)(uintptr_t)ids->ids[i].ptr);
    free(ids);
}

static void look(struct redis_broker *b, struct slice id);

static void looked(void *owner, struct redis_request *r, const redisReply *reply)
{
    struct redis_broker *b = owner;
    const struct watch_ids *ids = r->state;

    for (size_t i = 0; i < ids->len; i++) {
        struct redis_watch **at = find_watch(b, ids->ids[i]);
        struct slice doc = redis_slice(redis_at(reply, i));

        if (*at && doc.ptr)
            give(b, at, doc);
    }
}

/* The subscription still holds: only the look is repeated. */
static void look_failed(void *owner, struct redis_request *r, const struct err *why)
{
    struct redis_broker *b = owner;
    const struct watch_ids *ids = r->state;

    for (size_t i = 0; i < ids->len; i++) {
        struct redis_watch **at = find_watch(b, ids->ids[i]);

        if (*at && why->code == ERR_RECONNECT)
            look(b, ids->ids[i]);
        else if (*at)
            event_queue_fail(&b->events, (*at)->tag, why);
    }
}

static const struct redis_op op_look = {
    .name = "watch", .done = looked, .failed = look_failed, .free_state = free_ids};

static struct redis_request *look_request(struct redis_broker *b)
{
    struct redis_request *r = b->main.waiting.tail;

    if (r && r->op == &op_look && r->tries == 0 && ((struct watch_ids *)r->state)->len < BATCH)
        return r;
    r = ids_request(b, &op_look, REDIS_SCRIPT_GET, NULL);
    if (!r)
        return NULL;
    r->state = calloc(1, sizeof(struct watch_ids));
    if (!r->state) {
        redis_request_free(r);
        return NULL;
    }
    return redis_submit(b, r, NULL) == 0 ? r : NULL;
}

static void look(struct redis_broker *b, struct slice id)
{
    struct redis_request *r = look_request(b);
    struct watch_ids *ids = r ? r->state : NULL;
    char *copy = ids ? slice_dup(id) : NULL;

    if (!copy)
        return;
    ids->ids[ids->len++] = slice_make(copy, id.len);
    redis_key2(r, REDIS_RESULT, id);
}

/* Order matters: a document stored after the subscription is published to us, one stored before is
 * read by the GET that is sent when the subscription is confirmed. */
void redis_result_subscribed(struct redis_broker *b, struct slice channel)
{
    const size_t prefix = sizeof(REDIS_RESULT) - 1;
    struct slice id;

    if (channel.len <= prefix || memcmp(channel.ptr, REDIS_RESULT, prefix) != 0)
        return;
    id = slice_make(channel.ptr + prefix, channel.len - prefix);
    if (*find_watch(b, id))
        look(b, id);
}

static void subscribe(struct redis_broker *b, struct slice id)
{
    struct redis_request *r;

    if (b->bell.phase != REDIS_READY)
        return; /* redis_watch_ready comes */
    r = redis_request_new(&op_channel, REDIS_PLAIN);
    if (!r)
        return;
    redis_key(r, slice_of("SUBSCRIBE"));
    redis_key2(r, REDIS_RESULT, id);
    redis_conn_submit(&b->bell, r);
}

void redis_watch_ready(struct redis_broker *b)
{
    for (size_t i = 0; i < REDIS_WATCH_BUCKETS; i++) {
        for (struct redis_watch *w = b->watches[i]; w; w = w->next)
            subscribe(b, slice_make(w->id, w->id_len));
    }
}

static struct redis_watch *watch_new(uint64_t tag, struct slice id)
{
    struct redis_watch *w = malloc(sizeof(*w) + id.len);

    if (!w)
        return NULL;
    w->next = NULL;
    w->tag = tag;
    w->id_len = id.len;
    memcpy(w->id, id.ptr, id.len);
    return w;
}

/* The bucket holds the watch. */
ANALYZER_LOSES_SIGHT
static int add_watch(struct redis_broker *b, uint64_t tag, struct slice id, struct err *e)
{
    struct redis_watch **at = find_watch(b, id);

    if (*at) {
        (*at)->tag = tag;
        look(b, id);
        return 0;
    }
    *at = watch_new(tag, id);
    if (!*at)
        return err_nomem(e);
    b->watches_len++;
    subscribe(b, id);
    return 0;
}
ANALYZER_SEES_AGAIN

int redis_result_watch(struct broker *base, const uint64_t *tags, const struct slice *ids, size_t n,
                       struct err *e)
{
    struct redis_broker *b = (struct redis_broker *)base;

    for (size_t i = 0; i < n; i++) {
        if (add_watch(b, tags[i], ids[i], e) != 0)
            return -1;
    }
    return 0;
}

void redis_result_unwatch(struct broker *base, const struct slice *ids, size_t n)
{
    struct redis_broker *b = (struct redis_broker *)base;

    for (size_t i = 0; i < n; i++) {
        struct redis_watch **at = find_watch(b, ids[i]);

        if (!*at)
            continue;
        unsubscribe(b, ids[i]);
        drop_watch(b, at);
    }
}

void redis_watch_release(struct redis_broker *b)
{
    for (size_t i = 0; i < REDIS_WATCH_BUCKETS; i++) {
        while (b->watches[i])
            drop_watch(b, &b->watches[i]);
    }
}
