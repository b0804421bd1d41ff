/*
 * trial.h - jobs on a queue of their own, with a worker of their own, timed.
 *
 * Purpose: what bench and advise do with a broker, whichever it is.
 * Model: a trial has a queue with a name that nobody else uses. Jobs of one kind are sent to it, a
 * worker with so many runners is started and stopped, and what was sent is waited for. The clock
 * stops when the last few jobs have their results: waiting for every single one would be work that
 * is measured too. trial_collect then looks at all of them, and forgets them at the broker.
 * Invariants: no worker is started while this process has the broker open, so nothing of ours is
 * inherited; a worker that dies ends a wait at once with its cause; every wait has a deadline.
 * Ownership: the configuration's texts are borrowed as long as the trial lives. Fork rule: as
 * own_worker.h.
 */
#ifndef APP_TRIAL_H
#define APP_TRIAL_H

#include "app/scratch.h"
#include "base/err.h"
#include "client/celeriac.h"

#include <stdbool.h>
#include <sys/types.h>

struct trial_config {
    const char *broker;
    const char *result_backend; /* NULL: the broker */
    const char *queue;          /* NULL: one of its own; else the queue of a worker that runs */
    int64_t timeout_ms;         /* of each answer of the broker */
    int64_t jobs_timeout_ms;    /* until the jobs that were sent are done */
};

struct trial_job {
    const char *task;
    const char *args_json;   /* NULL: [] */
    const char *kwargs_json; /* NULL: {} */
};

/* What trial_collect found. */
struct trial_outcome {
    size_t succeeded;
    size_t failed;
    double run_s; /* sum of what the jobs took in their runners, where the result tells */
};

struct trial {
    struct trial_config config;
    char folder[SCRATCH_PATH_SIZE];
    char queue[64];
    char node[64];
    struct celeriac *client; /* NULL: not connected */
    pid_t worker;            /* 0: none */
    char (*ids)[CELERIAC_ID_SIZE];
    size_t ids_len, ids_cap;
};

int trial_open(struct trial *t, const struct trial_config *config, struct err *e);

/* Stops the worker, throws away what still waits in a queue of its own, and removes the rest. */
void trial_close(struct trial *t);

/* Starts the worker; the connection, if there is one, is closed before. */
int trial_start_worker(struct trial *t, int runners, struct err *e);
void trial_stop_worker(struct trial *t);
int trial_connect(struct trial *t, struct err *e);

/* Sends count jobs, in batches or each confirmed by itself. */
int trial_send(struct trial *t, const struct trial_job *job, size_t count, bool bulk,
               struct err *e);

/* Until the last of the jobs that were sent are done. */
int trial_wait(struct trial *t, struct err *e);

/* Every job that was sent and not collected: waits for those that are not ready. out may be NULL.
 */
int trial_collect(struct trial *t, struct trial_outcome *out, struct err *e);

/* One job, there and back. */
int trial_trip(struct trial *t, const struct trial_job *job, double *us, struct err *e);

#endif
