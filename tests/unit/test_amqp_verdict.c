/* Which document is the result of a task: the rule over the records of its id. */
#include "tests/support/check.h"

#include "broker/amqp_verdict.h"

#define NOW               1795000000000
#define DOC(status, note) "{\"status\": \"" status "\", \"result\": \"" note "\"}"
#define DAY               86400000

struct step {
    enum amqp_result_outcome outcome;
    const char *doc;
    int64_t at_ms; /* after NOW */
    int64_t expires_ms;
    uint16_t flags;
};

/* Feeds the steps, as bytes, and returns what is the result `at_ms` after NOW. */
static void expect(const struct step *steps, size_t n, int64_t at_ms, const char *doc)
{
    struct amqp_verdict v;
    struct slice found;

    amqp_verdict_init(&v);
    for (size_t i = 0; i < n; i++) {
        struct amqp_result_record r = {.outcome = steps[i].outcome,
                                       .flags = steps[i].flags,
                                       .now_ms = NOW + steps[i].at_ms,
                                       .expires_ms = steps[i].expires_ms,
                                       .id = slice_of("id-1"),
                                       .doc = slice_of(steps[i].doc)};
        struct buf bytes = BUF_INIT;

        amqp_result_write(&bytes, &r);
        assert_false(bytes.failed);
        assert_true(amqp_result_read(&r, buf_slice(&bytes)));
        amqp_verdict_apply(&v, (int64_t)i, &r, DAY);
        buf_release(&bytes);
    }
    found = amqp_verdict_doc(&v, NOW + at_ms);
    if (doc)
        assert_true(slice_is(found, doc));
    else
        assert_null(found.ptr);
    amqp_verdict_release(&v);
}

#define EXPECT(at_ms, doc, ...)                                                                    \
    do {                                                                                           \
        const struct step steps_[] = {__VA_ARGS__};                                                \
        expect(steps_, sizeof(steps_) / sizeof(steps_[0]), at_ms, doc);                            \
    } while (0)

static void the_latest_state_counts(void **state)
{
    (void)state;
    expect(NULL, 0, 0, NULL);
    EXPECT(9, DOC("STARTED", ""), {AMQP_RESULT_STATE, DOC("STARTED", ""), 0, 0, 0});
    EXPECT(9, DOC("RETRY", ""), {AMQP_RESULT_STATE, DOC("STARTED", ""), 0, 0, 0},
           {AMQP_RESULT_CONTINUES, DOC("RETRY", ""), 1, 0, 0});
    EXPECT(9, DOC("FAILURE", "b"), {AMQP_RESULT_DEAD, DOC("FAILURE", "a"), 0, 0, 0},
           {AMQP_RESULT_REVIVED, NULL, 1, 0, 0}, {AMQP_RESULT_STATE, DOC("STARTED", ""), 2, 0, 0},
           {AMQP_RESULT_FAILED, DOC("FAILURE", "b"), 3, 0, 0});
}

static void the_first_success_stays(void **state)
{
    (void)state;
    EXPECT(9, DOC("SUCCESS", "a"), {AMQP_RESULT_FAILED, DOC("FAILURE", ""), 0, 0, 0},
           {AMQP_RESULT_SUCCEEDED, DOC("SUCCESS", "a"), 1, 0, 0},
           {AMQP_RESULT_SUCCEEDED, DOC("SUCCESS", "b"), 2, 0, 0},
           {AMQP_RESULT_FAILED, DOC("FAILURE", ""), 3, 0, 0},
           {AMQP_RESULT_STATE, DOC("STARTED", ""), 4, 0, 0});
}

static void what_was_forgotten_is_gone_until_said_anew(void **state)
{
    (void)state;
    EXPECT(9, NULL, {AMQP_RESULT_SUCCEEDED, DOC("SUCCESS", ""), 0, 0, 0},
           {AMQP_RESULT_FORGOTTEN, NULL, 1, 0, 0});
    EXPECT(9, DOC("FAILURE", ""), {AMQP_RESULT_SUCCEEDED, DOC("SUCCESS", ""), 0, 0, 0},
           {AMQP_RESULT_FORGOTTEN, NULL, 1, 0, 0},
           {AMQP_RESULT_FAILED, DOC("FAILURE", ""), 2, 0, 0});
}

static void documents_expire(void **state)
{
    (void)state;
    EXPECT(199, DOC("SUCCESS", ""), {AMQP_RESULT_SUCCEEDED, DOC("SUCCESS", ""), 0, 200, 0});
    EXPECT(200, NULL, {AMQP_RESULT_SUCCEEDED, DOC("SUCCESS", ""), 0, 200, 0});
    EXPECT(DAY - 1, DOC("SUCCESS", ""), {AMQP_RESULT_SUCCEEDED, DOC("SUCCESS", ""), 0, 0, 0});
    EXPECT(DAY, NULL, {AMQP_RESULT_SUCCEEDED, DOC("SUCCESS", ""), 0, 0, 0});
    EXPECT(400 * (int64_t)DAY, DOC("SUCCESS", ""),
           {AMQP_RESULT_SUCCEEDED, DOC("SUCCESS", ""), 0, -1, 0});
    EXPECT(9, DOC("SUCCESS", ""), {AMQP_RESULT_SUCCEEDED, DOC("SUCCESS", ""), 0, INT64_MAX, 0});
    /* A success whose time was over keeps nothing out. */
    EXPECT(301, DOC("FAILURE", ""), {AMQP_RESULT_SUCCEEDED, DOC("SUCCESS", ""), 0, 200, 0},
           {AMQP_RESULT_FAILED, DOC("FAILURE", ""), 300, 0, 0});
}

static void some_records_say_nothing(void **state)
{
    (void)state;
    EXPECT(9, NULL, {AMQP_RESULT_SUCCEEDED, NULL, 0, 0, 0},
           {AMQP_RESULT_SUCCEEDED, DOC("SUCCESS", ""), 1, 0, AMQP_RESULT_UNTOLD},
           {AMQP_RESULT_PURGED, NULL, 2, 0, 0}, {AMQP_RESULT_SYNC, NULL, 3, 0, 0});
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_latest_state_counts),
        cmocka_unit_test(the_first_success_stays),
        cmocka_unit_test(what_was_forgotten_is_gone_until_said_anew),
        cmocka_unit_test(documents_expire),
        cmocka_unit_test(some_records_say_nothing),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
