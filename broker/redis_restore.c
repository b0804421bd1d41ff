#include "broker/redis_restore.h"

#include "base/analyzer.h"
#include "base/fault.h"

#include <stdlib.h>

void redis_restore_free(void *state)
{
    struct redis_restore *job = state;

    if (!job)
        return;
    job->b->restoring--;
    for (size_t i = 0; i < job->len; i++) {
        free(job->items[i].field);
        free(job->items[i].envelope);
        redis_entry_release(&job->items[i].entry);
    }
    free(job->items);
    free(job);
}

struct redis_restore *redis_restore_new(struct redis_broker *b, size_t cap)
{
    struct redis_restore *job = calloc(1, sizeof(*job));

    if (!job)
        return NULL;
    job->items = calloc(cap ? cap : 1, sizeof(*job->items));
    if (!job->items) {
        free(job);
        return NULL;
    }
    job->b = b;
    b->restoring++;
    return job;
}

/* --- the second step: move --- */

static void forget_lease(struct redis_broker *b, const struct redis_restore_item *item, bool moved)
{
    struct broker_event event = {.kind = BROKER_LOST};
    const struct redis_lease *held;

    if (!item->ours || item->lease.instance != b->instance)
        return;
    held = redis_held_find(&b->held, item->lease.fence);
    if (!held)
        return;
    if (!item->event && moved) {
        redis_lease_store(&event.receipt, held);
        event_queue_push(&b->events, &event);
    }
    if (item->event || moved)
        redis_held_remove(&b->held, item->lease.fence);
}

static void restored(void *owner, struct redis_request *r, const redisReply *reply)
{
    struct redis_broker *b = owner;
    struct redis_restore *job = r->state;

    for (size_t i = 0; i < job->len; i++) {
        const redisReply *verdict = redis_at(reply, i);
        const struct redis_restore_item *item = &job->items[i];
        struct err e;

        if (verdict->type != REDIS_REPLY_INTEGER) {
            redis_text_err(b, &e, verdict);
            if (item->event)
                event_queue_fail(&b->events, item->tag, &e);
            else
                log_warn(b->log, "lease not restored", "field=%s error=\"%s\"", item->field,
                         e.text);
            continue;
        }
        forget_lease(b, item, verdict->integer == 1);
        if (item->event && verdict->integer)
            event_queue_done(&b->events, BROKER_RELEASED, item->tag, 0);
        else if (item->event)
            redis_refuse(b, item->tag);
        else if (verdict->integer)
            log_info(b->log, "lease restored", "field=%s queue=%s", item->field,
                     item->entry.routing_key);
    }
}

static void fail_item(const struct redis_restore *job, const struct redis_restore_item *item,
                      const struct err *why)
{
    if (item->event)
        event_queue_fail(&job->b->events, item->tag, why);
}

static void restore_failed(void *owner, struct redis_request *r, const struct err *why)
{
    const struct redis_restore *job = r->state;

    (void)owner;
    for (size_t i = 0; i < job->len; i++)
        fail_item(job, &job->items[i], why);
}

static const struct redis_op op_move = {
    .name = "move", .done = restored, .failed = restore_failed, .free_state = redis_restore_free};

static struct slice payload(const struct redis_restore_item *item)
{
    return item->envelope ? slice_make(item->envelope, item->envelope_len)
                          : slice_make(item->entry.envelope, item->entry.envelope_len);
}

/* Destinations: the queue, or every queue bound to a named exchange. */
static size_t add_destinations(struct redis_request *r, const struct redis_restore_item *item,
                               const redisReply *bindings, bool delayed)
{
    struct slice key = slice_of(item->entry.routing_key);
    size_t n = 0;

    for (size_t i = 0; bindings && i < bindings->elements; i++) {
        struct slice queue;

        if (redis_binding_match(redis_slice(redis_at(bindings, i)), key, &queue)) {
            redis_push_key(r, queue, item->entry.priority, delayed);
            n++;
        }
    }
    if (n)
        return n;
    /* kombu drops a message that no queue is bound for; we keep it under its routing key. */
    redis_push_key(r, key, item->entry.priority, delayed);
    return 1;
}

