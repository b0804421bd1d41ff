/* The generic layer of broker.h over the memory backend: URLs that are refused, defaults, results
 * elsewhere or nowhere with its crash window, the trace, and the minute that tokens are kept. */
#include "tests/support/check.h"

#include "base/buf.h"
#include "broker/backend.h"

#include <stdio.h>
#include <unistd.h>

#define SUCCESS "{\"status\": \"SUCCESS\", \"result\": 1}"
#define RETRY   "{\"status\": \"RETRY\", \"result\": null}"

static const char *const queues[] = {"q"};

static struct broker *open_as(const struct clock_fake *clock, const char *url, const char *results,
                              const char *node)
{
    struct err e = ERR_INIT;
    struct broker_config config = {.url = url,
                                   .result_url = results,
                                   .node = node,
                                   .generation = 1,
                                   .queues = queues,
                                   .queues_len = 1,
                                   .lease_ms = 1000,
                                   .clock = &clock->base};
    struct broker *b = broker_open(&config, &e);

    if (!b)
        fail_msg("%s", e.text);
    return b;
}

/* The next event of that kind; everything before it is dropped. Memory answers at once. */
static struct broker_event expect(struct broker *b, enum broker_event_kind kind)
{
    struct broker_event event;

    for (int i = 0; i < 100; i++) {
        if (broker_poll(b, &event, 1) == 1 && event.kind == kind)
            return event;
    }
    fail_msg("no event of kind %d came", (int)kind);
    return event;
}

static struct broker_receipt deliver(struct broker *b)
{
    broker_credit(b, 1);
    return expect(b, BROKER_DELIVERED).receipt;
}

static void publish(struct broker *b, const char *token)
{
    struct broker_message m = {
        .tag = 7, .queue = slice_of("q"), .envelope = slice_of("{}"), .token = slice_of(token)};
    struct err e = ERR_INIT;

    CHECK_OK(broker_publish(b, &m, 1, &e));
    assert_int_equal(expect(b, BROKER_PUBLISHED).tag, 7);
}

static void totals_hold(struct broker *b, const char *piece)
{
    struct broker_ask question = {.tag = 9, .question = BROKER_ASK_TOTALS};
    struct err e = ERR_INIT;
    struct broker_event answer;

    CHECK_OK(broker_ask(b, &question, &e));
    answer = expect(b, BROKER_ANSWER);
    if (!strstr(answer.data.ptr, piece))
        fail_msg("%s is not in %.*s", piece, SLICE_ARG(answer.data));
}

