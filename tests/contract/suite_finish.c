/* Finish and bury: one atomic step each, refused when the lease is lost. */
#include "contract.h"

#include <string.h>

#define SUCCESS "{\"status\": \"SUCCESS\", \"result\": 1, \"task_id\": \"id-1\"}"
#define OTHER   "{\"status\": \"SUCCESS\", \"result\": 2, \"task_id\": \"id-1\"}"
#define FAILURE "{\"status\": \"FAILURE\", \"result\": {}, \"task_id\": \"id-1\"}"
#define RETRY   "{\"status\": \"RETRY\", \"result\": null, \"task_id\": \"id-1\"}"

static void check_stored(struct peer *p, const char *id, const char *expected)
{
    char *doc = stored(p, id);

    if (expected)
        assert_string_equal(doc, expected);
    else
        assert_null(doc);
    free(doc);
}

static void finish_stores_counts_and_acknowledges(struct contract_env *env)
{
    struct peer *p = peer_open(env, "w", 1);
    struct seen job, s;

    put(p, "celery", "x");
    job = take(p);
    s = peer_expect(p, BROKER_FINISHED, finish(p, &job, "id-1", SUCCESS));
    assert_int_equal(s.flags & BROKER_DUPLICATE, 0);
    seen_free(&s);
    check_stored(p, "id-1", SUCCESS);
    assert_int_equal(total(p, "leased"), 0);
    assert_int_equal(total(p, "succeeded"), 1);
    check_totals(p);
    /* Invariant 4: the second is refused and changes nothing. */
    s = peer_expect(p, BROKER_REFUSED, finish(p, &job, "id-1", OTHER));
    seen_free(&s);
    check_stored(p, "id-1", SUCCESS);
    assert_int_equal(total(p, "succeeded"), 1);
    seen_free(&job);
}

static void follow_ups_appear_with_the_finish_or_not_at_all(struct contract_env *env)
{
    struct peer *p = peer_open(env, "w", 1);
    struct broker_message next[2] = {
        {.queue = slice_of("celery"),
         .envelope = slice_of("again"),
         .id = slice_of("id-1"),
         .continues = true,
         .not_before_ms = env_wall_ms(env) + 1500}, /* seen as delayed first */
        {.queue = slice_of("other"), .envelope = slice_of("spawned"), .id = slice_of("id-2")},
    };
    struct broker_finish f = {.tag = 500,
                              .outcome = BROKER_JOB_CONTINUES,
                              .result_id = slice_of("id-1"),
                              .result = slice_of(RETRY),
                              .followups = next,
                              .followups_len = 2};
    struct seen job, s;

    put(p, "celery", "x");
    job = take(p);
    f.receipt = job.receipt;
    assert_int_equal(broker_finish(p->b, &f, 1, NULL), 0);
    s = peer_expect(p, BROKER_FINISHED, 500);
    seen_free(&s);
    /* The job that goes on is not published anew, the other is. */
    assert_int_equal(total(p, "published"), 2);
    assert_int_equal(total(p, "delayed"), 1);
    assert_int_equal(total(p, "retried"), 1);
    check_totals(p);
    check_stored(p, "id-1", RETRY);
    f.tag = 501;
    assert_int_equal(broker_finish(p->b, &f, 1, NULL), 0);
    s = peer_expect(p, BROKER_REFUSED, 501);
    seen_free(&s);
    assert_int_equal(total(p, "waiting") + total(p, "delayed"), 2);
    take_is(p, "spawned", &s);
    finish_ok(p, &s);
    seen_free(&s);
    take_is(p, "again", NULL);
    check_totals(p);
    seen_free(&job);
}