static void add_move(struct redis_broker *b, struct redis_request *r,
                     const struct redis_restore_item *item, const redisReply *bindings)
{
    bool delayed = redis_is_delayed(b, item->not_before_ms);
    size_t n = add_destinations(r, item, bindings, delayed);

    redis_args(r, item->field);
    if (item->limit_ms)
        redis_arg_score(r, item->limit_ms);
    else
        redis_args(r, "");
    redis_args(r, delayed ? "d" : item->front ? "r" : "l");
    redis_argi(r, (int64_t)n);
    redis_arg(r, payload(item));
    redis_argi(r, item->not_before_ms);
    if (delayed)
        redis_arg_tag(b, r, item->entry.priority, slice_of(item->entry.routing_key));
    else
        redis_args(r, "");
}

/* Takes job. */
static void submit_move(struct redis_broker *b, struct redis_restore *job,
                        const redisReply *bindings)
{
    struct err e = ERR_INIT;
    struct redis_request *r = job->len ? redis_new(b, &op_move, REDIS_SCRIPT_MOVE, &e) : NULL;

    if (!r) {
        for (size_t i = 0; i < job->len; i++)
            fail_item(job, &job->items[i], &e);
        redis_restore_free(job);
        return;
    }
    r->state = job;
    redis_key(r, slice_of(REDIS_UNACKED));
    redis_key(r, slice_of(REDIS_INDEX));
    redis_key(r, slice_of(REDIS_DELAYED));
    redis_key(r, slice_of(REDIS_DELAYED_MSG));
    for (size_t i = 0; i < job->len; i++)
        add_move(b, r, &job->items[i], bindings);
    redis_proceed(b, r);
}

/* --- named exchanges: kombu's binding sets say where --- */

static void got_bindings(void *owner, struct redis_request *r, const redisReply *reply)
{
    struct redis_restore *job = r->state;

    r->state = NULL;
    submit_move(owner, job, reply);
}

static const struct redis_op op_bindings = {.name = "bindings",
                                            .done = got_bindings,
                                            .failed = restore_failed,
                                            .free_state = redis_restore_free};

/* The item goes on in a restore of its own. -1 when out of memory. */
static int ask_bindings(struct redis_broker *b, struct redis_restore_item *item)
{
    struct redis_restore *job = redis_restore_new(b, 1);
    struct redis_request *r = job ? redis_new(b, &op_bindings, REDIS_PLAIN, NULL) : NULL;

    if (!r) {
        redis_restore_free(job);
        return -1;
    }
    job->items[job->len++] = *item;
    memset(item, 0, sizeof(*item));
    r->state = job;
    redis_key(r, slice_of("SMEMBERS"));
    redis_key2(r, REDIS_BINDING, slice_of(job->items[0].entry.exchange));
    redis_proceed(b, r);
    return 0;
}

/* --- the first step: read --- */

static void drop_item(struct redis_restore *job, size_t i)
{
    free(job->items[i].field);
    free(job->items[i].envelope);
    redis_entry_release(&job->items[i].entry);
    memmove(&job->items[i], &job->items[i + 1], (job->len - i - 1) * sizeof(*job->items));
    job->len--;
}

/* False when the item leaves this job. A score without an entry stays in: the script removes it.
 * The item holds the text. */
ANALYZER_LOSES_SIGHT
static bool take_apart(struct redis_restore *job, struct redis_restore_item *item,
                       struct slice value)
{
    struct redis_broker *b = job->b;
    struct err e = ERR_INIT;

