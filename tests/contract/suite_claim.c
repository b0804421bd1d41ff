/* Dedup keys: who may run, who waits, who gets the first one's result. */
#include "contract.h"

#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define WINDOW_MS 60000
#define SUCCESS   "{\"status\": \"SUCCESS\", \"result\": 1, \"task_id\": \"first\"}"
#define FAILURE   "{\"status\": \"FAILURE\", \"result\": {}, \"task_id\": \"first\"}"
#define RETRY     "{\"status\": \"RETRY\", \"result\": null, \"task_id\": \"first\"}"

/* A backend that keeps no keys says so; then there is nothing more to test. */
static bool keeps_keys(struct peer *p)
{
    struct broker_claim c = {
        .tag = 1, .key = slice_of("k"), .id = slice_of("id"), .window_ms = WINDOW_MS};
    struct err e = ERR_INIT;

    if (broker_caps(p->b) & BROKER_CAP_CLAIMS)
        return true;
    assert_int_equal(broker_claim(p->b, &c, 1, &e), -1);
    assert_int_equal(e.code, ERR_USAGE);
    return false;
}

static struct seen claim(struct peer *p, const struct seen *job, const char *key, const char *id)
{
    struct broker_claim c = {.tag = ++p->last_tag,
                             .receipt = job->receipt,
                             .key = slice_of(key),
                             .id = slice_of(id),
                             .window_ms = WINDOW_MS};

    assert_int_equal(broker_claim(p->b, &c, 1, NULL), 0);
    return peer_expect(p, BROKER_CLAIMED, c.tag);
}

static void wins(struct peer *p, const struct seen *job, const char *key, const char *id)
{
    struct seen s = claim(p, job, key, id);

    assert_int_equal(s.flags, BROKER_WON);
    seen_free(&s);
}

static void waits_for(struct peer *p, const struct seen *job, const char *key, const char *id,
                      const char *holder)
{
    struct seen s = claim(p, job, key, id);

    assert_int_equal(s.flags, 0);
    assert_string_equal(s.id, holder);
    seen_free(&s);
}

/* doc NULL: none is stored. */
static void repeats(struct peer *p, const struct seen *job, const char *key, const char *id,
                    const char *first, const char *doc)
{
    struct seen s = claim(p, job, key, id);

    assert_int_equal(s.flags, BROKER_DUPLICATE);
    assert_string_equal(s.id, first);
    if (doc)
        assert_string_equal(s.data, doc);
    else
        assert_null(s.data);
    seen_free(&s);
}

/* Two messages, both leased by p. */
static void take_two(struct peer *p, struct seen jobs[2])
{
    put(p, "celery", "1");
    put(p, "celery", "2");
    jobs[0] = take(p);
    jobs[1] = take(p);
}

static void free_two(struct seen jobs[2])
{
    seen_free(&jobs[0]);
    seen_free(&jobs[1]);
}

static struct broker_finish ending(struct peer *p, const struct seen *job, const char *key,
                                   enum broker_outcome outcome, const char *id, const char *doc)
{
    return (struct broker_finish){.tag = ++p->last_tag,
                                  .receipt = job->receipt,
                                  .outcome = outcome,
                                  .result_id = slice_of(id),
                                  .result = slice_of(doc),
                                  .dedup_key = slice_of(key),
                                  .dedup_window_ms = WINDOW_MS};
}

static unsigned end(struct peer *p, const struct broker_finish *f)
{
    struct seen s;

    assert_int_equal(broker_finish(p->b, f, 1, NULL), 0);
    s = peer_expect(p, BROKER_FINISHED, f->tag);
    seen_free(&s);
    return s.flags;
}

static void succeed(struct peer *p, const struct seen *job, const char *key, const char *id,
                    const char *doc)
{
    struct broker_finish f = ending(p, job, key, BROKER_JOB_SUCCEEDED, id, doc);

    assert_int_equal(end(p, &f), 0);
}

