/*
 * What kind of queue is it?
 *
 * AMQP has no such question. A declare with a type that no server has is refused with a text that
 * names what the queue is, and can never make one; the refusal closes its channel.
 *
 * A worker wants to know of its own queues before it consumes them. A stream hands everything to
 * everybody who reads it and forgets nothing: no job can be taken from it. And Celery's producers
 * (5.5) send what is delayed for a quorum queue through the ladder, and count on the queue's workers
 * for having declared it.
 */
#include "broker/amqp.h"

#include <stdio.h>
#include <string.h>

/* What no server knows as the type of a queue. */
#define NO_TYPE "celeriac-doctor"

int amqp_kind_ask(struct amqp_link *l, const char *queue, amqp_answered_fn *answered, void *context,
                  uint64_t number, struct err *e)
{
    amqp_table_entry_t entry = {
        .key = amqp_cstring_bytes("x-queue-type"),
        .value = {.kind = AMQP_FIELD_KIND_UTF8, .value.bytes = amqp_cstring_bytes(NO_TYPE)}};
    amqp_queue_declare_t declare = {.queue = amqp_cstring_bytes(queue),
                                    .durable = 1,
                                    .arguments = {.num_entries = 1, .entries = &entry}};

    return link_call(l, AMQP_CH_DOCTOR, AMQP_QUEUE_DECLARE_METHOD, &declare, answered, context,
                     number, e);
}

/* "... but current is 'quorum'", or "none". */
void amqp_kind_read(const char *refusal, char *to, size_t size)
{
    const char *at = strstr(refusal, "'x-queue-type'") ? strstr(refusal, "current is ") : NULL;

    to[0] = '\0';
    if (!at)
        return;
    at += strlen("current is ");
    if (*at == '\'')
        snprintf(to, size, "%.*s", (int)strcspn(at + 1, "'"), at + 1);
    else if (strncmp(at, "none", 4) == 0)
        snprintf(to, size, "classic");
}

/* --- a worker's own queues --- */

static void on_ladder(void *owner, uint64_t number, const struct err *why)
{
    struct amqp_broker *b = owner;

    if (why)
        log_warn(b->log, "delayed jobs of Celery's producers can not reach this queue",
                 "queue=%s error=\"%s\"", b->queues[number].name, why->text);
}

static void lay_ladder(struct amqp_broker *b, size_t index)
{
    struct amqp_topology *t = &b->wires[AMQP_CONSUME].topology;
    struct topology_wish ladder = {.kind = TOPOLOGY_LADDER, .name = slice_of("")};
    struct topology_wish way_out = {.kind = TOPOLOGY_LADDER_EXIT,
                                    .name = slice_of(b->queues[index].name)};
    struct err e = ERR_INIT;

    if (topology_ensure(t, &ladder, on_ladder, index, &e) != 0 ||
        topology_ensure(t, &way_out, on_ladder, index, &e) != 0)
        on_ladder(b, index, &e);
}

static void refuse_stream(struct amqp_broker *b, size_t index)
{
    struct err e = ERR_INIT;

    err_set(&e, ERR_OPERATOR,
            "cannot consume from queue '%s': it is a stream, from which no job can be taken; name "
            "another queue",
            b->queues[index].name);
    wire_drop(&b->wires[AMQP_CONSUME], &e);
}

static void ask_next(struct amqp_broker *b, size_t index);

static void on_kind(void *owner, void *context, uint64_t number, const struct amqp_answer *a)
{
    struct amqp_broker *b = owner;
    char type[24] = "";

    (void)context;
    if (!a->method && a->code == 0)
        return; /* the connection is gone: the next one asks again */
    if (!a->method)
        amqp_kind_read(a->why->text, type, sizeof(type));
    if (strcmp(type, "stream") == 0) {
        refuse_stream(b, number);
        return;
    }
    if (strcmp(type, "quorum") == 0)
        lay_ladder(b, number);
    b->queues[number].known = true;
    ask_next(b, number + 1);
}

/* A queue of which nothing can be known has no ladder; that is no reason not to work. */
static void ask_next(struct amqp_broker *b, size_t index)
{
    struct amqp_link *l = b->wires[AMQP_CONSUME].link;

    for (; index < b->queues_len; index++) {
        if (link_open_channel(l, AMQP_CH_DOCTOR, NULL) == 0 &&
            amqp_kind_ask(l, b->queues[index].name, on_kind, NULL, index, NULL) == 0)
            return;
        b->queues[index].known = true;
    }
    amqp_kinds_known(b);
}

void amqp_kinds_look(struct amqp_broker *b)
{
    ask_next(b, 0);
}
