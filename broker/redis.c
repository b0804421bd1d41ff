#include "broker/redis.h"

#include "base/decimal.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#define CLOSE_MS 2000

/* --- requests --- */

struct redis_request *redis_new(struct redis_broker *b, const struct redis_op *op,
                                enum redis_script_id script, struct err *e)
{
    struct redis_request *r = redis_conn_request(&b->main, op, script);

    if (!r)
        err_nomem(e);
    return r;
}

int redis_submit(struct redis_broker *b, struct redis_request *r, struct err *e)
{
    if (redis_request_broken(r)) {
        redis_request_free(r);
        return err_nomem(e);
    }
    redis_conn_submit(&b->main, r);
    return 0;
}

void redis_proceed(struct redis_broker *b, struct redis_request *r)
{
    struct err e = ERR_INIT;

    if (!redis_request_broken(r)) {
        redis_conn_submit(&b->main, r);
        return;
    }
    err_nomem(&e);
    if (r->op->failed)
        r->op->failed(b, r, &e);
    redis_request_free(r);
}

struct redis_request *redis_batch(struct redis_broker *b, const struct redis_op *op,
                                  enum redis_script_id script, bool *fresh, struct err *e)
{
    struct redis_request *tail = b->main.waiting.tail;

    *fresh = false;
    if (tail && tail->op == op && tail->tries == 0 && tail->items_len < REDIS_BATCH_ITEMS &&
        redis_request_size(tail) < REDIS_BATCH_BYTES)
        return tail;
    *fresh = true;
    return redis_new(b, op, script, e);
}

void redis_tick_soon(struct redis_broker *b)
{
    int64_t at = clock_mono_ms(b->clock) + REDIS_TICK_MS;

    b->tick_at_ms = at < b->tick_at_ms ? at : b->tick_at_ms;
}

void redis_fail_items(void *owner, struct redis_request *r, const struct err *why)
{
    struct redis_broker *b = owner;

    for (size_t i = 0; i < r->items_len; i++)
        event_queue_fail(&b->events, r->items[i].tag, why);
}

void redis_refuse(struct redis_broker *b, uint64_t tag)
{
    event_queue_done(&b->events, BROKER_REFUSED, tag, 0);
}

void redis_arg_dbs(struct redis_broker *b, struct redis_request *r)
{
    redis_args(r, b->address.db);
    redis_args(r, b->result_db);
}

void redis_arg_score(struct redis_request *r, int64_t wall_ms)
{
    char text[32];

    snprintf(text, sizeof(text), "%" PRId64 ".%03d", wall_ms / 1000, (int)(wall_ms % 1000));
    redis_args(r, text);
}

int64_t redis_px(const struct redis_broker *b, int64_t expires_ms)
{
    if (expires_ms == 0)
        expires_ms = b->result_expires_ms;
    return expires_ms < 0 ? 0 : expires_ms;
}

void redis_arg_px(struct redis_broker *b, struct redis_request *r, int64_t expires_ms)
{
    redis_argi(r, redis_px(b, expires_ms));
}

/* Nearly always a lease of this connection's own, of which only the fence is not known before. */
static void arg_own_field(struct redis_broker *b, struct redis_request *r, uint64_t fence)
{
    char digits[REDIS_FENCE_DIGITS];

    decimal_fill(digits, REDIS_FENCE_DIGITS, fence);
    redis_arg3(r, slice_of(b->field_head), slice_make(digits, sizeof(digits)),
               slice_of(b->field_tail));
}

bool redis_arg_field(struct redis_broker *b, struct redis_request *r,
                     const struct redis_lease *lease)
{
    struct buf field = BUF_INIT;

    if (lease->queue >= b->queues_len || lease->fence == 0)
        return false;
    if (lease->generation == b->generation && lease->instance == b->instance &&
        lease->lease_ms == (uint32_t)b->lease_ms) {
        arg_own_field(b, r, lease->fence);
        return true;
    }
    redis_field(&field, b->node, lease);
    redis_arg(r, buf_slice(&field));
    if (field.failed)
        r->args.failed = true;
    buf_release(&field);
    return true;
}