static void the_first_runs_and_the_second_gets_its_result(struct contract_env *env)
{
    struct peer *p = peer_open(env, "w", 1);
    struct seen jobs[2];

    if (!keeps_keys(p))
        return;
    take_two(p, jobs);
    wins(p, &jobs[0], "k", "first");
    waits_for(p, &jobs[1], "k", "second", "first");
    wins(p, &jobs[0], "k", "first"); /* asked again: an answer may have been lost */
    wins(p, &jobs[1], "another", "second");
    succeed(p, &jobs[0], "k", "first", SUCCESS);
    repeats(p, &jobs[1], "k", "second", "first", SUCCESS);
    repeats(p, &jobs[1], "k", "first", "first", SUCCESS);
    check_totals(p);
    free_two(jobs);
}

static void a_first_without_a_stored_result_is_told_all_the_same(struct contract_env *env)
{
    struct peer *p = peer_open(env, "w", 1);
    struct seen jobs[2];

    if (!keeps_keys(p))
        return;
    take_two(p, jobs);
    wins(p, &jobs[0], "k", "first");
    succeed(p, &jobs[0], "k", NULL, NULL);
    repeats(p, &jobs[1], "k", "second", "first", NULL);
    free_two(jobs);
}

static void a_duplicate_is_counted_twice_over_and_its_follow_ups_go_out(struct contract_env *env)
{
    struct peer *p = peer_open(env, "w", 1);
    struct broker_message next = {.queue = slice_of("celery"), .envelope = slice_of("linked")};
    struct broker_finish f;
    struct seen jobs[2];
    char *doc;

    if (!keeps_keys(p))
        return;
    take_two(p, jobs);
    wins(p, &jobs[0], "k", "first");
    succeed(p, &jobs[0], "k", "first", SUCCESS);
    repeats(p, &jobs[1], "k", "second", "first", SUCCESS);
    f = ending(p, &jobs[1], NULL, BROKER_JOB_SUCCEEDED, "second", SUCCESS);
    f.duplicate = true;
    f.followups = &next;
    f.followups_len = 1;
    assert_int_equal(end(p, &f), BROKER_DUPLICATE);
    assert_int_equal(total(p, "succeeded"), 2);
    assert_int_equal(total(p, "duplicates"), 1);
    assert_int_equal(total(p, "published"), 3);
    check_totals(p);
    doc = stored(p, "second");
    assert_string_equal(doc, SUCCESS);
    free(doc);
    take_is(p, "linked", NULL);
    free_two(jobs);
}

static void the_window_ends(struct contract_env *env)
{
    struct peer *p = peer_open(env, "w", 1);
    struct broker_finish f;
    struct seen job;

    if (!keeps_keys(p))
        return;
    put(p, "celery", "1");
    job = take(p);
    wins(p, &job, "short", "first");
    f = ending(p, &job, "short", BROKER_JOB_SUCCEEDED, "first", SUCCESS);
    f.dedup_window_ms = 200;
    end(p, &f);
    seen_free(&job);
    env_pass(env, 250);
    put(p, "celery", "2");
    job = take(p);
    wins(p, &job, "short", "second");
    finish_ok(p, &job);
    seen_free(&job);
}

static void a_long_window_outlives_leases(struct contract_env *env)
{
    struct peer *p = peer_open(env, "w", 1);
    struct seen job;

    if (!keeps_keys(p))
        return;
    put(p, "celery", "1");
    job = take(p);
    wins(p, &job, "k", "first");
    succeed(p, &job, "k", "first", SUCCESS);
    seen_free(&job);
    env_pass(env, 3 * CONTRACT_LEASE_MS);
    put(p, "celery", "2");
    job = take(p);
    repeats(p, &job, "k", "second", "first", SUCCESS);
    seen_free(&job);
}

static void a_claim_holds_while_its_lease_is_renewed(struct contract_env *env)
{
    struct peer *p = peer_open(env, "w", 1);
    struct broker_receipt both[2];
    struct seen jobs[2];

    if (!keeps_keys(p))
        return;
    take_two(p, jobs);
    both[0] = jobs[0].receipt;
    both[1] = jobs[1].receipt;
    wins(p, &jobs[0], "k", "first");
    for (int i = 0; i < 8; i++) {
        assert_int_equal(broker_renew(p->b, both, 2, NULL), 0);
        env_pass(env, CONTRACT_LEASE_MS / 4);
        waits_for(p, &jobs[1], "k", "second", "first");
    }
    free_two(jobs);
}

