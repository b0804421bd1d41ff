#include "base/fault.h"
#include "broker/redis.h"

#include <stdio.h>
#include <stdlib.h>

#define BATCH 64  /* entries read at a time: their values may be long */
#define SWEEP 256 /* scores looked at per tick */

/*
 * A restore reads entries, takes them apart here (scripts do not decode JSON) and moves them with a
 * script that tests again that each is still there. CRASH: after the read, before the move -
 * nothing has changed, the next sweep begins anew.
 */
struct restore_item {
    uint64_t tag;
    bool event; /* RELEASED or REFUSED for tag */
    bool front;
    bool ours; /* a field our script wrote */
    int64_t not_before_ms;
    int64_t limit_ms; /* moved only if its score is not later; 0: any */
    struct redis_lease lease;
    char *field;    /* owned */
    char *envelope; /* owned: instead of the recorded one; NULL: as it was */
    size_t envelope_len;
    struct redis_entry entry;
};

struct restore {
    struct redis_broker *b;
    struct restore_item *items; /* owned */
    size_t len;
    bool recovery;
};

static void restore_free(void *state)
{
    struct restore *job = state;

    if (!job)
        return;
    job->b->restoring--;
    for (size_t i = 0; i < job->len; i++) {
        free(job->items[i].field);
        free(job->items[i].envelope);
        redis_entry_release(&job->items[i].entry);
    }
    free(job->items);
    free(job);
}

static struct restore *restore_new(struct redis_broker *b, size_t cap)
{
    struct restore *job = calloc(1, sizeof(*job));

    if (!job)
        return NULL;
    job->items = calloc(cap ? cap : 1, sizeof(*job->items));
    if (!job->items) {
        free(job);
        return NULL;
    }
    job->b = b;
    b->restoring++;
    return job;
}

/* --- the second step: move --- */

static void forget_lease(struct redis_broker *b, const struct restore_item *item, bool moved)
{
    struct broker_event event = {.kind = BROKER_LOST};
    const struct redis_lease *held;

    if (!item->ours || item->lease.instance != b->instance)
        return;
    held = redis_held_find(&b->held, item->lease.fence);
    if (!held)
        return;
    if (!item->event && moved) {
        redis_lease_store(&event.receipt, held);
        event_queue_push(&b->events, &event);
    }
    if (item->event || moved)
        redis_held_remove(&b->held, item->lease.fence);
}

static void restored(void *owner, struct redis_request *r, const redisReply *reply)
{
    struct redis_broker *b = owner;
    struct restore *job = r->state;

    for (size_t i = 0; i < job->len; i++) {
        const redisReply *verdict = redis_at(reply, i);
        const struct restore_item *item = &job->items[i];
        struct err e;

        if (verdict->type != REDIS_REPLY_INTEGER) {
            redis_text_err(b, &e, verdict);
            if (item->event)
                event_queue_fail(&b->events, item->tag, &e);
            else
                log_warn(b->log, "lease not restored", "field=%s error=\"%s\"", item->field,
                         e.text);
            continue;
        }
        forget_lease(b, item, verdict->integer == 1);
        if (item->event && verdict->integer)
            event_queue_done(&b->events, BROKER_RELEASED, item->tag, 0);
        else if (item->event)
            redis_refuse(b, item->tag);
        else if (verdict->integer)
            log_info(b->log, "lease restored", "field=%s queue=%s", item->field,
                     item->entry.routing_key);
    }
}

static void restore_failed(void *owner, struct redis_request *r, const struct err *why)
{
    struct redis_broker *b = owner;
    struct restore *job = r->state;

    for (size_t i = 0; i < job->len; i++) {
        if (job->items[i].event)
            event_queue_fail(&b->events, job->items[i].tag, why);
    }
}

static const struct redis_op op_move = {
    .name = "move", .done = restored, .failed = restore_failed, .free_state = restore_free};

static struct slice payload(const struct restore_item *item)
{
    return item->envelope ? slice_make(item->envelope, item->envelope_len)
                          : slice_make(item->entry.envelope, item->entry.envelope_len);
}

/* Destinations: the queue, or every queue bound to a named exchange. */
static size_t add_destinations(struct redis_request *r, const struct restore_item *item,
                               const redisReply *bindings, bool delayed)
{
    struct slice key = slice_of(item->entry.routing_key);
    size_t n = 0;

    for (size_t i = 0; bindings && i < bindings->elements; i++) {
        struct slice queue;

        if (redis_binding_match(redis_slice(redis_at(bindings, i)), key, &queue)) {
            redis_push_key(r, queue, item->entry.priority, delayed);
            n++;
        }
    }
    if (n)
        return n;
    /* kombu drops a message that no queue is bound for; we keep it under its routing key. */
    redis_push_key(r, key, item->entry.priority, delayed);
    return 1;
}

