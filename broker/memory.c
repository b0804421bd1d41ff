/*
 * The memory backend's ops. An op takes effect at once, in the call, because nothing can come
 * between; only its event is handed out later. Out of memory for one item of a batch is that item's
 * BROKER_FAILED.
 */
#include "broker/memory_store.h"

#include <stdlib.h>
#include <string.h>

static struct memory *from(struct broker *b)
{
    return (struct memory *)b;
}

static int64_t now_of(const struct memory *m)
{
    return clock_wall_ms(m->clock);
}

static void fail_nomem(struct memory *m, uint64_t tag)
{
    struct err e = ERR_INIT;

    err_nomem(&e);
    event_queue_fail(&m->events, tag, &e);
}

/* The lease behind a receipt, or NULL after saying that it is lost. */
static struct memory_job *held(struct memory *m, const struct broker_receipt *receipt, uint64_t tag)
{
    struct memory_job *job = memory_job_by_fence(m->store, memory_receipt_fence(receipt));

    if (!job)
        event_queue_done(&m->events, BROKER_REFUSED, tag, 0);
    return job;
}

/* --- publishing --- */

static void enqueue(struct memory *m, struct memory_job *job, const struct broker_message *message)
{
    if (message->not_before_ms > now_of(m))
        memory_job_delay(m->store, job, message->not_before_ms);
    else
        memory_job_wait(m->store, job, false);
    if (!message->continues)
        m->store->totals.published++;
}

static int publish_one(struct memory *m, const struct broker_message *message)
{
    struct memory_job *job = memory_job_new(m->store, message);
    int seen = 0;

    if (!job)
        return -1;
    if (message->token.len)
        seen = memory_store_token(m->store, message->token, now_of(m));
    if (seen == 0)
        enqueue(m, job, message);
    else
        memory_job_free(job);
    return seen < 0 ? -1 : 0;
}

static int memory_publish(struct broker *b, const struct broker_message *v, size_t n, struct err *e)
{
    (void)e;
    for (size_t i = 0; i < n; i++) {
        if (publish_one(from(b), &v[i]) == 0)
            event_queue_done(&from(b)->events, BROKER_PUBLISHED, v[i].tag, 0);
        else
            fail_nomem(from(b), v[i].tag);
    }
    return 0;
}

/* --- while a lease is held --- */

static int memory_renew(struct broker *b, const struct broker_receipt *v, size_t n, struct err *e)
{
    struct memory *m = from(b);

    (void)e;
    memory_tick(m->store, now_of(m));
    for (size_t i = 0; i < n; i++) {
        struct memory_job *job = memory_job_by_fence(m->store, memory_receipt_fence(&v[i]));
        struct broker_event lost = {.kind = BROKER_LOST, .receipt = v[i]};

        if (job)
            memory_job_renew(m->store, job, now_of(m) + m->lease_ms);
        else
            event_queue_push(&m->events, &lost);
    }
    return 0;
}

static int64_t expires_at(const struct memory *m, int64_t expires_ms)
{
    int64_t ms = expires_ms ? expires_ms : m->result_expires_ms;

    return ms < 0 ? CLOCK_NEVER : now_of(m) + ms;
}

static int memory_note(struct broker *b, const struct broker_note *v, size_t n, struct err *e)
{
    struct memory *m = from(b);

    memory_tick(m->store, now_of(m));
    for (size_t i = 0; i < n; i++) {
        if (!memory_job_by_fence(m->store, memory_receipt_fence(&v[i].receipt)))
            continue;
        if (memory_result_put(m->store, v[i].result_id, v[i].result, expires_at(m, 0), now_of(m)) <
            0)
            return err_nomem(e);
    }
    return 0;
}

/* --- the end of a delivery --- */

/* Follow-ups are made before anything changes, so that the step happens whole or not at all. */
static struct memory_job **make_followups(struct memory *m, const struct broker_finish *f)
{
    struct memory_job **jobs = calloc(f->followups_len + 1, sizeof(struct memory_job *));

    for (size_t i = 0; jobs && i < f->followups_len; i++) {
        jobs[i] = memory_job_new(m->store, &f->followups[i]);
        if (jobs[i])
            continue;
        while (i > 0)
            memory_job_free(jobs[--i]);
        free(jobs);
        jobs = NULL;
    }
    return jobs;
}

static void count_outcome(struct answer_totals *totals, enum broker_outcome outcome, bool duplicate)
{
    totals->duplicates += duplicate;
    totals->succeeded += duplicate || outcome == BROKER_JOB_SUCCEEDED;
    totals->failed += !duplicate && outcome == BROKER_JOB_FAILED;
    totals->retried += !duplicate && outcome == BROKER_JOB_CONTINUES;
}

