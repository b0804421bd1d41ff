/* Many short jobs at a time. A backend may lease them together then (Redis does): each of them has
 * the same rights as if it came alone. */
#include "contract.h"

#include <stdio.h>
#include <string.h>

#define MANY    40
#define CREDIT  20 /* the second delivery of so many is leased together */
#define SUCCESS "{\"status\": \"SUCCESS\", \"result\": 1}"

struct many {
    struct peer *p;
    struct seen jobs[MANY];
};

static void name_of(char *out, size_t size, const char *what, int n)
{
    snprintf(out, size, "%s-%02d", what, n);
}

static void put_many(struct peer *p)
{
    struct broker_message v[MANY];
    char envelopes[MANY][24];

    for (int i = 0; i < MANY; i++) {
        name_of(envelopes[i], sizeof(envelopes[i]), "job", i);
        v[i] = (struct broker_message){.queue = slice_of("celery"),
                                       .envelope = slice_of(envelopes[i])};
    }
    put_messages(p, v, MANY);
}

/* RabbitMQ's nodes answer for themselves, and one that just came is not heard yet. */
static void until_all_are_leased(struct many *m)
{
    for (int i = 0; i < 200 && total(m->p, "leased") != MANY; i++)
        env_pass(m->p->env, 5);
    assert_int_equal(total(m->p, "leased"), MANY);
}

static void lease_many(struct contract_env *env, struct many *m, const char *node)
{
    m->p = peer_open(env, node, 1);
    put_many(m->p);
    for (int i = 0; i < MANY; i++) {
        char envelope[24];

        if (i % CREDIT == 0)
            broker_credit(m->p->b, CREDIT);
        m->jobs[i] = peer_expect(m->p, BROKER_DELIVERED, ANY_TAG);
        name_of(envelope, sizeof(envelope), "job", i);
        assert_string_equal(m->jobs[i].data, envelope);
        assert_string_equal(m->jobs[i].queue, "celery");
    }
    until_all_are_leased(m);
    check_totals(m->p);
}

static void free_many(struct many *m)
{
    for (int i = 0; i < MANY; i++)
        seen_free(&m->jobs[i]);
}

/* The answer to job n is of that kind, with those flags. */
static void answers(struct many *m, enum broker_event_kind kind, uint64_t tag, unsigned flags)
{
    struct seen s = peer_expect(m->p, kind, tag);

    assert_int_equal(s.flags, flags);
    seen_free(&s);
}

static void take_is_next(struct peer *p, const char *envelope)
{
    struct seen s = peer_expect(p, BROKER_DELIVERED, ANY_TAG);

    assert_string_equal(s.data, envelope);
    seen_free(&s);
}

/* Ends jobs from..to-1 in one call, each with a result; kind is what is answered. */
static void end_some(struct many *m, int from, int to, enum broker_event_kind kind)
{
    struct broker_finish v[MANY];
    char ids[MANY][24];
    uint64_t first = m->p->last_tag + 1;
    int n = to - from;

    for (int i = 0; i < n; i++) {
        name_of(ids[i], sizeof(ids[i]), "id", from + i);
        v[i] = (struct broker_finish){.tag = ++m->p->last_tag,
                                      .receipt = m->jobs[from + i].receipt,
                                      .outcome = BROKER_JOB_SUCCEEDED,
                                      .result_id = slice_of(ids[i]),
                                      .result = slice_of(SUCCESS)};
    }
    assert_int_equal(broker_finish(m->p->b, v, (size_t)n, NULL), 0);
    for (int i = 0; i < n; i++)
        answers(m, kind, first + (uint64_t)i, 0);
}

static void has_result(struct peer *p, int n)
{
    char id[24], *doc;

    name_of(id, sizeof(id), "id", n);
    doc = stored(p, id);
    assert_non_null(doc);
    assert_string_equal(doc, SUCCESS);
    free(doc);
}

static void many_jobs_end_once_each(struct contract_env *env)
{
    struct many m;

    lease_many(env, &m, "w");
    end_some(&m, 5, 30, BROKER_FINISHED);
    assert_int_equal(total(m.p, "leased"), MANY - 25);
    check_totals(m.p);
    end_some(&m, 18, 25, BROKER_REFUSED);
    end_some(&m, 0, 5, BROKER_FINISHED);
    end_some(&m, 30, MANY, BROKER_FINISHED);
    end_some(&m, 0, MANY, BROKER_REFUSED);
    assert_int_equal(total(m.p, "succeeded"), MANY);
    assert_int_equal(total(m.p, "leased"), 0);
    check_totals(m.p);
    free_many(&m);
}

