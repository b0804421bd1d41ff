/*
 * split.c - jobs at one broker, results at another or nowhere.
 *
 * Keys are claimed at `jobs`, where the leases are; the document that a duplicate gets is then
 * asked of `results`.
 *
 * Model: a finish or bury with a result is kept whole (struct split_pending) while its result is
 * stored at `results`; when that is confirmed the rest is done at `jobs` under the receipt's fence.
 * Our own tags carry BROKER_TAG_RESERVED and the address of the pending item, so events find it in
 * one step; all other tags and events pass through untouched.
 *
 * What this costs against one atomic step:
 *  - CRASH: after result stored elsewhere, before finish - redelivery finds SUCCESS and finishes
 * the message without overwriting it.
 *  - A holder whose lease was lost can still store a result before its finish is refused; a SUCCESS
 *    is safe from it, another state may be overwritten until the new holder stores its own.
 *  - A redelivery that finds SUCCESS can not know whether the first run's follow-ups were
 * published: those that start something new are published (at least once), one that continues the
 * job is dropped, because the job is done.
 */
#include "base/fault.h"
#include "broker/backend.h"
#include "broker/events.h"
#include "broker/split_pending.h"

#include <stdlib.h>
#include <string.h>

/* Tag of a store whose outcome nobody waits for. */
#define TAG_NOTE BROKER_TAG_RESERVED

struct split {
    struct broker base;
    struct broker_ops ops;
    struct broker *jobs;    /* owned */
    struct broker *results; /* owned; NULL: nothing is stored */
    struct event_queue events;
    struct split_pending *pending; /* all of them, for close */
    bool jobs_up;
    bool results_up;
    bool said_up;
};

static struct split *from(struct broker *b)
{
    return (struct split *)b;
}

/* --- the two steps --- */

/* First step: the result. Then nothing is lost that was promised to whoever waits for it. */
static int store_first(struct split *s, struct split_pending *p, struct slice id,
                       struct slice result, int64_t expires_ms, struct err *e)
{
    struct broker_store store = {
        .tag = split_pending_tag(p), .id = id, .result = result, .expires_ms = expires_ms};

    if (s->results->ops->store(s->results, &store, 1, e) == 0)
        return 0;
    split_pending_free(&s->pending, p);
    return -1;
}

/* A job that has its SUCCESS does not go on, and is counted as any backend counts it. */
static void settle_as_succeeded(struct broker_finish *f, struct broker_message *followups)
{
    size_t kept = 0;

    for (size_t i = 0; i < f->followups_len; i++) {
        if (!followups[i].continues)
            followups[kept++] = followups[i];
    }
    f->followups_len = kept;
    f->outcome = BROKER_JOB_SUCCEEDED;
    f->duplicate = true;
}

/* Second step, under the fence. CRASH: after result stored elsewhere, before finish - redelivery
 * finds SUCCESS. */
static void end_delivery(struct split *s, struct split_pending *p, bool duplicate)
{
    struct err e = ERR_INIT;
    int rc;

    FAULT_POINT("split.after-result");
    p->duplicate = duplicate;
    if (duplicate && !p->is_bury)
        settle_as_succeeded(&p->finish, p->followups);
    if (p->is_bury)
        rc = s->jobs->ops->bury(s->jobs, &p->bury, 1, &e);
    else
        rc = s->jobs->ops->finish(s->jobs, &p->finish, 1, &e);
    if (rc == 0)
        return;
    event_queue_fail(&s->events, p->tag, &e);
    split_pending_free(&s->pending, p);
}

static void fail_item(struct split *s, uint64_t tag, const struct err *e)
{
    event_queue_fail(&s->events, tag, e);
}

static void finish_one(struct split *s, const struct broker_finish *f)
{
    struct err e = ERR_INIT;
    struct broker_finish bare = *f;
    struct split_pending *p;

    if (f->result_id.len && s->results) {
        p = split_pending_finish(&s->pending, f);
        if (!p)
            err_nomem(&e);
        if (!p || store_first(s, p, f->result_id, f->result, f->result_expires_ms, &e) != 0)
            fail_item(s, f->tag, &e);
        return;
    }
    bare.result_id = bare.result = (struct slice){NULL, 0};
    if (s->jobs->ops->finish(s->jobs, &bare, 1, &e) != 0)
        fail_item(s, f->tag, &e);
}