static void add_move(struct redis_broker *b, struct redis_request *r,
                     const struct restore_item *item, const redisReply *bindings)
{
    bool delayed = redis_is_delayed(b, item->not_before_ms);
    size_t n = add_destinations(r, item, bindings, delayed);

    redis_args(r, item->field);
    if (item->limit_ms)
        redis_arg_score(r, item->limit_ms);
    else
        redis_args(r, "");
    redis_args(r, delayed ? "d" : item->front ? "r" : "l");
    redis_argi(r, (int64_t)n);
    redis_arg(r, payload(item));
    redis_argi(r, item->not_before_ms);
    if (delayed)
        redis_arg_tag(b, r, item->entry.priority, slice_of(item->entry.routing_key));
    else
        redis_args(r, "");
}

/* Takes job. */
static void submit_move(struct redis_broker *b, struct restore *job, const redisReply *bindings)
{
    struct redis_request *r = job->len ? redis_new(b, &op_move, REDIS_SCRIPT_MOVE, NULL) : NULL;

    if (!r) {
        restore_free(job);
        return;
    }
    r->state = job;
    redis_key(r, slice_of(REDIS_UNACKED));
    redis_key(r, slice_of(REDIS_INDEX));
    redis_key(r, slice_of(REDIS_DELAYED));
    redis_key(r, slice_of(REDIS_DELAYED_MSG));
    for (size_t i = 0; i < job->len; i++)
        add_move(b, r, &job->items[i], bindings);
    redis_submit(b, r, NULL);
}

/* --- named exchanges: kombu's binding sets say where --- */

static void got_bindings(void *owner, struct redis_request *r, const redisReply *reply)
{
    struct restore *job = r->state;

    r->state = NULL;
    submit_move(owner, job, reply);
}

static const struct redis_op op_bindings = {
    .name = "bindings", .done = got_bindings, .failed = restore_failed, .free_state = restore_free};

static void ask_bindings(struct redis_broker *b, struct restore_item *item)
{
    struct restore *job = restore_new(b, 1);
    struct redis_request *r = job ? redis_new(b, &op_bindings, REDIS_PLAIN, NULL) : NULL;

    if (!r) {
        restore_free(job);
        return;
    }
    job->items[job->len++] = *item;
    memset(item, 0, sizeof(*item));
    r->state = job;
    redis_key(r, slice_of("SMEMBERS"));
    redis_key2(r, REDIS_BINDING, slice_of(job->items[0].entry.exchange));
    redis_submit(b, r, NULL);
}

/* --- the first step: read --- */

static void drop_item(struct restore *job, size_t i)
{
    free(job->items[i].field);
    free(job->items[i].envelope);
    redis_entry_release(&job->items[i].entry);
    memmove(&job->items[i], &job->items[i + 1], (job->len - i - 1) * sizeof(*job->items));
    job->len--;
}

/* False when the item leaves this job. A score without an entry stays in: the script removes it. */
static bool take_apart(struct redis_broker *b, struct restore_item *item, struct slice value)
{
    struct err e;

    if (!value.ptr) {
        item->entry.routing_key = strdup("");
        return item->entry.routing_key != NULL;
    }
    if (redis_entry_parse(&item->entry, value, item->ours, &e) != 0) {
        log_warn(b->log, "lease not restored", "field=%s error=\"%s\"", item->field, e.text);
        if (item->event)
            event_queue_fail(&b->events, item->tag, &e);
        return false;
    }
    if (*item->entry.exchange) {
        ask_bindings(b, item);
        return false;
    }
    return true;
}

static void got_entries(void *owner, struct redis_request *r, const redisReply *reply)
{
    struct redis_broker *b = owner;
    struct restore *job = r->state;
    size_t kept = 0;

    r->state = NULL;
    FAULT_POINT("redis.before-restore");
    for (size_t i = 0, n = job->len; i < n; i++) {
        if (take_apart(b, &job->items[kept], redis_slice(redis_at(reply, i))))
            kept++;
        else
            drop_item(job, kept);
    }
    submit_move(b, job, NULL);
}

static const struct redis_op op_read = {.name = "read leases",
                                        .done = got_entries,
                                        .failed = restore_failed,
                                        .free_state = restore_free};

/* Takes job. */
static int submit_read(struct redis_broker *b, struct restore *job, struct err *e)
{
    struct redis_request *r = job->len ? redis_new(b, &op_read, REDIS_PLAIN, e) : NULL;

    if (!r) {
        int rc = job->len ? -1 : 0;

        restore_free(job);
        return rc;
    }
    r->state = job;
    redis_key(r, slice_of("HMGET"));
    redis_key(r, slice_of(REDIS_UNACKED));
    for (size_t i = 0; i < job->len; i++)
        redis_key(r, slice_of(job->items[i].field));
    return redis_submit(b, r, e);
}

