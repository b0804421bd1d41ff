/* Looking into queues and graves: messages are fetched without acknowledgement, looked at, and put
 * back. What was looked at comes back marked as redelivered. */
#include "base/fault.h"
#include "broker/amqp_ask.h"
#include "broker/amqp_envelope.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#define DEAD_HEADERS "celeriac_dead_"

struct dead_letter {
    struct answer_dead row;
    int64_t retries;
    int priority;
    uint64_t tag;
    bool last; /* of its queue */
    char own_handle[24];
    struct buf envelope; /* owned: without the headers of the grave */
};

/* What to do with a message that was fetched; the walk goes on with walk_on. */
typedef void visit_fn(struct amqp_broker *b, struct question *q, struct dead_letter *letter);

struct grave_work {
    json_t *graves; /* owned: names to walk through */
    size_t at;
    visit_fn *visit;
    ask_next_fn *done;
    uint64_t tag; /* the last one that was fetched and left as it was; 0: none */
    bool emptied; /* the queue at hand has no more, or enough was seen */
    int64_t count;
    struct buf out;
    struct dead_letter letter; /* the one at hand */
};

void dead_release(struct question *q)
{
    struct grave_work *w = q->grave;

    if (!w)
        return;
    json_decref(w->graves);
    buf_release(&w->out);
    buf_release(&w->letter.envelope);
    free(w);
    q->grave = NULL;
}

/* --- reading a letter --- */

/* The properties without the grave's headers; the entries are copied into pool. */
static amqp_basic_properties_t without_grave(const amqp_basic_properties_t *from, amqp_pool_t *pool)
{
    amqp_basic_properties_t p = *from;
    size_t size = (size_t)from->headers.num_entries * sizeof(amqp_table_entry_t);
    amqp_table_entry_t *kept = size ? amqp_pool_alloc(pool, size) : NULL;
    int n = 0;

    for (int i = 0; kept && i < from->headers.num_entries; i++) {
        const amqp_table_entry_t *entry = &from->headers.entries[i];

        if (entry->key.len < sizeof(DEAD_HEADERS) - 1 ||
            memcmp(entry->key.bytes, DEAD_HEADERS, sizeof(DEAD_HEADERS) - 1) != 0)
            kept[n++] = *entry;
    }
    p.headers.entries = kept;
    p.headers.num_entries = n;
    return p;
}

static struct slice text_header(const amqp_table_t *headers, const char *name)
{
    struct slice text = {NULL, 0};

    amqp_value_text(amqp_table_get(headers, name), &text);
    return text;
}

static int64_t integer_header(const amqp_table_t *headers, const char *name)
{
    int64_t number = 0;

    amqp_value_integer(amqp_table_get(headers, name), &number);
    return number;
}

/* "celery" of "celery.dead". */
static struct slice queue_of_grave(const char *grave)
{
    const char *dot = strrchr(grave, '.');

    return slice_make(grave, dot ? (size_t)(dot - grave) : strlen(grave));
}

/* A letter of ours says everything itself; one that a policy has put here has x-death at most. */
static void read_letter(struct dead_letter *letter, const char *grave,
                        const struct amqp_incoming *in)
{
    static const amqp_table_t none = {0};
    const amqp_table_t *headers =
        in->properties->_flags & AMQP_BASIC_HEADERS_FLAG ? &in->properties->headers : &none;
    struct answer_dead *row = &letter->row;
    struct amqp_facts facts;

    amqp_envelope_facts(&facts, in->properties);
    *row =
        (struct answer_dead){.handle = text_header(headers, AMQP_H_DEAD_HANDLE),
                             .queue = text_header(headers, AMQP_H_DEAD_QUEUE),
                             .grave = (enum broker_grave)integer_header(headers, AMQP_H_DEAD_GRAVE),
                             .cause = text_header(headers, AMQP_H_DEAD_CAUSE),
                             .id = text_header(headers, AMQP_H_DEAD_ID),
                             .task = text_header(headers, AMQP_H_DEAD_TASK),
                             .at_ms = integer_header(headers, AMQP_H_DEAD_AT),
                             .size = letter->envelope.len};
    letter->retries = facts.retries;
    letter->priority = facts.priority <= 9 ? facts.priority : 9;
    if (!row->queue.ptr)
        row->queue = queue_of_grave(grave);
    if (!row->cause.ptr)
        row->cause = facts.death_reason.ptr ? facts.death_reason : slice_of("put here by others");
    if (!row->id.ptr)
        row->id = facts.id;
    if (!row->task.ptr)
        row->task = facts.task;
    if (!row->handle.ptr) {
        snprintf(letter->own_handle, sizeof(letter->own_handle), "x%016llx",
                 (unsigned long long)XXH3_64bits(letter->envelope.mem, letter->envelope.len));
        row->handle = slice_of(letter->own_handle);
    }
}

