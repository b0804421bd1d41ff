/* Deliveries on RabbitMQ that are no plain ones: acknowledged early, sent twice, looked up in a
 * stream that was made anew. */
#include "contract.h"

#include "broker/amqp.h"
#include "broker/amqp_reader.h"
#include "tests/support/rabbitmq_server.h"

#include <stdio.h>
#include <string.h>

/* Much longer than a reading stands still before it begins anew. */
#define STUCK_MS 30000
#define AGAIN    ", \"celeriac_again\": true"
/* A task of Celery's form whose id the backend can see. %s: the id, further headers. */
#define TASK                                                                                       \
    "{\"body\": \"W10=\", \"content-type\": \"application/json\", \"content-encoding\": "          \
    "\"utf-8\", \"headers\": {\"id\": \"%s\", \"task\": \"t\", \"retries\": 0%s}, "                \
    "\"properties\": {\"body_encoding\": \"base64\", \"delivery_mode\": 2}}"

static struct contract_env *new_env(const char *url)
{
    struct contract_env *env = calloc(1, sizeof(*env));

    assert_non_null(env);
    env->backend = "amqp";
    env->durable = true;
    env->clock = clock_system();
    snprintf(env->url, sizeof(env->url), "%s", url);
    return env;
}

static int set_up(void **state)
{
    char url[200];

    assert_int_equal(rabbitmq_fresh_url(url, sizeof(url)), 0);
    *state = new_env(url);
    return 0;
}

/* Deliveries are acknowledged early after one second. */
static int set_up_early(void **state)
{
    int rc = set_up(state);
    struct contract_env *env = *state;

    snprintf(env->url + strlen(env->url), sizeof(env->url) - strlen(env->url),
             "?consumer_timeout=2");
    return rc;
}

static int tear_down(void **state)
{
    struct contract_env *env = *state;

    while (env->peers_len)
        peer_close(env->peers[0], false);
    free(env);
    return 0;
}

static void put_task(struct peer *p, const char *id, const char *headers)
{
    char text[600];

    snprintf(text, sizeof(text), TASK, id, headers);
    put(p, "celery", text);
}

static void expect(struct peer *p, enum broker_event_kind kind, uint64_t tag)
{
    struct seen s = peer_expect(p, kind, tag);

    seen_free(&s);
}

static void wait_for_aside(struct peer *p)
{
    for (int i = 0; i < 1000 && amqp_of(p->b)->aside.len == 0; i++)
        env_pass(p->env, 10);
    assert_int_equal(amqp_of(p->b)->aside.len, 1);
}

/* --- acknowledged early --- */

/* The message that it goes on as comes here while the first one still waits for its confirmation.
 */
static void one_that_is_handed_back_comes_again(void **state)
{
    struct peer *p = peer_open(*state, "w", 1);
    struct broker_release r = {.tag = ++p->last_tag};
    struct seen job;

    put_task(p, "first", "");
    job = take(p);
    wait_for_aside(p);
    broker_credit(p->b, 1);
    env_pass(*state, 200); /* the consumer is there again */
    r.receipt = job.receipt;
    assert_int_equal(broker_release(p->b, &r, 1, NULL), 0);
    expect(p, BROKER_RELEASED, r.tag);
    seen_free(&job);
    job = peer_expect(p, BROKER_DELIVERED, ANY_TAG);
    finish_ok(p, &job);
    seen_free(&job);
    assert_int_equal(total(p, "succeeded"), 1);
}

/* A second copy of a message waits for the first one, and goes when that has a copy in the broker.
 */
static void a_twin_of_a_long_job_does_not_run(void **state)
{
    struct peer *p = peer_open(*state, "w", 1);
    struct seen job;

    put_task(p, "first", "");
    put_task(p, "first", AGAIN);
    broker_credit(p->b, 2);
    job = peer_expect(p, BROKER_DELIVERED, ANY_TAG);
    wait_for_aside(p);
    assert_false(peer_sees(p, BROKER_DELIVERED, ANY_TAG, 1500));
    finish_ok(p, &job);
    seen_free(&job);
    assert_int_equal(total(p, "succeeded"), 1);
    assert_int_equal(total(p, "waiting"), 0);
}

/* Where the two ends of a long job stand in the stream; -1: not seen. */
static int64_t job_ends_at, copies_end_at;

