/* The SQLite broker and the clock: leases, delays, tokens and results, with a clock held in hand.
 */
#include "tests/support/check.h"

#include "broker/broker.h"
#include "tests/support/sqlite_fixture.h"

#include <sqlite3.h>
#include <stdlib.h>

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

static void publish(struct broker *b, const char *text, const char *token)
{
    struct broker_event event;

    fixture_publish(b, text, token);
    assert_int_equal(fixture_wait(b, BROKER_PUBLISHED, &event), 0);
}

static void store(struct broker *b, const char *id, const char *doc, int64_t expires_ms)
{
    struct broker_store s = {.id = slice_of(id), .result = slice_of(doc), .expires_ms = expires_ms};
    struct broker_event event;
    struct err e;

    CHECK_OK(broker_store(b, &s, 1, &e));
    assert_int_equal(fixture_wait(b, BROKER_STORED, &event), 0);
}

static bool has_result(struct broker *b, const char *id)
{
    struct slice name = slice_of(id);
    struct broker_event event;
    uint64_t tag = 7;
    struct err e;

    CHECK_OK(broker_result_get(b, &tag, &name, 1, &e));
    assert_int_equal(fixture_wait(b, BROKER_RESULT, &event), 0);
    return event.data.ptr != NULL;
}

static void test_lease_runs_out(void **state)
{
    struct fixture *f = *state;
    struct broker *holder = fixture_open(f, "n", 1, false);
    struct broker *other = fixture_open(f, "m", 1, false);
    struct broker_receipt receipt;
    struct broker_event event;

    publish(holder, "a", NULL);
    broker_credit(holder, 1);
    assert_int_equal(fixture_wait(holder, BROKER_DELIVERED, &event), 0);
    receipt = event.receipt;
    broker_credit(other, 1);
    clock_fake_advance(&f->fake, 29000);
    fixture_settle(other);
    assert_int_equal(fixture_total(other, "leased"), 1);
    clock_fake_advance(&f->fake, 2000);
    assert_int_equal(fixture_wait(other, BROKER_DELIVERED, &event), 0);
    assert_true(event.flags & BROKER_REDELIVERED);
    assert_int_equal(fixture_finish(holder, &receipt, "a"), 0);
    assert_int_equal(fixture_wait(holder, BROKER_REFUSED, &event), 0);
    broker_close(holder, false);
    broker_close(other, false);
}

static void test_delay(void **state)
{
    struct fixture *f = *state;
    struct broker *b = fixture_open(f, "n", 1, false);
    struct broker_message m = {.queue = slice_of("celery"),
                               .envelope = slice_of("later"),
                               .not_before_ms = f->fake.wall_now_ms + 5000};
    struct broker_event event;
    struct err e;

    CHECK_OK(broker_publish(b, &m, 1, &e));
    assert_int_equal(fixture_wait(b, BROKER_PUBLISHED, &event), 0);
    broker_credit(b, 1);
    clock_fake_advance(&f->fake, 4999);
    fixture_settle(b);
    assert_int_equal(fixture_total(b, "delayed"), 1);
    /* It is asked for exactly then, not at some tick. */
    assert_true(broker_deadline(b) <= f->fake.mono_now_ms + 1);
    clock_fake_advance(&f->fake, 1);
    assert_int_equal(fixture_wait(b, BROKER_DELIVERED, &event), 0);
    assert_true(slice_is(event.data, "later"));
    broker_close(b, false);
}

static void test_tokens(void **state)
{
    struct fixture *f = *state;
    struct broker *b = fixture_open(f, NULL, 0, false);

    publish(b, "a", "one");
    clock_fake_advance(&f->fake, 40000);
    publish(b, "b", "two");
    publish(b, "a", "one");
    assert_int_equal(fixture_total(b, "published"), 2);
    /* The tables turn; what is younger than a minute is still known, what is older is not. */
    clock_fake_advance(&f->fake, 30000);
    publish(b, "c", "three");
    publish(b, "b", "two");
    assert_int_equal(fixture_total(b, "published"), 3);
    publish(b, "a", "one");
    assert_int_equal(fixture_total(b, "published"), 4);
    clock_fake_advance(&f->fake, 59000);
    publish(b, "a", "one");
    publish(b, "c", "three");
    assert_int_equal(fixture_total(b, "published"), 4);
    broker_close(b, false);
}

static void test_results_expire(void **state)
{
    struct fixture *f = *state;
    struct broker *b = fixture_open(f, "n", 1, false);

    store(b, "short", "{\"status\": \"SUCCESS\", \"result\": 1}", 5000);
    store(b, "long", "{\"status\": \"SUCCESS\", \"result\": 1}", 0);
    store(b, "ever", "{\"status\": \"SUCCESS\", \"result\": 1}", -1);
    assert_true(has_result(b, "short"));
    clock_fake_advance(&f->fake, 5000);
    assert_false(has_result(b, "short"));
    assert_true(has_result(b, "long"));
    clock_fake_advance(&f->fake, 86400000);
    fixture_settle(b);
    assert_false(has_result(b, "long"));
    assert_true(has_result(b, "ever"));
    /* An expired SUCCESS is no obstacle. */
    store(b, "short", "{\"status\": \"FAILURE\"}", 0);
    assert_true(has_result(b, "short"));
    broker_close(b, false);
}

