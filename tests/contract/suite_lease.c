/* Leases: expiry, renewal, take-over, handing back, death of the holder. */
#include "contract.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static uint64_t give_back(struct peer *p, const struct seen *job, int64_t not_before_ms,
                          const char *envelope, bool front)
{
    struct broker_release r = {.tag = ++p->last_tag,
                               .receipt = job->receipt,
                               .not_before_ms = not_before_ms,
                               .envelope = slice_of(envelope),
                               .front = front};

    assert_int_equal(broker_release(p->b, &r, 1, NULL), 0);
    return r.tag;
}

static void give_back_ok(struct peer *p, const struct seen *job, int64_t not_before_ms,
                         const char *envelope, bool front)
{
    struct seen s =
        peer_expect(p, BROKER_RELEASED, give_back(p, job, not_before_ms, envelope, front));

    seen_free(&s);
}

static void a_lapsed_lease_returns_the_message_and_fences_the_first(struct contract_env *env)
{
    struct peer *a, *b;
    struct seen old, again, s;

    env_needs(env, LACKS_LEASES);
    a = peer_open(env, "a", 1);
    b = peer_open(env, "b", 1);
    put(a, "celery", "x");
    old = take(a);
    again = take(b);
    assert_string_equal(again.data, "x");
    assert_true(again.fence > old.fence);
    s = peer_expect(a, BROKER_REFUSED,
                    finish(a, &old, "id-1", "{\"status\": \"SUCCESS\", \"result\": 1}"));
    seen_free(&s);
    if (!env->split)
        assert_null(stored(a, "id-1"));
    assert_int_equal(total(a, "succeeded"), 0);
    assert_int_equal(total(a, "leased"), 1);
    finish_ok(b, &again);
    assert_int_equal(total(a, "succeeded"), 1);
    check_totals(a);
    seen_free(&old);
    seen_free(&again);
}

static void a_renewed_lease_stays(struct contract_env *env)
{
    struct peer *a = peer_open(env, "a", 1), *b = peer_open(env, "b", 1);
    struct seen job;

    put(a, "celery", "x");
    job = take(a);
    broker_credit(b->b, 1);
    for (int i = 0; i < 8; i++) {
        assert_int_equal(broker_renew(a->b, &job.receipt, 1, NULL), 0);
        assert_false(peer_sees(b, BROKER_DELIVERED, ANY_TAG, CONTRACT_LEASE_MS / 4));
    }
    finish_ok(a, &job);
    check_totals(a);
    seen_free(&job);
}

static void renewing_a_lost_lease_says_so(struct contract_env *env)
{
    struct peer *a = peer_open(env, "a", 1);
    struct seen job, lost;

    put(a, "celery", "x");
    job = take(a);
    finish_ok(a, &job);
    assert_int_equal(broker_renew(a->b, &job.receipt, 1, NULL), 0);
    lost = peer_expect(a, BROKER_LOST, ANY_TAG);
    assert_memory_equal(&lost.receipt, &job.receipt, sizeof(job.receipt));
    seen_free(&lost);
    seen_free(&job);
}

static void a_successor_takes_over_at_once(struct contract_env *env)
{
    struct peer *first, *next;
    struct seen old, job, s;
    int64_t before;

    env_needs(env, LACKS_LEASES);
    first = peer_open(env, "node", 1);
    put(first, "celery", "x");
    old = take(first);
    before = clock_mono_ms(env->clock);
    next = peer_open(env, "node", 2);
    job = take(next);
    assert_string_equal(job.data, "x");
    if (env->clock == &env->fake.base)
        assert_true(clock_mono_ms(env->clock) - before < CONTRACT_LEASE_MS);
    s = peer_expect(first, BROKER_REFUSED, finish(first, &old, NULL, NULL));
    seen_free(&s);
    finish_ok(next, &job);
    check_totals(next);
    seen_free(&old);
    seen_free(&job);
}

