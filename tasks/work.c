/*
 * work.c - work.burn: uses CPU for `us` microseconds; during the last `serial_us` of them no other
 * job with the same file `lock` does anything. With `wait` it sleeps instead, but for the last 100
 * us. A job whose cost and whose serial share are known: what `celeriac advise` and the benchmarks
 * measure with. CPU time is the process's own, so a busy machine makes a job take longer, not do
 * less.
 */
#include "tasks/builtin.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <string.h>
#include <sys/file.h>
#include <time.h>
#include <unistd.h>

#define US_MAX       60000000 /* a minute */
#define BETWEEN_ASKS 500      /* steps between two looks at the clock, about a microsecond */
#define LATE_NS      100000

static int64_t now_ns(clockid_t which)
{
    struct timespec ts;

    clock_gettime(which, &ts);
    return (int64_t)ts.tv_sec * 1000000000 + ts.tv_nsec;
}

static void burn(struct celeriac_call *call, int64_t us)
{
    int64_t end = now_ns(CLOCK_PROCESS_CPUTIME_ID) + us * 1000;
    volatile unsigned state = 1;

    while (now_ns(CLOCK_PROCESS_CPUTIME_ID) < end && !celeriac_cancelled(call)) {
        for (int i = 0; i < BETWEEN_ASKS; i++)
            state = state * 1664525U + 1013904223U;
    }
}

/* On time: a sleeper wakes up to 100 us late, a tenth of a serial part of 1 ms. */
static void rest(struct celeriac_call *call, int64_t us)
{
    int64_t end = now_ns(CLOCK_MONOTONIC) + us * 1000, wake = end - LATE_NS;
    struct timespec at = {.tv_sec = (time_t)(wake / 1000000000),
                          .tv_nsec = (long)(wake % 1000000000)};

    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &at, NULL) == EINTR &&
           !celeriac_cancelled(call))
        continue;
    while (now_ns(CLOCK_MONOTONIC) < end && !celeriac_cancelled(call))
        continue;
}

static void spend(struct celeriac_call *call, int64_t us, bool wait)
{
    if (us > 0 && wait)
        rest(call, us);
    else if (us > 0)
        burn(call, us);
}

static int lock(struct celeriac_call *call, int fd, int how)
{
    while (!celeriac_cancelled(call)) {
        if (flock(fd, how) == 0)
            return 0;
        if (errno != EINTR)
            return errno;
    }
    return 0;
}

/* First the part that others may do at the same time, then the one during which nobody else does
 * anything: n runners take (1 - s) + n s as long for n jobs as for one, which is Amdahl's law. 0,
 * or the error. */
static int spend_both(struct celeriac_call *call, const char *path, int64_t us, int64_t serial_us,
                      bool wait)
{
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    int why;

    if (fd < 0)
        return errno;
    why = lock(call, fd, LOCK_SH);
    if (why == 0)
        spend(call, us - serial_us, wait);
    if (why == 0)
        why = lock(call, fd, LOCK_EX);
    if (why == 0)
        spend(call, serial_us, wait);
    close(fd); /* and with it the lock */
    return why;
}

static bool is_time(const json_t *value)
{
    return json_is_integer(value) && json_integer_value(value) >= 0 &&
           json_integer_value(value) <= US_MAX;
}

static int work_burn(struct celeriac_call *call)
{
    json_t *us = celeriac_arg(call, 0, "us"), *serial_us = celeriac_arg(call, 1, "serial_us");
    const char *path = json_string_value(celeriac_arg(call, 2, "lock"));
    bool wait = json_is_true(celeriac_arg(call, 3, "wait"));
    int why = 0;

    if (!is_time(us) || !is_time(serial_us) ||
        json_integer_value(serial_us) > json_integer_value(us))
        return celeriac_fail(call, "ValueError",
                             "us and serial_us are whole numbers up to 60000000, serial_us at most "
                             "us");
    if (json_integer_value(serial_us) > 0 && path == NULL)
        return celeriac_fail(call, "ValueError", "serial_us needs the path of a lock file");
    if (json_integer_value(serial_us) > 0)
        why = spend_both(call, path, json_integer_value(us), json_integer_value(serial_us), wait);
    else
        spend(call, json_integer_value(us), wait);
    if (why != 0)
        return celeriac_fail(call, "OSError", strerror(why));
    if (celeriac_cancelled(call))
        return -1;
    return celeriac_ok(call, json_incref(us));
}

static const struct celeriac_task rows[] = {
    {.size = sizeof(struct celeriac_task),
     .name = "work.burn",
     .params = "us, serial_us=0, lock=null, wait=false",
     .run = work_burn},
};

struct builtin_table work_tasks(void)
{
    return BUILTIN_TABLE(rows);
}