static void bad_urls_are_named_with_their_cause(void **state)
{
    static const struct {
        const char *url;
        const char *piece;
    } rows[] = {
        {"", "no broker URL"},
        {"sqlit:/tmp/x", "did you mean \"sqlite\""},
        {"zebra://x", "unknown scheme \"zebra\""},
        {"rediss://:secret@h", "TLS"},
        {"disabled://", "can only be a result backend"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct err e = ERR_INIT;
        struct broker_config config = {.url = rows[i].url};

        assert_null(broker_open(&config, &e));
        assert_int_equal(e.code, ERR_USAGE);
        if (!strstr(e.text, rows[i].piece))
            fail_msg("'%s' does not hold '%s'", e.text, rows[i].piece);
        assert_null(strstr(e.text, "secret"));
    }
}

static void a_bad_result_url_is_called_one(void **state)
{
    struct err e = ERR_INIT;
    struct broker_config config = {.url = "memory:", .result_url = "zebra://x"};

    (void)state;
    assert_null(broker_open(&config, &e));
    assert_int_equal(e.code, ERR_USAGE);
    assert_non_null(strstr(e.text, "result backend"));
}

static void tokens_are_forgotten_after_a_minute(void **state)
{
    struct clock_fake clock;
    struct broker *b;

    (void)state;
    clock_fake_init(&clock, 1795000000000);
    b = open_as(&clock, "memory:", NULL, "n");
    publish(b, "t");
    clock_fake_advance(&clock, 59999);
    publish(b, "t");
    totals_hold(b, "\"published\":1,");
    clock_fake_advance(&clock, 1);
    publish(b, "t");
    totals_hold(b, "\"published\":2,");
    broker_close(b, true);
}

static void disabled_results_are_stored_nowhere(void **state)
{
    struct clock_fake clock;
    struct err e = ERR_INIT;
    struct slice id = slice_of("id");
    uint64_t tag = 3;
    struct broker *b;
    struct broker_finish finish = {
        .tag = 2, .result_id = slice_of("id"), .result = slice_of(SUCCESS)};

    (void)state;
    clock_fake_init(&clock, 1795000000000);
    b = open_as(&clock, "memory:", "disabled://", "n");
    assert_false(broker_caps(b) & BROKER_CAP_RESULTS);
    publish(b, NULL);
    finish.receipt = deliver(b);
    CHECK_OK(broker_finish(b, &finish, 1, &e));
    assert_int_equal(expect(b, BROKER_FINISHED).tag, 2);
    CHECK_OK(broker_result_get(b, &tag, &id, 1, &e));
    assert_null(expect(b, BROKER_RESULT).data.ptr);
    totals_hold(b, "\"succeeded\":1,");
    broker_close(b, true);
}

/* CRASH: after result stored elsewhere, before finish. The first holder is closed as if it had died
 * between the two steps: its result was stored, its delivery not finished. The redelivery wants to
 * retry and to start another job: the SUCCESS stays, the retry is dropped, the new job is kept. */
static void a_redelivery_finds_the_success_that_was_stored_elsewhere(void **state)
{
    struct broker_message followups[] = {
        {.queue = slice_of("q"), .envelope = slice_of("again"), .continues = true},
        {.queue = slice_of("q"), .envelope = slice_of("child")},
    };
    struct broker_finish retry = {.tag = 4,
                                  .outcome = BROKER_JOB_CONTINUES,
                                  .result_id = slice_of("id"),
                                  .result = slice_of(RETRY),
                                  .followups = followups,
                                  .followups_len = 2};
    struct broker_store stored = {.tag = 5, .id = slice_of("id"), .result = slice_of(SUCCESS)};
    struct clock_fake clock;
    struct err e = ERR_INIT;
    struct broker *first, *second;
    struct broker_event done;

    (void)state;
    clock_fake_init(&clock, 1795000000000);
    second = open_as(&clock, "memory:jobs", "memory:results", "b");
    first = open_as(&clock, "memory:jobs", "memory:results", "a");
    publish(first, NULL);
    deliver(first);
    CHECK_OK(broker_store(first, &stored, 1, &e));
    expect(first, BROKER_STORED);
    broker_close(first, false);

    clock_fake_advance(&clock, 1000);
    retry.receipt = deliver(second);
    CHECK_OK(broker_finish(second, &retry, 1, &e));
    done = expect(second, BROKER_FINISHED);
    assert_int_equal(done.tag, 4);
    assert_true(done.flags & BROKER_DUPLICATE);
    totals_hold(second, "{\"published\":2,\"succeeded\":1,\"failed\":0,\"retried\":0,\"dead\":0,"
                        "\"waiting\":1,");
    broker_credit(second, 1);
    done = expect(second, BROKER_DELIVERED);
    assert_true(slice_eq(done.data, slice_of("child")));
    broker_close(second, true);
}

/* A finish under way when the broker is closed is neither reported nor half done at the jobs. */
static void closing_during_a_split_finish_leaves_the_job(void **state)
{
    struct broker_finish finish = {
        .tag = 4, .result_id = slice_of("id"), .result = slice_of(SUCCESS)};
    struct clock_fake clock;
    struct err e = ERR_INIT;
    struct broker *keeper, *b;

    (void)state;
    clock_fake_init(&clock, 1795000000000);
    keeper = open_as(&clock, "memory:jobs", NULL, NULL);
    b = open_as(&clock, "memory:jobs", "memory:results", "a");
    publish(b, NULL);
    finish.receipt = deliver(b);
    CHECK_OK(broker_finish(b, &finish, 1, &e));
    broker_close(b, true);
    totals_hold(keeper, "\"waiting\":1,");
    broker_close(keeper, false);
}

static void a_continuation_must_match_its_outcome(void **state)
{
    struct broker_message on = {.queue = slice_of("q"), .continues = true};
    struct broker_finish finish = {.outcome = BROKER_JOB_CONTINUES};
    struct clock_fake clock;
    struct err e = ERR_INIT;
    struct broker *b;

    (void)state;
    clock_fake_init(&clock, 1795000000000);
    b = open_as(&clock, "memory:", NULL, "n");
    CHECK_ERR(broker_finish(b, &finish, 1, &e), ERR_BUG, "follow-ups that continue it");
    finish = (struct broker_finish){.followups = &on, .followups_len = 1};
    CHECK_ERR(broker_finish(b, &finish, 1, &e), ERR_BUG, "follow-ups that continue it");
    broker_close(b, true);
}

static void the_trace_tells_ops_and_events_but_no_contents(void **state)
{
    char text[8192] = "";
    int ends[2];
    struct log log;
    struct err e = ERR_INIT;
    struct broker_config config = {.url = "memory:", .trace = true, .log = &log};
    struct broker_message m = {
        .tag = 1, .queue = slice_of("q"), .envelope = slice_of("secret-body"), .id = slice_of("i")};
    struct broker *b;

    (void)state;
    assert_int_equal(pipe(ends), 0);
    log_init(&log, ends[1], LOG_LEVEL_DEBUG, "test");
    b = broker_open(&config, &e);
    assert_non_null(b);
    CHECK_OK(broker_publish(b, &m, 1, &e));
    expect(b, BROKER_PUBLISHED);
    broker_close(b, true);
    close(ends[1]);
    assert_true(read(ends[0], text, sizeof(text) - 1) > 0);
    close(ends[0]);
    assert_non_null(
        strstr(text, "broker op backend=memory op=publish tag=1 queue=q id=i bytes=11"));
    assert_non_null(strstr(text, "broker event backend=memory kind=published tag=1"));
    assert_null(strstr(text, "secret-body"));
}

/* Jobs at a broker that says of each claim what the test wants. */
struct scripted {
    struct broker base;
    struct broker_event event;
    bool told;
};

static int scripted_poll(struct broker *b, struct broker_event *events, int max)
{
    struct scripted *s = (struct scripted *)b;

    if (s->told || max < 1)
        return 0;
    s->told = true;
    events[0] = s->event;
    return 1;
}

static void scripted_close(struct broker *b, bool release_leases)
{
    (void)b;
    (void)release_leases;
}

/* A job that finds its own success goes on with what follows from it, if the broker says that it
 * may not have been sent: with results elsewhere too. */
static void split_keeps_what_a_claim_was_told(void **state)
{
    static const struct broker_ops ops = {
        .name = "scripted", .poll = scripted_poll, .close = scripted_close};
    struct scripted jobs = {.base.ops = &ops,
                            .event = {.kind = BROKER_CLAIMED,
                                      .flags = BROKER_DUPLICATE | BROKER_REDELIVERED,
                                      .tag = 5,
                                      .id = slice_of("mine")}};
    struct clock_fake clock;
    struct broker_event event;
    struct err e = ERR_INIT;
    struct broker *b;

    (void)state;
    clock_fake_init(&clock, 1795000000000);
    b = split_wrap(&jobs.base, open_as(&clock, "memory:", NULL, NULL), &e);
    event = expect(b, BROKER_CLAIMED);
    assert_int_equal(event.flags, BROKER_DUPLICATE | BROKER_REDELIVERED);
    assert_int_equal(event.tag, 5);
    assert_true(slice_is(event.id, "mine"));
    broker_close(b, false);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bad_urls_are_named_with_their_cause),
        cmocka_unit_test(a_bad_result_url_is_called_one),
        cmocka_unit_test(tokens_are_forgotten_after_a_minute),
        cmocka_unit_test(disabled_results_are_stored_nowhere),
        cmocka_unit_test(a_redelivery_finds_the_success_that_was_stored_elsewhere),
        cmocka_unit_test(closing_during_a_split_finish_leaves_the_job),
        cmocka_unit_test(a_continuation_must_match_its_outcome),
        cmocka_unit_test(the_trace_tells_ops_and_events_but_no_contents),
        cmocka_unit_test(split_keeps_what_a_claim_was_told),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
