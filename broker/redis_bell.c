#include "broker/redis.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SHY_MS 5 /* whose last bell brought nothing answers the next one up to this much later */

bool redis_bell_wanted(const struct redis_broker *b)
{
    return (b->queues_len > 0 && !b->no_tracking) || b->watches_len;
}

static void no_tracking(struct redis_broker *b, const struct err *why)
{
    if (!b->no_tracking)
        log_warn(b->log, "no doorbell, asking once a second", "cause=\"%s\"", why->text);
    b->no_tracking = true;
}

/* --- greeting of the subscriber --- */

static void got_id(void *owner, struct redis_request *r, const redisReply *reply)
{
    struct redis_broker *b = owner;

    (void)r;
    b->bell_id = reply->type == REDIS_REPLY_INTEGER ? reply->integer : 0;
}

static void no_id(void *owner, struct redis_request *r, const struct err *why)
{
    (void)r;
    if (why->code != ERR_RECONNECT)
        no_tracking(owner, why);
}

static const struct redis_op op_id = {.name = "id", .done = got_id, .failed = no_id, .once = true};

static void bell_greet(void *owner, struct redis_conn *c)
{
    struct redis_broker *b = owner;
    struct redis_request *r = redis_request_new(&op_id, REDIS_PLAIN);

    b->bell_id = 0;
    redis_greet_auth(c);
    redis_greet(c, false, (const char *[]){"CLIENT", "SETNAME", "celeriac-bell", NULL});
    if (r) {
        redis_key(r, slice_of("CLIENT"));
        redis_key(r, slice_of("ID"));
        redis_conn_greet(c, r);
    }
    redis_greet(c, true, (const char *[]){"SUBSCRIBE", REDIS_BELL, NULL});
}

static void bell_ready(void *owner, struct redis_conn *c)
{
    struct redis_broker *b = owner;

    (void)c;
    redis_bell_track(b);
    redis_watch_ready(b);
}

/* RESP2 does not tell the working connection that nobody listens any more: nothing is armed until
 * both are connected again. */
static void bell_down(void *owner, struct redis_conn *c, const struct err *why)
{
    struct redis_broker *b = owner;

    (void)c;
    (void)why; /* the working connection says what is wrong */
    b->bell_id = 0;
    b->tracking = false;
    redis_lists_forget(&b->lists);
    redis_watch_lost(b);
    redis_tick_soon(b);
}

/* --- ringing --- */

static void ring(struct redis_broker *b)
{
    int64_t wait = b->rang_in_vain ? (int64_t)(uuid_random(&b->random) % (SHY_MS + 1)) : 0;

    b->rang_in_vain = true; /* until a fetch brings something */
    if (b->credit > 0 && !b->fetching && b->ring_at_ms == CLOCK_NEVER)
        b->ring_at_ms = clock_mono_ms(b->clock) + wait;
}

static void flushed(struct redis_broker *b)
{
    b->name_at_ms = 0;
    redis_lists_forget(&b->lists);
    redis_look_due(b);
    ring(b);
}

static void invalidated(struct redis_broker *b, const redisReply *keys)
{
    bool due = false, pushed = false;

    if (keys->type != REDIS_REPLY_ARRAY) { /* nil */
        flushed(b);
        return;
    }
    for (size_t i = 0; i < keys->elements; i++) {
        struct slice key = redis_slice(keys->element[i]);

        if (slice_is(key, REDIS_DELAYED))
            due = true;
        else if (key.ptr && redis_lists_pushed_key(&b->lists, key))
            pushed = true;
    }
    if (due)
        redis_look_due(b);
    if (pushed)
        ring(b);
}

static void bell_pushed(void *owner, struct redis_conn *c, const redisReply *reply)
{
    struct redis_broker *b = owner;
    struct slice channel = redis_slice(redis_at(reply, 1));

    (void)c;
    if (slice_is(redis_slice(redis_at(reply, 0)), "subscribe"))
        redis_result_subscribed(b, channel);
    if (!slice_is(redis_slice(redis_at(reply, 0)), "message"))
        return;
    if (slice_is(channel, REDIS_BELL))
        invalidated(b, redis_at(reply, 2));
    else
        redis_result_published(b, channel, redis_slice(redis_at(reply, 2)));
}

static void bell_again(void *owner, const struct err *why)
{
    (void)owner;
    (void)why;
}

