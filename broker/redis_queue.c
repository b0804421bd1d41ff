#include "broker/redis.h"

#include <stdio.h>
#include <stdlib.h>

/* --- declaring --- */

static const struct redis_op op_declare = {.name = "declare"};

static void add_to_set(struct redis_broker *b, const char *prefix, struct slice rest,
                       struct slice member)
{
    struct redis_request *r = redis_new(b, &op_declare, REDIS_PLAIN, NULL);

    if (!r)
        return;
    redis_key(r, slice_of("SADD"));
    redis_key2(r, prefix, rest);
    redis_key(r, member);
    redis_submit(b, r, NULL);
}

/* Once per connection, as kombu: the binding set lets Python peers publish to the queue by its
 * exchange, ours lists the queues for the totals. */
void redis_declare(struct redis_broker *b, struct slice queue)
{
    struct buf member = BUF_INIT;

    if (redis_names_has(&b->declared, queue))
        return;
    buf_add(&member, queue.ptr, queue.len);
    buf_adds(&member, REDIS_SEP REDIS_SEP);
    buf_add(&member, queue.ptr, queue.len);
    add_to_set(b, REDIS_QUEUES, slice_of(""), queue);
    add_to_set(b, REDIS_BINDING, queue, buf_slice(&member));
    buf_release(&member);
    redis_names_add(&b->declared, queue);
}