static void a_stored_success_is_never_overwritten(struct contract_env *env)
{
    struct peer *p = peer_open(env, "w", 1);
    struct broker_message next = {.queue = slice_of("celery"), .envelope = slice_of("spawned")};
    struct broker_finish f = {.tag = 600,
                              .outcome = BROKER_JOB_FAILED,
                              .result_id = slice_of("id-1"),
                              .result = slice_of(FAILURE),
                              .followups = &next,
                              .followups_len = 1};
    struct seen job, s;

    put(p, "celery", "x");
    put(p, "celery", "x");
    job = take(p);
    s = peer_expect(p, BROKER_FINISHED, finish(p, &job, "id-1", SUCCESS));
    seen_free(&s);
    seen_free(&job);
    job = take(p);
    f.receipt = job.receipt;
    assert_int_equal(broker_finish(p->b, &f, 1, NULL), 0);
    s = peer_expect(p, BROKER_FINISHED, 600);
    if (!(env->lacks & LACKS_ATOMIC_FINISH))
        assert_true(s.flags & BROKER_DUPLICATE);
    seen_free(&s);
    check_stored(p, "id-1", SUCCESS);
    assert_int_equal(total(p, "duplicates"), 1);
    assert_int_equal(total(p, "waiting"), env->split || (env->lacks & LACKS_ATOMIC_FINISH) ? 1 : 0);
    check_totals(p);
    seen_free(&job);
}

static void a_failure_may_be_overwritten(struct contract_env *env)
{
    struct peer *p = peer_open(env, "w", 1);
    struct broker_store first = {.tag = 700, .id = slice_of("id-1"), .result = slice_of(FAILURE)};
    struct seen job, s;

    assert_int_equal(broker_store(p->b, &first, 1, NULL), 0);
    s = peer_expect(p, BROKER_STORED, 700);
    seen_free(&s);
    put(p, "celery", "x");
    job = take(p);
    s = peer_expect(p, BROKER_FINISHED, finish(p, &job, "id-1", SUCCESS));
    seen_free(&s);
    check_stored(p, "id-1", SUCCESS);
    seen_free(&job);
}

static void notes_count_only_while_the_lease_holds(struct contract_env *env)
{
    struct peer *p = peer_open(env, "w", 1);
    struct broker_note note = {.result_id = slice_of("id-1"),
                               .result = slice_of("{\"status\": \"STARTED\"}")};
    struct seen job;

    put(p, "celery", "x");
    job = take(p);
    note.receipt = job.receipt;
    assert_int_equal(broker_note(p->b, &note, 1, NULL), 0);
    check_stored(p, "id-1", "{\"status\": \"STARTED\"}");
    finish_ok(p, &job);
    if (env->split) {
        seen_free(&job);
        return;
    }
    note.result = slice_of("{\"status\": \"LATE\"}");
    assert_int_equal(broker_note(p->b, &note, 1, NULL), 0);
    check_stored(p, "id-1", "{\"status\": \"STARTED\"}");
    seen_free(&job);
}

static uint64_t bury(struct peer *p, const struct seen *job, enum broker_grave grave)
{
    struct broker_bury b = {.tag = ++p->last_tag,
                            .receipt = job->receipt,
                            .grave = grave,
                            .cause = slice_of("because"),
                            .id = slice_of("id-1"),
                            .task = slice_of("a.task"),
                            .result_id = slice_of("id-1"),
                            .result = slice_of(FAILURE)};

    assert_int_equal(broker_bury(p->b, &b, 1, NULL), 0);
    return b.tag;
}

