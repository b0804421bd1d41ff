#include "app/etl_jobs.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/analyzer.h"
#include "base/clock.h"

#define SEND_MAX     256
#define IDLE_HINT_MS 5000
#define TOLD_MAX     10 /* failures told one by one */

struct etl_jobs {
    struct celeriac *client;
    const struct etl_set *set;
    const struct etl_jobs_options *options;
    struct etl_totals *totals;
    char (*ids)[CELERIAC_ID_SIZE]; /* of all jobs */
    const char **waiting;          /* ids that have no result yet, for one wait */
    size_t *index;                 /* and which jobs they are */
    bool *ready;
    size_t all;
    size_t done;
};

static const enum err_code codes[] = {
    [CELERIAC_OK] = ERR_BUG,
    [CELERIAC_TASK_FAILED] = ERR_BUG,
    [CELERIAC_USAGE] = ERR_USAGE,
    [CELERIAC_UNREACHABLE] = ERR_RECONNECT,
    [CELERIAC_NOT_FOUND] = ERR_NOTFOUND,
    [CELERIAC_REFUSED] = ERR_REFUSED,
    [CELERIAC_TIMEOUT] = ERR_TIMEOUT,
    [CELERIAC_PARTIAL] = ERR_PARTIAL,
};

int etl_client_err(struct err *e, const struct celeriac_error *from)
{
    bool known = (size_t)from->code < sizeof(codes) / sizeof(codes[0]);

    return err_set(e, known ? codes[from->code] : ERR_BUG, "%s", from->text);
}

/* Sends the jobs [first, first + n). */
static int send_some(struct etl_jobs *jobs, size_t first, size_t n, struct err *e)
{
    struct celeriac_task_options how[SEND_MAX];
    const struct celeriac_task_options *hows[SEND_MAX];
    const char *names[SEND_MAX];
    char *kwargs[SEND_MAX] = {NULL};
    struct celeriac_error why;
    int rc = 0;

    for (size_t i = 0; rc == 0 && i < n; i++) {
        size_t round = (first + i) / jobs->set->parts_len;
        const char *db = jobs->options->dbs != NULL ? jobs->options->dbs[round] : NULL;

        kwargs[i] = etl_set_kwargs(jobs->set, (first + i) % jobs->set->parts_len, db);
        how[i] = (struct celeriac_task_options)CELERIAC_TASK_OPTIONS_INIT;
        how[i].kwargs_json = kwargs[i];
        how[i].queue = jobs->options->queue;
        hows[i] = &how[i];
        names[i] = jobs->options->task;
        if (kwargs[i] == NULL)
            rc = err_set(e, ERR_USAGE, "the path of a log or database is not UTF-8; rename it");
    }
    if (rc == 0 && celeriac_send_many(jobs->client, names, hows, n, &jobs->ids[first], &why) != 0)
        rc = etl_client_err(e, &why);
    for (size_t i = 0; i < n; i++)
        free(kwargs[i]);
    return rc;
}

static int send_all(struct etl_jobs *jobs, struct err *e)
{
    for (size_t at = 0; at < jobs->all; at += SEND_MAX) {
        size_t left = jobs->all - at;

        if (send_some(jobs, at, left < SEND_MAX ? left : SEND_MAX, e) != 0)
            return -1;
    }
    return 0;
}

static uint64_t number(const json_t *result, const char *key)
{
    return (uint64_t)json_integer_value(json_object_get(result, key));
}

/* The array holds what it grew to. */
ANALYZER_LOSES_SIGHT
static struct etl_runner *runner_of(struct etl_totals *totals, int64_t pid)
{
    struct etl_runner *grown;

    for (size_t i = 0; i < totals->runners_len; i++)
        if (totals->runners[i].pid == pid)
            return &totals->runners[i];
    grown = realloc(totals->runners, (totals->runners_len + 1) * sizeof(*grown));
    if (grown == NULL)
        return NULL;
    totals->runners = grown;
    totals->runners[totals->runners_len] = (struct etl_runner){.pid = pid};
    return &totals->runners[totals->runners_len++];
}

static void add_cost(struct etl_totals *totals, const json_t *result)
{
    struct etl_runner *runner =
        runner_of(totals, json_integer_value(json_object_get(result, "pid")));

    if (runner == NULL)
        return;
    runner->jobs++;
    runner->cpu_s += json_number_value(json_object_get(result, "cpu_s"));
}
ANALYZER_SEES_AGAIN

/* What this run did: a part that was stored before it began inserted nothing now. */
static void add_counts(struct etl_totals *totals, const json_t *result, bool was_stored)
{
    struct etl_counts *counts = &totals->counts;
    const json_t *reasons = json_object_get(result, "reasons");
    uint64_t inserted = number(result, "inserted");

    counts->lines += number(result, "lines");
    counts->inserted += was_stored ? 0 : inserted;
    counts->duplicates += number(result, "duplicates") + (was_stored ? inserted : 0);
    counts->quarantined += number(result, "quarantined");
    for (int i = 0; i < ETL_REASONS; i++)
        counts->reasons[i] += number(reasons, etl_reason_name((enum etl_reason)i));
    totals->replayed += was_stored;
}

