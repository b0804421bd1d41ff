/* Lending jobs to runners and taking them back: seats, depth, watches, runners that are gone. */
#include "worker/dispatcher.h"

#include "base/fault.h"
#include "base/isotime.h"

#include <event2/event.h>
#include <string.h>
#include <unistd.h>

/* A job still out after this long is watched by the supervisor if it has a limit. */
#define WATCH_AFTER_MS 100
#define IDLE_BUFFER    4096

/* ---- seats ---- */

static void empty_seat(struct seat *s)
{
    if (s->readable)
        event_free(s->readable);
    if (s->writable)
        event_free(s->writable);
    s->readable = NULL;
    s->writable = NULL;
    frame_link_release(&s->jobs);
    s->ready = false;
    s->retiring = false;
    s->tasks_done = 0;
    s->watched = 0;
}

static void tell_supervisor(struct dispatcher *d, uint16_t type, const struct seat *s)
{
    frame_put(&d->supervisor, type, 0, (uint64_t)s->slot, slice_make(NULL, 0));
}

/* A runner that talks nonsense is ended like one that crashed; its jobs follow when the supervisor
 * says that it is gone. */
static void distrust(struct dispatcher *d, struct seat *s, const char *why)
{
    log_error(&d->log, "runner makes no sense", "slot=%d error=\"%s\"", s->slot + 1, why);
    s->retiring = true;
    tell_supervisor(d, CHANNEL_KILL, s);
}

static void on_rows(struct dispatcher *d, struct seat *s, const struct frame *f)
{
    struct err e = ERR_INIT;

    if (taskrows_merge(&d->rows, f->payload, &e) < 0) {
        distrust(d, s, e.text);
        return;
    }
    s->ready = true;
    presence_changed(d);
}

static void on_note(struct dispatcher *d, const struct job *job, const struct frame *f)
{
    struct broker_note note = {job->receipt, slice_of(job->id), f->payload};

    if (job->id && !job->early_acked)
        broker_note(d->broker, &note, 1, NULL);
}

static void on_send(struct dispatcher *d, struct seat *s, const struct job *job,
                    const struct frame *f)
{
    struct channel_followup followup;
    struct slice rest = f->payload;
    struct err e = ERR_INIT;

    if (channel_next_followup(&rest, &followup) != 1)
        distrust(d, s, "malformed follow-up");
    else if (outbox_add(&d->outbox, &followup, job->fence, &e) < 0)
        log_error(&d->log, "message of a task not sent", "error=\"%s\"", e.text);
}

/* After its last allowed job a runner leaves at end-of-file and the supervisor starts a fresh one.
 */
static bool used_up(const struct dispatcher *d, const struct seat *s,
                    const struct channel_verdict *v)
{
    const struct worker_config *w = d->config;

    return (w->max_tasks > 0 && s->tasks_done >= w->max_tasks) ||
           (w->max_memory_kib > 0 && v->max_rss_kib > w->max_memory_kib);
}

/* When the job ended, by the runner's own account; when its account can not be, when it was lent.
 */
static int64_t ended_us(const struct job *job, const struct channel_verdict *v)
{
    int64_t took_us = v->dispatched_us + v->run_us;
    bool known = v->dispatched_us >= 0 && took_us <= isotime_now_us() - job->lent_us;

    return known ? job->lent_us + took_us : job->lent_us;
}

static void on_verdict(struct dispatcher *d, struct seat *s, struct job *job, const struct frame *f)
{
    struct channel_verdict v;
    struct err e = ERR_INIT;

    if (channel_get_verdict(f->payload, &v, &e) < 0) {
        distrust(d, s, e.text);
        return;
    }
    if (s->watched == job->number) {
        s->watched = 0;
        tell_supervisor(d, CHANNEL_UNWATCH, s);
    }
    s->lent_len--;
    s->tasks_done++;
    s->jobs_done++;
    s->head_since_ms = clock_mono_ms(d->clock);
    s->head_from_us = ended_us(job, &v);
    if (!job->key.first_id) { /* what did not run says nothing of how long it takes */
        policy_ran(job->options, v.run_us);
        d->mean_us = policy_mean_us(d->mean_us, v.run_us);
        stages_add(&d->stages, STAGE_RUN, v.run_us);
    }
    stages_add(&d->stages, STAGE_QUEUED, v.queued_us);
    stages_add(&d->stages, STAGE_DISPATCHED, v.dispatched_us);
    if (used_up(d, s, &v))
        s->retiring = true;
    settle_verdict(d, job, &s->lent, &v);
}