/* A job that has its SUCCESS is done, whatever this run of it says. */
static void settle_key(struct memory *m, const struct memory_job *job,
                       const struct broker_finish *f, bool succeeded)
{
    int64_t until = now_of(m);

    if (succeeded || f->outcome == BROKER_JOB_SUCCEEDED) {
        memory_claim_settle(m->store, job->fence, f->dedup_key, MEMORY_CLAIM_DONE,
                            until + f->dedup_window_ms);
        return;
    }
    for (size_t i = 0; i < f->followups_len; i++) {
        if (f->followups[i].continues && f->followups[i].not_before_ms > until)
            until = f->followups[i].not_before_ms;
    }
    memory_claim_settle(m->store, job->fence, f->dedup_key,
                        f->outcome == BROKER_JOB_CONTINUES ? MEMORY_CLAIM_KEPT
                                                           : MEMORY_CLAIM_GIVEN_UP,
                        until + m->lease_ms);
}

static void finish_job(struct memory *m, struct memory_job *job, const struct broker_finish *f)
{
    struct memory_job **followups = make_followups(m, f);
    bool duplicate;
    int stored = 0;

    if (followups && f->result_id.len)
        stored = memory_result_put(m->store, f->result_id, f->result,
                                   expires_at(m, f->result_expires_ms), now_of(m));
    for (size_t i = 0; followups && i < f->followups_len; i++) {
        if (stored == 0)
            enqueue(m, followups[i], &f->followups[i]);
        else
            memory_job_free(followups[i]);
    }
    if (!followups || stored < 0) {
        fail_nomem(m, f->tag);
    } else {
        duplicate = stored == 1 || f->duplicate;
        count_outcome(&m->store->totals, f->outcome, duplicate);
        settle_key(m, job, f, stored == 1);
        memory_job_take(m->store, job);
        memory_job_free(job);
        event_queue_done(&m->events, BROKER_FINISHED, f->tag, duplicate ? BROKER_DUPLICATE : 0);
    }
    free(followups);
}

static int memory_finish(struct broker *b, const struct broker_finish *v, size_t n, struct err *e)
{
    struct memory *m = from(b);

    (void)e;
    memory_tick(m->store, now_of(m));
    for (size_t i = 0; i < n; i++) {
        struct memory_job *job = held(m, &v[i].receipt, v[i].tag);

        if (job)
            finish_job(m, job, &v[i]);
    }
    return 0;
}

static void release_job(struct memory *m, struct memory_job *job, const struct broker_release *r)
{
    struct slice envelope;

    if (r->envelope.ptr) {
        if (memory_copy(&envelope, r->envelope) != 0) {
            fail_nomem(m, r->tag);
            return;
        }
        memory_drop(&job->envelope);
        job->envelope = envelope;
    }
    memory_job_take(m->store, job);
    if (r->not_before_ms > now_of(m))
        memory_job_delay(m->store, job, r->not_before_ms);
    else
        memory_job_wait(m->store, job, r->front);
    event_queue_done(&m->events, BROKER_RELEASED, r->tag, 0);
}

static int memory_release(struct broker *b, const struct broker_release *v, size_t n, struct err *e)
{
    struct memory *m = from(b);

    (void)e;
    memory_tick(m->store, now_of(m));
    for (size_t i = 0; i < n; i++) {
        struct memory_job *job = held(m, &v[i].receipt, v[i].tag);

        if (job)
            release_job(m, job, &v[i]);
    }
    return 0;
}

static int write_epitaph(struct memory_job *job, const struct broker_bury *bury)
{
    struct slice cause = {NULL, 0};
    struct slice id = {NULL, 0};
    struct slice task = {NULL, 0};

    if (memory_copy(&cause, bury->cause) != 0 || memory_copy(&id, bury->id) != 0 ||
        memory_copy(&task, bury->task) != 0) {
        memory_drop(&cause);
        memory_drop(&id);
        return -1;
    }
    memory_drop(&job->cause);
    memory_drop(&job->id);
    memory_drop(&job->task);
    job->cause = cause;
    job->id = id;
    job->task = task;
    return 0;
}

static void bury_job(struct memory *m, struct memory_job *job, const struct broker_bury *bury)
{
    int stored = write_epitaph(job, bury);

    if (stored == 0 && bury->result_id.len)
        stored =
            memory_result_put(m->store, bury->result_id, bury->result, expires_at(m, 0), now_of(m));
    if (stored < 0) {
        fail_nomem(m, bury->tag);
        return;
    }
    memory_claim_settle(m->store, job->fence, bury->dedup_key, MEMORY_CLAIM_GIVEN_UP, 0);
    memory_job_take(m->store, job);
    memory_job_bury(m->store, job, bury->grave, now_of(m));
    m->store->totals.dead++;
    event_queue_done(&m->events, BROKER_BURIED, bury->tag, 0);
}

