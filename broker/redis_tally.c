#include "broker/redis_tally.h"

#include "broker/redis.h"

#include <inttypes.h>
#include <stdio.h>

#define HOUR_MS    3600000
#define KEPT_HOURS 24

/* What is not moved now is moved by a worker. */
static const struct redis_op op_move = {.name = "count", .once = true};

/* token: its key is set if the count has reached what it would be after the push in doubt. */
static struct redis_request *move_request(const struct redis_tally *t, const struct redis_op *op,
                                          const char *token, int64_t taken_back)
{
    struct redis_request *r = redis_request_new(op, REDIS_SCRIPT_SENT);

    if (!r)
        return NULL;
    redis_key(r, slice_of(REDIS_TOTALS));
    redis_key(r, slice_of(REDIS_SENT));
    if (token)
        redis_key(r, slice_of(token));
    redis_args(r, t->field);
    redis_argi(r, taken_back);
    redis_argi(r, t->count + 1);
    return r;
}

static void forget_field(struct redis_tally *t)
{
    t->field[0] = '\0';
    t->count = 0;
}

/* Nothing is under way and nothing in doubt. */
static void end_field(struct redis_broker *b)
{
    struct redis_tally *t = &b->tally;
    struct redis_request *r = t->count ? move_request(t, &op_move, NULL, 0) : NULL;

    if (r)
        redis_proceed(b, r);
    forget_field(t);
}

/* --- one push --- */

const char *redis_tally_begin(struct redis_broker *b)
{
    struct redis_tally *t = &b->tally;
    int64_t now = clock_wall_ms(b->clock);

    if (t->busy || t->doubtful)
        return NULL;
    if (t->field[0] && now >= t->until_ms)
        end_field(b);
    if (!t->field[0]) {
        snprintf(t->field, sizeof(t->field), "%010" PRId64 "/%016llx", now / HOUR_MS,
                 uuid_random(&b->random));
        t->until_ms = now + HOUR_MS;
    }
    t->busy = true;
    return t->field;
}

void redis_tally_done(struct redis_broker *b, int64_t count)
{
    b->tally.busy = false;
    if (count < 0)
        end_field(b);
    else
        b->tally.count = count;
}

void redis_tally_refused(struct redis_broker *b)
{
    b->tally.busy = false;
}

struct redis_request *redis_tally_take_back(struct redis_broker *b, const struct redis_op *op,
                                            int64_t n)
{
    struct redis_request *r = move_request(&b->tally, op, NULL, n);

    b->tally.busy = false;
    forget_field(&b->tally);
    return r;
}

/* --- doubt --- */

void redis_tally_lost(struct redis_broker *b, const char *token)
{
    struct redis_tally *t = &b->tally;

    t->busy = false;
    t->doubtful = true;
    snprintf(t->token, sizeof(t->token), "%s", token);
}

static void clear_doubt(struct redis_tally *t)
{
    t->doubtful = false;
    forget_field(t);
}

static void settled(void *owner, struct redis_request *r, const redisReply *reply)
{
    struct redis_broker *b = owner;

    (void)r;
    (void)reply;
    clear_doubt(&b->tally);
}

/* "Not now" is as good as no connection: what comes behind may be the resend. */
static void not_settled(void *owner, struct redis_request *r, const struct err *why)
{
    struct redis_broker *b = owner;
    struct redis_conn *c = r->state;

    if (why->code == ERR_RECONNECT)
        return; /* the next connection asks */
    if (why->code == ERR_AGAIN) {
        c->broken = *why;
        return;
    }
    log_warn(b->log, "a message may be in its queue twice", "error=\"%s\"", why->text);
    clear_doubt(&b->tally);
}

static const struct redis_op op_settle = {
    .name = "greeting", .done = settled, .failed = not_settled, .once = true};

void redis_tally_settle(struct redis_broker *b, struct redis_conn *c)
{
    struct redis_tally *t = &b->tally;
    struct redis_request *r = t->doubtful ? move_request(t, &op_settle, t->token, 0) : NULL;

    if (!r)
        return;
    r->state = c;
    redis_conn_greet(c, r);
}

/* --- the rest --- */

/* The server reads what was written also when nobody waits for its answer. */
void redis_tally_end(struct redis_broker *b)
{
    if (b->tally.busy || b->tally.doubtful || !redis_conn_idle(&b->main))
        return;
    end_field(b);
    redis_conn_flush(&b->main);
}

void redis_tally_sweep(struct redis_broker *b)
{
    struct redis_tally *t = &b->tally;
    int64_t now = clock_mono_ms(b->clock);
    struct redis_request *r;
    char oldest[16];

    if (now < t->sweep_at_ms)
        return;
    t->sweep_at_ms = now + HOUR_MS;
    r = redis_request_new(&op_move, REDIS_SCRIPT_SENT_SWEEP);
    if (!r)
        return;
    snprintf(oldest, sizeof(oldest), "%010" PRId64, clock_wall_ms(b->clock) / HOUR_MS - KEPT_HOURS);
    redis_key(r, slice_of(REDIS_TOTALS));
    redis_key(r, slice_of(REDIS_SENT));
    redis_args(r, oldest);
    redis_proceed(b, r);
}
