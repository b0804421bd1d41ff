#include "broker/amqp_ask.h"

#include <stdlib.h>
#include <string.h>

static ask_next_fn *const rows[] = {
    [BROKER_ASK_QUEUES] = survey_queues,  [BROKER_ASK_TOTALS] = totals_answer,
    [BROKER_ASK_PEEK] = queue_peek,       [BROKER_ASK_PURGE] = queue_purge,
    [BROKER_ASK_DEAD] = dead_list,        [BROKER_ASK_DEAD_SHOW] = dead_show,
    [BROKER_ASK_DEAD_RETRY] = dead_retry, [BROKER_ASK_DEAD_RM] = dead_rm,
    [BROKER_ASK_NODES] = query_nodes,     [BROKER_ASK_DROP] = queue_drop,
};
#define ROWS (sizeof(rows) / sizeof(rows[0]))

struct amqp_asking *asking_of(struct amqp_broker *b)
{
    if (b->asking)
        return b->asking;
    b->asking = calloc(1, sizeof(*b->asking));
    if (b->asking)
        b->asking->give_up_ms = CLOCK_NEVER;
    return b->asking;
}

/* --- the line --- */

static void free_question(struct question *q)
{
    totals_release(q);
    dead_release(q);
    json_decref(q->names);
    json_decref(q->counts);
    json_decref(q->states);
    json_decref(q->counting);
    free(q);
}

/* The first of the line begins when the connection is there. */
static void begin(struct amqp_broker *b)
{
    struct amqp_asking *a = b->asking;
    struct amqp_wire *w = &b->wires[AMQP_PUBLISH];
    struct question *q = a->line;

    if (!q || q->at_work || !w->ready || w->broken || !a->channel_open)
        return;
    q->at_work = true;
    rows[q->ask.question](b, q);
}

static void leave_line(struct amqp_broker *b, struct question *q)
{
    struct amqp_asking *a = b->asking;

    a->line = q->next;
    a->give_up_ms = CLOCK_NEVER;
    free_question(q);
    begin(b);
}

void ask_done(struct amqp_broker *b, struct question *q, struct buf *json)
{
    struct broker_event event = {.kind = BROKER_ANSWER, .tag = q->ask.tag};
    struct err e = ERR_INIT;

    event.data = slice_make(buf_str(json), json->len);
    if (json->failed) {
        err_nomem(&e);
        event_queue_fail(&b->events, q->ask.tag, &e);
    } else {
        event_queue_push(&b->events, &event);
    }
    buf_release(json);
    leave_line(b, q);
}

void ask_fail(struct amqp_broker *b, struct question *q, const struct err *why)
{
    event_queue_fail(&b->events, q->ask.tag, why);
    leave_line(b, q);
}

/* --- calls --- */

static void on_answered(void *owner, void *context, uint64_t number,
                        const struct amqp_answer *answer)
{
    struct amqp_broker *b = owner;
    struct question *q = b->asking ? b->asking->line : NULL;

    (void)context;
    if (!q || !q->at_work || q->serial != number || !q->answered)
        return;
    if (answer->method) {
        q->answered(b, q, answer);
        return;
    }
    if (answer->why)
        q->why = *answer->why;
    q->failed = true;
    q->refused = answer->code; /* goes on when the channel is open again, or fails with the wire */
}

int ask_call(struct amqp_broker *b, struct question *q, amqp_method_number_t id,
             const void *decoded, ask_answered_fn *answered)
{
    struct err e = ERR_INIT;

    q->answered = answered;
    q->failed = false;
    if (link_call(b->wires[AMQP_PUBLISH].link, AMQP_CH_ASK, id, decoded, on_answered, NULL,
                  q->serial, &e) == 0)
        return 0;
    ask_fail(b, q, &e);
    return -1;
}

void ask_later(struct amqp_broker *b, struct question *q, int64_t ms, ask_next_fn *later)
{
    q->later = later;
    q->later_ms = amqp_now(b) + ms;
}

