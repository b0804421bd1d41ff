/*
 * result.h - result documents as Celery stores them.
 *
 * Purpose: write and read the JSON text under celery-task-meta-<id>.
 * Model: keys in Celery's order: status, result, traceback, children, date_done, then group_id and
 * parent_id when set, then our own "celeriac" object (timings; Python ignores it), task_id last.
 * Exceptions are {"exc_type", "exc_message": [...], "exc_module"}. Invariant: the text begins with
 * {"status": "STATE", so that a script can compare the prefix without decoding JSON:
 * RESULT_SUCCESS_PREFIX. Fork rule: none.
 */
#ifndef BROKER_RESULT_H
#define BROKER_RESULT_H

#include "base/buf.h"
#include "base/err.h"

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

/* What Celery (json.dumps with its default separators) and we write in front of every stored
 * success. */
#define RESULT_SUCCESS_PREFIX "{\"status\": \"SUCCESS\""

/* Times of one job, in microseconds; negative: not known. */
struct result_times {
    int64_t queued_us;     /* published -> delivered to the dispatcher */
    int64_t fetched_us;    /* delivered -> written to a runner */
    int64_t dispatched_us; /* written -> picked up by the runner */
    int64_t run_us;        /* wall time in user code */
    int64_t user_us;       /* CPU, only for jobs of tasks that are not known to be short */
    int64_t system_us;
    int64_t voluntary_switches;
    int64_t involuntary_switches;
    int64_t max_rss_kib; /* high-water mark of the runner */
};
#define RESULT_TIMES_INIT                                                                          \
    {                                                                                              \
        -1, -1, -1, -1, -1, -1, -1, -1, -1                                                         \
    }

struct result_doc {
    const char *status;    /* "SUCCESS", ... */
    json_t *result;        /* borrowed; NULL: null */
    const char *traceback; /* NULL: null */
    json_t *children; /* borrowed array of [[id, null], null]; NULL: [] (null when no_children) */
    bool no_children; /* written without a request: "children": null */
    const char *group_id;
    const char *parent_id;
    const char *task_id;
    int64_t date_done_us;             /* microseconds since 1970; 0: null */
    const char *worker;               /* for "celeriac": node, NULL: no "celeriac" object at all */
    int pid;                          /* of the runner; 0: none */
    const struct result_times *times; /* NULL: none */
    const char *duplicate_of; /* the job whose result this is: all that "celeriac" then says */
};

int result_encode(struct buf *out, const struct result_doc *doc, struct err *e);

/* {"exc_type": type, "exc_message": messages, "exc_module": module}. messages: taken, an array or
 * any value (then wrapped), NULL: []; module NULL: "builtins". New reference, or NULL. */
json_t *result_exception(const char *type, const char *module, json_t *messages);

/* True for SUCCESS, FAILURE and REVOKED: nothing comes after them. Reads only the prefix of the
 * text, with or without spaces, falling back to a parse when "status" is not the first key. */
bool result_is_ready(struct slice doc);
bool result_is_success(struct slice doc);

#endif
