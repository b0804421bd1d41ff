/*
 * Settling: what the broker is told about a job that has ended, kept and told again until it has
 * answered.
 *
 * CRASH: after a verdict arrived, before the broker confirmed it - the lease comes back and the job
 * runs again; the fence lets only one of the two be recorded.
 */
#include "worker/dispatcher.h"

#include "base/fault.h"
#include "base/isotime.h"
#include "broker/backoff.h"
#include "broker/message.h"
#include "broker/result.h"

#include <stdlib.h>
#include <string.h>

#define RETRY_MIN_MS 50
#define RETRY_MAX_MS 2000
#define BATCH_MAX    256
#define HELD_MAX     64 /* are enough to be told at once */

/* ---- what to tell ---- */

static void send_followups(struct dispatcher *d, struct job *job)
{
    struct slice rest = job->settle.verdict.followups;
    struct channel_followup f;

    while (channel_next_followup(&rest, &f) == 1)
        outbox_add(&d->outbox, &f, job->fence, NULL);
    job->settle.verdict.followups = slice_make(NULL, 0);
}

/* Acknowledged before it ran, and without a result: the broker has nothing more to be told. */
static bool is_over(const struct job *job, enum settle_kind kind)
{
    return kind == SETTLE_STORE && !job->settle.verdict.result.ptr;
}

static void settle(struct dispatcher *d, struct job *job, struct job_list *from,
                   enum settle_kind kind)
{
    if (is_over(job, kind)) {
        send_followups(d, job);
        inflight_move(job, from, NULL, JOB_SETTLING);
        inflight_free(&d->jobs, job);
        return;
    }
    job->settle.kind = kind;
    job->settle.submitted = false;
    job->settle.tries = 0;
    job->settle.try_at_ms = 0;
    job->seat = NULL;
    inflight_move(job, from, &d->jobs.settling, JOB_SETTLING);
}

/* While jobs wait for these very runners nobody notices the moment, and telling each end by itself
 * costs the broker and this process more than a short job. */
static void hold(struct dispatcher *d, struct job *job)
{
    int64_t ms =
        policy_hold_ms(d->config->concurrency, d->mean_us, buf_slice(&job->settle.text).len);

    if (ms == 0)
        return;
    if (d->held++ == 0)
        d->tell_at_ms = clock_mono_ms(d->clock) + ms;
    job->settle.held = true;
}

/* When what is held is told: at once when no job waits any more, and before a stop. */
static int64_t tell_at_ms(const struct dispatcher *d)
{
    if (d->held == 0)
        return CLOCK_NEVER;
    if (d->held >= HELD_MAX || d->stop != DISPATCH_RUN || TAILQ_EMPTY(&d->jobs.ready))
        return 0;
    return d->tell_at_ms;
}

/* The slices of a verdict point into the channel's buffer: copy them into the job and let them
 * point there. -1: there is no memory for them, and nothing is kept. */
static int keep_verdict(struct settlement *s, const struct channel_verdict *v)
{
    struct slice *parts[] = {&s->verdict.result, &s->verdict.cause, &s->verdict.followups};
    const char *at;

    s->verdict = *v;
    for (size_t i = 0; i < 3; i++)
        buf_add(&s->text, parts[i]->ptr, parts[i]->len);
    if (s->text.failed) {
        buf_release(&s->text);
        s->verdict = (struct channel_verdict){.outcome = v->outcome};
        return -1;
    }
    at = buf_slice(&s->text).ptr;
    for (size_t i = 0; i < 3; i++) {
        if (parts[i]->ptr)
            parts[i]->ptr = at;
        at += parts[i]->len;
    }
    return 0;
}

