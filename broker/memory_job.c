#include "broker/memory_store.h"

#include <search.h>
#include <stdlib.h>
#include <string.h>

/* --- lists --- */

static void link_after(struct memory_list *list, struct memory_job *after, struct memory_job *job)
{
    job->prev = after;
    job->next = after ? after->next : list->head;
    if (job->next)
        job->next->prev = job;
    else
        list->tail = job;
    if (after)
        after->next = job;
    else
        list->head = job;
}

/* Sorted by at_ms, equal ones in the order they came. Times mostly grow: from the tail it is O(1).
 */
static void link_by_time(struct memory_list *list, struct memory_job *job)
{
    struct memory_job *after = list->tail;

    while (after && after->at_ms > job->at_ms)
        after = after->prev;
    link_after(list, after, job);
}

static void unlink_job(struct memory_list *list, struct memory_job *job)
{
    if (job->prev)
        job->prev->next = job->next;
    else
        list->head = job->next;
    if (job->next)
        job->next->prev = job->prev;
    else
        list->tail = job->prev;
    job->prev = job->next = NULL;
}

/* kombu's step: the largest of 0, 3, 6, 9 that is not above the priority. */
static int step_of(int priority)
{
    return priority / 3;
}

static struct memory_list *list_of(struct memory_store *store, struct memory_job *job)
{
    switch (job->state) {
    case MEMORY_DELAYED:
        return &store->delayed;
    case MEMORY_LEASED:
        return &store->leased;
    case MEMORY_DEAD:
        return &job->queue->graves[job->grave];
    default:
        return &job->queue->waiting[step_of(job->priority)];
    }
}

/* --- fences --- */

static int compare_fences(const void *a, const void *b)
{
    uint64_t left = ((const struct memory_job *)a)->fence;
    uint64_t right = ((const struct memory_job *)b)->fence;

    return (left > right) - (left < right);
}

void memory_receipt(struct broker_receipt *receipt, uint64_t fence)
{
    memset(receipt, 0, sizeof(*receipt));
    memcpy(receipt->bytes, &fence, sizeof(fence));
}

uint64_t memory_receipt_fence(const struct broker_receipt *receipt)
{
    uint64_t fence;

    memcpy(&fence, receipt->bytes, sizeof(fence));
    return fence;
}

struct memory_job *memory_job_by_fence(struct memory_store *store, uint64_t fence)
{
    struct memory_job key = {.fence = fence};
    struct memory_job **found = tfind(&key, &store->by_fence, compare_fences);

    return found ? *found : NULL;
}

/* --- life --- */

void memory_job_free(struct memory_job *job)
{
    if (!job)
        return;
    memory_drop(&job->envelope);
    memory_drop(&job->cause);
    memory_drop(&job->id);
    memory_drop(&job->task);
    free(job->node);
    free(job);
}

struct memory_job *memory_job_new(struct memory_store *store, const struct broker_message *m)
{
    struct memory_job *job = calloc(1, sizeof(*job));
    struct slice envelope = m->envelope.ptr ? m->envelope : slice_of("");

    if (!job)
        return NULL;
    job->priority = m->priority;
    job->queue = memory_store_queue(store, m->queue);
    if (!job->queue || memory_copy(&job->envelope, envelope) != 0 ||
        memory_copy(&job->id, m->id) != 0) {
        memory_job_free(job);
        return NULL;
    }
    return job;
}

/* --- moves: every one keeps the queue's counts --- */

static void enter(struct memory_job *job, enum memory_state state)
{
    job->state = state;
    job->queue->counts[state]++;
}

void memory_job_take(struct memory_store *store, struct memory_job *job)
{
    unlink_job(list_of(store, job), job);
    job->queue->counts[job->state]--;
    if (job->state == MEMORY_DEAD)
        job->queue->buried[job->grave]--;
    if (job->state == MEMORY_LEASED) {
        tdelete(job, &store->by_fence, compare_fences);
        free(job->node);
        job->node = NULL;
        job->holder = NULL;
    }
}

void memory_job_wait(struct memory_store *store, struct memory_job *job, bool front)
{
    struct memory_list *list;

    enter(job, MEMORY_WAITING);
    list = list_of(store, job);
    link_after(list, front ? NULL : list->tail, job);
}

void memory_job_delay(struct memory_store *store, struct memory_job *job, int64_t not_before_ms)
{
    enter(job, MEMORY_DELAYED);
    job->at_ms = not_before_ms;
    link_by_time(&store->delayed, job);
}

int memory_job_lease(struct memory *broker, struct memory_job *job, int64_t now_ms)
{
    struct memory_store *store = broker->store;
    char *node = strdup(broker->node);

    if (!node)
        return -1;
    job->fence = store->last_fence + 1;
    if (!tsearch(job, &store->by_fence, compare_fences)) {
        free(node);
        return -1;
    }
    store->last_fence++;
    memory_job_take(store, job);
    enter(job, MEMORY_LEASED);
    job->node = node;
    job->generation = broker->generation;
    job->holder = broker;
    job->at_ms = now_ms + broker->lease_ms;
    link_by_time(&store->leased, job);
    return 0;
}

void memory_job_renew(struct memory_store *store, struct memory_job *job, int64_t until_ms)
{
    unlink_job(&store->leased, job);
    job->at_ms = until_ms;
    link_by_time(&store->leased, job);
}

void memory_job_bury(struct memory_store *store, struct memory_job *job, enum broker_grave grave,
                     int64_t now_ms)
{
    job->grave = grave;
    enter(job, MEMORY_DEAD);
    job->queue->buried[grave]++;
    job->at_ms = now_ms;
    job->fence = ++store->last_fence; /* the handle */
    link_after(list_of(store, job), list_of(store, job)->tail, job);
}

struct memory_job *memory_job_first(struct memory_queue *queue)
{
    for (int i = 0; i < MEMORY_STEPS; i++) {
        if (queue->waiting[i].head)
            return queue->waiting[i].head;
    }
    return NULL;
}

/* --- leases that end without a verdict --- */

static void return_lease(struct memory_store *store, struct memory_job *job)
{
    struct memory *holder = job->holder;

    if (holder) {
        struct broker_event lost = {.kind = BROKER_LOST, .fence = job->fence};

        memory_receipt(&lost.receipt, job->fence);
        event_queue_push(&holder->events, &lost);
    }
    memory_job_take(store, job);
    memory_job_wait(store, job, true);
}

/* From the last to the first, because each goes to the front: they keep their order. */
static void expire_leases(struct memory_store *store, int64_t now_ms)
{
    struct memory_job *job = store->leased.head;
    struct memory_job *before;

    if (!job || job->at_ms > now_ms)
        return;
    while (job->next && job->next->at_ms <= now_ms)
        job = job->next;
    for (; job; job = before) {
        before = job->prev;
        return_lease(store, job);
    }
}

void memory_reclaim(struct memory_store *store, const struct memory *broker, const char *node,
                    uint64_t generation)
{
    struct memory_job *before;

    for (struct memory_job *job = store->leased.tail; job; job = before) {
        before = job->prev;
        if (broker ? job->holder == broker
                   : strcmp(job->node, node) == 0 && job->generation < generation)
            return_lease(store, job);
    }
}

void memory_tick(struct memory_store *store, int64_t now_ms)
{
    expire_leases(store, now_ms);
    while (store->delayed.head && store->delayed.head->at_ms <= now_ms) {
        struct memory_job *due = store->delayed.head;

        memory_job_take(store, due);
        memory_job_wait(store, due, false);
    }
}