static const struct redis_conn_hooks bell_hooks = {.greet = bell_greet,
                                                   .ready = bell_ready,
                                                   .down = bell_down,
                                                   .pushed = bell_pushed,
                                                   .again = bell_again};

void redis_bell_init(struct redis_broker *b)
{
    redis_conn_init(&b->bell, &bell_hooks, b, &b->address, b->clock, &b->random);
    b->bell.subscriber = true;
}

/* --- tracking --- */

static void tracking(void *owner, struct redis_request *r, const redisReply *reply)
{
    struct redis_broker *b = owner;

    (void)r;
    (void)reply;
    b->tracking = true;
    redis_look_due(b); /* arms the bell of the delayed ones */
    redis_fetch_anew(b);
}

static void not_tracking(void *owner, struct redis_request *r, const struct err *why)
{
    (void)r;
    if (why->code != ERR_RECONNECT)
        no_tracking(owner, why);
}

static const struct redis_op op_track = {
    .name = "track", .done = tracking, .failed = not_tracking, .once = true};

void redis_bell_track(struct redis_broker *b)
{
    struct redis_request *r;
    char id[24];

    if (!b->queues_len || b->no_tracking || !b->bell_id || b->bell.phase != REDIS_READY ||
        b->main.phase != REDIS_READY)
        return;
    r = redis_new(b, &op_track, REDIS_PLAIN, NULL);
    if (!r)
        return;
    snprintf(id, sizeof(id), "%lld", b->bell_id);
    redis_key(r, slice_of("CLIENT"));
    redis_key(r, slice_of("TRACKING"));
    redis_key(r, slice_of("ON"));
    redis_key(r, slice_of("REDIRECT"));
    redis_key(r, slice_of(id));
    redis_key(r, slice_of("OPTIN"));
    redis_submit(b, r, NULL);
}

/* --- listening --- */

static const struct redis_op op_listen = {.name = "listen", .once = true};

/* OPTIN: without it every key that a script reads would be remembered, and every result stored
 * would ring (measured: a third of the server's time). */
void redis_bell_listen(struct redis_broker *b)
{
    struct redis_request *r;

    if (!b->tracking)
        return;
    r = redis_new(b, &op_listen, REDIS_PLAIN, NULL);
    if (!r)
        return;
    redis_key(r, slice_of("CLIENT"));
    redis_key(r, slice_of("CACHING"));
    redis_key(r, slice_of("YES"));
    redis_submit(b, r, NULL);
}

/* --- for some lists --- */

struct asked {
    size_t len;
    size_t lists[];
};

static void listened(struct redis_broker *b, const struct redis_request *r, bool empty)
{
    const struct asked *asked = r->state;

    redis_lists_answered(&b->lists, asked->lists, asked->len, empty);
    redis_fetch(b);
}

static void told(void *owner, struct redis_request *r, const redisReply *reply)
{
    listened(owner, r, reply->type == REDIS_REPLY_INTEGER && reply->integer == 0);
}

static void not_told(void *owner, struct redis_request *r, const struct err *why)
{
    (void)why;
    listened(owner, r, false);
}

static const struct redis_op op_listen_for = {
    .name = "listen", .done = told, .failed = not_told, .free_state = free, .once = true};

static struct redis_request *listen_request(struct redis_broker *b, size_t n)
{
    struct redis_request *r = redis_new(b, &op_listen_for, REDIS_PLAIN, NULL);
    struct asked *asked = malloc(sizeof(*asked) + n * sizeof(asked->lists[0]));

    if (!r || !asked) {
        redis_request_free(r);
        free(asked);
        return NULL;
    }
    asked->len = n;
    memcpy(asked->lists, b->lists.chosen, n * sizeof(asked->lists[0]));
    r->state = asked;
    return r;
}

void redis_bell_listen_for(struct redis_broker *b, size_t n)
{
    struct redis_request *r = listen_request(b, n);

    if (!r)
        return;
    redis_bell_listen(b);
    redis_key(r, slice_of("EXISTS"));
    for (size_t i = 0; i < n; i++)
        redis_list_key(b, r, b->lists.chosen[i]);
    redis_lists_ask(&b->lists, b->lists.chosen, n);
    if (redis_submit(b, r, NULL) != 0)
        redis_lists_answered(&b->lists, b->lists.chosen, n, false);
}
