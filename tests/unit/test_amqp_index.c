/* Which runs have ended: the first end of (id, retries) counts. */
#include "broker/amqp_index.h"
#include "tests/support/check.h"

#include <stdio.h>
#include <stdlib.h>

#define DAY ((int64_t)1795225702848)

struct desk {
    struct amqp_index *index;
    int64_t offset, now_ms;
    uint32_t count;
};

static int open_with(void **state, int64_t window_ms, size_t max)
{
    struct desk *d = calloc(1, sizeof(*d));

    assert_non_null(d);
    d->index = amqp_index_new(&(struct amqp_index_config){.window_ms = window_ms, .max = max});
    assert_non_null(d->index);
    d->now_ms = DAY;
    *state = d;
    return 0;
}

static int desk_open(void **state)
{
    return open_with(state, 0, 0);
}

static int small_open(void **state)
{
    return open_with(state, 60000, 1000);
}

static int desk_close(void **state)
{
    struct desk *d = *state;

    amqp_index_free(d->index);
    free(d);
    return 0;
}

static bool feed(struct desk *d, enum amqp_result_outcome outcome, const char *id, uint32_t retries)
{
    struct amqp_result_record r = {.outcome = outcome,
                                   .retries = retries,
                                   .now_ms = d->now_ms,
                                   .id = slice_of(id),
                                   .count = d->count};
    struct err e = ERR_INIT;
    bool counted;

    CHECK_OK(amqp_index_apply(d->index, d->offset++, &r, &counted, &e));
    return counted;
}

static bool has(struct desk *d, const char *id, uint32_t retries)
{
    return amqp_index_find(d->index, slice_of(id), retries, NULL);
}

static struct amqp_index_counters counters(struct desk *d)
{
    struct amqp_index_counters c;

    amqp_index_counters(d->index, &c);
    return c;
}

static void the_first_end_counts(void **state)
{
    struct desk *d = *state;
    struct amqp_index_entry entry;

    assert_false(has(d, "a", 0));
    assert_true(feed(d, AMQP_RESULT_SUCCEEDED, "a", 0));
    d->now_ms += 10;
    assert_false(feed(d, AMQP_RESULT_FAILED, "a", 0));
    assert_false(feed(d, AMQP_RESULT_SUCCEEDED, "a", 0));
    assert_true(amqp_index_find(d->index, slice_of("a"), 0, &entry));
    assert_int_equal(entry.outcome, AMQP_RESULT_SUCCEEDED);
    assert_int_equal(entry.offset, 0);
    assert_int_equal(entry.at_ms, DAY);
    assert_int_equal(counters(d).succeeded, 1);
    assert_int_equal(counters(d).failed, 0);
    assert_int_equal(counters(d).duplicates, 2);
}

static void each_retry_ends_on_its_own(void **state)
{
    struct desk *d = *state;

    assert_true(feed(d, AMQP_RESULT_CONTINUES, "a", 0));
    assert_true(feed(d, AMQP_RESULT_CONTINUES, "a", 1));
    assert_false(has(d, "a", 2));
    assert_false(feed(d, AMQP_RESULT_CONTINUES, "a", 1));
    assert_true(feed(d, AMQP_RESULT_FAILED, "a", 2));
    assert_true(feed(d, AMQP_RESULT_DEAD, "b", 0));
    assert_true(has(d, "a", 0) && has(d, "a", 1) && has(d, "a", 2) && has(d, "b", 0));
    assert_int_equal(counters(d).retried, 2);
    assert_int_equal(counters(d).failed, 1);
    assert_int_equal(counters(d).dead, 1);
    assert_int_equal(counters(d).duplicates, 1);
}

static void what_ends_nothing_counts_nothing(void **state)
{
    struct desk *d = *state;

    assert_false(feed(d, AMQP_RESULT_STATE, "a", 0));
    assert_false(feed(d, AMQP_RESULT_FORGOTTEN, "a", 0));
    assert_false(feed(d, AMQP_RESULT_SYNC, "", 0));
    assert_false(has(d, "a", 0));
    assert_true(feed(d, AMQP_RESULT_SUCCEEDED, "a", 0));
    assert_false(feed(d, AMQP_RESULT_FORGOTTEN, "a", 0));
    assert_true(has(d, "a", 0));
    assert_int_equal(amqp_index_len(d->index), 1);
    assert_int_equal(counters(d).duplicates, 0);
}

static void the_dead_that_were_sent_again_may_end_again(void **state)
{
    struct desk *d = *state;

    assert_true(feed(d, AMQP_RESULT_DEAD, "a", 3));
    assert_false(feed(d, AMQP_RESULT_REVIVED, "a", 3));
    assert_false(has(d, "a", 3));
    assert_int_equal(counters(d).revived, 1);
    /* A second confirm of the same step. */
    assert_false(feed(d, AMQP_RESULT_REVIVED, "a", 3));
    assert_int_equal(counters(d).revived, 1);
    assert_true(feed(d, AMQP_RESULT_SUCCEEDED, "a", 3));
    assert_false(feed(d, AMQP_RESULT_REVIVED, "a", 3));
    assert_true(has(d, "a", 3));
    assert_int_equal(counters(d).revived, 1);
    assert_int_equal(counters(d).succeeded, 1);
    /* Buried so long ago that nobody remembers. */
    assert_false(feed(d, AMQP_RESULT_REVIVED, "long ago", 0));
    assert_int_equal(counters(d).revived, 2);
}

