/* Keys that this dispatcher owns, or has a record under way for. */
#include "broker/amqp_claim.h"

#include "base/fault.h"

#include <stdlib.h>
#include <string.h>

#define SAY_MS (((int64_t)AMQP_LEDGER_HELD_S - 60) * 1000)

static struct slice key_text(const struct amqp_key *key)
{
    return slice_make(key->bytes, sizeof(key->bytes));
}

struct amqp_owned *owned_find(const struct amqp_claims *c, const struct amqp_key *key)
{
    return (struct amqp_owned *)id_table_find(&c->keys, key_text(key));
}

static struct amqp_owned *owned_new(struct amqp_claims *c, const struct claim_ask *ask)
{
    struct amqp_owned *o = calloc(1, sizeof(*o) + ask->id.len);

    if (!o)
        return NULL;
    memcpy(o + 1, ask->id.ptr, ask->id.len);
    o->id = slice_make(o + 1, ask->id.len);
    o->key = ask->key;
    o->entry.id = key_text(&o->key);
    if (id_table_add(&c->keys, &o->entry) == 0)
        return o;
    free(o);
    return NULL;
}

/* Nothing is known of the key any more. Whoever waited for it looks again. */
static void forget(struct amqp_broker *b, struct amqp_owned *o)
{
    struct ask_list asks = o->asks;

    id_table_remove(&b->claims->keys, &o->entry);
    free(o);
    asks_decide(b, &asks);
}

/* --- records --- */

static struct amqp_owned *take_pending(struct amqp_broker *b, uint64_t nonce);
static void failed(struct amqp_broker *b, struct amqp_owned *o, const struct err *why);

static void on_written(struct amqp_broker *b, struct out_step *step, const struct err *why)
{
    struct amqp_owned *o;

    if (!why)
        return;
    TAILQ_FOREACH(o, &b->claims->pending, link)
    {
        if (o->nonce == step->tag)
            break;
    }
    if (!o)
        return;
    TAILQ_REMOVE(&b->claims->pending, o, link);
    failed(b, o, why);
}

static int write_record(struct amqp_broker *b, struct amqp_owned *o, struct amqp_claim_record *r,
                        struct err *e)
{
    r->key = o->key;
    r->id = o->id;
    if (follow_write(b, r, on_written, e) != 0)
        return -1;
    o->nonce = r->nonce;
    TAILQ_INSERT_TAIL(&b->claims->pending, o, link);
    return 0;
}

void owned_ask(struct amqp_broker *b, struct claim_ask *ask, const struct amqp_ledger_view *seen)
{
    struct amqp_claim_record r = {.kind = AMQP_CLAIM,
                                  .prev = seen->offset,
                                  .until_ms =
                                      seen->offset == AMQP_RECORD_NONE ? 0 : seen->until_ms};
    struct amqp_owned *o = owned_new(b->claims, ask);
    struct ask_list asks = {0};
    struct err e = ERR_INIT;

    asks_add(&asks, ask);
    if (!o) {
        err_nomem(&e);
        asks_fail(b, &asks, &e);
        return;
    }
    o->state = OWNED_ASKED;
    if (write_record(b, o, &r, &e) != 0) {
        forget(b, o);
        asks_fail(b, &asks, &e);
        return;
    }
    asks_add(&o->asks, asks.head);
}

int owned_end(struct amqp_broker *b, struct amqp_owned *o, const struct owned_end *end,
              struct out_step *step, struct err *e)
{
    const int64_t max_ms = (int64_t)CLAIMS_WINDOW_MAX_S * 1000;
    struct amqp_claim_record r = {.kind = end->kind,
                                  .prev = o->fence,
                                  .window_ms = end->window_ms < max_ms ? end->window_ms : max_ms};

    if (end->doc.len <= CLAIMS_DOC_MAX)
        r.doc = end->doc;
    if (write_record(b, o, &r, e) != 0)
        return -1;
    o->state = OWNED_ENDING;
    o->step = step;
    return 0;
}

/* --- deliveries --- */