static void a_buried_message_is_kept_shown_and_sent_again(struct contract_env *env)
{
    struct peer *p = peer_open(env, "w", 1);
    struct seen job, s;
    json_t *dead, *one, *shown;
    char handle[128];

    put(p, "celery", "not { json");
    job = take(p);
    s = peer_expect(p, BROKER_BURIED, bury(p, &job, BROKER_DEAD));
    seen_free(&s);
    check_stored(p, "id-1", FAILURE);
    assert_int_equal(total(p, "dead"), 1);
    check_totals(p);
    s = peer_expect(p, BROKER_REFUSED, bury(p, &job, BROKER_DEAD));
    seen_free(&s);
    dead = ask(p, BROKER_ASK_DEAD, "celery", NULL);
    assert_int_equal(json_array_size(dead), 1);
    one = json_array_get(dead, 0);
    assert_string_equal(json_string_value(json_object_get(one, "cause")), "because");
    assert_string_equal(json_string_value(json_object_get(one, "grave")), "dead");
    assert_string_equal(json_string_value(json_object_get(one, "task")), "a.task");
    strncpy(handle, json_string_value(json_object_get(one, "handle")), sizeof(handle) - 1);
    handle[sizeof(handle) - 1] = '\0';
    json_decref(dead);
    shown = ask(p, BROKER_ASK_DEAD_SHOW, NULL, handle);
    assert_string_equal(json_string_value(json_object_get(shown, "envelope")), "not { json");
    json_decref(shown);
    json_decref(ask(p, BROKER_ASK_DEAD_RETRY, NULL, handle));
    assert_int_equal(total(p, "dead"), 0);
    check_totals(p);
    take_is(p, "not { json", NULL);
    seen_free(&job);
}

static void unknown_tasks_lie_apart_and_can_be_removed(struct contract_env *env)
{
    struct peer *p = peer_open(env, "w", 1);
    struct seen job, s;
    json_t *dead, *removed;

    put(p, "celery", "x");
    job = take(p);
    s = peer_expect(p, BROKER_BURIED, bury(p, &job, BROKER_UNKNOWN));
    seen_free(&s);
    dead = ask(p, BROKER_ASK_DEAD, NULL, NULL);
    assert_string_equal(json_string_value(json_object_get(json_array_get(dead, 0), "grave")),
                        "unknown");
    json_decref(dead);
    removed = ask(p, BROKER_ASK_DEAD_RM, NULL, "all");
    assert_int_equal(json_integer_value(json_object_get(removed, "removed")), 1);
    json_decref(removed);
    dead = ask(p, BROKER_ASK_DEAD, NULL, NULL);
    assert_int_equal(json_array_size(dead), 0);
    json_decref(dead);
    assert_int_equal(total(p, "removed"), 1);
    check_totals(p);
    seen_free(&job);
}

static void each_item_of_a_batch_stands_alone(struct contract_env *env)
{
    struct peer *p = peer_open(env, "w", 1);
    struct broker_finish v[3];
    struct seen jobs[3], s;

    for (int i = 0; i < 3; i++)
        put(p, "celery", "x");
    for (int i = 0; i < 3; i++) {
        jobs[i] = take(p);
        v[i] = (struct broker_finish){
            .tag = 800 + (uint64_t)i, .receipt = jobs[i].receipt, .outcome = BROKER_JOB_FAILED};
    }
    finish_ok(p, &jobs[1]);
    assert_int_equal(broker_finish(p->b, v, 3, NULL), 0);
    s = peer_expect(p, BROKER_FINISHED, 800);
    seen_free(&s);
    s = peer_expect(p, BROKER_REFUSED, 801);
    seen_free(&s);
    s = peer_expect(p, BROKER_FINISHED, 802);
    seen_free(&s);
    assert_int_equal(total(p, "failed"), 2);
    assert_int_equal(total(p, "succeeded"), 1);
    check_totals(p);
    for (int i = 0; i < 3; i++)
        seen_free(&jobs[i]);
}

const struct contract_row suite_finish[] = {
    {"finish stores, counts and acknowledges", finish_stores_counts_and_acknowledges},
    {"follow-ups appear with the finish or not at all",
     follow_ups_appear_with_the_finish_or_not_at_all},
    {"a stored success is never overwritten", a_stored_success_is_never_overwritten},
    {"a failure may be overwritten", a_failure_may_be_overwritten},
    {"notes count only while the lease holds", notes_count_only_while_the_lease_holds},
    {"a buried message is kept, shown and sent again",
     a_buried_message_is_kept_shown_and_sent_again},
    {"unknown tasks lie apart and can be removed", unknown_tasks_lie_apart_and_can_be_removed},
    {"each item of a batch stands alone", each_item_of_a_batch_stands_alone},
    {NULL, NULL},
};
