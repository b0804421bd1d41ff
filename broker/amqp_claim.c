/* The op: one ask for each item, answered from the ledger's table or by what the log makes of it.
 */
#include "broker/amqp_claim.h"

#include "base/fault.h"
#include "broker/amqp_results.h"

#include <stdlib.h>
#include <string.h>

/* --- lists of asks --- */

void asks_add(struct ask_list *list, struct claim_ask *ask)
{
    if (!list->head)
        list->end = &list->head;
    ask->next = NULL;
    *list->end = ask;
    list->end = &ask->next;
}

static struct claim_ask *pop(struct ask_list *list)
{
    struct claim_ask *ask = list->head;

    if (ask)
        list->head = ask->next;
    return ask;
}

static void free_ask(struct claim_ask *ask)
{
    free((char *)ask->first.ptr);
    free(ask);
}

void asks_free(struct ask_list *list)
{
    struct claim_ask *ask;

    while ((ask = pop(list)))
        free_ask(ask);
}

static struct claim_ask *new_ask(const struct broker_claim *v)
{
    struct claim_ask *ask = calloc(1, sizeof(*ask) + v->id.len);

    if (!ask)
        return NULL;
    memcpy(ask + 1, v->id.ptr, v->id.len);
    ask->tag = v->tag;
    ask->receipt = v->receipt;
    ask->key = amqp_key_of(v->key);
    ask->id = slice_make(ask + 1, v->id.len);
    return ask;
}

/* --- answers; each ends the ask --- */

static void tell(struct amqp_broker *b, struct claim_ask *ask, unsigned flags, struct slice id,
                 struct slice doc)
{
    struct broker_event event = {
        .kind = BROKER_CLAIMED, .flags = flags, .tag = ask->tag, .id = id, .data = doc};

    event_queue_push(&b->events, &event);
    free_ask(ask);
}

static void win(struct amqp_broker *b, struct claim_ask *ask, int64_t fence)
{
    struct broker_event event = {
        .kind = BROKER_CLAIMED, .flags = BROKER_WON, .tag = ask->tag, .fence = (uint64_t)fence};

    event_queue_push(&b->events, &event);
    free_ask(ask);
}

static void put_off(struct amqp_broker *b, struct claim_ask *ask, struct slice holder)
{
    tell(b, ask, 0, holder, slice_make(NULL, 0));
}

static void refuse(struct amqp_broker *b, struct claim_ask *ask)
{
    event_queue_done(&b->events, BROKER_REFUSED, ask->tag, 0);
    free_ask(ask);
}

static void fail(struct amqp_broker *b, struct claim_ask *ask, const struct err *why)
{
    event_queue_fail(&b->events, ask->tag, why);
    free_ask(ask);
}

void asks_win(struct amqp_broker *b, struct ask_list *list, int64_t fence)
{
    FAULT_POINT("amqp.after-claim"); /* CRASH: the first of those in amqp_claim.h */
    win(b, pop(list), fence);
}

void asks_refuse(struct amqp_broker *b, struct ask_list *list)
{
    refuse(b, pop(list));
}

void asks_fail(struct amqp_broker *b, struct ask_list *list, const struct err *why)
{
    fail(b, pop(list), why);
}

/* --- done already --- */

static void on_document(struct amqp_broker *b, void *context, const struct slice *doc,
                        const struct err *why)
{
    struct claim_ask *ask = context;

    if (why)
        fail(b, ask, why);
    else if (!doc)
        free_ask(ask);
    else if (!doc->ptr && ask->again)
        win(b, ask, ask->fence); /* its document was lost, so it runs again */
    else
        tell(b, ask, BROKER_DUPLICATE | (ask->again ? BROKER_REDELIVERED : 0), ask->first, *doc);
}

/* The ledger has not kept the document: it may be a stored result. */
static void look_up(struct amqp_broker *b, struct claim_ask *ask, struct slice first)
{
    struct err e = ERR_INIT;
    char *copy = slice_dup(first);

    ask->first = slice_make(copy, first.len);
    if (!copy || lookup_ask(b, ask->first, on_document, ask, &e) != 0) {
        err_nomem(&e);
        fail(b, ask, &e);
        return;
    }
    lookups_start(b);
}

/* A delivery whose record is in the results stream is dropped before it is handed out. So one that
 * came again and is done by its own id was done by a run that did not come to its end. */
