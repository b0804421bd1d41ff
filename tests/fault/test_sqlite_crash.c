/* The SQLite broker under kill -9: at its named crash points, and at any instruction. */
#include "tests/support/check.h"

#include "tests/support/sqlite_fixture.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#define JOBS    12000
#define WORKERS 2

static int setup(void **state)
{
    struct fixture *f = malloc(sizeof(*f));

    if (!f)
        return -1;
    fixture_init(f);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    fixture_release(*state);
    free(*state);
    return 0;
}

/* --- named points --- */

typedef void child_fn(struct fixture *f);

/* Runs body in a child that dies at the point; opened before it is armed. */
static void die_at(struct fixture *f, const char *point, child_fn *body)
{
    pid_t child = fork();
    int status;

    if (child == 0) {
        setenv("CELERIAC_FAULT", point, 1);
        body(f);
        _exit(0);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFSIGNALED(status));
    assert_int_equal(WTERMSIG(status), SIGKILL);
}

/* The first commit of a process is its arrival, so the points are armed for the second pass;
 * arriving rings no bell, so those behind it for the first. */
static void publish_one(struct fixture *f)
{
    struct broker *b = fixture_open(f, NULL, 0, true);
    struct broker_event event;

    fixture_publish(b, "a", "token-a");
    fixture_wait(b, BROKER_PUBLISHED, &event);
}

static void finish_one(struct fixture *f)
{
    struct broker *b = fixture_open(f, "n", 1, true);
    struct broker_event event;

    broker_credit(b, 1);
    if (fixture_wait(b, BROKER_DELIVERED, &event) == 0)
        fixture_finish(b, &event.receipt, "a");
    fixture_wait(b, BROKER_FINISHED, &event);
}

static void expect_waiting(struct fixture *f, int waiting)
{
    struct broker *b = fixture_open(f, NULL, 0, true);

    assert_int_equal(fixture_total(b, "waiting"), waiting);
    broker_close(b, false);
}

static void resend(struct fixture *f)
{
    struct broker *b = fixture_open(f, NULL, 0, true);
    struct broker_event event;

    fixture_publish(b, "a", "token-a");
    assert_int_equal(fixture_wait(b, BROKER_PUBLISHED, &event), 0);
    assert_int_equal(fixture_total(b, "published"), 1);
    assert_int_equal(fixture_total(b, "waiting"), 1);
    broker_close(b, false);
}

static void test_publish_before_commit(void **state)
{
    die_at(*state, "sqlite.before-commit:2", publish_one);
    expect_waiting(*state, 0);
    resend(*state);
}

static void test_publish_after_commit(void **state)
{
    die_at(*state, "sqlite.after-commit", publish_one);
    expect_waiting(*state, 1);
    resend(*state);
}

static void test_publish_after_bell(void **state)
{
    die_at(*state, "sqlite.after-bell", publish_one);
    expect_waiting(*state, 1);
    resend(*state);
}

/* The successor of the same node gets what its predecessor held, and finishes it once. */
static void test_finish_before_commit(void **state)
{
    struct fixture *f = *state;
    struct broker_event event;
    struct broker *b;

    resend(f);
    /* Arrival, fetch, finish. */
    die_at(f, "sqlite.before-commit:3", finish_one);
    b = fixture_open(f, "n", 2, true);
    broker_credit(b, 1);
    assert_int_equal(fixture_wait(b, BROKER_DELIVERED, &event), 0);
    assert_true(event.flags & BROKER_REDELIVERED);
    assert_int_equal(fixture_finish(b, &event.receipt, "a"), 0);
    assert_int_equal(fixture_wait(b, BROKER_FINISHED, &event), 0);
    assert_int_equal(fixture_total(b, "succeeded"), 1);
    broker_close(b, true);
}

static void test_after_fetch(void **state)
{
    struct fixture *f = *state;
    struct broker_event event;
    struct broker *b;

    resend(f);
    die_at(f, "sqlite.after-fetch", finish_one);
    b = fixture_open(f, "n", 2, true);
    broker_credit(b, 1);
    assert_int_equal(fixture_wait(b, BROKER_DELIVERED, &event), 0);
    assert_true(event.flags & BROKER_REDELIVERED);
    broker_close(b, true);
}

static void test_finish_after_commit(void **state)
{
    struct fixture *f = *state;
    struct broker *b;

    resend(f);
    die_at(f, "sqlite.after-commit", finish_one);
    b = fixture_open(f, "n", 2, true);
    assert_int_equal(fixture_total(b, "succeeded"), 1);
    assert_int_equal(fixture_total(b, "leased"), 0);
    assert_int_equal(fixture_total(b, "waiting"), 0);
    broker_close(b, true);
}

/* --- any instruction --- */

/* Publishes all jobs; one that is killed is started anew and sends all of them again. */
static void produce(struct fixture *f)
{
    struct broker *b = fixture_open(f, NULL, 0, true);
    struct broker_event event;
    char id[20];

    for (int i = 0; i < JOBS; i++) {
        snprintf(id, sizeof(id), "job-%d", i);
        fixture_publish(b, id, id);
        if (i % 7 == 6 && fixture_wait(b, BROKER_PUBLISHED, &event) != 0)
            _exit(1);
    }
    fixture_settle(b);
    broker_close(b, true); /* flushes the rest */
    _exit(0);
}

