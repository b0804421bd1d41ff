#include "broker/redis_bulk.h"

#include "base/decimal.h"
#include "base/fault.h"
#include "broker/redis.h"

#include <stdlib.h>
#include <string.h>

void redis_bulk_release(struct redis_bulks *bulks)
{
    free(bulks->items);
    *bulks = (struct redis_bulks){0};
}

/* --- names --- */

/* As redis_field. */
static void name_of(const struct redis_broker *b, struct buf *out, uint64_t number)
{
    char digits[REDIS_FENCE_DIGITS];

    decimal_fill(digits, REDIS_FENCE_DIGITS, number);
    buf_adds(out, b->field_head);
    buf_add(out, digits, sizeof(digits));
    buf_adds(out, b->field_tail);
}

static void add_key(struct redis_request *r, struct slice name)
{
    redis_key2(r, REDIS_BULK ":", name);
}

static void add_own_key(struct redis_broker *b, struct redis_request *r, uint64_t number)
{
    struct buf name = BUF_INIT;

    name_of(b, &name, number);
    add_key(r, buf_slice(&name));
    if (name.failed)
        r->keys.failed = true;
    buf_release(&name);
}

void redis_bulk_key(struct redis_broker *b, struct redis_request *r, const struct redis_bulk *bulk)
{
    add_own_key(b, r, bulk->number);
}

/* --- fetching --- */

void redis_bulk_found(struct redis_broker *b, size_t n)
{
    if (b->bulks.pause > 0)
        b->bulks.pause--;
    b->bulks.likely = n && ((int)n == b->wanted || n >= REDIS_BULK_MANY);
}

bool redis_bulk_wanted(const struct redis_broker *b, int want)
{
    return !b->bulks.pause && !b->bulks.refused && !b->look && want >= REDIS_BULK_MIN;
}

void redis_bulk_args(struct redis_broker *b, struct redis_request *r, bool wanted)
{
    if (wanted)
        redis_argi(r, (int64_t)b->bulks.last_number + 1);
    else
        redis_args(r, "");
    if (wanted && !b->bulks.likely)
        redis_argi(r, REDIS_BULK_MANY - 1);
    else
        redis_args(r, "");
}

/* The sooner of the time that it may last and a part of the lease. */
static int64_t until(const struct redis_broker *b)
{
    int64_t part = b->lease_ms / 4;

    return clock_mono_ms(b->clock) + (part < REDIS_BULK_MS ? part : REDIS_BULK_MS);
}

/* Mostly behind all others: one that is read late was put aside by the server. */
static int keep(struct redis_bulks *bulks, const struct redis_bulk *bulk)
{
    size_t at = bulks->len;

    if (bulks->len == bulks->cap) {
        size_t cap = bulks->cap ? 2 * bulks->cap : 8;
        struct redis_bulk *items = realloc(bulks->items, cap * sizeof(*items));

        if (!items)
            return -1;
        bulks->items = items;
        bulks->cap = cap;
    }
    for (; at > 0 && bulks->items[at - 1].fence > bulk->fence; at--)
        bulks->items[at] = bulks->items[at - 1];
    bulks->items[at] = *bulk;
    bulks->len++;
    return 0;
}

static void leave(struct redis_broker *b, struct slice name);

static void leave_own(struct redis_broker *b, uint64_t number)
{
    struct buf name = BUF_INIT;

    name_of(b, &name, number);
    if (!name.failed)
        leave(b, buf_slice(&name)); /* else another worker does it when its time is over */
    buf_release(&name);
}

/* What was leased under the number and has not been read; NULL: nothing. */
static struct redis_bulk *asked(struct redis_bulks *bulks, const struct redis_request *r)
{
    for (size_t i = 0; i < bulks->asked_len; i++) {
        if (bulks->asked[i].number == r->items[0].tag)
            return &bulks->asked[i];
    }
    return NULL;
}

/* One that was asked ahead comes empty where less was leased in bulk, and too early where the fetch
 * script had to be loaded again. */
static void came(void *owner, struct redis_request *r, const redisReply *reply)
{
    struct redis_broker *b = owner;
    struct redis_bulks *bulks = &b->bulks;
    struct redis_bulk *one = asked(bulks, r), bulk;

    if (!one)
        return;
    bulk = *one;
    one->number = 0;
    bulks->asked_read++;
    bulk.len = bulk.left = reply->elements < bulk.len ? reply->elements : bulk.len;
    if (bulk.len && keep(bulks, &bulk) != 0)
        leave_own(b, bulk.number);
    redis_fetched_bulk(b, &bulk, reply, bulks->asked_read == bulks->asked_len);
}

