/*
 * place.h - where a test of a client sends: a fresh queue file, a redis-server of its own, or a
 * virtual host of the shared rabbitmq-server.
 *
 * Model: set-up and tear-down functions for cmocka; *state is the struct place. Fork rule: none.
 */
#ifndef TESTS_PLACE_H
#define TESTS_PLACE_H

#include "tests/support/redis_server.h"

struct place {
    char directory[64];
    const char *url;
    char file_url[128];
    char amqp_url[256];
    struct redis_server redis;
};

int place_make_file(void **state);
int place_remove_file(void **state);
int place_make_server(void **state);
int place_remove_server(void **state);
int place_make_amqp(void **state);
int place_remove_amqp(void **state);

#endif
