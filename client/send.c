#include "client/send.h"

#include "broker/backoff.h"
#include "client/sigpipe.h"

#include <stdlib.h>

#define RETRY_BASE_MS 50
#define RETRY_MAX_MS  1000

struct sending {
    struct session *s;
    struct outgoing *v; /* at most SEND_BATCH */
    size_t n;
    size_t open;      /* neither confirmed nor refused */
    uint64_t tag;     /* of v[0] in the last publish that named it */
    bool again;       /* something is to be sent again */
    int64_t retry_ms; /* when */
    unsigned tries;
    char batch[UUID_SIZE]; /* names this sending; "" for a single message: its id will do */
};

void outgoing_release(struct outgoing *o)
{
    free(o->envelope);
    free(o->queue);
    o->envelope = o->queue = NULL;
}

static bool may_pass(enum err_code code)
{
    return code == ERR_AGAIN || code == ERR_RECONNECT || code == ERR_TIMEOUT;
}

static void failed(struct sending *sending, struct outgoing *o, const struct err *err)
{
    o->err = *err;
    if (may_pass(err->code)) {
        o->state = OUTGOING_NEW;
        sending->again = true;
        return;
    }
    o->state = OUTGOING_REFUSED;
    sending->open--;
}

static void take_event(void *user, const struct broker_event *event)
{
    struct sending *sending = user;
    struct outgoing *o;

    if (event->tag < sending->tag || event->tag - sending->tag >= sending->n)
        return; /* of a call that gave up */
    o = &sending->v[event->tag - sending->tag];
    if (o->state != OUTGOING_SENT)
        return;
    if (event->kind == BROKER_PUBLISHED) {
        o->state = OUTGOING_CONFIRMED;
        sending->open--;
    } else if (event->kind == BROKER_FAILED) {
        failed(sending, o, event->err);
    }
}

static struct broker_message message_of(const struct sending *sending, size_t i)
{
    const struct outgoing *o = &sending->v[i];

    return (struct broker_message){
        .tag = sending->tag + i,
        .queue = slice_of(o->queue),
        .envelope = slice_make(o->envelope, o->envelope_len),
        .token = slice_of(o->id),
        .batch = slice_of(sending->batch),
        .batch_at = (uint32_t)i,
        .id = slice_of(o->id),
        .priority = o->priority,
        .not_before_ms = o->not_before_ms,
    };
}

/* Publishes what is new, under tags that say its place in v. */
static int publish_new(struct sending *sending, struct err *e)
{
    struct broker_message messages[SEND_BATCH];
    struct sigpipe_guard guard;
    size_t n = 0;
    int status = 0;

    sending->tag = session_tags(sending->s, sending->n);
    sending->again = false;
    for (size_t i = 0; i < sending->n; i++) {
        if (sending->v[i].state == OUTGOING_NEW)
            messages[n++] = message_of(sending, i);
    }
    sigpipe_enter(&guard);
    if (n > 0)
        status = broker_publish(sending->s->broker, messages, n, e);
    sigpipe_leave(&guard);
    if (status < 0)
        return -1;
    for (size_t i = 0; i < sending->n; i++) {
        if (sending->v[i].state == OUTGOING_NEW)
            sending->v[i].state = OUTGOING_SENT;
    }
    return 0;
}

/* A failure that may pass: when is the next try? Answers of others may still be on their way, and
 * after a new tag base they would not be recognised, so a retry waits for those too. */
static void plan_retry(struct sending *sending)
{
    struct session *s = sending->s;

    sending->retry_ms =
        session_now(s) + 1 +
        backoff_ms(RETRY_BASE_MS, RETRY_MAX_MS, sending->tries++, uuid_random(&s->ids));
}

static bool any_sent(const struct sending *sending)
{
    for (size_t i = 0; i < sending->n; i++) {
        if (sending->v[i].state == OUTGOING_SENT)
            return true;
    }
    return false;
}

/* 0: every message has an answer; 1: the deadline passed; -1: the broker can not be used. */
static int send_batch(struct session *s, struct outgoing *v, size_t n, struct err *e)
{
    struct sending sending = {.s = s, .v = v, .n = n, .open = n, .retry_ms = CLOCK_NEVER};
    int64_t deadline_ms = session_deadline(s);
    int status;

    if (n > 1)
        uuid_next(&s->ids, sending.batch);
    status = publish_new(&sending, e);
    while (status == 0 && sending.open > 0) {
        int64_t now_ms = session_now(s);

        if (now_ms >= deadline_ms)
            return 1;
        if (sending.again && sending.retry_ms == CLOCK_NEVER && !any_sent(&sending))
            plan_retry(&sending);
        if (now_ms >= sending.retry_ms) {
            sending.retry_ms = CLOCK_NEVER;
            status = publish_new(&sending, e);
        } else {
            int64_t until_ms = sending.retry_ms < deadline_ms ? sending.retry_ms : deadline_ms;

            status = session_step(s, until_ms, take_event, &sending, e);
        }
    }
    return status;
}

/* What became of the first message that is not confirmed. */
static int explain(const struct session *s, const struct outgoing *o, struct err *e)
{
    if (o->state == OUTGOING_REFUSED)
        return err_set(e, o->err.code, "task %s was refused: %s", o->id, o->err.text);
    if (o->err.code != ERR_NONE)
        return err_set(e, may_pass(o->err.code) ? ERR_RECONNECT : o->err.code,
                       "task %s was not confirmed: %s", o->id, o->err.text);
    return session_gave_up(s, "not confirmed", e);
}

static int verdict(const struct session *s, const struct outgoing *v, size_t n, struct err *e)
{
    size_t confirmed = 0;
    const struct outgoing *first = NULL;

    for (size_t i = 0; i < n; i++) {
        confirmed += v[i].state == OUTGOING_CONFIRMED;
        if (!first && v[i].state != OUTGOING_CONFIRMED)
            first = &v[i];
    }
    if (!first)
        return 0;
    explain(s, first, e);
    if (confirmed > 0 && e) {
        err_wrap(e, "%zu of %zu tasks confirmed", confirmed, n);
        e->code = ERR_PARTIAL;
    }
    return -1;
}

/* Nobody can be sent to: the reason belongs to every message without an answer. */
static void give_up(struct outgoing *v, size_t n, const struct err *why)
{
    for (size_t i = 0; i < n; i++) {
        if (v[i].state == OUTGOING_NEW || v[i].state == OUTGOING_SENT)
            v[i].err = *why;
    }
}

int send_all(struct session *s, struct outgoing *v, size_t n, struct err *e)
{
    int status = 0;

    for (size_t at = 0; at < n && status == 0; at += SEND_BATCH) {
        size_t batch_len = n - at < SEND_BATCH ? n - at : SEND_BATCH;
        struct err why = ERR_INIT;

        status = send_batch(s, v + at, batch_len, &why);
        if (status < 0)
            give_up(v + at, batch_len, &why);
    }
    return verdict(s, v, n, e);
}
