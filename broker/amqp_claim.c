#include "broker/amqp.h"

int amqp_claim(struct broker *base, const struct broker_claim *v, size_t n, struct err *e)
{
    (void)base;
    (void)v;
    (void)n;
    return err_set(e, ERR_USAGE, "claims are not there on RabbitMQ yet");
}

void amqp_claims_release(struct amqp_broker *b)
{
    (void)b;
}