    if (!value.ptr) {
        item->entry.routing_key = strdup("");
        if (item->entry.routing_key)
            return true;
        err_nomem(&e);
    } else if (redis_entry_parse(&item->entry, value, item->ours, &e) != 0) {
        log_warn(b->log, "lease not restored", "field=%s error=\"%s\"", item->field, e.text);
    } else if (!*item->entry.exchange) {
        return true;
    } else if (ask_bindings(b, item) < 0) {
        err_nomem(&e);
    }
    if (e.code != ERR_NONE)
        fail_item(job, item, &e);
    return false;
}
ANALYZER_SEES_AGAIN

static void got_entries(void *owner, struct redis_request *r, const redisReply *reply)
{
    struct redis_broker *b = owner;
    struct redis_restore *job = r->state;
    size_t kept = 0;

    r->state = NULL;
    FAULT_POINT("redis.before-restore");
    for (size_t i = 0, n = job->len; i < n; i++) {
        if (take_apart(job, &job->items[kept], redis_slice(redis_at(reply, i))))
            kept++;
        else
            drop_item(job, kept);
    }
    submit_move(b, job, NULL);
}

static const struct redis_op op_read = {.name = "read leases",
                                        .done = got_entries,
                                        .failed = restore_failed,
                                        .free_state = redis_restore_free};

int redis_restore_read(struct redis_broker *b, struct redis_restore *job, struct err *e)
{
    struct redis_request *r = job->len ? redis_new(b, &op_read, REDIS_PLAIN, e) : NULL;

    if (!r) {
        int rc = job->len ? -1 : 0;

        redis_restore_free(job);
        return rc;
    }
    r->state = job;
    redis_key(r, slice_of("HMGET"));
    redis_key(r, slice_of(REDIS_UNACKED));
    for (size_t i = 0; i < job->len; i++)
        redis_key(r, slice_of(job->items[i].field));
    return redis_submit(b, r, e);
}

/* --- release --- */

static int fill_release(struct redis_broker *b, struct redis_restore_item *item,
                        const struct broker_release *v)
{
    struct buf field = BUF_INIT;
    struct buf marked = BUF_INIT;
    int priority;

    redis_field(&field, b->node, &item->lease);
    item->field = buf_detach(&field, NULL);
    item->tag = v->tag;
    item->event = true;
    item->ours = true;
    item->front = v->front;
    item->not_before_ms = v->not_before_ms;
    if (v->envelope.ptr) {
        if (!redis_mark_redelivered(&marked, v->envelope, &priority))
            buf_add(&marked, v->envelope.ptr, v->envelope.len);
        item->envelope = buf_detach(&marked, &item->envelope_len);
    }
    buf_release(&field);
    buf_release(&marked);
    return item->field && (item->envelope || !v->envelope.ptr) ? 0 : -1;
}

static int release_some(struct redis_broker *b, const struct broker_release *v, size_t n,
                        struct err *e)
{
    struct redis_restore *job = redis_restore_new(b, n);

    if (!job)
        return err_nomem(e);
    for (size_t i = 0; i < n; i++) {
        struct redis_restore_item *item = &job->items[job->len];

        redis_bulk_leave(b, &v[i].receipt);
        redis_lease_load(&item->lease, &v[i].receipt);
        if (item->lease.queue >= b->queues_len) {
            redis_refuse(b, v[i].tag);
            continue;
        }
        job->len++;
        if (fill_release(b, item, &v[i]) != 0) {
            redis_restore_free(job);
            return err_nomem(e);
        }
    }
    return redis_restore_read(b, job, e);
}

int redis_release(struct broker *base, const struct broker_release *v, size_t n, struct err *e)
{
    for (size_t at = 0; at < n; at += REDIS_RESTORE_BATCH) {
        size_t some = n - at < REDIS_RESTORE_BATCH ? n - at : REDIS_RESTORE_BATCH;

        if (release_some((struct redis_broker *)base, v + at, some, e) != 0)
            return -1;
    }
    return 0;
}