struct slice redis_slice(const redisReply *reply)
{
    if (!reply || (reply->type != REDIS_REPLY_STRING && reply->type != REDIS_REPLY_STATUS &&
                   reply->type != REDIS_REPLY_ERROR))
        return (struct slice){NULL, 0};
    return slice_make(reply->str, reply->len);
}

const redisReply *redis_at(const redisReply *array, size_t i)
{
    static const redisReply nil = {.type = REDIS_REPLY_NIL};

    if (array->type != REDIS_REPLY_ARRAY || i >= array->elements)
        return &nil;
    return array->element[i];
}

void redis_text_err(struct redis_broker *b, struct err *e, const redisReply *reply)
{
    struct slice text = redis_slice(reply);

    err_set(e, text.ptr ? redis_classify(text.ptr) : ERR_BUG, "redis at %s: %.*s", b->address.shown,
            SLICE_ARG(text));
}

/* --- the working connection --- */

static void greet_failed(void *owner, struct redis_request *r, const struct err *why)
{
    struct redis_conn *c = r->state;

    (void)owner;
    c->broken = *why;
    if (why->code == ERR_BUG)
        c->broken.code = ERR_OPERATOR;
}

static const struct redis_op op_must = {.name = "greeting", .failed = greet_failed, .once = true};
static const struct redis_op op_may = {.name = "greeting", .once = true};

void redis_greet(struct redis_conn *c, bool must, const char *const *words)
{
    struct redis_request *r = redis_request_new(must ? &op_must : &op_may, REDIS_PLAIN);

    if (!r)
        return;
    r->state = c;
    for (; *words; words++)
        redis_key(r, slice_of(*words));
    redis_conn_greet(c, r);
}

void redis_greet_auth(struct redis_conn *c)
{
    const struct redis_address *a = c->address;

    if (a->password && a->user)
        redis_greet(c, true, (const char *[]){"AUTH", a->user, a->password, NULL});
    else if (a->password)
        redis_greet(c, true, (const char *[]){"AUTH", a->password, NULL});
}

static void main_greet(void *owner, struct redis_conn *c)
{
    struct redis_broker *b = owner;
    enum redis_script_id first = b->queues_len ? REDIS_SCRIPT_FETCH : REDIS_SCRIPT_GET;

    redis_greet_auth(c);
    redis_greet(c, true, (const char *[]){"SELECT", b->address.db, NULL});
    redis_greet(c, false, (const char *[]){"CLIENT", "SETNAME", "celeriac", NULL});
    /* One of them, so that a server without scripts is refused here; the others when needed. */
    redis_greet(c, true, (const char *[]){"SCRIPT", "LOAD", redis_script_text(first), NULL});
    c->known[first] = true;
    redis_tally_settle(b, c);
    if (!b->queues_len)
        redis_ask_transactions(b, c);
}

static void tell_up(struct redis_broker *b)
{
    event_queue_done(&b->events, BROKER_STATE, 0, BROKER_UP);
    b->told = true;
    b->up = true;
}

static void tell_down(struct redis_broker *b, const struct err *why)
{
    struct broker_event event = {.kind = BROKER_STATE, .err = why};

    if (b->told && !b->up && why->code != ERR_OPERATOR)
        return; /* said once */
    event_queue_push(&b->events, &event);
    b->told = true;
    b->up = false;
}