static void on_frame(struct dispatcher *d, struct seat *s, const struct frame *f)
{
    struct job *job;

    if (f->type == CHANNEL_ROWS) {
        on_rows(d, s, f);
        return;
    }
    job = TAILQ_FIRST(&s->lent);
    if (!job || job->number != f->id) {
        distrust(d, s, "an answer for a job that is not running");
        return;
    }
    switch (f->type) {
    case CHANNEL_NOTE:
        on_note(d, job, f);
        break;
    case CHANNEL_SEND:
        on_send(d, s, job, f);
        break;
    case CHANNEL_VERDICT:
        on_verdict(d, s, job, f);
        break;
    default:
        distrust(d, s, "unknown frame");
    }
}

/* Reads once and handles every whole frame: true while there may be more. */
static bool read_seat(struct dispatcher *d, struct seat *s)
{
    struct err e = ERR_INIT;
    struct frame f;
    enum frame_status got = frame_fill(&s->jobs, &e);

    while (frame_take(&s->jobs, &f, &e) == FRAME_OK)
        on_frame(d, s, &f);
    if (got == FRAME_EOF || got == FRAME_ERROR) {
        /* The death notice; the jobs wait for the supervisor's word on how it died. */
        s->ready = false;
        event_del(s->readable);
    }
    return got == FRAME_OK;
}

static struct seat *seat_of_fd(struct dispatcher *d, int fd)
{
    for (int i = 0; i < d->config->concurrency; i++) {
        if (d->seats[i].jobs.fd == fd)
            return &d->seats[i];
    }
    return NULL;
}

static void on_readable(evutil_socket_t fd, short what, void *cookie)
{
    struct dispatcher *d = cookie;
    struct seat *s = seat_of_fd(d, fd);

    (void)what;
    if (s)
        read_seat(d, s);
}

static void on_writable(evutil_socket_t fd, short what, void *cookie)
{
    /* The round after this callback flushes every channel. */
    (void)fd;
    (void)what;
    (void)cookie;
}

void lend_open_seat(struct dispatcher *d, int slot, int fd)
{
    struct seat *s = &d->seats[slot];

    if (s->jobs.fd >= 0)
        empty_seat(s);
    frame_link_init(&s->jobs, fd);
    s->readable = event_new(d->base, fd, EV_READ | EV_PERSIST, on_readable, d);
    s->writable = event_new(d->base, fd, EV_WRITE, on_writable, d);
    if (s->readable && s->writable && event_add(s->readable, NULL) == 0)
        return;
    log_error(&d->log, "out of memory for a runner", "slot=%d", slot + 1);
    empty_seat(s);
}

/* ---- lending ---- */

/* As many as matter to policy_may_join. */
static int count_ready(const struct dispatcher *d)
{
    const struct job *job = TAILQ_FIRST(&d->jobs.ready);
    int most = d->config->concurrency * POLICY_DEPTH_MAX, n = 0;

    if (job && policy_grain(job->options) > 1)
        return most;
    for (; job && n < most; job = TAILQ_NEXT(job, link))
        n++;
    return n;
}

/* Runners that leave after so many tasks are not lent more. */
static bool has_tasks_left(const struct dispatcher *d, const struct seat *s)
{
    return d->config->max_tasks <= 0 || s->tasks_done + s->lent_len < d->config->max_tasks;
}

/* The seat with the fewest jobs that still has room. behind: how many wait behind this one. */
static struct seat *best_seat(struct dispatcher *d, const struct job *job, int behind,
                              int64_t now_ms)
{
    struct seat *best = NULL;

    for (int i = 0; i < d->config->concurrency; i++) {
        struct seat *s = &d->seats[i];

        if (seat_room(s, job, now_ms) > 0 && has_tasks_left(d, s) &&
            (!best || s->lent_len < best->lent_len))
            best = s;
    }
    if (!best || !policy_may_join(job->options, d->config->concurrency, best->lent_len, behind))
        return NULL;
    return best;
}

/* Celery's early acknowledgement, for rows that ask for it: the message is gone before the task
 * runs. */
