#include "broker/amqp_ask.h"
#include "broker/amqp_envelope.h"
#include "broker/amqp_ladder.h"

#include <stdlib.h>
#include <string.h>

/* One message. Its texts and its body lie behind it. */
struct amqp_out {
    struct amqp_out *next;
    struct out_step *step;
    struct out_spec spec;
    struct grave_note grave;
    uint64_t sequence;
    int64_t written_at_ms;
    unsigned refusals; /* how often its queue was not there after all */
    bool returned;
};

/* --- steps --- */

struct out_step *out_step_new(out_done_fn *done, enum broker_event_kind event, uint64_t tag)
{
    struct out_step *step = calloc(1, sizeof(*step));

    if (step) {
        step->done = done;
        step->event = event;
        step->tag = tag;
    }
    return step;
}

static void free_step(struct out_step *step)
{
    free(step->owner);
    free(step);
}

static void answer_if_complete(struct amqp_broker *b, struct out_step *step)
{
    if (!step->closed || step->waiting > 0)
        return;
    step->done(b, step, step->failed ? &step->why : NULL);
    free_step(step);
}

void out_step_close(struct amqp_broker *b, struct out_step *step)
{
    step->closed = true;
    answer_if_complete(b, step);
}

static void fail_step(struct out_step *step, const struct err *why)
{
    if (!step->failed)
        step->why = *why;
    step->failed = true;
}

static void out_ended(struct amqp_broker *b, struct amqp_out *out, const struct err *why)
{
    struct out_step *step = out->step;

    b->out.len--;
    b->out.bytes -= out->spec.body.len;
    if (why)
        fail_step(step, why);
    step->waiting--;
    free(out);
    answer_if_complete(b, step);
}

/* --- adding --- */

static char *copy_text(char *at, struct slice *text)
{
    if (!text->ptr)
        return at;
    memcpy(at, text->ptr, text->len);
    *text = slice_make(at, text->len);
    return at + text->len;
}

/* The texts of an out, in the order in which they are copied behind it. */
#define OUT_TEXTS 11
static void list_texts(struct amqp_out *out, struct slice *texts[OUT_TEXTS])
{
    struct slice *all[OUT_TEXTS] = {
        &out->spec.exchange, &out->spec.routing_key, &out->spec.correlation_id,
        &out->spec.body,     &out->grave.queue,      &out->grave.cause,
        &out->grave.id,      &out->grave.task,       &out->grave.handle,
        &out->spec.reply_to, &out->spec.held,
    };

    memcpy(texts, all, sizeof(all));
}

static struct amqp_out *new_out(const struct out_spec *spec)
{
    struct amqp_out draft = {.spec = *spec}, *out;
    struct slice *texts[OUT_TEXTS];
    size_t len = 0;
    char *at;

    if (spec->grave)
        draft.grave = *spec->grave;
    list_texts(&draft, texts);
    for (int i = 0; i < OUT_TEXTS; i++)
        len += texts[i]->len;
    out = malloc(sizeof(*out) + len);
    if (!out)
        return NULL;
    *out = draft;
    if (spec->grave)
        out->spec.grave = &out->grave;
    list_texts(out, texts);
    at = (char *)(out + 1);
    for (int i = 0; i < OUT_TEXTS; i++)
        at = copy_text(at, texts[i]);
    return out;
}

static void append(struct amqp_out ***end, struct amqp_out *out)
{
    **end = out;
    *end = &out->next;
}

int out_add(struct amqp_broker *b, struct out_step *step, const struct out_spec *spec,
            struct err *e)
{
    struct out_queue *q = &b->out;
    struct amqp_out *out = new_out(spec);

    if (!out) {
        err_nomem(&step->why);
        step->failed = true;
        return err_nomem(e);
    }
    out->step = step;
    step->waiting++;
    q->len++;
    q->bytes += out->spec.body.len;
    append(step->holds ? &step->held_end : &q->end, out);
    return 0;
}

void out_step_hold(struct out_step *step)
{
    step->holds = true;
    step->held_end = &step->held;
}

void out_step_send(struct amqp_broker *b, struct out_step *step)
{
    if (step->held) {
        *b->out.end = step->held;
        b->out.end = step->held_end;
    }
    step->held = NULL;
    step->holds = false;
}

void out_step_drop(struct amqp_broker *b, struct out_step *step, const struct err *why)
{
    fail_step(step, why);
    while (step->held) {
        struct amqp_out *out = step->held;

        step->held = out->next;
        b->out.len--;
        b->out.bytes -= out->spec.body.len;
        step->waiting--;
        free(out);
    }
    step->holds = false;
    answer_if_complete(b, step);
}

