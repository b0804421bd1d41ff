/* The dispatcher's decisions: deliveries, lost workers, limits, how many jobs a runner may hold. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "worker/policy.h"
#include "worker/seat.h"

static struct task_options known = {.name = (char *)"math.add"};

static void deliveries_are_run_parked_expired_or_kept_aside(void **state)
{
    struct message m = {0};

    (void)state;
    assert_int_equal(policy_on_delivery(&m, &known, 1000), POLICY_RUN);
    assert_int_equal(policy_on_delivery(&m, NULL, 1000), POLICY_UNKNOWN);
    m.eta_ms = 1001;
    assert_int_equal(policy_on_delivery(&m, &known, 1000), POLICY_PARK);
    assert_int_equal(policy_on_delivery(&m, &known, 1001), POLICY_RUN);
    /* What has expired is not kept for its eta, nor asked for its name. */
    m.expires_ms = 1000;
    assert_int_equal(policy_on_delivery(&m, NULL, 1000), POLICY_EXPIRE);
    m.expires_ms = 2000;
    assert_int_equal(policy_on_delivery(&m, NULL, 1000), POLICY_PARK);
}

static void a_job_is_buried_with_its_fifth_lost_worker(void **state)
{
    (void)state;
    assert_false(policy_bury_lost(1, 5));
    assert_false(policy_bury_lost(4, 5));
    assert_true(policy_bury_lost(5, 5));
    assert_true(policy_bury_lost(9, 5));
}

static void the_nearest_limit_counts(void **state)
{
    (void)state;
    assert_true(policy_limit_s(1, 2, 3) == 1);
    assert_true(policy_limit_s(0, 2, 3) == 2);
    assert_true(policy_limit_s(0, 0, 3) == 3);
    assert_true(policy_limit_s(0, 0, 0) == 0);
}

static void only_known_short_tasks_share_a_runner(void **state)
{
    struct task_options options = {.mean_us = 0};

    (void)state;
    assert_false(policy_is_short(&options));
    assert_int_equal(policy_depth(&options), 1);
    options.mean_us = 999;
    assert_true(policy_is_short(&options));
    assert_int_equal(policy_depth(&options), POLICY_LENT_US / 999);
    options.mean_us = POLICY_AHEAD_US;
    assert_false(policy_is_short(&options));
    assert_int_equal(policy_depth(&options), 1);
    options.mean_us = 1;
    assert_int_equal(policy_depth(&options), POLICY_DEPTH_MAX);
    options.ack_early = true;
    assert_int_equal(policy_depth(&options), 1);
}

static void a_runner_is_not_woken_for_a_few_short_jobs(void **state)
{
    struct task_options options = {.mean_us = 0};

    (void)state;
    assert_int_equal(policy_grain(&options), 1);
    options.mean_us = 1;
    assert_int_equal(policy_grain(&options), POLICY_DEPTH_MAX);
    options.mean_us = POLICY_GRAIN_US / 4;
    assert_int_equal(policy_grain(&options), 4);
    options.mean_us = POLICY_GRAIN_US + 1;
    assert_int_equal(policy_grain(&options), 1);
    options.mean_us = POLICY_SHORT_US;
    assert_int_equal(policy_grain(&options), 1);
}

static void the_last_jobs_wait_for_whoever_is_free(void **state)
{
    struct task_options options = {.mean_us = 700};

    (void)state;
    assert_true(policy_may_join(&options, 2, 0, 0));
    assert_false(policy_may_join(&options, 2, 1, 1));
    assert_true(policy_may_join(&options, 2, 1, 2));
    assert_false(policy_may_join(&options, 2, 5, 9));
    assert_true(policy_may_join(&options, 2, 5, 10));
    options.mean_us = POLICY_GRAIN_US / 4;
    assert_true(policy_may_join(&options, 2, 30, 0));
}

static void a_steady_task_of_some_milliseconds_is_lent_ahead(void **state)
{
    struct task_options options = {.mean_us = 0};
    int after = 0;

    (void)state;
    policy_ran(&options, 5000);
    assert_int_equal(options.mean_us, 5000);
    assert_int_equal(policy_depth(&options), 2);
    options.mean_us = 2000;
    assert_int_equal(policy_depth(&options), 4);
    options.mean_us = 5000;
    /* One that took long: the others do not wait behind the next of its kind, for a while. */
    policy_ran(&options, POLICY_STEADY_US + 1);
    for (; policy_depth(&options) == 1 && after < 1000; after++)
        policy_ran(&options, 5000);
    assert_true(after >= 1);
    policy_ran(&options, 100 * POLICY_STEADY_US);
    for (after = 0; policy_depth(&options) == 1 && after < 1000; after++)
        policy_ran(&options, 5000);
    assert_in_range(after, 50, 100);
}

