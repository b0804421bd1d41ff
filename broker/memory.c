/*
 * The memory backend's ops. An op takes effect at once, in the call, because nothing can come
 * between; only its event is handed out later. Out of memory for one item of a batch is that item's
 * BROKER_FAILED.
 */
#include "broker/memory_store.h"

#include <stdlib.h>
#include <string.h>

void memory_fail(struct memory *m, uint64_t tag)
{
    struct err e = ERR_INIT;

    err_nomem(&e);
    event_queue_fail(&m->events, tag, &e);
}

/* --- publishing --- */

void memory_enqueue(struct memory *m, struct memory_job *job, const struct broker_message *message)
{
    if (message->not_before_ms > memory_now(m))
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
        seen = memory_store_token(m->store, message->token, memory_now(m));
    if (seen == 0)
        memory_enqueue(m, job, message);
    else
        memory_job_free(job);
    return seen < 0 ? -1 : 0;
}

static int memory_publish(struct broker *b, const struct broker_message *v, size_t n, struct err *e)
{
    (void)e;
    for (size_t i = 0; i < n; i++) {
        if (publish_one(memory_of(b), &v[i]) == 0)
            event_queue_done(&memory_of(b)->events, BROKER_PUBLISHED, v[i].tag, 0);
        else
            memory_fail(memory_of(b), v[i].tag);
    }
    return 0;
}

/* --- while a lease is held --- */

static int memory_renew(struct broker *b, const struct broker_receipt *v, size_t n, struct err *e)
{
    struct memory *m = memory_of(b);

    (void)e;
    memory_tick(m->store, memory_now(m));
    for (size_t i = 0; i < n; i++) {
        struct memory_job *job = memory_job_by_fence(m->store, memory_receipt_fence(&v[i]));
        struct broker_event lost = {.kind = BROKER_LOST, .receipt = v[i]};

        if (job)
            memory_job_renew(m->store, job, memory_now(m) + m->lease_ms);
        else
            event_queue_push(&m->events, &lost);
    }
    return 0;
}

int64_t memory_expires_at(const struct memory *m, int64_t expires_ms)
{
    int64_t ms = expires_ms ? expires_ms : m->result_expires_ms;

    return ms < 0 ? CLOCK_NEVER : memory_now(m) + ms;
}

static int memory_note(struct broker *b, const struct broker_note *v, size_t n, struct err *e)
{
    struct memory *m = memory_of(b);

    memory_tick(m->store, memory_now(m));
    for (size_t i = 0; i < n; i++) {
        if (!memory_job_by_fence(m->store, memory_receipt_fence(&v[i].receipt)))
            continue;
        if (memory_result_put(m->store, v[i].result_id, v[i].result, memory_expires_at(m, 0),
                              memory_now(m)) < 0)
            return err_nomem(e);
    }
    return 0;
}

/* --- results --- */

static int memory_store_op(struct broker *b, const struct broker_store *v, size_t n, struct err *e)
{
    struct memory *m = memory_of(b);

    (void)e;
    for (size_t i = 0; i < n; i++) {
        int stored = memory_result_put(m->store, v[i].id, v[i].result,
                                       memory_expires_at(m, v[i].expires_ms), memory_now(m));

        if (stored < 0)
            memory_fail(m, v[i].tag);
        else
            event_queue_done(&m->events, BROKER_STORED, v[i].tag,
                             stored == 1 ? BROKER_DUPLICATE : 0);
    }
    return 0;
}

static int memory_get(struct broker *b, const uint64_t *tags, const struct slice *ids, size_t n,
                      struct err *e)
{
    struct memory *m = memory_of(b);

    (void)e;
    for (size_t i = 0; i < n; i++) {
        struct broker_event event = {.kind = BROKER_RESULT,
                                     .tag = tags[i],
                                     .data = memory_result_doc(m->store, ids[i], memory_now(m))};

        event_queue_push(&m->events, &event);
    }
    return 0;
}

static int memory_watch(struct broker *b, const uint64_t *tags, const struct slice *ids, size_t n,
                        struct err *e)
{
    struct memory *m = memory_of(b);

    (void)e;
    for (size_t i = 0; i < n; i++) {
        if (memory_result_watch(m, tags[i], ids[i], memory_now(m)) != 0)
            memory_fail(m, tags[i]);
    }
    return 0;
}

static void memory_unwatch(struct broker *b, const struct slice *ids, size_t n)
{
    for (size_t i = 0; i < n; i++)
        memory_result_unwatch(memory_of(b), ids[i]);
}

static int memory_forget(struct broker *b, const uint64_t *tags, const struct slice *ids, size_t n,
                         struct err *e)
{
    (void)e;
    for (size_t i = 0; i < n; i++) {
        memory_result_forget(memory_of(b)->store, ids[i]);
        event_queue_done(&memory_of(b)->events, BROKER_FORGOTTEN, tags[i], 0);
    }
    return 0;
}

static int memory_ask_op(struct broker *b, const struct broker_ask *ask, struct err *e)
{
    struct memory *m = memory_of(b);
    struct buf text = BUF_INIT;
    struct broker_event event = {.kind = BROKER_ANSWER, .tag = ask->tag};

    memory_tick(m->store, memory_now(m));
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
    struct memory *m = memory_of(b);

    if (memory_node_put(m->store, slice_of(m->node), json, memory_now(m) + ttl_ms) != 0)
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

    if (!job || memory_job_lease(m, job, memory_now(m)) != 0)
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
    struct memory *m = memory_of(b);

    memory_tick(m->store, memory_now(m));
    while (m->credit > 0 && deliver_one(m) == 0)
        ;
    return event_queue_drain(&m->events, events, max);
}

static int64_t memory_deadline(struct broker *b)
{
    struct memory *m = memory_of(b);
    int64_t mono = clock_mono_ms(m->clock);
    int64_t next = CLOCK_NEVER;

    /* The doorbell: other brokers of the store ran in this very thread, so looking is enough. */
    if (!event_queue_empty(&m->events) || (m->credit > 0 && next_job(m)))
        return mono;
    if (m->store->delayed.head)
        next = m->store->delayed.head->at_ms;
    if (m->store->leased.head && m->store->leased.head->at_ms < next)
        next = m->store->leased.head->at_ms;
    return next == CLOCK_NEVER ? next : mono + (next - memory_now(m));
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
    memory_of(b)->credit = memory_of(b)->queues_len ? n : 0;
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
    struct memory *m = memory_of(b);

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
            BROKER_CAP_PEEK | BROKER_CAP_RESULTS | BROKER_CAP_CLAIMS | BROKER_CAP_NO_SIGPIPE,
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
