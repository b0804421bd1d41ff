#include "broker/amqp_ledger.h"

#include "base/clock.h"
#include "broker/amqp_hosts.h"
#include "broker/amqp_keys.h"

#include <stdlib.h>
#include <xxhash.h>

#define LEASE_MS 30000
#define DOCS_MAX ((size_t)64 << 20)
#define CLAIM_MS ((int64_t)AMQP_LEDGER_CLAIM_S * 1000)
#define SLACK_MS ((int64_t)AMQP_LEDGER_SLACK_S * 1000)
/* Each record adds at most one entry, so this many removals keep up and catch up. */
#define REMOVALS_PER_RECORD 4

struct amqp_ledger {
    struct amqp_ledger_config config;
    struct amqp_keys keys;
    struct amqp_hosts hosts;
    bool started;  /* some record was seen */
    bool stamped;  /* begin_ms is known */
    int64_t first; /* offset of the first record */
    int64_t next;  /* offset after the last one */

    int64_t begin_ms; /* log time at the beginning */
    int64_t now_ms;   /* log time */
    struct amqp_ledger_stats stats;
    char id[AMQP_ENTRY_TEXT]; /* of the view handed out last */
};

/* What is known of a record's key. */
struct found {
    uint32_t slot; /* 0: nothing */
    struct amqp_entry *entry;
    int64_t owner; /* offset that a record must build on */
};

struct amqp_ledger *amqp_ledger_new(const struct amqp_ledger_config *config)
{
    struct amqp_ledger *l = calloc(1, sizeof(*l));

    if (!l)
        return NULL;
    l->config = *config;
    if (!l->config.lease_ms)
        l->config.lease_ms = LEASE_MS;
    if (!l->config.docs_max)
        l->config.docs_max = DOCS_MAX;
    amqp_keys_init(&l->keys, l->config.docs_max, SLACK_MS);
    amqp_hosts_init(&l->hosts, l->config.lease_ms);
    return l;
}

void amqp_ledger_free(struct amqp_ledger *l)
{
    if (!l)
        return;
    amqp_keys_release(&l->keys);
    amqp_hosts_release(&l->hosts);
    free(l);
}

void amqp_ledger_reset(struct amqp_ledger *l)
{
    struct amqp_ledger_stats stats = l->stats;

    amqp_keys_release(&l->keys);
    amqp_hosts_release(&l->hosts);
    *l = (struct amqp_ledger){
        .config = l->config, .keys = l->keys, .hosts = l->hosts, .stats = stats};
}

/* --- what is known --- */

static bool is_owned(const struct amqp_entry *entry, int64_t now_ms)
{
    return entry->state != AMQP_ENTRY_FREE && now_ms <= entry->until_ms;
}

/* An entry is remembered beyond its end, so that a late record does not find its key unknown. How
 * long is a matter of log time, not of when the memory is reused: all replicas must agree. */
static void find(const struct amqp_ledger *l, const struct amqp_key *key, struct found *f)
{
    *f = (struct found){.slot = amqp_keys_find(&l->keys, key), .owner = AMQP_RECORD_NONE};
    if (!f->slot)
        return;
    f->entry = amqp_keys_at(&l->keys, f->slot);
    if (is_owned(f->entry, l->now_ms))
        f->owner = f->entry->offset;
    else if (f->entry->until_ms + SLACK_MS < l->now_ms)
        f->entry = NULL;
}

/* This replica began in the middle of the log, so recently that it may not know who owns what. */
static bool is_partial(const struct amqp_ledger *l)
{
    return l->first > 0 && l->now_ms - l->begin_ms <= CLAIM_MS;
}

/* So recently that even what it has seen may have been decided by what it has not. */
static bool is_hazy(const struct amqp_ledger *l)
{
    return l->first > 0 && l->now_ms - l->begin_ms <= SLACK_MS;
}

/* A publisher cites only what it saw win, and says with a claim for how long that holds. So an
 * offset from before the first record is taken for the owner when the key is unknown; and when what
 * is known of the key is in doubt, a citation of something newer than what that was built on
 * corrects it, unless it is of the very state that has ended since. */
