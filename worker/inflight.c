#include "worker/inflight.h"

#include "base/poison.h"

#include <stdlib.h>
#include <string.h>

/* A spare keeps buffers of the usual size. */
#define KEEP_MAX ((size_t)16 << 10)

void inflight_init(struct inflight *t)
{
    *t = (struct inflight){0};
    TAILQ_INIT(&t->spares);
    TAILQ_INIT(&t->claiming);
    TAILQ_INIT(&t->ready);
    TAILQ_INIT(&t->settling);
}

static void free_job(struct job *job)
{
    buf_release(&job->names);
    buf_release(&job->envelope);
    buf_release(&job->settle.text);
    free(job->key.text);
    free(job->key.first_id);
    free(job->key.first);
    free(job);
}

/* What a spare job was is not to be looked at. */
static size_t job_rest(const struct job *job)
{
    return sizeof(*job) - offsetof(struct job, receipt);
}

static void put_spare(struct inflight *t, struct job *job)
{
    TAILQ_INSERT_HEAD(&t->spares, job, link);
    POISON(&job->receipt, job_rest(job));
}

/* NULL when there is none. */
static struct job *take_spare(struct inflight *t)
{
    struct job *job = TAILQ_FIRST(&t->spares);

    if (!job)
        return NULL;
    UNPOISON(&job->receipt, job_rest(job));
    TAILQ_REMOVE(&t->spares, job, link);
    return job;
}

void inflight_rest(struct inflight *t)
{
    struct job *next;

    for (struct job *job = TAILQ_FIRST(&t->spares); job; job = next) {
        next = TAILQ_NEXT(job, link);
        UNPOISON(&job->receipt, job_rest(job));
        free_job(job);
    }
    TAILQ_INIT(&t->spares);
}

void inflight_release(struct inflight *t)
{
    for (size_t i = 0; i < t->cap; i++) {
        if (t->slots[i])
            free_job(t->slots[i]);
    }
    inflight_rest(t);
    free(t->slots);
    inflight_init(t);
}

/* Empty, and with its memory unless that is much. */
static struct buf emptied(struct buf b)
{
    if (b.failed || b.cap > KEEP_MAX)
        buf_release(&b);
    buf_clear(&b);
    return b;
}

/* As new, but for its buffers. */
static void wipe(struct job *job)
{
    free(job->key.text);
    free(job->key.first_id);
    free(job->key.first);
    *job = (struct job){.names = emptied(job->names),
                        .envelope = emptied(job->envelope),
                        .settle.text = emptied(job->settle.text)};
}

static struct job **slot(const struct inflight *t, uint64_t number)
{
    return &t->slots[number & (t->cap - 1)];
}

/* Doubles the table. Numbers are consecutive, so live jobs of one table size never meet in a slot
 * for long: where they do, the table is too small. */
static int grow(struct inflight *t)
{
    size_t cap = t->cap ? t->cap * 2 : 256;
    struct job **slots = calloc(cap, sizeof(struct job *));

    if (!slots)
        return -1;
    for (size_t i = 0; i < t->cap; i++) {
        if (t->slots[i])
            slots[t->slots[i]->number & (cap - 1)] = t->slots[i];
    }
    free(t->slots);
    t->slots = slots;
    t->cap = cap;
    return 0;
}

/* The next number whose slot is free; a long job that sits in the way is stepped over, the table
 * grows only when it is half full. */
static int next_number(struct inflight *t, uint64_t *number)
{
    if (t->len * 2 >= t->cap && grow(t) < 0)
        return -1;
    do {
        *number = ++t->last_number;
    } while (*slot(t, *number));
    return 0;
}

struct job *inflight_new(struct inflight *t, struct slice envelope)
{
    struct job *job = take_spare(t);
    uint64_t number;

    if (!job && !(job = calloc(1, sizeof(*job))))
        return NULL;
    buf_add(&job->envelope, envelope.ptr, envelope.len);
    if (job->envelope.failed || next_number(t, &number) < 0) {
        free_job(job);
        return NULL;
    }
    job->number = number;
    *slot(t, number) = job;
    t->len++;
    return job;
}

struct job *inflight_find(const struct inflight *t, uint64_t number)
{
    struct job *job = t->cap ? *slot(t, number) : NULL;

    return job && job->number == number ? job : NULL;
}

void inflight_move(struct job *job, struct job_list *from, struct job_list *to,
                   enum job_state state)
{
    if (from)
        TAILQ_REMOVE(from, job, link);
    job->state = state;
    if (to)
        TAILQ_INSERT_TAIL(to, job, link);
}

void inflight_free(struct inflight *t, struct job *job)
{
    *slot(t, job->number) = NULL;
    t->len--;
    wipe(job);
    put_spare(t, job);
}
