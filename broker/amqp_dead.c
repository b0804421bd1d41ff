/* What operators do with queues and graves: list, show, send again, remove, purge, peek. */
#include "base/fault.h"
#include "broker/amqp_grave.h"

#include <stdlib.h>

/* --- DEAD and DEAD_SHOW --- */

static bool is_wanted(const struct question *q, const struct dead_letter *letter)
{
    return slice_is(q->ask.handle, "all") || slice_eq(q->ask.handle, letter->row.handle);
}

static void list_one(struct amqp_broker *b, struct question *q, struct dead_letter *letter)
{
    grave_leave(q->grave);
    answer_dead(&q->grave->out, &letter->row);
    if (++q->grave->count >= q->ask.limit)
        grave_stop(b, q);
    else
        grave_next(b, q);
}

static void list_done(struct amqp_broker *b, struct question *q)
{
    struct buf out = q->grave->out;

    q->grave->out = (struct buf)BUF_INIT;
    answer_end(&out);
    ask_done(b, q, &out);
}

void dead_list(struct amqp_broker *b, struct question *q)
{
    if (!grave_begin(b, q, list_one, list_done))
        return;
    answer_begin(&q->grave->out);
    survey(b, q, grave_walk_all);
}

static void show_one(struct amqp_broker *b, struct question *q, struct dead_letter *letter)
{
    grave_leave(q->grave);
    if (!is_wanted(q, letter)) {
        grave_next(b, q);
        return;
    }
    letter->row.envelope = buf_slice(&letter->envelope);
    answer_dead(&q->grave->out, &letter->row);
    grave_stop(b, q);
}

static void show_done(struct amqp_broker *b, struct question *q)
{
    struct buf out = q->grave->out;

    q->grave->out = (struct buf)BUF_INIT;
    if (out.len == 0)
        buf_adds(&out, "{}");
    ask_done(b, q, &out);
}

void dead_show(struct amqp_broker *b, struct question *q)
{
    if (grave_begin(b, q, show_one, show_done))
        survey(b, q, grave_walk_all);
}

/* --- DEAD_RETRY --- */

static bool single(const struct question *q)
{
    return !slice_is(q->ask.handle, "all");
}

static void after_handled(struct amqp_broker *b, struct question *q)
{
    grave_acknowledge(b, q->grave);
    q->grave->count++;
    if (single(q))
        grave_stop(b, q);
    else
        grave_next(b, q);
}

/* CRASH: after confirm, before ack - the letter lies in its grave and runs all the same; sent again
 * a second time it is known by its record. */
static void on_sent_again(struct amqp_broker *b, struct out_step *step, const struct err *why)
{
    struct question *q = b->asking ? b->asking->line : NULL;

    if (!q || !q->at_work || q->serial != step->tag)
        return;
    FAULT_POINT("amqp.before-grave-ack");
    if (why)
        ask_fail(b, q, why);
    else
        after_handled(b, q);
}

static void retry_one(struct amqp_broker *b, struct question *q, struct dead_letter *letter)
{
    struct out_step *step;
    struct out_spec spec = {.routing_key = letter->row.queue,
                            .mandatory = true,
                            .task = true,
                            .again = true,
                            .priority = -1,
                            .body = buf_slice(&letter->envelope)};
    struct amqp_result_record revived = {.outcome = AMQP_RESULT_REVIVED,
                                         .retries = (uint32_t)letter->retries,
                                         .now_ms = clock_wall_ms(b->clock),
                                         .id = letter->row.id};

    if (!is_wanted(q, letter)) {
        grave_leave(q->grave);
        grave_next(b, q);
        return;
    }
    step = out_step_new(on_sent_again, BROKER_STORED, q->serial);
    if (!step) {
        ask_fail(b, q, &(struct err){.code = ERR_NOMEM, .text = "out of memory"});
        return;
    }
    /* Only then may the pair end once more. */
    if (amqp_add_record(b, step, &revived, NULL) == 0)
        out_add(b, step, &spec, NULL);
    out_step_close(b, step);
}

static void tell_count(struct amqp_broker *b, struct question *q, const char *name)
{
    struct buf out = BUF_INIT;

    answer_count(&out, name, q->grave->count);
    ask_done(b, q, &out);
}

static void retry_done(struct amqp_broker *b, struct question *q)
{
    tell_count(b, q, "moved");
}

