/* Every state and event of the supervisor's slots, and the restart throttle. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/clock.h"
#include "worker/child.h"

static struct child in_state(enum child_state state)
{
    struct child c;

    child_init(&c, 0);
    c.state = state;
    return c;
}

static void every_pair_has_an_answer(void **state)
{
    static const enum child_state expected[6][4] = {
        /* started, ready, exit, stop */
        [CHILD_DOWN] = {CHILD_STARTING, CHILD_DOWN, CHILD_DOWN, CHILD_GONE},
        [CHILD_STARTING] = {CHILD_STARTING, CHILD_UP, CHILD_DOWN, CHILD_LEAVING},
        [CHILD_UP] = {CHILD_UP, CHILD_UP, CHILD_DOWN, CHILD_LEAVING},
        [CHILD_LEAVING] = {CHILD_LEAVING, CHILD_LEAVING, CHILD_GONE, CHILD_LEAVING},
        [CHILD_GONE] = {CHILD_GONE, CHILD_GONE, CHILD_GONE, CHILD_GONE},
        [CHILD_FAILED] = {CHILD_FAILED, CHILD_FAILED, CHILD_FAILED, CHILD_FAILED},
    };

    (void)state;
    for (int from = 0; from < 6; from++) {
        for (int event = 0; event < 4; event++) {
            struct child c = in_state((enum child_state)from);

            child_on(&c, (enum child_event)event, 1000);
            assert_int_equal(c.state, expected[from][event]);
        }
    }
}

static void restart_delays_double_up_to_five_seconds(void **state)
{
    static const int64_t expected[] = {100, 200, 400, 800, 1600, 3200, 5000, 5000, 5000};

    (void)state;
    for (int i = 0; i < 9; i++)
        assert_int_equal(child_restart_delay_ms(i + 1), expected[i]);
}

static void tenth_early_death_fails_the_slot(void **state)
{
    struct child c = in_state(CHILD_DOWN);
    int64_t now_ms = 0;

    (void)state;
    for (int i = 1; i <= 10; i++) {
        child_on(&c, CHILD_EV_STARTED, now_ms);
        child_on(&c, CHILD_EV_EXIT, now_ms);
        assert_int_equal(c.deaths, i);
        if (i < 10)
            assert_int_equal(c.start_at_ms, now_ms + child_restart_delay_ms(i));
        now_ms = c.start_at_ms;
    }
    assert_int_equal(c.state, CHILD_FAILED);
}

static void ready_resets_the_count_and_restarts_at_once(void **state)
{
    struct child c = in_state(CHILD_DOWN);

    (void)state;
    for (int i = 0; i < 9; i++) {
        child_on(&c, CHILD_EV_STARTED, 0);
        child_on(&c, CHILD_EV_EXIT, 0);
    }
    child_on(&c, CHILD_EV_STARTED, 100);
    child_on(&c, CHILD_EV_READY, 110);
    child_on(&c, CHILD_EV_EXIT, 120);
    assert_int_equal(c.state, CHILD_DOWN);
    assert_int_equal(c.deaths, 0);
    assert_int_equal(c.start_at_ms, 120);
}

static void next_moment_is_the_soonest_of_limits_and_kill(void **state)
{
    struct child c = in_state(CHILD_UP);

    (void)state;
    c.pid = 1;
    assert_true(child_next_ms(&c) == CLOCK_NEVER);
    c.watch = (struct child_watch){.job = 7, .soft_at_ms = 500, .hard_at_ms = 900};
    assert_int_equal(child_next_ms(&c), 500);
    c.watch.soft_sent = true;
    assert_int_equal(child_next_ms(&c), 900);
    c.watch.hard_sent = true;
    c.kill_at_ms = 1900;
    assert_int_equal(child_next_ms(&c), 1900);
    c.pid = 0;
    assert_true(child_next_ms(&c) == CLOCK_NEVER);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_pair_has_an_answer),
        cmocka_unit_test(restart_delays_double_up_to_five_seconds),
        cmocka_unit_test(tenth_early_death_fails_the_slot),
        cmocka_unit_test(ready_resets_the_count_and_restarts_at_once),
        cmocka_unit_test(next_moment_is_the_soonest_of_limits_and_kill),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