/* --- walking --- */

static void walk_on(struct amqp_broker *b, struct question *q);

static void put_back(struct amqp_broker *b, struct grave_work *w)
{
    amqp_basic_nack_t m = {.delivery_tag = w->tag, .multiple = 1, .requeue = 1};

    if (w->tag)
        link_tell(b->wires[AMQP_PUBLISH].link, AMQP_CH_ASK, AMQP_BASIC_NACK_METHOD, &m, NULL);
    w->tag = 0;
}

static struct slice queue_meant(const struct question *q, const char *name)
{
    return q->ask.question == BROKER_ASK_PEEK ? slice_of(name) : queue_of_grave(name);
}

static void on_got(struct amqp_broker *b, struct question *q, const struct amqp_answer *answer)
{
    struct grave_work *w = q->grave;
    struct dead_letter *letter = &w->letter;
    struct amqp_incoming in;
    amqp_basic_properties_t clean;
    amqp_pool_t pool;
    struct err e = ERR_INIT;
    const char *grave = json_string_value(json_array_get(w->graves, w->at));

    if (!answer->method && answer->code != 404) {
        ask_fail(b, q, answer->why);
        return;
    }
    if (!answer->message) {
        w->emptied = true; /* empty, or not there */
        walk_on(b, q);
        return;
    }
    in = *answer->message;
    init_amqp_pool(&pool, 4096);
    clean = without_grave(in.properties, &pool);
    in.properties = &clean;
    buf_clear(&letter->envelope);
    letter->tag = in.delivery_tag;
    if (amqp_envelope_from_delivery(&letter->envelope, &in, queue_meant(q, grave), &e) == 0) {
        letter->last = in.left == 0;
        read_letter(letter, grave, answer->message);
        w->visit(b, q, letter);
    } else {
        ask_fail(b, q, &e);
    }
    empty_amqp_pool(&pool);
}

/* The next message, the next queue, or the end. */
static void walk_on(struct amqp_broker *b, struct question *q)
{
    struct grave_work *w = q->grave;
    amqp_basic_get_t m = {0};

    if (w->emptied) {
        put_back(b, w);
        w->emptied = false;
        w->at++;
    }
    if (w->at >= json_array_size(w->graves)) {
        w->done(b, q);
        return;
    }
    m.queue = amqp_cstring_bytes(json_string_value(json_array_get(w->graves, w->at)));
    ask_call(b, q, AMQP_BASIC_GET_METHOD, &m, on_got);
}

static void next_letter(struct amqp_broker *b, struct question *q)
{
    q->grave->emptied = q->grave->letter.last;
    walk_on(b, q);
}

/* Enough was seen. */
static void stop_walk(struct amqp_broker *b, struct question *q)
{
    put_back(b, q->grave);
    q->grave->at = json_array_size(q->grave->graves);
    q->grave->emptied = false;
    walk_on(b, q);
}

/* The letter stays as it was; all that stay are put back together. */
static void leave(struct grave_work *w)
{
    w->tag = w->letter.tag;
}

/* The letter is handled: it goes for good. */
static void acknowledge(struct amqp_broker *b, struct grave_work *w)
{
    link_ack(b->wires[AMQP_PUBLISH].link, AMQP_CH_ASK, w->letter.tag, false, NULL);
}