static int memory_bury(struct broker *b, const struct broker_bury *v, size_t n, struct err *e)
{
    struct memory *m = from(b);

    (void)e;
    memory_tick(m->store, now_of(m));
    for (size_t i = 0; i < n; i++) {
        struct memory_job *job = held(m, &v[i].receipt, v[i].tag);

        if (job)
            bury_job(m, job, &v[i]);
    }
    return 0;
}

/* --- keys --- */

static int memory_claim_op(struct broker *b, const struct broker_claim *v, size_t n, struct err *e)
{
    struct memory *m = from(b);

    (void)e;
    memory_tick(m->store, now_of(m));
    for (size_t i = 0; i < n; i++) {
        struct broker_event event = {.kind = BROKER_CLAIMED, .tag = v[i].tag};

        if (!held(m, &v[i].receipt, v[i].tag))
            continue;
        if (memory_claim_take(m->store, &v[i], now_of(m), &event) != 0) {
            fail_nomem(m, v[i].tag);
            continue;
        }
        if (event.flags & BROKER_DUPLICATE)
            event.data = memory_result_doc(m->store, event.id, now_of(m));
        event_queue_push(&m->events, &event);
    }
    return 0;
}

/* --- results --- */

static int memory_store_op(struct broker *b, const struct broker_store *v, size_t n, struct err *e)
{
    struct memory *m = from(b);

    (void)e;
    for (size_t i = 0; i < n; i++) {
        int stored = memory_result_put(m->store, v[i].id, v[i].result,
                                       expires_at(m, v[i].expires_ms), now_of(m));

        if (stored < 0)
            fail_nomem(m, v[i].tag);
        else
            event_queue_done(&m->events, BROKER_STORED, v[i].tag,
                             stored == 1 ? BROKER_DUPLICATE : 0);
    }
    return 0;
}

static int memory_get(struct broker *b, const uint64_t *tags, const struct slice *ids, size_t n,
                      struct err *e)
{
    struct memory *m = from(b);

    (void)e;
    for (size_t i = 0; i < n; i++) {
        struct broker_event event = {.kind = BROKER_RESULT,
                                     .tag = tags[i],
                                     .data = memory_result_doc(m->store, ids[i], now_of(m))};

        event_queue_push(&m->events, &event);
    }
    return 0;
}

static int memory_watch(struct broker *b, const uint64_t *tags, const struct slice *ids, size_t n,
                        struct err *e)
{
    struct memory *m = from(b);

    (void)e;
    for (size_t i = 0; i < n; i++) {
        if (memory_result_watch(m, tags[i], ids[i], now_of(m)) != 0)
            fail_nomem(m, tags[i]);
    }
    return 0;
}

static void memory_unwatch(struct broker *b, const struct slice *ids, size_t n)
{
    for (size_t i = 0; i < n; i++)
        memory_result_unwatch(from(b), ids[i]);
}

static int memory_forget(struct broker *b, const uint64_t *tags, const struct slice *ids, size_t n,
                         struct err *e)
{
    (void)e;
    for (size_t i = 0; i < n; i++) {
        memory_result_forget(from(b)->store, ids[i]);
        event_queue_done(&from(b)->events, BROKER_FORGOTTEN, tags[i], 0);
    }
    return 0;
}

static int memory_ask_op(struct broker *b, const struct broker_ask *ask, struct err *e)
{
    struct memory *m = from(b);
    struct buf text = BUF_INIT;
    struct broker_event event = {.kind = BROKER_ANSWER, .tag = ask->tag};

    memory_tick(m->store, now_of(m));
    memory_ask(m, ask, &text);
    if (text.failed) {
        buf_release(&text);
        return err_nomem(e);
    }
    event.data = buf_slice(&text);
    event_queue_push(&m->events, &event);
    buf_release(&text);
    return 0;
}

static int memory_announce(struct broker *b, struct slice json, int64_t ttl_ms, struct err *e)
{
    struct memory *m = from(b);

    if (memory_node_put(m->store, slice_of(m->node), json, now_of(m) + ttl_ms) != 0)
        return err_nomem(e);
    m->announced = true;
    return 0;
}

/* --- the loop --- */

static struct memory_job *next_job(struct memory *m)
{
    for (size_t i = 0; i < m->queues_len; i++) {
        struct memory_job *job = memory_job_first(m->queues[(m->turn + i) % m->queues_len]);

        if (job)
            return job;
    }
    return NULL;
}

static int deliver_one(struct memory *m)
{
    struct memory_job *job = next_job(m);
    struct broker_event event = {.kind = BROKER_DELIVERED};

    if (!job || memory_job_lease(m, job, now_of(m)) != 0)
        return -1;
    event.flags = job->delivered ? BROKER_REDELIVERED : 0;
    event.fence = job->fence;
    event.queue = job->queue->name;
    event.data = job->envelope;
    memory_receipt(&event.receipt, job->fence);
    event_queue_push(&m->events, &event);
    job->delivered = true;
    m->turn = (m->turn + 1) % m->queues_len;
    m->credit--;
    return 0;
}

