/*
 * Three dispatchers over one simulated log: they claim, steal, finish, keep, release, freeze and
 * die in random order, each reads the log with its own lag, and each newcomer begins in the middle.
 *
 * Model: a publish appends to the log at once; a host learns of it when it applies it. Two judges
 * read everything from offset 0: a ledger, and a plain array that is the rules in the shortest form
 * there is. What a host was told about its own records must be what the judges saw.
 */
#include "broker/amqp_ledger.h"
#include "tests/support/check.h"

#include <stdio.h>
#include <stdlib.h>

#define HOSTS     3
#define KEYS      10000
#define HOT_KEYS  20
#define STEPS     150000
#define LOG_MAX   (2 * STEPS)
#define LEASE_MS  30000
#define LAG_MS    60000
#define RUNS_MAX  1024
#define WINDOW_MS 1800000
#define CLAIM_MS  (AMQP_LEDGER_CLAIM_S * (int64_t)1000)
#define BACK_MS   ((AMQP_LEDGER_CLAIM_S + 2 * (int64_t)AMQP_LEDGER_SLACK_S) * 1000)
#define BEGIN_MS  1795225702848

struct published {
    char *bytes; /* owned */
    size_t len;
    int64_t at_ms;
    enum amqp_ledger_verdict verdict;
};

struct run {
    int key, job;
    int64_t fence, said_ms, until_ms;
};

struct host {
    struct amqp_ledger *ledger;
    uint64_t name;
    int64_t skew_ms, applied, frozen_until_ms;
    uint64_t nonces[KEYS]; /* of the claim that is under way */
    int jobs[KEYS];        /* that it is for */
    struct run runs[RUNS_MAX];
    int runs_len;
    struct amqp_claim_record again; /* kind 0: none; a record whose confirm was lost */
    int again_key, again_job;
};

/* A key as the rules see it. */
enum plain_state { NOBODY, RUNNING, DONE, KEPT };

struct plain {
    enum plain_state state;
    int64_t owner, until_ms;
    int job;
};

struct sim {
    uint64_t random;
    int64_t now_ms;
    struct published *log;
    int64_t log_len;
    struct amqp_key keys[KEYS];
    struct host hosts[HOSTS];
    struct amqp_ledger *judge;
    struct plain plain[KEYS];
    int64_t plain_ms;
    uint64_t names, nonces;
    int steals, robbed, adopted, ghosts, refused;
};

static uint64_t roll(struct sim *s, uint64_t below)
{
    s->random ^= s->random << 13;
    s->random ^= s->random >> 7;
    s->random ^= s->random << 17;
    return (s->random >> 11) % below;
}

/* --- the plain judge --- */

static bool plain_claim(struct plain *p, const struct amqp_claim_record *r, int job, int64_t offset)
{
    int64_t owner = p->state == NOBODY ? AMQP_RECORD_NONE : p->owner;

    if (r->prev != owner || p->state == DONE || (p->state == KEPT && p->job != job))
        return false;
    p->state = RUNNING;
    p->owner = offset;
    p->job = job;
    return true;
}

static void plain_become(struct plain *p, enum plain_state state, int64_t offset)
{
    p->state = state;
    p->owner = offset;
}

static enum amqp_ledger_verdict plain_judge(struct sim *s, int key, int job,
                                            const struct amqp_claim_record *r, int64_t offset)
{
    struct plain *p = &s->plain[key];
    bool owns;

    s->plain_ms = r->now_ms > s->plain_ms ? r->now_ms : s->plain_ms;
    if (p->state != NOBODY && s->plain_ms > p->until_ms)
        p->state = NOBODY;
    if (r->kind == AMQP_CLAIM) {
        if (!plain_claim(p, r, job, offset))
            return AMQP_LEDGER_CLAIM_LOST;
        p->until_ms = r->now_ms + CLAIM_MS;
        return AMQP_LEDGER_CLAIM_WON;
    }
    owns = p->state == RUNNING && p->owner == r->prev;
    if (!owns)
        return r->kind == AMQP_CLAIM_HELD   ? AMQP_LEDGER_HELD_REFUSED
               : r->kind == AMQP_CLAIM_DONE ? AMQP_LEDGER_DONE_REFUSED
               : r->kind == AMQP_CLAIM_KEEP ? AMQP_LEDGER_KEEP_REFUSED
                                            : AMQP_LEDGER_RELEASE_REFUSED;
    if (r->kind == AMQP_CLAIM_HELD) {
        if (p->until_ms < r->now_ms + CLAIM_MS)
            p->until_ms = r->now_ms + CLAIM_MS;
        return AMQP_LEDGER_HELD;
    }
    p->until_ms = r->now_ms + r->window_ms;
    plain_become(p,
                 r->kind == AMQP_CLAIM_DONE   ? DONE
                 : r->kind == AMQP_CLAIM_KEEP ? KEPT
                                              : NOBODY,
                 offset);
    return r->kind == AMQP_CLAIM_DONE   ? AMQP_LEDGER_DONE
           : r->kind == AMQP_CLAIM_KEEP ? AMQP_LEDGER_KEPT
                                        : AMQP_LEDGER_RELEASED;
}