static void the_shortest_lately_is_known(void **state)
{
    struct task_options options = {.mean_us = 0};
    int after = 0;

    (void)state;
    policy_ran(&options, 700);
    assert_int_equal(options.low_us, 700);
    policy_ran(&options, 600);
    policy_ran(&options, 800);
    assert_in_range(options.low_us, 600, 620);
    policy_ran(&options, 0);
    assert_int_equal(options.low_us, 0);
    for (; options.low_us < 600 && after < 1000; after++)
        policy_ran(&options, 700);
    assert_in_range(after, 100, 400);
    for (after = 0; after < 1000; after++)
        policy_ran(&options, 700);
    assert_int_equal(options.low_us, 700);
}

static void an_end_is_held_only_for_another(void **state)
{
    (void)state;
    assert_int_equal(policy_hold_ms(2, 0, 0), 0);
    assert_int_equal(policy_hold_ms(2, POLICY_HOLD_FROM_US - 1, 0), 0);
    assert_int_equal(policy_hold_ms(2, POLICY_HOLD_FROM_US, 0), POLICY_HOLD_MS);
    assert_int_equal(policy_hold_ms(2, 2 * POLICY_HOLD_MS * 1000, 0), POLICY_HOLD_MS);
    assert_int_equal(policy_hold_ms(2, 2 * POLICY_HOLD_MS * 1000 + 1, 0), 0);
    assert_int_equal(policy_hold_ms(64, 100000, 0), POLICY_HOLD_MS);
    assert_int_equal(policy_hold_ms(64, 60000000, 0), 0);
}

/* Its runner stands still until the dispatcher has read all of it. */
static void a_long_end_is_not_held(void **state)
{
    (void)state;
    assert_int_equal(policy_hold_ms(2, 1000, POLICY_HOLD_BYTES), POLICY_HOLD_MS);
    assert_int_equal(policy_hold_ms(2, 1000, POLICY_HOLD_BYTES + 1), 0);
}

static void ends_gather_while_all_runners_have_work(void **state)
{
    (void)state;
    assert_int_equal(policy_gather_ms(2, 0), 0);
    assert_int_equal(policy_gather_ms(2, 1000), 0);
    assert_int_equal(policy_gather_ms(2, 1300), 1);
    assert_int_equal(policy_gather_ms(2, POLICY_GATHER_US), 9);
    assert_int_equal(policy_gather_ms(64, POLICY_GATHER_US), 8);
    assert_int_equal(policy_gather_ms(1000, POLICY_GATHER_US), 0);
}

static void the_window_holds_forty_milliseconds_of_work(void **state)
{
    (void)state;
    assert_int_equal(policy_window(2, 0), 4);
    assert_int_equal(policy_window(2, 60000000), 4);
    assert_int_equal(policy_window(2, 5000), 18);
    assert_true(policy_window(2, 1) <= 2 * (1 + 4 * POLICY_DEPTH_MAX));
}

static void more_jobs_are_wanted_when_half_of_the_work_is_gone(void **state)
{
    (void)state;
    assert_int_equal(policy_wanted(2, 1000, 0), 82);
    assert_int_equal(policy_wanted(2, 1000, 40), 42);
    assert_int_equal(policy_wanted(2, 1000, 41), 0);
    assert_int_equal(policy_wanted(2, 1000, 82), 0);
    assert_int_equal(policy_wanted(2, 5000, 8), 10);
    assert_int_equal(policy_wanted(2, 5000, 9), 0);
    /* Long jobs: one waits per runner. */
    assert_int_equal(policy_wanted(2, 60000000, 3), 1);
    assert_int_equal(policy_wanted(2, 60000000, 4), 0);
    assert_int_equal(policy_wanted(2, 0, 1), 3);
    /* Short ones: there is room as long as the number allows. */
    assert_int_equal(policy_wanted(2, 5, 500), policy_window(2, 5) - 500);
    assert_int_equal(policy_wanted(2, 5, policy_window(2, 5) + 1), 0);
}

static void the_mean_follows_and_never_reaches_zero(void **state)
{
    int64_t mean = policy_mean_us(0, 800);

    (void)state;
    assert_int_equal(mean, 800);
    mean = policy_mean_us(mean, 1600);
    assert_int_equal(mean, 900);
    for (int i = 0; i < 100; i++)
        mean = policy_mean_us(mean, 0);
    assert_true(mean >= 1);
}

static void a_held_key_is_asked_for_ever_less_often(void **state)
{
    (void)state;
    assert_int_equal(policy_wait_ms(0), 250);
    assert_int_equal(policy_wait_ms(1), 500);
    assert_int_equal(policy_wait_ms(4), 4000);
    assert_int_equal(policy_wait_ms(5), 5000);
    assert_int_equal(policy_wait_ms(INT32_MAX), 5000);
}

