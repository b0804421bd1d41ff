/* Results without a delivery: store, get, watch, forget, expiry. */
#include "contract.h"

#include <poll.h>

#define DOC(status) "{\"status\": \"" status "\", \"result\": null}"

static void store(struct peer *p, const char *id, const char *doc, int64_t expires_ms)
{
    struct broker_store v = {.tag = ++p->last_tag,
                             .id = slice_of(id),
                             .result = slice_of(doc),
                             .expires_ms = expires_ms};
    struct seen s;

    assert_int_equal(broker_store(p->b, &v, 1, NULL), 0);
    s = peer_expect(p, BROKER_STORED, v.tag);
    seen_free(&s);
}

static void watch(struct peer *p, const char *id, uint64_t tag)
{
    struct slice ids[] = {slice_of(id)};

    assert_int_equal(broker_result_watch(p->b, &tag, ids, 1, NULL), 0);
}

static void expect_result(struct peer *p, uint64_t tag, const char *doc)
{
    struct seen s = peer_expect(p, BROKER_RESULT, tag);

    assert_string_equal(s.data, doc);
    seen_free(&s);
}

static void get_and_forget(struct contract_env *env)
{
    struct peer *a = peer_open(env, NULL, 0), *b = peer_open(env, NULL, 0);
    struct slice ids[] = {slice_of("id-1")};
    uint64_t tag = 900;
    struct seen s;
    char *doc;

    assert_null(stored(b, "id-1"));
    store(a, "id-1", DOC("FAILURE"), 0);
    doc = stored(b, "id-1");
    assert_string_equal(doc, DOC("FAILURE"));
    free(doc);
    assert_int_equal(broker_result_forget(b->b, &tag, ids, 1, NULL), 0);
    s = peer_expect(b, BROKER_FORGOTTEN, tag);
    seen_free(&s);
    assert_null(stored(a, "id-1"));
}

/* Of a job as well, whose result its worker may still know. */
static void a_forgotten_job_is_forgotten_by_all(struct contract_env *env)
{
    static const char envelope[] =
        "{\"body\": \"W1tdLHt9LHt9XQ==\", \"content-type\": \"application/json\", "
        "\"content-encoding\": \"utf-8\", \"headers\": {\"id\": \"id-1\", \"task\": \"t\"}, "
        "\"properties\": {\"body_encoding\": \"base64\", \"correlation_id\": \"id-1\"}}";
    struct peer *worker = peer_open(env, "w", 1), *client = peer_open(env, NULL, 0);
    struct slice ids[] = {slice_of("id-1")};

    for (uint64_t tag = 950; tag < 953; tag++) {
        struct seen job, s;
        char *doc;

        put(client, "celery", envelope);
        job = take(worker);
        s = peer_expect(worker, BROKER_FINISHED, finish(worker, &job, "id-1", DOC("SUCCESS")));
        seen_free(&s);
        seen_free(&job);
        doc = stored(client, "id-1");
        assert_string_equal(doc, DOC("SUCCESS"));
        free(doc);
        assert_int_equal(broker_result_forget(client->b, &tag, ids, 1, NULL), 0);
        s = peer_expect(client, BROKER_FORGOTTEN, tag);
        seen_free(&s);
        assert_null(stored(client, "id-1"));
    }
}

static void a_watch_sees_what_is_there_and_what_comes(struct contract_env *env)
{
    struct peer *a = peer_open(env, NULL, 0), *b = peer_open(env, NULL, 0);

    store(a, "there", DOC("SUCCESS"), 0);
    watch(b, "there", 1001);
    expect_result(b, 1001, DOC("SUCCESS"));
    watch(b, "comes", 1002);
    assert_false(peer_sees(b, BROKER_RESULT, 1002, 50));
    store(a, "comes", DOC("STARTED"), 0);
    expect_result(b, 1002, DOC("STARTED"));
    store(a, "comes", DOC("FAILURE"), 0);
    expect_result(b, 1002, DOC("FAILURE"));
    /* A ready state ended the watch. */
    store(a, "comes", DOC("SUCCESS"), 0);
    assert_false(peer_sees(b, BROKER_RESULT, 1002, 100));
}

static void many_watches_are_each_answered(struct contract_env *env)
{
    struct peer *a = peer_open(env, NULL, 0), *b = peer_open(env, NULL, 0);
    static const char *const names[] = {"r-0", "r-1", "r-2", "r-3", "r-4", "r-5", "r-6", "r-7"};

    for (uint64_t i = 0; i < 8; i++)
        watch(b, names[i], 1100 + i);
    for (int i = 7; i >= 0; i--)
        store(a, names[i], DOC("SUCCESS"), 0);
    for (uint64_t i = 0; i < 8; i++)
        expect_result(b, 1100 + i, DOC("SUCCESS"));
}

static void an_unwatched_result_is_not_told(struct contract_env *env)
{
    struct peer *a = peer_open(env, NULL, 0), *b = peer_open(env, NULL, 0);
    struct slice ids[] = {slice_of("id-1")};

    watch(b, "id-1", 1200);
    assert_false(peer_sees(b, BROKER_RESULT, 1200, 50));
    broker_result_unwatch(b->b, ids, 1);
    store(a, "id-1", DOC("SUCCESS"), 0);
    assert_false(peer_sees(b, BROKER_RESULT, 1200, 100));
}

/* Is there a moment in which the owner's loop would sleep? */
static bool comes_to_rest(struct peer *p)
{
    const struct clock *clock = clock_system();
    int64_t until_ms = clock_mono_ms(clock) + 10000;
    struct pollfd fds[16];

    while (clock_mono_ms(clock) < until_ms) {
        peer_sees(p, BROKER_RESULT, 1299, 0);
        if (poll(fds, (nfds_t)broker_pollset(p->b, fds, 16), 0) == 0)
            return true;
    }
    return false;
}

