#include "app/trial.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "app/etl_jobs.h"
#include "app/own_worker.h"
#include "base/analyzer.h"
#include "base/clock.h"
#include "base/uuid.h"
#include "client/cli.h"

#define BATCH     256
#define TAIL      64   /* jobs whose results stop the clock */
#define LOOK_MS   1000 /* between two looks at the worker */
#define EXPIRES_S "300"
#define FORGET_MS 10000 /* results that could not be forgotten in this time expire */
#define LOG_SHOWN 200

int trial_open(struct trial *t, const struct trial_config *config, struct err *e)
{
    struct uuid_source ids = UUID_SOURCE_INIT;
    unsigned long long name = uuid_random(&ids);

    *t = (struct trial){.config = *config};
    snprintf(t->queue, sizeof(t->queue), "celeriac-trial-%016llx", name);
    snprintf(t->node, sizeof(t->node), "trial-%016llx@%%h", name);
    if (config->result_backend != NULL && strncmp(config->result_backend, "disabled:", 9) == 0)
        return err_set(e, ERR_USAGE,
                       "the measurement waits for results: give no --result-backend disabled://");
    if (config->queue != NULL && strlen(config->queue) >= sizeof(t->queue))
        return err_set(e, ERR_USAGE, "the name of queue '%.80s' is too long", config->queue);
    if (config->queue != NULL)
        snprintf(t->queue, sizeof(t->queue), "%s", config->queue);
    return scratch_make(t->folder, e);
}

static void disconnect(struct trial *t)
{
    celeriac_close(t->client);
    t->client = NULL;
}

static void log_path(const struct trial *t, char *to, size_t size)
{
    snprintf(to, size, "%s/worker.log", t->folder);
}

int trial_start_worker(struct trial *t, int runners, struct err *e)
{
    char log[SCRATCH_PATH_SIZE + 16];
    struct own_worker w = {.broker = t->config.broker,
                           .result_backend = t->config.result_backend,
                           .queue = t->queue,
                           .node = t->node,
                           .runners = runners,
                           .result_expires = EXPIRES_S,
                           .log = log};

    disconnect(t);
    log_path(t, log, sizeof(log));
    return own_worker_start(&w, &t->worker, e);
}

void trial_stop_worker(struct trial *t)
{
    if (t->worker > 0)
        own_worker_stop(t->worker);
    t->worker = 0;
}

int trial_connect(struct trial *t, struct err *e)
{
    struct celeriac_options how = CELERIAC_OPTIONS_INIT;
    struct celeriac_error why;

    if (t->client != NULL)
        return 0;
    how.result_url = t->config.result_backend;
    how.timeout_ms = t->config.timeout_ms;
    t->client = celeriac_open(t->config.broker, &how, &why);
    return t->client != NULL ? 0 : etl_client_err(e, &why);
}

/* A worker that ended has said why in the first line of its log. */
static int check_worker(struct trial *t, struct err *e)
{
    char path[SCRATCH_PATH_SIZE + 16], line[LOG_SHOWN] = "", cause[sizeof(e->text)];
    FILE *log;

    if (t->worker == 0 || own_worker_check(t->worker, e) == 0)
        return 0;
    t->worker = 0;
    log_path(t, path, sizeof(path));
    log = fopen(path, "re");
    if (log != NULL && fgets(line, sizeof(line), log) != NULL) {
        line[strcspn(line, "\n")] = '\0';
        snprintf(cause, sizeof(cause), "%s", e->text);
        err_set(e, e->code, "%.150s: %s", cause, line);
    }
    if (log != NULL)
        fclose(log);
    return -1;
}

/* --- sending --- */

/* The array holds what it grew to. */
ANALYZER_LOSES_SIGHT
static int make_room(struct trial *t, size_t more, struct err *e)
{
    size_t cap = t->ids_len + more;
    char(*grown)[CELERIAC_ID_SIZE];

    if (cap <= t->ids_cap)
        return 0;
    grown = realloc(t->ids, cap * sizeof(*grown));
    if (grown == NULL)
        return err_nomem(e);
    t->ids = grown;
    t->ids_cap = cap;
    return 0;
}
ANALYZER_SEES_AGAIN

static struct celeriac_task_options options_of(const struct trial *t, const struct trial_job *job)
{
    struct celeriac_task_options how = CELERIAC_TASK_OPTIONS_INIT;

    how.args_json = job->args_json;
    how.kwargs_json = job->kwargs_json;
    how.queue = t->queue;
    /* What is left in somebody's queue, because nobody took it, is not run some day. */
    if (t->config.queue != NULL)
        how.expires_s = (double)t->config.jobs_timeout_ms / 1000;
    return how;
}

static int send_batch(struct trial *t, const struct trial_job *job, size_t count, struct err *e)
{
    struct celeriac_task_options how = options_of(t, job);
    const struct celeriac_task_options *hows[BATCH];
    const char *tasks[BATCH];
    struct celeriac_error why;
    int rc;

    for (size_t i = 0; i < count; i++) {
        hows[i] = &how;
        tasks[i] = job->task;
    }
    if (count == 1)
        rc = celeriac_send(t->client, job->task, &how, t->ids[t->ids_len], &why);
    else
        rc = celeriac_send_many(t->client, tasks, hows, count, t->ids + t->ids_len, &why);
    if (rc < 0)
        return etl_client_err(e, &why);
    t->ids_len += count;
    return 0;
}

int trial_send(struct trial *t, const struct trial_job *job, size_t count, bool bulk, struct err *e)
{
    if (make_room(t, count, e) < 0)
        return -1;
    while (count > 0) {
        size_t n = !bulk ? 1 : count < BATCH ? count : BATCH;

        if (send_batch(t, job, n, e) < 0)
            return -1;
        count -= n;
    }
    return 0;
}