static int memory_poll(struct broker *b, struct broker_event *events, int max)
{
    struct memory *m = from(b);

    memory_tick(m->store, now_of(m));
    while (m->credit > 0 && deliver_one(m) == 0)
        ;
    return event_queue_drain(&m->events, events, max);
}

static int64_t memory_deadline(struct broker *b)
{
    struct memory *m = from(b);
    int64_t mono = clock_mono_ms(m->clock);
    int64_t next = CLOCK_NEVER;

    /* The doorbell: other brokers of the store ran in this very thread, so looking is enough. */
    if (!event_queue_empty(&m->events) || (m->credit > 0 && next_job(m)))
        return mono;
    if (m->store->delayed.head)
        next = m->store->delayed.head->at_ms;
    if (m->store->leased.head && m->store->leased.head->at_ms < next)
        next = m->store->leased.head->at_ms;
    return next == CLOCK_NEVER ? next : mono + (next - now_of(m));
}

static int memory_pollset(struct broker *b, struct pollfd *fds, int max)
{
    (void)b;
    (void)fds;
    (void)max;
    return 0;
}

static void memory_credit(struct broker *b, int n)
{
    from(b)->credit = from(b)->queues_len ? n : 0;
}

/* --- life --- */

static void free_broker(struct memory *m)
{
    event_queue_release(&m->events);
    free(m->queues);
    free(m->node);
    free(m);
}

/* Without release the leases stay, as after a crash; nobody is told when they expire. */
static void disown(struct memory *m)
{
    for (struct memory_job *job = m->store->leased.head; job; job = job->next) {
        if (job->holder == m)
            job->holder = NULL;
    }
}

static void memory_close(struct broker *b, bool release_leases)
{
    struct memory *m = from(b);

    if (release_leases)
        memory_reclaim(m->store, m, NULL, 0);
    if (release_leases && m->announced)
        memory_node_remove(m->store, slice_of(m->node));
    disown(m);
    memory_result_unwatch_all(m);
    memory_store_leave(m->store);
    free_broker(m);
}

static const struct broker_ops memory_ops = {
    .name = "memory",
    .caps = BROKER_CAP_ATOMIC_FINISH | BROKER_CAP_LEASES | BROKER_CAP_DELAY | BROKER_CAP_PRIORITY |
            BROKER_CAP_PEEK | BROKER_CAP_RESULTS | BROKER_CAP_CLAIMS,
    .close = memory_close,
    .pollset = memory_pollset,
    .deadline = memory_deadline,
    .poll = memory_poll,
    .credit = memory_credit,
    .publish = memory_publish,
    .renew = memory_renew,
    .note = memory_note,
    .finish = memory_finish,
    .release = memory_release,
    .bury = memory_bury,
    .store = memory_store_op,
    .claim = memory_claim_op,
    .ask = memory_ask_op,
    .announce = memory_announce,
    .result_get = memory_get,
    .result_watch = memory_watch,
    .result_unwatch = memory_unwatch,
    .result_forget = memory_forget,
};

static int join_queues(struct memory *m, const struct broker_config *config)
{
    m->queues = calloc(config->queues_len + 1, sizeof(struct memory_queue *));
    if (!m->queues)
        return -1;
    for (size_t i = 0; i < config->queues_len; i++) {
        m->queues[i] = memory_store_queue(m->store, slice_of(config->queues[i]));
        if (!m->queues[i])
            return -1;
    }
    m->queues_len = config->queues_len;
    return 0;
}

struct broker *memory_open(const struct uri *uri, const struct broker_config *config, struct err *e)
{
    struct memory *m = calloc(1, sizeof(*m));

    if (!m) {
        err_nomem(e);
        return NULL;
    }
    m->base.ops = &memory_ops;
    m->clock = config->clock;
    m->generation = config->generation;
    m->lease_ms = config->lease_ms;
    m->result_expires_ms = config->result_expires_ms;
    event_queue_init(&m->events);
    m->store = memory_store_join(uri->path ? uri->path : "");
    m->node = config->node ? strdup(config->node) : NULL;
    if (!m->store || (config->node && !m->node) || join_queues(m, config) != 0) {
        err_nomem(e);
        if (m->store)
            memory_store_leave(m->store);
        free_broker(m);
        return NULL;
    }
    if (m->node)
        memory_reclaim(m->store, NULL, m->node, m->generation);
    event_queue_done(&m->events, BROKER_STATE, 0, BROKER_UP);
    return &m->base;
}
