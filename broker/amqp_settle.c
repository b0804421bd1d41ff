/* How deliveries end: what follows from them is published and confirmed, then they are
 * acknowledged. */
#include "base/fault.h"
#include "broker/amqp.h"
#include "broker/amqp_claim.h"

#include <stdlib.h>
#include <string.h>

/* A release of up to that long waits here, unacknowledged, and not in the broker. */
#define LOCAL_DELAY_MS 2000

/* --- receipts --- */

struct receipt {
    uint32_t epoch;
    uint64_t tag;
    uint64_t fence;
};

struct broker_receipt amqp_receipt_of(const struct amqp_held *h)
{
    struct broker_receipt receipt = {{0}};
    struct receipt r;

    memset(&r, 0, sizeof(r)); /* receipts are compared as bytes */
    r.epoch = h->epoch;
    r.tag = h->tag;
    r.fence = h->fence;
    memcpy(receipt.bytes, &r, sizeof(r));
    return receipt;
}

struct amqp_held *amqp_held_find(struct amqp_broker *b, const struct broker_receipt *receipt)
{
    struct amqp_held *h;
    struct receipt r;

    memcpy(&r, receipt->bytes, sizeof(r));
    h = r.epoch == b->epoch ? held_ring_find(&b->held, r.tag) : NULL;
    if (!h)
        h = amqp_aside_find(b, r.epoch, r.tag);
    return h && h->fence == r.fence ? h : NULL;
}

struct amqp_held *amqp_held_of(struct amqp_broker *b, const struct broker_receipt *receipt)
{
    struct amqp_held *h = amqp_held_find(b, receipt);

    return h && h->state == HELD_LENT ? h : NULL;
}

static void refuse(struct amqp_broker *b, uint64_t tag)
{
    event_queue_done(&b->events, BROKER_REFUSED, tag, 0);
}

static void end_lease(struct amqp_broker *b, struct amqp_held *h, enum held_state state)
{
    amqp_claims_give_up(b, h);
    h->state = state;
    b->lent -= !h->kept_aside;
}

/* --- what a step leads to --- */

/* Back to the front of its queue, as if it had just come. */
static void take_back(struct amqp_broker *b, struct amqp_held *h)
{
    h->redelivered = true;
    amqp_offer(b, h, true);
}

void amqp_lease_lost(struct amqp_broker *b, struct amqp_held *h)
{
    struct broker_event lost = {.kind = BROKER_LOST, .receipt = amqp_receipt_of(h)};

    event_queue_push(&b->events, &lost);
    end_lease(b, h, HELD_WAITING);
    take_back(b, h);
}

/* The dedup key went to another meanwhile: nothing of the run counts. */
static void refuse_settled(struct amqp_broker *b, const struct out_step *step, struct amqp_held *h)
{
    if (h)
        take_back(b, h);
    refuse(b, step->tag);
}

/* CRASH: after confirm, before ack - the message comes back, its record is found, it is dropped. */
static void on_settled(struct amqp_broker *b, struct out_step *step, const struct err *why)
{
    struct amqp_held *h = amqp_held_find(b, &step->receipt);

    FAULT_POINT("amqp.before-ack");
    if (step->event == BROKER_REFUSED) {
        refuse_settled(b, step, h);
        return;
    }
    if (why) {
        if (h) {
            h->state = HELD_LENT;
            b->lent += !h->kept_aside;
        }
        event_queue_fail(&b->events, step->tag, why);
        return;
    }
    amqp_end_copies(b, step->token);
    if (h) {
        amqp_recent_confirmed(b, h->id);
        amqp_done_with(b, h);
    }
    event_queue_done(&b->events, step->event, step->tag, step->flags);
}

static struct out_step *settling(struct amqp_broker *b, struct amqp_held *h,
                                 enum broker_event_kind event, uint64_t tag, struct err *e)
{
    struct out_step *step = out_step_new(on_settled, event, tag);

    if (!step) {
        err_nomem(e);
        return NULL;
    }
    step->receipt = amqp_receipt_of(h);
    memcpy(step->token, h->token, sizeof(step->token));
    end_lease(b, h, HELD_SETTLING);
    return step;
}

/* Closes the step; what could not be added fails it as a whole. */
static void submit(struct amqp_broker *b, struct out_step *step, int rc, const struct err *e)
{
    if (rc != 0 && !step->failed) {
        step->failed = true;
        step->why = *e;
    }
    out_step_close(b, step);
}

/* The same for one that ends a dedup key as well: the key is ended first, and what the step holds
 * back follows when that was seen to count. */
static void submit_with_key(struct amqp_broker *b, struct out_step *step, struct amqp_owned *key,
                            const struct owned_end *end, int rc, struct err *e)
{
    step->closed = true;
    if (rc == 0 && owned_end(b, key, end, step, e) == 0)
        return;
    owned_put_back(b, key, &step->receipt);
    out_step_drop(b, step, e);
}

