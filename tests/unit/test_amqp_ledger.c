/* The rules of the claim ledger, one by one. The clock is in the records; nothing waits. */
#include "broker/amqp_ledger.h"
#include "tests/support/check.h"

#include "base/clock.h"

#include <stdio.h>
#include <stdlib.h>

#define ME    1
#define OTHER 2
#define THIRD 3
#define LEASE 30000
#define DAY   ((int64_t)1795225702848)
#define MONO  1000
#define UUID  "3c3d771f-8894-4485-b561-575090d13ba7"

/* One ledger, and the next record's fields, which stay from one record to the next. */
struct desk {
    struct amqp_ledger *ledger;
    struct buf bytes;
    int64_t offset, now_ms, mono_ms;
    const char *id, *doc;
    int64_t window_ms, until_ms;
    struct amqp_ledger_decision last;
};

static int desk_open(void **state)
{
    struct desk *d = calloc(1, sizeof(*d));

    assert_non_null(d);
    d->ledger = amqp_ledger_new(&(struct amqp_ledger_config){.host = ME, .docs_max = 100});
    assert_non_null(d->ledger);
    d->now_ms = DAY;
    d->mono_ms = MONO;
    d->id = UUID;
    d->window_ms = 60000;
    d->until_ms = DAY + 3600000;
    *state = d;
    return 0;
}

static int desk_close(void **state)
{
    struct desk *d = *state;

    amqp_ledger_free(d->ledger);
    buf_release(&d->bytes);
    free(d);
    return 0;
}

/* Applies one record at the next offset; the verdict. */
static enum amqp_ledger_verdict feed(struct desk *d, enum amqp_claim_kind kind, uint64_t host,
                                     const char *key, int64_t prev)
{
    struct err e = ERR_INIT;

    buf_clear(&d->bytes);
    amqp_claim_write(&d->bytes, &(struct amqp_claim_record){.kind = kind,
                                                            .window_ms = d->window_ms,
                                                            .until_ms = prev < 0 ? 0 : d->until_ms,
                                                            .prev = prev,
                                                            .now_ms = d->now_ms,
                                                            .host = host,
                                                            .nonce = 1000 + (uint64_t)d->offset,
                                                            .key = amqp_key_of(slice_of(key)),
                                                            .id = slice_of(d->id),
                                                            .doc = slice_of(d->doc)});
    CHECK_OK(
        amqp_ledger_apply(d->ledger, d->offset++, buf_slice(&d->bytes), d->mono_ms, &d->last, &e));
    return d->last.verdict;
}

static struct amqp_ledger_view look(struct desk *d, const char *key)
{
    struct amqp_key hash = amqp_key_of(slice_of(key));
    struct amqp_ledger_view view;

    amqp_ledger_lookup(d->ledger, &hash, d->now_ms, &view);
    return view;
}