/* Several watches of one id, of an id that is ready already, and of one that comes later. */
static void test_watch(void **state)
{
    struct fixture *f = *state;
    struct broker *reader = fixture_open(f, NULL, 0, false);
    struct broker *writer = fixture_open(f, NULL, 0, false);
    const struct slice ids[] = {slice_of("a"), slice_of("a"), slice_of("b"), slice_of("b")};
    const uint64_t tags[] = {1, 2, 3, 4};
    struct broker_event event;
    uint64_t seen = 0;
    struct err e;

    store(writer, "a", "{\"status\": \"SUCCESS\", \"result\": 1}", 0);
    CHECK_OK(broker_result_watch(reader, tags, ids, 4, &e));
    for (int i = 0; i < 2; i++) {
        assert_int_equal(fixture_wait(reader, BROKER_RESULT, &event), 0);
        seen += event.tag;
    }
    assert_int_equal(seen, 1 + 2);
    store(writer, "b", "{\"status\": \"STARTED\"}", 0);
    store(writer, "c", "{\"status\": \"SUCCESS\"}", 0);
    for (int i = 0; i < 2; i++)
        assert_int_equal(fixture_wait(reader, BROKER_RESULT, &event), 0);
    broker_result_unwatch(reader, &ids[0], 1);
    store(writer, "b", "{\"status\": \"SUCCESS\", \"result\": 1}", 0);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(fixture_wait(reader, BROKER_RESULT, &event), 0);
        assert_true(slice_is(event.data, "{\"status\": \"SUCCESS\", \"result\": 1}"));
    }
    fixture_settle(reader);
    assert_true(broker_deadline(reader) == CLOCK_NEVER);
    broker_close(reader, false);
    broker_close(writer, false);
}

static unsigned claim(struct broker *b, const struct broker_receipt *receipt, const char *key)
{
    struct broker_claim c = {
        .receipt = *receipt, .key = slice_of(key), .id = slice_of(key), .window_ms = 1000};
    struct broker_event event;
    struct err e;

    CHECK_OK(broker_claim(b, &c, 1, &e));
    assert_int_equal(fixture_wait(b, BROKER_CLAIMED, &event), 0);
    return event.flags;
}

static long long claims_in(const struct fixture *f)
{
    sqlite3 *db = NULL;
    sqlite3_stmt *row = NULL;
    long long n;

    assert_int_equal(sqlite3_open(f->path, &db), SQLITE_OK);
    assert_int_equal(sqlite3_prepare_v2(db, "SELECT count(*) FROM claims", -1, &row, NULL),
                     SQLITE_OK);
    assert_int_equal(sqlite3_step(row), SQLITE_ROW);
    n = sqlite3_column_int64(row, 0);
    sqlite3_finalize(row);
    sqlite3_close(db);
    return n;
}

/* Done ones go after their window; one whose message vanished after a day; one that is held, never.
 */
static void test_claims_expire(void **state)
{
    struct fixture *f = *state;
    struct broker *b = fixture_open(f, "n", 1, false);
    struct broker_receipt receipts[3];
    struct broker_event event;
    struct broker_finish done = {.dedup_key = slice_of("done"), .dedup_window_ms = 1000};
    struct broker_finish plain = {0}; /* says nothing of the key it holds */
    struct err e;

    broker_credit(b, 3);
    for (int i = 0; i < 3; i++) {
        publish(b, "a", NULL);
        assert_int_equal(fixture_wait(b, BROKER_DELIVERED, &event), 0);
        receipts[i] = event.receipt;
    }
    assert_int_equal(claim(b, &receipts[0], "done"), BROKER_WON);
    assert_int_equal(claim(b, &receipts[1], "left"), BROKER_WON);
    assert_int_equal(claim(b, &receipts[2], "held"), BROKER_WON);
    done.receipt = receipts[0];
    plain.receipt = receipts[1];
    CHECK_OK(broker_finish(b, &done, 1, &e));
    assert_int_equal(fixture_wait(b, BROKER_FINISHED, &event), 0);
    CHECK_OK(broker_finish(b, &plain, 1, &e));
    assert_int_equal(fixture_wait(b, BROKER_FINISHED, &event), 0);
    assert_int_equal(claims_in(f), 3);
    clock_fake_advance(&f->fake, 1001);
    fixture_settle(b);
    assert_int_equal(claims_in(f), 2);
    clock_fake_advance(&f->fake, 86400000);
    CHECK_OK(broker_renew(b, &receipts[2], 1, &e)); /* before the sweep of the same poll */
    fixture_settle(b);
    assert_int_equal(claims_in(f), 1);
    assert_int_equal(fixture_total(b, "leased"), 1);
    broker_close(b, false);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_lease_runs_out), TEST(test_delay), TEST(test_tokens),
        TEST(test_results_expire), TEST(test_watch), TEST(test_claims_expire),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
