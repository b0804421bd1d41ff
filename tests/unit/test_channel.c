/* The codecs between our processes, and the table of jobs in flight. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "worker/channel.h"
#include "worker/inflight.h"

/* Hands the only frame of an output buffer to a reader as if it had travelled. */
static struct slice payload_of(struct frame_link *link)
{
    struct slice all = buf_slice(&link->out);

    return slice_make(all.ptr + 16, all.len - 16);
}

static void a_job_survives_the_channel(void **state)
{
    struct channel_run run = {.delivered_us = 5,
                              .fence = 9,
                              .attempt = 2,
                              .soft_limit_s = 1.5,
                              .hard_limit_s = 3,
                              .measured = 1,
                              .first_id = slice_of("first"),
                              .envelope = slice_of("{}")};
    struct channel_run got;
    struct frame_link link;
    struct err e = ERR_INIT;

    (void)state;
    frame_link_init(&link, -1);
    channel_put_run(&link, 77, &run);
    assert_int_equal(channel_get_run(payload_of(&link), &got, &e), 0);
    assert_int_equal(got.fence, 9);
    assert_int_equal(got.attempt, 2);
    assert_true(got.soft_limit_s == 1.5 && got.hard_limit_s == 3 && got.measured == 1);
    assert_true(slice_is(got.envelope, "{}"));
    assert_true(slice_is(got.first_id, "first"));
    assert_null(got.first.ptr);
    assert_int_equal(channel_get_run(slice_make("abc", 3), &got, &e), -1);
    frame_link_release(&link);
}

static void a_verdict_keeps_absent_and_empty_apart(void **state)
{
    struct buf followups = BUF_INIT;
    struct channel_followup f = {slice_of("q"), slice_of("id"), slice_of("{e}"), 12, 3, 1}, out;
    struct channel_verdict v = {
        .outcome = CHANNEL_RETRY, .run_us = 4, .cause = slice_of(""), .followups_len = 2};
    struct channel_verdict got;
    struct frame_link link;
    struct err e = ERR_INIT;

    (void)state;
    channel_put_followup(&followups, &f);
    channel_put_followup(&followups, &f);
    v.followups = buf_slice(&followups);
    frame_link_init(&link, -1);
    channel_put_verdict(&link, 1, &v);
    assert_int_equal(channel_get_verdict(payload_of(&link), &got, &e), 0);
    assert_int_equal(got.outcome, CHANNEL_RETRY);
    assert_null(got.result.ptr);
    assert_non_null(got.cause.ptr);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(channel_next_followup(&got.followups, &out), 1);
        assert_true(slice_is(out.queue, "q") && slice_is(out.envelope, "{e}"));
        assert_int_equal(out.not_before_ms, 12);
        assert_int_equal(out.priority, 3);
    }
    assert_int_equal(channel_next_followup(&got.followups, &out), 0);
    got.followups = slice_make("xx", 2);
    assert_int_equal(channel_next_followup(&got.followups, &out), -1);
    frame_link_release(&link);
    buf_release(&followups);
}

static void an_unknown_outcome_is_refused(void **state)
{
    char bytes[64] = {99};
    struct channel_verdict got;
    struct err e = ERR_INIT;

    (void)state;
    assert_int_equal(channel_get_verdict(slice_make(bytes, sizeof(bytes)), &got, &e), -1);
    assert_int_equal(e.code, ERR_BUG);
}

static void a_time_that_no_clock_shows_is_refused(void **state)
{
    static const struct channel_verdict wrong[] = {
        {.run_us = CHANNEL_US_MAX + 1}, {.run_us = -2}, {.dispatched_us = INT64_MAX}};

    (void)state;
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        struct channel_verdict got;
        struct frame_link link;
        struct err e = ERR_INIT;

        frame_link_init(&link, -1);
        channel_put_verdict(&link, 1, &wrong[i]);
        assert_int_equal(channel_get_verdict(payload_of(&link), &got, &e), -1);
        assert_int_equal(e.code, ERR_BUG);
        frame_link_release(&link);
    }
}

static void job_numbers_are_found_once_and_never_reused(void **state)
{
    struct inflight t;
    uint64_t oldest;
    struct job *keep;

    (void)state;
    inflight_init(&t);
    keep = inflight_new(&t, slice_of("{}"));
    oldest = keep->number;
    for (int i = 0; i < 5000; i++) {
        struct job *job = inflight_new(&t, slice_of("{}"));
        uint64_t number = job->number;

        assert_ptr_equal(inflight_find(&t, number), job);
        if (i % 10) {
            inflight_free(&t, job);
            assert_null(inflight_find(&t, number));
        }
    }
    assert_ptr_equal(inflight_find(&t, oldest), keep);
    assert_int_equal(t.len, 501);
    inflight_release(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_job_survives_the_channel),
        cmocka_unit_test(a_verdict_keeps_absent_and_empty_apart),
        cmocka_unit_test(an_unknown_outcome_is_refused),
        cmocka_unit_test(a_time_that_no_clock_shows_is_refused),
        cmocka_unit_test(job_numbers_are_found_once_and_never_reused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