static struct grave_work *new_work(struct amqp_broker *b, struct question *q, visit_fn *visit,
                                   ask_next_fn *done)
{
    struct grave_work *w = calloc(1, sizeof(*w));
    struct err e = ERR_INIT;

    if (w)
        w->graves = json_array();
    if (!w || !w->graves) {
        free(w);
        err_nomem(&e);
        ask_fail(b, q, &e);
        return NULL;
    }
    w->visit = visit;
    w->done = done;
    q->grave = w;
    return w;
}

/* The graves that there are. What was put back a moment ago may not be counted as ready yet, so an
 * empty one is looked into as well. */
static void walk_graves(struct amqp_broker *b, struct question *q)
{
    static const char *const suffixes[] = {".dead", ".unknown"};
    json_t *name;
    size_t i;

    json_array_foreach(q->names, i, name)
    {
        const char *text = json_string_value(name);

        if (q->ask.queue.len && strcmp(text, q->ask.queue.ptr) != 0)
            continue;
        for (size_t s = 0; s < 2; s++) {
            if (survey_knows(q, text, suffixes[s]))
                json_array_append_new(q->grave->graves, json_sprintf("%s%s", text, suffixes[s]));
        }
    }
    walk_on(b, q);
}

/* --- DEAD and DEAD_SHOW --- */

static bool is_wanted(const struct question *q, const struct dead_letter *letter)
{
    return slice_is(q->ask.handle, "all") || slice_eq(q->ask.handle, letter->row.handle);
}

static void list_one(struct amqp_broker *b, struct question *q, struct dead_letter *letter)
{
    leave(q->grave);
    answer_dead(&q->grave->out, &letter->row);
    if (++q->grave->count >= q->ask.limit)
        stop_walk(b, q);
    else
        next_letter(b, q);
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
    if (!new_work(b, q, list_one, list_done))
        return;
    answer_begin(&q->grave->out);
    survey(b, q, walk_graves);
}

static void show_one(struct amqp_broker *b, struct question *q, struct dead_letter *letter)
{
    leave(q->grave);
    if (!is_wanted(q, letter)) {
        next_letter(b, q);
        return;
    }
    letter->row.envelope = buf_slice(&letter->envelope);
    answer_dead(&q->grave->out, &letter->row);
    stop_walk(b, q);
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
    if (new_work(b, q, show_one, show_done))
        survey(b, q, walk_graves);
}

/* --- DEAD_RETRY --- */

static bool single(const struct question *q)
{
    return !slice_is(q->ask.handle, "all");
}

static void after_handled(struct amqp_broker *b, struct question *q)
{
    acknowledge(b, q->grave);
    q->grave->count++;
    if (single(q))
        stop_walk(b, q);
    else
        next_letter(b, q);
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
        leave(q->grave);
        next_letter(b, q);
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
    if (new_work(b, q, retry_one, retry_done))
        survey(b, q, walk_graves);
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
    leave(q->grave);
    next_letter(b, q);
}

static void rm_done(struct amqp_broker *b, struct question *q)
{
    record_count(b, q, AMQP_RESULT_REMOVED);
}

void dead_rm(struct amqp_broker *b, struct question *q)
{
    if (new_work(b, q, rm_one, rm_done))
        survey(b, q, walk_graves);
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

    if (new_work(b, q, NULL, NULL))
        ask_call(b, q, AMQP_QUEUE_PURGE_METHOD, &m, on_purged);
}

/* --- PEEK --- */

static void peek_one(struct amqp_broker *b, struct question *q, struct dead_letter *letter)
{
    struct answer_peek row = {
        .state = "waiting", .priority = letter->priority, .envelope = buf_slice(&letter->envelope)};

    leave(q->grave);
    answer_peek(&q->grave->out, &row);
    if (++q->grave->count >= q->ask.limit)
        stop_walk(b, q);
    else
        next_letter(b, q);
}

void queue_peek(struct amqp_broker *b, struct question *q)
{
    struct grave_work *w = new_work(b, q, peek_one, list_done);

    if (!w)
        return;
    json_array_append_new(w->graves, json_string(q->ask.queue.ptr));
    answer_begin(&w->out);
    walk_on(b, q);
}