static void results_of_many_are_stored_once(struct contract_env *env)
{
    static const char first[] = "{\"status\": \"SUCCESS\", \"result\": \"first\"}";
    struct broker_store store = {
        .id = slice_of("id-37"), .result = slice_of(first), .expires_ms = 0};
    struct broker_finish v[2] = {{.tag = 901, .result_id = slice_of("id-36")},
                                 {.tag = 902, .result_id = slice_of("id-37")}};
    struct many m;
    char *doc;

    env_needs(env, LACKS_ATOMIC_FINISH);
    lease_many(env, &m, "w");
    store.tag = ++m.p->last_tag;
    assert_int_equal(broker_store(m.p->b, &store, 1, NULL), 0);
    answers(&m, BROKER_STORED, store.tag, 0);
    for (int i = 0; i < 2; i++) {
        v[i].outcome = BROKER_JOB_SUCCEEDED;
        v[i].result = slice_of(SUCCESS);
        v[i].receipt = m.jobs[36 + i].receipt;
    }
    assert_int_equal(broker_finish(m.p->b, v, 2, NULL), 0);
    answers(&m, BROKER_FINISHED, 901, 0);
    answers(&m, BROKER_FINISHED, 902, BROKER_DUPLICATE);
    has_result(m.p, 36);
    doc = stored(m.p, "id-37");
    assert_string_equal(doc, first);
    free(doc);
    assert_int_equal(total(m.p, "succeeded"), 2);
    assert_int_equal(total(m.p, "duplicates"), 1);
    check_totals(m.p);
    free_many(&m);
}

/* --- other fates of one among many --- */

static void fail_one(struct many *m, int n)
{
    struct broker_finish f = {
        .tag = ++m->p->last_tag, .receipt = m->jobs[n].receipt, .outcome = BROKER_JOB_FAILED};

    assert_int_equal(broker_finish(m->p->b, &f, 1, NULL), 0);
    answers(m, BROKER_FINISHED, f.tag, 0);
}

static void retry_one(struct many *m, int n)
{
    struct broker_message again = {
        .queue = slice_of("celery"), .envelope = slice_of("again"), .continues = true};
    struct broker_finish f = {.tag = ++m->p->last_tag,
                              .receipt = m->jobs[n].receipt,
                              .outcome = BROKER_JOB_CONTINUES,
                              .followups = &again,
                              .followups_len = 1};

    assert_int_equal(broker_finish(m->p->b, &f, 1, NULL), 0);
    answers(m, BROKER_FINISHED, f.tag, 0);
    seen_free(&m->jobs[n]);
    take_is(m->p, "again", &m->jobs[n]);
}

static void release_one(struct many *m, int n)
{
    struct broker_release r = {
        .tag = ++m->p->last_tag, .receipt = m->jobs[n].receipt, .front = true};
    char *data = strdup(m->jobs[n].data);

    assert_int_equal(broker_release(m->p->b, &r, 1, NULL), 0);
    answers(m, BROKER_RELEASED, r.tag, 0);
    seen_free(&m->jobs[n]);
    take_is(m->p, data, &m->jobs[n]);
    free(data);
}

static void bury_one(struct many *m, int n)
{
    struct broker_bury b = {
        .tag = ++m->p->last_tag, .receipt = m->jobs[n].receipt, .cause = slice_of("because")};

    assert_int_equal(broker_bury(m->p->b, &b, 1, NULL), 0);
    answers(m, BROKER_BURIED, b.tag, 0);
}

static void note_one(struct many *m, int n)
{
    static const char started[] = "{\"status\": \"STARTED\", \"result\": null}";
    struct broker_note note = {.receipt = m->jobs[n].receipt,
                               .result_id = slice_of("started"),
                               .result = slice_of(started)};
    char *doc;

    assert_int_equal(broker_note(m->p->b, &note, 1, NULL), 0);
    doc = stored(m->p, "started");
    assert_non_null(doc);
    assert_string_equal(doc, started);
    free(doc);
}

static void renew_one(struct many *m, int n)
{
    assert_int_equal(broker_renew(m->p->b, &m->jobs[n].receipt, 1, NULL), 0);
    assert_false(peer_sees(m->p, BROKER_LOST, ANY_TAG, 20));
}

static void claim_one(struct many *m, int n)
{
    struct broker_claim c = {.tag = ++m->p->last_tag,
                             .receipt = m->jobs[n].receipt,
                             .key = slice_of("key"),
                             .id = slice_of("me"),
                             .window_ms = 60000};

    if (!(broker_caps(m->p->b) & BROKER_CAP_CLAIMS))
        return;
    assert_int_equal(broker_claim(m->p->b, &c, 1, NULL), 0);
    answers(m, BROKER_CLAIMED, c.tag, BROKER_WON);
}

