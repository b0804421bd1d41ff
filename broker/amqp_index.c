#include "broker/amqp_index.h"

#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#define WINDOW_MS  3600000
#define MAX        ((size_t)4000000)
#define RING_MIN   256
#define NO_OUTCOME 0
/* Each record adds at most one pair, so this many removals keep up and catch up. */
#define REMOVALS_PER_RECORD 4

/* One pair, in the ring of all pairs in log order: the oldest is also the first to be forgotten. */
struct pair {
    struct amqp_key key;
    int64_t offset;
    int64_t at_ms;
    uint32_t outcome; /* NO_OUTCOME: taken back */
};

/* Pairs are numbered as they come; number % cap is a pair's place in the ring, of any capacity. */
struct bucket {
    uint32_t number; /* its low bits */
    uint32_t tag;    /* 0: empty */
};

struct amqp_index {
    struct amqp_index_config config;
    struct pair *ring;      /* owned */
    size_t cap;             /* a power of two, or 0 */
    struct bucket *buckets; /* owned; 2 * cap */
    uint64_t begin;         /* number of the oldest pair */
    uint64_t end;           /* number of the next pair */
    int64_t now_ms;
    int64_t next;
    uint64_t evicted;
    struct amqp_index_counters counters;
};

struct amqp_index *amqp_index_new(const struct amqp_index_config *config)
{
    struct amqp_index *x = calloc(1, sizeof(*x));

    if (!x)
        return NULL;
    x->config = *config;
    if (!x->config.window_ms)
        x->config.window_ms = WINDOW_MS;
    if (!x->config.max)
        x->config.max = MAX;
    return x;
}

void amqp_index_reset(struct amqp_index *x)
{
    free(x->ring);
    free(x->buckets);
    *x = (struct amqp_index){.config = x->config};
}

void amqp_index_free(struct amqp_index *x)
{
    if (!x)
        return;
    amqp_index_reset(x);
    free(x);
}

/* --- pairs and buckets --- */

static struct amqp_key key_of(struct slice id, uint32_t retries)
{
    struct amqp_key key;
    XXH128_canonical_t canonical;

    XXH128_canonicalFromHash(&canonical, XXH3_128bits_withSeed(id.ptr, id.len, retries));
    memcpy(key.bytes, canonical.digest, sizeof(key.bytes));
    return key;
}

static uint32_t tag_of(const struct amqp_key *key)
{
    uint32_t tag;

    memcpy(&tag, key->bytes, sizeof(tag));
    return tag | 0x80000000u;
}

static size_t mask_of(const struct amqp_index *x)
{
    return 2 * x->cap - 1;
}

static struct pair *pair_at(const struct amqp_index *x, uint64_t number)
{
    return &x->ring[number & (x->cap - 1)];
}

static struct bucket *find_bucket(const struct amqp_index *x, const struct amqp_key *key)
{
    uint32_t tag = tag_of(key);

    if (!x->cap)
        return NULL;
    for (size_t i = tag & mask_of(x); x->buckets[i].tag; i = (i + 1) & mask_of(x))
        if (x->buckets[i].tag == tag &&
            memcmp(&pair_at(x, x->buckets[i].number)->key, key, sizeof(*key)) == 0)
            return &x->buckets[i];
    return NULL;
}

static void put_bucket(struct amqp_index *x, uint64_t number)
{
    uint32_t tag = tag_of(&pair_at(x, number)->key);
    size_t i = tag & mask_of(x);

    while (x->buckets[i].tag)
        i = (i + 1) & mask_of(x);
    x->buckets[i] = (struct bucket){(uint32_t)number, tag};
}

/* Closes the gap that a removal leaves, so that no probe ends too early. */
static void remove_bucket(struct amqp_index *x, struct bucket *bucket)
{
    size_t mask = mask_of(x), gap = (size_t)(bucket - x->buckets);

    for (size_t i = (gap + 1) & mask; x->buckets[i].tag; i = (i + 1) & mask) {
        size_t from_home = (i - (x->buckets[i].tag & mask)) & mask;

        if (from_home >= ((i - gap) & mask)) {
            x->buckets[gap] = x->buckets[i];
            gap = i;
        }
    }
    x->buckets[gap] = (struct bucket){0, 0};
}

/* Another pair of the same key may have come since: then the bucket is that one's. */
static void remove_oldest(struct amqp_index *x)
{
    struct bucket *bucket = find_bucket(x, &pair_at(x, x->begin)->key);

    if (bucket && bucket->number == (uint32_t)x->begin)
        remove_bucket(x, bucket);
    x->begin++;
}

static int grow(struct amqp_index *x)
{
    struct amqp_index old = *x;
    size_t cap = x->cap ? 2 * x->cap : RING_MIN;
    struct pair *ring = malloc(cap * sizeof(*ring));
    struct bucket *buckets = calloc(2 * cap, sizeof(*buckets));

    if (!ring || !buckets) {
        free(ring);
        free(buckets);
        return -1;
    }
    x->ring = ring;
    x->buckets = buckets;
    x->cap = cap;
    for (uint64_t n = x->begin; n < x->end; n++) {
        *pair_at(x, n) = *pair_at(&old, n);
        put_bucket(x, n);
    }
    free(old.ring);
    free(old.buckets);
    return 0;
}