static bool is_witness(const struct amqp_ledger *l, const struct found *f,
                       const struct amqp_claim_record *r)
{
    int64_t prev = r->prev;

    if (prev < 0 || !is_partial(l) || (r->kind == AMQP_CLAIM && l->now_ms > r->until_ms))
        return false;
    if (!f->entry)
        return prev < l->first;
    return f->entry->doubtful && prev > f->entry->base && prev != f->entry->offset;
}

/* Compare-and-swap: does the record build on what is? */
static bool builds_on(struct amqp_ledger *l, const struct found *f,
                      const struct amqp_claim_record *r)
{
    if (r->prev == f->owner)
        return true;
    if (!is_witness(l, f, r))
        return false;
    l->stats.adopted++;
    return true;
}

/* --- what a record does --- */

/* The offset that a record superseded: the one that it names, or for a claim on a key that nobody
 * owned any more the one that ended it. */
static int64_t superseded(const struct found *f, const struct amqp_claim_record *r)
{
    return r->prev == AMQP_RECORD_NONE && f->entry ? f->entry->offset : r->prev;
}

/* Counted from the record's own stamp, so that a record and its copy mean the same time. */
static int64_t until_ms(const struct amqp_ledger *l, const struct amqp_claim_record *r,
                        enum amqp_entry_state state)
{
    if (state == AMQP_ENTRY_FREE)
        return l->now_ms;
    return r->now_ms + (state == AMQP_ENTRY_RUNNING ? CLAIM_MS : r->window_ms);
}

/* Whether the record may have been misjudged for lack of what came before the first one. To be
 * cited by its owner ends the doubt about a state. */
static bool is_doubtful(const struct amqp_ledger *l, const struct found *f,
                        const struct amqp_claim_record *r)
{
    if (r->prev >= l->first && r->prev == f->owner)
        return false;
    return is_hazy(l) || (f->entry && f->entry->doubtful);
}

/* Puts the key into a new state that the record brings about as of `offset`. */
static int settle(struct amqp_ledger *l, struct found *f, const struct amqp_claim_record *r,
                  enum amqp_entry_state state, int64_t offset)
{
    int64_t base = superseded(f, r);
    bool doubtful = is_doubtful(l, f, r);

    if (!f->slot)
        f->slot = amqp_keys_add(&l->keys, &r->key);
    if (!f->slot)
        return -1;
    f->entry = amqp_keys_at(&l->keys, f->slot);
    amqp_keys_change(&l->keys, f->slot, state, until_ms(l, r, state), l->now_ms);
    amqp_keys_set_doc(&l->keys, f->slot, slice_make(NULL, 0));
    f->entry->offset = offset;
    f->entry->host = r->host;
    f->entry->base = base;
    f->entry->doubtful = doubtful;
    return amqp_keys_set_id(&l->keys, f->slot, r->id);
}

static bool is_running(const struct found *f)
{
    return f->owner != AMQP_RECORD_NONE && f->entry->state == AMQP_ENTRY_RUNNING;
}

/* A done key is nobody's to claim, a kept one only the job's that it is kept for. */
static bool is_closed(const struct found *f, const struct amqp_claim_record *r)
{
    char room[AMQP_ENTRY_TEXT];

    if (f->owner == AMQP_RECORD_NONE || r->prev != f->owner)
        return false;
    return f->entry->state == AMQP_ENTRY_DONE ||
           (f->entry->state == AMQP_ENTRY_KEPT && !slice_eq(amqp_keys_id(f->entry, room), r->id));
}

/* What a key's owner says counts while it runs, or when it is the first that is heard of it. */
static bool owner_speaks(struct amqp_ledger *l, const struct found *f,
                         const struct amqp_claim_record *r)
{
    if (r->prev == f->owner)
        return is_running(f);
    return builds_on(l, f, r);
}

static int on_claim(struct amqp_ledger *l, struct found *f, const struct amqp_claim_record *r,
                    struct amqp_ledger_decision *d)
{
    bool mine = is_running(f) && f->entry->host == l->config.host;

    if (is_closed(f, r) || !builds_on(l, f, r)) {
        d->verdict = AMQP_LEDGER_CLAIM_LOST;
        l->stats.lost++;
        return 0;
    }
    d->verdict = AMQP_LEDGER_CLAIM_WON;
    d->robbed = mine && !d->own;
    l->stats.won++;
    return settle(l, f, r, AMQP_ENTRY_RUNNING, d->offset);
}

