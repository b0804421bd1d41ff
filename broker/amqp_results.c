#include "broker/amqp.h"

#define SPARE_S 3600

void amqp_results_release(struct amqp_broker *b)
{
    (void)b;
}

int64_t amqp_results_age_s(const struct amqp_broker *b)
{
    return (b->result_expires_ms > 0 ? b->result_expires_ms / 1000 : 86400) + SPARE_S;
}

static int not_yet(struct err *e)
{
    return err_set(e, ERR_USAGE, "results are not there on RabbitMQ yet");
}

int amqp_store(struct broker *base, const struct broker_store *v, size_t n, struct err *e)
{
    (void)base;
    (void)v;
    (void)n;
    return not_yet(e);
}

int amqp_result_get(struct broker *base, const uint64_t *tags, const struct slice *ids, size_t n,
                    struct err *e)
{
    (void)base;
    (void)tags;
    (void)ids;
    (void)n;
    return not_yet(e);
}

int amqp_result_watch(struct broker *base, const uint64_t *tags, const struct slice *ids, size_t n,
                      struct err *e)
{
    return amqp_result_get(base, tags, ids, n, e);
}

void amqp_result_unwatch(struct broker *base, const struct slice *ids, size_t n)
{
    (void)base;
    (void)ids;
    (void)n;
}

int amqp_result_forget(struct broker *base, const uint64_t *tags, const struct slice *ids,
                       size_t n, struct err *e)
{
    return amqp_result_get(base, tags, ids, n, e);
}
