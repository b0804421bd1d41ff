/* How a delivery ends on the memory backend, and the claims that end with it. */
#include "broker/memory_store.h"

#include <stdlib.h>

/* The lease behind a receipt, or NULL after saying that it is lost. */
static struct memory_job *held(struct memory *m, const struct broker_receipt *receipt, uint64_t tag)
{
    struct memory_job *job = memory_job_by_fence(m->store, memory_receipt_fence(receipt));

    if (!job)
        event_queue_done(&m->events, BROKER_REFUSED, tag, 0);
    return job;
}

/* --- finish --- */

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
    int64_t until = memory_now(m);

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
                                   memory_expires_at(m, f->result_expires_ms), memory_now(m));
    for (size_t i = 0; followups && i < f->followups_len; i++) {
        if (stored == 0)
            memory_enqueue(m, followups[i], &f->followups[i]);
        else
            memory_job_free(followups[i]);
    }
    if (!followups || stored < 0) {
        memory_fail(m, f->tag);
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

int memory_finish(struct broker *b, const struct broker_finish *v, size_t n, struct err *e)
{
    struct memory *m = memory_of(b);

    (void)e;
    memory_tick(m->store, memory_now(m));
    for (size_t i = 0; i < n; i++) {
        struct memory_job *job = held(m, &v[i].receipt, v[i].tag);

        if (job)
            finish_job(m, job, &v[i]);
    }
    return 0;
}

/* --- release --- */

static void release_job(struct memory *m, struct memory_job *job, const struct broker_release *r)
{
    struct slice envelope;

    if (r->envelope.ptr) {
        if (memory_copy(&envelope, r->envelope) != 0) {
            memory_fail(m, r->tag);
            return;
        }
        memory_drop(&job->envelope);
        job->envelope = envelope;
    }
    memory_job_take(m->store, job);
    if (r->not_before_ms > memory_now(m))
        memory_job_delay(m->store, job, r->not_before_ms);
    else
        memory_job_wait(m->store, job, r->front);
    event_queue_done(&m->events, BROKER_RELEASED, r->tag, 0);
}

int memory_release(struct broker *b, const struct broker_release *v, size_t n, struct err *e)
{
    struct memory *m = memory_of(b);

    (void)e;
    memory_tick(m->store, memory_now(m));
    for (size_t i = 0; i < n; i++) {
        struct memory_job *job = held(m, &v[i].receipt, v[i].tag);

        if (job)
            release_job(m, job, &v[i]);
    }
    return 0;
}

/* --- bury --- */

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
        stored = memory_result_put(m->store, bury->result_id, bury->result, memory_expires_at(m, 0),
                                   memory_now(m));
    if (stored < 0) {
        memory_fail(m, bury->tag);
        return;
    }
    memory_claim_settle(m->store, job->fence, bury->dedup_key, MEMORY_CLAIM_GIVEN_UP, 0);
    memory_job_take(m->store, job);
    memory_job_bury(m->store, job, bury->grave, memory_now(m));
    m->store->totals.dead++;
    event_queue_done(&m->events, BROKER_BURIED, bury->tag, 0);
}

int memory_bury(struct broker *b, const struct broker_bury *v, size_t n, struct err *e)
{
    struct memory *m = memory_of(b);

    (void)e;
    memory_tick(m->store, memory_now(m));
    for (size_t i = 0; i < n; i++) {
        struct memory_job *job = held(m, &v[i].receipt, v[i].tag);

        if (job)
            bury_job(m, job, &v[i]);
    }
    return 0;
}

/* --- keys --- */

int memory_claim_op(struct broker *b, const struct broker_claim *v, size_t n, struct err *e)
{
    struct memory *m = memory_of(b);

    (void)e;
    memory_tick(m->store, memory_now(m));
    for (size_t i = 0; i < n; i++) {
        struct broker_event event = {.kind = BROKER_CLAIMED, .tag = v[i].tag};

        if (!held(m, &v[i].receipt, v[i].tag))
            continue;
        if (memory_claim_take(m->store, &v[i], memory_now(m), &event) != 0) {
            memory_fail(m, v[i].tag);
            continue;
        }
        if (event.flags & BROKER_DUPLICATE)
            event.data = memory_result_doc(m->store, event.id, memory_now(m));
        event_queue_push(&m->events, &event);
    }
    return 0;
}