/* --- the log --- */

/* A job is the key's number and one of two ids, so that the id matters. */
static void job_text(char text[32], int key, int job)
{
    snprintf(text, 32, "%d of %d", job, key);
}

static void append(struct sim *s, struct amqp_claim_record *r, int key, int job)
{
    struct amqp_ledger_decision d;
    struct err e = ERR_INIT;
    struct buf bytes = BUF_INIT;
    struct published *p = &s->log[s->log_len];
    char id[32];

    assert_true(s->log_len < LOG_MAX);
    job_text(id, key, job);
    r->id = slice_of(id);
    r->key = s->keys[key];
    amqp_claim_write(&bytes, r);
    p->bytes = buf_detach(&bytes, &p->len);
    assert_non_null(p->bytes);
    p->at_ms = s->now_ms;
    CHECK_OK(
        amqp_ledger_apply(s->judge, s->log_len, slice_make(p->bytes, p->len), s->now_ms, &d, &e));
    p->verdict = plain_judge(s, key, job, r, s->log_len);
    assert_int_equal(d.verdict, p->verdict);
    s->log_len++;
    r->id = (struct slice){NULL, 0}; /* it was ours */
}

static uint64_t publish(struct sim *s, struct host *h, enum amqp_claim_kind kind, int key,
                        int64_t prev, int64_t until_ms, int job)
{
    struct amqp_claim_record r = {
        .kind = kind,
        .window_ms = (int64_t)roll(s, kind == AMQP_CLAIM_KEEP ? WINDOW_MS / 3 : WINDOW_MS),
        .until_ms = until_ms,
        .prev = prev,
        .now_ms = amqp_ledger_stamp(h->ledger, s->now_ms + h->skew_ms),
        .host = h->name,
        .nonce = ++s->nonces};

    append(s, &r, key, job);
    if (!h->again.kind && roll(s, 10) == 0) {
        h->again = r;
        h->again_key = key;
        h->again_job = job;
    }
    return r.nonce;
}

/* --- a host --- */

static int key_of(const struct sim *s, const struct amqp_key *key)
{
    uint32_t n;

    memcpy(&n, key->bytes, sizeof(n));
    n ^= 0x5a5a5a5a;
    assert_true(n < KEYS && memcmp(key, &s->keys[n], sizeof(*key)) == 0);
    return (int)n;
}

static void begin_run(struct sim *s, struct host *h, int key, int64_t fence)
{
    /* Some run for hours and have to be said again. */
    int64_t lasts_ms = roll(s, 50) == 0 ? (int64_t)roll(s, 4 * 3600000) : (int64_t)roll(s, 60000);

    assert_true(h->runs_len < RUNS_MAX);
    h->runs[h->runs_len++] =
        (struct run){key, h->jobs[key], fence, s->now_ms, s->now_ms + lasts_ms};
}

/* The host was thought lost; it never cites that fence number again. */
static void lose_run(struct sim *s, struct host *h, int64_t fence)
{
    for (int i = 0; i < h->runs_len; i++)
        if (h->runs[i].fence == fence) {
            h->runs[i] = h->runs[--h->runs_len];
            s->robbed++;
            return;
        }
}

/* The host hears what became of its own record. */
static void hear(struct sim *s, struct host *h, const struct amqp_ledger_decision *d)
{
    int key;

    if (d->verdict != AMQP_LEDGER_CLAIM_WON && d->verdict != AMQP_LEDGER_CLAIM_LOST)
        return;
    key = key_of(s, &d->key);
    if (h->nonces[key] == d->nonce) {
        h->nonces[key] = 0;
        if (d->verdict == AMQP_LEDGER_CLAIM_WON)
            begin_run(s, h, key, d->offset);
    } else if (d->verdict == AMQP_LEDGER_CLAIM_WON) {
        publish(s, h, AMQP_CLAIM_RELEASE, key, d->offset, 0, 0);
        s->ghosts++;
    }
}

