/*
 * amqp_address.h - what an amqp:// or amqps:// URL says, with everything else filled in.
 *
 * Purpose: the one place that knows the defaults: ports, Celery's reading of a virtual host, where
 * name and password come from, the parameters behind the '?'.
 * Model: amqp://[user[:password]@]host[:port][,host[:port]...][/vhost][?parameters]. As Celery
 * reads it, no path, "/" and "//" all mean the virtual host "/"; a host that is absent is
 * localhost. Name and password: from the URL; what it lacks from CELERIAC_AMQP_USER and
 * CELERIAC_AMQP_PASSWORD; a password that is still missing from the first line of the file that
 * ?password_file= or CELERIAC_AMQP_PASSWORD_FILE names; only the user guest has one by default.
 * Parameters: heartbeat (seconds, 0 for none), connection_timeout (seconds per host),
 * consumer_timeout (the server's, seconds, 0 for none; AMQP does not tell it), password_file
 * and, for amqps, cacertfile, certfile, keyfile, verify (verify_peer or verify_none). An unknown
 * one is an error, since a misspelt verify must not pass. The heartbeat is 15 s when not given
 * (Celery's is 120): silence of two intervals is the end of a connection on both sides, so the jobs
 * of a host that lost its power go to others after about half a minute, as they do with the leases
 * of the other backends; RabbitMQ advises 5 to 20 s. Fork rule: a value; owned strings. The
 * password is shown nowhere.
 */
#ifndef BROKER_AMQP_ADDRESS_H
#define BROKER_AMQP_ADDRESS_H

#include "base/err.h"
#include "broker/uri.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct amqp_host {
    char *name; /* owned; an address or a name */
    int port;
};

struct amqp_address {
    struct amqp_host *hosts; /* owned; at least one */
    size_t hosts_len;
    char *vhost;
    char *user;
    char *password;
    int heartbeat_s;
    int64_t consumer_timeout_ms; /* the server's; 0: none */
    int timeout_ms;              /* for TCP, TLS and login with one host */
    bool tls;
    bool verify;     /* the server's certificate and the name in it */
    char *ca_file;   /* NULL: the system's authorities */
    char *cert_file; /* NULL: none */
    char *key_file;  /* NULL: it is in cert_file */
};

/* ERR_USAGE for what the URL says wrong, ERR_OPERATOR for a password that is nowhere. */
int amqp_address_make(struct amqp_address *a, const struct uri *uri, struct err *e);
int amqp_address_copy(struct amqp_address *to, const struct amqp_address *from, struct err *e);
void amqp_address_release(struct amqp_address *a);

/* "host:port/vhost" of one host, for people; cut when long. */
void amqp_address_show(const struct amqp_address *a, size_t host, char *text, size_t size);

#endif
