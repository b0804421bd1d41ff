/* Waiting for results: a channel for each, and a look at what was stored before. Who says
 * beforehand that it is going to wait is subscribed before there is a message, so that it need not
 * look. */
#include "base/analyzer.h"
#include "broker/redis.h"
#include "broker/result.h"

#include <stdlib.h>

#define GOODBYES 64 /* of one command */

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
    buf_release(&w->early);
    free(w);
}

/* Answers of the subscriber's own commands arrive as pushed messages. */
static const struct redis_op op_channel = {.name = "channel"};

/* NULL when out of memory. */
static struct redis_request *channel_request(const char *word)
{
    struct redis_request *r = redis_request_new(&op_channel, REDIS_PLAIN);

    if (r)
        redis_key(r, slice_of(word));
    return r;
}

static void submit(struct redis_broker *b, struct redis_request *r)
{
    if (r && b->bell.phase == REDIS_READY)
        redis_conn_submit(&b->bell, r);
    else
        redis_request_free(r); /* the next connection begins without channels: redis_watch_ready */
}

static void say_goodbyes(struct redis_broker *b)
{
    submit(b, b->goodbyes);
    b->goodbyes = NULL;
}

static void subscribe(struct redis_broker *b, const struct slice *ids, size_t n)
{
    struct redis_request *r = channel_request("SUBSCRIBE");

    say_goodbyes(b); /* an id may be among them */
    for (size_t i = 0; r && i < n; i++)
        redis_key2(r, REDIS_RESULT, ids[i]);
    submit(b, r);
}

/* At once, or, of one of many that were expected, with the next ones. */
static void unsubscribe(struct redis_broker *b, const struct redis_watch *w)
{
    if (!b->goodbyes)
        b->goodbyes = channel_request("UNSUBSCRIBE");
    if (b->goodbyes)
        redis_key2(b->goodbyes, REDIS_RESULT, slice_make(w->id, w->id_len));
    if (!w->expected || (b->goodbyes && b->goodbyes->keys_len > GOODBYES))
        say_goodbyes(b);
}

static void end_watch(struct redis_broker *b, struct redis_watch **at)
{
    unsubscribe(b, *at);
    drop_watch(b, at);
}

/* Hands a document out, or keeps it until somebody asks; the watch ends with a ready state. */
static void give(struct redis_broker *b, struct redis_watch **at, struct slice doc)
{
    struct broker_event event = {.kind = BROKER_RESULT, .tag = (*at)->tag, .data = doc};

    if (!(*at)->asked) {
        buf_clear(&(*at)->early);
        buf_add(&(*at)->early, doc.ptr, doc.len);
        if ((*at)->early.failed)
            end_watch(b, at); /* who asks then looks */
        return;
    }
    event_queue_push(&b->events, &event);
    if (result_is_ready(doc))
        end_watch(b, at);
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
    struct slice ids[REDIS_IDS]; /* owned texts */
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
        else if (*at && (*at)->asked)
            event_queue_fail(&b->events, (*at)->tag, why);
        else if (*at)
            end_watch(b, at);
    }
}

static const struct redis_op op_look = {
    .name = "watch", .done = looked, .failed = look_failed, .free_state = free_ids};

static struct redis_request *look_request(struct redis_broker *b)
{
    struct redis_request *r = b->main.waiting.tail;

    if (r && r->op == &op_look && r->tries == 0 && ((struct watch_ids *)r->state)->len < REDIS_IDS)
        return r;
    r = redis_ids_request(b, &op_look, REDIS_SCRIPT_GET, NULL);
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
    const struct redis_watch *w;

    if (channel.len <= prefix || memcmp(channel.ptr, REDIS_RESULT, prefix) != 0)
        return;
    id = slice_make(channel.ptr + prefix, channel.len - prefix);
    w = *find_watch(b, id);
    if (w && (w->asked || w->published))
        look(b, id);
}

