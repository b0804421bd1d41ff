/*
 * clock.h - time that a test can hold in its hand.
 *
 * Purpose: everything that waits or stamps asks a struct clock, so that unit tests run with a fake
 * one and no sleep. Model: mono_ms never jumps and is for deadlines; wall_ms is since 1970-01-01
 * UTC and is for messages and leases that other hosts read. A deadline of CLOCK_NEVER never comes.
 * Fork rule: none, it holds no state of its own.
 */
#ifndef BASE_CLOCK_H
#define BASE_CLOCK_H

#include <stdint.h>

#define CLOCK_NEVER INT64_MAX

struct clock {
    int64_t (*mono_ms)(const struct clock *clock);
    int64_t (*wall_ms)(const struct clock *clock);
};

/* The system's clock; shared, constant. */
const struct clock *clock_system(void);

/* A clock that moves only when it is told to: set the members. */
struct clock_fake {
    struct clock base;
    int64_t mono_now_ms;
    int64_t wall_now_ms;
};
void clock_fake_init(struct clock_fake *fake, int64_t wall_ms);
void clock_fake_advance(struct clock_fake *fake, int64_t ms);

static inline int64_t clock_mono_ms(const struct clock *clock)
{
    return clock->mono_ms(clock);
}

static inline int64_t clock_wall_ms(const struct clock *clock)
{
    return clock->wall_ms(clock);
}

/* Monotonic nanoseconds of the system, for measuring short runs. */
int64_t clock_nano(void);

/* The time left until deadline_ms, for poll(2): -1 never, else 0..INT_MAX. */
int clock_poll_timeout(const struct clock *clock, int64_t deadline_ms);

#endif