static void hold(struct amqp_ledger *l, const struct found *f, const struct amqp_claim_record *r)
{
    int64_t until = until_ms(l, r, AMQP_ENTRY_RUNNING);

    if (until > f->entry->until_ms)
        amqp_keys_change(&l->keys, f->slot, AMQP_ENTRY_RUNNING, until, l->now_ms);
}

static int on_held(struct amqp_ledger *l, struct found *f, const struct amqp_claim_record *r,
                   struct amqp_ledger_decision *d)
{
    d->verdict = AMQP_LEDGER_HELD;
    if (is_running(f) && r->prev == f->owner && r->host == f->entry->host) {
        hold(l, f, r);
        return 0;
    }
    if (r->prev != f->owner && builds_on(l, f, r))
        return settle(l, f, r, AMQP_ENTRY_RUNNING, r->prev);
    d->verdict = AMQP_LEDGER_HELD_REFUSED;
    l->stats.refused++;
    return 0;
}

/* The three ways in which an owner ends its run. */
struct end {
    enum amqp_entry_state state;
    enum amqp_ledger_verdict applied, refused;
};

static const struct end ends[] = {
    [AMQP_CLAIM_DONE] = {AMQP_ENTRY_DONE, AMQP_LEDGER_DONE, AMQP_LEDGER_DONE_REFUSED},
    [AMQP_CLAIM_KEEP] = {AMQP_ENTRY_KEPT, AMQP_LEDGER_KEPT, AMQP_LEDGER_KEEP_REFUSED},
    [AMQP_CLAIM_RELEASE] = {AMQP_ENTRY_FREE, AMQP_LEDGER_RELEASED, AMQP_LEDGER_RELEASE_REFUSED},
};

static int on_end(struct amqp_ledger *l, struct found *f, const struct amqp_claim_record *r,
                  struct amqp_ledger_decision *d)
{
    const struct end *end = &ends[r->kind];

    if (!owner_speaks(l, f, r)) {
        d->verdict = end->refused;
        l->stats.refused++;
        return 0;
    }
    d->verdict = end->applied;
    l->stats.done += end->state == AMQP_ENTRY_DONE;
    if (settle(l, f, r, end->state, d->offset) != 0)
        return -1;
    if (end->state == AMQP_ENTRY_DONE)
        amqp_keys_set_doc(&l->keys, f->slot, r->doc);
    return 0;
}

static int on_alive(struct amqp_ledger *l, struct found *f, const struct amqp_claim_record *r,
                    struct amqp_ledger_decision *d)
{
    (void)l;
    (void)f;
    d->verdict = r->kind == AMQP_CLAIM_SYNC && d->own ? AMQP_LEDGER_SYNCED : AMQP_LEDGER_SEEN;
    return 0;
}

typedef int rule_fn(struct amqp_ledger *l, struct found *f, const struct amqp_claim_record *r,
                    struct amqp_ledger_decision *d);

static rule_fn *const rules[] = {
    [AMQP_CLAIM] = on_claim,      [AMQP_CLAIM_ALIVE] = on_alive, [AMQP_CLAIM_HELD] = on_held,
    [AMQP_CLAIM_DONE] = on_end,   [AMQP_CLAIM_KEEP] = on_end,    [AMQP_CLAIM_RELEASE] = on_end,
    [AMQP_CLAIM_SYNC] = on_alive,
};

/* Keeps the place in the log; false: this offset was applied already. */
static bool advance(struct amqp_ledger *l, int64_t offset, struct amqp_ledger_decision *d)
{
    if (l->started && offset < l->next)
        return false;
    if (l->started && offset > l->next + AMQP_LEDGER_FOREIGN) {
        amqp_ledger_reset(l);
        d->gap = true;
    }
    if (!l->started)
        l->first = offset;
    l->started = true;
    l->next = offset + 1;
    return true;
}

/* A sync is written by one who does not know the time of the log yet: it may hurry T, but not say
 * where this replica began. */
static void advance_time(struct amqp_ledger *l, const struct amqp_claim_record *r)
{
    if (r->now_ms > l->now_ms)
        l->now_ms = r->now_ms;
    if (!l->stamped)
        l->begin_ms = l->now_ms;
    if (r->kind != AMQP_CLAIM_SYNC)
        l->stamped = true;
}

