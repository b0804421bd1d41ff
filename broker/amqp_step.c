/* Steps, and the messages that are added to them. */
#include "broker/amqp.h"
#include "broker/amqp_out_parts.h"

#include <stdlib.h>
#include <string.h>

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

void out_ended(struct amqp_broker *b, struct amqp_out *out, const struct err *why)
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

/* --- the end --- */

void out_free(struct amqp_out *out)
{
    struct out_step *step = out->step;

    free(out);
    if (--step->waiting == 0)
        free_step(step);
}
