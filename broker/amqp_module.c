/* What the module shows; the program's side is amqp_load.c. */
#include "broker/amqp_module.h"

#include "broker/backend.h"

__attribute__((visibility("default"))) broker_open_fn celeriac_amqp_open;

struct broker *celeriac_amqp_open(const struct uri *uri, const struct broker_config *config,
                                  struct err *e)
{
    return amqp_open(uri, config, e);
}
