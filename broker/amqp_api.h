/*
 * amqp_api.h - RabbitMQ's management HTTP API, read only.
 *
 * Purpose: what AMQP itself can not tell (alarms, the type of a queue, policies) for `doctor`. It
 * is the one part that speaks HTTP, so it is a library of its own: no worker and no program that
 * links libceleriac needs libcurl.
 * Model: one handle, one GET after the other, each ended by a deadline. The URL is
 * http[s]://[user:password@]host:port[/prefix]; without a user the login given beside it is used.
 * Redirections are not followed, so that the login stays with the server that was named.
 * Invariants: an answer is at most 16 MiB; name and password appear in no error. Fork rule: none,
 * plain memory and a socket; blocking, so never in a dispatcher.
 */
#ifndef BROKER_AMQP_API_H
#define BROKER_AMQP_API_H

#include "base/err.h"

#include <jansson.h>
#include <stdint.h>

struct amqp_api;

/* user, password: for a URL that has none; NULL: guest. Nothing is sent yet. NULL and ERR_USAGE for
 * what is no such URL. */
struct amqp_api *amqp_api_open(const char *url, const char *user, const char *password,
                               int64_t timeout_ms, struct err *e);
void amqp_api_close(struct amqp_api *api);

/* GET /api/A/B/C, each part encoded as one segment; the first NULL ends them. A new reference, or
 * NULL: ERR_RECONNECT not reached, ERR_NOTFOUND, ERR_OPERATOR refused or no answer of such an API.
 */
json_t *amqp_api_get(struct amqp_api *api, const char *const *path, struct err *e);
#define AMQP_API_PATH(...) ((const char *const[]){__VA_ARGS__, NULL})

/* The URL without a login. */
const char *amqp_api_shown(const struct amqp_api *api);

#endif
