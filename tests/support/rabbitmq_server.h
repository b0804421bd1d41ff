/*
 * rabbitmq_server.h - the rabbitmq-server that with_rabbitmq.py offers to a test program.
 *
 * Model: the program runs below `with_rabbitmq.py -- PROGRAM` (ctest: the word AMQP); every URL
 * handed out here has a virtual host of its own, so a case that takes a fresh one starts with an
 * empty broker although all share one server. Fork rule: none.
 */
#ifndef TESTS_RABBITMQ_SERVER_H
#define TESTS_RABBITMQ_SERVER_H

#include <stddef.h>

/* Writes a URL with a fresh virtual host; 0, or -1 when no server was offered. */
int rabbitmq_fresh_url(char *url, size_t size);

#endif