static void give_to(struct amqp_broker *b, struct amqp_owned *o, struct amqp_held *h)
{
    o->state = OWNED_HELD;
    o->held = h;
    o->next = h->owns;
    h->owns = o;
    o->said_at_ms = amqp_now(b);
}

static void take_off(struct amqp_owned *o)
{
    struct amqp_owned **at = &o->held->owns;

    while (*at != o)
        at = &(*at)->next;
    *at = o->next;
    o->next = NULL;
    o->held = NULL;
}

static void give_up(struct amqp_broker *b, struct amqp_owned *o)
{
    static const struct owned_end end = {.kind = AMQP_CLAIM_RELEASE};

    if (owned_end(b, o, &end, NULL, NULL) != 0)
        forget(b, o); /* out of memory: it lapses with this process, or in an hour */
}

struct amqp_owned *owned_take(struct amqp_broker *b, struct amqp_held *h, struct slice key)
{
    struct amqp_key wanted;

    (void)b;
    if (!key.len || !h->owns)
        return NULL;
    wanted = amqp_key_of(key);
    for (struct amqp_owned *o = h->owns; o; o = o->next) {
        if (memcmp(&o->key, &wanted, sizeof(wanted)) != 0)
            continue;
        take_off(o);
        return o;
    }
    return NULL;
}

void owned_put_back(struct amqp_broker *b, struct amqp_owned *o,
                    const struct broker_receipt *receipt)
{
    struct amqp_held *h = o ? amqp_held_find(b, receipt) : NULL;

    if (h)
        give_to(b, o, h);
    else if (o)
        give_up(b, o);
}

void amqp_claims_give_up(struct amqp_broker *b, struct amqp_held *h)
{
    while (h->owns) {
        struct amqp_owned *o = h->owns;

        h->owns = o->next;
        o->next = NULL;
        o->held = NULL;
        give_up(b, o);
    }
}

void amqp_claims_forget(struct amqp_broker *b)
{
    for (uint64_t tag = b->held.first; tag < b->held.end; tag++) {
        struct amqp_held *h = held_ring_find(&b->held, tag);

        if (h)
            amqp_claims_give_up(b, h);
    }
}

void amqp_claims_close(struct amqp_broker *b)
{
    amqp_claims_forget(b);
    for (size_t i = 0; i < b->aside.len; i++)
        amqp_claims_give_up(b, b->aside.v[i]);
}

/* --- what became of a record --- */

/* Its record will not be decided. With an end goes what it held back: the caller may try again. */
static void failed(struct amqp_broker *b, struct amqp_owned *o, const struct err *why)
{
    struct out_step *step = o->step;

    if (o->state == OWNED_ASKED) {
        asks_fail(b, &o->asks, why);
        forget(b, o);
    } else if (step) {
        o->step = NULL;
        owned_put_back(b, o, &step->receipt);
        out_step_drop(b, step, why);
    } else {
        forget(b, o);
    }
}

/* It was confirmed, but the log went by without it. */
static void lost(struct amqp_broker *b, struct amqp_owned *o)
{
    struct err why = ERR_INIT;

    if (o->state == OWNED_ASKED) {
        forget(b, o);
    } else if (o->step) {
        err_set(&why, ERR_AGAIN, "the broker lost a record of the claim ledger");
        failed(b, o, &why);
    } else {
        give_up(b, o);
    }
}

void owned_passed(struct amqp_broker *b, uint64_t nonce)
{
    struct amqp_owned *o;

    while ((o = TAILQ_FIRST(&b->claims->pending)) && o->nonce < nonce) {
        TAILQ_REMOVE(&b->claims->pending, o, link);
        lost(b, o);
    }
}

static struct amqp_owned *take_pending(struct amqp_broker *b, uint64_t nonce)
{
    struct amqp_owned *o;

    owned_passed(b, nonce);
    o = TAILQ_FIRST(&b->claims->pending);
    if (!o || o->nonce != nonce)
        return NULL;
    TAILQ_REMOVE(&b->claims->pending, o, link);
    return o;
}