/* Tells of a job that ended without a result. */
static void tell_failure(struct etl_jobs *jobs, const char *id, const json_t *document)
{
    const json_t *result = json_object_get(document, "result");
    const char *type = json_string_value(json_object_get(result, "exc_type"));
    const json_t *message = json_object_get(result, "exc_message");
    const char *text =
        json_string_value(json_is_array(message) ? json_array_get(message, 0) : message);

    if (jobs->totals->failed++ < TOLD_MAX)
        fprintf(stderr, "celeriac: %s %s failed: %s: %s\n", jobs->options->task, id,
                type != NULL ? type : "no reason given", text != NULL ? text : "");
}

static int take_result(void *user, size_t index, const char *id, const char *text)
{
    struct etl_jobs *jobs = user;
    size_t job = jobs->index[index];
    json_t *document = json_loads(text, 0, NULL);
    const char *status = json_string_value(json_object_get(document, "status"));

    jobs->ready[job] = true;
    jobs->done++;
    if (status != NULL && strcmp(status, "SUCCESS") == 0) {
        const json_t *result = json_object_get(document, "result");

        jobs->totals->jobs++;
        add_counts(jobs->totals, result, jobs->set->parts[job % jobs->set->parts_len].was_stored);
        add_cost(jobs->totals, result);
    } else {
        tell_failure(jobs, id, document);
    }
    json_decref(document);
    if (jobs->options->moved != NULL)
        jobs->options->moved(jobs->options->user, jobs->done, jobs->all,
                             jobs->totals->counts.lines);
    return 0;
}

/* Waits for those that are not ready: 0 all are, 1 time is up, -1. */
static int wait_some(struct etl_jobs *jobs, int64_t timeout_ms, struct err *e)
{
    struct celeriac_error why;
    size_t n = 0;

    for (size_t i = 0; i < jobs->all; i++)
        if (!jobs->ready[i]) {
            jobs->waiting[n] = jobs->ids[i];
            jobs->index[n++] = i;
        }
    if (n == 0 || celeriac_wait_many(jobs->client, jobs->waiting, n, timeout_ms, take_result, jobs,
                                     &why) == 0)
        return 0;
    if (why.code == CELERIAC_TIMEOUT)
        return 1;
    return etl_client_err(e, &why);
}

static int wait_all(struct etl_jobs *jobs, struct err *e)
{
    int64_t timeout_ms = jobs->options->timeout_ms;
    int64_t first_ms = timeout_ms > 0 && timeout_ms < IDLE_HINT_MS ? timeout_ms : IDLE_HINT_MS;
    int rc = wait_some(jobs, first_ms, e);

    if (rc != 1)
        return rc;
    if (jobs->done == 0 && jobs->options->idle != NULL)
        jobs->options->idle(jobs->options->user);
    if (timeout_ms == 0 || timeout_ms > first_ms)
        rc = wait_some(jobs, timeout_ms == 0 ? 0 : timeout_ms - first_ms, e);
    if (rc != 1)
        return rc;
    return err_set(e, ERR_TIMEOUT,
                   "%zu of %zu jobs are not finished in time; they stay in the queue, and loading "
                   "again is safe",
                   jobs->all - jobs->done, jobs->all);
}

static void forget_all(struct etl_jobs *jobs)
{
    for (size_t i = 0; i < jobs->all; i++)
        if (jobs->ready[i])
            celeriac_forget(jobs->client, jobs->ids[i], NULL);
}

int etl_jobs_run(struct celeriac *client, const struct etl_set *set,
                 const struct etl_jobs_options *options, struct etl_totals *totals, struct err *e)
{
    struct etl_jobs jobs = {.client = client, .set = set, .options = options, .totals = totals};
    int64_t began_ns = clock_nano();
    int rc = -1;

    memset(totals, 0, sizeof(*totals));
    jobs.all = set->parts_len * options->rounds;
    jobs.ids = calloc(jobs.all + 1, sizeof(*jobs.ids));
    jobs.waiting = calloc(jobs.all + 1, sizeof(*jobs.waiting));
    jobs.index = calloc(jobs.all + 1, sizeof(*jobs.index));
    jobs.ready = calloc(jobs.all + 1, sizeof(*jobs.ready));
    if (jobs.ids == NULL || jobs.waiting == NULL || jobs.index == NULL || jobs.ready == NULL)
        err_nomem(e);
    else if (send_all(&jobs, e) == 0)
        rc = wait_all(&jobs, e);
    totals->seconds = (double)(clock_nano() - began_ns) / 1e9;
    if (rc == 0)
        forget_all(&jobs);
    free(jobs.ids);
    free(jobs.waiting);
    free(jobs.index);
    free(jobs.ready);
    return rc;
}

void etl_totals_release(struct etl_totals *totals)
{
    free(totals->runners);
    memset(totals, 0, sizeof(*totals));
}