/* --- waiting --- */

struct collected {
    struct trial_outcome outcome;
    bool ready[BATCH];
};

static int take_result(void *user, size_t index, const char *id, const char *document)
{
    struct collected *c = user;
    json_t *parsed = json_loads(document, 0, NULL);
    json_t *run_us = json_object_get(json_object_get(parsed, "celeriac"), "run_us");

    (void)id;
    c->ready[index] = true;
    c->outcome.run_s += json_number_value(run_us) / 1e6;
    if (celeriac_succeeded(document))
        c->outcome.succeeded++;
    else
        c->outcome.failed++;
    json_decref(parsed);
    return 0;
}

/* Waits for ids[0..n), at most BATCH, and looks at the worker meanwhile. */
static int wait_some(struct trial *t, char (*ids)[CELERIAC_ID_SIZE], size_t n, int64_t until_ms,
                     struct collected *c, struct err *e)
{
    const char *waiting[BATCH];
    struct celeriac_error why = {CELERIAC_OK, ""};

    memset(c->ready, 0, sizeof(c->ready));
    for (size_t i = 0; i < n; i++)
        waiting[i] = ids[i];
    for (;;) {
        size_t left = 0;

        if (n == 0 || celeriac_wait_many(t->client, waiting, n, LOOK_MS, take_result, c, &why) == 0)
            return 0;
        if (why.code != CELERIAC_TIMEOUT)
            return etl_client_err(e, &why);
        if (check_worker(t, e) < 0)
            return -1;
        if (clock_mono_ms(clock_system()) > until_ms)
            return err_set(e, ERR_TIMEOUT,
                           "jobs on queue '%s' were not done in time; is a worker there?",
                           t->queue);
        for (size_t i = 0; i < n; i++) {
            if (!c->ready[i])
                waiting[left++] = waiting[i];
        }
        n = left;
        memset(c->ready, 0, sizeof(c->ready));
    }
}

static int64_t jobs_deadline(const struct trial *t)
{
    return clock_mono_ms(clock_system()) + t->config.jobs_timeout_ms;
}

int trial_wait(struct trial *t, struct err *e)
{
    size_t n = t->ids_len < TAIL ? t->ids_len : TAIL;
    struct collected c = {.outcome = {0}};

    return wait_some(t, t->ids + t->ids_len - n, n, jobs_deadline(t), &c, e);
}

static void forget(struct trial *t, size_t first, size_t n, int64_t until_ms)
{
    for (size_t i = 0; i < n && clock_mono_ms(clock_system()) < until_ms; i++)
        celeriac_forget(t->client, t->ids[first + i], NULL);
}

int trial_collect(struct trial *t, struct trial_outcome *out, struct err *e)
{
    int64_t until_ms = jobs_deadline(t);
    int64_t forget_until_ms = clock_mono_ms(clock_system()) + FORGET_MS;
    struct collected c = {.outcome = {0}};

    for (size_t at = 0; at < t->ids_len; at += BATCH) {
        size_t n = t->ids_len - at < BATCH ? t->ids_len - at : BATCH;

        if (wait_some(t, t->ids + at, n, until_ms, &c, e) < 0)
            return -1;
        forget(t, at, n, forget_until_ms);
    }
    t->ids_len = 0;
    if (out != NULL)
        *out = c.outcome;
    if (c.outcome.failed > 0)
        return err_set(e, ERR_PARTIAL, "%zu of %zu jobs of the measurement failed",
                       c.outcome.failed, c.outcome.failed + c.outcome.succeeded);
    return 0;
}

int trial_trip(struct trial *t, const struct trial_job *job, double *us, struct err *e)
{
    struct celeriac_task_options how = options_of(t, job);
    char id[CELERIAC_ID_SIZE];
    struct celeriac_error why;
    char *document = NULL;
    int64_t began = clock_nano();

    if (celeriac_send(t->client, job->task, &how, id, &why) < 0 ||
        celeriac_wait(t->client, id, t->config.timeout_ms, &document, &why) < 0) {
        if (check_worker(t, e) < 0)
            return -1;
        if (why.code == CELERIAC_TIMEOUT)
            return err_set(e, ERR_TIMEOUT, "nobody ran a job on queue '%s'; is a worker there?",
                           t->queue);
        return etl_client_err(e, &why);
    }
    *us = (double)(clock_nano() - began) / 1e3;
    celeriac_free(document);
    celeriac_forget(t->client, id, NULL);
    return 0;
}

/* --- the end --- */

/* Only a trial that was broken off leaves jobs; its name stays in the broker until it is dropped.
 */
static void remove_queue(struct trial *t)
{
    struct session_config config = {
        .url = t->config.broker, .timeout_ms = t->config.timeout_ms, .connect_once = true};
    struct session s;
    struct err e = ERR_INIT;

    if (session_open(&s, &config, &e) < 0)
        return;
    json_decref(cli_ask(&s, BROKER_ASK_PURGE, t->queue, NULL, 0, &e));
    json_decref(cli_ask(&s, BROKER_ASK_DROP, t->queue, NULL, 0, &e));
    session_close(&s);
}

void trial_close(struct trial *t)
{
    disconnect(t);
    trial_stop_worker(t);
    if (t->config.queue == NULL && t->folder[0] != '\0')
        remove_queue(t);
    if (t->folder[0] != '\0')
        scratch_remove(t->folder);
    free(t->ids);
    *t = (struct trial){.ids = NULL};
}
