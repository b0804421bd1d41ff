/*
 * amqp_dial.h - opening an AMQP connection without making the dispatcher wait.
 *
 * Purpose: name resolution, TCP, TLS and librabbitmq's login all block; a stopped broker accepts
 * the connection and then says nothing. So one dial is one thread with a deadline, which owns its
 * things alone and hands over a finished connection through a descriptor.
 *
 * Model: dial_start copies the address and starts the thread; dial_fd becomes readable when it
 * ended; dial_take then gives the connection or the error, once. dial_abandon lets a thread end by
 * itself within its deadline and frees what it made; the caller waits for nothing. The hosts of the
 * address are tried in order, beginning with `first` (so that a reconnect tries the next one).
 * With TLS the socket belongs to OpenSSL and a relay thread; the connection gets one end of a
 * socket pair (amqp_tls.h).
 *
 * Errors: ERR_RECONNECT refused, timed out, no route, closed in the handshake; ERR_OPERATOR wrong
 * password, no permission for the virtual host, no such virtual host, certificate not trusted, a
 * server that speaks something else. One line that names host, port and virtual host, never a
 * password. Fork rule: start after fork; the thread touches nothing of its caller.
 */
#ifndef BROKER_AMQP_DIAL_H
#define BROKER_AMQP_DIAL_H

#include "base/err.h"
#include "broker/amqp_address.h"
#include "broker/amqp_lib.h"

struct amqp_dial;

struct amqp_dialed {
    amqp_connection_state_t connection; /* taken by the receiver */
    int heartbeat_s;                    /* as agreed with the server */
    size_t host;                        /* index of the host that answered */
};

/* timeout_ms bounds TCP, TLS and login with one host together; address->timeout_ms as a rule. */
struct amqp_dial *dial_start(const struct amqp_address *address, const char *name, size_t first,
                             int timeout_ms, struct err *e);
int dial_fd(const struct amqp_dial *d);
/* 1 done (*out is set), 0 not yet, -1 failed (e). After 1 or -1 the dial is freed. */
int dial_take(struct amqp_dial *d, struct amqp_dialed *out, struct err *e);
/* NULL is a no-op. */
void dial_abandon(struct amqp_dial *d);

#endif
