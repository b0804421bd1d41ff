/*
 * etl_jobs.h - the parts of a set as tasks: sent, waited for, and added up.
 *
 * Purpose: what load and calibrate do with a broker.
 * Model: all parts are sent in batches, then their results are taken in the order in which they
 * become ready. Totals are what the jobs say of themselves; the report reads the database. A part
 * that this run found stored already inserts nothing, whatever its replayed counts say.
 * Ownership: totals own their list of runners. Fork rule: the client belongs to this process.
 */
#ifndef APP_ETL_JOBS_H
#define APP_ETL_JOBS_H

#include "app/etl_set.h"
#include "base/err.h"
#include "client/celeriac.h"

struct etl_runner {
    int64_t pid;
    uint64_t jobs;
    double cpu_s;
};

struct etl_totals {
    struct etl_counts counts;
    uint64_t jobs; /* that succeeded */
    uint64_t failed;
    uint64_t replayed;          /* jobs whose part an earlier run had stored */
    struct etl_runner *runners; /* owned */
    size_t runners_len;
    double seconds; /* from the first send to the last result */
};

struct etl_jobs;

/* Called when something moved: done of all jobs, lines so far. */
typedef void etl_moved_fn(void *user, size_t done, size_t all, uint64_t lines);

/* Called once when no job was finished for a while after the start. */
typedef void etl_idle_fn(void *user);

struct etl_jobs_options {
    const char *task;
    const char *queue;      /* NULL: the default */
    const char *const *dbs; /* database of each round; NULL: the task takes none */
    size_t rounds;          /* how often the set is sent */
    int64_t timeout_ms;     /* 0: for ever */
    etl_moved_fn *moved;    /* may be NULL */
    etl_idle_fn *idle;      /* may be NULL */
    void *user;
};

/* Sends and waits. Jobs that failed are told on stderr and counted, not an error. */
int etl_jobs_run(struct celeriac *client, const struct etl_set *set,
                 const struct etl_jobs_options *options, struct etl_totals *totals, struct err *e);

void etl_totals_release(struct etl_totals *totals);

/* An error of the client library as one of ours. Returns -1. */
int etl_client_err(struct err *e, const struct celeriac_error *from);

#endif