static void ack_early(struct dispatcher *d, struct job *job)
{
    struct broker_finish finish = {
        .tag = job->number, .receipt = job->receipt, .outcome = BROKER_JOB_SUCCEEDED};

    if (broker_finish(d->broker, &finish, 1, NULL) == 0)
        job->early_acked = true;
}

static void lend(struct dispatcher *d, struct seat *s, struct job *job)
{
    struct channel_run run = {.delivered_us = job->delivered_us,
                              .lent_us = isotime_now_us(),
                              .fence = job->fence,
                              .attempt = job->lost + 1,
                              .soft_limit_s = job->soft_limit_s,
                              .hard_limit_s = job->hard_limit_s,
                              .measured = !policy_is_short(job->options),
                              .first_id = slice_of(job->key.first_id),
                              .first = slice_make(job->key.first, job->key.first_len),
                              .envelope = buf_slice(&job->envelope)};

    if (job->options->ack_early && !job->key.text)
        ack_early(d, job);
    job->lent_us = run.lent_us;
    stages_add(&d->stages, STAGE_FETCHED, run.lent_us - run.delivered_us);
    if (s->lent_len == 0) {
        s->head_since_ms = clock_mono_ms(d->clock);
        s->head_from_us = job->lent_us;
    }
    channel_put_run(&s->jobs, job->number, &run);
    seat_lent(s, job);
    job->seat = s;
    inflight_move(job, &d->jobs.ready, &s->lent, JOB_LENT);
    /* CRASH: after lending, before the runner has it all - the runners die too, take-over hands the
     * job back */
    FAULT_POINT("dispatcher.after-lend");
}

/* Short jobs that came together are not dealt out one by one: of 64 runners each would be woken for
 * a few of them. last: the seat that got the job before in this round. */
static bool goes_along(const struct dispatcher *d, const struct seat *last, const struct job *job,
                       int64_t now_ms)
{
    return last && last->lent_len < policy_grain(job->options) && has_tasks_left(d, last) &&
           seat_room(last, job, now_ms) > 0;
}

void lend_jobs(struct dispatcher *d)
{
    int64_t now_ms = clock_mono_ms(d->clock);
    struct seat *s = NULL;
    struct job *job, *next;
    int behind = count_ready(d);

    if (d->stop != DISPATCH_RUN)
        return;
    for (job = TAILQ_FIRST(&d->jobs.ready); job; job = next) {
        behind--;
        if (!goes_along(d, s, job, now_ms))
            s = best_seat(d, job, behind, now_ms);
        next = TAILQ_NEXT(job, link);
        if (!s)
            return;
        lend(d, s, job);
    }
}

static void flush_seat(struct dispatcher *d, struct seat *s)
{
    struct err e = ERR_INIT;

    if (s->jobs.fd < 0)
        return;
    if (s->retiring && s->lent_len == 0) {
        empty_seat(s);
        return;
    }
    if (!frame_pending(&s->jobs) && !s->jobs.out.failed)
        return;
    switch (frame_flush(&s->jobs, &e)) {
    case FRAME_EMPTY:
        event_add(s->writable, NULL);
        break;
    case FRAME_ERROR:
        distrust(d, s, e.text);
        break;
    default:
        break;
    }
}

void lend_flush(struct dispatcher *d)
{
    for (int i = 0; i < d->config->concurrency; i++)
        flush_seat(d, &d->seats[i]);
}

void lend_rest(struct dispatcher *d)
{
    for (int i = 0; i < d->config->concurrency; i++) {
        struct seat *s = &d->seats[i];

        if (!s->ready || s->retiring)
            continue;
        frame_put(&s->jobs, CHANNEL_REST, 0, 0, slice_make(NULL, 0));
        flush_seat(d, s);
        frame_link_shrink(&s->jobs, IDLE_BUFFER);
    }
}

/* Until the runner has nothing left, if each takes no longer than the shortest lately. */
static int64_t work_of(const struct seat *s, int64_t now_us, int64_t enough_us)
{
    const struct job *job = TAILQ_FIRST(&s->lent);
    int64_t us = s->head_from_us < now_us ? s->head_from_us - now_us : 0;

    for (; us < enough_us && job; job = TAILQ_NEXT(job, link))
        us += job->options->low_us;
    return us < enough_us ? us : enough_us;
}

