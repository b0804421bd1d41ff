#include "base/clock.h"

#include <limits.h>
#include <time.h>

static int64_t read_ns(clockid_t id)
{
    struct timespec ts;

    clock_gettime(id, &ts);
    return (int64_t)ts.tv_sec * 1000000000 + ts.tv_nsec;
}

static int64_t system_mono_ms(const struct clock *clock)
{
    (void)clock;
    return read_ns(CLOCK_MONOTONIC) / 1000000;
}

static int64_t system_wall_ms(const struct clock *clock)
{
    (void)clock;
    return read_ns(CLOCK_REALTIME) / 1000000;
}

const struct clock *clock_system(void)
{
    static const struct clock system = {system_mono_ms, system_wall_ms};
    return &system;
}

static int64_t fake_mono_ms(const struct clock *clock)
{
    return ((const struct clock_fake *)clock)->mono_now_ms;
}

static int64_t fake_wall_ms(const struct clock *clock)
{
    return ((const struct clock_fake *)clock)->wall_now_ms;
}

void clock_fake_init(struct clock_fake *fake, int64_t wall_ms)
{
    fake->base = (struct clock){fake_mono_ms, fake_wall_ms};
    fake->mono_now_ms = 1000;
    fake->wall_now_ms = wall_ms;
}

void clock_fake_advance(struct clock_fake *fake, int64_t ms)
{
    fake->mono_now_ms += ms;
    fake->wall_now_ms += ms;
}

int64_t clock_nano(void)
{
    return read_ns(CLOCK_MONOTONIC);
}

int clock_poll_timeout(const struct clock *clock, int64_t deadline_ms)
{
    int64_t left;

    if (deadline_ms == CLOCK_NEVER)
        return -1;
    left = deadline_ms - clock_mono_ms(clock);
    if (left < 0)
        return 0;
    return left > INT_MAX ? INT_MAX : (int)left;
}
