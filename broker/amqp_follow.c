/* Following the claim ledger: where to begin, the barrier, what is said from time to time. */
#include "broker/amqp_claim.h"

#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#define HOUR_MS    ((int64_t)AMQP_LEDGER_CLAIM_S * 1000)
#define HORIZON_MS ((int64_t)CLAIMS_WINDOW_MAX_S * 1000)
/* Between the stamps of dispatchers, and between them and the server's clock. */
#define SLACK_MS (2 * (int64_t)AMQP_LEDGER_SLACK_S * 1000)
/* The own sync was confirmed and nothing at all is read for so long. */
#define STUCK_MS 10000
#define RETRY_MS 60000
#define REACH_MS ((int64_t)AMQP_LEDGER_HELD_S * 1000)
#define LOOK_MS  30000

/* --- who is who --- */

/* Half a turn of the generations, which count milliseconds as a rule, is nine hours: much longer
 * than the lease after which a predecessor is thought lost in any case. */
#define NODE_BITS       32
#define GENERATION_BITS 26
#define CHANCE_BITS     6
#define GENERATIONS     ((uint64_t)1 << GENERATION_BITS)

/* Node, generation (modulo GENERATIONS), chance. */
static uint64_t make_host(struct amqp_broker *b, uint64_t generation)
{
    uint64_t node = XXH3_64bits(b->node, strlen(b->node)) >> (64 - NODE_BITS);
    uint64_t chance = uuid_random(&b->random) >> (64 - CHANCE_BITS);

    return node << (64 - NODE_BITS) | generation % GENERATIONS << CHANCE_BITS | chance;
}

bool follow_is_predecessor(const struct amqp_claims *c, uint64_t host)
{
    uint64_t ahead = ((c->host >> CHANCE_BITS) - (host >> CHANCE_BITS)) % GENERATIONS;

    return (c->host ^ host) >> (64 - NODE_BITS) == 0 && ahead != 0 && ahead < GENERATIONS / 2;
}

/* --- writing --- */

static void on_ignored(struct amqp_broker *b, struct out_step *step, const struct err *why)
{
    (void)b;
    (void)step;
    (void)why; /* said again in time */
}

int follow_write(struct amqp_broker *b, struct amqp_claim_record *r, out_done_fn *done,
                 struct err *e)
{
    struct amqp_claims *c = b->claims;
    struct buf bytes = BUF_INIT;
    struct out_spec spec = {.routing_key = slice_of(AMQP_LEDGER_STREAM), .persistent = true};
    struct out_step *step = out_step_new(done ? done : on_ignored, BROKER_STORED, c->nonce + 1);
    int rc = -1;

    r->host = c->host;
    r->nonce = c->nonce + 1;
    r->now_ms = amqp_ledger_stamp(c->ledger, clock_wall_ms(b->clock));
    amqp_claim_write(&bytes, r);
    spec.body = buf_slice(&bytes);
    if (!step || bytes.failed)
        err_nomem(e);
    else
        rc = out_add(b, step, &spec, e);
    buf_release(&bytes);
    if (rc != 0) {
        free(step);
        return -1;
    }
    c->nonce++;
    c->said_at_ms = amqp_now(b);
    out_step_close(b, step);
    return 0;
}

static void on_sync_written(struct amqp_broker *b, struct out_step *step, const struct err *why)
{
    struct amqp_claims *c = b->claims;

    if (step->tag == c->sync_nonce && !c->ready)
        c->stuck_at_ms = amqp_now(b) + (why ? 0 : STUCK_MS);
}

/* What is in the log before this record was there when it was asked for. */
static void sync_up(struct amqp_broker *b)
{
    struct amqp_claim_record r = {.kind = AMQP_CLAIM_SYNC, .prev = AMQP_RECORD_NONE};
    struct amqp_claims *c = b->claims;

    c->ready = false;
    c->sync_nonce = c->nonce + 1;
    c->stuck_at_ms = CLOCK_NEVER;
    if (follow_write(b, &r, on_sync_written, NULL) != 0)
        c->stuck_at_ms = amqp_now(b) + STUCK_MS;
}

/* --- how far back --- */

static bool is_in_use(const struct amqp_claims *c)
{
    return c->reach.window_ms > HOUR_MS && c->reach.until_ms > amqp_ledger_time(c->ledger);
}

static void widen(struct amqp_claims *c, int64_t window_ms, int64_t until_ms)
{
    if (window_ms <= HOUR_MS || until_ms <= amqp_ledger_time(c->ledger))
        return;
    if (window_ms > HORIZON_MS)
        window_ms = HORIZON_MS;
    if (!is_in_use(c))
        c->reach = (struct claims_reach){0, 0};
    if (window_ms > c->reach.window_ms)
        c->reach.window_ms = window_ms;
    if (until_ms > c->reach.until_ms)
        c->reach.until_ms = until_ms;
}

