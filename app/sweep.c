#include "app/sweep.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "app/trial.h"
#include "app/usage.h"
#include "base/clock.h"

#define EACH_UP_TO  8
#define JOBS_MIN    20 /* a runner */
#define JOBS_MAX    200000
#define WARM_JOBS   4  /* a runner */
#define WAIT_FACTOR 50 /* a step that takes so much longer than it should is given up */
#define WAIT_MIN_MS 60000

size_t sweep_plan(int most, int runners[ADVICE_STEPS_MAX])
{
    size_t len = 0;

    for (int n = 1; n < most && len < ADVICE_STEPS_MAX - 1; n += n < EACH_UP_TO ? 1 : n / 4)
        runners[len++] = n;
    runners[len++] = most;
    return len;
}

static size_t jobs_of(const struct sweep *sweep, int runners)
{
    double jobs = ceil(sweep->seconds / sweep->task_s * runners);

    return (size_t)fmin(JOBS_MAX, fmax((double)JOBS_MIN * runners, jobs));
}

static void write_kwargs(const struct sweep *sweep, char *to, size_t size)
{
    long long us = (long long)(sweep->task_s * 1e6);

    snprintf(to, size, "{\"us\": %lld, \"serial_us\": %lld, \"lock\": \"%s\", \"wait\": %s}", us,
             (long long)((double)us * sweep->serial), sweep->lock, sweep->waits ? "true" : "false");
}

/* So many short jobs that every runner has had some. */
static int warm(struct trial *t, int runners, struct err *e)
{
    struct trial_job job = {.task = "work.burn", .args_json = "[2000]"};

    if (trial_send(t, &job, (size_t)runners * WARM_JOBS, true, e) < 0)
        return -1;
    return trial_collect(t, NULL, e);
}

static int measure(struct trial *t, const struct sweep *sweep, int runners,
                   struct advice_step *step, struct err *e)
{
    char kwargs[SCRATCH_PATH_SIZE + 120];
    struct trial_job job = {.task = "work.burn", .kwargs_json = kwargs};
    size_t jobs = jobs_of(sweep, runners);
    struct trial_outcome outcome;
    struct usage usage;
    int64_t began;

    write_kwargs(sweep, kwargs, sizeof(kwargs));
    usage_begin(&usage, t->worker, sweep->broker);
    began = clock_nano();
    if (trial_send(t, &job, jobs, true, e) < 0 || trial_wait(t, e) < 0)
        return -1;
    *step = (struct advice_step){
        .runners = runners, .jobs = (double)jobs, .seconds = (double)(clock_nano() - began) / 1e9};
    usage_end(&usage);
    if (trial_collect(t, &outcome, e) < 0)
        return -1;
    step->run_s = outcome.run_s;
    step->runners_cpu_s = usage.runners_s;
    step->runners_wait_s = usage.runners_wait_s;
    step->dispatcher_cpu_s = usage.dispatcher_s;
    step->broker_cpu_s = usage.broker_known ? usage.broker_s : -1;
    step->others_cpu_s = fmax(0, usage.machine_s - usage.runners_s - usage.dispatcher_s -
                                     usage.broker_s - usage.own_s);
    return 0;
}

int sweep_step(const struct sweep *sweep, int runners, struct advice_step *step, struct err *e)
{
    struct trial_config config = {
        .broker = sweep->broker,
        .result_backend = sweep->result_backend,
        .timeout_ms = sweep->timeout_ms,
        .jobs_timeout_ms = (int64_t)fmax(WAIT_MIN_MS, sweep->seconds * 1000 * WAIT_FACTOR),
    };
    struct trial t;
    int rc = trial_open(&t, &config, e);

    if (rc == 0)
        rc = trial_start_worker(&t, runners, e);
    if (rc == 0)
        rc = trial_connect(&t, e);
    if (rc == 0)
        rc = warm(&t, runners, e);
    if (rc == 0)
        rc = measure(&t, sweep, runners, step, e);
    trial_close(&t);
    return rc;
}
