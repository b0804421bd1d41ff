/* Publishing and delivering: confirmation, order, credit, priorities, delays, idempotence,
 * refusals. */
#include "contract.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void delivered_in_order(struct contract_env *env)
{
    struct peer *client = peer_open(env, NULL, 0);
    struct peer *worker = peer_open(env, "w", 1);
    struct seen first, second;

    put(client, "celery", "{\"n\": 1}");
    put(client, "celery", "{\"n\": 2}");
    check_totals(client);
    take_is(worker, "{\"n\": 1}", &first);
    take_is(worker, "{\"n\": 2}", &second);
    assert_string_equal(first.queue, "celery");
    assert_true(second.fence > first.fence);
    assert_int_equal(first.flags & BROKER_REDELIVERED, 0);
    check_totals(client);
    finish_ok(worker, &first);
    finish_ok(worker, &second);
    assert_int_equal(total(client, "succeeded"), 2);
    check_totals(client);
    seen_free(&first);
    seen_free(&second);
}

static void bytes_are_kept(struct contract_env *env)
{
    struct peer *worker = peer_open(env, "w", 1);
    static const char text[] = "{\"a\": \"\xc3\xa9 \\u0000 \\\" % ' ; \\n\"}";

    put(worker, "celery", text);
    take_is(worker, text, NULL);
}

static void credit_bounds_deliveries(struct contract_env *env)
{
    struct peer *worker = peer_open(env, "w", 1);
    struct seen s;

    for (int i = 0; i < 5; i++)
        put(worker, "celery", "{}");
    assert_false(peer_sees(worker, BROKER_DELIVERED, ANY_TAG, 100));
    broker_credit(worker->b, 3);
    for (int i = 0; i < 3; i++) {
        s = peer_expect(worker, BROKER_DELIVERED, ANY_TAG);
        seen_free(&s);
    }
    assert_false(peer_sees(worker, BROKER_DELIVERED, ANY_TAG, 150));
    assert_int_equal(total(worker, "leased"), 3);
    assert_int_equal(total(worker, "waiting"), 2);
}

/* The second credit comes while the first is being asked for. */
static void credit_counts_at_any_time(struct contract_env *env)
{
    struct peer *worker = peer_open(env, "w", 1);

    for (int i = 0; i < 3; i++)
        put(worker, "celery", "{}");
    broker_credit(worker->b, 1);
    broker_credit(worker->b, 3);
    for (int i = 0; i < 3; i++) {
        struct seen s = peer_expect(worker, BROKER_DELIVERED, ANY_TAG);

        seen_free(&s);
    }
}

/* A bell that rang once must not be needed again for what is left: a tick for each would take 30 s.
 */
static void what_is_left_needs_no_bell(struct contract_env *env)
{
    struct peer *p = peer_open(env, "w", 1);
    int64_t before_ms;

    broker_credit(p->b, 1);
    assert_false(peer_sees(p, BROKER_DELIVERED, ANY_TAG, 100));
    for (int i = 0; i < 31; i++)
        put(p, "celery", "x");
    before_ms = clock_mono_ms(env->clock);
    for (int i = 0; i < 31; i++) {
        /* The first comes with the credit that waited for the bell. */
        struct seen s = i ? take(p) : peer_expect(p, BROKER_DELIVERED, ANY_TAG);

        finish_ok(p, &s);
        seen_free(&s);
    }
    assert_true(clock_mono_ms(env->clock) - before_ms < 15000);
}

static void two_workers_never_get_the_same(struct contract_env *env)
{
    struct peer *a = peer_open(env, "a", 1), *b = peer_open(env, "b", 1);
    int got[40] = {0};

    for (int i = 0; i < 40; i++) {
        char text[32];

        snprintf(text, sizeof(text), "%d", i);
        put(a, i % 2 ? "celery" : "other", text);
    }
    for (int i = 0; i < 40; i++) {
        struct peer *who = i % 2 ? a : b;
        struct seen s = take(who);

        got[strtol(s.data, NULL, 10)]++;
        finish_ok(who, &s);
        seen_free(&s);
    }
    for (int i = 0; i < 40; i++)
        assert_int_equal(got[i], 1);
    assert_int_equal(total(a, "succeeded"), 40);
    check_totals(a);
}

static void a_token_makes_a_resend_idempotent(struct contract_env *env)
{
    struct peer *p = peer_open(env, NULL, 0);
    struct broker_message m = {
        .queue = slice_of("celery"), .envelope = slice_of("{}"), .token = slice_of("t-1")};

    put_message(p, &m);
    put_message(p, &m);
    assert_int_equal(total(p, "waiting"), 1);
    assert_int_equal(total(p, "published"), 1);
    m.token = slice_of("t-2");
    put_message(p, &m);
    assert_int_equal(total(p, "waiting"), 2);
    check_totals(p);
}

#define BATCH    300
#define TOGETHER 128 /* Redis answers so many together: they get no answer together */

/* A resend names the same batch and passes what got no answer, at the same places: each message is
 * there once, whatever parts a broker made of it. */