static void unlink_head(struct out_queue *q)
{
    struct amqp_out *out = q->head;

    q->head = out->next;
    if (!q->head)
        q->end = &q->head;
    out->next = NULL;
}

/* The first waiting message will never leave. */
static void give_up(struct amqp_broker *b, const struct err *why)
{
    struct amqp_out *out = b->out.head;

    unlink_head(&b->out);
    out_ended(b, out, why);
}

/* --- what a message needs to be there --- */

static void on_declared(void *owner, uint64_t number, const struct err *why)
{
    struct amqp_broker *b = owner;

    b->out.declaring = false;
    /* One that came back may stand in front of it now: then it is wished again in its turn. */
    if (why && (uint64_t)(uintptr_t)b->out.head == number)
        give_up(b, why);
}

/* True when it is there; else it is being declared. */
static bool have(struct amqp_broker *b, enum topology_kind kind, struct slice name, int64_t number)
{
    struct amqp_topology *t = &b->wires[AMQP_PUBLISH].topology;
    struct topology_wish wish = {.kind = kind, .name = name, .number = number};
    uint64_t asking = (uint64_t)(uintptr_t)b->out.head;
    struct err e = ERR_INIT;

    if (topology_has(t, &wish))
        return true;
    b->out.declaring = true;
    if (topology_ensure(t, &wish, on_declared, asking, &e) != 0)
        on_declared(b, asking, &e);
    return false;
}

static void on_replies(void *owner, uint64_t number, const struct err *why)
{
    struct amqp_broker *b = owner;

    (void)number;
    b->out.declaring = false;
    if (why)
        amqp_replies_refused(b, why);
}

/* Without an own queue a task is sent all the same. */
static bool have_replies(struct amqp_broker *b)
{
    struct amqp_topology *t = &b->wires[AMQP_PUBLISH].topology;
    struct topology_wish wish;
    struct err e = ERR_INIT;

    if (!amqp_replies_wish(b, &wish) || topology_has(t, &wish))
        return true;
    b->out.declaring = true;
    if (topology_ensure(t, &wish, on_replies, 0, &e) != 0)
        on_replies(b, 0, &e);
    return false;
}

static bool task_has_all(struct amqp_broker *b, const struct amqp_out *out,
                         const struct amqp_delay *plan)
{
    struct slice queue = out->spec.routing_key;

    if (out->spec.grave)
        return have(b, TOPOLOGY_GRAVE, queue, 0);
    if (out->spec.replies && !have_replies(b))
        return false;
    if (!have(b, TOPOLOGY_TASK_QUEUE, queue, 0))
        return false;
    if (plan->kind == AMQP_DELAY_STEP)
        return have(b, TOPOLOGY_DELAY_QUEUE, slice_of(""), plan->step);
    if (plan->kind == AMQP_DELAY_LADDER)
        return have(b, TOPOLOGY_LADDER, slice_of(""), 0) && have(b, TOPOLOGY_LADDER_EXIT, queue, 0);
    return true;
}

static bool has_all(struct amqp_broker *b, const struct amqp_out *out,
                    const struct amqp_delay *plan)
{
    if (out->spec.task)
        return task_has_all(b, out, plan);
    return !slice_is(out->spec.exchange, QUERY_EXCHANGE) ||
           have(b, TOPOLOGY_QUERY_EXCHANGE, slice_of(""), 0);
}

/* --- writing --- */

/* What every frame has beside its properties, and what is left for headers that are added later. */
#define FRAME_OWN    20
#define HEADER_SPARE 4096
/* Longer texts of a grave are cut, so that they fit what is left for them. */
#define GRAVE_TEXT_MAX 700

/* Most bytes of a task's properties, so that they and a grave's headers fit one frame. */
static size_t header_room(const struct amqp_broker *b)
{
    size_t frame = link_frame_max(b->wires[AMQP_PUBLISH].link);

    if (frame <= 2 * HEADER_SPARE)
        return frame / 2;
    return frame - FRAME_OWN - HEADER_SPARE;
}

/* Cut between two characters. */
static amqp_field_value_t clipped(struct slice text)
{
    size_t len = text.len;

    if (len > GRAVE_TEXT_MAX) {
        len = GRAVE_TEXT_MAX;
        while (len > 0 && ((unsigned char)text.ptr[len] & 0xC0) == 0x80)
            len--;
    }
    return amqp_value_of_text(slice_make(text.ptr, len));
}