/* --- release --- */

static int fill_release(struct redis_broker *b, struct restore_item *item,
                        const struct broker_release *v)
{
    struct buf field = BUF_INIT;
    struct buf marked = BUF_INIT;
    int priority;

    redis_field(&field, b->node, &item->lease);
    item->field = buf_detach(&field, NULL);
    item->tag = v->tag;
    item->event = true;
    item->ours = true;
    item->front = v->front;
    item->not_before_ms = v->not_before_ms;
    if (v->envelope.ptr) {
        if (!redis_mark_redelivered(&marked, v->envelope, &priority))
            buf_add(&marked, v->envelope.ptr, v->envelope.len);
        item->envelope = buf_detach(&marked, &item->envelope_len);
    }
    buf_release(&field);
    buf_release(&marked);
    return item->field && (item->envelope || !v->envelope.ptr) ? 0 : -1;
}

static int release_some(struct redis_broker *b, const struct broker_release *v, size_t n,
                        struct err *e)
{
    struct restore *job = restore_new(b, n);

    if (!job)
        return err_nomem(e);
    for (size_t i = 0; i < n; i++) {
        struct restore_item *item = &job->items[job->len];

        redis_lease_load(&item->lease, &v[i].receipt);
        if (item->lease.queue >= b->queues_len) {
            redis_refuse(b, v[i].tag);
            continue;
        }
        job->len++;
        if (fill_release(b, item, &v[i]) != 0) {
            restore_free(job);
            return err_nomem(e);
        }
    }
    return submit_read(b, job, e);
}

int redis_release(struct broker *base, const struct broker_release *v, size_t n, struct err *e)
{
    for (size_t at = 0; at < n; at += BATCH) {
        size_t some = n - at < BATCH ? n - at : BATCH;

        if (release_some((struct redis_broker *)base, v + at, some, e) != 0)
            return -1;
    }
    return 0;
}

/* --- by field: expiry, take-over, orphans --- */

static bool add_field(struct restore *job, struct slice field, const struct redis_lease *lease,
                      int64_t limit_ms)
{
    struct restore_item *item = &job->items[job->len];

    item->field = slice_dup(field);
    if (!item->field)
        return false;
    if (lease) {
        item->lease = *lease;
        item->ours = true;
    }
    item->front = true;
    item->limit_ms = limit_ms;
    job->len++;
    return true;
}

/* A lease of ours runs as long as its field says, a delivery of kombu's as long as its visibility
 * timeout. */
static void check_score(struct redis_broker *b, struct restore *job, struct slice field,
                        int64_t score_ms)
{
    struct redis_lease lease;
    struct slice node;
    bool ours = redis_field_parse(field, &node, &lease) == 0;
    int64_t limit_ms = clock_wall_ms(b->clock) - (ours ? lease.lease_ms : b->visibility_ms);

    if (score_ms <= limit_ms && job->len < BATCH)
        add_field(job, field, ours ? &lease : NULL, limit_ms);
}

/* Newest first, as kombu: each is put in front of those before it, so the oldest comes out first.
 */
static void swept(void *owner, struct redis_request *r, const redisReply *reply)
{
    struct redis_broker *b = owner;
    struct restore *job = restore_new(b, BATCH);

    (void)r;
    b->sweeping = false;
    b->sweep_offset = reply->elements / 2 == SWEEP ? b->sweep_offset + SWEEP : 0;
    if (!job)
        return;
    for (size_t i = 0; i + 1 < reply->elements; i += 2) {
        struct slice score = redis_slice(redis_at(reply, i + 1));

        check_score(b, job, redis_slice(redis_at(reply, i)),
                    score.ptr ? (int64_t)(strtod(score.ptr, NULL) * 1000 + 0.5) : 0);
    }
    submit_read(b, job, NULL);
}

static void sweep_failed(void *owner, struct redis_request *r, const struct err *why)
{
    struct redis_broker *b = owner;

    (void)r;
    (void)why;
    b->sweeping = false;
}

static const struct redis_op op_sweep = {
    .name = "sweep", .done = swept, .failed = sweep_failed, .once = true};

/* Parts of a plain command: a number, and a score in seconds. */
static void key_number(struct redis_request *r, int64_t n)
{
    char text[24];

    snprintf(text, sizeof(text), "%lld", (long long)n);
    redis_key(r, slice_of(text));
}

