/*
 * amqp_module.h - the RabbitMQ backend as a module of the program.
 *
 * Model: the file AMQP_MODULE has the backend and its own copies of what it needs of base/ and
 * broker/, which keep no state, and shows one function, of the type broker_open_fn. The program
 * finds it by its own place (amqp_load.c). Its name has the version, so that program and
 * module are of one build. Fork rule: loaded in the process that opens a broker, never unloaded.
 */
#ifndef BROKER_AMQP_MODULE_H
#define BROKER_AMQP_MODULE_H

#define AMQP_MODULE       "celeriac-amqp-" CELERIAC_VERSION ".so"
#define AMQP_MODULE_ENTRY "celeriac_amqp_open"

#endif
