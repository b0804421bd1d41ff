#include "broker/amqp_held.h"

#include <stdlib.h>

/* --- lists --- */

static void list_begin(struct held_list *list)
{
    if (!list->end)
        list->end = &list->head;
}

void held_list_push(struct held_list *list, struct amqp_held *h)
{
    list_begin(list);
    h->next = NULL;
    *list->end = h;
    list->end = &h->next;
    list->len++;
}

void held_list_push_front(struct held_list *list, struct amqp_held *h)
{
    list_begin(list);
    h->next = list->head;
    if (!list->head)
        list->end = &h->next;
    list->head = h;
    list->len++;
}

struct amqp_held *held_list_pop(struct held_list *list)
{
    struct amqp_held *h = list->head;

    if (!h)
        return NULL;
    list->head = h->next;
    if (!list->head)
        list->end = &list->head;
    list->len--;
    return h;
}

bool held_list_remove(struct held_list *list, struct amqp_held *h)
{
    for (struct amqp_held **at = &list->head; *at; at = &(*at)->next) {
        if (*at != h)
            continue;
        *at = h->next;
        if (!*at)
            list->end = at;
        list->len--;
        return true;
    }
    return false;
}

/* --- the ring --- */

static struct amqp_held **slot_of(const struct held_ring *r, uint64_t tag)
{
    return &r->slots[tag & (r->cap - 1)];
}

static int grow(struct held_ring *r)
{
    struct held_ring bigger = *r;

    bigger.cap = r->cap ? r->cap * 2 : 256;
    bigger.slots = calloc(bigger.cap, sizeof(*bigger.slots));
    if (!bigger.slots)
        return -1;
    for (uint64_t tag = r->first; tag < r->end; tag++)
        *slot_of(&bigger, tag) = *slot_of(r, tag);
    free(r->slots);
    *r = bigger;
    return 0;
}

int held_ring_add(struct held_ring *r, struct amqp_held *h)
{
    if (r->first == r->end)
        r->first = r->end = h->tag;
    while (h->tag - r->first >= r->cap) {
        if (grow(r) != 0)
            return -1;
    }
    for (; r->end < h->tag; r->end++)
        *slot_of(r, r->end) = NULL;
    *slot_of(r, h->tag) = h;
    r->end = h->tag + 1;
    return 0;
}

struct amqp_held *held_ring_find(const struct held_ring *r, uint64_t tag)
{
    return tag >= r->first && tag < r->end ? *slot_of(r, tag) : NULL;
}

void held_ring_remove(struct held_ring *r, uint64_t tag)
{
    if (tag < r->first || tag >= r->end)
        return;
    held_free(*slot_of(r, tag));
    *slot_of(r, tag) = NULL;
}

void held_ring_take(struct held_ring *r, uint64_t tag)
{
    if (held_ring_find(r, tag))
        *slot_of(r, tag) = NULL;
}

uint64_t held_ring_finished_prefix(struct held_ring *r)
{
    uint64_t last = 0;

    while (r->first < r->end) {
        struct amqp_held **slot = slot_of(r, r->first);

        if (*slot && (*slot)->state != HELD_DONE)
            break;
        if (*slot)
            last = r->first;
        held_free(*slot);
        *slot = NULL;
        r->first++;
    }
    return last;
}

void held_ring_clear(struct held_ring *r)
{
    for (; r->first < r->end; r->first++) {
        held_free(*slot_of(r, r->first));
        *slot_of(r, r->first) = NULL;
    }
    r->first = r->end = 0;
}

void held_ring_release(struct held_ring *r)
{
    held_ring_clear(r);
    free(r->slots);
    *r = (struct held_ring){0};
}

/* --- one --- */

void held_free(struct amqp_held *h)
{
    if (!h)
        return;
    free(h->envelope);
    free(h->texts);
    free(h);
}

bool held_at_work(const struct amqp_held *h)
{
    return h->state == HELD_LENT || h->state == HELD_SETTLING;
}

bool held_same_job(const struct amqp_held *h, struct slice token, struct slice id, int64_t retries)
{
    if (token.len && slice_is(token, h->token))
        return true;
    return h->id.ptr && id.len && slice_eq(h->id, id) && h->retries == retries;
}
