/*
 * Dedup keys: redis_script.h S10 and S11. A claim is one script; the document that a duplicate gets
 * is read by a second request, because its key is known only then, and a stored SUCCESS does not
 * change.
 */
#include "base/analyzer.h"
#include "base/fault.h"
#include "broker/redis.h"

#include <stdio.h>
#include <stdlib.h>

#define HELD_MS 2592000000 /* 30 days: longer than any lease is renewed without a question */

/* --- the document of the first --- */

/* A duplicate whose answer waits for it. */
struct first {
    struct first *next;
    uint64_t tag;
    size_t id_len;
    char id[];
};

struct firsts {
    struct first *head;
    struct first *tail;
};

static void free_firsts(void *state)
{
    struct firsts *firsts = state;

    while (firsts && firsts->head) {
        struct first *f = firsts->head;

        firsts->head = f->next;
        free(f);
    }
    free(firsts);
}

static void read_first(void *owner, struct redis_request *r, const redisReply *reply)
{
    struct redis_broker *b = owner;
    const struct firsts *firsts = r->state;
    size_t i = 0;

    for (const struct first *f = firsts->head; f; f = f->next) {
        struct broker_event event = {.kind = BROKER_CLAIMED,
                                     .flags = BROKER_DUPLICATE,
                                     .tag = f->tag,
                                     .id = slice_make(f->id, f->id_len),
                                     .data = redis_slice(redis_at(reply, i++))};

        event_queue_push(&b->events, &event);
    }
}

static const struct redis_op op_first = {
    .name = "claim", .done = read_first, .failed = redis_fail_items, .free_state = free_firsts};

/* The request holds the ids, and they each other. */
ANALYZER_LOSES_SIGHT
static struct redis_request *first_request(struct redis_broker *b, bool *fresh)
{
    struct redis_request *r = redis_batch(b, &op_first, REDIS_SCRIPT_GET, fresh, NULL);

    if (!r || !*fresh)
        return r;
    r->state = calloc(1, sizeof(struct firsts));
    if (!r->state) {
        redis_request_free(r);
        return NULL;
    }
    redis_arg_dbs(b, r);
    return r;
}

static int ask_for_first(struct redis_broker *b, uint64_t tag, struct slice id)
{
    struct first *f = malloc(sizeof(*f) + id.len);
    struct redis_request *r;
    struct firsts *firsts;
    bool fresh;

    if (!f)
        return -1;
    *f = (struct first){.tag = tag, .id_len = id.len};
    memcpy(f->id, id.ptr, id.len);
    r = first_request(b, &fresh);
    if (!r) {
        free(f);
        return -1;
    }
    firsts = r->state;
    if (firsts->tail)
        firsts->tail->next = f;
    else
        firsts->head = f;
    firsts->tail = f;
    redis_key2(r, REDIS_RESULT, id);
    if (redis_request_item(r, tag, NULL) != 0)
        r->args.failed = true;
    return fresh ? redis_submit(b, r, NULL) : 0;
}

/* --- claim --- */

static void answer_text(struct redis_broker *b, const struct redis_item *item, struct slice text)
{
    struct broker_event event = {
        .kind = BROKER_CLAIMED, .tag = item->tag, .id = slice_make(text.ptr + 1, text.len - 1)};
    struct err e = ERR_INIT;

    if (*text.ptr == 'h') {
        event_queue_push(&b->events, &event);
        return;
    }
    if (*text.ptr == 'd') {
        if (ask_for_first(b, item->tag, event.id) == 0)
            return;
        err_nomem(&e);
    } else {
        err_set(&e, ERR_OPERATOR, "redis at %s: a dedup key cannot be read: %.*s", b->address.shown,
                SLICE_ARG(event.id));
    }
    event_queue_fail(&b->events, item->tag, &e);
}
ANALYZER_SEES_AGAIN

/* The lease is gone, so there is nothing to hand back at close. */
static void refused(struct redis_broker *b, const struct redis_item *item)
{
    struct redis_lease lease;

    redis_lease_load(&lease, &item->receipt);
    redis_held_remove(&b->held, lease.fence);
    redis_refuse(b, item->tag);
}

static void claimed(void *owner, struct redis_request *r, const redisReply *reply)
{
    struct redis_broker *b = owner;

    /* CRASH: after the claim script, before its reply is read - the key names a lease; when that is
     * gone the key is anybody's. */
    FAULT_POINT("redis.after-claim");
    for (size_t i = 0; i < r->items_len; i++) {
        const redisReply *verdict = redis_at(reply, i);
        struct slice text = redis_slice(verdict);

        if (text.len)
            answer_text(b, &r->items[i], text);
        else if (verdict->integer == 0)
            refused(b, &r->items[i]);
        else
            event_queue_done(&b->events, BROKER_CLAIMED, r->items[i].tag, BROKER_WON);
    }
}

static const struct redis_op op_claim = {
    .name = "claim", .done = claimed, .failed = redis_fail_items};

static int submit_claim(struct redis_broker *b, const struct broker_claim *c, struct err *e)
{
    struct redis_lease lease;
    struct redis_request *r;
    bool fresh;

    redis_bulk_leave_unrun(b, &c->receipt);
    redis_lease_load(&lease, &c->receipt);
    if (lease.queue >= b->queues_len || lease.fence == 0) {
        redis_refuse(b, c->tag);
        return 0;
    }
    r = redis_batch(b, &op_claim, REDIS_SCRIPT_CLAIM, &fresh, e);
    if (!r)
        return -1;
    if (fresh) {
        redis_key(r, slice_of(REDIS_UNACKED));
        redis_argi(r, HELD_MS);
    }
    redis_key2(r, REDIS_DEDUP, c->key);
    redis_arg_field(b, r, &lease);
    redis_arg(r, c->id);
    if (redis_request_item(r, c->tag, &c->receipt) != 0)
        r->args.failed = true;
    return fresh ? redis_submit(b, r, e) : 0;
}

int redis_claim(struct broker *base, const struct broker_claim *v, size_t n, struct err *e)
{
    for (size_t i = 0; i < n; i++) {
        if (submit_claim((struct redis_broker *)base, &v[i], e) != 0)
            return -1;
    }
    return 0;
}

/* --- its end --- */

static int64_t until_retry(const struct redis_broker *b, const struct broker_finish *f)
{
    int64_t now = clock_wall_ms(b->clock);
    int64_t at = now;

    for (size_t i = 0; i < f->followups_len; i++) {
        if (f->followups[i].continues && f->followups[i].not_before_ms > at)
            at = f->followups[i].not_before_ms;
    }
    return at - now + b->lease_ms;
}

void redis_claim_settle(struct redis_broker *b, const struct broker_finish *f, char *text,
                        size_t size)
{
    static const char letters[] = {
        [BROKER_JOB_SUCCEEDED] = 'd', [BROKER_JOB_FAILED] = 'r', [BROKER_JOB_CONTINUES] = 'k'};
    int64_t life = f->dedup_window_ms;

    *text = '\0';
    if (!f->dedup_key.len)
        return;
    if (f->outcome == BROKER_JOB_CONTINUES)
        life = until_retry(b, f);
    snprintf(text, size, "%c %lld %lld", letters[f->outcome], (long long)life,
             (long long)f->dedup_window_ms);
}