/* Puts a message and takes deliveries until it comes; what comes before it stays leased. */
static struct seen put_and_take(struct peer *p, const char *envelope)
{
    struct seen job;

    put(p, "celery", envelope);
    job = take(p);
    while (strcmp(job.data, envelope) != 0) {
        seen_free(&job);
        job = take(p);
    }
    return job;
}

/* The holder leaves without a word: its connection or its lease ends, and then its hold. */
static void the_next_takes_over_from_a_holder_that_is_gone(struct contract_env *env)
{
    struct peer *a = peer_open(env, "a", 1), *b;
    struct seen job, s = {0};

    if (!keeps_keys(a))
        return;
    put(a, "celery", "1");
    job = take(a);
    wins(a, &job, "k", "first");
    seen_free(&job);
    peer_close(a, false);
    b = peer_open(env, "b", 1);
    job = put_and_take(b, "2");
    for (int i = 0; i < 200 && s.flags != BROKER_WON; i++) {
        assert_int_equal(broker_renew(b->b, &job.receipt, 1, NULL), 0);
        s = claim(b, &job, "k", "second");
        if (s.flags != BROKER_WON)
            assert_string_equal(s.id, "first");
        seen_free(&s);
        env_pass(env, 50);
    }
    assert_int_equal(s.flags, BROKER_WON);
    succeed(b, &job, "k", "second", SUCCESS);
    check_totals(b);
    seen_free(&job);
}

/* The first holder is paused, its lease lapses, and another job of the key takes over. */
static void the_next_takes_over_from_a_lost_lease(struct contract_env *env)
{
    struct peer *a = peer_open(env, "a", 1), *b = peer_open(env, "b", 1);
    struct seen old, again, other, s;
    struct broker_finish f;

    env_needs(env, LACKS_LEASES);
    if (!keeps_keys(a))
        return;
    put(a, "celery", "1");
    old = take(a);
    wins(a, &old, "k", "first");
    again = take(b); /* it came back */
    put(b, "celery", "2");
    other = take(b);
    wins(b, &other, "k", "second");
    waits_for(b, &again, "k", "first", "second");
    /* The fence: the old holder neither claims nor settles. */
    f = ending(a, &old, "k", BROKER_JOB_FAILED, NULL, NULL);
    assert_int_equal(broker_finish(a->b, &f, 1, NULL), 0);
    s = peer_expect(a, BROKER_REFUSED, f.tag);
    seen_free(&s);
    waits_for(b, &again, "k", "first", "second");
    succeed(b, &other, "k", "second", SUCCESS);
    repeats(b, &again, "k", "first", "second", SUCCESS);
    check_totals(b);
    seen_free(&old);
    seen_free(&again);
    seen_free(&other);
}

static void a_redelivered_job_takes_its_claim_again(struct contract_env *env)
{
    struct peer *a = peer_open(env, "a", 1), *b = peer_open(env, "b", 1);
    struct broker_claim c = {
        .tag = 900, .key = slice_of("k"), .id = slice_of("first"), .window_ms = WINDOW_MS};
    struct seen old, again, s;

    env_needs(env, LACKS_LEASES);
    if (!keeps_keys(a))
        return;
    put(a, "celery", "1");
    old = take(a);
    wins(a, &old, "k", "first");
    again = take(b);
    wins(b, &again, "k", "first");
    c.receipt = old.receipt;
    assert_int_equal(broker_claim(a->b, &c, 1, NULL), 0);
    s = peer_expect(a, BROKER_REFUSED, 900);
    seen_free(&s);
    succeed(b, &again, "k", "first", SUCCESS);
    seen_free(&old);
    seen_free(&again);
}

