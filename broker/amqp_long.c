/*
 * Jobs that last longer than the server lets a delivery be unacknowledged (consumer_timeout).
 *
 * Half of that time after it came, a delivery that is still here is put aside: a copy of its
 * message is published into a delay, marked with a token (AMQP_H_HELD); when that is confirmed, the
 * delivery is acknowledged and its job goes on under the same receipt, outside of the ring. The
 * copy is what survives us. When it comes back, to whichever worker, it is not run at once:
 *  - one of ours with that token, or with that id and number of retries, is at work: it waits on;
 *  - else all nodes are asked whether they hold it; one that does says so: it waits on;
 *  - nobody does: it is looked up in the results stream as any suspicious delivery, under its id
 *    and under its token, which is recorded when a job that was put aside ends or is handed back.
 * What is then not there has lost its process and runs.
 *
 * A copy never waits for longer than COPY_MS, so that the end of its job is still known when it
 * comes. Its token is recorded only when all that follows from the job was confirmed: until then
 * the copy is all that would be left of the job. CRASH: after the copy, before the ack - the
 * delivery comes back as redelivered and runs; the copy finds it running or recorded. CRASH: after
 * the end of the job, before that of its token - the copy is looked up under its id; that of a job
 * without one, or that was handed back and has not begun again, runs as well: recorded once.
 */
#include "broker/amqp_ask.h"
#include "broker/amqp_envelope.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define COPY_MS   900000 /* one of the steps of amqp_ladder.c; well below an index's window */
#define ANSWER_MS 3000   /* a node that holds a job says so within that time, at most */
#define LOOK_MS   10000  /* how often the oldest deliveries are looked at, at most */
#define ADVICE                                                                                     \
    "longer jobs are acknowledged early when the limit is known: say it in the URL as "            \
    "?consumer_timeout=SECONDS"

/* --- copies --- */

static int64_t limit_ms(const struct amqp_broker *b)
{
    return b->address.consumer_timeout_ms / 2;
}

/* How long the others may take to say that they hold a job; far less than its copy may stay here.
 */
static int64_t answer_ms(const struct amqp_broker *b)
{
    int64_t most_ms = limit_ms(b) / 2;

    return most_ms && most_ms < ANSWER_MS ? most_ms : ANSWER_MS;
}

/* A copy comes back after that time, and not at all to a server that is as slow as we allow. */
static int64_t copy_ms(const struct amqp_broker *b)
{
    return limit_ms(b) < COPY_MS ? limit_ms(b) : COPY_MS;
}

static int send_copy(struct amqp_broker *b, struct amqp_held *h, out_done_fn *done, struct err *e)
{
    struct out_step *step = out_step_new(done, BROKER_STORED, 0);
    struct out_spec spec = {.routing_key = slice_of(b->queues[h->queue].name),
                            .mandatory = true,
                            .task = true,
                            .again = true,
                            .held = slice_of(h->token),
                            .priority = h->priority,
                            .not_before_ms = clock_wall_ms(b->clock) + copy_ms(b),
                            .body = slice_make(h->envelope, h->envelope_len)};

    if (!step)
        return err_nomem(e);
    step->tag = h->tag;
    step->flags = h->epoch;
    memcpy(step->token, h->token, sizeof(step->token));
    h->copying = true;
    out_add(b, step, &spec, e);
    out_step_close(b, step); /* what could not be added fails it */
    return 0;
}

/* The delivery that a copy was sent for, in whatever state; NULL: it went away. Not by its receipt,
 * since it may have been handed out meanwhile. */
static struct amqp_held *of_step(const struct amqp_broker *b, const struct out_step *step)
{
    return step->flags == b->epoch ? held_ring_find(&b->held, step->tag) : NULL;
}

static void on_told(struct amqp_broker *b, struct out_step *step, const struct err *why)
{
    (void)b;
    (void)step;
    (void)why; /* then the copy is looked up under its id alone */
}

void amqp_end_copies(struct amqp_broker *b, const char *token)
{
    struct amqp_result_record record = {.outcome = AMQP_RESULT_CONTINUES,
                                        .flags = AMQP_RESULT_UNCOUNTED,
                                        .now_ms = clock_wall_ms(b->clock),
                                        .id = slice_of(token)};
    struct out_step *step = *token ? out_step_new(on_told, BROKER_STORED, 0) : NULL;

    if (!step)
        return;
    amqp_add_record(b, step, &record, NULL);
    out_step_close(b, step);
}

