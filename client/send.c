#include "client/send.h"

#include "broker/backoff.h"
#include "client/sigpipe.h"

#include <stdlib.h>

#define RETRY_BASE_MS 50
#define RETRY_MAX_MS  1000
#define KEEP_MAX      8192 /* bytes of memory that wait for the next message */

void outgoing_begin(struct outgoing *o)
{
    if (o->text.cap > KEEP_MAX)
        buf_release(&o->text);
    buf_clear(&o->text);
    o->id[0] = '\0';
    o->envelope_len = 0;
    o->priority = 0;
    o->named = false;
    o->not_before_ms = 0;
    o->state = OUTGOING_NEW;
    o->err.code = ERR_NONE;
    o->err.text[0] = '\0';
}

void outgoing_release(struct outgoing *o)
{
    buf_release(&o->text);
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

/* NULL for an answer to a call that gave up. */
static struct sending *sending_of(const struct session *s, uint64_t tag)
{
    struct sending *sending = s->sendings;

    while (sending && (tag < sending->tag || tag - sending->tag >= sending->n))
        sending = sending->next;
    return sending;
}

static void take_event(void *user, const struct broker_event *event)
{
    struct sending *sending = sending_of(user, event->tag);
    struct outgoing *o;

    if (!sending)
        return;
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
        .queue = outgoing_queue(o),
        .envelope = outgoing_envelope(o),
        .token = slice_of(o->id),
        .batch = slice_of(sending->batch),
        .batch_at = (uint32_t)i,
        .fresh = !sending->published && (sending->n > 1 || !o->named),
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
    sigpipe_enter_if(&guard, session_may_sigpipe(sending->s));
    if (n > 0)
        status = broker_publish(sending->s->broker, messages, n, e);
    sending->published = true;
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

static void step(struct sending *sending, int64_t until_ms)
{
    session_step(sending->s, until_ms, take_event, sending->s, &sending->why);
}

void sending_begin(struct sending *sending, struct session *s, struct outgoing *v, size_t n)
{
    *sending = (struct sending){.s = s,
                                .next = s->sendings,
                                .v = v,
                                .n = n,
                                .open = n,
                                .retry_ms = CLOCK_NEVER,
                                .deadline_ms = session_deadline(s),
                                .why = ERR_INIT};
    s->sendings = sending;
    if (n > 1)
        uuid_next(&s->ids, sending->batch);
    publish_new(sending, &sending->why);
}

static void unlink_sending(struct sending *sending)
{
    struct sending **at = &sending->s->sendings;

    while (*at != sending)
        at = &(*at)->next;
    *at = sending->next;
}

bool sending_is_over(const struct sending *sending)
{
    return sending->open == 0;
}

void sending_renew(struct sending *sending)
{
    sending->deadline_ms = session_deadline(sending->s);
}

void sending_pump(struct sending *sending)
{
    if (sending->open > 0 && sending->why.code == ERR_NONE)
        step(sending, session_now(sending->s));
}

/* Until every message has an answer, the deadline passed, or the broker can not be used. */
static void wait_for_answers(struct sending *sending)
{
    while (sending->open > 0 && sending->why.code == ERR_NONE) {
        int64_t now_ms = session_now(sending->s);

        if (now_ms >= sending->deadline_ms)
            return;
        if (sending->again && sending->retry_ms == CLOCK_NEVER && !any_sent(sending))
            plan_retry(sending);
        if (now_ms >= sending->retry_ms) {
            sending->retry_ms = CLOCK_NEVER;
            publish_new(sending, &sending->why);
        } else {
            step(sending, sending->retry_ms < sending->deadline_ms ? sending->retry_ms
                                                                   : sending->deadline_ms);
        }
    }
}

int outgoing_explain(const struct session *s, const struct outgoing *o, struct err *e)
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
    outgoing_explain(s, first, e);
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

int sending_end(struct sending *sending, struct err *e)
{
    wait_for_answers(sending);
    unlink_sending(sending);
    if (sending->why.code != ERR_NONE)
        give_up(sending->v, sending->n, &sending->why);
    return verdict(sending->s, sending->v, sending->n, e);
}

int send_all(struct session *s, struct outgoing *v, size_t n, struct err *e)
{
    struct sending sending;

    sending_begin(&sending, s, v, n);
    return sending_end(&sending, e);
}