static void handing_back_gives_the_key_up(struct contract_env *env)
{
    struct peer *p = peer_open(env, "w", 1);
    struct broker_release r = {.tag = 901, .not_before_ms = env_wall_ms(env) + WINDOW_MS};
    struct seen jobs[2], s;

    if (!keeps_keys(p))
        return;
    take_two(p, jobs);
    wins(p, &jobs[0], "k", "first");
    r.receipt = jobs[0].receipt;
    assert_int_equal(broker_release(p->b, &r, 1, NULL), 0);
    s = peer_expect(p, BROKER_RELEASED, 901);
    seen_free(&s);
    wins(p, &jobs[1], "k", "second");
    free_two(jobs);
}

static void a_failed_first_gives_the_key_up(struct contract_env *env)
{
    struct peer *p = peer_open(env, "w", 1);
    struct broker_finish f;
    struct seen jobs[2];

    if (!keeps_keys(p))
        return;
    take_two(p, jobs);
    wins(p, &jobs[0], "k", "first");
    f = ending(p, &jobs[0], "k", BROKER_JOB_FAILED, "first", FAILURE);
    end(p, &f);
    wins(p, &jobs[1], "k", "second");
    succeed(p, &jobs[1], "k", NULL, NULL);
    check_totals(p);
    free_two(jobs);
}

static void a_buried_first_gives_the_key_up(struct contract_env *env)
{
    struct peer *p = peer_open(env, "w", 1);
    struct broker_bury bury = {.tag = 902,
                               .cause = slice_of("because"),
                               .result_id = slice_of("first"),
                               .result = slice_of(FAILURE),
                               .dedup_key = slice_of("k")};
    struct seen jobs[2], s;

    if (!keeps_keys(p))
        return;
    take_two(p, jobs);
    wins(p, &jobs[0], "k", "first");
    bury.receipt = jobs[0].receipt;
    assert_int_equal(broker_bury(p->b, &bury, 1, NULL), 0);
    s = peer_expect(p, BROKER_BURIED, 902);
    seen_free(&s);
    wins(p, &jobs[1], "k", "second");
    check_totals(p);
    free_two(jobs);
}

static void retry_in(struct contract_env *env, struct peer *p, const struct seen *job, int64_t ms)
{
    struct broker_message next = {.queue = slice_of("other"),
                                  .envelope = slice_of("retry"),
                                  .continues = true,
                                  .not_before_ms = env_wall_ms(env) + ms};
    struct broker_finish f = ending(p, job, "k", BROKER_JOB_CONTINUES, "first", RETRY);

    f.followups = &next;
    f.followups_len = 1;
    end(p, &f);
}

static void a_retry_keeps_the_key_for_its_job(struct contract_env *env)
{
    struct peer *p = peer_open(env, "w", 1);
    struct seen jobs[2], again;

    if (!keeps_keys(p))
        return;
    take_two(p, jobs);
    wins(p, &jobs[0], "k", "first");
    retry_in(env, p, &jobs[0], 0);
    waits_for(p, &jobs[1], "k", "second", "first");
    take_is(p, "retry", &again);
    wins(p, &again, "k", "first");
    waits_for(p, &jobs[1], "k", "second", "first");
    succeed(p, &again, "k", "first", SUCCESS);
    repeats(p, &jobs[1], "k", "second", "first", SUCCESS);
    check_totals(p);
    seen_free(&again);
    free_two(jobs);
}

/* The retry claims nothing here: its time and a lease later the key is anybody's. */
static void a_retry_that_does_not_come_loses_the_key(struct contract_env *env)
{
    struct peer *p = peer_open(env, "w", 1);
    struct seen job;

    if (!keeps_keys(p))
        return;
    put(p, "celery", "1");
    job = take(p);
    wins(p, &job, "k", "first");
    retry_in(env, p, &job, 2 * CONTRACT_LEASE_MS);
    seen_free(&job);
    env_pass(env, CONTRACT_LEASE_MS * 3 / 2);
    job = put_and_take(p, "2");
    waits_for(p, &job, "k", "second", "first");
    finish_ok(p, &job);
    seen_free(&job);
    env_pass(env, CONTRACT_LEASE_MS * 3 / 2 + 50);
    job = put_and_take(p, "3");
    wins(p, &job, "k", "third");
    check_totals(p);
    seen_free(&job);
}