static void tell_kept(struct amqp_broker *b, const struct amqp_held *h)
{
    log_info(b->log,
             "a job comes near the server's consumer_timeout: it goes on, acknowledged early, and "
             "a copy waits in the broker in case this worker dies",
             "id=%.*s queue=%s age_s=%lld consumer_timeout_s=%lld", SLICE_ARG(h->id),
             b->queues[h->queue].name, (long long)(amqp_now(b) - h->since_ms) / 1000,
             (long long)b->address.consumer_timeout_ms / 1000);
}

/* The copy is safe: the delivery is acknowledged, its job goes on. */
static void on_copied(struct amqp_broker *b, struct out_step *step, const struct err *why)
{
    struct amqp_held *h = of_step(b, step);

    if (!h) { /* its delivery went away and comes again by itself */
        if (!why)
            amqp_end_copies(b, step->token);
        return;
    }
    h->copying = false;
    if (why) {
        log_warn(b->log, "a job near the server's consumer_timeout could not be put aside",
                 "id=%.*s cause=\"%s\"", SLICE_ARG(h->id), why->text);
        return;
    }
    if (h->state == HELD_DONE || h->kept_aside || amqp_aside_add(b, h) != 0)
        return; /* its end is recorded under the token as well; or the next look tries again */
    h->kept_aside = true;
    if (h->state == HELD_LENT)
        b->lent--;
    link_ack(b->wires[AMQP_CONSUME].link, AMQP_CH_WORK, h->tag, false, NULL);
    held_ring_take(&b->held, h->tag);
    tell_kept(b, h);
}

static bool too_old(const struct amqp_broker *b, const struct amqp_held *h)
{
    return amqp_now(b) - h->since_ms >= limit_ms(b);
}

/* One that is looked up is not held yet: to say that it is would keep others from it for ever. */
static bool can_go_aside(const struct amqp_held *h)
{
    return h->state == HELD_LENT || h->state == HELD_WAITING || h->state == HELD_DELAYED;
}

/* Tags are in the order of time: the first one that is young ends the search. */
static void look(struct amqp_broker *b)
{
    for (uint64_t tag = b->held.first; tag < b->held.end; tag++) {
        struct amqp_held *h = held_ring_find(&b->held, tag);

        if (!h || h->copying || !can_go_aside(h))
            continue;
        if (!too_old(b, h))
            return;
        if (!h->token[0])
            uuid_next(&b->random, h->token);
        send_copy(b, h, on_copied, NULL);
    }
}

/* --- copies that come back --- */

/* Whether somebody here is at work on it. */
static bool hold(const struct amqp_broker *b, struct slice token, struct slice id, int64_t retries)
{
    for (size_t i = 0; i < b->aside.len; i++) {
        if (held_same_job(b->aside.v[i], token, id, retries))
            return true;
    }
    for (uint64_t tag = b->held.first; tag < b->held.end; tag++) {
        const struct amqp_held *h = held_ring_find(&b->held, tag);

        if (h && held_at_work(h) && held_same_job(h, token, id, retries))
            return true;
    }
    return false;
}

static void wait_for_answers(struct amqp_broker *b, struct amqp_held *h, int64_t ms)
{
    h->state = HELD_SUSPECT;
    h->due_at_ms = amqp_now(b) + ms;
    held_list_push(&b->aside.returned, h);
}

/* The next copy is safe, so this one can go. */
static void on_put_back(struct amqp_broker *b, struct out_step *step, const struct err *why)
{
    struct amqp_held *h = of_step(b, step);

    if (!h)
        return; /* it comes again as well: each is looked up */
    h->copying = false;
    if (why)
        wait_for_answers(b, h, answer_ms(b));
    else
        amqp_done_with(b, h);
}

static void put_back(struct amqp_broker *b, struct amqp_held *h)
{
    if (send_copy(b, h, on_put_back, NULL) != 0)
        wait_for_answers(b, h, answer_ms(b));
}

static void send_json(struct amqp_broker *b, const char *exchange, struct slice key, json_t *json)
{
    char *text = json ? json_dumps(json, JSON_COMPACT) : NULL;
    struct out_step *step = text ? out_step_new(on_told, BROKER_STORED, 0) : NULL;
    struct out_spec spec = {.exchange = slice_of(exchange),
                            .routing_key = key,
                            .content_type = "application/json",
                            .priority = -1};

    if (step) {
        spec.body = slice_of(text);
        out_add(b, step, &spec, NULL);
        out_step_close(b, step);
    }
    free(text);
    json_decref(json);
}