void dead_retry(struct amqp_broker *b, struct question *q)
{
    if (grave_begin(b, q, retry_one, retry_done))
        survey(b, q, grave_walk_all);
}

/* --- DEAD_RM and PURGE: what went is recorded, so that the totals add up --- */

static void on_recorded(struct amqp_broker *b, struct out_step *step, const struct err *why)
{
    struct question *q = b->asking ? b->asking->line : NULL;

    if (!q || !q->at_work || q->serial != step->tag)
        return;
    if (why)
        ask_fail(b, q, why);
    else
        tell_count(b, q, q->ask.question == BROKER_ASK_PURGE ? "purged" : "removed");
}

static void record_count(struct amqp_broker *b, struct question *q,
                         enum amqp_result_outcome outcome)
{
    struct amqp_result_record record = {
        .outcome = outcome, .count = (uint32_t)q->grave->count, .now_ms = clock_wall_ms(b->clock)};
    struct out_step *step = out_step_new(on_recorded, BROKER_STORED, q->serial);

    if (!step) {
        ask_fail(b, q, &(struct err){.code = ERR_NOMEM, .text = "out of memory"});
        return;
    }
    if (q->grave->count > 0)
        amqp_add_record(b, step, &record, NULL);
    out_step_close(b, step);
}

static void rm_one(struct amqp_broker *b, struct question *q, struct dead_letter *letter)
{
    if (is_wanted(q, letter)) {
        after_handled(b, q);
        return;
    }
    grave_leave(q->grave);
    grave_next(b, q);
}

static void rm_done(struct amqp_broker *b, struct question *q)
{
    record_count(b, q, AMQP_RESULT_REMOVED);
}

void dead_rm(struct amqp_broker *b, struct question *q)
{
    if (grave_begin(b, q, rm_one, rm_done))
        survey(b, q, grave_walk_all);
}

static void on_purged(struct amqp_broker *b, struct question *q, const struct amqp_answer *answer)
{
    const amqp_queue_purge_ok_t *ok = answer->method ? answer->method->decoded : NULL;

    if (!ok && answer->code != 404) {
        ask_fail(b, q, answer->why);
        return;
    }
    q->grave->count = ok ? ok->message_count : 0;
    record_count(b, q, AMQP_RESULT_PURGED);
}

void queue_purge(struct amqp_broker *b, struct question *q)
{
    amqp_queue_purge_t m = {.queue = amqp_bytes_of(q->ask.queue)};

    if (grave_begin(b, q, NULL, NULL))
        ask_call(b, q, AMQP_QUEUE_PURGE_METHOD, &m, on_purged);
}

/* --- DROP --- */

/* The server refuses (406) when it holds something or somebody consumes it. */
static void on_dropped(struct amqp_broker *b, struct question *q, const struct amqp_answer *answer)
{
    if (!answer->method && answer->code != 404 && answer->code != 406) {
        ask_fail(b, q, answer->why);
        return;
    }
    q->grave->count = answer->method && answer->method->decoded ? 1 : 0;
    if (q->grave->count > 0)
        amqp_forget_queue(b, q->ask.queue);
    tell_count(b, q, "dropped");
}

void queue_drop(struct amqp_broker *b, struct question *q)
{
    amqp_queue_delete_t m = {.queue = amqp_bytes_of(q->ask.queue), .if_unused = 1, .if_empty = 1};

    if (grave_begin(b, q, NULL, NULL))
        ask_call(b, q, AMQP_QUEUE_DELETE_METHOD, &m, on_dropped);
}

/* --- PEEK --- */

static void peek_one(struct amqp_broker *b, struct question *q, struct dead_letter *letter)
{
    struct answer_peek row = {
        .state = "waiting", .priority = letter->priority, .envelope = buf_slice(&letter->envelope)};

    grave_leave(q->grave);
    answer_peek(&q->grave->out, &row);
    if (++q->grave->count >= q->ask.limit)
        grave_stop(b, q);
    else
        grave_next(b, q);
}

void queue_peek(struct amqp_broker *b, struct question *q)
{
    struct grave_work *w = grave_begin(b, q, peek_one, list_done);

    if (!w)
        return;
    json_array_append_new(w->graves, json_string(q->ask.queue.ptr));
    answer_begin(&w->out);
    grave_walk_on(b, q);
}