static void a_finish_leaves_anothers_key_alone(struct contract_env *env)
{
    struct peer *p = peer_open(env, "w", 1);
    struct broker_finish f;
    struct seen jobs[2], third;

    if (!keeps_keys(p))
        return;
    take_two(p, jobs);
    put(p, "celery", "3");
    third = take(p);
    wins(p, &jobs[0], "k", "first");
    waits_for(p, &jobs[1], "k", "second", "first");
    f = ending(p, &jobs[1], "k", BROKER_JOB_SUCCEEDED, NULL, NULL);
    end(p, &f);
    waits_for(p, &third, "k", "third", "first");
    f = ending(p, &third, "never claimed", BROKER_JOB_SUCCEEDED, NULL, NULL);
    end(p, &f);
    succeed(p, &jobs[0], "k", "first", SUCCESS);
    check_totals(p);
    seen_free(&third);
    free_two(jobs);
}

/* A run that fails after its job has a SUCCESS is a success for the key too. */
static void a_stored_success_settles_the_key(struct contract_env *env)
{
    struct peer *p = peer_open(env, "w", 1);
    struct broker_store first = {.tag = 903, .id = slice_of("first"), .result = slice_of(SUCCESS)};
    struct broker_finish f;
    struct seen jobs[2], s;

    if (!keeps_keys(p))
        return;
    assert_int_equal(broker_store(p->b, &first, 1, NULL), 0);
    s = peer_expect(p, BROKER_STORED, 903);
    seen_free(&s);
    take_two(p, jobs);
    wins(p, &jobs[0], "k", "first");
    f = ending(p, &jobs[0], "k", BROKER_JOB_FAILED, "first", FAILURE);
    if (env->lacks & LACKS_ATOMIC_FINISH) { /* who cannot see it settles by the outcome */
        assert_int_equal(end(p, &f), 0);
        wins(p, &jobs[1], "k", "second");
    } else {
        assert_int_equal(end(p, &f), BROKER_DUPLICATE);
        repeats(p, &jobs[1], "k", "second", "first", SUCCESS);
    }
    check_totals(p);
    free_two(jobs);
}

/* One call, one key: the first item has it when the second is looked at. */
static void items_of_one_call_exclude_one_another(struct contract_env *env)
{
    struct peer *p = peer_open(env, "w", 1);
    struct broker_claim c[3];
    struct seen jobs[3], s;

    if (!keeps_keys(p))
        return;
    take_two(p, jobs);
    put(p, "celery", "3");
    jobs[2] = take(p);
    for (int i = 0; i < 3; i++)
        c[i] = (struct broker_claim){.tag = 910 + (uint64_t)i,
                                     .receipt = jobs[i].receipt,
                                     .key = slice_of("k"),
                                     .id = slice_of(i ? "next" : "first"),
                                     .window_ms = WINDOW_MS};
    finish_ok(p, &jobs[2]);
    assert_int_equal(broker_claim(p->b, c, 3, NULL), 0);
    s = peer_expect(p, BROKER_CLAIMED, 910);
    assert_int_equal(s.flags, BROKER_WON);
    seen_free(&s);
    s = peer_expect(p, BROKER_CLAIMED, 911);
    assert_int_equal(s.flags, 0);
    assert_string_equal(s.id, "first");
    seen_free(&s);
    s = peer_expect(p, BROKER_REFUSED, 912);
    seen_free(&s);
    seen_free(&jobs[2]);
    free_two(jobs);
}

