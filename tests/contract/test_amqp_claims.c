/* Dedup keys on RabbitMQ when things break: connections, the stream, a holder that was robbed. */
#include "contract.h"

#include "broker/amqp_claim.h"
#include "tests/support/rabbitmq_server.h"

#include <stdio.h>
#include <string.h>
#include <xxhash.h>

#define WINDOW_MS 60000
#define ROBBER    77
#define SUCCESS   "{\"status\": \"SUCCESS\", \"result\": 1, \"task_id\": \"first\"}"

static int set_up(void **state)
{
    struct contract_env *env = calloc(1, sizeof(*env));

    assert_non_null(env);
    env->backend = "amqp";
    env->durable = true;
    env->clock = clock_system();
    assert_int_equal(rabbitmq_fresh_url(env->url, sizeof(env->url)), 0);
    *state = env;
    return 0;
}

static int tear_down(void **state)
{
    struct contract_env *env = *state;

    while (env->peers_len)
        peer_close(env->peers[0], false);
    free(env);
    return 0;
}

static uint64_t submit(struct peer *p, const struct seen *job, const char *id)
{
    struct broker_claim c = {.tag = ++p->last_tag,
                             .receipt = job->receipt,
                             .key = slice_of("k"),
                             .id = slice_of(id),
                             .window_ms = WINDOW_MS};

    assert_int_equal(broker_claim(p->b, &c, 1, NULL), 0);
    return c.tag;
}

static void answered(struct peer *p, uint64_t tag, unsigned flags, const char *id)
{
    struct seen s = peer_expect(p, BROKER_CLAIMED, tag);

    assert_int_equal(s.flags, flags);
    if (id)
        assert_string_equal(s.id, id);
    seen_free(&s);
}

static void claims(struct peer *p, const struct seen *job, const char *id, unsigned flags,
                   const char *first)
{
    answered(p, submit(p, job, id), flags, first);
}

static uint64_t succeed(struct peer *p, const struct seen *job)
{
    struct broker_finish f = {.tag = ++p->last_tag,
                              .receipt = job->receipt,
                              .outcome = BROKER_JOB_SUCCEEDED,
                              .result_id = slice_of("first"),
                              .result = slice_of(SUCCESS),
                              .dedup_key = slice_of("k"),
                              .dedup_window_ms = WINDOW_MS};

    assert_int_equal(broker_finish(p->b, &f, 1, NULL), 0);
    return f.tag;
}

static void expect(struct peer *p, enum broker_event_kind kind, uint64_t tag)
{
    struct seen s = peer_expect(p, kind, tag);

    seen_free(&s);
}

static void break_wire(struct peer *p, enum amqp_role role)
{
    struct err why = ERR_INIT;

    err_set(&why, ERR_RECONNECT, "broken by the test");
    wire_drop(&amqp_of(p->b)->wires[role], &why);
}

static struct seen put_and_take(struct peer *p, const char *envelope)
{
    put(p, "celery", envelope);
    return take(p);
}

#define NAMES 8192

/* Two names of nodes whose hashes have the first 20 bits in common. */
static void find_alike(char one[16], char other[16])
{
    uint32_t *prints = calloc(NAMES, sizeof(*prints));

    assert_non_null(prints);
    for (int i = 0; i < NAMES; i++) {
        snprintf(other, 16, "w%d", i);
        prints[i] = (uint32_t)(XXH3_64bits(other, strlen(other)) >> 44);
        for (int j = 0; j < i; j++) {
            if (prints[i] != prints[j])
                continue;
            snprintf(one, 16, "w%d", j);
            free(prints);
            return;
        }
    }
    fail();
}

/* --- cases --- */

static uint64_t fence_of(struct peer *p, const struct seen *job, const char *id)
{
    struct seen s = peer_expect(p, BROKER_CLAIMED, submit(p, job, id));

    assert_int_equal(s.flags, BROKER_WON);
    seen_free(&s);
    return s.fence;
}

/* The place of its claim in the ledger: whoever holds the key later has a greater one, whichever
 * dispatcher it is and whatever its clock says. */
