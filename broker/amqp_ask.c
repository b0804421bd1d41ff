#include "broker/amqp.h"

int amqp_ask(struct broker *base, const struct broker_ask *ask, struct err *e)
{
    if (ask->question == BROKER_ASK_DOCTOR)
        return amqp_doctor(amqp_of(base), ask, e);
    return err_set(e, ERR_USAGE, "questions are not there on RabbitMQ yet");
}

void amqp_ask_channel_closed(struct amqp_broker *b)
{
    (void)b;
}

void amqp_ask_down(struct amqp_broker *b, const struct err *why)
{
    (void)b;
    (void)why;
}

void amqp_ask_release(struct amqp_broker *b)
{
    (void)b;
}

int amqp_announce(struct broker *base, struct slice json, int64_t ttl_ms, struct err *e)
{
    (void)base;
    (void)json;
    (void)ttl_ms;
    (void)e;
    return 0;
}