/* Each of them among jobs of which some have ended, and the others end as always after it. */
static void each_fate(struct contract_env *env, void (*fate)(struct many *m, int n), bool ends)
{
    struct many m;

    lease_many(env, &m, "w");
    end_some(&m, 21, 25, BROKER_FINISHED);
    fate(&m, 30);
    check_totals(m.p);
    end_some(&m, 0, 21, BROKER_FINISHED);
    end_some(&m, 25, 30, BROKER_FINISHED);
    end_some(&m, 31, MANY, BROKER_FINISHED);
    end_some(&m, 30, 31, ends ? BROKER_REFUSED : BROKER_FINISHED);
    end_some(&m, 20, 24, BROKER_REFUSED);
    assert_int_equal(total(m.p, "leased"), 0);
    assert_int_equal(total(m.p, "succeeded"), MANY - ends);
    check_totals(m.p);
    has_result(m.p, 22);
    has_result(m.p, 39);
    free_many(&m);
}

static void one_of_many_fails(struct contract_env *env)
{
    each_fate(env, fail_one, true);
}

static void one_of_many_is_buried(struct contract_env *env)
{
    each_fate(env, bury_one, true);
}

static void one_of_many_is_tried_again(struct contract_env *env)
{
    each_fate(env, retry_one, false);
}

static void one_of_many_is_handed_back(struct contract_env *env)
{
    each_fate(env, release_one, false);
}

static void one_of_many_is_noted(struct contract_env *env)
{
    each_fate(env, note_one, false);
}

static void one_of_many_is_renewed(struct contract_env *env)
{
    each_fate(env, renew_one, false);
}

static void one_of_many_claims_a_key(struct contract_env *env)
{
    each_fate(env, claim_one, false);
}

/* --- who has the rest --- */

/* What was not ended comes to that peer, each once. */
static void takes_the_rest(struct peer *p, const bool *ended)
{
    bool seen[MANY] = {false};
    int left = 0;

    for (int i = 0; i < MANY; i++)
        left += !ended[i];
    broker_credit(p->b, MANY);
    for (; left > 0; left--) {
        struct seen job = peer_expect(p, BROKER_DELIVERED, ANY_TAG);
        int n = (int)strtol(job.data + strlen("job-"), NULL, 10);

        assert_in_range(n, 0, MANY - 1);
        assert_false(ended[n] || seen[n]);
        seen[n] = true;
        finish_ok(p, &job);
        seen_free(&job);
    }
    assert_int_equal(total(p, "succeeded"), MANY);
    assert_int_equal(total(p, "leased"), 0);
    check_totals(p);
}

static void end_half(struct many *m, bool *ended)
{
    end_some(m, 10, 30, BROKER_FINISHED);
    for (int i = 10; i < 30; i++)
        ended[i] = true;
}

static void a_close_hands_the_rest_of_many_back(struct contract_env *env)
{
    struct peer *other = peer_open(env, "other", 1);
    bool ended[MANY] = {false};
    struct many m;

    lease_many(env, &m, "w");
    end_half(&m, ended);
    peer_close(m.p, true);
    free_many(&m);
    takes_the_rest(other, ended);
}

static void a_successor_takes_the_rest_of_many(struct contract_env *env)
{
    bool ended[MANY] = {false};
    struct many m;

    env_needs(env, LACKS_LEASES);
    lease_many(env, &m, "w");
    end_half(&m, ended);
    takes_the_rest(peer_open(env, "w", 2), ended);
    end_some(&m, 30, MANY, BROKER_REFUSED);
    check_totals(m.p);
    free_many(&m);
}

static void leases_of_many_run_out(struct contract_env *env)
{
    bool ended[MANY] = {false};
    struct peer *other;
    struct many m;

    env_needs(env, LACKS_LEASES);
    other = peer_open(env, "other", 1);
    lease_many(env, &m, "w");
    end_half(&m, ended);
    takes_the_rest(other, ended);
    end_some(&m, 0, 10, BROKER_REFUSED);
    end_some(&m, 30, MANY, BROKER_REFUSED);
    check_totals(m.p);
    free_many(&m);
}

static void many_leases_are_renewed(struct contract_env *env)
{
    struct many m;

    lease_many(env, &m, "w");
    for (int k = 0; k < 8; k++) {
        for (int i = 0; i < MANY; i++)
            assert_int_equal(broker_renew(m.p->b, &m.jobs[i].receipt, 1, NULL), 0);
        env_pass(env, CONTRACT_LEASE_MS / 4);
    }
    end_some(&m, 0, MANY, BROKER_FINISHED);
    assert_int_equal(total(m.p, "succeeded"), MANY);
    check_totals(m.p);
    free_many(&m);
}

