/* What only the SQLite broker has: files that are locked, full, damaged or foreign, and the bell.
 */
#include "tests/support/check.h"

#include "broker/sqlite.h"
#include "tests/support/sqlite_fixture.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

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

static sqlite3 *other_handle(const struct fixture *f)
{
    sqlite3 *db = NULL;

    assert_int_equal(sqlite3_open(f->path, &db), SQLITE_OK);
    return db;
}

static void sql(sqlite3 *db, const char *text)
{
    if (sqlite3_exec(db, text, NULL, NULL, NULL) != SQLITE_OK)
        fail_msg("%s: %s", text, sqlite3_errmsg(db));
}

/* --- open --- */

static void refuse(const char *url, enum err_code code, const char *piece)
{
    struct err e = ERR_INIT;
    struct broker *b = fixture_try_open(url, "n", 1, NULL, &e);

    assert_null(b);
    if (e.code != code || !strstr(e.text, piece))
        fail_msg("%s: got %s \"%s\"", url, err_word(e.code), e.text);
}

static void test_missing_directory(void **state)
{
    (void)state;
    refuse("sqlite:/nowhere/at/all/q.db", ERR_OPERATOR, "no directory '/nowhere/at/all'");
    refuse("sqlite:/tmp", ERR_OPERATOR, "not a regular file");
    refuse("sqlite::memory:", ERR_USAGE, "names no file");
}

static void test_options(void **state)
{
    struct fixture *f = *state;
    char url[200];
    struct err e = ERR_INIT;
    struct broker *b;

    snprintf(url, sizeof(url), "%s?synchronous=sometimes", f->url);
    refuse(url, ERR_USAGE, "NORMAL or FULL");
    snprintf(url, sizeof(url), "%s?synchronus=FULL", f->url);
    refuse(url, ERR_USAGE, "the parameter 'synchronus' is not known; known is synchronous");
    snprintf(url, sizeof(url), "%s?synchronous=FULL", f->url);
    b = fixture_try_open(url, "n", 1, NULL, &e);
    assert_non_null(b);
    assert_true(((struct sqlite_broker *)b)->full_sync);
    assert_int_equal(access(f->path, F_OK), 0);
    broker_close(b, false);
}

static void test_file_of_others(void **state)
{
    struct fixture *f = *state;
    sqlite3 *db = other_handle(f);

    sql(db, "CREATE TABLE theirs(x)");
    sqlite3_close(db);
    refuse(f->url, ERR_OPERATOR, "another program");
}

static void test_not_a_database(void **state)
{
    struct fixture *f = *state;
    FILE *file = fopen(f->path, "w");

    assert_non_null(file);
    for (int i = 0; i < 1000; i++)
        fputs("this is a letter to my aunt\n", file);
    fclose(file);
    refuse(f->url, ERR_OPERATOR, "not an SQLite database");
}

/* Pages behind the first are overwritten: it opens, and the damage shows in use. */
static void test_damaged(void **state)
{
    struct fixture *f = *state;
    struct broker *b = fixture_open(f, NULL, 0, false);
    struct broker_event event;
    struct stat st;
    int fd;
    char junk[4096];

    broker_close(b, false);
    memset(junk, 0xa5, sizeof(junk));
    fd = open(f->path, O_RDWR | O_CLOEXEC);
    assert_int_equal(fstat(fd, &st), 0);
    for (off_t at = 8192; at < st.st_size; at += 4096)
        assert_int_equal(pwrite(fd, junk, sizeof(junk), at), 4096);
    close(fd);
    b = fixture_open(f, NULL, 0, false);
    assert_int_equal(fixture_wait(b, BROKER_STATE, &event), 0);
    fixture_publish(b, "a", NULL);
    assert_int_equal(fixture_wait(b, BROKER_STATE, &event), 0);
    assert_false(event.flags & BROKER_UP);
    assert_int_equal(event.err->code, ERR_OPERATOR);
    assert_non_null(strstr(event.err->text, "is damaged"));
    broker_close(b, false);
}

/* --- problems that pass --- */

static void expect_down(struct broker *b, const char *piece)
{
    struct broker_event event;

    assert_int_equal(fixture_wait(b, BROKER_STATE, &event), 0);
    assert_false(event.flags & BROKER_UP);
    assert_int_equal(event.err->code, ERR_AGAIN);
    if (!strstr(event.err->text, piece))
        fail_msg("%s", event.err->text);
}

static void expect_silence(struct fixture *f, struct broker *b)
{
    struct broker_event event;

    for (int i = 0; i < 5; i++) {
        clock_fake_advance(&f->fake, 6000);
        assert_int_equal(broker_poll(b, &event, 1), 0);
    }
}

