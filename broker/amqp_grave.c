#include "broker/amqp_grave.h"

#include "broker/amqp_envelope.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#define DEAD_HEADERS "celeriac_dead_"

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
        grave_walk_on(b, q);
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
void grave_walk_on(struct amqp_broker *b, struct question *q)
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

void grave_next(struct amqp_broker *b, struct question *q)
{
    q->grave->emptied = q->grave->letter.last;
    grave_walk_on(b, q);
}

void grave_stop(struct amqp_broker *b, struct question *q)
{
    put_back(b, q->grave);
    q->grave->at = json_array_size(q->grave->graves);
    q->grave->emptied = false;
    grave_walk_on(b, q);
}

void grave_leave(struct grave_work *w)
{
    w->tag = w->letter.tag;
}

void grave_acknowledge(struct amqp_broker *b, struct grave_work *w)
{
    link_ack(b->wires[AMQP_PUBLISH].link, AMQP_CH_ASK, w->letter.tag, false, NULL);
}

struct grave_work *grave_begin(struct amqp_broker *b, struct question *q, grave_visit_fn *visit,
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

/* What was put back a moment ago may not be counted as ready yet, so an empty grave is looked into
 * as well. */
void grave_walk_all(struct amqp_broker *b, struct question *q)
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
    grave_walk_on(b, q);
}
