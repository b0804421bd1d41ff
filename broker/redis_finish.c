#include "base/fault.h"
#include "broker/redis.h"

#include <stdio.h>
#include <stdlib.h>

static struct redis_lease lease_of(const struct broker_receipt *receipt)
{
    struct redis_lease lease;

    redis_lease_load(&lease, receipt);
    return lease;
}

static void let_go(struct redis_broker *b, const struct broker_receipt *receipt)
{
    uint64_t fence = lease_of(receipt).fence;

    if (!redis_held_find(&b->held, fence))
        return;
    redis_held_remove(&b->held, fence);
    redis_bulk_ended(b, fence);
}

/* One verdict per item: 0 refused, 1 done, 2 duplicate, or an error text. */
static void settle_items(struct redis_broker *b, struct redis_request *r, const redisReply *reply,
                         enum broker_event_kind kind)
{
    for (size_t i = 0; i < r->items_len; i++) {
        const redisReply *verdict = redis_at(reply, i);
        struct err e;

        if (verdict->type != REDIS_REPLY_INTEGER) {
            redis_text_err(b, &e, verdict);
            event_queue_fail(&b->events, r->items[i].tag, &e);
            continue;
        }
        let_go(b, &r->items[i].receipt);
        if (verdict->integer == 0)
            redis_refuse(b, r->items[i].tag);
        else
            event_queue_done(&b->events, kind, r->items[i].tag,
                             verdict->integer == 2 ? BROKER_DUPLICATE : 0);
    }
}

/* --- finish --- */

/* CRASH: after the finish script, before its reply is read - the job is recorded; a finish sent
 * again is refused. */
static void finished(void *owner, struct redis_request *r, const redisReply *reply)
{
    FAULT_POINT("redis.after-finish");
    settle_items(owner, r, reply, BROKER_FINISHED);
}

static const struct redis_op op_finish = {
    .name = "finish", .done = finished, .failed = redis_fail_items};

static const char *const counters[] = {
    [BROKER_JOB_SUCCEEDED] = "succeeded",
    [BROKER_JOB_FAILED] = "failed",
    [BROKER_JOB_CONTINUES] = "retried",
};

static struct redis_request *finish_request(struct redis_broker *b, bool *fresh, struct err *e)
{
    struct redis_request *r = redis_batch(b, &op_finish, REDIS_SCRIPT_FINISH, fresh, e);

    if (r && *fresh) {
        redis_key(r, slice_of(REDIS_UNACKED));
        redis_key(r, slice_of(REDIS_INDEX));
        redis_key(r, slice_of(REDIS_TOTALS));
        redis_key(r, slice_of(REDIS_DELAYED));
        redis_key(r, slice_of(REDIS_DELAYED_MSG));
        redis_arg_dbs(b, r);
        redis_arg_px(b, r, 0);
    }
    return r;
}

/* What to store: px '' for nothing. */
static void add_result(struct redis_broker *b, struct redis_request *r, struct slice id,
                       struct slice doc, int64_t expires_ms)
{
    redis_key2(r, REDIS_RESULT, id);
    if (id.len)
        redis_arg_px(b, r, expires_ms);
    else
        redis_args(r, "");
    redis_arg(r, id.len ? doc : slice_of(""));
}

/* A success with a result of the usual life and nothing more: most ends. */
static bool is_usual(const struct redis_broker *b, const struct broker_finish *f)
{
    return f->outcome == BROKER_JOB_SUCCEEDED && !f->duplicate && f->result_id.len &&
           redis_px(b, f->result_expires_ms) == redis_px(b, 0) && !f->dedup_key.len &&
           f->followups_len == 0;
}

/* Any other end, as the script reads it. */
static void arg_how(struct redis_broker *b, struct redis_request *r, const struct broker_finish *f,
                    bool foreign)
{
    char text[192], settle[64], px[24] = "-";

    redis_claim_settle(b, f, settle, sizeof(settle));
    if (f->result_id.len)
        snprintf(px, sizeof(px), "%lld", (long long)redis_px(b, f->result_expires_ms));
    snprintf(text, sizeof(text), "%s %d %s %zu %s",
             f->duplicate ? "duplicates" : counters[f->outcome], foreign, px, f->followups_len,
             settle);
    redis_args(r, text);
}

static void add_followup(struct redis_broker *b, struct redis_request *r,
                         const struct broker_message *m)
{
    bool delayed = redis_is_delayed(b, m->not_before_ms);

    redis_push_key(r, m->queue, m->priority, delayed);
    redis_push_args(b, r, m, delayed);
}

