#include "broker/amqp.h"

void amqp_suspect(struct amqp_broker *b, struct amqp_held *h)
{
    amqp_offer(b, h, false);
}

void amqp_suspects_forget(struct amqp_broker *b)
{
    (void)b;
}

void amqp_suspects_release(struct amqp_broker *b)
{
    (void)b;
}

int64_t amqp_suspects_deadline(const struct amqp_broker *b)
{
    (void)b;
    return CLOCK_NEVER;
}

void amqp_suspects_tick(struct amqp_broker *b)
{
    (void)b;
}