static void ask_all(struct amqp_broker *b, const struct amqp_held *h)
{
    char own[QUERY_NAME_SIZE];

    query_own_queue(b, own);
    send_json(b, QUERY_EXCHANGE, slice_of(""),
              json_pack("{s:s, s:s, s:s%, s:I, s:s}", "ask", "held", "token", h->token, "id",
                        h->id.ptr ? h->id.ptr : "", h->id.len, "retries", (json_int_t)h->retries,
                        "from", own));
}

void amqp_returned(struct amqp_broker *b, struct amqp_held *h)
{
    h->state = HELD_SUSPECT;
    if (hold(b, slice_of(h->token), h->id, h->retries)) {
        put_back(b, h);
        return;
    }
    wait_for_answers(b, h, answer_ms(b));
    ask_all(b, h);
}

/* --- what nodes ask each other --- */

static struct slice member(const json_t *json, const char *name)
{
    const json_t *value = json_object_get(json, name);

    return slice_make(json_string_value(value), json_string_length(value));
}

static void answer(struct amqp_broker *b, const json_t *question)
{
    struct slice token = member(question, "token"), from = member(question, "from");
    int64_t retries = json_integer_value(json_object_get(question, "retries"));
    char own[QUERY_NAME_SIZE];

    query_own_queue(b, own);
    if (token.len && from.len && !slice_is(from, own) &&
        hold(b, token, member(question, "id"), retries))
        send_json(b, "", from, json_pack("{s:s%}", "held", token.ptr, token.len));
}

static void take_answer(struct amqp_broker *b, struct slice token)
{
    for (struct amqp_held *h = b->aside.returned.head; h; h = h->next) {
        if (!slice_is(token, h->token))
            continue;
        held_list_remove(&b->aside.returned, h);
        put_back(b, h);
        return;
    }
}

bool amqp_held_asked(struct amqp_broker *b, const json_t *json)
{
    bool question = slice_is(member(json, "ask"), "held");
    bool reply = member(json, "held").len > 0;

    if (question)
        answer(b, json);
    else if (reply)
        take_answer(b, member(json, "held"));
    return question || reply;
}

/* --- time --- */

static int64_t first_due(const struct amqp_broker *b)
{
    int64_t at = CLOCK_NEVER;

    for (const struct amqp_held *h = b->aside.returned.head; h; h = h->next)
        at = h->due_at_ms < at ? h->due_at_ms : at;
    return at;
}

int64_t amqp_long_deadline(const struct amqp_broker *b)
{
    int64_t due = first_due(b);

    if (b->held.first == b->held.end || !b->address.consumer_timeout_ms)
        return due;
    return b->aside.look_at_ms < due ? b->aside.look_at_ms : due;
}

/* Nobody said that he holds it. */
static void nobody_has(struct amqp_broker *b, struct amqp_held *h)
{
    if (hold(b, slice_of(h->token), h->id, h->retries))
        put_back(b, h);
    else
        amqp_suspect(b, h);
}

void amqp_long_tick(struct amqp_broker *b)
{
    int64_t now_ms = amqp_now(b), each_ms = limit_ms(b) / 8 + 1;

    for (struct amqp_held *h = b->aside.returned.head, *next; h; h = next) {
        next = h->next;
        if (h->due_at_ms <= now_ms && held_list_remove(&b->aside.returned, h))
            nobody_has(b, h);
    }
    if (!b->address.consumer_timeout_ms || now_ms < b->aside.look_at_ms)
        return;
    b->aside.look_at_ms = now_ms + (each_ms < LOOK_MS ? each_ms : LOOK_MS);
    look(b);
}

/* --- when the server was faster --- */

/* Its text tells the limit: "... timed out. Timeout value used: 1800000 ms. ..." */
bool amqp_timed_out(struct amqp_broker *b, const struct err *why, struct err *advice)
{
    static const char said[] = "Timeout value used: ";
    const char *at = strstr(why->text, said);
    long ms;

    if (!at)
        return false;
    ms = strtol(at + sizeof(said) - 1, NULL, 10);
    if (ms > 0 && (!b->address.consumer_timeout_ms || ms < b->address.consumer_timeout_ms))
        b->address.consumer_timeout_ms = ms;
    b->aside.look_at_ms = 0;
    err_set(advice, ERR_RECONNECT,
            "the server took its deliveries back, because one was not acknowledged within its "
            "consumer_timeout of %ld s; " ADVICE,
            ms / 1000);
    return true;
}