static void see_end(struct amqp_broker *b, struct amqp_reader *r, int64_t offset,
                    struct slice bytes)
{
    struct amqp_result_record record;

    (void)b;
    (void)r;
    assert_true(amqp_result_read(&record, bytes));
    if (record.outcome == AMQP_RESULT_SUCCEEDED)
        job_ends_at = offset;
    if (record.flags & AMQP_RESULT_UNCOUNTED)
        copies_end_at = offset;
}

/* Whoever dies between the two leaves a copy that is looked up, not one that nobody runs. */
static void its_copies_end_behind_the_job(void **state)
{
    static const struct reader_ops ops = {.on_record = see_end};
    struct peer *p = peer_open(*state, "w", 1);
    struct amqp_reader reader = {0};
    struct seen job;

    job_ends_at = copies_end_at = -1;
    put_task(p, "first", "");
    job = take(p);
    wait_for_aside(p);
    finish_ok(p, &job);
    seen_free(&job);
    reader_begin(amqp_of(p->b), &reader, AMQP_RESULTS_STREAM,
                 &(struct reader_start){.from = READER_FIRST}, &ops);
    for (int i = 0; i < 1000 && (job_ends_at < 0 || copies_end_at < 0); i++)
        env_pass(*state, 10);
    reader_end(amqp_of(p->b), &reader);
    assert_in_range(job_ends_at, 0, 1000);
    assert_in_range(copies_end_at, job_ends_at + 1, 1000);
}

/* --- a stream that was made anew --- */

static void break_reading(struct peer *p)
{
    struct err why = ERR_INIT;

    err_set(&why, ERR_RECONNECT, "broken by the test");
    wire_drop(&amqp_of(p->b)->wires[AMQP_READ], &why);
}

static void delete_queue(struct peer *p, const char *queue)
{
    amqp_queue_delete_t m = {.queue = amqp_cstring_bytes(queue), .nowait = 1};

    assert_int_equal(link_tell(amqp_of(p->b)->wires[AMQP_PUBLISH].link, AMQP_CH_ASK,
                               AMQP_QUEUE_DELETE_METHOD, &m, NULL),
                     0);
    env_pass(p->env, 200);
}

/* Others do it, while the one who reads is away for a moment: he finds a stream that counts from 0
 * again, far from where he stopped. */
static void make_results_anew(struct peer *p)
{
    struct contract_env *others = new_env(p->env->url);

    delete_queue(peer_open(others, NULL, 0), AMQP_RESULTS_STREAM);
    peer_open(others, NULL, 0);
    tear_down((void **)&others);
}

static void what_is_looked_up_is_not_stuck(void **state)
{
    struct peer *p = peer_open(*state, "w", 1);
    struct seen job;

    for (int i = 0; i < 20; i++) {
        put_task(p, "first", i == 0 ? AGAIN : "");
        job = take(p);
        finish(p, &job, NULL, NULL);
        seen_free(&job);
    }
    env_pass(*state, 300); /* all that was recorded is read */
    break_reading(p);
    make_results_anew(p);
    put_task(p, "second", AGAIN);
    broker_credit(p->b, 1);
    assert_true(peer_sees(p, BROKER_DELIVERED, ANY_TAG, STUCK_MS));
}

/* The sum of the totals ends where the stream has nothing yet: what is there comes on top. */
static void totals_outlive_their_stream(void **state)
{
    struct peer *p = peer_open(*state, "w", 1);
    struct seen job;

    put(p, "celeriac.totals", "{\"offset\": 100000, \"succeeded\": 7, \"failed\": 2}");
    for (int i = 1; i <= 2; i++) {
        put_task(p, i == 1 ? "first" : "second", "");
        job = take(p);
        finish_ok(p, &job);
        seen_free(&job);
        assert_int_equal(total(p, "succeeded"), 7 + i);
    }
    assert_int_equal(total(p, "failed"), 2);
}

/* Also when whoever found that it has to go had nothing else to do. */
static void a_dropped_connection_is_closed_at_once(void **state)
{
    struct peer *p = peer_open(*state, "w", 1);

    env_pass(*state, 300);
    break_reading(p);
    assert_true(broker_deadline(p->b) <= clock_mono_ms(p->env->clock));
}

/* --- messages on their way out --- */

/* One comes back because its queue is gone, while the next waits for a queue that it may not have:
 * each has its own end. */