static void apply_next(struct sim *s, struct host *h, bool judged)
{
    const struct published *p = &s->log[h->applied];
    struct amqp_ledger_decision d;
    struct err e = ERR_INIT;

    CHECK_OK(
        amqp_ledger_apply(h->ledger, h->applied, slice_make(p->bytes, p->len), s->now_ms, &d, &e));
    h->applied++;
    if (!judged)
        return;
    assert_int_equal(d.verdict, p->verdict);
    if (d.robbed)
        lose_run(s, h, d.prev);
    if (d.own)
        hear(s, h, &d);
}

static void end_run(struct sim *s, struct host *h, int i)
{
    static const enum amqp_claim_kind kinds[] = {AMQP_CLAIM_DONE, AMQP_CLAIM_DONE, AMQP_CLAIM_DONE,
                                                 AMQP_CLAIM_KEEP, AMQP_CLAIM_RELEASE};
    struct run run = h->runs[i];
    enum amqp_claim_kind kind = kinds[roll(s, sizeof(kinds) / sizeof(kinds[0]))];

    h->runs[i] = h->runs[--h->runs_len];
    publish(s, h, kind, run.key, run.fence, 0, run.job);
}

/* One of the host's own runs: it ends, or is said again when it is time. */
static void tend(struct sim *s, struct host *h)
{
    int i = h->runs_len ? (int)roll(s, (uint64_t)h->runs_len) : -1;

    for (int j = 0; j < h->runs_len; j++)
        if (s->now_ms - h->runs[j].said_ms > AMQP_LEDGER_HELD_S * (int64_t)1000) {
            h->runs[j].said_ms = s->now_ms;
            publish(s, h, AMQP_CLAIM_HELD, h->runs[j].key, h->runs[j].fence, 0, h->runs[j].job);
        }
    if (i >= 0 && h->runs[i].until_ms <= s->now_ms)
        end_run(s, h, i);
}

/* A confirm that was lost: the record is published once more, after others. */
static void publish_again(struct sim *s, struct host *h)
{
    if (h->again.kind && roll(s, 10) == 0) {
        append(s, &h->again, h->again_key, h->again_job);
        h->again = (struct amqp_claim_record){0};
    }
}

static void try_claim(struct sim *s, struct host *h)
{
    int key = (int)roll(s, roll(s, 2) ? KEYS : HOT_KEYS), job = (int)roll(s, 2);
    struct amqp_ledger_view view;
    char id[32];

    if (h->nonces[key])
        return;
    amqp_ledger_lookup(h->ledger, &s->keys[key], s->now_ms + h->skew_ms, &view);
    job_text(id, key, job);
    if (view.state == AMQP_LEDGER_OVER)
        return;
    if (view.state == AMQP_LEDGER_WAITING && !slice_is(view.id, id))
        return;
    if (view.state == AMQP_LEDGER_RUNNING && view.steal_at_ms > s->now_ms)
        return;
    s->steals += view.state == AMQP_LEDGER_RUNNING;
    h->jobs[key] = job;
    h->nonces[key] = publish(s, h, AMQP_CLAIM, key, view.offset, view.until_ms, job);
}

/* A dispatcher that starts: a new name, the log from as far back as the header asks for. */
static void start_host(struct sim *s, struct host *h)
{
    struct amqp_ledger_stats stats;

    *h = (struct host){.name = ++s->names, .skew_ms = (int64_t)roll(s, 10000) - 5000};
    h->ledger =
        amqp_ledger_new(&(struct amqp_ledger_config){.host = h->name, .lease_ms = LEASE_MS});
    assert_non_null(h->ledger);
    while (h->applied < s->log_len && s->log[h->applied].at_ms < s->now_ms - BACK_MS)
        h->applied++;
    while (h->applied < s->log_len)
        apply_next(s, h, false);
    assert_int_equal(amqp_ledger_digest(h->ledger), amqp_ledger_digest(s->judge));
    amqp_ledger_stats(h->ledger, &stats);
    s->adopted += (int)stats.adopted;
}

static void stop_host(struct host *h)
{
    amqp_ledger_free(h->ledger);
    h->ledger = NULL;
}

static void read_log(struct sim *s, struct host *h)
{
    int64_t most = (int64_t)roll(s, 200);

    while (h->applied < s->log_len &&
           (most-- > 0 || s->log[h->applied].at_ms < s->now_ms - LAG_MS / 2))
        apply_next(s, h, true);
}