static void another_node_takes_nothing_over(struct contract_env *env)
{
    struct peer *a = peer_open(env, "a", 1), *b;
    struct seen job;

    put(a, "celery", "x");
    job = take(a);
    b = peer_open(env, "b", 9);
    broker_credit(b->b, 1);
    assert_false(peer_sees(b, BROKER_DELIVERED, ANY_TAG, CONTRACT_LEASE_MS / 4));
    finish_ok(a, &job);
    seen_free(&job);
}

static void handing_back_goes_to_the_end_or_to_the_front(struct contract_env *env)
{
    struct peer *p = peer_open(env, "w", 1);
    struct seen one, two;

    put(p, "celery", "1");
    put(p, "celery", "2");
    put(p, "celery", "3");
    take_is(p, "1", &one);
    give_back_ok(p, &one, 0, NULL, false);
    take_is(p, "2", &two);
    give_back_ok(p, &two, 0, NULL, true);
    take_is(p, "2", NULL);
    take_is(p, "3", NULL);
    take_is(p, "1", NULL);
    check_totals(p);
    seen_free(&one);
    seen_free(&two);
}

static void handing_back_can_change_the_message_and_its_time(struct contract_env *env)
{
    struct peer *p = peer_open(env, "w", 1);
    int64_t due = env_wall_ms(env) + 1500; /* seen as delayed first */
    struct seen job, s;

    put(p, "celery", "{\"lost\": 0}");
    job = take(p);
    give_back_ok(p, &job, due, "{\"lost\": 1}", false);
    assert_int_equal(total(p, "delayed"), 1);
    check_totals(p);
    s = take(p);
    assert_true(env_wall_ms(env) >= due);
    assert_string_equal(s.data, "{\"lost\": 1}");
    seen_free(&s);
    s = peer_expect(p, BROKER_REFUSED, give_back(p, &job, 0, NULL, true));
    seen_free(&s);
    check_totals(p);
    seen_free(&job);
}

static void closing_hands_everything_back(struct contract_env *env)
{
    struct peer *a = peer_open(env, "a", 1), *b = peer_open(env, "b", 1);
    struct seen s;

    put(a, "celery", "1");
    put(a, "celery", "2");
    s = take(a);
    seen_free(&s);
    peer_close(a, true);
    assert_int_equal(total(b, "leased"), 0);
    take_is(b, "1", NULL);
    take_is(b, "2", NULL);
    check_totals(b);
}

/* The holder is killed without a word; its lease lapses. */
static void a_killed_holder_loses_nothing(struct contract_env *env)
{
    struct peer *client, *worker;
    int ready[2], status;
    pid_t pid;

    if (!env->durable)
        return;
    client = peer_open(env, NULL, 0);
    put(client, "celery", "x");
    peer_close(client, false);
    assert_int_equal(pipe(ready), 0);
    pid = fork();
    if (pid == 0) {
        struct peer *victim = peer_open(env, "victim", 1);
        struct seen s = take(victim);

        seen_free(&s);
        if (write(ready[1], "x", 1) == 1)
            pause();
        _exit(1);
    }
    close(ready[1]);
    assert_int_equal(read(ready[0], &status, 1), 1);
    close(ready[0]);
    kill(pid, SIGKILL);
    waitpid(pid, &status, 0);
    worker = peer_open(env, "w", 1);
    take_is(worker, "x", NULL);
    check_totals(worker);
}

const struct contract_row suite_lease[] = {
    {"a lapsed lease returns the message and fences the first",
     a_lapsed_lease_returns_the_message_and_fences_the_first},
    {"a renewed lease stays", a_renewed_lease_stays},
    {"renewing a lost lease says so", renewing_a_lost_lease_says_so},
    {"a successor takes over at once", a_successor_takes_over_at_once},
    {"another node takes nothing over", another_node_takes_nothing_over},
    {"handing back goes to the end or to the front", handing_back_goes_to_the_end_or_to_the_front},
    {"handing back can change the message and its time",
     handing_back_can_change_the_message_and_its_time},
    {"closing hands everything back", closing_hands_everything_back},
    {"a killed holder loses nothing", a_killed_holder_loses_nothing},
    {NULL, NULL},
};
