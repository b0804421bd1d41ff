#include "broker/amqp_confirm.h"

#include <stdlib.h>

#define FIRST_CAP 64

struct amqp_confirm_slot {
    uint32_t print; /* of a mandatory message that was not returned; else 0 */
    bool open;
};

static struct amqp_confirm_slot *slot(const struct amqp_confirms *c, uint64_t number)
{
    return &c->ring[number & (c->cap - 1)];
}

void confirms_release(struct amqp_confirms *c)
{
    free(c->ring);
    *c = (struct amqp_confirms){0};
}

void confirms_start(struct amqp_confirms *c)
{
    c->on = true;
    c->oldest = 1;
    c->next = 1;
}

void confirms_stop(struct amqp_confirms *c)
{
    c->on = false;
    c->oldest = c->next;
}

int confirms_reserve(struct amqp_confirms *c, struct err *e)
{
    struct amqp_confirms bigger = *c;

    if (c->next - c->oldest < c->cap)
        return 0;
    bigger.cap = c->cap ? c->cap * 2 : FIRST_CAP;
    bigger.ring = calloc(bigger.cap, sizeof(*bigger.ring));
    if (!bigger.ring)
        return err_nomem(e);
    for (uint64_t n = c->oldest; n < c->next; n++)
        *slot(&bigger, n) = *slot(c, n);
    free(c->ring);
    *c = bigger;
    return 0;
}

uint64_t confirms_add(struct amqp_confirms *c, uint32_t print)
{
    *slot(c, c->next) = (struct amqp_confirm_slot){.print = print, .open = true};
    return c->next++;
}

bool confirms_take(struct amqp_confirms *c, uint64_t number)
{
    if (number < c->oldest || number >= c->next || !slot(c, number)->open)
        return false;
    slot(c, number)->open = false;
    while (c->oldest < c->next && !slot(c, c->oldest)->open)
        c->oldest++;
    return true;
}

uint64_t confirms_returned(struct amqp_confirms *c, uint32_t print)
{
    for (uint64_t n = c->oldest; n < c->next; n++) {
        if (slot(c, n)->open && slot(c, n)->print == print) {
            slot(c, n)->print = 0;
            return n;
        }
    }
    return 0;
}

/* FNV-1a; the length goes in too, so that the border between two texts counts. */
uint32_t confirms_print(uint32_t print, struct slice text)
{
    uint32_t h = (print ? print : 2166136261u) ^ (uint32_t)text.len;

    for (size_t i = 0; i < text.len; i++)
        h = (h ^ (unsigned char)text.ptr[i]) * 16777619u;
    h *= 16777619u;
    return h ? h : 1;
}