static void learn_reach(struct amqp_claims *c, const struct amqp_claim_record *r)
{
    if (r->kind == AMQP_CLAIM_DONE || r->kind == AMQP_CLAIM_KEEP)
        widen(c, r->window_ms, r->now_ms + r->window_ms);
    if (r->kind != AMQP_CLAIM_ALIVE || r->host == c->host)
        return;
    c->told = true;
    widen(c, r->window_ms, r->prev);
}

static void say_alive(struct amqp_broker *b)
{
    struct amqp_claims *c = b->claims;
    struct amqp_claim_record r = {.kind = AMQP_CLAIM_ALIVE};

    if (is_in_use(c)) {
        r.window_ms = c->reach.window_ms;
        r.prev = c->reach.until_ms;
    }
    follow_write(b, &r, NULL, NULL);
    c->reach_at_ms = amqp_now(b) + REACH_MS;
}

/* How far back this reading should have begun. */
static int64_t wanted_reach_ms(const struct amqp_claims *c)
{
    if (c->whole)
        return 0;
    if (!c->told)
        return HORIZON_MS;
    return is_in_use(c) ? c->reach.window_ms : HOUR_MS;
}

/* --- reading --- */

static void begin(struct amqp_broker *b, int64_t reach_ms);

static void begin_anew(struct amqp_broker *b, int64_t reach_ms)
{
    struct amqp_claims *c = b->claims;

    reader_end(b, &c->reader);
    amqp_ledger_reset(c->ledger);
    begin(b, reach_ms);
}

/* The table was emptied: what is held is said again before the sync, so that whatever is not the
 * own any more is known at the barrier. */
static void begin_in_gap(struct amqp_broker *b)
{
    log_warn(b->log, "claim ledger did not go on where it ended, reading on", "stream=%s",
             AMQP_LEDGER_STREAM);
    owned_say(b, true);
    sync_up(b);
}

static void on_barrier(struct amqp_broker *b)
{
    struct amqp_claims *c = b->claims;
    struct amqp_ledger_stats stats;

    c->stuck_at_ms = CLOCK_NEVER;
    if (wanted_reach_ms(c) > c->begun_ms) {
        begin_anew(b, wanted_reach_ms(c));
        return;
    }
    amqp_ledger_stats(c->ledger, &stats);
    log_info(b->log, "claim ledger read", "keys=%zu records=%llu reach_s=%lld ms=%lld", stats.keys,
             (unsigned long long)stats.applied, (long long)c->begun_ms / 1000,
             (long long)(amqp_now(b) - c->started_ms));
    c->ready = true;
    say_alive(b);
    asks_decide(b, &c->waiting);
}

static void act(struct amqp_broker *b, const struct amqp_ledger_decision *d)
{
    if (d->robbed || (d->own && d->verdict == AMQP_LEDGER_HELD_REFUSED))
        owned_robbed(b, &d->key, d->prev);
    if (!d->own || d->verdict == AMQP_LEDGER_SKIPPED || d->verdict == AMQP_LEDGER_SEEN ||
        d->verdict == AMQP_LEDGER_HELD || d->verdict == AMQP_LEDGER_HELD_REFUSED)
        return;
    if (d->verdict != AMQP_LEDGER_SYNCED) {
        owned_decided(b, d);
        return;
    }
    owned_passed(b, d->nonce);
    if (d->nonce == b->claims->sync_nonce && !b->claims->ready)
        on_barrier(b);
}

static void on_record(struct amqp_broker *b, struct amqp_reader *r, int64_t offset,
                      struct slice bytes)
{
    struct amqp_claims *c = b->claims;
    struct amqp_claim_record record;
    struct amqp_ledger_decision d;
    struct err e = ERR_INIT;
    bool anew = offset < amqp_ledger_next(c->ledger);

    (void)r;
    if (c->stuck_at_ms != CLOCK_NEVER)
        c->stuck_at_ms = amqp_now(b) + STUCK_MS;
    if (anew) /* the stream was deleted and made again */
        amqp_ledger_reset(c->ledger);
    if (anew || !c->begun)
        c->whole = offset == 0;
    c->begun = true;
    if (amqp_ledger_apply(c->ledger, offset, bytes, amqp_now(b), &d, &e) != 0) {
        log_error(b->log, "claim ledger is read anew", "error=\"%s\"", e.text);
        begin_anew(b, c->begun_ms);
        return;
    }
    if (d.gap || anew)
        begin_in_gap(b);
    if (amqp_claim_read(&record, bytes))
        learn_reach(c, &record);
    act(b, &d);
}

static void on_live(struct amqp_broker *b, struct amqp_reader *r)
{
    (void)r;
    sync_up(b);
}