static int split_finish(struct broker *b, const struct broker_finish *v, size_t n, struct err *e)
{
    (void)e;
    for (size_t i = 0; i < n; i++)
        finish_one(from(b), &v[i]);
    return 0;
}

static void bury_one(struct split *s, const struct broker_bury *bury)
{
    struct err e = ERR_INIT;
    struct broker_bury bare = *bury;
    struct split_pending *p;

    if (bury->result_id.len && s->results) {
        p = split_pending_bury(&s->pending, bury);
        if (!p)
            err_nomem(&e);
        if (!p || store_first(s, p, bury->result_id, bury->result, 0, &e) != 0)
            fail_item(s, bury->tag, &e);
        return;
    }
    bare.result_id = bare.result = (struct slice){NULL, 0};
    if (s->jobs->ops->bury(s->jobs, &bare, 1, &e) != 0)
        fail_item(s, bury->tag, &e);
}

static int split_bury(struct broker *b, const struct broker_bury *v, size_t n, struct err *e)
{
    (void)e;
    for (size_t i = 0; i < n; i++)
        bury_one(from(b), &v[i]);
    return 0;
}

static int split_note(struct broker *b, const struct broker_note *v, size_t n, struct err *e)
{
    struct split *s = from(b);

    for (size_t i = 0; s->results && i < n; i++) {
        struct broker_store store = {.tag = TAG_NOTE, .id = v[i].result_id, .result = v[i].result};

        if (s->results->ops->store(s->results, &store, 1, e) != 0)
            return -1;
    }
    return 0;
}

/* --- the document of a duplicate --- */

static void ask_for_first(struct split *s, const struct broker_event *claimed)
{
    struct split_pending *p = split_pending_new(&s->pending, claimed->tag, 0, claimed->id.len);
    struct err e = ERR_INIT;
    uint64_t tag;

    if (!p) {
        err_nomem(&e);
        event_queue_fail(&s->events, claimed->tag, &e);
        return;
    }
    p->first = split_pending_keep(p, claimed->id);
    p->claimed = claimed->flags;
    tag = split_pending_tag(p);
    if (s->results->ops->result_get(s->results, &tag, &p->first, 1, &e) == 0)
        return;
    event_queue_fail(&s->events, p->tag, &e);
    split_pending_free(&s->pending, p);
}

static void answer_claim(struct split *s, struct split_pending *p, struct slice doc)
{
    struct broker_event event = {
        .kind = BROKER_CLAIMED, .flags = p->claimed, .tag = p->tag, .id = p->first, .data = doc};

    event_queue_push(&s->events, &event);
    split_pending_free(&s->pending, p);
}

/* --- events --- */

/* Both turn an event under our own tag into the caller's; false: it is none of the caller's
 * business. */
static bool translate_results(struct split *s, const struct broker_event *event)
{
    struct split_pending *p = split_pending_of(event->tag);

    if (!(event->tag & BROKER_TAG_RESERVED))
        return true;
    if (p && event->kind == BROKER_STORED) {
        end_delivery(s, p, event->flags & BROKER_DUPLICATE);
    } else if (p && event->kind == BROKER_RESULT) {
        answer_claim(s, p, event->data);
    } else if (p) {
        event_queue_fail(&s->events, p->tag, event->err);
        split_pending_free(&s->pending, p);
    }
    return false;
}

static bool translate_jobs(struct split *s, struct broker_event *event)
{
    struct split_pending *p = split_pending_of(event->tag);

    if (event->kind == BROKER_CLAIMED && event->flags & BROKER_DUPLICATE) {
        event->data = (struct slice){NULL, 0};
        if (s->results)
            ask_for_first(s, event);
        return !s->results;
    }
    if (!(event->tag & BROKER_TAG_RESERVED))
        return true;
    event->tag = p->tag;
    if (event->kind == BROKER_FINISHED && p->duplicate)
        event->flags |= BROKER_DUPLICATE;
    split_pending_free(&s->pending, p);
    return true;
}

