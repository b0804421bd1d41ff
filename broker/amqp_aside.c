/* The jobs whose deliveries were acknowledged early: they are no longer in the ring of amqp_held.h,
 * and outlive its connection as long as they are at work. */
#include "broker/amqp.h"

#include <stdlib.h>

struct amqp_held *amqp_aside_find(const struct amqp_broker *b, uint32_t epoch, uint64_t tag)
{
    for (size_t i = 0; i < b->aside.len; i++) {
        if (b->aside.v[i]->tag == tag && b->aside.v[i]->epoch == epoch)
            return b->aside.v[i];
    }
    return NULL;
}

int amqp_aside_add(struct amqp_broker *b, struct amqp_held *h)
{
    struct amqp_aside *a = &b->aside;
    struct amqp_held **v;

    if (a->len == a->cap) {
        v = realloc(a->v, (a->cap + 16) * sizeof(struct amqp_held *));
        if (!v)
            return -1;
        a->v = v;
        a->cap += 16;
    }
    a->v[a->len++] = h;
    return 0;
}

void amqp_aside_end(struct amqp_broker *b, struct amqp_held *h)
{
    struct amqp_aside *a = &b->aside;

    for (size_t i = 0; i < a->len; i++) {
        if (a->v[i] == h)
            a->v[i] = a->v[--a->len];
    }
    held_free(h);
}

/* Who is not at work is left to his copy; who is keeps his receipt. */
void amqp_aside_down(struct amqp_broker *b)
{
    struct amqp_aside *a = &b->aside;
    size_t kept = 0;

    a->returned = (struct held_list){0};
    for (size_t i = 0; i < a->len; i++) {
        if (!held_at_work(a->v[i])) {
            held_free(a->v[i]);
            continue;
        }
        a->v[kept++] = a->v[i];
    }
    a->len = kept;
}

void amqp_aside_release(struct amqp_broker *b)
{
    for (size_t i = 0; i < b->aside.len; i++)
        held_free(b->aside.v[i]);
    free(b->aside.v);
    b->aside = (struct amqp_aside){0};
}

int64_t amqp_aside_count(const struct amqp_broker *b, size_t queue, bool lent)
{
    int64_t n = 0;

    for (size_t i = 0; i < b->aside.len; i++)
        n += b->aside.v[i]->queue == queue && held_at_work(b->aside.v[i]) == lent;
    return n;
}

static bool is_aside(const struct amqp_broker *b, const struct amqp_held *h, bool ending)
{
    for (size_t i = 0; i < b->aside.len; i++) {
        const struct amqp_held *other = b->aside.v[i];

        if ((other->state == HELD_SETTLING) == ending &&
            held_same_job(other, slice_of(""), h->id, h->retries))
            return true;
    }
    return false;
}

bool amqp_aside_has(const struct amqp_broker *b, const struct amqp_held *h)
{
    return is_aside(b, h, false);
}

bool amqp_aside_ends(const struct amqp_broker *b, const struct amqp_held *h)
{
    return is_aside(b, h, true);
}
