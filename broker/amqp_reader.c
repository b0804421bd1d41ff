#include "broker/amqp_reader.h"

#include "broker/amqp.h"

const struct amqp_role_ops amqp_read_role = {"read", NULL, NULL, NULL};

int64_t reader_deadline(const struct amqp_broker *b)
{
    (void)b;
    return CLOCK_NEVER;
}

void reader_tick(struct amqp_broker *b)
{
    (void)b;
}