static void on_refused(struct amqp_broker *b, struct amqp_reader *r, const struct err *why)
{
    struct amqp_claims *c = b->claims;

    (void)r;
    if (!c->refused)
        log_warn(
            b->log, "no dedup keys with this broker: jobs that have one wait",
            "error=\"%s\" advice=\"allow '%s' to be configured, written and read, or send jobs "
            "without a key\"",
            why->text, AMQP_LEDGER_STREAM);
    c->refused = true;
    c->ready = false;
    err_set(&c->why, ERR_OPERATOR, "no claim ledger to keep dedup keys in: %s", why->text);
    c->retry_at_ms = amqp_now(b) + RETRY_MS;
    asks_decide(b, &c->waiting);
}

static int64_t ledger_age_s(const struct amqp_broker *b)
{
    (void)b;
    return CLAIMS_WINDOW_MAX_S + AMQP_LEDGER_CLAIM_S;
}

static void begin(struct amqp_broker *b, int64_t reach_ms)
{
    static const struct reader_ops ops = {.on_record = on_record,
                                          .on_live = on_live,
                                          .on_refused = on_refused,
                                          .age_s = ledger_age_s};
    struct amqp_claims *c = b->claims;
    struct reader_start start = {READER_TIME,
                                 (clock_wall_ms(b->clock) - reach_ms - SLACK_MS) / 1000};

    c->begun = false;
    c->whole = false;
    c->begun_ms = reach_ms;
    c->started_ms = amqp_now(b);
    c->stuck_at_ms = CLOCK_NEVER;
    reader_begin(b, &c->reader, AMQP_LEDGER_STREAM, &start, &ops);
}

/* --- time --- */

/* What would only pile up is not said. */
static bool can_say(const struct amqp_broker *b)
{
    return b->wires[AMQP_PUBLISH].ready && b->claims->reader.live;
}

int64_t amqp_claims_deadline(const struct amqp_broker *b)
{
    const struct amqp_claims *c = b->claims;
    int64_t at;

    if (!c)
        return CLOCK_NEVER;
    at = c->stuck_at_ms < c->retry_at_ms ? c->stuck_at_ms : c->retry_at_ms;
    if (!can_say(b))
        return at;
    if (c->ready && c->reach_at_ms < at)
        at = c->reach_at_ms;
    if (c->keys.len && c->said_at_ms + b->lease_ms / 3 < at)
        at = c->said_at_ms + b->lease_ms / 3;
    if (c->keys.len && c->held_at_ms < at)
        at = c->held_at_ms;
    return at;
}

/* Whoever owns something has to be heard. */
static void say_what_is_due(struct amqp_broker *b, int64_t now_ms)
{
    struct amqp_claims *c = b->claims;

    if (c->keys.len && now_ms >= c->held_at_ms) {
        owned_say(b, false);
        c->held_at_ms = now_ms + LOOK_MS;
    }
    if ((c->keys.len && now_ms - c->said_at_ms >= b->lease_ms / 3) ||
        (c->ready && now_ms >= c->reach_at_ms))
        say_alive(b);
}

void amqp_claims_tick(struct amqp_broker *b)
{
    struct amqp_claims *c = b->claims;
    int64_t now_ms = amqp_now(b);

    if (!c)
        return;
    if (now_ms >= c->stuck_at_ms) {
        log_warn(b->log, "claim ledger answers nothing, reading it anew", NULL);
        begin_anew(b, c->begun_ms);
    }
    if (now_ms >= c->retry_at_ms) {
        c->retry_at_ms = CLOCK_NEVER;
        c->refused = false;
        begin_anew(b, HOUR_MS);
    }
    if (can_say(b))
        say_what_is_due(b, now_ms);
}

/* --- life --- */

int amqp_claims_open(struct amqp_broker *b, uint64_t generation, struct err *e)
{
    struct amqp_claims *c = b->claims = calloc(1, sizeof(*c));
    struct amqp_ledger_config config = {.lease_ms = b->lease_ms};

    if (!c)
        return err_nomem(e);
    TAILQ_INIT(&c->pending);
    c->stuck_at_ms = c->retry_at_ms = CLOCK_NEVER;
    c->host = config.host = make_host(b, generation);
    c->ledger = amqp_ledger_new(&config);
    if (!c->ledger)
        return err_nomem(e);
    begin(b, HOUR_MS);
    return 0;
}

void amqp_claims_release(struct amqp_broker *b)
{
    struct amqp_claims *c = b->claims;

    if (!c)
        return;
    reader_end(b, &c->reader);
    owned_release_all(b);
    asks_free(&c->waiting);
    amqp_ledger_free(c->ledger);
    free(c);
    b->claims = NULL;
}