static void what_operators_removed_is_counted(void **state)
{
    struct desk *d = *state;

    d->count = 7;
    feed(d, AMQP_RESULT_PURGED, "", 0);
    d->count = 2;
    feed(d, AMQP_RESULT_REMOVED, "", 0);
    assert_int_equal(counters(d).purged, 7);
    assert_int_equal(counters(d).failed, 7);
    assert_int_equal(counters(d).removed, 2);
}

static void a_pair_is_forgotten_after_the_window(void **state)
{
    struct desk *d = *state;

    feed(d, AMQP_RESULT_SUCCEEDED, "a", 0);
    d->now_ms += 3600000;
    feed(d, AMQP_RESULT_STATE, "x", 0);
    assert_true(has(d, "a", 0));
    d->now_ms++;
    feed(d, AMQP_RESULT_STATE, "x", 0);
    assert_false(has(d, "a", 0));
    assert_true(feed(d, AMQP_RESULT_SUCCEEDED, "a", 0));
    assert_int_equal(counters(d).succeeded, 2);
    d->now_ms -= 3000000;
    feed(d, AMQP_RESULT_STATE, "x", 0);
    assert_int_equal(amqp_index_time(d->index), DAY + 3600001);
}

static void an_offset_is_applied_once(void **state)
{
    struct desk *d = *state;

    assert_true(feed(d, AMQP_RESULT_SUCCEEDED, "a", 0));
    d->offset = 0;
    assert_false(feed(d, AMQP_RESULT_SUCCEEDED, "b", 0));
    assert_false(has(d, "b", 0));
    assert_int_equal(amqp_index_next(d->index), 1);
    amqp_index_reset(d->index);
    assert_false(has(d, "a", 0));
    assert_int_equal(amqp_index_next(d->index), 0);
}

static void memory_is_bounded(void **state)
{
    struct desk *d = *state;
    char id[20];

    for (int i = 0; i < 10000; i++) {
        snprintf(id, sizeof(id), "%d", i);
        assert_true(feed(d, AMQP_RESULT_SUCCEEDED, id, 0));
        assert_true(amqp_index_len(d->index) <= 1000);
    }
    assert_int_equal(amqp_index_evicted(d->index), 9000);
    for (int i = 0; i < 10000; i++) {
        snprintf(id, sizeof(id), "%d", i);
        assert_int_equal(has(d, id, 0), i >= 9000);
    }
    d->now_ms += 60001;
    for (int i = 0; i < 250; i++)
        feed(d, AMQP_RESULT_STATE, "x", 0);
    assert_int_equal(amqp_index_len(d->index), 0);
    assert_int_equal(counters(d).succeeded, 10000);
}

/* Against a plain array: pairs end, are revived, forgotten and pushed out in random order. */
static void agrees_with_an_array(void **state)
{
    enum { PAIRS = 3000 };
    struct desk *d = *state;
    struct {
        enum amqp_result_outcome outcome;
        int64_t at_ms;
    } want[PAIRS] = {{0}};
    uint64_t random = 88172645463325252u;
    char id[20];

    for (int i = 0; i < 200000; i++) {
        enum amqp_result_outcome outcome;
        bool counts;
        size_t n;

        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        n = random % PAIRS;
        outcome = random >> 32 & 1 ? AMQP_RESULT_DEAD : AMQP_RESULT_REVIVED;
        d->now_ms += (int64_t)(random >> 40 & 255);
        snprintf(id, sizeof(id), "%zu", n / 2);
        counts = outcome == AMQP_RESULT_DEAD &&
                 (want[n].outcome != AMQP_RESULT_DEAD || d->now_ms - want[n].at_ms > 60000);
        assert_int_equal(feed(d, outcome, id, (uint32_t)n % 2), counts);
        if (counts || outcome == AMQP_RESULT_REVIVED) {
            want[n].outcome = outcome;
            want[n].at_ms = d->now_ms;
        }
        assert_int_equal(has(d, id, (uint32_t)n % 2), want[n].outcome == AMQP_RESULT_DEAD);
    }
    assert_int_equal(amqp_index_evicted(d->index), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(the_first_end_counts, desk_open, desk_close),
        cmocka_unit_test_setup_teardown(each_retry_ends_on_its_own, desk_open, desk_close),
        cmocka_unit_test_setup_teardown(what_ends_nothing_counts_nothing, desk_open, desk_close),
        cmocka_unit_test_setup_teardown(the_dead_that_were_sent_again_may_end_again, desk_open,
                                        desk_close),
        cmocka_unit_test_setup_teardown(what_operators_removed_is_counted, desk_open, desk_close),
        cmocka_unit_test_setup_teardown(a_pair_is_forgotten_after_the_window, desk_open,
                                        desk_close),
        cmocka_unit_test_setup_teardown(an_offset_is_applied_once, desk_open, desk_close),
        cmocka_unit_test_setup_teardown(memory_is_bounded, small_open, desk_close),
        cmocka_unit_test_setup_teardown(agrees_with_an_array, small_open, desk_close),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
