#include "broker/events.h"

#include "base/poison.h"

#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#define CHUNK_SIZE ((size_t)16 << 10)
#define SPARES_MAX 16 /* chunks kept for later */

/* Nodes are cut from chunks in order. A chunk whose nodes are all gone is used again. */
struct event_chunk {
    struct event_chunk *next; /* of the spare ones */
    size_t live;              /* nodes that are waiting or handed out */
    size_t at;
    size_t cap;
    _Alignas(max_align_t) char bytes[];
};

/* The error, if there is one, and the texts stand behind the node. */
struct event_node {
    struct event_node *next;
    struct event_chunk *home;
    size_t size; /* in it */
    struct broker_event event;
    char text[];
};

_Static_assert(offsetof(struct event_node, text) % _Alignof(struct err) == 0,
               "an error can stand at the beginning of the texts");

void event_queue_init(struct event_queue *q)
{
    *q = (struct event_queue){0};
}

/* --- chunks --- */

static void retire(struct event_queue *q, struct event_chunk *chunk)
{
    if (chunk->cap != CHUNK_SIZE || q->chunks_len == SPARES_MAX) {
        free(chunk);
        return;
    }
    chunk->at = 0;
    chunk->next = q->chunks;
    q->chunks = chunk;
    q->chunks_len++;
}

/* The chunk that is cut from goes on when it is empty: its memory is warm. */
static void free_node(struct event_queue *q, struct event_node *node)
{
    struct event_chunk *chunk = node->home;

    POISON(node, node->size);
    if (--chunk->live > 0)
        return;
    if (chunk == q->cutting && chunk->cap == CHUNK_SIZE) {
        chunk->at = 0;
        return;
    }
    if (chunk == q->cutting)
        q->cutting = NULL;
    retire(q, chunk);
}

static struct event_chunk *chunk_for(struct event_queue *q, size_t n)
{
    size_t cap = n > CHUNK_SIZE ? n : CHUNK_SIZE;
    struct event_chunk *chunk = cap == CHUNK_SIZE ? q->chunks : NULL;

    if (chunk) {
        q->chunks = chunk->next;
        q->chunks_len--;
        return chunk;
    }
    chunk = malloc(sizeof(*chunk) + cap);
    if (chunk)
        *chunk = (struct event_chunk){.cap = cap};
    return chunk;
}

/* Stops cutting from the chunk; the last of its nodes ends it. */
static void leave_chunk(struct event_queue *q)
{
    struct event_chunk *chunk = q->cutting;

    q->cutting = NULL;
    if (chunk && chunk->live == 0)
        retire(q, chunk);
}

static struct event_node *new_node(struct event_queue *q, size_t text_len)
{
    size_t align = _Alignof(max_align_t);
    size_t n = (sizeof(struct event_node) + text_len + align - 1) / align * align;
    struct event_node *node;

    if (!q->cutting || q->cutting->cap - q->cutting->at < n) {
        leave_chunk(q);
        q->cutting = chunk_for(q, n);
        if (!q->cutting)
            return NULL;
    }
    node = (struct event_node *)(void *)(q->cutting->bytes + q->cutting->at);
    UNPOISON(node, n);
    node->home = q->cutting;
    node->size = n;
    q->cutting->at += n;
    q->cutting->live++;
    return node;
}

static void free_list(struct event_queue *q, struct event_node *node)
{
    while (node) {
        struct event_node *next = node->next;

        free_node(q, node);
        node = next;
    }
}

static void free_spares(struct event_queue *q)
{
    while (q->chunks) {
        struct event_chunk *chunk = q->chunks;

        q->chunks = chunk->next;
        free(chunk);
    }
    q->chunks_len = 0;
}

void event_queue_rest(struct event_queue *q)
{
    if (q->cutting && q->cutting->live == 0)
        leave_chunk(q);
    free_spares(q);
}

void event_queue_release(struct event_queue *q)
{
    free_list(q, q->head);
    free_list(q, q->given);
    leave_chunk(q);
    free_spares(q);
    event_queue_init(q);
}

/* --- events --- */

/* Copies a slice to *to; an absent one stays absent, an empty one keeps a pointer. */
static struct slice keep(char **to, struct slice from)
{
    struct slice kept = {from.ptr ? *to : NULL, from.len};

    if (from.ptr)
        memcpy(*to, from.ptr, from.len);
    *to += from.len;
    return kept;
}

static const struct err no_memory = {ERR_NOMEM, "out of memory"};

/* Keeps what can be kept of an event that there is no memory for. */
static void push_spare(struct event_queue *q, const struct broker_event *event)
{
    struct broker_event spare = *event;

    q->failed = true;
    if (event->kind == BROKER_DELIVERED || q->spares_len == EVENT_SPARES)
        return;
    if (event->data.ptr)
        spare = (struct broker_event){.kind = BROKER_FAILED, .tag = event->tag};
    spare.queue = spare.data = spare.id = (struct slice){NULL, 0};
    if (event->err || spare.kind == BROKER_FAILED)
        spare.err = &no_memory;
    q->spares[q->spares_len++] = spare;
}

void event_queue_push(struct event_queue *q, const struct broker_event *event)
{
    size_t err_len = event->err ? sizeof(*event->err) : 0;
    struct event_node *node =
        new_node(q, err_len + event->queue.len + event->data.len + event->id.len + 1);
    char *to;

    if (!node) {
        push_spare(q, event);
        return;
    }
    to = node->text + err_len;
    node->next = NULL;
    node->event = *event;
    node->event.queue = keep(&to, event->queue);
    node->event.id = keep(&to, event->id);
    node->event.data = keep(&to, event->data); /* last: answers end with a NUL behind them */
    *to = '\0';
    if (event->err)
        node->event.err = memcpy(node->text, event->err, err_len);
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
    for (size_t i = 0; i < from->spares_len && q->spares_len < EVENT_SPARES; i++)
        q->spares[q->spares_len++] = from->spares[i];
    from->spares_len = 0;
    if (!from->head)
        return;
    leave_chunk(from); /* its nodes are this queue's now */
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

    free_list(q, q->given);
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
    while (n < max && q->spares_len)
        events[n++] = q->spares[--q->spares_len];
    return n;
}
