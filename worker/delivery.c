/* What a delivered message becomes: a job that is ready, or one whose end is already known. */
#include "worker/dispatcher.h"

#include "base/fault.h"
#include "base/isotime.h"
#include "broker/message.h"

#include <stdlib.h>
#include <string.h>

/* Longer ones are not even parsed: the body alone would be over MESSAGE_BODY_MAX. */
#define ENVELOPE_MAX ((size_t)MESSAGE_BODY_MAX * 3 / 2)

/* Id and task, each with its NUL. */
static int keep_names(struct job *job, const struct message *m)
{
    size_t id_len = m->id ? strlen(m->id) + 1 : 0;
    const char *names;

    buf_add(&job->names, m->id, id_len);
    buf_add(&job->names, m->task, m->task ? strlen(m->task) + 1 : 0);
    if (job->names.failed)
        return -1;
    names = buf_slice(&job->names).ptr;
    job->id = m->id ? names : NULL;
    job->task = m->task ? names + id_len : NULL;
    return 0;
}

void delivery_admit(struct dispatcher *d, struct job *job, struct job_list *from)
{
    int64_t slot_ms = policy_rate_ms(job->options, clock_wall_ms(d->clock));

    if (slot_ms)
        settle_hand_back(d, job, from, slot_ms);
    else
        inflight_move(job, from, &d->jobs.ready, JOB_READY);
}

static void decide(struct dispatcher *d, struct job *job, struct message *m)
{
    const struct worker_config *w = d->config;

    job->lost = m->lost;
    job->options = taskrows_find(&d->rows, m->task);
    switch (policy_on_delivery(m, job->options, clock_wall_ms(d->clock))) {
    case POLICY_EXPIRE:
        settle_expired(d, job, NULL);
        return;
    case POLICY_PARK:
        settle_hand_back(d, job, NULL, m->eta_ms);
        return;
    case POLICY_UNKNOWN:
        settle_unknown(d, job, NULL);
        return;
    case POLICY_RUN:
        break;
    }
    job->soft_limit_s =
        policy_limit_s(m->soft_limit_s, job->options->soft_limit_s, w->soft_limit_s);
    job->hard_limit_s =
        policy_limit_s(m->hard_limit_s, job->options->hard_limit_s, w->hard_limit_s);
    /* A job that was alone in a runner when it died goes on alone, so that it can not take others
     * with it. */
    job->solo = m->lost > 0;
    if (!dedup_take(d, job, m))
        delivery_admit(d, job, NULL);
}

static void take_apart(struct dispatcher *d, struct job *job)
{
    struct message *m = &d->message;
    struct err e = ERR_INIT;

    if (job->envelope.len > ENVELOPE_MAX) {
        settle_poison(d, job, NULL, "the message is too large");
        return;
    }
    if (message_skim(m, buf_slice(&job->envelope), &e) == 0) {
        if (keep_names(job, m) == 0)
            decide(d, job, m);
        else
            settle_hand_back(d, job, NULL, 0);
    } else if (e.code == ERR_DEADLETTER) {
        keep_names(job, m);
        settle_poison(d, job, NULL, e.text);
    } else {
        settle_hand_back(d, job, NULL, clock_wall_ms(d->clock) + 1000);
    }
    message_clear(m);
}

void delivery_take(struct dispatcher *d, const struct broker_event *event)
{
    struct job *job = inflight_new(&d->jobs, event->data);

    if (!job) {
        /* The lease expires and the message comes back: nothing is lost but time. */
        log_error(&d->log, "out of memory for a job", NULL);
        return;
    }
    job->receipt = event->receipt;
    job->fence = event->fence;
    job->delivered_us = isotime_now_us();
    /* CRASH: after the lease, before the job is lent - take-over or lease expiry hands it back */
    FAULT_POINT("dispatcher.after-delivery");
    take_apart(d, job);
}