/* Both must be up for one "up"; each "down" is told with its cause. */
static bool tell_state(struct split *s, const struct broker_event *event, bool *up)
{
    bool all;

    *up = event->flags & BROKER_UP;
    if (!*up) {
        s->said_up = false;
        return true;
    }
    all = s->jobs_up && (s->results_up || !s->results);
    if (!all || s->said_up)
        return false;
    s->said_up = true;
    return true;
}

static int poll_results(struct split *s, struct broker_event *events, int max)
{
    int got = s->results && max > 0 ? s->results->ops->poll(s->results, events, max) : 0;
    int n = 0;

    for (int i = 0; i < got; i++) {
        struct broker_event event = events[i];

        if (event.kind == BROKER_STATE ? tell_state(s, &event, &s->results_up)
                                       : translate_results(s, &event))
            events[n++] = event;
    }
    return n;
}

static int poll_jobs(struct split *s, struct broker_event *events, int max)
{
    int got = max > 0 ? s->jobs->ops->poll(s->jobs, events, max) : 0;
    int n = 0;

    for (int i = 0; i < got; i++) {
        struct broker_event event = events[i];

        if (event.kind == BROKER_STATE ? tell_state(s, &event, &s->jobs_up)
                                       : translate_jobs(s, &event))
            events[n++] = event;
    }
    return n;
}

/* Each broker is polled at most once, because its events are lent until its next poll. What is left
 * then makes the deadline "now". */
static int split_poll(struct broker *b, struct broker_event *events, int max)
{
    struct split *s = from(b);
    int n = event_queue_drain(&s->events, events, max);

    n += poll_results(s, events + n, max - n);
    n += poll_jobs(s, events + n, max - n);
    return n;
}

static int64_t split_deadline(struct broker *b)
{
    struct split *s = from(b);
    int64_t jobs = s->jobs->ops->deadline(s->jobs);
    int64_t results = s->results ? s->results->ops->deadline(s->results) : CLOCK_NEVER;

    if (!event_queue_empty(&s->events))
        return 0;
    return jobs < results ? jobs : results;
}

static void split_nothing_ready(struct broker *b)
{
    struct split *s = (struct split *)b;

    broker_nothing_ready(s->jobs);
    if (s->results)
        broker_nothing_ready(s->results);
}

static void split_rest(struct broker *b)
{
    struct split *s = from(b);

    broker_rest(s->jobs);
    if (s->results)
        broker_rest(s->results);
}

static int split_pollset(struct broker *b, struct pollfd *fds, int max)
{
    struct split *s = from(b);
    int n = s->jobs->ops->pollset(s->jobs, fds, max);

    if (s->results && n < max)
        n += s->results->ops->pollset(s->results, fds + n, max - n);
    return n;
}

/* --- what belongs to the jobs alone --- */

static void split_credit(struct broker *b, int n)
{
    from(b)->jobs->ops->credit(from(b)->jobs, n);
}

static int split_publish(struct broker *b, const struct broker_message *v, size_t n, struct err *e)
{
    return from(b)->jobs->ops->publish(from(b)->jobs, v, n, e);
}

static int split_renew(struct broker *b, const struct broker_receipt *v, size_t n, struct err *e)
{
    return from(b)->jobs->ops->renew(from(b)->jobs, v, n, e);
}

static int split_release(struct broker *b, const struct broker_release *v, size_t n, struct err *e)
{
    return from(b)->jobs->ops->release(from(b)->jobs, v, n, e);
}

static int split_claim(struct broker *b, const struct broker_claim *v, size_t n, struct err *e)
{
    return from(b)->jobs->ops->claim(from(b)->jobs, v, n, e);
}

static int split_ask(struct broker *b, const struct broker_ask *ask, struct err *e)
{
    return from(b)->jobs->ops->ask(from(b)->jobs, ask, e);
}