/* The messages are leased and nobody has them: the next connection finds them, and fetches one by
 * one if this one may not. */
static void not_read(void *owner, struct redis_request *r, const struct err *why)
{
    struct redis_broker *b = owner;

    if (!asked(&b->bulks, r) || why->code == ERR_RECONNECT)
        return;
    log_warn(b->log, "messages not leased in bulk any more", "error=\"%s\"", why->text);
    b->bulks.refused = true;
    b->main.broken = *why;
    b->main.broken.code = ERR_RECONNECT;
}

static const struct redis_op op_read = {.name = "fetch", .done = came, .failed = not_read};

static void read_list(struct redis_broker *b, uint64_t number)
{
    struct redis_request *r = redis_new(b, &op_read, REDIS_PLAIN, NULL);

    if (!r)
        return;
    if (redis_request_item(r, number, NULL) != 0)
        r->keys.failed = true;
    redis_key(r, slice_of("LRANGE"));
    add_own_key(b, r, number);
    redis_key(r, slice_of("0"));
    redis_key(r, slice_of("-1"));
    redis_submit(b, r, NULL);
}

void redis_bulk_read_ahead(struct redis_broker *b, bool wanted)
{
    b->bulks.ahead = wanted && b->bulks.likely ? b->bulks.usual : 0;
    for (size_t i = 1; i <= b->bulks.ahead; i++)
        read_list(b, b->bulks.last_number + i);
}

size_t redis_bulk_leased(struct redis_broker *b, const redisReply *reply, bool reloaded)
{
    struct redis_bulks *bulks = &b->bulks;
    size_t n = 0;

    bulks->asked_len = bulks->asked_read = 0;
    for (size_t i = 2; i + 2 < reply->elements && bulks->asked_len < REDIS_BULK_LISTS; i += 3) {
        struct redis_bulk *bulk = &bulks->asked[bulks->asked_len++];
        int64_t first = redis_at(reply, i + 2)->integer;

        *bulk = (struct redis_bulk){.number = ++bulks->last_number,
                                    .list = (size_t)redis_at(reply, i)->integer,
                                    .len = (size_t)redis_at(reply, i + 1)->integer,
                                    .fence = (uint64_t)(first < 0 ? -first : first),
                                    .pushed = first < 0,
                                    .until_ms = until(b)};
        n += bulk->len;
        if (bulks->asked_len > bulks->ahead || reloaded)
            read_list(b, bulk->number);
    }
    bulks->usual = bulks->asked_len;
    return n;
}

/* --- ending --- */

struct redis_bulk *redis_bulk_of(struct redis_broker *b, uint64_t fence)
{
    struct redis_bulk *items = b->bulks.items;
    size_t from = 0, end = b->bulks.len;

    while (from < end) {
        size_t mid = from + (end - from) / 2;

        if (items[mid].fence > fence)
            end = mid;
        else
            from = mid + 1;
    }
    return from && fence - items[from - 1].fence < items[from - 1].len ? &items[from - 1] : NULL;
}

static void forget(struct redis_bulks *bulks, struct redis_bulk *bulk)
{
    size_t i = (size_t)(bulk - bulks->items);

    memmove(bulk, bulk + 1, (--bulks->len - i) * sizeof(*bulk));
}

void redis_bulk_ended(struct redis_broker *b, uint64_t fence)
{
    struct redis_bulk *bulk = redis_bulk_of(b, fence);

    if (bulk && --bulk->left == 0)
        forget(&b->bulks, bulk);
}

/* --- leases of their own --- */

/* In doubt it is asked once more: then it is over, or it is not. */
static void not_left(void *owner, struct redis_request *r, const struct err *why)
{
    struct redis_broker *b = owner;
    const char *name = r->state;

    if (why->code == ERR_RECONNECT)
        leave(b, slice_of(name));
    else
        log_warn(b->log, "lease in bulk stays", "name=%s error=\"%s\"", name, why->text);
}

static const struct redis_op op_leave = {.name = "unbulk", .failed = not_left, .free_state = free};

