/*
 * amqp_login.h - from a connected socket to a connection that knows who we are.
 *
 * Purpose: librabbitmq's login with our properties and heartbeat, and its many ways to fail put
 * into words that say what to do. Model: blocking with a deadline, so it belongs into the dial
 * thread (amqp_dial.h). Errors: ERR_OPERATOR for a wrong password, a virtual host that does not
 * exist or is not permitted, a server that speaks something else; ERR_RECONNECT for the rest.
 * Fork rule: none.
 */
#ifndef BROKER_AMQP_LOGIN_H
#define BROKER_AMQP_LOGIN_H

#include "broker/amqp_address.h"
#include "broker/amqp_lib.h"

/* fd is taken, also on error; non-blocking. shown: the host for people. NULL on error. */
amqp_connection_state_t login_over(int fd, const struct amqp_address *a, const char *shown,
                                   const char *name, int timeout_ms, int *heartbeat_s,
                                   struct err *e);

#endif