static void step(struct sim *s)
{
    struct host *h = &s->hosts[roll(s, HOSTS)];

    s->now_ms += (int64_t)roll(s, 400);
    if (roll(s, 15000) == 0) {
        stop_host(h);
        start_host(s, h);
    }
    if (roll(s, 3000) == 0)
        h->frozen_until_ms = s->now_ms + (int64_t)roll(s, LAG_MS);
    if (h->frozen_until_ms > s->now_ms)
        return;
    if (roll(s, 4) == 0)
        read_log(s, h);
    tend(s, h);
    publish_again(s, h);
    try_claim(s, h);
}

/* The judges agree with one another on everybody. */
static void check_keys(struct sim *s)
{
    static const enum amqp_ledger_state states[] = {[NOBODY] = AMQP_LEDGER_NONE,
                                                    [RUNNING] = AMQP_LEDGER_RUNNING,
                                                    [DONE] = AMQP_LEDGER_OVER,
                                                    [KEPT] = AMQP_LEDGER_WAITING};

    for (int key = 0; key < KEYS; key++) {
        struct plain *p = &s->plain[key];
        struct amqp_ledger_view view;

        if (s->plain_ms > p->until_ms)
            p->state = NOBODY;
        amqp_ledger_lookup(s->judge, &s->keys[key], s->plain_ms, &view);
        assert_int_equal(view.state, states[p->state]);
        if (p->state != NOBODY)
            assert_int_equal(view.offset, p->owner);
    }
}

static void check_end(struct sim *s)
{
    struct amqp_ledger_stats stats;

    for (int i = 0; i < HOSTS; i++) {
        while (s->hosts[i].applied < s->log_len)
            apply_next(s, &s->hosts[i], true);
        assert_int_equal(amqp_ledger_time(s->hosts[i].ledger), amqp_ledger_time(s->judge));
    }
    for (int i = 0; i < HOSTS; i++) {
        while (s->hosts[i].applied < s->log_len)
            apply_next(s, &s->hosts[i], true);
        assert_int_equal(amqp_ledger_digest(s->hosts[i].ledger), amqp_ledger_digest(s->judge));
    }
    check_keys(s);
    amqp_ledger_stats(s->judge, &stats);
    print_message(
        "%d records, %d won, %d lost, %d refused, %d steals tried, %d robbed, %d adopted, "
        "%d won by a copy\n",
        (int)s->log_len, (int)stats.won, (int)stats.lost, (int)stats.refused, s->steals, s->robbed,
        s->adopted, s->ghosts);
    /* All of it happened. */
    assert_true(stats.won > 10000 && stats.lost > 1000 && stats.done > 5000 && stats.refused > 10);
    assert_true(s->steals > 100 && s->robbed > 10 && s->adopted > 10 && s->ghosts > 0);
}

static void simulate(uint64_t seed)
{
    struct sim *s = calloc(1, sizeof(*s));

    assert_non_null(s);
    s->random = seed;
    s->now_ms = BEGIN_MS;
    s->log = calloc(LOG_MAX, sizeof(*s->log));
    s->judge = amqp_ledger_new(&(struct amqp_ledger_config){.host = UINT64_MAX});
    assert_true(s->log && s->judge);
    for (int key = 0; key < KEYS; key++) {
        uint32_t n = (uint32_t)key ^ 0x5a5a5a5a;

        memcpy(s->keys[key].bytes, &n, sizeof(n));
    }
    for (int i = 0; i < HOSTS; i++)
        start_host(s, &s->hosts[i]);
    for (int i = 0; i < STEPS; i++)
        step(s);
    check_end(s);
    for (int i = 0; i < HOSTS; i++)
        stop_host(&s->hosts[i]);
    for (int64_t i = 0; i < s->log_len; i++)
        free(s->log[i].bytes);
    amqp_ledger_free(s->judge);
    free(s->log);
    free(s);
}

static void replicas_agree_whatever_happens(void **state)
{
#ifdef CELERIAC_VALGRIND
    static const uint64_t seeds[] = {88172645463325252u};
#else
    static const uint64_t seeds[] = {88172645463325252u, 0x9e3779b97f4a7c15u, 20261121u};
#endif

    (void)state;
    for (size_t i = 0; i < sizeof(seeds) / sizeof(seeds[0]); i++)
        simulate(seeds[i]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(replicas_agree_whatever_happens),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