void redis_watch_ready(struct redis_broker *b)
{
    for (size_t i = 0; i < REDIS_WATCH_BUCKETS; i++) {
        for (struct redis_watch *w = b->watches[i]; w; w = w->next)
            subscribe(b, &(struct slice){w->id, w->id_len}, 1);
    }
}

void redis_watch_lost(struct redis_broker *b)
{
    redis_request_free(b->goodbyes);
    b->goodbyes = NULL;
}

static struct redis_watch *watch_new(uint64_t tag, struct slice id)
{
    struct redis_watch *w = malloc(sizeof(*w) + id.len);

    if (!w)
        return NULL;
    *w = (struct redis_watch){.tag = tag, .early = BUF_INIT, .id_len = id.len};
    memcpy(w->id, id.ptr, id.len);
    return w;
}

/* The table holds the watch. NULL when out of memory. */
ANALYZER_LOSES_SIGHT
static struct redis_watch *hang_watch(struct redis_broker *b, uint64_t tag, struct slice id)
{
    struct redis_watch *w = watch_new(tag, id);
    struct redis_watch **at = &b->watches[bucket_of(id)];

    if (!w)
        return NULL;
    w->next = *at;
    *at = w;
    b->watches_len++;
    return w;
}
ANALYZER_SEES_AGAIN

static int add_watch(struct redis_broker *b, uint64_t tag, struct slice id, struct err *e)
{
    struct redis_watch *w = *find_watch(b, id);

    if (w) {
        w->tag = tag;
        look(b, id);
        return 0;
    }
    w = hang_watch(b, tag, id);
    if (!w)
        return err_nomem(e);
    w->asked = true;
    subscribe(b, &id, 1);
    return 0;
}

/* If its message was published here, the subscription was confirmed before that, or is followed by
 * a look. */
static void ask_expected(struct redis_broker *b, struct redis_watch **at, uint64_t tag)
{
    struct buf early = (*at)->early;

    (*at)->early = (struct buf)BUF_INIT;
    (*at)->tag = tag;
    (*at)->asked = true;
    if (early.len)
        give(b, at, buf_slice(&early));
    else if (!(*at)->published)
        look(b, slice_make((*at)->id, (*at)->id_len));
    buf_release(&early);
}

int redis_result_watch(struct broker *base, const uint64_t *tags, const struct slice *ids, size_t n,
                       struct err *e)
{
    struct redis_broker *b = (struct redis_broker *)base;

    for (size_t i = 0; i < n; i++) {
        struct redis_watch **at = find_watch(b, ids[i]);

        if (*at && !(*at)->asked)
            ask_expected(b, at, tags[i]);
        else if (add_watch(b, tags[i], ids[i], e) != 0)
            return -1;
    }
    return 0;
}

/* What there is no memory for is watched when it is asked for. */
bool redis_result_expect(struct broker *base, const struct slice *ids, size_t n)
{
    struct redis_broker *b = (struct redis_broker *)base;

    for (size_t i = 0; i < n; i++) {
        struct redis_watch *w = *find_watch(b, ids[i]) ? NULL : hang_watch(b, 0, ids[i]);

        if (w)
            w->expected = true;
    }
    subscribe(b, ids, n);
    return true;
}

void redis_watch_sent(struct redis_broker *b, struct slice id)
{
    struct redis_watch *w = b->watches_len ? *find_watch(b, id) : NULL;

    if (w)
        w->published = true;
}

void redis_result_unwatch(struct broker *base, const struct slice *ids, size_t n)
{
    struct redis_broker *b = (struct redis_broker *)base;

    for (size_t i = 0; i < n; i++) {
        struct redis_watch **at = find_watch(b, ids[i]);

        if (*at)
            end_watch(b, at);
    }
}

void redis_watch_release(struct redis_broker *b)
{
    redis_watch_lost(b);
    for (size_t i = 0; i < REDIS_WATCH_BUCKETS; i++) {
        while (b->watches[i])
            drop_watch(b, &b->watches[i]);
    }
}