static void who_waits_for_nothing_rests(struct contract_env *env)
{
    struct peer *a = peer_open(env, NULL, 0), *b = peer_open(env, NULL, 0);

    watch(b, "id-1", 1250);
    assert_false(peer_sees(b, BROKER_RESULT, 1250, 50)); /* it listens by now */
    store(a, "id-1", DOC("SUCCESS"), 0);
    expect_result(b, 1250, DOC("SUCCESS"));
    /* By the answers to these, what the end of the watch asked the server for has come too. */
    for (int i = 0; i < 3; i++)
        free(stored(b, "id-1"));
    assert_true(comes_to_rest(b));
}

static void expect_ahead(struct peer *p, const char *id)
{
    struct slice ids[] = {slice_of(id)};

    broker_result_expect(p->b, ids, 1); /* false changes nothing for the caller */
}

/* Whether a result comes before or after it is asked for, or before the broker listens. */
static void what_is_expected_is_told(struct contract_env *env)
{
    struct peer *a = peer_open(env, NULL, 0), *b = peer_open(env, NULL, 0);
    struct broker_message m = {.tag = 1400,
                               .queue = slice_of("celery"),
                               .envelope = slice_of("{}"),
                               .id = slice_of("sent")};

    expect_ahead(b, "before");
    expect_ahead(b, "after");
    assert_false(peer_sees(b, BROKER_RESULT, ANY_TAG, 50)); /* it listens by now */
    store(a, "before", DOC("STARTED"), 0);
    store(a, "before", DOC("SUCCESS"), 0);
    assert_false(peer_sees(b, BROKER_RESULT, ANY_TAG, 50)); /* nobody asked */
    watch(b, "before", 1401);
    expect_result(b, 1401, DOC("SUCCESS"));
    watch(b, "after", 1402);
    store(a, "after", DOC("FAILURE"), 0);
    expect_result(b, 1402, DOC("FAILURE"));
    expect_ahead(b, "sent");
    assert_int_equal(broker_publish(b->b, &m, 1, NULL), 0);
    store(a, "sent", DOC("SUCCESS"), 0);
    watch(b, "sent", 1403);
    expect_result(b, 1403, DOC("SUCCESS"));
    expect_ahead(b, "asked at once");
    store(a, "asked at once", DOC("SUCCESS"), 0);
    watch(b, "asked at once", 1404);
    expect_result(b, 1404, DOC("SUCCESS"));
}

/* The end of one watch does not end the next one of the same id. */
static void what_was_expected_can_be_watched_again(struct contract_env *env)
{
    struct peer *a = peer_open(env, NULL, 0), *b = peer_open(env, NULL, 0);
    struct slice ids[] = {slice_of("again")};
    uint64_t tag = 1502;
    struct seen s;

    expect_ahead(b, "again");
    assert_false(peer_sees(b, BROKER_RESULT, ANY_TAG, 50));
    store(a, "again", DOC("FAILURE"), 0);
    watch(b, "again", 1501);
    expect_result(b, 1501, DOC("FAILURE"));
    assert_int_equal(broker_result_forget(b->b, &tag, ids, 1, NULL), 0);
    s = peer_expect(b, BROKER_FORGOTTEN, tag);
    seen_free(&s);
    watch(b, "again", 1503);
    assert_false(peer_sees(b, BROKER_RESULT, 1503, 50));
    expect_ahead(b, "another");
    assert_false(peer_sees(b, BROKER_RESULT, 1503, 50));
    store(a, "again", DOC("SUCCESS"), 0);
    expect_result(b, 1503, DOC("SUCCESS"));
}

static void results_expire(struct contract_env *env)
{
    struct peer *p = peer_open(env, NULL, 0);
    char *doc;

    store(p, "short", DOC("SUCCESS"), 200);
    store(p, "ever", DOC("SUCCESS"), -1);
    env_pass(env, 400);
    assert_null(stored(p, "short"));
    doc = stored(p, "ever");
    assert_non_null(doc);
    free(doc);
}

static void a_success_is_kept(struct contract_env *env)
{
    struct peer *p = peer_open(env, NULL, 0);
    struct broker_store v = {
        .tag = 1300, .id = slice_of("id-1"), .result = slice_of(DOC("FAILURE"))};
    struct seen s;
    char *doc;

    store(p, "id-1", DOC("SUCCESS"), 0);
    assert_int_equal(broker_store(p->b, &v, 1, NULL), 0);
    s = peer_expect(p, BROKER_STORED, 1300);
    if (!(env->lacks & LACKS_ATOMIC_FINISH))
        assert_true(s.flags & BROKER_DUPLICATE);
    seen_free(&s);
    doc = stored(p, "id-1");
    assert_string_equal(doc, DOC("SUCCESS"));
    free(doc);
}

const struct contract_row suite_results[] = {
    {"get and forget", get_and_forget},
    {"a forgotten job is forgotten by all", a_forgotten_job_is_forgotten_by_all},
    {"a watch sees what is there and what comes", a_watch_sees_what_is_there_and_what_comes},
    {"many watches are each answered", many_watches_are_each_answered},
    {"an unwatched result is not told", an_unwatched_result_is_not_told},
    {"who waits for nothing rests", who_waits_for_nothing_rests},
    {"what is expected is told", what_is_expected_is_told},
    {"what was expected can be watched again", what_was_expected_can_be_watched_again},
    {"results expire", results_expire},
    {"a success is kept", a_success_is_kept},
    {NULL, NULL},
};