static void on_won(struct amqp_broker *b, struct amqp_owned *o, int64_t fence)
{
    struct amqp_held *h = amqp_held_of(b, &o->asks.head->receipt);
    struct ask_list asks = o->asks;

    o->asks = (struct ask_list){0};
    o->fence = fence;
    if (h) {
        give_to(b, o, h);
        asks_win(b, &asks, fence);
    } else {
        give_up(b, o);
        asks_refuse(b, &asks);
    }
    asks_decide(b, &asks);
}

static void on_ended(struct amqp_broker *b, struct amqp_owned *o, bool counts)
{
    struct out_step *step = o->step;
    struct err why = ERR_INIT;

    if (step && counts) {
        FAULT_POINT("amqp.after-done"); /* CRASH: the second of those in amqp_claim.h */
        out_step_send(b, step);
    } else if (step) {
        err_set(&why, ERR_REFUSED, "the dedup key was taken over");
        step->event = BROKER_REFUSED;
        out_step_drop(b, step, &why);
    }
    forget(b, o);
}

/* A claim that was published twice and won by its copy, when nobody waited any more. */
static void release_stray(struct amqp_broker *b, const struct amqp_ledger_decision *d)
{
    struct amqp_claim_record r = {.kind = AMQP_CLAIM_RELEASE, .prev = d->offset, .key = d->key};

    follow_write(b, &r, NULL, NULL);
}

void owned_decided(struct amqp_broker *b, const struct amqp_ledger_decision *d)
{
    struct amqp_owned *o = take_pending(b, d->nonce);

    if (!o && d->verdict == AMQP_LEDGER_CLAIM_WON)
        release_stray(b, d);
    else if (o && d->verdict == AMQP_LEDGER_CLAIM_WON)
        on_won(b, o, d->offset);
    else if (o && d->verdict == AMQP_LEDGER_CLAIM_LOST)
        forget(b, o);
    else if (o)
        on_ended(b, o,
                 d->verdict == AMQP_LEDGER_DONE || d->verdict == AMQP_LEDGER_KEPT ||
                     d->verdict == AMQP_LEDGER_RELEASED);
}

void owned_robbed(struct amqp_broker *b, const struct amqp_key *key, int64_t fence)
{
    struct amqp_owned *o = owned_find(b->claims, key);
    struct amqp_held *h;

    if (!o || o->state != OWNED_HELD || o->fence != fence)
        return; /* one that ends learns it from its own record */
    h = o->held;
    log_warn(b->log, "dedup key was taken over by another", "id=%.*s", SLICE_ARG(o->id));
    take_off(o);
    forget(b, o);
    amqp_lease_lost(b, h);
}

/* --- saying again --- */

struct saying {
    struct amqp_broker *b;
    bool all;
};

static void say_one(void *context, struct id_entry *entry)
{
    const struct saying *saying = context;
    struct amqp_owned *o = (struct amqp_owned *)entry;
    struct amqp_claim_record r = {
        .kind = AMQP_CLAIM_HELD, .prev = o->fence, .key = o->key, .id = o->id};
    int64_t now_ms = amqp_now(saying->b);

    if (o->state != OWNED_HELD || (!saying->all && now_ms - o->said_at_ms < SAY_MS))
        return;
    if (follow_write(saying->b, &r, NULL, NULL) == 0)
        o->said_at_ms = now_ms;
}

void owned_say(struct amqp_broker *b, bool all)
{
    struct saying saying = {b, all};

    id_table_each(&b->claims->keys, say_one, &saying);
}

/* --- the end --- */

static void drop_one(void *context, struct id_entry *entry)
{
    struct amqp_broker *b = context;
    struct amqp_owned *o = (struct amqp_owned *)entry;
    struct err why = ERR_INIT;

    err_set(&why, ERR_RECONNECT, "the broker is closed");
    if (o->step)
        out_step_drop(b, o->step, &why);
    if (o->held)
        o->held->owns = NULL; /* all of them go */
    asks_free(&o->asks);
    free(o);
}

void owned_release_all(struct amqp_broker *b)
{
    id_table_drain(&b->claims->keys, drop_one, b);
    id_table_release(&b->claims->keys);
}