static void any_bytes_are_a_key_and_wrong_ones_are_refused(struct contract_env *env)
{
    struct peer *p = peer_open(env, "w", 1);
    char longest[BROKER_KEY_MAX + 2] = {0};
    struct broker_claim c = {.tag = 920, .id = slice_of("first"), .window_ms = WINDOW_MS};
    struct seen job, s;

    if (!keeps_keys(p))
        return;
    put(p, "celery", "1");
    job = take(p);
    memset(longest, 'x', sizeof(longest) - 1);
    memcpy(longest, "\0\xff{\n\"", 5);
    c.receipt = job.receipt;
    c.key = slice_make(longest, BROKER_KEY_MAX);
    assert_int_equal(broker_claim(p->b, &c, 1, NULL), 0);
    s = peer_expect(p, BROKER_CLAIMED, 920);
    assert_int_equal(s.flags, BROKER_WON);
    seen_free(&s);
    c.key.len++;
    assert_int_equal(broker_claim(p->b, &c, 1, NULL), -1);
    c.key.len = 0;
    assert_int_equal(broker_claim(p->b, &c, 1, NULL), -1);
    c.key = slice_of("k");
    c.window_ms = 0;
    assert_int_equal(broker_claim(p->b, &c, 1, NULL), -1);
    c.window_ms = WINDOW_MS;
    c.id = slice_of("");
    assert_int_equal(broker_claim(p->b, &c, 1, NULL), -1);
    seen_free(&job);
}

/* The holder is killed without a word: its successor gives the message back, and whoever claims
 * next has the key. */
static void a_killed_holder_loses_its_key(struct contract_env *env)
{
    struct peer *p;
    struct seen jobs[2];
    int ready[2], status;
    pid_t pid;

    if (!env->durable)
        return;
    p = peer_open(env, NULL, 0);
    if (!keeps_keys(p))
        return;
    put(p, "celery", "1");
    put(p, "celery", "2");
    peer_close(p, false);
    assert_int_equal(pipe(ready), 0);
    pid = fork();
    if (pid == 0) {
        struct peer *victim = peer_open(env, "victim", 1);
        struct seen job = take(victim);

        wins(victim, &job, "k", "first");
        if (write(ready[1], "x", 1) == 1)
            pause();
        _exit(1);
    }
    close(ready[1]);
    assert_int_equal(read(ready[0], &status, 1), 1);
    close(ready[0]);
    kill(pid, SIGKILL);
    waitpid(pid, &status, 0);
    p = peer_open(env, "victim", 2);
    jobs[0] = take(p);
    jobs[1] = take(p);
    wins(p, &jobs[1], "k", "second");
    waits_for(p, &jobs[0], "k", "first", "second");
    succeed(p, &jobs[1], "k", "second", SUCCESS);
    repeats(p, &jobs[0], "k", "first", "second", SUCCESS);
    check_totals(p);
    free_two(jobs);
}

const struct contract_row suite_claim[] = {
    {"the first runs and the second gets its result",
     the_first_runs_and_the_second_gets_its_result},
    {"a first without a stored result is told all the same",
     a_first_without_a_stored_result_is_told_all_the_same},
    {"a duplicate is counted twice over and its follow-ups go out",
     a_duplicate_is_counted_twice_over_and_its_follow_ups_go_out},
    {"a window ends", the_window_ends},
    {"a long window outlives leases", a_long_window_outlives_leases},
    {"a claim holds while its lease is renewed", a_claim_holds_while_its_lease_is_renewed},
    {"the next takes over from a holder that is gone",
     the_next_takes_over_from_a_holder_that_is_gone},
    {"the next takes over from a lost lease", the_next_takes_over_from_a_lost_lease},
    {"a redelivered job takes its claim again", a_redelivered_job_takes_its_claim_again},
    {"handing back gives the key up", handing_back_gives_the_key_up},
    {"a failed first gives the key up", a_failed_first_gives_the_key_up},
    {"a buried first gives the key up", a_buried_first_gives_the_key_up},
    {"a retry keeps the key for its job", a_retry_keeps_the_key_for_its_job},
    {"a retry that does not come loses the key", a_retry_that_does_not_come_loses_the_key},
    {"a finish leaves another's key alone", a_finish_leaves_anothers_key_alone},
    {"a stored success settles the key", a_stored_success_settles_the_key},
    {"items of one call exclude one another", items_of_one_call_exclude_one_another},
    {"any bytes are a key and wrong ones are refused",
     any_bytes_are_a_key_and_wrong_ones_are_refused},
    {"a killed holder loses its key", a_killed_holder_loses_its_key},
    {NULL, NULL},
};