static void consume(struct fixture *f, int slot, uint64_t generation)
{
    struct broker_event events[8];
    struct broker *b;
    char node[16], id[64];

    snprintf(node, sizeof(node), "w%d", slot);
    b = fixture_open(f, node, generation, true);
    for (;;) {
        struct pollfd fds[4];
        int n;

        broker_credit(b, 8);
        n = broker_poll(b, events, 8);
        for (int i = 0; i < n; i++) {
            if (events[i].kind != BROKER_DELIVERED)
                continue;
            snprintf(id, sizeof(id), "%.*s", SLICE_ARG(events[i].data));
            if (fixture_finish(b, &events[i].receipt, id) != 0)
                _exit(1);
        }
        if (n == 0)
            poll(fds, (nfds_t)broker_pollset(b, fds, 4),
                 clock_poll_timeout(clock_system(), broker_deadline(b)));
    }
}

struct troupe {
    struct fixture *f;
    pid_t pids[WORKERS + 1]; /* the last is the producer; 0: it is done */
    uint64_t generation;
    int kills;
};

static void start(struct troupe *t, int slot)
{
    uint64_t generation = ++t->generation;
    pid_t pid = fork();

    if (pid == 0) {
        if (slot == WORKERS)
            produce(t->f);
        consume(t->f, slot, generation);
    }
    t->pids[slot] = pid;
}

static void kill_one(struct troupe *t, int slot)
{
    int status;

    if (!t->pids[slot])
        return;
    kill(t->pids[slot], SIGKILL);
    assert_int_equal(waitpid(t->pids[slot], &status, 0), t->pids[slot]);
    t->pids[slot] = 0;
    if (WIFSIGNALED(status)) {
        t->kills++;
        start(t, slot);
    } else {
        assert_int_equal(slot, WORKERS);
        assert_int_equal(status, 0);
    }
}

/* Opened and closed each time: no handle may be there when the next child is forked. */
static bool all_done(struct fixture *f)
{
    struct broker *b = fixture_open(f, NULL, 0, true);
    struct broker_ask ask = {.question = BROKER_ASK_TOTALS};
    struct broker_event event;
    long long n[7];
    struct err e;

    CHECK_OK(broker_ask(b, &ask, &e));
    assert_int_equal(fixture_wait(b, BROKER_ANSWER, &event), 0);
    static const char *const names[] = {"published", "succeeded", "failed", "dead",
                                        "waiting",   "delayed",   "leased"};
    for (size_t i = 0; i < 7; i++) {
        char key[20];
        const char *at;

        snprintf(key, sizeof(key), "\"%s\":", names[i]);
        at = strstr(event.data.ptr, key);
        assert_non_null(at);
        n[i] = strtoll(at + strlen(key), NULL, 10);
    }
    assert_int_equal(n[0], n[1] + n[2] + n[3] + n[4] + n[5] + n[6]);
    broker_close(b, false);
    return n[1] >= JOBS;
}

static void expect_each_once(struct fixture *f)
{
    struct broker *b = fixture_open(f, NULL, 0, true);
    struct broker_event event;
    struct err e;
    char id[20];

    assert_int_equal(fixture_total(b, "published"), JOBS);
    assert_int_equal(fixture_total(b, "succeeded"), JOBS);
    assert_int_equal(fixture_total(b, "duplicates"), 0);
    for (int i = 0; i < JOBS; i++) {
        uint64_t tag = 1;
        struct slice text;

        snprintf(id, sizeof(id), "job-%d", i);
        text = slice_of(id);
        CHECK_OK(broker_result_get(b, &tag, &text, 1, &e));
        assert_int_equal(fixture_wait(b, BROKER_RESULT, &event), 0);
        assert_non_null(event.data.ptr);
    }
    broker_close(b, false);
}

static void test_killed_all_the_time(void **state)
{
    struct troupe t = {.f = *state};
    int64_t until = clock_mono_ms(clock_system()) + 120000;
    unsigned seed = 42;

    for (int slot = 0; slot <= WORKERS; slot++)
        start(&t, slot);
    while (!all_done(t.f)) {
        assert_true(clock_mono_ms(clock_system()) < until);
        poll(NULL, 0, rand_r(&seed) % 6); /* any moment is as good as another */
        kill_one(&t, rand_r(&seed) % 8 == 0 ? WORKERS : rand_r(&seed) % WORKERS);
    }
    for (int slot = 0; slot <= WORKERS; slot++) {
        if (t.pids[slot]) {
            kill(t.pids[slot], SIGKILL);
            waitpid(t.pids[slot], NULL, 0);
        }
    }
    print_message("%d processes were killed\n", t.kills);
    expect_each_once(t.f);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_publish_before_commit), TEST(test_publish_after_commit),
        TEST(test_publish_after_bell),    TEST(test_finish_before_commit),
        TEST(test_finish_after_commit),   TEST(test_after_fetch),
        TEST(test_killed_all_the_time),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
