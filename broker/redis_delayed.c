#include "base/fault.h"
#include "broker/redis.h"

#include <inttypes.h>
#include <stdlib.h>

#define DUE_BATCH 128

static void moved(void *owner, struct redis_request *r, const redisReply *reply)
{
    struct redis_broker *b = owner;

    (void)r;
    b->looking_due = false;
    if (reply->integer > 0 || b->moved_some || b->look_again)
        redis_look_due(b); /* there may be more, or others were faster */
    else
        redis_tick_soon(b); /* they cannot be moved now */
    b->moved_some = reply->integer > 0;
    b->dry = false;
    redis_fetch(b);
}

static void look_failed(void *owner, struct redis_request *r, const struct err *why)
{
    struct redis_broker *b = owner;

    (void)r;
    (void)why;
    b->looking_due = false;
    redis_tick_soon(b);
}

static const struct redis_op op_move = {
    .name = "due", .done = moved, .failed = look_failed, .once = true};

static void add_due(struct redis_broker *b, struct redis_request *r, struct slice tag)
{
    struct slice queue;
    int priority;

    if (redis_tag_parse(tag, &priority, &queue) != 0)
        return;
    redis_push_key(r, queue, priority, false);
    redis_lists_pushed(&b->lists, queue, redis_step_of(priority));
    redis_key2(r, REDIS_DELAYED_OF, queue);
    redis_arg(r, tag);
}

static void move_due(struct redis_broker *b, const redisReply *reply, size_t n)
{
    struct redis_request *r = redis_new(b, &op_move, REDIS_SCRIPT_DUE, NULL);

    if (!r)
        return;
    redis_key(r, slice_of(REDIS_DELAYED));
    redis_key(r, slice_of(REDIS_DELAYED_MSG));
    for (size_t i = 0; i < n; i++)
        add_due(b, r, redis_slice(redis_at(reply, 2 * i)));
    if (!r->args_len)
        redis_request_free(r);
    else
        b->looking_due = redis_submit(b, r, NULL) == 0;
}

/* The earliest of all: those that are due are moved by a script that checks them again, and the
 * first that is not says when to look next. CRASH: after the look, before the move - nothing has
 * changed, any live dispatcher moves them: all look when the first is due, and at their tick. */
static void looked(void *owner, struct redis_request *r, const redisReply *reply)
{
    struct redis_broker *b = owner;
    int64_t now = clock_wall_ms(b->clock);
    size_t n = 0;

    (void)r;
    b->looking_due = false;
    b->due_at_ms = CLOCK_NEVER;
    for (; n < reply->elements / 2; n++) {
        struct slice score = redis_slice(redis_at(reply, 2 * n + 1));
        double at = score.ptr ? strtod(score.ptr, NULL) : 0;

        if (at > (double)now) {
            b->due_at_ms = clock_mono_ms(b->clock) + (int64_t)at - now;
            break;
        }
    }
    if (n)
        FAULT_POINT("redis.before-due");
    if (n)
        move_due(b, reply, n);
    if (n && !b->looking_due)
        redis_tick_soon(b); /* none of them is understood */
    if (b->look_again)
        redis_look_due(b);
}

static const struct redis_op op_look = {
    .name = "look", .done = looked, .failed = look_failed, .once = true};

/* Reading the set also arms the bell for it: an earlier message than all others rings. What made us
 * look while a look is under way may have come after its reading: then there is one more. */
void redis_look_due(struct redis_broker *b)
{
    struct redis_request *r;

    b->look_again = b->looking_due;
    if (b->looking_due || b->closing || b->main.phase != REDIS_READY)
        return;
    r = redis_new(b, &op_look, REDIS_PLAIN, NULL);
    if (!r)
        return;
    redis_bell_listen(b);
    redis_key(r, slice_of("ZRANGE"));
    redis_key(r, slice_of(REDIS_DELAYED));
    redis_key(r, slice_of("0"));
    redis_key(r, slice_make("127", 3));
    redis_key(r, slice_of("WITHSCORES"));
    _Static_assert(DUE_BATCH == 128, "the range above");
    b->looking_due = redis_submit(b, r, NULL) == 0;
    b->due_at_ms = CLOCK_NEVER;
}