static void a_rate_spaces_starts_and_sends_the_rest_to_slots(void **state)
{
    struct task_options options = {.rate_us = 100000};

    (void)state;
    assert_int_equal(policy_rate_ms(&known, 5000), 0);
    assert_int_equal(policy_rate_ms(&options, 5000), 0);
    assert_int_equal(policy_rate_ms(&options, 5000), 5101);
    assert_int_equal(policy_rate_ms(&options, 5001), 5201);
    assert_int_equal(policy_rate_ms(&options, 5099), 5301);
    /* Each comes back in its slot and may run. */
    assert_int_equal(policy_rate_ms(&options, 5101), 0);
    assert_int_equal(policy_rate_ms(&options, 5201), 0);
    assert_int_equal(policy_rate_ms(&options, 5301), 0);
    /* A long pause is no credit. */
    assert_int_equal(policy_rate_ms(&options, 9000), 0);
    assert_int_equal(policy_rate_ms(&options, 9000), 9101);
}

static struct job *put(struct seat *s, struct job *job, struct task_options *options)
{
    job->options = options;
    TAILQ_INSERT_TAIL(&s->lent, job, link);
    seat_lent(s, job);
    return job;
}

static void a_seat_takes_short_jobs_together_and_others_alone(void **state)
{
    struct task_options quick = {.mean_us = 100}, some = {.mean_us = 5000},
                        slow = {.mean_us = 50000};
    struct seat s = {.ready = true, .head_since_ms = 1000};
    struct job first = {0}, second = {0}, next = {.options = &quick};

    (void)state;
    TAILQ_INIT(&s.lent);
    assert_int_equal(seat_room(&s, &next, 1000), 1);
    put(&s, &first, &quick);
    assert_int_equal(seat_room(&s, &next, 1000), POLICY_DEPTH_MAX - 1);
    assert_int_equal(seat_room(&s, &next, 1100), 0); /* silent for 100 ms */
    next.solo = true;
    assert_int_equal(seat_room(&s, &next, 1000), 0);
    next.solo = false;
    next.options = &slow;
    assert_int_equal(seat_room(&s, &next, 1000), 0);
    next.options = &some; /* one ahead, and then none behind it but one */
    assert_int_equal(seat_room(&s, &next, 1000), 1);
    put(&s, &second, &some);
    next.options = &quick;
    assert_int_equal(seat_room(&s, &next, 1000), 0);
    s.retiring = true;
    assert_int_equal(seat_room(&s, &next, 1000), 0);
}

static void behind_a_long_job_nothing_is_lent(void **state)
{
    struct task_options quick = {.mean_us = 100}, slow = {.mean_us = 50000};
    struct seat s = {.ready = true, .head_since_ms = 1000};
    struct job first = {0}, next = {.options = &quick};

    (void)state;
    TAILQ_INIT(&s.lent);
    put(&s, &first, &slow);
    assert_int_equal(seat_room(&s, &next, 1000), 0);
    /* What it held before says nothing of what it holds now. */
    s.lent_len = 0;
    put(&s, &first, &quick);
    assert_int_equal(seat_room(&s, &next, 1000), POLICY_DEPTH_MAX - 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(deliveries_are_run_parked_expired_or_kept_aside),
        cmocka_unit_test(a_job_is_buried_with_its_fifth_lost_worker),
        cmocka_unit_test(the_nearest_limit_counts),
        cmocka_unit_test(only_known_short_tasks_share_a_runner),
        cmocka_unit_test(a_runner_is_not_woken_for_a_few_short_jobs),
        cmocka_unit_test(a_steady_task_of_some_milliseconds_is_lent_ahead),
        cmocka_unit_test(the_shortest_lately_is_known),
        cmocka_unit_test(an_end_is_held_only_for_another),
        cmocka_unit_test(a_long_end_is_not_held),
        cmocka_unit_test(ends_gather_while_all_runners_have_work),
        cmocka_unit_test(the_window_holds_forty_milliseconds_of_work),
        cmocka_unit_test(more_jobs_are_wanted_when_half_of_the_work_is_gone),
        cmocka_unit_test(the_mean_follows_and_never_reaches_zero),
        cmocka_unit_test(a_held_key_is_asked_for_ever_less_often),
        cmocka_unit_test(a_rate_spaces_starts_and_sends_the_rest_to_slots),
        cmocka_unit_test(a_seat_takes_short_jobs_together_and_others_alone),
        cmocka_unit_test(behind_a_long_job_nothing_is_lent),
        cmocka_unit_test(the_last_jobs_wait_for_whoever_is_free),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