static void key_score(struct redis_request *r, int64_t wall_ms)
{
    char text[32];

    snprintf(text, sizeof(text), "%lld.%03d", (long long)(wall_ms / 1000), (int)(wall_ms % 1000));
    redis_key(r, slice_of(text));
}

void redis_sweep(struct redis_broker *b)
{
    int64_t shortest_ms = b->lease_ms < b->visibility_ms ? b->lease_ms : b->visibility_ms;
    int64_t limit_ms = clock_wall_ms(b->clock) - shortest_ms;
    struct redis_request *r;

    if (b->sweeping || b->recovering)
        return;
    r = redis_new(b, &op_sweep, REDIS_PLAIN, NULL);
    if (!r)
        return;
    redis_key(r, slice_of("ZREVRANGEBYSCORE"));
    redis_key(r, slice_of(REDIS_INDEX));
    key_score(r, limit_ms);
    redis_key(r, slice_of("-inf"));
    redis_key(r, slice_of("WITHSCORES"));
    redis_key(r, slice_of("LIMIT"));
    key_number(r, b->sweep_offset);
    key_number(r, SWEEP);
    b->sweeping = redis_submit(b, r, NULL) == 0;
}

/* --- recovery: predecessors of this node, and our own lost replies --- */

static void recovery_done(struct redis_broker *b)
{
    b->recovering = false;
    b->recovered = true;
    redis_fetch(b);
}

/* Whose dispatcher is dead: lower generations of this node. Whose reply was swallowed by a broken
 * connection: our own, when we do not hold it. Others of this node and generation live. */
static bool is_orphan(struct redis_broker *b, struct slice field, struct redis_lease *lease)
{
    struct slice node;

    if (redis_field_parse(field, &node, lease) != 0 || !slice_is(node, b->node))
        return false;
    if (lease->generation != b->generation)
        return lease->generation < b->generation;
    return lease->instance == b->instance && !redis_held_find(&b->held, lease->fence);
}

static int by_fence_down(const void *a, const void *b)
{
    uint64_t x = ((const struct restore_item *)a)->lease.fence;
    uint64_t y = ((const struct restore_item *)b)->lease.fence;

    return x < y ? 1 : x > y ? -1 : 0;
}

/* Newest first, in batches that are answered in order. */
static void restore_orphans(struct redis_broker *b, struct restore *all)
{
    size_t at = 0;

    qsort(all->items, all->len, sizeof(*all->items), by_fence_down);
    while (at < all->len) {
        size_t some = all->len - at < BATCH ? all->len - at : BATCH;
        struct restore *job = restore_new(b, some);

        if (!job)
            break;
        memcpy(job->items, all->items + at, some * sizeof(*job->items));
        memset(all->items + at, 0, some * sizeof(*job->items));
        job->len = some;
        at += some;
        submit_read(b, job, NULL);
    }
}

static void scanned(void *owner, struct redis_request *r, const redisReply *reply)
{
    struct redis_broker *b = owner;
    struct restore *all = restore_new(b, reply->elements);

    (void)r;
    for (size_t i = 0; all && i < reply->elements; i++) {
        struct slice field = redis_slice(redis_at(reply, i));
        struct redis_lease lease;

        if (field.ptr && is_orphan(b, field, &lease))
            add_field(all, field, &lease, 0);
    }
    if (all)
        restore_orphans(b, all);
    restore_free(all);
    recovery_done(b);
}

static void scan_failed(void *owner, struct redis_request *r, const struct err *why)
{
    struct redis_broker *b = owner;

    (void)r;
    if (why->code == ERR_RECONNECT)
        return; /* the next connection begins anew */
    log_warn(b->log, "leases of predecessors not looked for", "error=\"%s\"", why->text);
    recovery_done(b);
}

static const struct redis_op op_scan = {
    .name = "recover", .done = scanned, .failed = scan_failed, .once = true};

void redis_recover(struct redis_broker *b)
{
    struct redis_request *r = redis_new(b, &op_scan, REDIS_PLAIN, NULL);

    if (!r)
        return;
    redis_key(r, slice_of("HKEYS"));
    redis_key(r, slice_of(REDIS_UNACKED));
    b->recovering = redis_submit(b, r, NULL) == 0;
}

/* --- everything back, at close --- */

void redis_release_held(struct redis_broker *b)
{
    struct restore *all = restore_new(b, b->held.len);
    struct buf field = BUF_INIT;

    if (!all)
        return;
    for (size_t i = 0; i < b->held.cap; i++) {
        const struct redis_lease *lease = &b->held.slots[i];

        if (!lease->fence)
            continue;
        buf_clear(&field);
        redis_field(&field, b->node, lease);
        add_field(all, buf_slice(&field), lease, 0);
    }
    buf_release(&field);
    restore_orphans(b, all);
    restore_free(all);
}