void settle_verdict(struct dispatcher *d, struct job *job, struct job_list *from,
                    const struct channel_verdict *v)
{
    static const struct {
        enum settle_kind kind;
        enum broker_outcome outcome;
    } table[] = {
        [CHANNEL_SUCCESS] = {SETTLE_FINISH, BROKER_JOB_SUCCEEDED},
        [CHANNEL_FAILURE] = {SETTLE_FINISH, BROKER_JOB_FAILED},
        [CHANNEL_RETRY] = {SETTLE_FINISH, BROKER_JOB_CONTINUES},
        [CHANNEL_IGNORED] = {SETTLE_FINISH, BROKER_JOB_SUCCEEDED},
        [CHANNEL_REQUEUE] = {SETTLE_RELEASE, BROKER_JOB_CONTINUES},
        [CHANNEL_REJECT] = {SETTLE_BURY, BROKER_JOB_FAILED},
        [CHANNEL_POISON] = {SETTLE_BURY, BROKER_JOB_FAILED},
    };

    if (keep_verdict(&job->settle, v) < 0) {
        log_error(&d->log, "out of memory for a verdict", "id=%s bytes=%zu", job->id,
                  v->result.len + v->followups.len);
        if (!job->early_acked) { /* it runs again; of the other only the result is lost */
            settle_hand_back(d, job, from, clock_wall_ms(d->clock) + 1000);
            return;
        }
    }
    job->settle.verdict_us = isotime_now_us();
    job->settle.outcome = table[v->outcome].outcome;
    job->settle.grave = BROKER_DEAD;
    job->settle.not_before_ms = 0;
    hold(d, job);
    settle(d, job, from, job->early_acked ? SETTLE_STORE : table[v->outcome].kind);
    /* CRASH: after a verdict arrived, before it is kept for long - as before-settle */
    FAULT_POINT("dispatcher.after-verdict");
}

/* Appends a document that this process writes itself: it has no request at hand but the message. */
static void add_document(struct dispatcher *d, struct job *job, const char *status,
                         const char *type, const char *module, json_t *messages)
{
    struct message m = {0};
    json_t *exception = result_exception(type, module, messages);
    struct result_doc doc = {.status = status,
                             .result = exception,
                             .no_children = true,
                             .task_id = job->id,
                             .date_done_us = isotime_now_us(),
                             .worker = d->config->node};

    if (message_skim(&m, buf_slice(&job->envelope), NULL) == 0) {
        doc.group_id = m.group;
        doc.parent_id = m.parent_id;
    }
    /* Not at the front of an empty buffer the caller would need offsets; every caller starts with
     * none. */
    buf_clear(&job->settle.text);
    if (!job->id || result_encode(&job->settle.text, &doc, NULL) < 0)
        buf_clear(&job->settle.text);
    message_release(&m);
    json_decref(exception);
}

/* Lets the verdict's result be the document, and its cause the text behind it. */
static void use_document(struct job *job, const char *cause)
{
    struct settlement *s = &job->settle;
    size_t len = s->text.len;

    s->verdict = (struct channel_verdict){0};
    if (cause)
        buf_adds(&s->text, cause);
    if (len)
        s->verdict.result = slice_make(buf_slice(&s->text).ptr, len);
    if (cause)
        s->verdict.cause = slice_make(buf_slice(&s->text).ptr + len, s->text.len - len);
}

void settle_expired(struct dispatcher *d, struct job *job, struct job_list *from)
{
    add_document(d, job, "REVOKED", "TaskRevokedError", "celery.exceptions",
                 json_pack("[s]", "expired"));
    use_document(job, NULL);
    job->settle.outcome = BROKER_JOB_FAILED;
    log_info(&d->log, "task expired", "id=%s task=%s", job->id, job->task);
    settle(d, job, from, SETTLE_FINISH);
}

void settle_unknown(struct dispatcher *d, struct job *job, struct job_list *from)
{
    add_document(d, job, "FAILURE", "NotRegistered", "celery.exceptions",
                 json_pack("[s]", job->task));
    use_document(job, "unknown task");
    job->settle.outcome = BROKER_JOB_FAILED;
    job->settle.grave = BROKER_UNKNOWN;
    log_error(&d->log, "unknown task kept aside", "id=%s task=%s", job->id, job->task);
    settle(d, job, from, SETTLE_BURY);
}

void settle_poison(struct dispatcher *d, struct job *job, struct job_list *from, const char *cause)
{
    add_document(d, job, "FAILURE", "DecodeError", "kombu.exceptions", json_pack("[s]", cause));
    use_document(job, cause);
    job->settle.outcome = BROKER_JOB_FAILED;
    job->settle.grave = BROKER_DEAD;
    log_error(&d->log, "message buried", "id=%s cause=\"%s\"", job->id ? job->id : "?", cause);
    settle(d, job, from, SETTLE_BURY);
}