static int add_grave_headers(struct amqp_outgoing *m, const struct grave_note *g, amqp_pool_t *pool,
                             struct err *e)
{
    const struct {
        const char *name;
        amqp_field_value_t value;
        bool present;
    } headers[] = {
        {AMQP_H_DEAD_QUEUE, amqp_value_of_text(g->queue), true},
        {AMQP_H_DEAD_GRAVE, amqp_value_of_integer(g->grave), true},
        {AMQP_H_DEAD_CAUSE, clipped(g->cause), true},
        {AMQP_H_DEAD_HANDLE, amqp_value_of_text(g->handle), true},
        {AMQP_H_DEAD_AT, amqp_value_of_integer(g->at_ms), true},
        {AMQP_H_DEAD_ID, clipped(g->id), g->id.ptr != NULL},
        {AMQP_H_DEAD_TASK, clipped(g->task), g->task.ptr != NULL},
    };

    for (size_t i = 0; i < sizeof(headers) / sizeof(headers[0]); i++) {
        if (headers[i].present &&
            amqp_outgoing_header(m, headers[i].name, headers[i].value, pool, e) != 0)
            return -1;
    }
    return 0;
}

/* Names the own queue in a task that has no other. Its id is what replies are told apart by: its
 * sender put it into correlation_id, as Celery does. */
static void add_reply_to(struct amqp_broker *b, const struct amqp_out *out, struct amqp_outgoing *m)
{
    amqp_basic_properties_t *p = &m->properties;
    struct topology_wish replies;

    if (!out->spec.replies || m->raw || !(p->_flags & AMQP_BASIC_CORRELATION_ID_FLAG) ||
        (p->_flags & AMQP_BASIC_REPLY_TO_FLAG && p->reply_to.len) ||
        !amqp_replies_wish(b, &replies))
        return;
    p->reply_to = amqp_bytes_of(replies.name);
    p->_flags |= AMQP_BASIC_REPLY_TO_FLAG;
    amqp_replies_sent(b, slice_make(p->correlation_id.bytes, p->correlation_id.len));
}

/* Celeriac's workers read it all the same. */
static void tell_raw(struct amqp_broker *b, const struct amqp_out *out, const struct err *why)
{
    log_warn(b->log, "a message that does not fit AMQP is sent as it is: only Celeriac can read it",
             "queue=%.*s cause=\"%s\"", SLICE_ARG(out->spec.routing_key), why->text);
}

static int make_task(struct amqp_broker *b, const struct amqp_out *out,
                     const struct amqp_delay *plan, struct amqp_outgoing *m, amqp_pool_t *pool,
                     struct err *e)
{
    if (amqp_envelope_to_message(m, out->spec.body, header_room(b), pool, e) != 0)
        return -1;
    if (m->raw && !out->spec.grave && !out->spec.again)
        tell_raw(b, out, e);
    add_reply_to(b, out, m);
    if (plan->kind != AMQP_DELAY_NONE || out->spec.grave)
        amqp_outgoing_delayed(m);
    if (out->spec.priority >= 0) {
        m->properties.priority = (uint8_t)out->spec.priority;
        m->properties._flags |= AMQP_BASIC_PRIORITY_FLAG;
    }
    m->properties.delivery_mode = AMQP_DELIVERY_PERSISTENT;
    m->properties._flags |= AMQP_BASIC_DELIVERY_MODE_FLAG;
    amqp_table_remove(&m->properties.headers, AMQP_H_HELD);
    if (out->spec.held.len &&
        amqp_outgoing_header(m, AMQP_H_HELD, amqp_value_of_text(out->spec.held), pool, e) != 0)
        return -1;
    if (out->spec.grave)
        return add_grave_headers(m, out->spec.grave, pool, e);
    return out->spec.again
               ? amqp_outgoing_header(m, AMQP_H_AGAIN, amqp_value_of_bool(true), pool, e)
               : 0;
}

static void make_bytes(const struct amqp_out *out, struct amqp_outgoing *m)
{
    *m = (struct amqp_outgoing){.body = out->spec.body};
    m->properties.delivery_mode =
        out->spec.persistent ? AMQP_DELIVERY_PERSISTENT : AMQP_DELIVERY_NONPERSISTENT;
    m->properties._flags = AMQP_BASIC_DELIVERY_MODE_FLAG;
    if (out->spec.content_type) {
        m->properties.content_type = amqp_cstring_bytes(out->spec.content_type);
        m->properties.content_encoding = amqp_cstring_bytes("utf-8");
        m->properties._flags |= AMQP_BASIC_CONTENT_TYPE_FLAG | AMQP_BASIC_CONTENT_ENCODING_FLAG;
    }
    if (out->spec.correlation_id.len) {
        m->properties.correlation_id = amqp_bytes_of(out->spec.correlation_id);
        m->properties._flags |= AMQP_BASIC_CORRELATION_ID_FLAG;
    }
    if (out->spec.reply_to.len) {
        m->properties.reply_to = amqp_bytes_of(out->spec.reply_to);
        m->properties._flags |= AMQP_BASIC_REPLY_TO_FLAG;
    }
}