static void repeat(struct amqp_broker *b, struct claim_ask *ask, const struct amqp_held *h,
                   const struct amqp_ledger_view *seen)
{
    ask->again = (h->redelivered || h->suspicious) && slice_eq(seen->id, ask->id);
    ask->fence = seen->offset;
    if (seen->doc.ptr)
        tell(b, ask, BROKER_DUPLICATE | (ask->again ? BROKER_REDELIVERED : 0), seen->id, seen->doc);
    else
        look_up(b, ask, seen->id);
}

/* --- deciding --- */

/* The owner fell silent, or is an earlier self; or its delivery has ended without its knowledge,
 * since it came again. */
static bool is_lost(const struct amqp_broker *b, const struct claim_ask *ask,
                    const struct amqp_held *h, const struct amqp_ledger_view *seen)
{
    if (slice_eq(seen->id, ask->id) && (h->redelivered || h->suspicious))
        return true;
    return seen->own || amqp_now(b) >= seen->steal_at_ms ||
           follow_is_predecessor(b->claims, seen->host);
}

static bool may_claim(const struct amqp_broker *b, const struct claim_ask *ask,
                      const struct amqp_held *h, const struct amqp_ledger_view *seen)
{
    if (seen->state == AMQP_LEDGER_RUNNING)
        return is_lost(b, ask, h, seen);
    return seen->state == AMQP_LEDGER_NONE || slice_eq(seen->id, ask->id);
}

static void decide_by_ledger(struct amqp_broker *b, struct claim_ask *ask,
                             const struct amqp_held *h)
{
    struct amqp_ledger_view seen;

    amqp_ledger_lookup(b->claims->ledger, &ask->key, clock_wall_ms(b->clock), &seen);
    if (seen.state == AMQP_LEDGER_OVER)
        repeat(b, ask, h, &seen);
    else if (may_claim(b, ask, h, &seen))
        owned_ask(b, ask, &seen);
    else
        put_off(b, ask, seen.id);
}

static void decide(struct amqp_broker *b, struct claim_ask *ask)
{
    const struct amqp_held *h = amqp_held_of(b, &ask->receipt);
    struct amqp_claims *c = b->claims;
    struct amqp_owned *o;

    if (!h || !c) {
        refuse(b, ask);
        return;
    }
    o = owned_find(c, &ask->key);
    if (c->refused)
        fail(b, ask, &c->why);
    else if (!c->ready)
        asks_add(&c->waiting, ask);
    else if (!o)
        decide_by_ledger(b, ask, h);
    else if (o->state != OWNED_HELD)
        asks_add(&o->asks, ask);
    else if (o->held == h)
        win(b, ask, o->fence);
    else
        put_off(b, ask, o->id);
}

void asks_decide(struct amqp_broker *b, struct ask_list *list)
{
    struct ask_list taken = *list;
    struct claim_ask *ask;

    *list = (struct ask_list){0};
    while ((ask = pop(&taken)))
        decide(b, ask);
}

/* --- the op --- */

static void tell_cut(struct amqp_broker *b, const struct broker_claim *v)
{
    struct amqp_claims *c = b->claims;

    if (!c || c->cut_told || v->window_ms <= (int64_t)CLAIMS_WINDOW_MAX_S * 1000)
        return;
    c->cut_told = true;
    log_warn(b->log, "dedup window is longer than RabbitMQ keeps keys, and is cut",
             "id=%.*s window_s=%lld cut_s=%d", SLICE_ARG(v->id), (long long)v->window_ms / 1000,
             CLAIMS_WINDOW_MAX_S);
}

int amqp_claim(struct broker *base, const struct broker_claim *v, size_t n, struct err *e)
{
    struct amqp_broker *b = amqp_of(base);

    for (size_t i = 0; i < n; i++) {
        struct claim_ask *ask = v[i].id.len <= AMQP_RECORD_ID_MAX ? new_ask(&v[i]) : NULL;
        struct err why = ERR_INIT;

        tell_cut(b, &v[i]);
        if (ask) {
            decide(b, ask);
        } else {
            if (v[i].id.len > AMQP_RECORD_ID_MAX)
                err_set(&why, ERR_USAGE, "a task id of more than %d bytes", AMQP_RECORD_ID_MAX);
            else
                err_nomem(&why);
            event_queue_fail(&b->events, v[i].tag, &why);
        }
    }
    (void)e;
    return 0;
}