static void a_claims_fence_is_its_offset(void **state)
{
    struct peer *a = peer_open(*state, "a", 1), *b;
    struct seen job = put_and_take(a, "1"), again;
    uint64_t first = fence_of(a, &job, "first");

    assert_in_range(first, 1, 1000);
    assert_int_equal(fence_of(a, &job, "first"), first);
    peer_close(a, true);
    b = peer_open(*state, "b", 1);
    again = take(b);
    assert_in_range(fence_of(b, &again, "first"), first + 1, 1000);
    seen_free(&job);
    seen_free(&again);
}

/* Its record is under way and comes twice, or its decision comes with the next connection. */
static void a_claim_outlives_its_connections(void **state)
{
    struct peer *p = peer_open(*state, "w", 1);
    struct seen job = put_and_take(p, "1");
    uint64_t tag;

    claims(p, &job, "first", BROKER_WON, NULL);
    tag = submit(p, &job, "first");
    break_wire(p, AMQP_READ);
    answered(p, tag, BROKER_WON, NULL);
    tag = succeed(p, &job);
    env_pass(*state, 1); /* written, not yet confirmed */
    break_wire(p, AMQP_PUBLISH);
    break_wire(p, AMQP_READ);
    expect(p, BROKER_FINISHED, tag);
    seen_free(&job);
    job = put_and_take(p, "2");
    claims(p, &job, "second", BROKER_DUPLICATE, "first");
    seen_free(&job);
}

/* The message comes again, to the same process, and takes the key that its first lease had. */
static void a_lost_lease_gives_the_key_back(void **state)
{
    struct peer *p = peer_open(*state, "w", 1);
    struct seen job = put_and_take(p, "1"), again, other;

    claims(p, &job, "first", BROKER_WON, NULL);
    break_wire(p, AMQP_CONSUME);
    expect(p, BROKER_LOST, 0);
    expect(p, BROKER_REFUSED, submit(p, &job, "first"));
    again = take(p);
    claims(p, &again, "first", BROKER_WON, NULL);
    expect(p, BROKER_REFUSED, succeed(p, &job));
    other = put_and_take(p, "2");
    claims(p, &other, "second", 0, "first");
    expect(p, BROKER_FINISHED, succeed(p, &again));
    claims(p, &other, "second", BROKER_DUPLICATE, "first");
    seen_free(&job);
    seen_free(&again);
    seen_free(&other);
}

static void delete_ledger(struct peer *p)
{
    amqp_queue_delete_t m = {.queue = amqp_cstring_bytes(AMQP_LEDGER_STREAM), .nowait = 1};

    assert_int_equal(link_tell(amqp_of(p->b)->wires[AMQP_PUBLISH].link, AMQP_CH_ASK,
                               AMQP_QUEUE_DELETE_METHOD, &m, NULL),
                     0);
}

/* What was remembered is lost with it, but keys can be held again. */
static void a_deleted_ledger_is_made_again(void **state)
{
    struct peer *p = peer_open(*state, "w", 1);
    struct seen job = put_and_take(p, "1"), other;
    uint64_t tag;

    claims(p, &job, "first", BROKER_WON, NULL);
    delete_ledger(p);
    expect(p, BROKER_LOST, 0); /* it can not show any more that it holds the key */
    other = take(p);
    tag = submit(p, &other, "first");
    answered(p, tag, BROKER_WON, NULL);
    expect(p, BROKER_FINISHED, succeed(p, &other));
    seen_free(&job);
    seen_free(&other);
    job = put_and_take(p, "2");
    claims(p, &job, "second", BROKER_DUPLICATE, "first");
    seen_free(&job);
}

/* Another dispatcher, which thought this one dead, claims on whichever of the first records. */
static void rob(struct peer *p)
{
    for (int64_t prev = 0; prev < 8; prev++) {
        struct amqp_claim_record r = {.kind = AMQP_CLAIM,
                                      .prev = prev,
                                      .until_ms = env_wall_ms(p->env) + WINDOW_MS,
                                      .now_ms = env_wall_ms(p->env),
                                      .host = ROBBER,
                                      .nonce = (uint64_t)prev,
                                      .key = amqp_key_of(slice_of("k")),
                                      .id = slice_of("robber")};
        struct buf bytes = BUF_INIT;
        struct broker_message m = {.queue = slice_of(AMQP_LEDGER_STREAM)};

        amqp_claim_write(&bytes, &r);
        m.envelope = buf_slice(&bytes);
        put_message(p, &m);
        buf_release(&bytes);
    }
}