static int add_pair(struct amqp_index *x, const struct amqp_key *key, int64_t offset,
                    enum amqp_result_outcome outcome)
{
    if (x->end - x->begin == x->config.max) {
        remove_oldest(x);
        x->evicted++;
    }
    if (x->end - x->begin == x->cap && grow(x) != 0)
        return -1;
    *pair_at(x, x->end) = (struct pair){*key, offset, x->now_ms, outcome};
    put_bucket(x, x->end);
    x->end++;
    return 0;
}

static bool is_over(const struct amqp_index *x, const struct pair *pair)
{
    return x->now_ms - pair->at_ms > x->config.window_ms;
}

static void expire(struct amqp_index *x)
{
    for (int i = 0; i < REMOVALS_PER_RECORD && x->begin < x->end; i++) {
        if (!is_over(x, pair_at(x, x->begin)))
            return;
        remove_oldest(x);
    }
}

/* --- what a record does --- */

/* The pair that is known under the key, with its bucket; NULL: none that counts. */
static struct pair *known_pair(const struct amqp_index *x, const struct amqp_key *key)
{
    const struct bucket *bucket = find_bucket(x, key);
    struct pair *pair = bucket ? pair_at(x, bucket->number) : NULL;

    return pair && !is_over(x, pair) ? pair : NULL;
}

static uint64_t *counter_of(struct amqp_index_counters *c, enum amqp_result_outcome outcome)
{
    uint64_t *const counters[AMQP_RESULT_SYNC + 1] = {[AMQP_RESULT_SUCCEEDED] = &c->succeeded,
                                                      [AMQP_RESULT_FAILED] = &c->failed,
                                                      [AMQP_RESULT_CONTINUES] = &c->retried,
                                                      [AMQP_RESULT_DEAD] = &c->dead};

    return counters[outcome];
}

static int on_end(struct amqp_index *x, int64_t offset, const struct amqp_result_record *r,
                  bool *counted)
{
    struct amqp_key key = key_of(r->id, r->retries);
    struct pair *pair = known_pair(x, &key);
    struct bucket *bucket;
    bool counts = !(r->flags & AMQP_RESULT_UNCOUNTED);

    if (pair && pair->outcome != NO_OUTCOME) {
        x->counters.duplicates += counts;
        return 0;
    }
    bucket = find_bucket(x, &key);
    if (bucket)
        remove_bucket(x, bucket);
    if (add_pair(x, &key, offset, r->outcome) != 0)
        return -1;
    if (r->flags & AMQP_RESULT_TWIN)
        x->counters.duplicates++;
    else
        *counter_of(&x->counters, r->outcome) += counts;
    *counted = counts;
    return 0;
}

/* Of a pair that is not known any more the record is believed. */
static void on_revived(struct amqp_index *x, const struct amqp_result_record *r)
{
    struct amqp_key key = key_of(r->id, r->retries);
    struct pair *pair = known_pair(x, &key);

    if (pair && pair->outcome != AMQP_RESULT_DEAD)
        return;
    if (pair)
        pair->outcome = NO_OUTCOME;
    x->counters.revived++;
}

static void on_other(struct amqp_index *x, const struct amqp_result_record *r)
{
    if (r->outcome == AMQP_RESULT_REVIVED)
        on_revived(x, r);
    if (r->outcome == AMQP_RESULT_REMOVED)
        x->counters.removed += r->count;
    if (r->outcome == AMQP_RESULT_PURGED) {
        x->counters.purged += r->count;
        x->counters.failed += r->count;
    }
}

int amqp_index_apply(struct amqp_index *x, int64_t offset, const struct amqp_result_record *r,
                     bool *counted, struct err *e)
{
    *counted = false;
    if (offset < x->next)
        return 0;
    x->next = offset + 1;
    if (r->now_ms > x->now_ms)
        x->now_ms = r->now_ms;
    expire(x);
    if (!counter_of(&x->counters, r->outcome))
        on_other(x, r);
    else if (on_end(x, offset, r, counted) != 0)
        return err_nomem(e);
    return 0;
}

/* --- questions --- */

bool amqp_index_find(const struct amqp_index *x, struct slice id, uint32_t retries,
                     struct amqp_index_entry *entry)
{
    struct amqp_key key = key_of(id, retries);
    const struct pair *pair = known_pair(x, &key);

    if (!pair || pair->outcome == NO_OUTCOME)
        return false;
    if (entry)
        *entry = (struct amqp_index_entry){(enum amqp_result_outcome)pair->outcome, pair->offset,
                                           pair->at_ms};
    return true;
}

void amqp_index_counters(const struct amqp_index *x, struct amqp_index_counters *out)
{
    *out = x->counters;
}

size_t amqp_index_len(const struct amqp_index *x)
{
    return (size_t)(x->end - x->begin);
}

uint64_t amqp_index_evicted(const struct amqp_index *x)
{
    return x->evicted;
}

int64_t amqp_index_time(const struct amqp_index *x)
{
    return x->now_ms;
}

int64_t amqp_index_next(const struct amqp_index *x)
{
    return x->next;
}
