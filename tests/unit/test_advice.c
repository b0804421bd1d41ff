/* What a measured sweep says: what was used up, and what a wanted rate needs. */
#include "app/advice.h"
#include "app/spread.h"
#include "tests/support/check.h"

#include <math.h>
#include <string.h>

static const struct advice_machine two_cores = {.cores = 2, .broker_cores = 1};

struct limit_case {
    struct advice_step step;
    enum advice_limit limit;
};

static const struct limit_case limits[] = {
    {{.runners = 1, .seconds = 1, .run_s = 0.97, .runners_cpu_s = 0.96, .broker_cpu_s = -1},
     ADVICE_RUNNER_CPU},
    {{.runners = 4, .seconds = 1, .run_s = 3.9, .runners_cpu_s = 1.8, .broker_cpu_s = 0.1},
     ADVICE_RUNNER_CPU},
    /* Another program has one of the cores: they could have run. */
    {{.runners = 2, .seconds = 1, .run_s = 1.9, .runners_cpu_s = 1, .runners_wait_s = 0.9},
     ADVICE_RUNNER_CPU},
    {{.runners = 2, .seconds = 1, .run_s = 0.6, .runners_cpu_s = 0.6, .dispatcher_cpu_s = 0.95},
     ADVICE_DISPATCHER_CPU},
    {{.runners = 2, .seconds = 1, .run_s = 0.3, .dispatcher_cpu_s = 0.5, .broker_cpu_s = 0.9},
     ADVICE_BROKER_CPU},
    /* Nobody has a core of its own, all are used: who used most. */
    {{.runners = 2,
      .seconds = 1,
      .run_s = 0.6,
      .runners_cpu_s = 0.5,
      .dispatcher_cpu_s = 0.75,
      .broker_cpu_s = 0.7},
     ADVICE_DISPATCHER_CPU},
    {{.runners = 8, .seconds = 1, .run_s = 7.8, .runners_cpu_s = 0.1, .dispatcher_cpu_s = 0.05},
     ADVICE_SINK},
    {{.runners = 2, .seconds = 1, .run_s = 0.2, .runners_cpu_s = 0.2, .dispatcher_cpu_s = 0.3},
     ADVICE_ROUND_TRIP},
};

static void names_what_is_used_up(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(limits) / sizeof(limits[0]); i++) {
        enum advice_limit found = advice_saturated(&limits[i].step, &two_cores);

        if (found != limits[i].limit)
            fail_msg("case %zu: found %s, wanted %s", i, advice_limit_word(found),
                     advice_limit_word(limits[i].limit));
    }
}

/* A sweep on a machine with so many cores, with jobs of one second and a known serial share. */
static size_t make_sweep(struct advice_step *steps, const struct advice_machine *m, int most,
                         double serial)
{
    struct scaling_fit law = {.one = 100, .serial = serial};

    for (int n = 1; n <= most; n++) {
        double rate = scaling_rate(&law, !m->tasks_wait && n > m->cores ? m->cores : n);

        steps[n - 1] = (struct advice_step){.runners = n,
                                            .jobs = rate * 2,
                                            .seconds = 2,
                                            .run_s = 2.0 * n,
                                            .runners_cpu_s = m->tasks_wait ? 0.02 : rate / 100 * 2,
                                            .dispatcher_cpu_s = rate * 2 * 0.0001,
                                            .broker_cpu_s = rate * 2 * 0.001};
    }
    return (size_t)most;
}

/* More runners than cores measure the machine: they must not look like a serial share. */
static void cores_are_no_serial_share(void **state)
{
    struct advice_machine m = {.cores = 4, .broker_cores = 1};
    struct advice_step steps[8];
    struct advice a;

    (void)state;
    advice_make(&a, steps, make_sweep(steps, &m, 8, 0.1), &m);
    assert_true(a.fitted && a.fit_max == 4);
    assert_true(fabs(a.fit.serial - 0.1) < 0.001);
    assert_int_equal(a.best_runners, 4);
    m.tasks_wait = true;
    advice_make(&a, steps, make_sweep(steps, &m, 8, 0.3), &m);
    assert_true(a.fitted && a.fit_max == 8);
    assert_true(fabs(a.fit.serial - 0.3) < 0.001);
    assert_int_equal(a.saturated, ADVICE_SINK);
}