static void a_refused_queue_is_not_anothers(void **state)
{
    struct peer *p = peer_open(*state, NULL, 0);
    struct broker_message two[] = {
        {.tag = 901, .queue = slice_of("celery"), .envelope = slice_of("1")},
        {.tag = 902, .queue = slice_of("amq.reserved"), .envelope = slice_of("2")},
    };

    put(p, "celery", "0");
    delete_queue(p, "celery");
    assert_int_equal(broker_publish(p->b, two, 2, NULL), 0);
    expect(p, BROKER_PUBLISHED, 901);
    expect(p, BROKER_FAILED, 902);
}

static void finish_as(struct peer *p, enum broker_outcome outcome, const char *doc,
                      const struct broker_message *next)
{
    struct broker_finish f = {.tag = ++p->last_tag,
                              .outcome = outcome,
                              .result_id = slice_of("first"),
                              .result = slice_of(doc),
                              .followups = next,
                              .followups_len = next ? 1 : 0};
    struct seen job;

    put_task(p, "first", "");
    job = take(p);
    f.receipt = job.receipt;
    assert_int_equal(broker_finish(p->b, &f, 1, NULL), 0);
    expect(p, BROKER_FINISHED, f.tag);
    seen_free(&job);
}

/* Else the job could never end: neither its result nor what follows from it. */
static void what_is_too_large_fails_its_job(void **state)
{
    struct peer *p = peer_open(*state, "w", 1);
    char large[6000];
    struct broker_message next = {.queue = slice_of("celery"), .envelope = slice_make(large, 5999)};
    char *doc;

    memset(large, 'x', sizeof(large));
    large[sizeof(large) - 1] = '\0';
    amqp_of(p->b)->out.body_max = 4000; /* as the server says when it refuses one */
    finish_as(p, BROKER_JOB_FAILED, large, NULL);
    finish_as(p, BROKER_JOB_SUCCEEDED, large, NULL);
    finish_as(p, BROKER_JOB_SUCCEEDED, "{}", &next);
    doc = stored(p, "first");
    assert_non_null(strstr(doc, "ResultTooLarge"));
    free(doc);
    assert_int_equal(total(p, "waiting"), 0);
}

/* Whether the message was seen waiting in the step's own queue. It may be missed only by a machine
 * that took a quarter of the time to send it and to look. */
static bool waits_in_its_queue(const struct contract_env *env, struct peer *p, int step_ms)
{
    struct broker_message m = {.queue = slice_of("celery"), .envelope = slice_of("later")};
    int64_t began_ms = env_wall_ms(env);
    json_t *waiting;
    char queue[40];
    bool seen;

    m.not_before_ms = began_ms + step_ms;
    snprintf(queue, sizeof(queue), "celeriac.delay.%d", step_ms);
    put_message(p, &m);
    waiting = ask(p, BROKER_ASK_PEEK, queue, NULL);
    seen = json_array_size(waiting) == 1;
    json_decref(waiting);
    assert_true(seen || env_wall_ms(env) - began_ms > step_ms / 4);
    take_is(p, "later", NULL);
    assert_true(env_wall_ms(env) >= m.not_before_ms);
    return seen;
}

/* Each fixed step of a backoff has a queue of its own, where the message lies until then. */
static void a_round_delay_has_its_own_queue(void **state)
{
    static const int steps_ms[] = {500, 1500, 2000};
    struct peer *p = peer_open(*state, "w", 1);

    for (size_t i = 0; i < sizeof(steps_ms) / sizeof(steps_ms[0]); i++) {
        int tries = 20;

        while (!waits_in_its_queue(*state, p, steps_ms[i]))
            assert_true(--tries > 0);
    }
}

#define CASE(name)       cmocka_unit_test_setup_teardown(name, set_up, tear_down)
#define CASE_EARLY(name) cmocka_unit_test_setup_teardown(name, set_up_early, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE_EARLY(one_that_is_handed_back_comes_again),
        CASE_EARLY(a_twin_of_a_long_job_does_not_run),
        CASE_EARLY(its_copies_end_behind_the_job),
        CASE(what_is_looked_up_is_not_stuck),
        CASE(totals_outlive_their_stream),
        CASE(a_dropped_connection_is_closed_at_once),
        CASE(a_refused_queue_is_not_anothers),
        CASE(what_is_too_large_fails_its_job),
        CASE(a_round_delay_has_its_own_queue),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