int amqp_ledger_apply(struct amqp_ledger *l, int64_t offset, struct slice record, int64_t seen_ms,
                      struct amqp_ledger_decision *d, struct err *e)
{
    struct amqp_claim_record r;
    struct found f;

    *d = (struct amqp_ledger_decision){.verdict = AMQP_LEDGER_SKIPPED, .offset = offset};
    if (!advance(l, offset, d) || !amqp_claim_read(&r, record)) {
        l->stats.skipped++;
        return 0;
    }
    l->stats.applied++;
    advance_time(l, &r);
    amqp_keys_expire(&l->keys, l->now_ms, REMOVALS_PER_RECORD);
    d->own = r.host == l->config.host;
    d->nonce = r.nonce;
    d->prev = r.prev;
    d->key = r.key;
    find(l, &r.key, &f);
    if (amqp_hosts_see(&l->hosts, r.host, seen_ms) != 0 || rules[r.kind](l, &f, &r, d) != 0)
        return err_nomem(e);
    return 0;
}

/* --- questions --- */

void amqp_ledger_lookup(struct amqp_ledger *l, const struct amqp_key *key, int64_t now_ms,
                        struct amqp_ledger_view *view)
{
    static const enum amqp_ledger_state states[] = {
        [AMQP_ENTRY_RUNNING] = AMQP_LEDGER_RUNNING,
        [AMQP_ENTRY_DONE] = AMQP_LEDGER_OVER,
        [AMQP_ENTRY_KEPT] = AMQP_LEDGER_WAITING,
    };
    uint32_t slot = amqp_keys_find(&l->keys, key);
    const struct amqp_entry *entry = slot ? amqp_keys_at(&l->keys, slot) : NULL;

    *view = (struct amqp_ledger_view){.offset = AMQP_RECORD_NONE, .steal_at_ms = CLOCK_NEVER};
    if (!entry || !is_owned(entry, amqp_ledger_stamp(l, now_ms)))
        return;
    view->offset = entry->offset;
    view->host = entry->host;
    view->own = entry->host == l->config.host;
    view->until_ms = entry->until_ms;
    view->id = amqp_keys_id(entry, l->id);
    view->state = states[entry->state];
    if (entry->doc)
        view->doc = slice_make(entry->doc->bytes, entry->doc->len);
    if (entry->state == AMQP_ENTRY_RUNNING && !view->own)
        view->steal_at_ms = amqp_hosts_lost_at(&l->hosts, entry->host);
}

int64_t amqp_ledger_stamp(const struct amqp_ledger *l, int64_t now_ms)
{
    return now_ms > l->now_ms ? now_ms : l->now_ms;
}

int64_t amqp_ledger_time(const struct amqp_ledger *l)
{
    return l->now_ms;
}

int64_t amqp_ledger_next(const struct amqp_ledger *l)
{
    return l->next;
}

void amqp_ledger_stats(const struct amqp_ledger *l, struct amqp_ledger_stats *out)
{
    *out = l->stats;
    out->keys = l->keys.len;
    out->docs = l->keys.docs_len;
    out->bytes = amqp_keys_bytes(&l->keys) + sizeof(*l);
    out->hosts = l->hosts.len;
}

struct digest {
    const struct amqp_ledger *l;
    uint64_t sum;
};

static void digest_entry(void *context, const struct amqp_entry *entry)
{
    struct digest *digest = context;
    struct {
        struct amqp_key key;
        uint64_t host;
        int64_t offset;
        uint64_t state;
        uint64_t id;
    } row = {
        .key = entry->key, .host = entry->host, .offset = entry->offset, .state = entry->state};
    char room[AMQP_ENTRY_TEXT];
    struct slice id = amqp_keys_id(entry, room);

    if (!is_owned(entry, digest->l->now_ms))
        return;
    row.id = XXH3_64bits(id.ptr, id.len);
    digest->sum += XXH3_64bits(&row, sizeof(row));
}

uint64_t amqp_ledger_digest(const struct amqp_ledger *l)
{
    struct digest digest = {.l = l};

    amqp_keys_each(&l->keys, digest_entry, &digest);
    return digest.sum;
}