int amqp_ask_up(struct amqp_broker *b, struct err *e)
{
    struct amqp_asking *a = asking_of(b);

    if (!a)
        return err_nomem(e);
    if (link_open_channel(b->wires[AMQP_PUBLISH].link, AMQP_CH_ASK, e) != 0)
        return -1;
    a->channel_open = true;
    return 0;
}

void amqp_ask_channel_closed(struct amqp_broker *b)
{
    struct question *q = b->asking->line;
    struct amqp_answer answer = {0};
    struct err e = ERR_INIT;

    b->asking->channel_open = false;
    if (amqp_ask_up(b, &e) != 0)
        return; /* the connection is going down */
    if (!q || !q->at_work || !q->failed)
        return;
    answer.code = q->refused;
    answer.why = &q->why;
    if (q->refused)
        q->answered(b, q, &answer);
    else
        ask_fail(b, q, &q->why);
}

void amqp_ask_down(struct amqp_broker *b, const struct err *why)
{
    struct amqp_asking *a = b->asking;

    if (!a)
        return;
    a->channel_open = false;
    a->hears = false;
    if (a->line && a->line->at_work)
        ask_fail(b, a->line, why);
}

/* --- the contract's op --- */

static struct question *new_question(const struct broker_ask *ask)
{
    struct question *q = calloc(1, sizeof(*q) + ask->queue.len + ask->handle.len + 2);
    char *at;

    if (!q)
        return NULL;
    at = (char *)(q + 1);
    q->ask = *ask;
    q->later_ms = CLOCK_NEVER;
    if (ask->queue.len)
        memcpy(at, ask->queue.ptr, ask->queue.len);
    q->ask.queue = slice_make(at, ask->queue.len);
    at += ask->queue.len + 1; /* each is ended by NUL */
    if (ask->handle.len)
        memcpy(at, ask->handle.ptr, ask->handle.len);
    q->ask.handle = slice_make(at, ask->handle.len);
    q->names = json_array();
    q->counts = json_object();
    q->states = json_array();
    if (q->names && q->counts && q->states)
        return q;
    free_question(q);
    return NULL;
}

int amqp_ask(struct broker *base, const struct broker_ask *ask, struct err *e)
{
    struct amqp_broker *b = amqp_of(base);
    struct amqp_asking *a = asking_of(b);
    struct question *q, **end;

    if (ask->question == BROKER_ASK_DOCTOR)
        return amqp_doctor(b, ask, e);
    if (ask->question >= ROWS || !rows[ask->question])
        return err_set(e, ERR_BUG, "question %d is not known to RabbitMQ", (int)ask->question);
    q = a ? new_question(ask) : NULL;
    if (!q)
        return err_nomem(e);
    q->serial = ++b->asking->serial;
    for (end = &a->line; *end; end = &(*end)->next)
        ;
    *end = q;
    return 0; /* begins at the next poll: no event comes before the op has returned */
}

/* --- time --- */

int64_t amqp_ask_deadline(const struct amqp_broker *b)
{
    const struct amqp_asking *a = b->asking;

    if (!a)
        return CLOCK_NEVER;
    if (a->line && !a->line->at_work && b->wires[AMQP_PUBLISH].ready && a->channel_open)
        return 0;
    if (a->line && a->line->later_ms < a->give_up_ms)
        return a->line->later_ms;
    return a->give_up_ms;
}

void amqp_ask_tick(struct amqp_broker *b)
{
    struct question *q;

    if (!b->asking)
        return;
    query_tick(b);
    q = b->asking->line;
    if (q && q->at_work && amqp_now(b) >= q->later_ms) {
        q->later_ms = CLOCK_NEVER;
        q->later(b, q);
    }
    begin(b);
}

static void drop_name(void *context, struct id_entry *entry)
{
    (void)context;
    free(entry);
}

void amqp_ask_release(struct amqp_broker *b)
{
    struct amqp_asking *a = b->asking;

    if (!a)
        return;
    while (a->line) {
        struct question *q = a->line;

        a->line = q->next;
        free_question(q);
    }
    free(a->announced);
    id_table_drain(&a->published, drop_name, NULL);
    id_table_release(&a->published);
    free(a);
    b->asking = NULL;
}
