#include "broker/events.h"

#include <stdlib.h>
#include <string.h>

/* The texts stand behind the node in the same block. */
struct event_node {
    struct event_node *next;
    struct broker_event event;
    struct err err;
    char text[];
};

void event_queue_init(struct event_queue *q)
{
    *q = (struct event_queue){0};
}

static void free_list(struct event_node *node)
{
    while (node) {
        struct event_node *next = node->next;

        free(node);
        node = next;
    }
}

void event_queue_release(struct event_queue *q)
{
    free_list(q->head);
    free_list(q->given);
    event_queue_init(q);
}

/* Copies a slice to *to; an absent one stays absent, an empty one keeps a pointer. */
static struct slice keep(char **to, struct slice from)
{
    struct slice kept = {from.ptr ? *to : NULL, from.len};

    if (from.ptr)
        memcpy(*to, from.ptr, from.len);
    *to += from.len;
    return kept;
}

void event_queue_push(struct event_queue *q, const struct broker_event *event)
{
    struct event_node *node =
        malloc(sizeof(*node) + event->queue.len + event->data.len + event->id.len + 1);
    char *to;

    if (!node) {
        q->failed = true;
        return;
    }
    to = node->text;
    node->next = NULL;
    node->event = *event;
    node->event.queue = keep(&to, event->queue);
    node->event.id = keep(&to, event->id);
    node->event.data = keep(&to, event->data); /* last: answers end with a NUL behind them */
    *to = '\0';
    if (event->err) {
        node->err = *event->err;
        node->event.err = &node->err;
    }
    if (q->tail)
        q->tail->next = node;
    else
        q->head = node;
    q->tail = node;
    q->len++;
}

void event_queue_done(struct event_queue *q, enum broker_event_kind kind, uint64_t tag,
                      unsigned flags)
{
    struct broker_event event = {.kind = kind, .tag = tag, .flags = flags};

    event_queue_push(q, &event);
}

void event_queue_fail(struct event_queue *q, uint64_t tag, const struct err *err)
{
    struct broker_event event = {.kind = BROKER_FAILED, .tag = tag, .err = err};

    event_queue_push(q, &event);
}

void event_queue_append(struct event_queue *q, struct event_queue *from)
{
    if (!from->head)
        return;
    if (q->tail)
        q->tail->next = from->head;
    else
        q->head = from->head;
    q->tail = from->tail;
    q->len += from->len;
    from->head = from->tail = NULL;
    from->len = 0;
}

int event_queue_drain(struct event_queue *q, struct broker_event *events, int max)
{
    int n = 0;

    free_list(q->given);
    q->given = NULL;
    while (n < max && q->head) {
        struct event_node *node = q->head;

        q->head = node->next;
        if (!q->head)
            q->tail = NULL;
        q->len--;
        events[n++] = node->event;
        node->next = q->given;
        q->given = node;
    }
    return n;
}