static void main_ready(void *owner, struct redis_conn *c)
{
    struct redis_broker *b = owner;

    (void)c;
    if (!b->up)
        tell_up(b);
    redis_names_clear(&b->declared);
    for (size_t i = 0; i < b->queues_len; i++)
        redis_declare(b, slice_of(b->queues[i].name));
    b->name_at_ms = 0;
    redis_bell_track(b);
    if (b->queues_len && !b->closing)
        redis_recover(b);
    b->tick_at_ms = clock_mono_ms(b->clock) + REDIS_TICK_MS;
    b->sweep_at_ms = b->tick_at_ms;
    if (b->queues_len)
        redis_look_due(b);
}

static void main_down(void *owner, struct redis_conn *c, const struct err *why)
{
    struct redis_broker *b = owner;

    (void)c;
    tell_down(b, why);
    b->dry = false;
    redis_lists_forget(&b->lists);
    b->ring_at_ms = CLOCK_NEVER;
    b->tracking = false;
    b->transactions = false;
    b->refused = false;
    redis_names_clear(&b->known_lists);
    b->fetching = false;
    b->bulks.asked_len = b->bulks.asked_read = 0;
    b->bulks.likely = false;
    b->recovering = false;
    b->recovered = false;
    b->looking_due = false;
    b->sweeping = false;
    b->due_at_ms = CLOCK_NEVER;
}

/* "Not now", and that it is over. */
static void main_again(void *owner, const struct err *why)
{
    struct redis_broker *b = owner;

    if (why)
        tell_down(b, why);
    else if (!b->up)
        tell_up(b);
}

static const struct redis_conn_hooks main_hooks = {
    .greet = main_greet, .ready = main_ready, .down = main_down, .again = main_again};

/* --- the loop --- */

/* Without a bell nothing else brings work. With one the workers look at different times. */
static int64_t until_tick_ms(struct redis_broker *b)
{
    if (!b->tracking)
        return REDIS_TICK_MS;
    return REDIS_LULL_MS - (int64_t)(uuid_random(&b->random) % (REDIS_LULL_MS / 5));
}

static void run_due(struct redis_broker *b)
{
    int64_t now;

    if (b->main.phase != REDIS_READY || !b->queues_len || b->closing)
        return;
    now = clock_mono_ms(b->clock);
    if (now >= b->tick_at_ms) {
        b->tick_at_ms = now + until_tick_ms(b);
        redis_look_due(b);
        redis_fetch_anew(b);
        redis_tally_sweep(b);
    }
    if (now >= b->sweep_at_ms) {
        b->sweep_at_ms = now + REDIS_TICK_MS; /* its reply knows better */
        redis_sweep(b);
    }
    if (now >= redis_bulk_deadline(b))
        redis_bulk_leave_old(b);
    if (now >= b->due_at_ms)
        redis_look_due(b);
    if (now >= b->ring_at_ms) {
        b->ring_at_ms = CLOCK_NEVER;
        redis_fetch(b);
    }
}

static void step(struct redis_broker *b)
{
    if (redis_bell_wanted(b))
        redis_conn_step(&b->bell);
    redis_conn_step(&b->main);
    run_due(b);
    redis_conn_flush(&b->main);
}

static int redis_poll(struct broker *base, struct broker_event *events, int max)
{
    struct redis_broker *b = (struct redis_broker *)base;

    step(b);
    return event_queue_drain(&b->events, events, max);
}

static int redis_pollset(struct broker *base, struct pollfd *fds, int max)
{
    struct redis_broker *b = (struct redis_broker *)base;
    int n = 0;

    if (n < max && redis_conn_pollfd(&b->main, &fds[n]))
        n++;
    /* What nobody reads must not be waited for: it would be ready for ever. */
    if (n < max && redis_bell_wanted(b) && redis_conn_pollfd(&b->bell, &fds[n]))
        n++;
    return n;
}