void settle_hand_back(struct dispatcher *d, struct job *job, struct job_list *from,
                      int64_t not_before_ms)
{
    job->settle.verdict = (struct channel_verdict){0};
    job->settle.not_before_ms = not_before_ms;
    job->settle.front = not_before_ms == 0;
    settle(d, job, from, SETTLE_RELEASE);
}

/* Celery writes whole seconds as an integer: TimeLimitExceeded(1). */
static json_t *seconds(double s)
{
    return s == (double)(json_int_t)s ? json_integer((json_int_t)s) : json_real(s);
}

void settle_hard_limit(struct dispatcher *d, struct job *job, struct job_list *from)
{
    add_document(d, job, "FAILURE", "TimeLimitExceeded", "billiard.exceptions",
                 json_pack("[o]", seconds(job->hard_limit_s)));
    use_document(job, NULL);
    job->settle.outcome = BROKER_JOB_FAILED;
    settle(d, job, from, job->early_acked ? SETTLE_STORE : SETTLE_FINISH);
}

static void worker_lost_text(const struct job *job, int wait_status, char *to, size_t size)
{
    char cause[64];

    proc_cause(wait_status, cause, sizeof(cause));
    snprintf(to, size, "Worker exited prematurely: %s Job: %llu.", cause,
             (unsigned long long)job->number);
}

/* The message goes back with a counter raised, so that any worker that gets it next knows. */
static int raise_counter(struct job *job, const char *header, int64_t value)
{
    struct message m = {0};
    int rc = message_skim(&m, buf_slice(&job->envelope), NULL);

    buf_clear(&job->settle.text);
    if (rc == 0)
        rc = message_with_header(&job->settle.text, &m, header, json_integer(value), NULL);
    message_release(&m);
    if (rc < 0)
        buf_clear(&job->settle.text);
    return rc;
}

void settle_wait(struct dispatcher *d, struct job *job, struct job_list *from,
                 int64_t not_before_ms)
{
    settle_hand_back(d, job, from, not_before_ms);
    raise_counter(job, MESSAGE_H_WAITS, job->key.waits + 1);
}

void settle_again(struct dispatcher *d, struct job *job, struct job_list *from, struct slice doc)
{
    struct channel_verdict v = {.outcome = CHANNEL_SUCCESS, .result = doc};

    settle_verdict(d, job, from, &v);
}

void settle_lost(struct dispatcher *d, struct job *job, struct job_list *from, int wait_status)
{
    char text[160];

    job->lost++;
    worker_lost_text(job, wait_status, text, sizeof(text));
    log_warn(&d->log, "worker lost", "id=%s task=%s lost=%lld cause=\"%s\"", job->id, job->task,
             (long long)job->lost, text);
    if (!job->early_acked && !policy_bury_lost(job->lost, d->config->lost_max)) {
        settle_hand_back(d, job, from, 0);
        raise_counter(job, MESSAGE_H_LOST, job->lost);
        return;
    }
    add_document(d, job, "FAILURE", "WorkerLostError", "billiard.exceptions",
                 json_pack("[s]", text));
    use_document(job, text);
    job->settle.outcome = BROKER_JOB_FAILED;
    job->settle.grave = BROKER_DEAD;
    settle(d, job, from, job->early_acked ? SETTLE_STORE : SETTLE_BURY);
}

/* ---- telling it ---- */

/* The messages that go with the finishes of one batch, in one array. */
struct followups {
    struct broker_message *v; /* owned */
    size_t len;
    size_t cap;
};

static size_t count_followups(struct job *const *jobs, size_t n)
{
    size_t total = 0;

    for (size_t i = 0; i < n; i++)
        total += jobs[i]->settle.verdict.followups_len;
    return total;
}

static size_t add_followups(struct followups *all, const struct settlement *s)
{
    struct slice rest = s->verdict.followups;
    struct channel_followup f;
    size_t n = 0;

    while (all->len < all->cap && channel_next_followup(&rest, &f) == 1) {
        all->v[all->len++] = (struct broker_message){.queue = f.queue,
                                                     .envelope = f.envelope,
                                                     .id = f.id,
                                                     .priority = f.priority,
                                                     .not_before_ms = f.not_before_ms,
                                                     .continues = f.continues != 0};
        n++;
    }
    return n;
}

