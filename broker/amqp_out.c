/* The queue of messages on their way out: what waits, what was written and not confirmed. */
#include "broker/amqp.h"
#include "broker/amqp_out_parts.h"

#include <stdlib.h>
#include <string.h>

/* --- leaving --- */

static void unlink_head(struct out_queue *q)
{
    struct amqp_out *out = q->head;

    q->head = out->next;
    if (!q->head)
        q->end = &q->head;
    out->next = NULL;
}

void out_give_up(struct amqp_broker *b, const struct err *why)
{
    struct amqp_out *out = b->out.head;

    unlink_head(&b->out);
    out_ended(b, out, why);
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
        out_give_up(b, &e);
        return true;
    }
    if (!out_has_all(b, out, &plan))
        return q->head != out; /* refused: go on with the next */
    rc = out_write(b, out, &plan, &e);
    recycle_amqp_pool(&q->pool);
    if (rc != 0 && e.code == ERR_RECONNECT)
        return false;
    if (rc != 0) {
        out_give_up(b, &e);
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

void amqp_out_release(struct out_queue *q)
{
    for (size_t i = 0; i < OUT_WINDOW; i++) {
        if (q->written[i])
            out_free(q->written[i]);
    }
    while (q->head) {
        struct amqp_out *out = q->head;

        unlink_head(q);
        out_free(out);
    }
    empty_amqp_pool(&q->pool);
}