/* --- finish --- */

static const enum amqp_result_outcome outcomes[] = {
    [BROKER_JOB_SUCCEEDED] = AMQP_RESULT_SUCCEEDED,
    [BROKER_JOB_FAILED] = AMQP_RESULT_FAILED,
    [BROKER_JOB_CONTINUES] = AMQP_RESULT_CONTINUES,
};

static int add_finish(struct amqp_broker *b, struct out_step *step, const struct amqp_held *h,
                      const struct broker_finish *f, struct err *e)
{
    bool fits = amqp_finish_fits(b, f), goes_on = f->outcome == BROKER_JOB_CONTINUES;

    for (size_t i = 0; i < f->followups_len; i++) {
        struct out_spec spec = amqp_task_spec(&f->followups[i]);

        spec.again = h->suspicious;
        if (amqp_followup_fits(b, &f->followups[i]) && out_add(b, step, &spec, e) != 0)
            return -1;
    }
    if (!fits && !goes_on)
        return amqp_add_misfit(b, step, h, f, e);
    return amqp_add_result(b, step, h, outcomes[f->outcome], f->result_id,
                           fits ? f->result : slice_make(NULL, 0), f->result_expires_ms, e);
}

/* A retry keeps the key until it is due and a lease longer. */
static int64_t keep_ms(const struct amqp_broker *b, const struct broker_finish *f)
{
    int64_t now_ms = clock_wall_ms(b->clock), due_ms = now_ms;

    for (size_t i = 0; i < f->followups_len; i++) {
        if (f->followups[i].continues && f->followups[i].not_before_ms > due_ms)
            due_ms = f->followups[i].not_before_ms;
    }
    return due_ms - now_ms + b->lease_ms;
}

static struct owned_end end_of(const struct amqp_broker *b, const struct broker_finish *f)
{
    if (f->outcome == BROKER_JOB_SUCCEEDED && amqp_finish_fits(b, f))
        return (struct owned_end){AMQP_CLAIM_DONE, f->dedup_window_ms, f->result};
    if (f->outcome == BROKER_JOB_CONTINUES)
        return (struct owned_end){.kind = AMQP_CLAIM_KEEP, .window_ms = keep_ms(b, f)};
    return (struct owned_end){.kind = AMQP_CLAIM_RELEASE};
}

static void finish_one(struct amqp_broker *b, const struct broker_finish *f)
{
    struct amqp_held *h = amqp_held_of(b, &f->receipt);
    struct amqp_owned *key;
    struct err e = ERR_INIT;
    struct out_step *step;

    if (!h) {
        refuse(b, f->tag);
        return;
    }
    key = owned_take(b, h, f->dedup_key);
    step = settling(b, h, BROKER_FINISHED, f->tag, &e);
    if (!step) {
        owned_put_back(b, key, &f->receipt);
        event_queue_fail(&b->events, f->tag, &e);
        return;
    }
    step->flags = f->duplicate ? BROKER_DUPLICATE : 0;
    if (key) {
        struct owned_end end = end_of(b, f);

        out_step_hold(step);
        submit_with_key(b, step, key, &end, add_finish(b, step, h, f, &e), &e);
    } else {
        submit(b, step, add_finish(b, step, h, f, &e), &e);
    }
}

int amqp_finish(struct broker *base, const struct broker_finish *v, size_t n, struct err *e)
{
    (void)e;
    for (size_t i = 0; i < n; i++)
        finish_one(amqp_of(base), &v[i]);
    return 0;
}

/* --- bury --- */

static int add_bury(struct amqp_broker *b, struct out_step *step, const struct amqp_held *h,
                    const struct broker_bury *v, struct err *e)
{
    static const char *const suffixes[] = {[BROKER_DEAD] = ".dead", [BROKER_UNKNOWN] = ".unknown"};
    struct buf name = BUF_INIT;
    char handle[UUID_SIZE];
    struct slice queue = slice_of(b->queues[h->queue].name);
    struct grave_note grave = {.queue = queue,
                               .grave = v->grave,
                               .cause = v->cause,
                               .id = v->id,
                               .task = v->task,
                               .at_ms = clock_wall_ms(b->clock)};
    struct out_spec spec = {.mandatory = true,
                            .task = true,
                            .priority = h->priority,
                            .grave = &grave,
                            .body = slice_make(h->envelope, h->envelope_len)};
    int rc;

    uuid_next(&b->random, handle);
    grave.handle = slice_of(handle);
    buf_add(&name, queue.ptr, queue.len);
    buf_adds(&name, suffixes[v->grave]);
    spec.routing_key = buf_slice(&name);
    rc = name.failed ? err_nomem(e) : out_add(b, step, &spec, e);
    buf_release(&name);
    return rc ? rc
              : amqp_add_result(b, step, h, AMQP_RESULT_DEAD,
                                v->result_id.len ? v->result_id : v->id, v->result, 0, e);
}