static int write_out(struct amqp_broker *b, struct amqp_out *out, const struct amqp_delay *plan,
                     struct err *e)
{
    struct slice exchange = out->spec.exchange, key = out->spec.routing_key;
    struct amqp_outgoing m;

    if (out->spec.reply_to.len && query_hear(b, e) != 0)
        return -1;
    if (out->spec.task) {
        if (make_task(b, out, plan, &m, &b->out.pool, e) != 0)
            return -1;
        if (plan->kind != AMQP_DELAY_NONE) {
            exchange = slice_of(plan->exchange);
            key = slice_of(plan->routing_key);
        }
    } else {
        make_bytes(out, &m);
    }
    if (b->out.body_max && m.body.len > b->out.body_max)
        return err_set(e, ERR_REFUSED,
                       "a message of %zu bytes for '%.*s': the broker takes %zu at most (its "
                       "max_message_size)",
                       m.body.len, SLICE_ARG(out->spec.routing_key), b->out.body_max);
    return link_publish(b->wires[AMQP_PUBLISH].link, AMQP_CH_WORK, exchange, key,
                        out->spec.mandatory, &m.properties, m.body, &out->sequence, e);
}

static struct amqp_out **slot_of(struct out_queue *q, uint64_t sequence)
{
    return &q->written[sequence & (OUT_WINDOW - 1)];
}

/* Sequence numbers are given one after another, so a window of them fits a ring. */
static bool window_open(const struct out_queue *q)
{
    return q->newest - q->oldest + 1 < OUT_WINDOW;
}

/* The first waiting message leaves. False: not now. */
static bool send_first(struct amqp_broker *b)
{
    struct out_queue *q = &b->out;
    struct amqp_out *out = q->head;
    struct amqp_delay plan = {.kind = AMQP_DELAY_NONE};
    struct err e = ERR_INIT;
    int rc;

    if (out->spec.task && out->spec.not_before_ms &&
        amqp_delay_plan(&plan, out->spec.not_before_ms, clock_wall_ms(b->clock),
                        out->spec.routing_key, &e) != 0) {
        give_up(b, &e);
        return true;
    }
    if (!has_all(b, out, &plan))
        return q->head != out; /* refused: go on with the next */
    rc = write_out(b, out, &plan, &e);
    recycle_amqp_pool(&q->pool);
    if (rc != 0 && e.code == ERR_RECONNECT)
        return false;
    if (rc != 0) {
        give_up(b, &e);
        return true;
    }
    unlink_head(q);
    if (out->spec.task && !out->spec.grave)
        amqp_note_queue(b, out->spec.routing_key);
    out->written_at_ms = amqp_now(b);
    out->returned = false;
    q->newest = out->sequence;
    if (q->oldest == 0)
        q->oldest = out->sequence;
    *slot_of(q, out->sequence) = out;
    return true;
}

void amqp_out_flush(struct amqp_broker *b)
{
    struct amqp_wire *w = &b->wires[AMQP_PUBLISH];

    if (b->out.head)
        wire_want(b, AMQP_PUBLISH);
    if (!w->ready || w->broken)
        return;
    while (b->out.head && !b->out.declaring && window_open(&b->out)) {
        if (!send_first(b))
            break;
    }
}

/* --- answers --- */

static struct amqp_out *take_written(struct out_queue *q, uint64_t sequence)
{
    struct amqp_out *out;

    if (sequence < q->oldest || sequence > q->newest || q->oldest == 0)
        return NULL;
    out = *slot_of(q, sequence);
    *slot_of(q, sequence) = NULL;
    while (q->oldest <= q->newest && !*slot_of(q, q->oldest))
        q->oldest++;
    if (q->oldest > q->newest)
        q->oldest = q->newest = 0;
    return out;
}

static void put_first(struct out_queue *q, struct amqp_out *out)
{
    out->next = q->head;
    if (!q->head)
        q->end = &out->next;
    q->head = out;
}

