#include "worker/inflight.h"

#include <stdlib.h>
#include <string.h>

void inflight_init(struct inflight *t)
{
    *t = (struct inflight){0};
    TAILQ_INIT(&t->claiming);
    TAILQ_INIT(&t->ready);
    TAILQ_INIT(&t->settling);
}

static void free_job(struct job *job)
{
    free(job->id);
    free(job->task);
    free(job->envelope);
    free(job->key.text);
    free(job->key.first_id);
    free(job->key.first);
    buf_release(&job->settle.text);
    free(job);
}

void inflight_release(struct inflight *t)
{
    for (size_t i = 0; i < t->cap; i++) {
        if (t->slots[i])
            free_job(t->slots[i]);
    }
    free(t->slots);
    inflight_init(t);
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
    struct job *job = calloc(1, sizeof(*job));
    uint64_t number;

    if (!job)
        return NULL;
    job->envelope = malloc(envelope.len + 1);
    if (!job->envelope || next_number(t, &number) < 0) {
        free_job(job);
        return NULL;
    }
    memcpy(job->envelope, envelope.ptr, envelope.len);
    job->envelope[envelope.len] = '\0';
    job->envelope_len = envelope.len;
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
    free_job(job);
}