static void leave(struct redis_broker *b, struct slice name)
{
    struct redis_request *r = redis_new(b, &op_leave, REDIS_SCRIPT_UNBULK, NULL);

    if (!r)
        return;
    r->state = slice_dup(name);
    redis_key(r, slice_of(REDIS_UNACKED));
    redis_key(r, slice_of(REDIS_INDEX));
    redis_key(r, slice_of(REDIS_BULK));
    add_key(r, name);
    if (!r->state)
        r->keys.failed = true;
    redis_submit(b, r, NULL);
}

static void leave_bulk(struct redis_broker *b, struct redis_bulk *bulk)
{
    leave_own(b, bulk->number);
    forget(&b->bulks, bulk);
}

void redis_bulk_leave(struct redis_broker *b, const struct broker_receipt *receipt)
{
    struct redis_bulk *bulk;
    struct redis_lease lease;

    redis_lease_load(&lease, receipt);
    bulk = redis_bulk_of(b, lease.fence);
    if (bulk)
        leave_bulk(b, bulk);
}

void redis_bulk_leave_unrun(struct redis_broker *b, const struct broker_receipt *receipt)
{
    size_t before = b->bulks.len;

    redis_bulk_leave(b, receipt);
    if (b->bulks.len < before)
        b->bulks.pause = REDIS_BULK_PAUSE;
}

void redis_bulk_leave_all(struct redis_broker *b)
{
    while (b->bulks.len)
        leave_bulk(b, &b->bulks.items[0]);
}

void redis_bulk_leave_old(struct redis_broker *b)
{
    int64_t now = clock_mono_ms(b->clock);

    while (b->bulks.len && b->bulks.items[0].until_ms <= now)
        leave_bulk(b, &b->bulks.items[0]);
}

int64_t redis_bulk_deadline(const struct redis_broker *b)
{
    return b->bulks.len ? b->bulks.items[0].until_ms : CLOCK_NEVER;
}

/* --- other brokers' --- */

static bool is_here(const struct redis_broker *b, uint64_t number)
{
    for (size_t i = 0; i < b->bulks.len; i++) {
        if (b->bulks.items[i].number == number)
            return true;
    }
    return false;
}

/* As a lease of its own is (redis_sweep.c). */
static bool is_orphan(const struct redis_broker *b, struct slice name)
{
    struct redis_lease lease;
    struct slice node;

    if (redis_field_parse(name, &node, &lease) != 0 || !slice_is(node, b->node))
        return false;
    if (lease.generation != b->generation)
        return lease.generation < b->generation;
    return lease.instance == b->instance && !is_here(b, lease.fence);
}

void redis_bulk_recover(struct redis_broker *b, const redisReply *all)
{
    for (size_t i = 0; i + 1 < all->elements; i += 2) {
        struct slice name = redis_slice(redis_at(all, i));

        if (name.ptr && is_orphan(b, name))
            leave(b, name);
    }
}

/* The third word of S12's value, in ms; 0 when there is none. */
static int64_t leased_at(const char *value)
{
    for (int i = 0; value && i < 2; i++) {
        value = strchr(value, ' ');
        value = value ? value + 1 : NULL;
    }
    return value ? (int64_t)(strtod(value, NULL) * 1000 + 0.5) : 0;
}

/* When the lease is over; CLOCK_NEVER when it is none. */
static int64_t over_at(struct slice name, struct slice value)
{
    struct redis_lease lease;
    struct slice node;
    int64_t at = leased_at(value.ptr);

    if (!name.ptr || at <= 0 || redis_field_parse(name, &node, &lease) != 0)
        return CLOCK_NEVER;
    return at + lease.lease_ms;
}

int64_t redis_bulk_sweep(struct redis_broker *b, const redisReply *all)
{
    int64_t now = clock_wall_ms(b->clock), next = CLOCK_NEVER;

    for (size_t i = 0; i + 1 < all->elements; i += 2) {
        struct slice name = redis_slice(redis_at(all, i));
        int64_t at = over_at(name, redis_slice(redis_at(all, i + 1)));

        if (at <= now) {
            log_info(b->log, "lease in bulk is over", "name=%.*s", SLICE_ARG(name));
            leave(b, name);
            at = now + REDIS_TICK_MS;
        }
        next = at < next ? at : next;
    }
    return next;
}

int redis_bulk_left_over(const struct redis_broker *b, const redisReply *all)
{
    int64_t now = clock_wall_ms(b->clock);
    int n = 0;

    for (size_t i = 0; i + 1 < all->elements; i += 2)
        n += over_at(redis_slice(redis_at(all, i)), redis_slice(redis_at(all, i + 1))) <= now;
    return n;
}
