/*
 * dedup_rule.h - which calls of a task are the same piece of work.
 *
 * Purpose: make the dedup key of a message that names none from its task and arguments.
 * Model: a rule is a row's parameters and the names that count ("x, y"), or "*" for all. The key is
 * TASK:{"x":1,"y":2}: the values by name, whether they were given by position, by keyword or by
 * default, as JSON with sorted keys and no spaces; a long one is TASK:xxh128:DIGEST. Without
 * params, "*" takes args and kwargs as they came. Numbers are compared as they are written: 1 and
 * 1.0 differ. Invariant: a key fits BROKER_KEY_MAX.
 * Ownership: a rule owns its parts. Fork rule: none, plain memory.
 */
#ifndef WORKER_DEDUP_RULE_H
#define WORKER_DEDUP_RULE_H

#include "base/buf.h"
#include "base/err.h"

#include <jansson.h>
#include <stdint.h>

struct dedup_rule;

/* ERR_OPERATOR says what is wrong. params: may be NULL. window_s: 0 for the default. */
struct dedup_rule *dedup_rule_new(const char *params, const char *chosen, double window_s,
                                  struct err *e);
void dedup_rule_free(struct dedup_rule *rule);

int64_t dedup_rule_window_ms(const struct dedup_rule *rule);

/* Appends the key. ERR_REFUSED when the arguments do not fit the parameters: such a call fails by
 * itself and needs no key. */
int dedup_rule_key(const struct dedup_rule *rule, const char *task, const json_t *args,
                   json_t *kwargs, struct buf *key, struct err *e);

#endif
