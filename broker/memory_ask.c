#include "broker/memory_store.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef void answer_fn(struct memory *broker, const struct broker_ask *ask, struct buf *out);

static void ask_queues(struct memory *broker, const struct broker_ask *ask, struct buf *out)
{
    (void)ask;
    answer_begin(out);
    for (const struct memory_queue *q = broker->store->queues; q; q = q->next) {
        struct answer_queue row = {.queue = q->name,
                                   .waiting = q->counts[MEMORY_WAITING],
                                   .delayed = q->counts[MEMORY_DELAYED],
                                   .leased = q->counts[MEMORY_LEASED],
                                   .dead = q->buried[BROKER_DEAD],
                                   .unknown = q->buried[BROKER_UNKNOWN]};

        answer_queue(out, &row);
    }
    answer_end(out);
}

static void ask_totals(struct memory *broker, const struct broker_ask *ask, struct buf *out)
{
    struct answer_totals totals = broker->store->totals;

    (void)ask;
    for (const struct memory_queue *q = broker->store->queues; q; q = q->next) {
        totals.waiting += q->counts[MEMORY_WAITING];
        totals.delayed += q->counts[MEMORY_DELAYED];
        totals.leased += q->counts[MEMORY_LEASED];
    }
    answer_totals(out, &totals);
}

/* Appends rows of the list that belong to the queue; returns how many are still wanted. */
static int64_t peek_list(const struct memory_list *list, const struct memory_queue *queue,
                         int64_t left, struct buf *out)
{
    static const char *const states[] = {"waiting", "delayed", "leased", "dead"};

    for (const struct memory_job *job = list->head; job && left > 0; job = job->next) {
        struct answer_peek row = {.state = states[job->state],
                                  .priority = job->priority,
                                  .not_before_ms = job->state == MEMORY_DELAYED ? job->at_ms : 0,
                                  .envelope = job->envelope};

        if (job->queue != queue)
            continue;
        answer_peek(out, &row);
        left--;
    }
    return left;
}

static void ask_peek(struct memory *broker, const struct broker_ask *ask, struct buf *out)
{
    const struct memory_queue *queue = memory_store_known(broker->store, ask->queue);
    int64_t left = ask->limit;

    answer_begin(out);
    for (int i = 0; queue && i < MEMORY_STEPS; i++)
        left = peek_list(&queue->waiting[i], queue, left, out);
    if (queue) {
        left = peek_list(&broker->store->delayed, queue, left, out);
        peek_list(&broker->store->leased, queue, left, out);
    }
    answer_end(out);
}

static int64_t purge_list(struct memory_store *store, const struct memory_list *list,
                          const struct memory_queue *queue)
{
    struct memory_job *next;
    int64_t n = 0;

    for (struct memory_job *job = list->head; job; job = next) {
        next = job->next;
        if (job->queue != queue)
            continue;
        memory_job_take(store, job);
        memory_job_free(job);
        n++;
    }
    return n;
}

static void ask_purge(struct memory *broker, const struct broker_ask *ask, struct buf *out)
{
    struct memory_store *store = broker->store;
    const struct memory_queue *queue = memory_store_known(store, ask->queue);
    int64_t n = 0;

    for (int i = 0; queue && i < MEMORY_STEPS; i++)
        n += purge_list(store, &queue->waiting[i], queue);
    if (queue)
        n += purge_list(store, &store->delayed, queue);
    store->totals.purged += n;
    store->totals.failed += n;
    answer_count(out, "purged", n);
}

/* Brokers and jobs share queues, so none goes while the store lives. */
static void ask_drop(struct memory *broker, const struct broker_ask *ask, struct buf *out)
{
    (void)broker;
    (void)ask;
    answer_count(out, "dropped", 0);
}

/* --- dead letters --- */

/* What is done with each dead letter that was named: show it, send it again, remove it. */
typedef void grave_fn(struct memory_store *store, struct memory_job *job, struct buf *out);

static void add_row(const struct memory_job *job, struct slice envelope, struct buf *out)
{
    char handle[24];
    struct answer_dead row = {.queue = job->queue->name,
                              .grave = job->grave,
                              .cause = job->cause,
                              .id = job->id,
                              .task = job->task,
                              .at_ms = job->at_ms,
                              .size = job->envelope.len,
                              .envelope = envelope};

    snprintf(handle, sizeof(handle), "%" PRIu64, job->fence);
    row.handle = slice_of(handle);
    answer_dead(out, &row);
}