static void the_urgent_go_before_many(struct contract_env *env)
{
    struct peer *p = peer_open(env, "w", 1);
    struct broker_message v[CREDIT];

    env_needs(env, LACKS_PRIORITY);
    for (int i = 0; i < CREDIT; i++)
        v[i] = (struct broker_message){
            .queue = slice_of("celery"), .envelope = slice_of("low"), .priority = 9};
    put_messages(p, v, CREDIT);
    put_messages(p, v, CREDIT);
    broker_credit(p->b, CREDIT);
    for (int i = 0; i < CREDIT; i++)
        take_is_next(p, "low");
    for (int i = 0; i < CREDIT; i++)
        v[i] = (struct broker_message){.queue = slice_of("celery"), .envelope = slice_of("high")};
    put_messages(p, v, CREDIT);
    broker_credit(p->b, 2 * CREDIT);
    for (int i = 0; i < CREDIT; i++)
        take_is_next(p, "high");
    for (int i = 0; i < CREDIT; i++)
        take_is_next(p, "low");
}

static void many_come_from_all_queues(struct contract_env *env)
{
    static const char *const queues[] = {"celery", "other"};
    struct peer *p = peer_open(env, "w", 1);
    int left[2] = {0};

    for (int i = 0; i < 2; i++) {
        for (int k = 0; k < CREDIT * (i + 1); k++, left[i]++)
            put(p, queues[i], queues[i]);
    }
    for (int i = 0; i < 3; i++) {
        broker_credit(p->b, CREDIT);
        for (int k = 0; k < CREDIT; k++) {
            struct seen job = peer_expect(p, BROKER_DELIVERED, ANY_TAG);

            assert_string_equal(job.data, job.queue);
            left[strcmp(job.queue, "celery") == 0 ? 0 : 1]--;
            finish_ok(p, &job);
            seen_free(&job);
        }
    }
    assert_int_equal(left[0], 0);
    assert_int_equal(left[1], 0);
    assert_int_equal(total(p, "succeeded"), 3 * CREDIT);
    assert_int_equal(total(p, "leased"), 0);
    check_totals(p);
}

/* --- what operators see --- */

static int64_t leased_in_queues(struct peer *p)
{
    json_t *queues = ask(p, BROKER_ASK_QUEUES, NULL, NULL);
    int64_t n = json_integer_value(json_object_get(json_array_get(queues, 0), "leased"));

    json_decref(queues);
    return n;
}

static void operators_see_what_many_have_left(struct contract_env *env)
{
    struct many m;
    size_t shown, left = 0;
    json_t *list, *row;

    env_needs(env, LACKS_LEASES); /* RabbitMQ's are not shown */
    lease_many(env, &m, "w");
    end_some(&m, 10, 30, BROKER_FINISHED);
    assert_int_equal(leased_in_queues(m.p), 20);
    list = ask(m.p, BROKER_ASK_PEEK, "celery", NULL);
    json_array_foreach(list, shown, row)
    {
        const char *envelope = json_string_value(json_object_get(row, "envelope"));

        assert_string_equal(json_string_value(json_object_get(row, "state")), "leased");
        assert_true(strcmp(envelope, "job-10") < 0 || strcmp(envelope, "job-30") >= 0);
        left++;
    }
    assert_int_equal(left, 20);
    json_decref(list);
    free_many(&m);
}

const struct contract_row suite_many[] = {
    {"many jobs end once each", many_jobs_end_once_each},
    {"results of many are stored once", results_of_many_are_stored_once},
    {"one of many fails", one_of_many_fails},
    {"one of many is buried", one_of_many_is_buried},
    {"one of many is tried again", one_of_many_is_tried_again},
    {"one of many is handed back", one_of_many_is_handed_back},
    {"one of many is noted", one_of_many_is_noted},
    {"one of many is renewed", one_of_many_is_renewed},
    {"one of many claims a key", one_of_many_claims_a_key},
    {"a close hands the rest of many back", a_close_hands_the_rest_of_many_back},
    {"a successor takes the rest of many", a_successor_takes_the_rest_of_many},
    {"leases of many run out", leases_of_many_run_out},
    {"many leases are renewed", many_leases_are_renewed},
    {"the urgent go before many", the_urgent_go_before_many},
    {"many come from all queues", many_come_from_all_queues},
    {"operators see what many have left", operators_see_what_many_have_left},
    {NULL, NULL},
};