static void plans_hosts_and_brokers(void **state)
{
    struct advice_machine m = {.cores = 4, .broker_cores = 1};
    struct advice_step steps[4];
    struct advice_plan plan;
    struct advice a;

    (void)state;
    advice_make(&a, steps, make_sweep(steps, &m, 4, 0), &m); /* 100 jobs/s a runner, 400 a host */
    advice_plan(&a, &m, 80, &plan);
    assert_int_equal(plan.hosts, 1);
    assert_int_equal(plan.runners_per_host, 1);
    advice_plan(&a, &m, 160, &plan);
    assert_int_equal(plan.runners_per_host, 2);
    advice_plan(&a, &m, 3200, &plan); /* 4,000 with headroom, and 4 brokers at 0.8 */
    assert_int_equal(plan.hosts, 10);
    assert_int_equal(plan.runners_per_host, 4);
    assert_int_equal(plan.brokers, 4);
    assert_true(fabs(plan.broker_share - 0.8) < 0.001);
}

/* A dispatcher that needs more than a core for the wanted rate needs more hosts. */
static void a_dispatcher_has_one_core(void **state)
{
    struct advice_step steps[2] = {
        {.runners = 1, .jobs = 30000, .seconds = 1, .dispatcher_cpu_s = 0.5, .broker_cpu_s = -1},
        {.runners = 2, .jobs = 60000, .seconds = 1, .dispatcher_cpu_s = 1.5, .broker_cpu_s = -1}};
    struct advice_plan plan;
    struct advice a;

    (void)state;
    advice_make(&a, steps, 2, &two_cores);
    assert_int_equal(a.saturated, ADVICE_DISPATCHER_CPU);
    advice_plan(&a, &two_cores, 48000, &plan);
    assert_int_equal(plan.hosts, 2);
    assert_int_equal(plan.brokers, 0);
}

static void one_step_fits_nothing(void **state)
{
    struct advice_step step = {.runners = 1, .jobs = 100, .seconds = 1, .broker_cpu_s = -1};
    struct advice_plan plan;
    struct advice a;

    (void)state;
    advice_make(&a, &step, 1, &two_cores);
    assert_false(a.fitted);
    advice_plan(&a, &two_cores, 160, &plan);
    assert_int_equal(plan.hosts, 2);
    assert_int_equal(plan.runners_per_host, 1);
}

static void a_figure_keeps_its_order(void **state)
{
    struct spread s = {.len = 0};
    double us[] = {5, 1, 4, 2, 3};

    (void)state;
    assert_true(spread_median(&s) == 0 && spread_max(&s) == 0);
    for (int i = 0; i < 2 * SPREAD_MAX; i++)
        spread_add(&s, (double)((i * 37) % SPREAD_MAX));
    assert_int_equal(s.len, SPREAD_MAX);
    assert_true(spread_min(&s) == 0 && spread_max(&s) == SPREAD_MAX - 1);
    assert_true(spread_median(&s) == (SPREAD_MAX - 1) / 2.0);
    spread_sort(us, 5);
    assert_true(spread_quantile(us, 5, 0.5) == 3 && spread_quantile(us, 5, 0.99) == 5);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_what_is_used_up),   cmocka_unit_test(cores_are_no_serial_share),
        cmocka_unit_test(plans_hosts_and_brokers), cmocka_unit_test(a_dispatcher_has_one_core),
        cmocka_unit_test(one_step_fits_nothing),   cmocka_unit_test(a_figure_keeps_its_order),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