static void add_finish(struct redis_broker *b, struct redis_request *r,
                       const struct broker_finish *f, const struct redis_lease *lease)
{
    redis_key2(r, REDIS_RESULT, f->result_id);
    redis_arg_field(b, r, lease);
    redis_arg(r, f->result_id.len ? f->result : slice_of(""));
    if (is_usual(b, f))
        redis_args(r, lease->foreign ? "1" : "");
    else
        arg_how(b, r, f, lease->foreign);
    if (f->dedup_key.len)
        redis_key2(r, REDIS_DEDUP, f->dedup_key);
    for (size_t i = 0; i < f->followups_len; i++)
        add_followup(b, r, &f->followups[i]);
    if (redis_request_item(r, f->tag, &f->receipt) != 0)
        r->args.failed = true;
}

/* --- the usual end of what is leased in bulk --- */

static const struct redis_op op_finish_bulk = {
    .name = "finish", .done = finished, .failed = redis_fail_items};

static struct redis_request *bulk_request(struct redis_broker *b, bool *fresh, struct err *e)
{
    struct redis_request *r = redis_batch(b, &op_finish_bulk, REDIS_SCRIPT_FINISH_BULK, fresh, e);

    if (r && *fresh) {
        redis_key(r, slice_of(REDIS_TOTALS));
        redis_key(r, slice_of(REDIS_BULK));
        redis_arg_dbs(b, r);
        redis_arg_px(b, r, 0);
    }
    return r;
}

/* The list is named again when the item before was of another one. */
static void add_bulk(struct redis_broker *b, struct redis_request *r, const struct redis_bulk *bulk)
{
    const struct redis_item *last = r->items_len ? &r->items[r->items_len - 1] : NULL;

    if (last && redis_bulk_of(b, lease_of(&last->receipt).fence) == bulk)
        return;
    redis_bulk_key(b, r, bulk);
    redis_args(r, "");
}

static int submit_bulk_finish(struct redis_broker *b, const struct redis_bulk *bulk,
                              const struct broker_finish *f, struct err *e)
{
    struct redis_lease lease = lease_of(&f->receipt);
    bool fresh;
    struct redis_request *r = bulk_request(b, &fresh, e);

    if (!r)
        return -1;
    add_bulk(b, r, bulk);
    redis_key2(r, REDIS_RESULT, f->result_id);
    redis_argi(r, (int64_t)(2 * (lease.fence - bulk->fence + 1)) + lease.foreign);
    redis_arg(r, f->result);
    if (redis_request_item(r, f->tag, &f->receipt) != 0)
        r->args.failed = true;
    return fresh ? redis_submit(b, r, e) : 0;
}

/* NULL also when this end is not for it. */
static struct redis_bulk *bulk_of(struct redis_broker *b, const struct broker_finish *f)
{
    return is_usual(b, f) ? redis_bulk_of(b, lease_of(&f->receipt).fence) : NULL;
}

/* --- any --- */

static int submit_finish(struct redis_broker *b, const struct broker_finish *f, struct err *e)
{
    struct redis_lease lease = lease_of(&f->receipt);
    struct redis_request *r;
    bool fresh;

    if (lease.queue >= b->queues_len) {
        redis_refuse(b, f->tag);
        return 0;
    }
    for (size_t i = 0; i < f->followups_len; i++)
        redis_declare(b, f->followups[i].queue);
    r = finish_request(b, &fresh, e);
    if (!r)
        return -1;
    add_finish(b, r, f, &lease);
    return fresh ? redis_submit(b, r, e) : 0;
}

/* Those of one kind after the other: they share requests. */
int redis_finish(struct broker *base, const struct broker_finish *v, size_t n, struct err *e)
{
    struct redis_broker *b = (struct redis_broker *)base;

    for (size_t i = 0; i < n; i++) {
        if (!is_usual(b, &v[i]))
            redis_bulk_leave(b, &v[i].receipt);
    }
    for (size_t i = 0; i < n; i++) {
        if (!bulk_of(b, &v[i]) && submit_finish(b, &v[i], e) != 0)
            return -1;
    }
    for (size_t i = 0; i < n; i++) {
        const struct redis_bulk *bulk = bulk_of(b, &v[i]);

        if (bulk && submit_bulk_finish(b, bulk, &v[i], e) != 0)
            return -1;
    }
    return 0;
}

/* --- note --- */

static const struct redis_op op_note = {.name = "note"};

static void add_note(struct redis_broker *b, struct redis_request *r, const struct broker_note *v)
{
    struct redis_lease lease = lease_of(&v->receipt);

    if (!redis_arg_field(b, r, &lease))
        return;
    add_result(b, r, v->result_id, v->result, 0);
}

int redis_note(struct broker *base, const struct broker_note *v, size_t n, struct err *e)
{
    struct redis_broker *b = (struct redis_broker *)base;
    struct redis_request *r = redis_new(b, &op_note, REDIS_SCRIPT_NOTE, e);

    if (!r)
        return -1;
    for (size_t i = 0; i < n; i++)
        redis_bulk_leave_unrun(b, &v[i].receipt);
    redis_key(r, slice_of(REDIS_UNACKED));
    redis_arg_dbs(b, r);
    for (size_t i = 0; i < n; i++)
        add_note(b, r, &v[i]);
    return redis_submit(b, r, e);
}

