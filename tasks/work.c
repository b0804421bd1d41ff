/*
 * work.c - work.burn: uses CPU for `us` microseconds and holds up every other job with the same
 * file `lock` for the last `serial_us` of them. With `wait` it sleeps instead, but for the last 100
 * us. A job whose cost and whose serial share are known: what `celeriac advise` and the benchmarks
 * measure with. CPU time is the process's own, so a busy machine makes a job take longer, not do
 * less.
 *
 * A lock that everybody really waits for would cost a wake-up each time that it changes hands, and
 * who comes back soon would be let in before those that wait. So the file says for how long all
 * jobs together have held the others up, and a job lasts longer by what others have added since it
 * began: n jobs at a time take (1 - s) + n s as long as one, which is Amdahl's law.
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
static void rest_until(struct celeriac_call *call, int64_t end_ns)
{
    int64_t wake = end_ns - LATE_NS;
    struct timespec at = {.tv_sec = (time_t)(wake / 1000000000),
                          .tv_nsec = (long)(wake % 1000000000)};

    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &at, NULL) == EINTR &&
           !celeriac_cancelled(call))
        continue;
    while (now_ns(CLOCK_MONOTONIC) < end_ns && !celeriac_cancelled(call))
        continue;
}

static void spend(struct celeriac_call *call, int64_t us, bool wait)
{
    if (us > 0 && wait)
        rest_until(call, now_ns(CLOCK_MONOTONIC) + us * 1000);
    else if (us > 0)
        burn(call, us);
}

/* What the file says; -1 with errno, also when it is a file of another kind. */
static int64_t serial_of(int fd)
{
    int64_t total[2] = {0};
    ssize_t n = pread(fd, total, sizeof(total), 0);

    if (n == 0 || (n == sizeof(total[0]) && total[0] >= 0 && total[0] < INT64_MAX / 2))
        return total[0];
    errno = n < 0 ? errno : EEXIST;
    return -1;
}

/* How long all jobs have held the others up, this one's now counted. -1 with errno. */
static int64_t add_serial(int fd, int64_t ns)
{
    int64_t total;

    while (flock(fd, LOCK_EX) < 0) {
        if (errno != EINTR)
            return -1;
    }
    total = serial_of(fd);
    if (total < 0)
        return -1;
    total += ns;
    if (ns > 0 && pwrite(fd, &total, sizeof(total), 0) < 0)
        return -1;
    return flock(fd, LOCK_UN) < 0 ? -1 : total;
}

/* Waits for as long as others have added to before_ns, and for what they add meanwhile. */
static int stand_back(struct celeriac_call *call, int fd, int64_t before_ns)
{
    int64_t since = now_ns(CLOCK_MONOTONIC), paid = 0, total;

    while ((total = add_serial(fd, 0)) - before_ns > paid && !celeriac_cancelled(call)) {
        paid = total - before_ns;
        rest_until(call, since + paid);
    }
    return total < 0 ? -1 : 0;
}

static int spend_both(struct celeriac_call *call, int fd, int64_t us, int64_t serial_us, bool wait)
{
    int64_t before = add_serial(fd, 0);

    if (before < 0)
        return -1;
    spend(call, us - serial_us, wait);
    if (add_serial(fd, serial_us * 1000) < 0)
        return -1;
    spend(call, serial_us, wait);
    return stand_back(call, fd, before + serial_us * 1000);
}

/* 0, or the error. */
static int spend_locked(struct celeriac_call *call, const char *path, int64_t us, int64_t serial_us,
                        bool wait)
{
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600), why = 0;

    if (fd < 0 || spend_both(call, fd, us, serial_us, wait) < 0)
        why = errno;
    if (fd >= 0)
        close(fd);
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
        why = spend_locked(call, path, json_integer_value(us), json_integer_value(serial_us), wait);
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