/* No queue took it. A task's queue may have been deleted since it was declared: once more. */
static void unroutable(struct amqp_broker *b, struct amqp_out *out)
{
    struct err e = ERR_INIT;

    if (!out->spec.task) {
        out_ended(b, out, NULL); /* a reply to a client that is gone */
        return;
    }
    if (out->refusals++ == 0) {
        topology_forget(&b->wires[AMQP_PUBLISH].topology,
                        out->spec.grave ? TOPOLOGY_GRAVE : TOPOLOGY_TASK_QUEUE,
                        out->spec.routing_key);
        put_first(&b->out, out);
        return;
    }
    err_set(&e, ERR_OPERATOR,
            "no queue '%.*s' took the message: is it being deleted, or bound to nothing?",
            SLICE_ARG(out->spec.routing_key));
    out_ended(b, out, &e);
}

void amqp_out_confirmed(struct amqp_broker *b, uint64_t sequence, bool ok)
{
    struct amqp_out *out = take_written(&b->out, sequence);
    struct err e = ERR_INIT;

    if (!out)
        return;
    if (out->returned) {
        unroutable(b, out);
        return;
    }
    if (!ok)
        err_set(&e, ERR_AGAIN,
                "the broker did not take a message for '%.*s': the queue is full, or it fails "
                "inside (see its log)",
                SLICE_ARG(out->spec.routing_key));
    out_ended(b, out, ok ? NULL : &e);
}

static bool same_message(const struct amqp_out *out, const struct amqp_incoming *in)
{
    return out && out->spec.mandatory && !out->returned &&
           slice_eq(out->spec.routing_key, in->routing_key);
}

void amqp_out_returned(struct amqp_broker *b, const struct amqp_incoming *in, uint64_t sequence)
{
    struct out_queue *q = &b->out;

    for (uint64_t s = sequence ? sequence : q->oldest; s && s <= q->newest; s++) {
        struct amqp_out *out = *slot_of(q, s);

        if ((sequence && out) || same_message(out, in)) {
            out->returned = true;
            return;
        }
    }
}

/* What was written may be at the server already: it goes again, first and marked. */
void amqp_out_down(struct amqp_broker *b)
{
    struct out_queue *q = &b->out;

    for (uint64_t s = q->newest; s && s >= q->oldest; s--) {
        struct amqp_out *out = *slot_of(q, s);

        *slot_of(q, s) = NULL;
        if (!out)
            continue;
        out->spec.again = true;
        out->sequence = 0;
        put_first(q, out);
    }
    q->oldest = q->newest = 0;
    q->declaring = false;
}

/* --- time and size --- */

void amqp_out_too_large(struct amqp_broker *b, const struct err *why)
{
    static const char said[] = "larger than configured max size ";
    const char *at = strstr(why->text, said);
    long long most = at ? strtoll(at + sizeof(said) - 1, NULL, 10) : 0;

    if (most > 0)
        b->out.body_max = (size_t)most;
}

bool amqp_out_full(const struct amqp_broker *b)
{
    const struct amqp_wire *w = &b->wires[AMQP_PUBLISH];

    return b->out.bytes > OUT_BYTES_MAX || b->out.len > OUT_LEN_MAX ||
           (w->link && link_is_blocked(w->link));
}

static int64_t stuck_at(const struct amqp_broker *b)
{
    const struct out_queue *q = &b->out;
    const struct amqp_wire *w = &b->wires[AMQP_PUBLISH];

    if (!q->oldest || !w->link || link_is_blocked(w->link))
        return CLOCK_NEVER;
    return q->written[q->oldest & (OUT_WINDOW - 1)]->written_at_ms + OUT_DEADLINE_MS;
}

int64_t amqp_out_deadline(const struct amqp_broker *b)
{
    return stuck_at(b);
}

void amqp_out_tick(struct amqp_broker *b)
{
    struct err e = ERR_INIT;

    if (amqp_now(b) < stuck_at(b))
        return;
    err_set(&e, ERR_RECONNECT, "the broker confirmed nothing for %d s", OUT_DEADLINE_MS / 1000);
    wire_drop(&b->wires[AMQP_PUBLISH], &e);
}

void amqp_out_init(struct out_queue *q)
{
    *q = (struct out_queue){0};
    q->end = &q->head;
    init_amqp_pool(&q->pool, 16 * 1024);
}

static void free_out(struct amqp_out *out)
{
    struct out_step *step = out->step;

    free(out);
    if (--step->waiting == 0)
        free_step(step);
}

void amqp_out_release(struct out_queue *q)
{
    for (size_t i = 0; i < OUT_WINDOW; i++) {
        if (q->written[i])
            free_out(q->written[i]);
    }
    while (q->head) {
        struct amqp_out *out = q->head;

        unlink_head(q);
        free_out(out);
    }
    empty_amqp_pool(&q->pool);
}