static int64_t earlier(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

static int64_t redis_deadline(struct broker *base)
{
    struct redis_broker *b = (struct redis_broker *)base;
    int64_t at = redis_conn_deadline(&b->main);

    if (!event_queue_empty(&b->events))
        return 0;
    if (redis_bell_wanted(b))
        at = earlier(at, redis_conn_deadline(&b->bell));
    if (b->main.phase == REDIS_READY && b->queues_len) {
        at = earlier(at, b->tick_at_ms);
        at = earlier(at, b->sweep_at_ms);
        at = earlier(at, redis_bulk_deadline(b));
        at = earlier(at, b->due_at_ms);
        at = earlier(at, b->ring_at_ms);
    }
    return at;
}

/* With two connections to listen to, only poll will do. */
static bool redis_sleep(struct broker *base, int64_t until_ms)
{
    struct redis_broker *b = (struct redis_broker *)base;

    return !redis_bell_wanted(b) && redis_conn_sleep(&b->main, until_ms);
}

static void redis_credit(struct broker *base, int n)
{
    struct redis_broker *b = (struct redis_broker *)base;

    if (!b->queues_len)
        return;
    b->credit = n;
    /* A bell that brought nothing is answered a little later (ring_at_ms). */
    if (b->ring_at_ms == CLOCK_NEVER)
        redis_fetch(b);
}

/* --- closing --- */

static bool all_quiet(struct redis_broker *b)
{
    return b->main.phase == REDIS_READY && redis_conn_idle(&b->main) && b->restoring == 0;
}

/* Steps until nothing is under way or the time is over. */
static bool drain(struct redis_broker *b, int64_t until_ms)
{
    while (!all_quiet(b) && clock_nano() / 1000000 < until_ms) {
        struct pollfd fds[2];
        int n = redis_pollset(&b->base, fds, 2);
        struct broker_event events[32];

        poll(fds, (nfds_t)n, 20);
        step(b);
        while (event_queue_drain(&b->events, events, 32) == 32)
            ;
        if (b->main.phase == REDIS_DOWN)
            return false; /* what is leased comes back when its time is over */
    }
    return all_quiet(b);
}

static void redis_rest(struct broker *base)
{
    struct redis_broker *b = (struct redis_broker *)base;

    redis_conn_rest(&b->main);
    redis_conn_rest(&b->bell);
    event_queue_rest(&b->events);
    if (b->held.len == 0)
        redis_held_release(&b->held);
}

static void free_broker(struct redis_broker *b)
{
    redis_conn_release(&b->main);
    redis_conn_release(&b->bell);
    redis_held_release(&b->held);
    redis_bulk_release(&b->bulks);
    redis_lists_release(&b->lists);
    redis_watch_release(b);
    event_queue_release(&b->events);
    redis_names_clear(&b->declared);
    redis_names_clear(&b->known_lists);
    for (size_t i = 0; b->queues && i < b->queues_len; i++) {
        free(b->queues[i].name);
        free(b->queues[i].tail);
    }
    free(b->queues);
    free(b->field_head);
    free(b->field_tail);
    free(b->node);
    redis_address_release(&b->address);
    free(b);
}

static void redis_close(struct broker *base, bool release_leases)
{
    struct redis_broker *b = (struct redis_broker *)base;
    int64_t until_ms = clock_nano() / 1000000 + CLOSE_MS;

    b->closing = true;
    b->credit = 0;
    redis_tally_end(b);
    if (b->main.phase == REDIS_READY && release_leases && drain(b, until_ms)) {
        if (b->held.len)
            redis_release_held(b);
        redis_node_remove(b);
        drain(b, until_ms);
    }
    free_broker(b);
}

/* --- opening --- */

static int read_result_db(struct redis_broker *b, const char *url, struct err *e)
{
    struct uri uri = {0};
    int rc;

    if (!url)
        return 0;
    rc = uri_parse(&uri, url, e);
    if (rc == 0)
        rc = redis_address_db(&uri, b->result_db, e);
    uri_release(&uri);
    if (rc == 0 && strcmp(b->result_db, b->address.db) == 0)
        b->result_db[0] = '\0';
    return rc;
}

static int copy_queues(struct redis_broker *b, const struct broker_config *config, struct err *e)
{
    b->queues = calloc(config->queues_len ? config->queues_len : 1, sizeof(*b->queues));
    if (!b->queues)
        return err_nomem(e);
    for (size_t i = 0; i < config->queues_len; i++) {
        struct buf tail = BUF_INIT;

        b->queues[i].name = slice_dup(slice_of(config->queues[i]));
        b->queues_len++;
        redis_value_tail(&tail, slice_of(config->queues[i]));
        b->queues[i].tail = buf_detach(&tail, &b->queues[i].tail_len);
        if (!b->queues[i].name || !b->queues[i].tail)
            return err_nomem(e);
    }
    return redis_lists_init(&b->lists, b->queues, b->queues_len) == 0 ? 0 : err_nomem(e);
}

static int make_field(struct redis_broker *b, struct err *e)
{
    struct buf text = BUF_INIT;

    redis_field_head(&text, b->node, b->generation);
    b->field_head = buf_detach(&text, NULL);
    redis_field_tail(&text, (uint32_t)b->lease_ms, b->instance);
    b->field_tail = buf_detach(&text, NULL);
    buf_release(&text);
    return b->field_head && b->field_tail ? 0 : err_nomem(e);
}

static int setup(struct redis_broker *b, const struct broker_config *config, struct err *e)
{
    if (redis_address_read(&b->address, config->url, e) != 0 ||
        read_result_db(b, config->result_url, e) != 0)
        return -1;
    b->clock = config->clock;
    b->log = config->log;
    b->generation = config->generation;
    b->lease_ms = config->lease_ms < UINT32_MAX ? config->lease_ms : UINT32_MAX;
    b->result_expires_ms = config->result_expires_ms;
    b->instance = (uint32_t)uuid_random(&b->random);
    b->node = strdup(config->node ? config->node : "client");
    if (!b->node)
        return err_nomem(e);
    if (make_field(b, e) != 0 || copy_queues(b, config, e) != 0)
        return -1;
    redis_conn_init(&b->main, &main_hooks, b, &b->address, b->clock, &b->random);
    redis_bell_init(b);
    return 0;
}

static const struct broker_ops redis_ops = {
    .name = "redis",
    .caps = BROKER_CAP_ATOMIC_FINISH | BROKER_CAP_LEASES | BROKER_CAP_DELAY | BROKER_CAP_PRIORITY |
            BROKER_CAP_PEEK | BROKER_CAP_RESULTS | BROKER_CAP_DURABLE | BROKER_CAP_CLAIMS |
            BROKER_CAP_NO_SIGPIPE,
    .close = redis_close,
    .pollset = redis_pollset,
    .deadline = redis_deadline,
    .poll = redis_poll,
    .sleep = redis_sleep,
    .rest = redis_rest,
    .credit = redis_credit,
    .publish = redis_publish,
    .renew = redis_renew,
    .note = redis_note,
    .finish = redis_finish,
    .release = redis_release,
    .bury = redis_bury,
    .store = redis_store,
    .claim = redis_claim,
    .ask = redis_ask,
    .announce = redis_announce,
    .result_get = redis_result_get,
    .result_watch = redis_result_watch,
    .result_expect = redis_result_expect,
    .result_unwatch = redis_result_unwatch,
    .result_forget = redis_result_forget,
};

struct broker *redis_open(const struct uri *uri, const struct broker_config *config, struct err *e)
{
    struct redis_broker *b = calloc(1, sizeof(*b));

    (void)uri; /* parsed again: the backend owns its strings */
    if (!b) {
        err_nomem(e);
        return NULL;
    }
    b->base.ops = &redis_ops;
    b->due_at_ms = CLOCK_NEVER;
    b->ring_at_ms = CLOCK_NEVER;
    event_queue_init(&b->events);
    if (setup(b, config, e) != 0) {
        free_broker(b);
        return NULL;
    }
    return &b->base;
}
