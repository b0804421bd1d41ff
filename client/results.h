/*
 * results.h - read, await and remove results.
 *
 * Purpose: the loops behind celeriac_get, celeriac_wait and the result command.
 * Model: results_get asks once for n ids; results_wait watches them until each is ready, so it
 * costs nothing while nothing happens. Both hand a document out through a callback, in order of
 * arrival. A question that a lost connection swallowed is asked again until the deadline.
 * Ownership: documents are borrowed during the callback. Fork rule: as session.h.
 */
#ifndef CLIENT_RESULTS_H
#define CLIENT_RESULTS_H

#include "client/session.h"

/* document {NULL,0}: nothing is stored (results_get only). Non-zero ends the call early. */
typedef int results_fn(void *user, size_t index, struct slice document);

/* What is stored now. 0 when every id was answered. */
int results_get(struct session *s, const char *const *ids, size_t n, results_fn *on_result,
                void *user, struct err *e);

/* Calls on_ready once per id. deadline_ms: monotonic, CLOCK_NEVER: for ever. ERR_TIMEOUT when some
 * are not ready by then, ERR_RECONNECT when the broker is away at that time. */
int results_wait(struct session *s, const char *const *ids, size_t n, int64_t deadline_ms,
                 results_fn *on_ready, void *user, struct err *e);

int results_forget(struct session *s, const char *id, struct err *e);

#endif