static struct slice held_key(const struct job *job)
{
    return job->key.won ? slice_make(job->key.text, job->key.len) : slice_make(NULL, 0);
}

/* Another job's success stands for its own. */
static bool is_twin(const struct job *job)
{
    return job->key.first_id && strcmp(job->key.first_id, job->id) != 0;
}

static int submit_finishes(struct dispatcher *d, struct job **jobs, size_t n)
{
    struct broker_finish v[BATCH_MAX];
    struct followups all = {.cap = count_followups(jobs, n)};
    int rc;

    if (all.cap && !(all.v = calloc(all.cap, sizeof(*all.v))))
        return -1;
    for (size_t i = 0; i < n; i++) {
        const struct settlement *s = &jobs[i]->settle;
        size_t first = all.len;

        v[i] = (struct broker_finish){.tag = jobs[i]->number,
                                      .receipt = jobs[i]->receipt,
                                      .outcome = s->outcome,
                                      .result = s->verdict.result,
                                      .result_expires_ms = s->verdict.result_expires_ms};
        if (s->verdict.result.ptr)
            v[i].result_id = slice_of(jobs[i]->id);
        v[i].followups_len = add_followups(&all, s);
        v[i].followups = all.v ? all.v + first : NULL;
        v[i].duplicate = is_twin(jobs[i]) && s->outcome == BROKER_JOB_SUCCEEDED;
        v[i].dedup_window_ms = jobs[i]->key.window_ms;
        v[i].dedup_key = held_key(jobs[i]);
    }
    rc = broker_finish(d->broker, v, n, NULL);
    free(all.v);
    return rc;
}

static int submit_releases(struct dispatcher *d, struct job **jobs, size_t n)
{
    struct broker_release v[BATCH_MAX];

    for (size_t i = 0; i < n; i++) {
        const struct settlement *s = &jobs[i]->settle;

        v[i] = (struct broker_release){.tag = jobs[i]->number,
                                       .receipt = jobs[i]->receipt,
                                       .not_before_ms = s->not_before_ms,
                                       .front = s->front};
        if (s->text.len && !s->verdict.result.ptr && !s->verdict.cause.ptr)
            v[i].envelope = buf_slice(&s->text);
    }
    return broker_release(d->broker, v, n, NULL);
}

static int submit_burials(struct dispatcher *d, struct job **jobs, size_t n)
{
    struct broker_bury v[BATCH_MAX];

    for (size_t i = 0; i < n; i++) {
        const struct settlement *s = &jobs[i]->settle;

        v[i] = (struct broker_bury){
            .tag = jobs[i]->number,
            .receipt = jobs[i]->receipt,
            .grave = s->grave,
            .cause = s->verdict.cause.ptr ? s->verdict.cause : slice_of("rejected by the task"),
            .id = slice_of(jobs[i]->id),
            .task = slice_of(jobs[i]->task),
            .result = s->verdict.result,
            .dedup_key = held_key(jobs[i])};
        if (s->verdict.result.ptr)
            v[i].result_id = slice_of(jobs[i]->id);
    }
    return broker_bury(d->broker, v, n, NULL);
}

static int submit_stores(struct dispatcher *d, struct job **jobs, size_t n)
{
    struct broker_store v[BATCH_MAX];

    for (size_t i = 0; i < n; i++) {
        const struct settlement *s = &jobs[i]->settle;

        send_followups(d, jobs[i]);
        v[i] = (struct broker_store){.tag = jobs[i]->number,
                                     .id = slice_of(jobs[i]->id),
                                     .result = s->verdict.result,
                                     .expires_ms = s->verdict.result_expires_ms};
    }
    return broker_store(d->broker, v, n, NULL);
}

static void retry_later(struct dispatcher *d, struct settlement *s)
{
    s->submitted = false;
    s->try_at_ms = clock_mono_ms(d->clock) +
                   backoff_ms(RETRY_MIN_MS, RETRY_MAX_MS, s->tries++, uuid_random(&d->random));
}

static bool is_due(const struct settlement *s, int64_t now_ms)
{
    return !s->submitted && !s->held && s->try_at_ms <= now_ms;
}

