/* The amqp row of the program: its backend is loaded when a URL asks for it, for good. RabbitMQ's
 * library brings OpenSSL along, which would cost every worker of any broker a quarter of its memory
 * and two thirds of its start. Libraries and tests have the backend within (amqp.c) instead. */
#include "broker/amqp_module.h"
#include "broker/backend.h"

#include <dlfcn.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* By the folder of the program, whichever one that is. */
static void *load(struct err *e)
{
    char program[PATH_MAX] = "", path[PATH_MAX + sizeof(AMQP_MODULE_DIR "//" AMQP_MODULE)];
    ssize_t len = readlink("/proc/self/exe", program, sizeof(program) - 1);
    char *slash = len > 0 ? strrchr(program, '/') : NULL;
    void *module;

    if (slash)
        slash[1] = '\0';
    snprintf(path, sizeof(path), "%s%s/%s", program, AMQP_MODULE_DIR, AMQP_MODULE);
    module = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (!module)
        err_set(e, ERR_OPERATOR,
                "RabbitMQ is spoken through %s, which can not be loaded: %s; install it with the "
                "program, by 'cmake --install'",
                AMQP_MODULE, dlerror());
    return module;
}

struct broker *amqp_open(const struct uri *uri, const struct broker_config *config, struct err *e)
{
    void *module = load(e);
    void *at = module ? dlsym(module, AMQP_MODULE_ENTRY) : NULL;
    broker_open_fn *open = NULL;

    memcpy(&open, &at, sizeof(at)); /* as POSIX has it */
    if (open)
        return open(uri, config, e);
    if (module)
        err_set(e, ERR_BUG, "%s does not show %s", AMQP_MODULE, AMQP_MODULE_ENTRY);
    return NULL;
}
