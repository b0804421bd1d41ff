/*
 * Jobs with a dedup key: the key is claimed before the job may run, and the end of the job settles
 * the claim in the broker's own step.
 *
 * CRASH: after claim, before run - the key names the delivery's lease: whoever has the message
 * next, or another job of the key once the lease is gone, claims it again. CRASH: after the answer
 * "done by another", before that is recorded - the message comes back and gets the same answer.
 */
#include "worker/dispatcher.h"

#include "base/fault.h"
#include "broker/message.h"
#include "worker/dedup_rule.h"

#include <stdlib.h>
#include <string.h>

#define BATCH_MAX 256

/* ---- the key ---- */

/* From the task's row. A call that does not fit the parameters gets no key: it runs into its
 * TypeError; neither does a body that cannot be opened: the runner buries it. */
static int key_by_rule(const struct job *job, struct message *m, struct buf *key)
{
    struct err e = ERR_INIT;

    if (message_open_body(m, &e) == 0 &&
        dedup_rule_key(job->options->dedup, m->task, m->args, m->kwargs, key, &e) == 0)
        return 0;
    buf_clear(key);
    return e.code == ERR_NOMEM ? -1 : 0;
}

static int find_key(struct job *job, struct message *m, struct buf *key)
{
    if (m->dedup_key.len) {
        job->key.window_ms = m->dedup_window_ms;
        buf_add(key, m->dedup_key.ptr, m->dedup_key.len);
        return key->failed ? -1 : 0;
    }
    if (!job->options->dedup)
        return 0;
    job->key.window_ms = dedup_rule_window_ms(job->options->dedup);
    return key_by_rule(job, m, key);
}

static int keep_key(struct job *job, struct slice key)
{
    job->key.text = malloc(key.len + 1);
    if (!job->key.text)
        return -1;
    memcpy(job->key.text, key.ptr, key.len);
    job->key.len = key.len;
    return 0;
}

bool dedup_take(struct dispatcher *d, struct job *job, struct message *m)
{
    struct buf key = BUF_INIT;
    int rc = find_key(job, m, &key);
    bool has = key.len > 0;

    job->key.waits = m->waits;
    if (rc == 0 && has)
        rc = keep_key(job, buf_slice(&key));
    buf_release(&key);
    if (rc == 0 && !has)
        return false;
    if (rc < 0)
        settle_hand_back(d, job, NULL, clock_wall_ms(d->clock) + 1000);
    else if (broker_caps(d->broker) & BROKER_CAP_CLAIMS)
        inflight_move(job, NULL, &d->jobs.claiming, JOB_CLAIMING);
    else
        settle_poison(d, job, NULL, "it has a dedup key and this broker keeps none");
    return true;
}

/* ---- asking ---- */

static size_t collect(struct dispatcher *d, struct job **jobs, struct broker_claim *claims)
{
    struct job *job;
    size_t n = 0;

    TAILQ_FOREACH(job, &d->jobs.claiming, link)
    {
        if (n == BATCH_MAX || job->key.asked)
            continue;
        jobs[n] = job;
        claims[n++] = (struct broker_claim){.tag = job->number,
                                            .receipt = job->receipt,
                                            .key = slice_make(job->key.text, job->key.len),
                                            .id = slice_of(job->id),
                                            .window_ms = job->key.window_ms};
    }
    return n;
}

static void wait_for_key(struct dispatcher *d, struct job *job)
{
    settle_wait(d, job, &d->jobs.claiming,
                clock_wall_ms(d->clock) + policy_wait_ms(job->key.waits));
}

void dedup_submit(struct dispatcher *d)
{
    struct broker_claim claims[BATCH_MAX];
    struct job *jobs[BATCH_MAX];
    struct err e = ERR_INIT;
    size_t n;

    while ((n = collect(d, jobs, claims))) {
        bool taken = broker_claim(d->broker, claims, n, &e) == 0;

        if (!taken)
            log_error(&d->log, "dedup keys not claimed", "error=\"%s\"", e.text);
        for (size_t i = 0; i < n; i++) {
            jobs[i]->key.asked = taken;
            if (!taken)
                wait_for_key(d, jobs[i]);
        }
    }
}

bool dedup_is_due(const struct dispatcher *d)
{
    const struct job *last = TAILQ_LAST(&d->jobs.claiming, job_list);

    return last && !last->key.asked; /* they are asked for in the order they came */
}

/* What was not asked for goes back now; the rest when it is answered. */
void dedup_stop(struct dispatcher *d)
{
    struct job *job, *next;

    for (job = TAILQ_FIRST(&d->jobs.claiming); job; job = next) {
        next = TAILQ_NEXT(job, link);
        if (!job->key.asked)
            settle_hand_back(d, job, &d->jobs.claiming, 0);
    }
}

/* ---- the answer ---- */

static int keep_first(struct job *job, const struct broker_event *event)
{
    struct job_key *key = &job->key;

    key->first_id = strndup(event->id.ptr, event->id.len);
    if (!key->first_id)
        return -1;
    if (!event->data.ptr)
        return 0;
    key->first = malloc(event->data.len + 1);
    if (!key->first)
        return -1;
    memcpy(key->first, event->data.ptr, event->data.len);
    key->first_len = event->data.len;
    return 0;
}

/* A runner makes the verdict, as for any success, but runs nothing. The same id is the same job: it
 * succeeded, and unless the broker says otherwise all that follows was sent, and only its message
 * came back. */
static void on_done(struct dispatcher *d, struct job *job, const struct broker_event *event)
{
    if (keep_first(job, event) < 0) {
        wait_for_key(d, job);
        return;
    }
    log_debug(&d->log, "duplicate", "id=%s task=%s first=%s", job->id, job->task,
              job->key.first_id);
    /* CRASH: the second of the two above. */
    FAULT_POINT("dispatcher.after-duplicate");
    if (strcmp(job->key.first_id, job->id) == 0 && !(event->flags & BROKER_REDELIVERED))
        settle_again(d, job, &d->jobs.claiming, event->data);
    else
        inflight_move(job, &d->jobs.claiming, &d->jobs.ready, JOB_READY);
}

static void on_claimed(struct dispatcher *d, struct job *job, const struct broker_event *event)
{
    if (d->stop != DISPATCH_RUN) {
        settle_hand_back(d, job, &d->jobs.claiming, 0);
    } else if (event->flags & BROKER_WON) {
        job->key.won = true;
        if (event->fence)
            job->fence = event->fence;
        /* CRASH: the first of the two above. */
        FAULT_POINT("dispatcher.after-claim");
        delivery_admit(d, job, &d->jobs.claiming);
    } else if (event->flags & BROKER_DUPLICATE) {
        on_done(d, job, event);
    } else {
        log_debug(&d->log, "dedup key held", "id=%s holder=%.*s waits=%lld", job->id,
                  SLICE_ARG(event->id), (long long)job->key.waits);
        wait_for_key(d, job);
    }
}

void dedup_answer(struct dispatcher *d, struct job *job, const struct broker_event *event)
{
    if (event->kind == BROKER_CLAIMED) {
        on_claimed(d, job, event);
    } else if (event->kind == BROKER_FAILED) {
        log_warn(&d->log, "dedup key not claimed", "id=%s error=\"%s\"", job->id,
                 event->err ? event->err->text : "");
        wait_for_key(d, job);
    } else {
        log_debug(&d->log, "lease lost before the run", "id=%s", job->id);
        inflight_move(job, &d->jobs.claiming, NULL, JOB_CLAIMING);
        inflight_free(&d->jobs, job);
    }
}
