/* Whose leases come back: those that lapsed, those of a dead predecessor, our own that a broken
 * connection swallowed, and all at close. */
#include "broker/redis_restore.h"

#include <stdlib.h>

#define SWEEP      256   /* scores looked at per sweep */
#define SPREAD_MS  250   /* the workers do not all look at the same instant, nor for every one */
#define SWEEPS_MAX 30000 /* what a restored database brought is found by then */

/* --- by field --- */

static bool add_field(struct redis_restore *job, struct slice field,
                      const struct redis_lease *lease, int64_t limit_ms)
{
    struct redis_restore_item *item = &job->items[job->len];

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
 * timeout. Returns when to look again (wall clock). */
static int64_t check_score(struct redis_broker *b, struct redis_restore *job, struct slice field,
                           int64_t score_ms)
{
    struct redis_lease lease;
    struct slice node;
    bool ours = redis_field_parse(field, &node, &lease) == 0;
    int64_t now = clock_wall_ms(b->clock);
    int64_t limit_ms = now - (ours ? lease.lease_ms : b->address.visibility_ms);

    if (score_ms <= limit_ms && job->len < REDIS_RESTORE_BATCH)
        add_field(job, field, ours ? &lease : NULL, limit_ms);
    return score_ms <= limit_ms ? now + REDIS_TICK_MS : score_ms + now - limit_ms;
}

static int64_t shortest_ms(const struct redis_broker *b)
{
    return b->lease_ms < b->address.visibility_ms ? b->lease_ms : b->address.visibility_ms;
}

static int64_t score_of(const redisReply *reply)
{
    struct slice score = redis_slice(reply);

    return score.ptr ? (int64_t)(strtod(score.ptr, NULL) * 1000 + 0.5) : 0;
}

static int64_t sooner(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

/* wall_ms: when the first of all leases lapses that nobody renews. */
static void sweep_again_at(struct redis_broker *b, int64_t wall_ms)
{
    int64_t wait = sooner(wall_ms - clock_wall_ms(b->clock), SWEEPS_MAX);
    int64_t spread = 1 + (int64_t)(uuid_random(&b->random) % SPREAD_MS);

    b->sweep_at_ms = clock_mono_ms(b->clock) + (wait > SPREAD_MS ? wait : SPREAD_MS) + spread;
}

/* Newest first, as kombu: each is put in front of those before it, so the oldest comes out first.
 */
static void swept(void *owner, struct redis_request *r, const redisReply *reply)
{
    struct redis_broker *b = owner;
    struct redis_restore *job = redis_restore_new(b, REDIS_RESTORE_BATCH);
    int64_t now = clock_wall_ms(b->clock), later = score_of(redis_at(reply, 0));
    int64_t next = sooner((later && later < now ? later : now) + shortest_ms(b),
                          redis_bulk_sweep(b, redis_at(reply, 1)));

    (void)r;
    b->sweeping = false;
    b->sweep_offset = (reply->elements - 2) / 2 == SWEEP ? b->sweep_offset + SWEEP : 0;
    if (!job)
        return;
    for (size_t i = 2; i + 1 < reply->elements; i += 2)
        next = sooner(next, check_score(b, job, redis_slice(redis_at(reply, i)),
                                        score_of(redis_at(reply, i + 1))));
    sweep_again_at(b, b->sweep_offset ? now + REDIS_TICK_MS : next);
    redis_restore_read(b, job, NULL);
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

void redis_sweep(struct redis_broker *b)
{
    struct redis_request *r;

    if (b->sweeping || b->recovering)
        return;
    r = redis_new(b, &op_sweep, REDIS_SCRIPT_SWEEP, NULL);
    if (!r)
        return;
    redis_key(r, slice_of(REDIS_INDEX));
    redis_key(r, slice_of(REDIS_BULK));
    redis_arg_score(r, clock_wall_ms(b->clock) - shortest_ms(b));
    redis_argi(r, b->sweep_offset);
    redis_argi(r, SWEEP);
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
    uint64_t x = ((const struct redis_restore_item *)a)->lease.fence;
    uint64_t y = ((const struct redis_restore_item *)b)->lease.fence;

    return x < y ? 1 : x > y ? -1 : 0;
}

/* Newest first, in batches that are answered in order. */
static void restore_orphans(struct redis_broker *b, struct redis_restore *all)
{
    size_t at = 0;

    qsort(all->items, all->len, sizeof(*all->items), by_fence_down);
    while (at < all->len) {
        size_t some = all->len - at < REDIS_RESTORE_BATCH ? all->len - at : REDIS_RESTORE_BATCH;
        struct redis_restore *job = redis_restore_new(b, some);

        if (!job)
            break;
        memcpy(job->items, all->items + at, some * sizeof(*job->items));
        memset(all->items + at, 0, some * sizeof(*job->items));
        job->len = some;
        at += some;
        redis_restore_read(b, job, NULL);
    }
}

static void scanned(void *owner, struct redis_request *r, const redisReply *reply)
{
    struct redis_broker *b = owner;
    struct redis_restore *all = redis_restore_new(b, reply->elements);

    (void)r;
    for (size_t i = 0; all && i < reply->elements; i++) {
        struct slice field = redis_slice(redis_at(reply, i));
        struct redis_lease lease;

        if (field.ptr && is_orphan(b, field, &lease))
            add_field(all, field, &lease, 0);
    }
    if (all)
        restore_orphans(b, all);
    redis_restore_free(all);
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

static void scan(struct redis_broker *b)
{
    struct redis_request *r = redis_new(b, &op_scan, REDIS_PLAIN, NULL);

    if (!r)
        return;
    redis_key(r, slice_of("HKEYS"));
    redis_key(r, slice_of(REDIS_UNACKED));
    redis_proceed(b, r);
}

/* Those in bulk first: they are leases of their own when the others are looked at. */
static void bulk_scanned(void *owner, struct redis_request *r, const redisReply *reply)
{
    (void)r;
    redis_bulk_recover(owner, reply);
    scan(owner);
}

static const struct redis_op op_scan_bulk = {
    .name = "recover", .done = bulk_scanned, .failed = scan_failed, .once = true};

void redis_recover(struct redis_broker *b)
{
    struct redis_request *r = redis_new(b, &op_scan_bulk, REDIS_PLAIN, NULL);

    if (!r)
        return;
    redis_key(r, slice_of("HGETALL"));
    redis_key(r, slice_of(REDIS_BULK));
    b->recovering = redis_submit(b, r, NULL) == 0;
}

/* --- everything back, at close --- */

void redis_release_held(struct redis_broker *b)
{
    struct redis_restore *all = redis_restore_new(b, b->held.len);
    struct buf field = BUF_INIT;

    if (!all)
        return;
    redis_bulk_leave_all(b);
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
    redis_restore_free(all);
}
