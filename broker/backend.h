/*
 * backend.h - what a broker backend provides; for the files of broker/ only.
 *
 * Model: a backend is a table of functions (struct broker_ops) and a structure whose first member
 * is struct broker. The generic layer (broker.c) finds the row by the URL's scheme, validates items
 * and calls through the table; trace.c wraps any backend with another table of the same shape;
 * split.c puts results elsewhere. Adding a broker = its files + one row in broker.c. Ownership,
 * errors and fork rules are those of broker.h. Events are queued with struct event_queue
 * (events.h).
 */
#ifndef BROKER_BACKEND_H
#define BROKER_BACKEND_H

#include "broker/broker.h"
#include "broker/uri.h"

struct broker_ops {
    const char *name;
    unsigned caps;
    void (*close)(struct broker *b, bool release_leases);
    int (*pollset)(struct broker *b, struct pollfd *fds, int max);
    int64_t (*deadline)(struct broker *b);
    int (*poll)(struct broker *b, struct broker_event *events, int max);
    void (*credit)(struct broker *b, int n);

    int (*publish)(struct broker *b, const struct broker_message *v, size_t n, struct err *e);
    int (*renew)(struct broker *b, const struct broker_receipt *v, size_t n, struct err *e);
    int (*note)(struct broker *b, const struct broker_note *v, size_t n, struct err *e);
    int (*finish)(struct broker *b, const struct broker_finish *v, size_t n, struct err *e);
    int (*release)(struct broker *b, const struct broker_release *v, size_t n, struct err *e);
    int (*bury)(struct broker *b, const struct broker_bury *v, size_t n, struct err *e);
    int (*store)(struct broker *b, const struct broker_store *v, size_t n, struct err *e);
    int (*ask)(struct broker *b, const struct broker_ask *ask, struct err *e);

    int (*result_get)(struct broker *b, const uint64_t *tags, const struct slice *ids, size_t n,
                      struct err *e);
    int (*result_watch)(struct broker *b, const uint64_t *tags, const struct slice *ids, size_t n,
                        struct err *e);
    void (*result_unwatch)(struct broker *b, const struct slice *ids, size_t n);
    int (*result_forget)(struct broker *b, const uint64_t *tags, const struct slice *ids, size_t n,
                         struct err *e);
};

/* First member of every backend's structure. */
struct broker {
    const struct broker_ops *ops;
};

/* Opens a backend: config with its defaults filled in (lease_ms, result_expires_ms, message_max,
 * clock), borrowed during the call except clock and log, which live longer than the broker. */
typedef struct broker *broker_open_fn(const struct uri *uri, const struct broker_config *config,
                                      struct err *e);

broker_open_fn memory_open;
broker_open_fn sqlite_open;
broker_open_fn redis_open;

/* trace.c: takes inner. NULL when out of memory (inner is then closed). */
struct broker *trace_wrap(struct broker *inner, const struct log *log);

/* split.c: takes both. Results are written to `results` and confirmed before the job is finished at
 * `jobs`; results NULL: nothing is stored. */
struct broker *split_wrap(struct broker *jobs, struct broker *results, struct err *e);

#endif
