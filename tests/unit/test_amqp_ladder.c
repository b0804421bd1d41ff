/* Plans for delays, and the topology that they need: compared with what kombu declares. */
#include "broker/amqp_ladder.h"
#include "tests/support/check.h"

#include <stdio.h>

#define SECOND 1000LL
#define NOW    1795225616016LL

static struct amqp_delay plan(int64_t delay_ms)
{
    struct err e = ERR_INIT;
    struct amqp_delay p;

    CHECK_OK(amqp_delay_plan(&p, NOW + delay_ms, NOW, slice_of("q.a"), &e));
    return p;
}

static void what_is_due_goes_at_once(void **state)
{
    static const int64_t delays[] = {0, -1, -NOW, INT64_MIN / 4};

    (void)state;
    for (size_t i = 0; i < sizeof(delays) / sizeof(delays[0]); i++) {
        struct amqp_delay p = plan(delays[i]);

        assert_int_equal(p.kind, AMQP_DELAY_NONE);
        assert_int_equal(p.delay_ms, 0);
        assert_string_equal(p.exchange, "");
        assert_string_equal(p.routing_key, "q.a");
    }
}

static void round_delays_take_a_step(void **state)
{
    static const struct {
        int delay_ms;
        const char *exchange;
    } rows[] = {
        {1, "celeriac.delay.250"},           {250, "celeriac.delay.250"},
        {251, "celeriac.delay.500"},         {1001, "celeriac.delay.1500"},
        {2000, "celeriac.delay.2000"},       {3950, "celeriac.delay.4000"},
        {180000, "celeriac.delay.180000"},   {176400, "celeriac.delay.180000"},
        {3600000, "celeriac.delay.3600000"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct amqp_delay p = plan(rows[i].delay_ms);

        assert_int_equal(p.kind, AMQP_DELAY_STEP);
        assert_string_equal(p.exchange, rows[i].exchange);
        assert_string_equal(p.routing_key, "q.a");
        assert_true(p.delay_ms >= rows[i].delay_ms);
        assert_int_equal(p.delay_ms, amqp_step_ms(p.step));
    }
}

static void others_take_the_ladder(void **state)
{
    struct amqp_delay p;

    (void)state;
    p = plan(5 * SECOND + 1);
    assert_int_equal(p.kind, AMQP_DELAY_LADDER);
    assert_int_equal(p.step, -1);
    assert_int_equal(p.delay_ms, 6 * SECOND);
    assert_string_equal(p.exchange, "celery_delayed_2");
    assert_string_equal(p.routing_key,
                        "0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.1.1.0.q.a");
    p = plan(AMQP_LADDER_MAX_S * SECOND);
    assert_string_equal(p.exchange, "celery_delayed_27");
    assert_string_equal(p.routing_key,
                        "1.1.1.1.1.1.1.1.1.1.1.1.1.1.1.1.1.1.1.1.1.1.1.1.1.1.1.1.q.a");
    p = plan(7001 * SECOND - 999);
    assert_int_equal(p.delay_ms, 7001 * SECOND);
    assert_string_equal(p.exchange, "celery_delayed_12");
}

/* Never early, and late by less than the promise, for every delay of the first minutes. */
static void never_early(void **state)
{
    (void)state;
    for (int64_t ms = 1; ms < 700 * SECOND; ms += 7) {
        struct amqp_delay p = plan(ms);
        int64_t late_ms = p.delay_ms - ms, most_ms = ms / 50 > 1000 ? ms / 40 : 1000;

        assert_true(late_ms >= 0 && late_ms <= most_ms);
        if (p.kind == AMQP_DELAY_LADDER) {
            int64_t seconds = 0;

            for (int i = 0; i < AMQP_LADDER_LEVELS; i++)
                seconds = seconds << 1 | (p.routing_key[2 * i] - '0');
            assert_int_equal(seconds * SECOND, p.delay_ms);
        }
    }
}

static void what_does_not_fit_is_refused(void **state)
{
    struct err e = ERR_INIT;
    struct amqp_delay p;
    char name[257];

    (void)state;
    memset(name, 'q', sizeof(name));
    CHECK_ERR(amqp_delay_plan(&p, NOW + (AMQP_LADDER_MAX_S + 1) * SECOND, NOW, slice_of("q"), &e),
              ERR_USAGE, "268435455 seconds");
    CHECK_ERR(amqp_delay_plan(&p, INT64_MAX, 0, slice_of("q"), &e), ERR_USAGE, "268435455 seconds");
    CHECK_ERR(amqp_delay_plan(&p, NOW, NOW, slice_of(""), &e), ERR_USAGE, "1 to 255 bytes");
    CHECK_ERR(amqp_delay_plan(&p, NOW, NOW, slice_make(name, 256), &e), ERR_USAGE, "1 to 255");
}

static void a_queue_name_leaves_room_for_the_levels(void **state)
{
    struct err e = ERR_INIT;
    struct amqp_delay p;
    char name[257];

    (void)state;
    memset(name, 'q', sizeof(name));
    CHECK_OK(amqp_delay_plan(&p, NOW + 1, NOW, slice_make(name, 255), &e));
    assert_int_equal(strlen(p.routing_key), 255);
    CHECK_OK(amqp_delay_plan(&p, NOW + 7000 * SECOND, NOW, slice_make(name, 199), &e));
    assert_int_equal(strlen(p.routing_key), 255);
    CHECK_ERR(amqp_delay_plan(&p, NOW + 7000 * SECOND, NOW, slice_make(name, 200), &e), ERR_USAGE,
              "1 to 199");
    CHECK_ERR(amqp_delay_plan(&p, NOW + 7000 * SECOND, NOW, slice_of("a.#.b"), &e), ERR_USAGE,
              "no word");
    CHECK_OK(amqp_delay_plan(&p, NOW + 2000, NOW, slice_of("a.#.b"), &e));
}

static void what_cannot_be_bound_is_refused(void **state)
{
    struct err e = ERR_INIT;
    struct amqp_declare d;
    char name[257];

    (void)state;
    memset(name, 'q', sizeof(name));
    CHECK_OK(amqp_ladder_binding(&d, slice_make(name, 199), &e));
    CHECK_ERR(amqp_ladder_binding(&d, slice_make(name, 200), &e), ERR_USAGE, "1 to 199");
    CHECK_ERR(amqp_ladder_binding(&d, slice_of("a.*"), &e), ERR_USAGE, "a.*");
    CHECK_ERR(amqp_ladder_binding(&d, slice_of("#"), &e), ERR_USAGE, "no word");
    CHECK_ERR(amqp_ladder_binding(&d, slice_of("*.b"), &e), ERR_USAGE, "no word");
    CHECK_OK(amqp_ladder_binding(&d, slice_of("a*.b#"), &e));
}

static void digits_are_taken_off(void **state)
{
    struct amqp_delay p = plan(7 * SECOND);

    (void)state;
    assert_true(slice_is(amqp_ladder_destination(slice_of(p.routing_key)), "q.a"));
    assert_true(slice_is(amqp_ladder_destination(slice_of("q.a")), "q.a"));
    assert_true(slice_is(amqp_ladder_destination(slice_of("")), ""));
    p.routing_key[2] = '2';
    assert_true(slice_is(amqp_ladder_destination(slice_of(p.routing_key)), p.routing_key));
    p.routing_key[2] = '0';
    p.routing_key[AMQP_LADDER_DIGITS - 1] = '-';
    assert_true(slice_is(amqp_ladder_destination(slice_of(p.routing_key)), p.routing_key));
}

static const char *argument(const struct amqp_declare *d, const char *name)
{
    static char text[64];
    struct slice value = {"", 0};
    int64_t number;

    if (amqp_value_integer(amqp_table_get(&d->arguments, name), &number)) {
        snprintf(text, sizeof(text), "%lld", (long long)number);
        return text;
    }
    if (!amqp_value_text(amqp_table_get(&d->arguments, name), &value))
        return "none";
    snprintf(text, sizeof(text), "%.*s", SLICE_ARG(value));
    return text;
}

/* What somebody who reads the list aloud would say. */
static void tell(const struct amqp_declare *d, char *to, size_t size)
{
    static const char *const words[] = {"exchange", "queue", "bind-queue", "bind-exchange"};

    snprintf(to, size, "%s %.*s %.*s %.*s %.*s", words[d->kind], SLICE_ARG(d->name),
             SLICE_ARG(d->type), SLICE_ARG(d->source), SLICE_ARG(d->key));
}

static void assert_told(int n, const char *want)
{
    struct amqp_declare d;
    char text[700];

    assert_true(amqp_ladder_topology(&d, n, AMQP_QUORUM));
    tell(&d, text, sizeof(text));
    assert_string_equal(text, want);
}

static void ladder_is_kombus(void **state)
{
    struct amqp_declare d;
    int count = 0;

    (void)state;
    assert_told(0, "exchange celery_delayed_27 topic  ");
    assert_told(1, "queue celery_delayed_27   ");
    assert_told(2, "bind-queue celery_delayed_27  celery_delayed_27 1.#");
    assert_told(5, "bind-queue celery_delayed_26  celery_delayed_26 *.1.#");
    assert_told(83, "bind-queue celery_delayed_0  celery_delayed_0 "
                    "*.*.*.*.*.*.*.*.*.*.*.*.*.*.*.*.*.*.*.*.*.*.*.*.*.*.*.1.#");
    assert_told(84, "exchange celery_delayed_delivery topic  ");
    assert_told(85, "bind-exchange celery_delayed_26  celery_delayed_27 0.#");
    assert_told(86, "bind-exchange celery_delayed_25  celery_delayed_26 *.0.#");
    assert_told(112, "bind-exchange celery_delayed_delivery  celery_delayed_0 "
                     "*.*.*.*.*.*.*.*.*.*.*.*.*.*.*.*.*.*.*.*.*.*.*.*.*.*.*.0.#");
    while (amqp_ladder_topology(&d, count, AMQP_QUORUM))
        count++;
    assert_int_equal(count, 113);
    assert_false(amqp_ladder_topology(&d, -1, AMQP_QUORUM));
}

static void ladder_queues_have_kombus_arguments(void **state)
{
    struct amqp_declare d;

    (void)state;
    assert_true(amqp_ladder_topology(&d, 1, AMQP_QUORUM));
    assert_int_equal(d.arguments.num_entries, 5);
    assert_string_equal(argument(&d, "x-queue-type"), "quorum");
    assert_string_equal(argument(&d, "x-overflow"), "reject-publish");
    assert_string_equal(argument(&d, "x-message-ttl"), "134217728000");
    assert_string_equal(argument(&d, "x-dead-letter-exchange"), "celery_delayed_26");
    assert_string_equal(argument(&d, "x-dead-letter-strategy"), "at-least-once");
    assert_true(amqp_ladder_topology(&d, 82, AMQP_CLASSIC));
    assert_int_equal(d.arguments.num_entries, 4);
    assert_string_equal(argument(&d, "x-queue-type"), "classic");
    assert_string_equal(argument(&d, "x-message-ttl"), "1000");
    assert_string_equal(argument(&d, "x-dead-letter-exchange"), "celery_delayed_delivery");
}

static void steps_are_declared(void **state)
{
    struct amqp_declare d;
    char text[700];
    int steps = 0;

    (void)state;
    assert_true(amqp_step_topology(&d, 0, 2, AMQP_QUORUM));
    tell(&d, text, sizeof(text));
    assert_string_equal(text, "exchange celeriac.delay.1000 fanout  ");
    assert_true(amqp_step_topology(&d, 1, 2, AMQP_QUORUM));
    assert_string_equal(argument(&d, "x-message-ttl"), "1000");
    assert_string_equal(argument(&d, "x-dead-letter-exchange"), "");
    assert_string_equal(argument(&d, "x-expires"), "none");
    assert_true(amqp_step_topology(&d, 2, 2, AMQP_QUORUM));
    tell(&d, text, sizeof(text));
    assert_string_equal(text, "bind-queue celeriac.delay.1000  celeriac.delay.1000 ");
    assert_false(amqp_step_topology(&d, 3, 2, AMQP_QUORUM));
    assert_false(amqp_step_topology(&d, 0, -1, AMQP_QUORUM));
    while (amqp_step_ms(steps)) {
        assert_true(steps == 0 || amqp_step_ms(steps) > amqp_step_ms(steps - 1));
        steps++;
    }
    assert_false(amqp_step_topology(&d, 0, steps, AMQP_QUORUM));
    assert_int_equal(amqp_step_ms(-1), 0);
}

static void destination_is_bound_by_its_whole_name(void **state)
{
    struct err e = ERR_INIT;
    struct amqp_declare d;
    char text[700];

    (void)state;
    CHECK_OK(amqp_ladder_binding(&d, slice_of("q.a"), &e));
    tell(&d, text, sizeof(text));
    assert_string_equal(text, "bind-queue q.a  celery_delayed_delivery "
                              "*.*.*.*.*.*.*.*.*.*.*.*.*.*.*.*.*.*.*.*.*.*.*.*.*.*.*.*.q.a");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_due_goes_at_once),
        cmocka_unit_test(round_delays_take_a_step),
        cmocka_unit_test(others_take_the_ladder),
        cmocka_unit_test(never_early),
        cmocka_unit_test(what_does_not_fit_is_refused),
        cmocka_unit_test(a_queue_name_leaves_room_for_the_levels),
        cmocka_unit_test(what_cannot_be_bound_is_refused),
        cmocka_unit_test(digits_are_taken_off),
        cmocka_unit_test(ladder_is_kombus),
        cmocka_unit_test(ladder_queues_have_kombus_arguments),
        cmocka_unit_test(steps_are_declared),
        cmocka_unit_test(destination_is_bound_by_its_whole_name),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