/* Collects what is due of one kind; at most BATCH_MAX. */
static size_t collect(struct dispatcher *d, enum settle_kind kind, struct job **jobs)
{
    int64_t now_ms = clock_mono_ms(d->clock);
    struct job *job;
    size_t n = 0;

    TAILQ_FOREACH(job, &d->jobs.settling, link)
    {
        if (n < BATCH_MAX && job->settle.kind == kind && is_due(&job->settle, now_ms))
            jobs[n++] = job;
    }
    return n;
}

static void submit_kind(struct dispatcher *d, enum settle_kind kind,
                        int (*submit)(struct dispatcher *, struct job **, size_t))
{
    struct job *jobs[BATCH_MAX];
    size_t n;

    do {
        n = collect(d, kind, jobs);
        if (n == 0)
            return;
        for (size_t i = 0; i < n; i++)
            jobs[i]->settle.submitted = true;
        /* CRASH: after the verdict, before it is submitted - take-over runs the job again, recorded
         * once */
        FAULT_POINT("dispatcher.before-settle");
        if (submit(d, jobs, n) == 0) {
            /* CRASH: after it is submitted, before it is confirmed - done or not, the fence decides
             * which */
            FAULT_POINT("dispatcher.after-settle");
            continue;
        }
        for (size_t i = 0; i < n; i++)
            retry_later(d, &jobs[i]->settle);
    } while (n == BATCH_MAX);
}

static void let_go(struct dispatcher *d)
{
    struct job *job;

    if (clock_mono_ms(d->clock) < tell_at_ms(d))
        return;
    TAILQ_FOREACH(job, &d->jobs.settling, link)
    job->settle.held = false;
    d->held = 0;
}

void settle_submit(struct dispatcher *d)
{
    let_go(d);
    submit_kind(d, SETTLE_FINISH, submit_finishes);
    submit_kind(d, SETTLE_RELEASE, submit_releases);
    submit_kind(d, SETTLE_BURY, submit_burials);
    submit_kind(d, SETTLE_STORE, submit_stores);
}

/* ---- the answer ---- */

static void on_failed(struct dispatcher *d, struct job *job, const struct broker_event *event)
{
    if (job->state != JOB_SETTLING) {
        /* The early acknowledgement did not get through: this job is acknowledged with its verdict.
         */
        job->early_acked = false;
        return;
    }
    if (job->settle.tries == 0)
        log_warn(&d->log, "broker did not take an answer", "id=%s error=\"%s\"",
                 job->id ? job->id : "?", event->err ? event->err->text : "");
    retry_later(d, &job->settle);
}

void settle_answer(struct dispatcher *d, const struct broker_event *event)
{
    struct job *job = inflight_find(&d->jobs, event->tag);

    if (!job)
        return;
    if (job->state == JOB_CLAIMING) {
        dedup_answer(d, job, event);
        return;
    }
    if (event->kind == BROKER_FAILED) {
        on_failed(d, job, event);
        return;
    }
    if (job->state != JOB_SETTLING)
        return;
    if (job->settle.kind == SETTLE_STORE && event->kind != BROKER_STORED)
        return; /* of the early acknowledgement: its result is still on the way */
    if (job->settle.verdict_us)
        stages_add(&d->stages, STAGE_RECORDED, isotime_now_us() - job->settle.verdict_us);
    if (event->kind == BROKER_REFUSED)
        log_debug(&d->log, "lease lost before the end", "id=%s", job->id ? job->id : "?");
    if (event->flags & BROKER_DUPLICATE && !job->key.first_id)
        log_info(&d->log, "duplicate dropped", "id=%s", job->id ? job->id : "?");
    inflight_move(job, &d->jobs.settling, NULL, JOB_SETTLING);
    inflight_free(&d->jobs, job);
}

int64_t settle_next_ms(const struct dispatcher *d)
{
    const struct job *job;
    int64_t next = tell_at_ms(d);

    TAILQ_FOREACH(job, &d->jobs.settling, link)
    {
        if (!job->settle.submitted && !job->settle.held && job->settle.try_at_ms < next)
            next = job->settle.try_at_ms;
    }
    return next;
}