#define FEED(kind, host, key, prev, want)                                                          \
    assert_int_equal(feed(d, AMQP_##kind, host, key, prev), AMQP_LEDGER_##want)

static void first_claim_wins(void **state)
{
    struct desk *d = *state;
    struct amqp_ledger_view view;

    assert_int_equal(look(d, "k").state, AMQP_LEDGER_NONE);
    assert_int_equal(look(d, "k").offset, AMQP_RECORD_NONE);
    FEED(CLAIM, OTHER, "k", -1, CLAIM_WON);
    assert_false(d->last.own);
    FEED(CLAIM, ME, "k", -1, CLAIM_LOST);
    assert_true(d->last.own);
    assert_int_equal(d->last.nonce, 1001);
    FEED(CLAIM, THIRD, "k", -1, CLAIM_LOST);
    view = look(d, "k");
    assert_int_equal(view.state, AMQP_LEDGER_RUNNING);
    assert_int_equal(view.host, OTHER);
    assert_int_equal(view.offset, 0);
    assert_false(view.own);
    assert_true(slice_is(view.id, UUID));
    FEED(CLAIM, ME, "other key", -1, CLAIM_WON);
    assert_true(d->last.own);
    assert_int_equal(d->last.offset, 3);
    assert_true(look(d, "other key").own);
}

static void done_is_remembered_for_its_window(void **state)
{
    struct desk *d = *state;
    struct amqp_ledger_view view;

    FEED(CLAIM, ME, "k", -1, CLAIM_WON);
    d->now_ms += 5000;
    d->doc = "{\"status\": \"SUCCESS\"}";
    FEED(CLAIM_DONE, ME, "k", 0, DONE);
    d->doc = NULL;
    view = look(d, "k");
    assert_int_equal(view.state, AMQP_LEDGER_OVER);
    assert_true(slice_is(view.doc, "{\"status\": \"SUCCESS\"}"));
    assert_true(slice_is(view.id, UUID));
    assert_int_equal(view.until_ms, d->now_ms + 60000);
    FEED(CLAIM, OTHER, "k", -1, CLAIM_LOST);
    FEED(CLAIM, OTHER, "k", 0, CLAIM_LOST);
    FEED(CLAIM, OTHER, "k", 1, CLAIM_LOST);
    d->now_ms += 60000;
    FEED(CLAIM, OTHER, "k", -1, CLAIM_LOST);
    assert_int_equal(look(d, "k").state, AMQP_LEDGER_OVER);
    d->now_ms += 1;
    /* The log has not moved, but a claim of now would move it. */
    assert_int_equal(look(d, "k").state, AMQP_LEDGER_NONE);
    FEED(CLAIM, OTHER, "k", -1, CLAIM_WON);
}

static void only_the_owner_ends_a_run(void **state)
{
    struct desk *d = *state;

    FEED(CLAIM_DONE, ME, "k", 0, DONE_REFUSED);
    FEED(CLAIM, ME, "k", -1, CLAIM_WON);
    FEED(CLAIM_DONE, OTHER, "k", 0, DONE_REFUSED);
    FEED(CLAIM_RELEASE, OTHER, "k", 2, RELEASE_REFUSED);
    FEED(CLAIM_KEEP, OTHER, "k", 0, KEEP_REFUSED);
    FEED(CLAIM_HELD, OTHER, "k", 1, HELD_REFUSED);
    assert_int_equal(look(d, "k").state, AMQP_LEDGER_RUNNING);
    FEED(CLAIM_DONE, ME, "k", 1, DONE);
    FEED(CLAIM_DONE, ME, "k", 1, DONE_REFUSED);
    FEED(CLAIM_DONE, ME, "k", 6, DONE_REFUSED);
    FEED(CLAIM_RELEASE, ME, "k", 6, RELEASE_REFUSED);
    FEED(CLAIM_HELD, ME, "k", 6, HELD_REFUSED);
    assert_int_equal(look(d, "k").state, AMQP_LEDGER_OVER);
}

static void a_release_frees_the_key(void **state)
{
    struct desk *d = *state;

    FEED(CLAIM, ME, "k", -1, CLAIM_WON);
    FEED(CLAIM_RELEASE, ME, "k", 0, RELEASED);
    assert_int_equal(look(d, "k").state, AMQP_LEDGER_NONE);
    assert_int_equal(look(d, "k").offset, AMQP_RECORD_NONE);
    FEED(CLAIM_DONE, ME, "k", 0, DONE_REFUSED);
    FEED(CLAIM, OTHER, "k", 0, CLAIM_LOST);
    FEED(CLAIM, OTHER, "k", 1, CLAIM_LOST);
    FEED(CLAIM, OTHER, "k", -1, CLAIM_WON);
    FEED(CLAIM, THIRD, "k", -1, CLAIM_LOST);
}

static void a_kept_key_is_for_one_job(void **state)
{
    struct desk *d = *state;
    struct amqp_ledger_view view;

    FEED(CLAIM, ME, "k", -1, CLAIM_WON);
    FEED(CLAIM_KEEP, ME, "k", 0, KEPT);
    view = look(d, "k");
    assert_int_equal(view.state, AMQP_LEDGER_WAITING);
    assert_int_equal(view.offset, 1);
    d->id = "another job";
    FEED(CLAIM, OTHER, "k", 1, CLAIM_LOST);
    FEED(CLAIM, OTHER, "k", -1, CLAIM_LOST);
    d->id = UUID;
    FEED(CLAIM, OTHER, "k", 0, CLAIM_LOST);
    FEED(CLAIM, OTHER, "k", 1, CLAIM_WON);
    FEED(CLAIM_KEEP, OTHER, "k", 5, KEPT);
    d->now_ms += 60001;
    d->id = "another job";
    assert_int_equal(look(d, "k").state, AMQP_LEDGER_NONE);
    FEED(CLAIM, ME, "k", -1, CLAIM_WON);
}

static void a_lease_says_when_the_log_says_who(void **state)
{
    struct desk *d = *state;

    FEED(CLAIM, OTHER, "k", -1, CLAIM_WON);
    assert_int_equal(look(d, "k").steal_at_ms, MONO + LEASE);
    /* Any record shows that the host lives. */
    d->mono_ms += 20000;
    FEED(CLAIM_ALIVE, OTHER, "", -1, SEEN);
    assert_int_equal(look(d, "k").steal_at_ms, d->mono_ms + LEASE);
    FEED(CLAIM, THIRD, "k", 0, CLAIM_WON);
    assert_false(d->last.robbed);
    FEED(CLAIM, ME, "k", 0, CLAIM_LOST);
    FEED(CLAIM_DONE, OTHER, "k", 0, DONE_REFUSED);
    FEED(CLAIM, ME, "k", 2, CLAIM_WON);
    assert_int_equal(look(d, "k").steal_at_ms, CLOCK_NEVER);
    FEED(CLAIM, OTHER, "k", 5, CLAIM_WON);
    assert_true(d->last.robbed);
    assert_int_equal(d->last.prev, 5);
    FEED(CLAIM_DONE, ME, "k", 5, DONE_REFUSED);
}

/* The same task id is no key to the door: a redelivery knows of the present owner like others. */
static void the_first_delivered_again_must_know_the_owner(void **state)
{
    struct desk *d = *state;

    FEED(CLAIM, OTHER, "k", -1, CLAIM_WON);
    FEED(CLAIM, ME, "k", -1, CLAIM_LOST);
    FEED(CLAIM, ME, "k", 0, CLAIM_WON);
    FEED(CLAIM_DONE, OTHER, "k", 0, DONE_REFUSED);
    FEED(CLAIM_DONE, ME, "k", 2, DONE);
}

static void a_claim_that_is_not_said_again_ends(void **state)
{
    struct desk *d = *state;
    int64_t claim_ms = (int64_t)AMQP_LEDGER_CLAIM_S * 1000;

    FEED(CLAIM, ME, "said", -1, CLAIM_WON);
    FEED(CLAIM, ME, "not said", -1, CLAIM_WON);
    d->now_ms += claim_ms;
    FEED(CLAIM_HELD, ME, "said", 0, HELD);
    assert_int_equal(look(d, "said").offset, 0);
    d->now_ms += 1;
    FEED(CLAIM_HELD, ME, "not said", 1, HELD_REFUSED);
    FEED(CLAIM_DONE, ME, "not said", 1, DONE_REFUSED);
    FEED(CLAIM, OTHER, "not said", 1, CLAIM_LOST);
    FEED(CLAIM, OTHER, "not said", -1, CLAIM_WON);
    FEED(CLAIM_DONE, ME, "said", 0, DONE);
}

static void a_sync_is_told_to_its_owner(void **state)
{
    struct desk *d = *state;

    FEED(CLAIM_SYNC, OTHER, "", -1, SEEN);
    FEED(CLAIM_SYNC, ME, "", -1, SYNCED);
    assert_int_equal(d->last.nonce, 1001);
    FEED(CLAIM_ALIVE, ME, "", -1, SEEN);
}

static void time_is_the_latest_stamp(void **state)
{
    struct desk *d = *state;

    assert_int_equal(amqp_ledger_stamp(d->ledger, 5), 5);
    FEED(CLAIM_ALIVE, ME, "", -1, SEEN);
    d->now_ms -= 5000;
    FEED(CLAIM_ALIVE, ME, "", -1, SEEN);
    assert_int_equal(amqp_ledger_time(d->ledger), DAY);
    assert_int_equal(amqp_ledger_stamp(d->ledger, d->now_ms), DAY);
    assert_int_equal(amqp_ledger_stamp(d->ledger, DAY + 1), DAY + 1);
}

static void an_offset_is_applied_once(void **state)
{
    struct desk *d = *state;
    struct amqp_ledger_stats stats;

    FEED(CLAIM, ME, "k", -1, CLAIM_WON);
    d->offset = 0;
    FEED(CLAIM_RELEASE, ME, "k", 0, SKIPPED);
    assert_int_equal(look(d, "k").state, AMQP_LEDGER_RUNNING);
    assert_int_equal(amqp_ledger_next(d->ledger), 1);
    amqp_ledger_stats(d->ledger, &stats);
    assert_int_equal(stats.skipped, 1);
    assert_int_equal(stats.applied, 1);
}

static void what_can_not_be_read_is_skipped(void **state)
{
    struct desk *d = *state;
    struct err e = ERR_INIT;

    FEED(CLAIM, ME, "k", -1, CLAIM_WON);
    CHECK_OK(amqp_ledger_apply(d->ledger, d->offset++, slice_of("{}"), d->mono_ms, &d->last, &e));
    assert_int_equal(d->last.verdict, AMQP_LEDGER_SKIPPED);
    assert_int_equal(d->last.offset, 1);
    assert_int_equal(amqp_ledger_next(d->ledger), 2);
    FEED(CLAIM_DONE, ME, "k", 0, DONE);
}

static void a_gap_empties_the_table(void **state)
{
    struct desk *d = *state;

    FEED(CLAIM, OTHER, "k", -1, CLAIM_WON);
    FEED(CLAIM, OTHER, "l", -1, CLAIM_WON);
    d->offset = 100;
    FEED(CLAIM, ME, "m", -1, CLAIM_WON);
    assert_true(d->last.gap);
    assert_int_equal(look(d, "k").state, AMQP_LEDGER_NONE);
    FEED(CLAIM_ALIVE, ME, "", -1, SEEN);
    assert_false(d->last.gap);
    FEED(CLAIM_HELD, OTHER, "k", 0, HELD);
    assert_int_equal(look(d, "k").offset, 0);
    amqp_ledger_reset(d->ledger);
    assert_int_equal(amqp_ledger_next(d->ledger), 0);
    assert_int_equal(look(d, "k").state, AMQP_LEDGER_NONE);
}

/* RabbitMQ 3.10 gives an offset to what it writes itself where a segment begins. */
static void the_servers_own_entries_are_no_gap(void **state)
{
    struct desk *d = *state;

    FEED(CLAIM, OTHER, "k", -1, CLAIM_WON);
    d->offset += AMQP_LEDGER_FOREIGN;
    FEED(CLAIM, ME, "k", -1, CLAIM_LOST);
    assert_false(d->last.gap);
    assert_int_equal(look(d, "k").offset, 0);
    d->offset += AMQP_LEDGER_FOREIGN + 1;
    FEED(CLAIM, ME, "k", -1, CLAIM_WON);
    assert_true(d->last.gap);
}

/* --- replicas that begin in the middle --- */

static void the_unknown_is_believed_of_its_owner(void **state)
{
    struct desk *d = *state;

    d->offset = 1000;
    FEED(CLAIM_DONE, OTHER, "done", 10, DONE);
    FEED(CLAIM_RELEASE, OTHER, "released", 11, RELEASED);
    FEED(CLAIM, OTHER, "stolen", 12, CLAIM_WON);
    FEED(CLAIM_HELD, OTHER, "held", 13, HELD);
    assert_int_equal(look(d, "done").state, AMQP_LEDGER_OVER);
    assert_int_equal(look(d, "released").state, AMQP_LEDGER_NONE);
    assert_int_equal(look(d, "stolen").offset, 1002);
    assert_int_equal(look(d, "held").offset, 13);
    FEED(CLAIM_DONE, OTHER, "held", 13, DONE);
    /* The second who steals from the same one is as late as ever. */
    FEED(CLAIM, ME, "stolen", 12, CLAIM_LOST);
    FEED(CLAIM, ME, "released", 11, CLAIM_LOST);
    FEED(CLAIM, ME, "done", 10, CLAIM_LOST);
    /* What this replica has seen from the beginning it judges itself. */
    FEED(CLAIM_DONE, ME, "never claimed", 1001, DONE_REFUSED);
}

static void what_was_decided_in_doubt_is_corrected(void **state)
{
    struct desk *d = *state;

    d->window_ms = 3600000;
    d->offset = 1000;
    FEED(CLAIM, ME, "k", -1, CLAIM_WON);    /* in truth lost to a claim at 999 */
    FEED(CLAIM, OTHER, "l", 10, CLAIM_WON); /* in truth lost to a steal at 998 */
    FEED(CLAIM, OTHER, "m", -1, CLAIM_WON); /* in truth won */
    FEED(CLAIM_DONE, OTHER, "m", 1002, DONE);
    d->now_ms += 3 * (int64_t)AMQP_LEDGER_SLACK_S * 1000;
    FEED(CLAIM_DONE, THIRD, "k", 999, DONE);
    FEED(CLAIM_DONE, THIRD, "l", 998, DONE);
    /* That its claim was cited put an end to the doubt. */
    FEED(CLAIM_DONE, THIRD, "m", 997, DONE_REFUSED);
    assert_int_equal(look(d, "k").offset, 1004);
    assert_int_equal(look(d, "l").offset, 1005);
}

/* A replica in doubt about a kept key once let a claim win that came after its time. */
static void doubt_does_not_prolong_what_ended(void **state)
{
    struct desk *d = *state;

    d->offset = 1000;
    FEED(CLAIM_KEEP, OTHER, "kept", 10, KEPT);
    FEED(CLAIM_RELEASE, OTHER, "released", 11, RELEASED);
    d->now_ms += d->window_ms + 1;
    FEED(CLAIM, OTHER, "kept", 1000, CLAIM_LOST);
    FEED(CLAIM, OTHER, "released", 1001, CLAIM_LOST);
    FEED(CLAIM, OTHER, "kept", -1, CLAIM_WON);
    FEED(CLAIM, OTHER, "released", -1, CLAIM_WON);
}

/* The same for one that it has never seen. */
/* A done record was published twice (a lost confirm), and a newcomer begins between the two: it has
 * to forget the key with those who saw the first. */
static void a_copy_does_not_prolong_what_it_is_a_copy_of(void **state)
{
    struct desk *d = *state;

    for (int newcomer = 0; newcomer < 2; newcomer++) {
        amqp_ledger_reset(d->ledger);
        d->offset = newcomer ? 2 : 0;
        d->now_ms = DAY;
        if (!newcomer) {
            FEED(CLAIM, OTHER, "k", -1, CLAIM_WON);
            FEED(CLAIM_DONE, OTHER, "k", 0, DONE);
        }
        d->now_ms = DAY + 13000;
        FEED(CLAIM_ALIVE, THIRD, "", -1, SEEN);
        d->now_ms = DAY;
        assert_int_equal(feed(d, AMQP_CLAIM_DONE, OTHER, "k", 0),
                         newcomer ? AMQP_LEDGER_DONE : AMQP_LEDGER_DONE_REFUSED);
        assert_int_equal(look(d, "k").until_ms, DAY + 60000);
        d->now_ms = DAY + 60000;
        FEED(CLAIM, ME, "k", -1, CLAIM_LOST);
        d->now_ms = DAY + 60001;
        FEED(CLAIM, ME, "k", -1, CLAIM_WON);
    }
}

static void a_claim_on_the_unknown_says_how_long_that_holds(void **state)
{
    struct desk *d = *state;

    d->offset = 1000;
    d->until_ms = d->now_ms - 1;
    FEED(CLAIM, OTHER, "k", 10, CLAIM_LOST);
    FEED(CLAIM, OTHER, "k", -1, CLAIM_WON);
    d->until_ms = d->now_ms;
    FEED(CLAIM, OTHER, "l", 10, CLAIM_WON);
}

static void belief_ends_with_the_life_of_a_claim(void **state)
{
    struct desk *d = *state;

    d->offset = 1000;
    FEED(CLAIM_ALIVE, OTHER, "", -1, SEEN);
    d->now_ms += (int64_t)AMQP_LEDGER_CLAIM_S * 1000;
    FEED(CLAIM_DONE, OTHER, "k", 10, DONE);
    d->now_ms += 1;
    FEED(CLAIM_DONE, OTHER, "l", 11, DONE_REFUSED);
}

static void a_whole_log_is_believed_in_nothing(void **state)
{
    struct desk *d = *state;

    FEED(CLAIM_ALIVE, OTHER, "", -1, SEEN);
    FEED(CLAIM_DONE, OTHER, "k", 0, DONE_REFUSED);
    FEED(CLAIM_HELD, OTHER, "k", 0, HELD_REFUSED);
    FEED(CLAIM, OTHER, "k", 0, CLAIM_LOST);
}

/* --- memory --- */

static void documents_are_bounded(void **state)
{
    struct desk *d = *state;
    static const char *const keys[] = {"a", "b", "c"};
    struct amqp_ledger_stats stats;
    char doc[102];

    memset(doc, 'x', sizeof(doc));
    doc[40] = '\0';
    d->doc = doc;
    for (int i = 0; i < 3; i++) {
        FEED(CLAIM, ME, keys[i], -1, CLAIM_WON);
        FEED(CLAIM_DONE, ME, keys[i], 2 * i, DONE);
    }
    amqp_ledger_stats(d->ledger, &stats);
    assert_int_equal(stats.docs, 80);
    assert_null(look(d, "a").doc.ptr);
    assert_int_equal(look(d, "a").state, AMQP_LEDGER_OVER);
    assert_int_equal(look(d, "b").doc.len, 40);
    doc[40] = 'x';
    doc[101] = '\0';
    FEED(CLAIM, ME, "d", -1, CLAIM_WON);
    FEED(CLAIM_DONE, ME, "d", 6, DONE);
    assert_null(look(d, "d").doc.ptr);
    assert_int_equal(look(d, "c").doc.len, 40);
}

static void ids_of_any_shape_are_kept(void **state)
{
    static const char *const ids[] = {UUID,
                                      "3C3D771F-8894-4485-b561-575090d13ba7",
                                      "3c3d771f-8894-4485-b561-575090d13bag",
                                      "3c3d771f-8894-4485-b561x575090d13ba7",
                                      "00000000-0000-0000-0000-000000000000",
                                      "",
                                      "x",
                                      "a much longer name of a job than any UUID is"};
    struct desk *d = *state;

    for (size_t i = 0; i < sizeof(ids) / sizeof(ids[0]); i++) {
        d->id = ids[i];
        FEED(CLAIM, ME, ids[i], -1, CLAIM_WON);
        FEED(CLAIM_DONE, ME, ids[i], d->offset - 1, DONE);
    }
    for (size_t i = 0; i < sizeof(ids) / sizeof(ids[0]); i++)
        assert_true(slice_is(look(d, ids[i]).id, ids[i]));
}

static void the_past_gives_its_memory_back(void **state)
{
    struct desk *d = *state;
    struct amqp_ledger_stats stats;
    char key[20];

    d->window_ms = 1000;
    for (int i = 0; i < 20000; i++) {
        snprintf(key, sizeof(key), "%d", i);
        d->id = i % 2 ? key : UUID;
        FEED(CLAIM, ME, key, -1, CLAIM_WON);
        FEED(CLAIM_DONE, ME, key, 2 * i, DONE);
        d->now_ms += 1000;
    }
    amqp_ledger_stats(d->ledger, &stats);
    /* Those of the last second and of the slack. */
    assert_in_range(stats.keys, 100, 300);
    assert_int_equal(stats.done, 20000);
}

static void one_jump_of_time_is_no_long_step(void **state)
{
    struct desk *d = *state;
    struct amqp_ledger_stats stats;
    char key[20];

    for (int i = 0; i < 1000; i++) {
        snprintf(key, sizeof(key), "%d", i);
        FEED(CLAIM, ME, key, -1, CLAIM_WON);
    }
    d->now_ms += (int64_t)1000 * 86400 * 365;
    assert_int_equal(look(d, "7").state, AMQP_LEDGER_NONE);
    FEED(CLAIM_ALIVE, ME, "", -1, SEEN);
    amqp_ledger_stats(d->ledger, &stats);
    assert_in_range(stats.keys, 990, 999);
    for (int i = 0; i < 1000; i++)
        FEED(CLAIM_ALIVE, ME, "", -1, SEEN);
    amqp_ledger_stats(d->ledger, &stats);
    assert_int_equal(stats.keys, 0);
}

static void silent_hosts_are_forgotten(void **state)
{
    struct desk *d = *state;
    struct amqp_ledger_stats stats;

    FEED(CLAIM, OTHER, "k", -1, CLAIM_WON);
    for (uint64_t host = 100; host < 5100; host++) {
        d->mono_ms += 1000;
        FEED(CLAIM_ALIVE, host, "", -1, SEEN);
    }
    amqp_ledger_stats(d->ledger, &stats);
    assert_in_range(stats.hosts, 30, 128);
    assert_true(look(d, "k").steal_at_ms < d->mono_ms);
}

#define RULE(name) cmocka_unit_test_setup_teardown(name, desk_open, desk_close)

int main(void)
{
    const struct CMUnitTest tests[] = {
        RULE(first_claim_wins),
        RULE(done_is_remembered_for_its_window),
        RULE(only_the_owner_ends_a_run),
        RULE(a_release_frees_the_key),
        RULE(a_kept_key_is_for_one_job),
        RULE(a_lease_says_when_the_log_says_who),
        RULE(the_first_delivered_again_must_know_the_owner),
        RULE(a_claim_that_is_not_said_again_ends),
        RULE(a_sync_is_told_to_its_owner),
        RULE(time_is_the_latest_stamp),
        RULE(an_offset_is_applied_once),
        RULE(what_can_not_be_read_is_skipped),
        RULE(a_gap_empties_the_table),
        RULE(the_servers_own_entries_are_no_gap),
        RULE(the_unknown_is_believed_of_its_owner),
        RULE(what_was_decided_in_doubt_is_corrected),
        RULE(doubt_does_not_prolong_what_ended),
        RULE(a_copy_does_not_prolong_what_it_is_a_copy_of),
        RULE(a_claim_on_the_unknown_says_how_long_that_holds),
        RULE(belief_ends_with_the_life_of_a_claim),
        RULE(a_whole_log_is_believed_in_nothing),
        RULE(documents_are_bounded),
        RULE(ids_of_any_shape_are_kept),
        RULE(the_past_gives_its_memory_back),
        RULE(one_jump_of_time_is_no_long_step),
        RULE(silent_hosts_are_forgotten),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