static void a_batch_is_sent_again_in_part_and_as_a_whole(struct contract_env *env)
{
    struct peer *p = peer_open(env, NULL, 0);
    struct broker_message v[BATCH];
    char texts[BATCH][16];

    for (int i = 0; i < BATCH; i++) {
        snprintf(texts[i], sizeof(texts[i]), "{\"n\":%d}", i);
        v[i] = (struct broker_message){.queue = slice_of(i % 100 == 50 ? "other" : "celery"),
                                       .envelope = slice_of(texts[i]),
                                       .token = slice_make(texts[i], strlen(texts[i])),
                                       .batch = slice_of("batch"),
                                       .batch_at = (uint32_t)i,
                                       .fresh = true};
    }
    put_messages(p, v, BATCH);
    assert_int_equal(total(p, "waiting"), BATCH);
    assert_int_equal(total(p, "published"), BATCH);
    for (int i = 0; i < BATCH; i++)
        v[i].fresh = false;
    put_messages(p, v, BATCH);
    put_messages(p, v + TOGETHER, TOGETHER);
    assert_int_equal(total(p, "waiting"), BATCH);
    assert_int_equal(total(p, "published"), BATCH);
    check_totals(p);
}

static void lower_priority_numbers_go_first(struct contract_env *env)
{
    struct peer *p;
    static const struct {
        int priority;
        const char *text;
    } sent[] = {{9, "9"}, {6, "6"}, {0, "0"}, {4, "4"}, {2, "2"}, {3, "3"}};
    /* kombu's steps: 0-2, 3-5, 6-8, 9; first in first out within a step */
    static const char *const order[] = {"0", "2", "4", "3", "6", "9"};

    env_needs(env, LACKS_PRIORITY);
    p = peer_open(env, "w", 1);
    for (int i = 0; i < 6; i++) {
        struct broker_message m = {.queue = slice_of("celery"),
                                   .envelope = slice_of(sent[i].text),
                                   .priority = sent[i].priority};

        put_message(p, &m);
    }
    for (int i = 0; i < 6; i++)
        take_is(p, order[i], NULL);
}

static void delayed_messages_are_never_early(struct contract_env *env)
{
    struct peer *p = peer_open(env, "w", 1);
    int64_t due = env_wall_ms(env) + 1500; /* seen as delayed first */
    struct broker_message m = {.queue = slice_of("celery"),
                               .envelope = slice_of("late"),
                               .id = slice_of("id-1"),
                               .not_before_ms = due};
    struct seen s;

    put_message(p, &m);
    assert_int_equal(total(p, "delayed"), 1);
    check_totals(p);
    put(p, "celery", "now");
    take_is(p, "now", &s);
    finish_ok(p, &s); /* before its lease is over */
    seen_free(&s);
    s = take(p);
    assert_true(env_wall_ms(env) >= due);
    assert_string_equal(s.data, "late");
    assert_int_equal(total(p, "delayed"), 0);
    check_totals(p);
    seen_free(&s);
}

static void bad_items_are_refused_whole(struct contract_env *env)
{
    struct peer *p = peer_open(env, NULL, 0);
    static const char token[] = "12345678901234567890123456789012345678901234567890123456789012345";
    const struct broker_message bad[] = {
        {.queue = slice_of(""), .envelope = slice_of("{}")},
        {.queue = slice_of("celery"), .envelope = slice_of("{}"), .priority = 10},
        {.queue = slice_of("celery"), .envelope = slice_of("{}"), .priority = -1},
        {.queue = slice_of("celery"), .envelope = slice_of("{}"), .token = slice_of(token)},
    };

    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct err e = ERR_INIT;

        assert_int_equal(broker_publish(p->b, &bad[i], 1, &e), -1);
        assert_int_equal(e.code, ERR_USAGE);
        assert_true(e.text[0] != '\0');
    }
    assert_int_equal(total(p, "published"), 0);
}

static void a_batch_is_confirmed_one_by_one(struct contract_env *env)
{
    struct peer *p = peer_open(env, NULL, 0);
    struct broker_message v[200];

    for (int i = 0; i < 200; i++)
        v[i] = (struct broker_message){
            .tag = 1000 + (uint64_t)i, .queue = slice_of("celery"), .envelope = slice_of("{}")};
    assert_int_equal(broker_publish(p->b, v, 200, NULL), 0);
    for (int i = 0; i < 200; i++) {
        struct seen s = peer_expect(p, BROKER_PUBLISHED, 1000 + (uint64_t)i);

        seen_free(&s);
    }
    assert_int_equal(total(p, "waiting"), 200);
}

/* Successive fetches begin with successive queues: a full one keeps no other waiting. */
static void no_queue_starves(struct contract_env *env)
{
    struct peer *worker = peer_open(env, "w", 1);
    int from_other = 0;

    for (int i = 0; i < 6; i++)
        put(worker, "celery", "{}");
    put(worker, "other", "{}");
    for (int i = 0; i < 3; i++) {
        struct seen s = take(worker);

        from_other += strcmp(s.queue, "other") == 0;
        finish_ok(worker, &s);
        seen_free(&s);
    }
    assert_int_equal(from_other, 1);
    check_totals(worker);
}

const struct contract_row suite_publish[] = {
    {"no queue starves", no_queue_starves},
    {"delivered in order", delivered_in_order},
    {"bytes are kept", bytes_are_kept},
    {"credit bounds deliveries", credit_bounds_deliveries},
    {"credit counts at any time", credit_counts_at_any_time},
    {"what is left needs no bell", what_is_left_needs_no_bell},
    {"two workers never get the same", two_workers_never_get_the_same},
    {"a token makes a resend idempotent", a_token_makes_a_resend_idempotent},
    {"a batch is sent again in part and as a whole", a_batch_is_sent_again_in_part_and_as_a_whole},
    {"lower priority numbers go first", lower_priority_numbers_go_first},
    {"delayed messages are never early", delayed_messages_are_never_early},
    {"bad items are refused whole", bad_items_are_refused_whole},
    {"a batch is confirmed one by one", a_batch_is_confirmed_one_by_one},
    {NULL, NULL},
};