static void expect_recovery(struct fixture *f, struct broker *b)
{
    struct broker_event event;

    clock_fake_advance(&f->fake, 10000);
    assert_int_equal(fixture_wait(b, BROKER_PUBLISHED, &event), 0);
    assert_int_equal(fixture_wait(b, BROKER_STATE, &event), 0);
    assert_true(event.flags & BROKER_UP);
    assert_int_equal(fixture_total(b, "waiting"), 1);
}

static void test_locked(void **state)
{
    struct fixture *f = *state;
    struct broker *b = fixture_open(f, NULL, 0, false);
    sqlite3 *other = other_handle(f);
    struct broker_event event;

    fixture_settle(b);
    sql(other, "BEGIN IMMEDIATE");
    fixture_publish(b, "a", NULL);
    /* A lock of a moment is nothing to talk about. */
    assert_int_equal(broker_poll(b, &event, 1), 0);
    clock_fake_advance(&f->fake, 1500);
    expect_down(b, "is locked by another process");
    expect_silence(f, b);
    sql(other, "COMMIT");
    expect_recovery(f, b);
    sqlite3_close(other);
    broker_close(b, false);
}

/* A file that is locked while it is opened for the first time is opened by a later poll. */
static void test_locked_at_open(void **state)
{
    struct fixture *f = *state;
    sqlite3 *other = other_handle(f);
    struct broker_event event;
    struct broker *b;

    sql(other, "PRAGMA journal_mode=WAL");
    sql(other, "BEGIN IMMEDIATE");
    b = fixture_open(f, NULL, 0, false);
    fixture_publish(b, "a", NULL);
    assert_int_equal(broker_poll(b, &event, 1), 0);
    sql(other, "ROLLBACK");
    clock_fake_advance(&f->fake, 1000);
    assert_int_equal(fixture_wait(b, BROKER_PUBLISHED, &event), 0);
    sqlite3_close(other);
    broker_close(b, false);
}

static void test_full(void **state)
{
    struct fixture *f = *state;
    struct broker *b = fixture_open(f, NULL, 0, false);
    sqlite3 *db = ((struct sqlite_broker *)b)->db;
    char *big = MUST_HAVE(malloc(200001));

    fixture_settle(b);
    memset(big, 'x', 200000);
    big[200000] = '\0';
    sql(db, "PRAGMA max_page_count=40");
    fixture_publish(b, big, NULL);
    expect_down(b, "the disk is full");
    expect_silence(f, b);
    sql(db, "PRAGMA max_page_count=100000");
    expect_recovery(f, b);
    free(big);
    broker_close(b, false);
}

/* --- the bell --- */

static bool readable(struct broker *b, int timeout_ms)
{
    struct pollfd fds[4];
    int n = broker_pollset(b, fds, 4);

    return poll(fds, (nfds_t)n, timeout_ms) > 0;
}

static void test_own_ring_is_silent(void **state)
{
    struct fixture *f = *state;
    struct broker *b = fixture_open(f, "n", 1, false);
    struct broker *other = fixture_open(f, "m", 1, false);
    struct broker_event event;

    fixture_settle(b);
    fixture_settle(other);
    fixture_publish(b, "a", NULL);
    assert_int_equal(fixture_wait(b, BROKER_PUBLISHED, &event), 0);
    assert_false(readable(b, 0));
    assert_true(readable(other, FIXTURE_WAIT_MS));
    broker_close(b, false);
    broker_close(other, false);
}

static void publish_many(struct fixture *f, int n)
{
    struct broker *b = fixture_open(f, NULL, 0, true);
    struct broker_event event;

    for (int i = 0; i < n; i++) {
        fixture_publish(b, "a", NULL);
        if (fixture_wait(b, BROKER_PUBLISHED, &event) != 0)
            _exit(1);
    }
    broker_close(b, false);
    _exit(0);
}