/* Of a hundred nodes two have such names now and then: one is not taken for an earlier self of the
 * other, whose keys are free. */
static void nodes_with_like_names_are_told_apart(void **state)
{
    char names[2][16];
    struct peer *a, *b;
    struct seen job, other;

    find_alike(names[0], names[1]);
    a = peer_open(*state, names[0], 1);
    job = put_and_take(a, "1");
    claims(a, &job, "first", BROKER_WON, NULL);
    b = peer_open(*state, names[1], 2);
    other = put_and_take(b, "2");
    claims(b, &other, "second", 0, "first");
    seen_free(&job);
    seen_free(&other);
}

/* It is recorded as failed, so the next one of its key runs. */
static void a_success_that_is_too_large_gives_the_key_up(void **state)
{
    struct peer *p = peer_open(*state, "w", 1);
    struct seen job = put_and_take(p, "1"), other;
    char large[6000];
    struct broker_finish f = {.tag = 901,
                              .receipt = job.receipt,
                              .outcome = BROKER_JOB_SUCCEEDED,
                              .result_id = slice_of("first"),
                              .result = slice_make(large, sizeof(large)),
                              .dedup_key = slice_of("k"),
                              .dedup_window_ms = WINDOW_MS};

    memset(large, 'x', sizeof(large));
    amqp_of(p->b)->out.body_max = 4000; /* as the server says when it refuses one */
    claims(p, &job, "first", BROKER_WON, NULL);
    assert_int_equal(broker_finish(p->b, &f, 1, NULL), 0);
    expect(p, BROKER_FINISHED, f.tag);
    other = put_and_take(p, "2");
    claims(p, &other, "second", BROKER_WON, NULL);
    seen_free(&job);
    seen_free(&other);
}

/* It hears so, its end does not count, and its message is handed out anew; the robber says nothing
 * more, so that the key comes back. */
static void a_robbed_holder_is_refused(void **state)
{
    struct peer *p = peer_open(*state, "w", 1), *other = peer_open(*state, NULL, 0);
    struct seen job = put_and_take(p, "1"), again, s;

    claims(p, &job, "first", BROKER_WON, NULL);
    rob(other);
    s = peer_expect(p, BROKER_LOST, 0);
    assert_memory_equal(&s.receipt, &job.receipt, sizeof(s.receipt));
    expect(p, BROKER_REFUSED, succeed(p, &job));
    assert_null(stored(p, "first"));
    again = take(p);
    assert_string_equal(again.data, "1");
    claims(p, &again, "first", 0, "robber");
    env_pass(*state, CONTRACT_LEASE_MS + 50);
    claims(p, &again, "first", BROKER_WON, NULL);
    expect(p, BROKER_FINISHED, succeed(p, &again));
    seen_free(&job);
    seen_free(&again);
    seen_free(&s);
}

/* A finish that was on its way when the key was lost. */
static void a_finish_that_comes_too_late_is_refused(void **state)
{
    struct peer *p = peer_open(*state, "w", 1), *other = peer_open(*state, NULL, 0);
    struct seen job = put_and_take(p, "1"), again;
    uint64_t tag;

    claims(p, &job, "first", BROKER_WON, NULL);
    rob(other); /* confirmed to the other one; p may not have read it yet */
    tag = succeed(p, &job);
    expect(p, BROKER_REFUSED, tag);
    again = take(p);
    assert_null(stored(p, "first"));
    seen_free(&job);
    seen_free(&again);
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(nodes_with_like_names_are_told_apart),
        CASE(a_success_that_is_too_large_gives_the_key_up),
        CASE(a_claims_fence_is_its_offset),
        CASE(a_claim_outlives_its_connections),
        CASE(a_lost_lease_gives_the_key_back),
        CASE(a_deleted_ledger_is_made_again),
        CASE(a_robbed_holder_is_refused),
        CASE(a_finish_that_comes_too_late_is_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
