/*
 * params.h - the parameters of a task, and whether a call fits them.
 *
 * Purpose: check the arguments of a message before user code sees them, in Python's words.
 * Model: a row says its parameters as Python would, "x, y=1, *rest, z, w=2, **more"; defaults are
 * JSON (null, true and false as in JSON). A bare "*" ends the positional ones. The text is parsed
 * once; params_bind then follows the order of checks of CPython's function call, so that the
 * TypeError has the same text for the same mistake.
 * Ownership: a params owns its names and defaults. Fork rule: none, plain memory.
 * Source of the wording: CPython 3.11, Python/ceval.c (too_many_positional, missing_arguments).
 */
#ifndef WORKER_PARAMS_H
#define WORKER_PARAMS_H

#include "base/err.h"

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

struct param {
    char *name;            /* owned */
    json_t *default_value; /* owned; NULL: required */
};

struct params {
    struct param *list; /* owned: first the positional ones, then those after the star */
    size_t len;
    size_t positional_len;
    bool star;      /* *rest: more positional arguments are welcome */
    bool star_star; /* **more: unknown keywords are welcome */
};

/* Parses a signature's text; ERR_OPERATOR says what is wrong with it. NULL on error. */
struct params *params_parse(const char *text, struct err *e);
void params_free(struct params *p);

/* Checks a call. task: registered name; its last component is the function's name in the error.
 * kwargs_out receives a new reference: kwargs itself, or a copy that holds the defaults of the
 * parameters that were not given. ERR_REFUSED with the text of the TypeError. */
int params_bind(const struct params *p, const char *task, const json_t *args, json_t *kwargs,
                json_t **kwargs_out, struct err *e);

#endif