/* The reader's clock stands still, so no tick helps: it sleeps on the bell alone. */
static void test_no_ring_is_lost(void **state)
{
    struct fixture *f = *state;
    struct broker_event events[64];
    int got = 0, status;
    /* Before the open: a handle must not cross a fork. */
    pid_t child = fork();
    struct broker *b;

    if (child == 0)
        publish_many(f, 500);
    b = fixture_open(f, "n", 1, false);
    while (got < 500) {
        int n;

        broker_credit(b, 64);
        n = broker_poll(b, events, 64);
        for (int i = 0; i < n; i++)
            got += events[i].kind == BROKER_DELIVERED;
        /* A lock that was busy is tried again by the clock, as it would be with a real one. */
        if (n == 0 && ((struct sqlite_broker *)b)->retry_at)
            f->fake.mono_now_ms = broker_deadline(b);
        else if (n == 0 && broker_deadline(b) > f->fake.mono_now_ms)
            assert_true(readable(b, FIXTURE_WAIT_MS));
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    broker_close(b, false);
}

static void test_bell_is_made_anew(void **state)
{
    struct fixture *f = *state;
    struct broker *b = fixture_open(f, "n", 1, false);
    struct broker *producer = fixture_open(f, NULL, 0, false);
    struct broker_event event;
    char bell[128];

    fixture_settle(b);
    broker_close(producer, false);
    snprintf(bell, sizeof(bell), "%s-bell", f->path);
    assert_int_equal(unlink(bell), 0);
    clock_fake_advance(&f->fake, 1000);
    fixture_settle(b);
    producer = fixture_open(f, NULL, 0, false);
    while (readable(b, 0))
        fixture_settle(b);
    fixture_publish(producer, "a", NULL);
    assert_int_equal(fixture_wait(producer, BROKER_PUBLISHED, &event), 0);
    assert_true(readable(b, FIXTURE_WAIT_MS));
    broker_close(b, false);
    broker_close(producer, false);
}

/* --- batches --- */

static void test_own_take_over_only(void **state)
{
    struct fixture *f = *state;
    struct broker *old = fixture_open(f, "n", 1, false);
    struct broker *peer = fixture_open(f, "m", 1, false);
    struct broker_event event;
    struct broker *heir;

    fixture_publish(old, "a", NULL);
    broker_credit(old, 1);
    assert_int_equal(fixture_wait(old, BROKER_DELIVERED, &event), 0);
    fixture_publish(peer, "b", NULL);
    broker_credit(peer, 1);
    assert_int_equal(fixture_wait(peer, BROKER_DELIVERED, &event), 0);
    heir = fixture_open(f, "n", 2, false);
    broker_credit(heir, 5);
    assert_int_equal(fixture_wait(heir, BROKER_DELIVERED, &event), 0);
    assert_true(slice_is(event.data, "a"));
    assert_true(event.flags & BROKER_REDELIVERED);
    assert_int_equal(fixture_total(heir, "leased"), 2);
    broker_close(old, false);
    broker_close(peer, false);
    broker_close(heir, false);
}

/* More ops than one transaction takes are done by several, in order. */
static void test_long_list(void **state)
{
    struct fixture *f = *state;
    struct broker *b = fixture_open(f, "n", 1, false);
    struct broker_event event;
    char text[20];

    for (int i = 0; i < 3000; i++) {
        snprintf(text, sizeof(text), "%d", i);
        fixture_publish(b, text, text);
    }
    broker_credit(b, 3000);
    for (int i = 0; i < 3000; i++) {
        snprintf(text, sizeof(text), "%d", i);
        assert_int_equal(fixture_wait(b, BROKER_DELIVERED, &event), 0);
        assert_true(slice_is(event.data, text));
    }
    broker_close(b, true);
    b = fixture_open(f, NULL, 0, false);
    assert_int_equal(fixture_total(b, "waiting"), 3000);
    broker_close(b, false);
}

/* A file as the version before dedup keys left it is carried on with what it holds. */
static void test_older_layout(void **state)
{
    struct fixture *f = *state;
    struct broker *b = fixture_open(f, NULL, 0, false);
    sqlite3 *db;

    fixture_publish(b, "kept", NULL);
    fixture_settle(b);
    broker_close(b, false);
    db = other_handle(f);
    sql(db, "DROP TABLE claims");
    sql(db, "PRAGMA user_version=2");
    sqlite3_close(db);
    b = fixture_open(f, NULL, 0, false);
    assert_int_equal(fixture_total(b, "waiting"), 1);
    broker_close(b, false);
    db = other_handle(f);
    sql(db, "SELECT key, state, job, fence, until_ms FROM claims");
    sql(db, "PRAGMA user_version=99");
    sqlite3_close(db);
    refuse(f->url, ERR_OPERATOR, "another version of celeriac");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_missing_directory),
        TEST(test_options),
        TEST(test_file_of_others),
        TEST(test_not_a_database),
        TEST(test_damaged),
        TEST(test_locked),
        TEST(test_locked_at_open),
        TEST(test_full),
        TEST(test_own_ring_is_silent),
        TEST(test_no_ring_is_lost),
        TEST(test_bell_is_made_anew),
        TEST(test_own_take_over_only),
        TEST(test_long_list),
        TEST(test_older_layout),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
