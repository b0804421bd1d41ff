/*
 * registry.h - the tasks a runner can run.
 *
 * Purpose: built-in rows and those of loaded modules, found by name, with their options.
 * Model: only a runner holds a registry: modules are user code, and user code is loaded nowhere
 * else. A runner tells the dispatcher what it has as JSON (CHANNEL_ROWS), and the dispatcher keeps
 * the options it decides with as struct task_options. The JSON: [{"name":..., "soft_limit_s":0,
 * "hard_limit_s":0, "ack_early":false, "track_started":false, "ignore_result":0|1|2, "rate_us":0,
 * "params":null, "dedup":null, "dedup_window_s":0}, ...].
 * Invariant: names are unique; a module that repeats one is refused with the reason.
 * Fork rule: load after fork, in the runner.
 */
#ifndef WORKER_REGISTRY_H
#define WORKER_REGISTRY_H

#include "base/buf.h"
#include "base/err.h"
#include "tasks/task.h"
#include "worker/params.h"

#include <stdbool.h>

/* One task as loaded: the row with defaults filled in, and what this runner knows. */
struct registry_entry {
    struct celeriac_task row; /* a copy with later members zero when the module is older */
    struct params *params;    /* owned; NULL: unchecked */
    bool init_ok;
    int64_t run_us; /* running mean of the run time, for what counts as short; 0: never ran */
};

struct registry {
    struct registry_entry *entries; /* owned, sorted by name */
    size_t len;
    void **handles; /* owned: dlopen handles, closed never (their code may be on the stack) */
    size_t handles_len;
};

/* Loads the built-in tasks. */
int registry_init(struct registry *r, struct err *e);
void registry_release(struct registry *r);

/* dlopens a module and adds its rows. ERR_OPERATOR says why not: missing file, missing symbol,
 * larger ABI major, malformed row, repeated name. A module is taken whole or not at all. */
int registry_load(struct registry *r, const char *path, struct err *e);

/* Borrowed, or NULL. */
struct registry_entry *registry_find(struct registry *r, const char *name);

/* Appends the JSON of CHANNEL_ROWS. */
int registry_describe(const struct registry *r, struct buf *out, struct err *e);

/* Runs init() unless it ran well before; -1 when it fails. */
int registry_start(struct registry_entry *entry);

/* Runs exit() of every entry whose init succeeded. */
void registry_exit(struct registry *r);

#endif
