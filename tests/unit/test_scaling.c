/* Amdahl's and the universal scalability law, fitted to tables that were made by them. */
#include "app/scaling.h"
#include "tests/support/check.h"

#include <math.h>
#include <stdlib.h>

#define POINTS_MAX 256

struct table {
    struct scaling_point points[POINTS_MAX];
    size_t len;
};

/* The same numbers on every machine: between -1 and 1. */
static double noise(uint64_t *state)
{
    *state = *state * 6364136223846793005U + 1442695040888963407U;
    return (double)(*state >> 11) / (double)(UINT64_C(1) << 52) - 1;
}

/* Rates of a known law for 1 to most runners, each measured `times` times, off by at most `share`.
 */
static void make(struct table *t, struct scaling_fit law, int most, int times, double share)
{
    uint64_t state = 20;

    t->len = 0;
    for (int n = 1; n <= most; n++) {
        for (int i = 0; i < times; i++) {
            assert_true(t->len < POINTS_MAX);
            t->points[t->len++] =
                (struct scaling_point){n, scaling_rate(&law, n) * (1 + share * noise(&state))};
        }
    }
}

static void check_within(double found, double wanted, double share, const char *what)
{
    if (fabs(found - wanted) > share * fabs(wanted))
        fail_msg("%s: found %g, wanted %g within %g", what, found, wanted, share);
}

static const double serials[] = {0.02, 0.05, 0.1, 0.2, 0.3, 0.5};

static void amdahl_is_recovered_exactly(void **state)
{
    struct scaling_fit fit;
    struct table t;

    (void)state;
    for (size_t i = 0; i < sizeof(serials) / sizeof(serials[0]); i++) {
        struct scaling_fit law = {.one = 180, .serial = serials[i]};

        make(&t, law, 4, 1, 0);
        assert_int_equal(scaling_fit_amdahl(t.points, t.len, &fit), 0);
        check_within(fit.serial, law.serial, 1e-6, "serial share");
        check_within(fit.one, law.one, 1e-6, "rate of one");
        assert_true(fit.error < 1e-6);
        assert_true(fit.coherency == 0);
    }
}

static void amdahl_is_recovered_through_noise(void **state)
{
    struct scaling_fit fit;
    struct table t;

    (void)state;
    for (size_t i = 0; i < sizeof(serials) / sizeof(serials[0]); i++) {
        struct scaling_fit law = {.one = 1500, .serial = serials[i]};

        make(&t, law, 32, 5, 0.05);
        assert_int_equal(scaling_fit_best(t.points, t.len, &fit), 0);
        check_within(fit.serial, law.serial, 0.1, "serial share");
        check_within(fit.one, law.one, 0.05, "rate of one");
    }
}

static const struct scaling_fit universal[] = {
    {.one = 900, .serial = 0.05, .coherency = 0.001},
    {.one = 900, .serial = 0.1, .coherency = 0.005},
    {.one = 900, .serial = 0.3, .coherency = 0.02},
};

static void the_universal_law_is_recovered(void **state)
{
    struct scaling_fit fit;
    struct table t;

    (void)state;
    for (size_t i = 0; i < sizeof(universal) / sizeof(universal[0]); i++) {
        make(&t, universal[i], 8, 1, 0);
        assert_int_equal(scaling_fit_usl(t.points, t.len, &fit), 0);
        check_within(fit.serial, universal[i].serial, 1e-6, "serial share");
        check_within(fit.coherency, universal[i].coherency, 1e-6, "coherency");
        make(&t, universal[i], 48, 5, 0.05);
        assert_int_equal(scaling_fit_best(t.points, t.len, &fit), 0);
        check_within(fit.serial, universal[i].serial, 0.1, "serial share through noise");
        check_within(fit.coherency, universal[i].coherency, 0.1, "coherency through noise");
    }
}

/* Faster than n times one, which noise can make it look: no share is negative. */
static void more_than_all_is_no_negative_share(void **state)
{
    struct table t = {.points = {{1, 100}, {2, 210}, {3, 320}, {4, 445}}, .len = 4};
    struct scaling_fit fit;

    (void)state;
    assert_int_equal(scaling_fit_amdahl(t.points, t.len, &fit), 0);
    assert_true(fit.serial == 0 && fit.one > 100);
    assert_int_equal(scaling_fit_usl(t.points, t.len, &fit), 0);
    assert_true(fit.serial == 0 && fit.coherency == 0 && fit.one > 100);
    assert_true(isinf(scaling_knee(&fit)) && isinf(scaling_limit(&fit)));
}

static void too_few_points_are_refused(void **state)
{
    struct table t = {.points = {{1, 100}, {1, 101}, {2, 190}, {2, 191}}, .len = 4};
    struct scaling_fit fit;

    (void)state;
    assert_int_equal(scaling_fit_amdahl(t.points, 2, &fit), -1);
    assert_int_equal(scaling_fit_best(t.points, 0, &fit), -1);
    assert_int_equal(scaling_fit_usl(t.points, t.len, &fit), -1);
    assert_int_equal(scaling_fit_best(t.points, t.len, &fit), 0);
}

static void knee_and_limit(void **state)
{
    struct scaling_fit amdahl = {.one = 100, .serial = 0.1};
    struct scaling_fit usl = {.one = 100, .serial = 0.19, .coherency = 0.01};

    (void)state;
    check_within(scaling_limit(&amdahl), 1000, 1e-9, "limit");
    check_within(scaling_knee(&amdahl), 9, 1e-9, "knee");
    check_within(scaling_rate(&amdahl, scaling_knee(&amdahl)), 500, 1e-9, "rate at the knee");
    check_within(scaling_knee(&usl), 9, 1e-9, "peak");
    assert_true(scaling_rate(&usl, 9) > scaling_rate(&usl, 8));
    assert_true(scaling_rate(&usl, 9) > scaling_rate(&usl, 10));
    check_within(scaling_limit(&usl), scaling_rate(&usl, 9), 1e-9, "limit at the peak");
}

static void runners_for_a_rate(void **state)
{
    struct scaling_fit fit = {.one = 100, .serial = 0.1};

    (void)state;
    assert_int_equal(scaling_runners_for(&fit, 90, 8), 1);
    assert_int_equal(scaling_runners_for(&fit, 180, 8), 2);
    assert_int_equal(scaling_runners_for(&fit, 182, 8), 3);
    assert_int_equal(scaling_runners_for(&fit, 900, 8), 0);
    assert_int_equal(scaling_runners_for(&fit, 900, 100), 81);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(amdahl_is_recovered_exactly),
        cmocka_unit_test(amdahl_is_recovered_through_noise),
        cmocka_unit_test(the_universal_law_is_recovered),
        cmocka_unit_test(more_than_all_is_no_negative_share),
        cmocka_unit_test(too_few_points_are_refused),
        cmocka_unit_test(knee_and_limit),
        cmocka_unit_test(runners_for_a_rate),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
