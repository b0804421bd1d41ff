/* One message as frames: what has to be declared before it, its properties, its headers. */
#include "broker/amqp_ask.h"
#include "broker/amqp_envelope.h"
#include "broker/amqp_out_parts.h"

/* --- what a message needs to be there --- */

static void on_declared(void *owner, uint64_t number, const struct err *why)
{
    struct amqp_broker *b = owner;

    b->out.declaring = false;
    /* One that came back may stand in front of it now: then it is wished again in its turn. */
    if (why && (uint64_t)(uintptr_t)b->out.head == number)
        out_give_up(b, why);
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

bool out_has_all(struct amqp_broker *b, const struct amqp_out *out, const struct amqp_delay *plan)
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

int out_write(struct amqp_broker *b, struct amqp_out *out, const struct amqp_delay *plan,
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