int64_t lend_busy_us(const struct dispatcher *d)
{
    int64_t now_us = isotime_now_us(), us = POLICY_GATHER_US;

    for (int i = 0; i < d->config->concurrency && us > 0; i++) {
        const struct seat *s = &d->seats[i];

        if (s->ready && !s->retiring)
            us = work_of(s, now_us, us);
    }
    return us;
}

int lend_running(const struct dispatcher *d)
{
    int n = 0;

    for (int i = 0; i < d->config->concurrency; i++)
        n += d->seats[i].lent_len;
    return n;
}

int lend_wanted(const struct dispatcher *d)
{
    int ready = 0;

    for (int i = 0; i < d->config->concurrency; i++)
        ready += d->seats[i].ready && !d->seats[i].retiring;
    if (!ready || d->stop != DISPATCH_RUN)
        return 0;
    return policy_wanted(ready, d->mean_us, (int)d->jobs.len - d->held);
}

/* ---- time limits ---- */

static bool wants_watch(const struct seat *s, const struct job *job)
{
    return job && s->watched != job->number && (job->soft_limit_s > 0 || job->hard_limit_s > 0);
}

static int64_t limit_at(const struct seat *s, double limit_s)
{
    return limit_s > 0 ? s->head_since_ms + (int64_t)(limit_s * 1000) : 0;
}

static void watch(struct dispatcher *d, struct seat *s, const struct job *job)
{
    struct channel_watch w = {job->number, limit_at(s, job->soft_limit_s),
                              limit_at(s, job->hard_limit_s)};

    s->watched = job->number;
    frame_put(&d->supervisor, CHANNEL_WATCH, 0, (uint64_t)s->slot, slice_make(&w, sizeof(w)));
}

void lend_watch(struct dispatcher *d)
{
    int64_t now_ms = clock_mono_ms(d->clock);

    for (int i = 0; i < d->config->concurrency; i++) {
        struct seat *s = &d->seats[i];
        struct job *head = TAILQ_FIRST(&s->lent);

        if (wants_watch(s, head) && now_ms - s->head_since_ms >= WATCH_AFTER_MS)
            watch(d, s, head);
    }
}

int64_t lend_next_ms(const struct dispatcher *d)
{
    int64_t next = CLOCK_NEVER;

    for (int i = 0; i < d->config->concurrency; i++) {
        const struct seat *s = &d->seats[i];

        if (wants_watch(s, TAILQ_FIRST(&s->lent)) && s->head_since_ms + WATCH_AFTER_MS < next)
            next = s->head_since_ms + WATCH_AFTER_MS;
    }
    return next;
}

/* ---- runners that are gone ---- */

/* Only a job that was alone has its counter raised; the others are lent again, one at a time. */
static void settle_lent(struct dispatcher *d, struct seat *s, const struct channel_gone *gone)
{
    struct job *job = TAILQ_FIRST(&s->lent);
    bool alone = s->lent_len == 1;

    if (job && gone->limit_job == job->number) {
        settle_hard_limit(d, job, &s->lent);
        job = TAILQ_FIRST(&s->lent);
        alone = false;
    }
    if (job && alone) {
        settle_lost(d, job, &s->lent, gone->wait_status);
        job = NULL;
    }
    while ((job = TAILQ_FIRST(&s->lent))) {
        job->solo = true;
        job->seat = NULL;
        inflight_move(job, &s->lent, NULL, JOB_READY);
        TAILQ_INSERT_HEAD(&d->jobs.ready, job, link);
    }
    s->lent_len = 0;
}

void lend_lost_runner(struct dispatcher *d, int slot, const struct channel_gone *gone)
{
    struct seat *s = &d->seats[slot];

    if (s->jobs.fd < 0)
        return;
    /* What it wrote before it died counts. A grandchild may hold the other end open, so read until
     * nothing is there rather than to the end of the file. */
    while (read_seat(d, s))
        continue;
    settle_lent(d, s, gone);
    empty_seat(s);
    presence_changed(d);
}

void lend_close_seats(struct dispatcher *d)
{
    for (int i = 0; i < d->config->concurrency; i++) {
        struct job *job;

        while ((job = TAILQ_FIRST(&d->seats[i].lent)))
            TAILQ_REMOVE(&d->seats[i].lent, job, link);
        empty_seat(&d->seats[i]);
    }
}