static void list_letter(struct memory_store *store, struct memory_job *job, struct buf *out)
{
    (void)store;
    add_row(job, (struct slice){NULL, 0}, out);
}

static void show_letter(struct memory_store *store, struct memory_job *job, struct buf *out)
{
    (void)store;
    add_row(job, job->envelope, out);
}

static void retry_letter(struct memory_store *store, struct memory_job *job, struct buf *out)
{
    (void)out;
    memory_job_take(store, job);
    memory_drop(&job->cause);
    store->totals.dead--;
    memory_job_wait(store, job, false);
}

static void remove_letter(struct memory_store *store, struct memory_job *job, struct buf *out)
{
    (void)out;
    memory_job_take(store, job);
    memory_job_free(job);
    store->totals.removed++;
}

static bool letter_matches(const struct memory_job *job, const struct broker_ask *ask, bool all)
{
    char handle[24];

    if (all)
        return ask->queue.len == 0 || slice_eq(job->queue->name, ask->queue);
    snprintf(handle, sizeof(handle), "%" PRIu64, job->fence);
    return slice_eq(slice_of(handle), ask->handle);
}

/* Oldest first within a queue and grave. Returns how many matched. */
static int64_t each_letter(struct memory *broker, const struct broker_ask *ask, bool all,
                           int64_t limit, grave_fn *fn, struct buf *out)
{
    struct memory_job *next;
    int64_t n = 0;

    for (struct memory_queue *q = broker->store->queues; q; q = q->next) {
        for (int g = 0; g < MEMORY_GRAVES; g++) {
            for (struct memory_job *job = q->graves[g].head; job && n < limit; job = next) {
                next = job->next;
                if (!letter_matches(job, ask, all))
                    continue;
                fn(broker->store, job, out);
                n++;
            }
        }
    }
    return n;
}

static void ask_dead(struct memory *broker, const struct broker_ask *ask, struct buf *out)
{
    answer_begin(out);
    each_letter(broker, ask, true, ask->limit, list_letter, out);
    answer_end(out);
}

static void ask_dead_show(struct memory *broker, const struct broker_ask *ask, struct buf *out)
{
    if (each_letter(broker, ask, false, 1, show_letter, out) == 0)
        buf_adds(out, "{}");
}

static bool names_all(const struct broker_ask *ask)
{
    return slice_eq(ask->handle, slice_of("all"));
}

static void ask_dead_retry(struct memory *broker, const struct broker_ask *ask, struct buf *out)
{
    answer_count(out, "moved",
                 each_letter(broker, ask, names_all(ask), INT64_MAX, retry_letter, out));
}

static void ask_dead_rm(struct memory *broker, const struct broker_ask *ask, struct buf *out)
{
    answer_count(out, "removed",
                 each_letter(broker, ask, names_all(ask), INT64_MAX, remove_letter, out));
}

static void ask_nodes(struct memory *broker, const struct broker_ask *ask, struct buf *out)
{
    (void)ask;
    memory_node_sweep(broker->store, clock_wall_ms(broker->clock));
    answer_begin(out);
    for (const struct memory_node *n = broker->store->nodes; n; n = n->next)
        answer_node(out, n->node, n->json);
    answer_end(out);
}

void memory_ask(struct memory *broker, const struct broker_ask *ask, struct buf *out)
{
    static answer_fn *const answers[] = {
        [BROKER_ASK_QUEUES] = ask_queues,
        [BROKER_ASK_TOTALS] = ask_totals,
        [BROKER_ASK_PEEK] = ask_peek,
        [BROKER_ASK_PURGE] = ask_purge,
        [BROKER_ASK_DEAD] = ask_dead,
        [BROKER_ASK_DEAD_SHOW] = ask_dead_show,
        [BROKER_ASK_DEAD_RETRY] = ask_dead_retry,
        [BROKER_ASK_DEAD_RM] = ask_dead_rm,
        [BROKER_ASK_NODES] = ask_nodes,
        [BROKER_ASK_DOCTOR] = memory_doctor,
        [BROKER_ASK_DROP] = ask_drop,
    };

    answers[ask->question](broker, ask, out);
}
