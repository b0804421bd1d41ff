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
    bool (*sleep)(struct broker *b, int64_t until_ms); /* NULL, or false at once: pollset will do */
    void (*nothing_ready)(struct broker *b);           /* NULL: does not care */
    void (*rest)(struct broker *b);                    /* NULL: keeps nothing */
    void (*credit)(struct broker *b, int n);

    int (*publish)(struct broker *b, const struct broker_message *v, size_t n, struct err *e);
    int (*renew)(struct broker *b, const struct broker_receipt *v, size_t n, struct err *e);
    int (*note)(struct broker *b, const struct broker_note *v, size_t n, struct err *e);
    int (*finish)(struct broker *b, const struct broker_finish *v, size_t n, struct err *e);
    int (*release)(struct broker *b, const struct broker_release *v, size_t n, struct err *e);
    int (*bury)(struct broker *b, const struct broker_bury *v, size_t n, struct err *e);
    int (*store)(struct broker *b, const struct broker_store *v, size_t n, struct err *e);
    /* NULL without BROKER_CAP_CLAIMS */
    int (*claim)(struct broker *b, const struct broker_claim *v, size_t n, struct err *e);
    int (*ask)(struct broker *b, const struct broker_ask *ask, struct err *e);
    int (*announce)(struct broker *b, struct slice json, int64_t ttl_ms, struct err *e);

    int (*result_get)(struct broker *b, const uint64_t *tags, const struct slice *ids, size_t n,
                      struct err *e);
    int (*result_watch)(struct broker *b, const uint64_t *tags, const struct slice *ids, size_t n,
                        struct err *e);
    bool (*result_expect)(struct broker *b, const struct slice *ids, size_t n); /* NULL: cannot */
    void (*result_unwatch)(struct broker *b, const struct slice *ids, size_t n);
    int (*result_forget)(struct broker *b, const uint64_t *tags, const struct slice *ids, size_t n,
                         struct err *e);
};

/* First member of every backend's structure. The backend sets ops; the rest is broker.c's, set
 * after open on the outermost broker. */
struct broker {
    const struct broker_ops *ops;
    int64_t message_max;
    const struct clock *clock;
    bool has_node;
};

/* Opens a backend: config with its defaults filled in (lease_ms, result_expires_ms, message_max,
 * clock; no queues when node is NULL), borrowed during the call except clock and log, which live
 * longer than the broker. config->result_url is NULL, or the same place as url, or (only where the
 * row has a same_place function that said yes) a URL whose results the backend keeps itself, still
 * in one step with everything else. */
typedef struct broker *broker_open_fn(const struct uri *uri, const struct broker_config *config,
                                      struct err *e);

/* True when one backend opened for `jobs` can store results at `results` in its own atomic step
 * (redis: same server, any database). Pure. */
typedef bool broker_same_place_fn(const struct uri *jobs, const struct uri *results);

broker_open_fn memory_open;
broker_open_fn sqlite_open;
broker_open_fn redis_open;
broker_open_fn amqp_open;
broker_same_place_fn redis_same_place;

/* Tags with this bit are made by split.c and never reach the caller; broker.c refuses them. */
#define BROKER_TAG_RESERVED ((uint64_t)1 << 63)

/* trace.c: takes inner. NULL when out of memory (inner is then closed). */
struct broker *trace_wrap(struct broker *inner, const struct log *log);

/* split.c: takes both. Results are written to `results` and confirmed before the job is finished at
 * `jobs`; results NULL: nothing is stored. */
struct broker *split_wrap(struct broker *jobs, struct broker *results, struct err *e);

#endif