static int split_announce(struct broker *b, struct slice json, int64_t ttl_ms, struct err *e)
{
    return from(b)->jobs->ops->announce(from(b)->jobs, json, ttl_ms, e);
}

/* --- what belongs to the results alone; nowhere, an answer that says so --- */

static int answer_all(struct split *s, enum broker_event_kind kind, const uint64_t *tags, size_t n)
{
    for (size_t i = 0; i < n; i++)
        event_queue_done(&s->events, kind, tags[i], 0);
    return 0;
}

static int split_store(struct broker *b, const struct broker_store *v, size_t n, struct err *e)
{
    struct split *s = from(b);

    if (s->results)
        return s->results->ops->store(s->results, v, n, e);
    for (size_t i = 0; i < n; i++)
        event_queue_done(&s->events, BROKER_STORED, v[i].tag, 0);
    return 0;
}

static int split_get(struct broker *b, const uint64_t *tags, const struct slice *ids, size_t n,
                     struct err *e)
{
    struct split *s = from(b);

    return s->results ? s->results->ops->result_get(s->results, tags, ids, n, e)
                      : answer_all(s, BROKER_RESULT, tags, n);
}

static int split_watch(struct broker *b, const uint64_t *tags, const struct slice *ids, size_t n,
                       struct err *e)
{
    struct split *s = from(b);

    return s->results ? s->results->ops->result_watch(s->results, tags, ids, n, e) : 0;
}

static void split_unwatch(struct broker *b, const struct slice *ids, size_t n)
{
    struct split *s = from(b);

    if (s->results)
        s->results->ops->result_unwatch(s->results, ids, n);
}

static int split_forget(struct broker *b, const uint64_t *tags, const struct slice *ids, size_t n,
                        struct err *e)
{
    struct split *s = from(b);

    return s->results ? s->results->ops->result_forget(s->results, tags, ids, n, e)
                      : answer_all(s, BROKER_FORGOTTEN, tags, n);
}

/* --- life --- */

static void split_close(struct broker *b, bool release_leases)
{
    struct split *s = from(b);

    s->jobs->ops->close(s->jobs, release_leases);
    if (s->results)
        s->results->ops->close(s->results, false);
    for (struct split_pending *p = s->pending, *next; p; p = next) {
        next = p->next;
        free(p);
    }
    event_queue_release(&s->events);
    free(s);
}

static const struct broker_ops split_ops = {
    .name = "split",
    .close = split_close,
    .pollset = split_pollset,
    .deadline = split_deadline,
    .poll = split_poll,
    .nothing_ready = split_nothing_ready,
    .rest = split_rest,
    .credit = split_credit,
    .publish = split_publish,
    .renew = split_renew,
    .note = split_note,
    .finish = split_finish,
    .release = split_release,
    .bury = split_bury,
    .store = split_store,
    .claim = split_claim,
    .ask = split_ask,
    .announce = split_announce,
    .result_get = split_get,
    .result_watch = split_watch,
    .result_unwatch = split_unwatch,
    .result_forget = split_forget,
};

struct broker *split_wrap(struct broker *jobs, struct broker *results, struct err *e)
{
    struct split *s = calloc(1, sizeof(*s));

    if (!s) {
        jobs->ops->close(jobs, false);
        if (results)
            results->ops->close(results, false);
        err_nomem(e);
        return NULL;
    }
    s->ops = split_ops;
    s->ops.caps = jobs->ops->caps & ~(unsigned)(BROKER_CAP_ATOMIC_FINISH | BROKER_CAP_RESULTS);
    if (results)
        s->ops.caps |= BROKER_CAP_RESULTS;
    if (results && !(results->ops->caps & BROKER_CAP_NO_SIGPIPE))
        s->ops.caps &= ~(unsigned)BROKER_CAP_NO_SIGPIPE;
    s->base.ops = &s->ops;
    s->jobs = jobs;
    s->results = results;
    event_queue_init(&s->events);
    return &s->base;
}
