/*
 * sleep.c - tasks that do nothing: `sleep` for some seconds, `noop` at once. A sleep ends early,
 * with a failure, when the job is cancelled or its soft time limit passes.
 */
#include "tasks/builtin.h"

#include <time.h>

#define SLEEP_MAX_S 31536000.0 /* a year */

/* 0 when the time is over, -1 when the job was cancelled meanwhile. A signal between the look at
 * the flag and the sleep would not end the sleep: so it looks again every second. */
static int sleep_until(struct celeriac_call *call, const struct timespec *end)
{
    struct timespec now, slice;

    for (;;) {
        if (celeriac_cancelled(call))
            return -1;
        clock_gettime(CLOCK_MONOTONIC, &now);
        if (now.tv_sec > end->tv_sec || (now.tv_sec == end->tv_sec && now.tv_nsec >= end->tv_nsec))
            return 0;
        slice = *end;
        if (end->tv_sec > now.tv_sec + 1)
            slice = (struct timespec){now.tv_sec + 1, now.tv_nsec};
        clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &slice, NULL);
    }
}

static int sleep_run(struct celeriac_call *call)
{
    json_t *seconds = celeriac_arg(call, 0, "seconds");
    double s = json_number_value(seconds);
    struct timespec end;

    if (!json_is_number(seconds))
        return celeriac_fail(call, "TypeError", "seconds is not a number");
    if (s < 0 || s > SLEEP_MAX_S)
        return celeriac_fail(call, "ValueError", "seconds is not between 0 and 31536000");
    clock_gettime(CLOCK_MONOTONIC, &end);
    end.tv_sec += (time_t)s;
    end.tv_nsec += (long)((s - (double)(time_t)s) * 1e9);
    if (end.tv_nsec >= 1000000000L) {
        end.tv_sec++;
        end.tv_nsec -= 1000000000L;
    }
    return sleep_until(call, &end) < 0 ? -1 : celeriac_ok(call, json_incref(seconds));
}

static int noop_run(struct celeriac_call *call)
{
    (void)call;
    return 0;
}

static const struct celeriac_task rows[] = {
    {.size = sizeof(struct celeriac_task),
     .name = "sleep",
     .params = "seconds=1",
     .run = sleep_run},
    {.size = sizeof(struct celeriac_task),
     .name = "noop",
     .params = "*args, **kwargs",
     .run = noop_run},
};

struct builtin_table sleep_tasks(void)
{
    return BUILTIN_TABLE(rows);
}