static void bury_one(struct amqp_broker *b, const struct broker_bury *v)
{
    static const struct owned_end end = {.kind = AMQP_CLAIM_RELEASE};
    struct amqp_held *h = amqp_held_of(b, &v->receipt);
    struct amqp_owned *key;
    struct err e = ERR_INIT;
    struct out_step *step;

    if (!h) {
        refuse(b, v->tag);
        return;
    }
    key = owned_take(b, h, v->dedup_key);
    step = settling(b, h, BROKER_BURIED, v->tag, &e);
    if (!step) {
        owned_put_back(b, key, &v->receipt);
        event_queue_fail(&b->events, v->tag, &e);
    } else if (key) {
        out_step_hold(step);
        submit_with_key(b, step, key, &end, add_bury(b, step, h, v, &e), &e);
    } else {
        submit(b, step, add_bury(b, step, h, v, &e), &e);
    }
}

int amqp_bury(struct broker *base, const struct broker_bury *v, size_t n, struct err *e)
{
    (void)e;
    for (size_t i = 0; i < n; i++)
        bury_one(amqp_of(base), &v[i]);
    return 0;
}

/* --- release --- */

/* Stays here, unacknowledged: back to the front, or for a moment. */
static bool release_here(struct amqp_broker *b, struct amqp_held *h, const struct broker_release *v)
{
    int64_t wait_ms = v->not_before_ms ? v->not_before_ms - clock_wall_ms(b->clock) : 0;

    if (v->envelope.ptr || wait_ms > LOCAL_DELAY_MS || (wait_ms <= 0 && !v->front))
        return false;
    h->redelivered = true;
    end_lease(b, h, HELD_WAITING);
    if (wait_ms > 0) {
        h->state = HELD_DELAYED;
        h->due_at_ms = amqp_now(b) + wait_ms + 1;
        held_list_push(&b->delayed, h);
    } else {
        amqp_offer(b, h, true);
    }
    return true;
}

/* The message goes on as another one with the same job: the first is acknowledged when the second
 * is confirmed. CRASH: after confirm, before ack - both are there; the first comes back as
 * redelivered and runs, the copy is marked as sent again: recorded once. */
static int release_there(struct amqp_broker *b, struct amqp_held *h, const struct broker_release *v,
                         struct err *e)
{
    struct out_spec spec = {.routing_key = slice_of(b->queues[h->queue].name),
                            .mandatory = true,
                            .task = true,
                            .again = true,
                            .priority = h->priority,
                            .not_before_ms = v->not_before_ms,
                            .body = v->envelope.ptr ? v->envelope
                                                    : slice_make(h->envelope, h->envelope_len)};
    struct out_step *step = settling(b, h, BROKER_RELEASED, v->tag, e);

    if (!step)
        return -1;
    submit(b, step, out_add(b, step, &spec, e), e);
    return 0;
}

static void release_one(struct amqp_broker *b, const struct broker_release *v)
{
    struct amqp_held *h = amqp_held_of(b, &v->receipt);
    struct err e = ERR_INIT;

    if (!h)
        refuse(b, v->tag);
    else if (release_here(b, h, v))
        event_queue_done(&b->events, BROKER_RELEASED, v->tag, 0);
    else if (release_there(b, h, v, &e) != 0)
        event_queue_fail(&b->events, v->tag, &e);
}

int amqp_release(struct broker *base, const struct broker_release *v, size_t n, struct err *e)
{
    (void)e;
    for (size_t i = 0; i < n; i++)
        release_one(amqp_of(base), &v[i]);
    return 0;
}

/* --- renew and note --- */

/* The lease is the connection's; only what is gone is told. */
int amqp_renew(struct broker *base, const struct broker_receipt *v, size_t n, struct err *e)
{
    struct amqp_broker *b = amqp_of(base);

    (void)e;
    for (size_t i = 0; i < n; i++) {
        struct broker_event lost = {.kind = BROKER_LOST, .receipt = v[i]};

        if (!amqp_held_find(b, &v[i]))
            event_queue_push(&b->events, &lost);
    }
    return 0;
}

static void on_noted(struct amqp_broker *b, struct out_step *step, const struct err *why)
{
    (void)b;
    (void)step;
    (void)why; /* a note is news: one that was not taken is dropped */
}

int amqp_note(struct broker *base, const struct broker_note *v, size_t n, struct err *e)
{
    struct amqp_broker *b = amqp_of(base);

    for (size_t i = 0; i < n; i++) {
        struct amqp_held *h = amqp_held_of(b, &v[i].receipt);
        struct out_step *step = h ? out_step_new(on_noted, BROKER_STORED, 0) : NULL;

        if (!h)
            continue;
        if (!step)
            return err_nomem(e);
        submit(b, step,
               amqp_add_result(b, step, h, AMQP_RESULT_STATE, v[i].result_id, v[i].result, 0, e),
               e);
    }
    return 0;
}
