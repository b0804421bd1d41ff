#include "tests/support/place.h"
#include "tests/support/rabbitmq_server.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

int place_make_file(void **state)
{
    struct place *p = calloc(1, sizeof(*p));

    if (!p)
        return -1;
    snprintf(p->directory, sizeof(p->directory), "/tmp/celeriac-client-XXXXXX");
    if (!mkdtemp(p->directory)) {
        free(p);
        return -1;
    }
    snprintf(p->file_url, sizeof(p->file_url), "sqlite:%s/q.db", p->directory);
    p->url = p->file_url;
    *state = p;
    return 0;
}

int place_remove_file(void **state)
{
    static const char *const suffixes[] = {"", "-wal", "-shm", "-bell"};
    struct place *p = *state;
    char path[128];

    for (size_t i = 0; i < sizeof(suffixes) / sizeof(*suffixes); i++) {
        snprintf(path, sizeof(path), "%s/q.db%s", p->directory, suffixes[i]);
        unlink(path);
    }
    rmdir(p->directory);
    free(p);
    return 0;
}

int place_make_server(void **state)
{
    struct place *p = calloc(1, sizeof(*p));

    if (!p || redis_server_init(&p->redis) < 0 || redis_server_start(&p->redis) < 0)
        return -1;
    p->url = p->redis.url;
    *state = p;
    return 0;
}

int place_remove_server(void **state)
{
    struct place *p = *state;

    redis_server_release(&p->redis);
    free(p);
    return 0;
}

int place_make_amqp(void **state)
{
    struct place *p = calloc(1, sizeof(*p));

    if (!p || rabbitmq_fresh_url(p->amqp_url, sizeof(p->amqp_url)) != 0)
        return -1;
    p->url = p->amqp_url;
    *state = p;
    return 0;
}

int place_remove_amqp(void **state)
{
    free(*state);
    return 0;
}