/* --- renew --- */

static void renewed(void *owner, struct redis_request *r, const redisReply *reply)
{
    struct redis_broker *b = owner;

    for (size_t i = 0; i < reply->elements; i++) {
        size_t item = (size_t)redis_at(reply, i)->integer;
        struct broker_event event = {.kind = BROKER_LOST};

        if (item >= r->items_len)
            continue;
        event.receipt = r->items[item].receipt;
        let_go(b, &event.receipt);
        event_queue_push(&b->events, &event);
    }
}

static const struct redis_op op_renew = {.name = "renew", .done = renewed};

/* Scores are wall-clock seconds: a Python peer that scans sees a delivery of just now. */
int redis_renew(struct broker *base, const struct broker_receipt *v, size_t n, struct err *e)
{
    struct redis_broker *b = (struct redis_broker *)base;
    struct redis_request *r = redis_new(b, &op_renew, REDIS_SCRIPT_RENEW, e);

    if (!r)
        return -1;
    for (size_t i = 0; i < n; i++)
        redis_bulk_leave(b, &v[i]);
    redis_key(r, slice_of(REDIS_UNACKED));
    redis_key(r, slice_of(REDIS_INDEX));
    redis_arg_score(r, clock_wall_ms(b->clock));
    for (size_t i = 0; i < n; i++) {
        struct redis_lease lease = lease_of(&v[i]);

        if (!redis_arg_field(b, r, &lease))
            continue;
        if (redis_request_item(r, 0, &v[i]) != 0)
            r->args.failed = true;
    }
    return redis_submit(b, r, e);
}

/* --- bury --- */

/* CRASH: after the bury script, before its reply is read - the message rests in its grave. */
static void buried(void *owner, struct redis_request *r, const redisReply *reply)
{
    settle_items(owner, r, reply, BROKER_BURIED);
}

static const struct redis_op op_bury = {.name = "bury", .done = buried, .failed = redis_fail_items};

/* The reason beside the untouched element: a JSON object that redis_ask.c reads. */
static void add_reason(struct redis_broker *b, struct redis_request *r, const struct broker_bury *v)
{
    struct buf out = BUF_INIT;

    buf_addf(&out, "{\"at_ms\":%lld,\"cause\":", (long long)clock_wall_ms(b->clock));
    redis_quote(&out, v->cause);
    if (v->id.ptr) {
        buf_adds(&out, ",\"id\":");
        redis_quote(&out, v->id);
    }
    if (v->task.ptr) {
        buf_adds(&out, ",\"task\":");
        redis_quote(&out, v->task);
    }
    buf_adds(&out, "}");
    redis_arg(r, buf_slice(&out));
    if (out.failed)
        r->args.failed = true;
    buf_release(&out);
}

static void add_bury(struct redis_broker *b, struct redis_request *r, const struct broker_bury *v,
                     const struct redis_lease *lease)
{
    const struct redis_queue *q = &b->queues[lease->queue];
    const char *grave = v->grave == BROKER_DEAD ? ".dead" : ".unknown";

    redis_key3(r, "", slice_of(q->name), grave);
    redis_key3(r, REDIS_REASONS, slice_of(q->name), grave);
    redis_arg_field(b, r, lease);
    redis_argi(r, (int64_t)q->tail_len);
    redis_args(r, lease->foreign ? "1" : "0");
    add_reason(b, r, v);
    add_result(b, r, v->result_id, v->result, 0);
    redis_key2(r, REDIS_DEDUP, v->dedup_key);
    redis_args(r, v->dedup_key.len ? "1" : "0");
    if (redis_request_item(r, v->tag, &v->receipt) != 0)
        r->args.failed = true;
}

int redis_bury(struct broker *base, const struct broker_bury *v, size_t n, struct err *e)
{
    struct redis_broker *b = (struct redis_broker *)base;
    struct redis_request *r = redis_new(b, &op_bury, REDIS_SCRIPT_BURY, e);

    if (!r)
        return -1;
    for (size_t i = 0; i < n; i++)
        redis_bulk_leave(b, &v[i].receipt);
    redis_key(r, slice_of(REDIS_UNACKED));
    redis_key(r, slice_of(REDIS_INDEX));
    redis_key(r, slice_of(REDIS_TOTALS));
    redis_arg_dbs(b, r);
    for (size_t i = 0; i < n; i++) {
        struct redis_lease lease = lease_of(&v[i].receipt);

        if (lease.queue >= b->queues_len)
            redis_refuse(b, v[i].tag);
        else
            add_bury(b, r, &v[i], &lease);
    }
    return redis_submit(b, r, e);
}
