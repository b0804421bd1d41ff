/* What operators ask: queues, peek, purge, nodes. */
#include "contract.h"

#include <stdio.h>
#include <string.h>

static json_t *row_of(json_t *queues, const char *name)
{
    json_t *row;
    size_t i;

    json_array_foreach(queues, i, row)
    {
        if (strcmp(json_string_value(json_object_get(row, "queue")), name) == 0)
            return row;
    }
    return NULL;
}

static int64_t number(json_t *row, const char *name)
{
    return json_integer_value(json_object_get(row, name));
}

static void queues_are_listed_with_their_depths(struct contract_env *env)
{
    struct peer *p = peer_open(env, "w", 1);
    struct broker_message late = {.queue = slice_of("celery"),
                                  .envelope = slice_of("late"),
                                  .not_before_ms = env_wall_ms(env) + 60000};
    struct seen job;
    json_t *queues;

    put(p, "celery", "1");
    put(p, "celery", "2");
    put(p, "third", "3");
    put_message(p, &late);
    job = take(p);
    queues = ask(p, BROKER_ASK_QUEUES, NULL, NULL);
    assert_int_equal(number(row_of(queues, "celery"), "waiting"), 1);
    assert_int_equal(number(row_of(queues, "celery"), "leased"), 1);
    if (!(env->lacks & LACKS_DELAY_VIEW))
        assert_int_equal(number(row_of(queues, "celery"), "delayed"), 1);
    assert_int_equal(number(row_of(queues, "third"), "waiting"), 1);
    json_decref(queues);
    check_totals(p);
    seen_free(&job);
}

static void peek_shows_the_next_first_and_moves_nothing(struct contract_env *env)
{
    struct peer *p = peer_open(env, "w", 1);
    struct broker_message late = {.queue = slice_of("celery"),
                                  .envelope = slice_of("late"),
                                  .not_before_ms = env_wall_ms(env) + 60000};
    json_t *list;

    put(p, "celery", "1");
    put(p, "celery", "2");
    put_message(p, &late);
    list = ask(p, BROKER_ASK_PEEK, "celery", NULL);
    assert_int_equal(json_array_size(list), env->lacks & LACKS_DELAY_VIEW ? 2 : 3);
    assert_string_equal(json_string_value(json_object_get(json_array_get(list, 0), "envelope")),
                        "1");
    assert_string_equal(json_string_value(json_object_get(json_array_get(list, 1), "envelope")),
                        "2");
    if (!(env->lacks & LACKS_DELAY_VIEW))
        assert_string_equal(json_string_value(json_object_get(json_array_get(list, 2), "state")),
                            "delayed");
    json_decref(list);
    take_is(p, "1", NULL);
}

static void purge_removes_what_is_not_leased(struct contract_env *env)
{
    struct peer *p = peer_open(env, "w", 1);
    struct broker_message late = {.queue = slice_of("celery"),
                                  .envelope = slice_of("late"),
                                  .not_before_ms = env_wall_ms(env) + 60000};
    struct seen job;
    json_t *answer;

    put(p, "celery", "1");
    put(p, "celery", "2");
    put(p, "third", "3");
    put_message(p, &late);
    take_is(p, "1", &job);
    answer = ask(p, BROKER_ASK_PURGE, "celery", NULL);
    assert_int_equal(number(answer, "purged"), env->lacks & LACKS_DELAY_VIEW ? 1 : 2);
    json_decref(answer);
    assert_int_equal(total(p, "waiting"), 1);
    assert_int_equal(total(p, "delayed"), env->lacks & LACKS_DELAY_VIEW ? 1 : 0);
    assert_int_equal(total(p, "leased"), 1);
    check_totals(p);
    finish_ok(p, &job);
    check_totals(p);
    seen_free(&job);
}

static bool is_known(struct peer *p, const char *name)
{
    json_t *queues = ask(p, BROKER_ASK_QUEUES, NULL, NULL), *row;
    bool found = false;
    size_t i;

    json_array_foreach(queues, i, row)
    {
        found |= strcmp(json_string_value(json_object_get(row, "queue")), name) == 0;
    }
    json_decref(queues);
    return found;
}

static int64_t ask_number(struct peer *p, enum broker_question question, const char *queue,
                          const char *name)
{
    json_t *answer = ask(p, question, queue, NULL);
    int64_t n = number(answer, name);

    json_decref(answer);
    return n;
}

static void drop_forgets_an_empty_queue(struct contract_env *env)
{
    struct peer *p = peer_open(env, "w", 1);
    int64_t forgets = env->lacks & LACKS_DROP ? 0 : 1;

    put(p, "scratch", "1");
    assert_int_equal(ask_number(p, BROKER_ASK_DROP, "scratch", "dropped"), 0);
    assert_int_equal(ask_number(p, BROKER_ASK_PURGE, "scratch", "purged"), 1);
    assert_int_equal(ask_number(p, BROKER_ASK_DROP, "scratch", "dropped"), forgets);
    if (forgets)
        assert_false(is_known(p, "scratch"));
    assert_in_range(ask_number(p, BROKER_ASK_DROP, "never", "dropped"), 0, 1);
    put(p, "scratch", "2");
    assert_int_equal(ask_number(p, BROKER_ASK_PURGE, "scratch", "purged"), 1);
    check_totals(p);
}

static void announce(struct peer *p, const char *json, int64_t ttl_ms)
{
    struct err e = ERR_INIT;

    if (broker_announce(p->b, slice_of(json), ttl_ms, &e) < 0)
        fail_msg("announce: %s", e.text);
}

/* The answer to NODES once it has that many rows. An announcement has no event to wait for. */
static json_t *await_nodes(struct peer *p, size_t n)
{
    json_t *nodes = ask(p, BROKER_ASK_NODES, NULL, NULL);

    for (int i = 0; i < 500 && json_array_size(nodes) != n; i++) {
        json_decref(nodes);
        env_pass(p->env, 20);
        nodes = ask(p, BROKER_ASK_NODES, NULL, NULL);
    }
    assert_int_equal(json_array_size(nodes), n);
    return nodes;
}

/* An announcement may be lost (a connection that is being made again), so it is said until it is
 * heard. */
static void announce_until(struct peer *p, const char *json, struct peer *client, size_t n)
{
    for (int i = 0; i < 500; i++) {
        json_t *nodes;
        size_t heard;

        announce(p, json, 60000);
        env_pass(p->env, 20);
        nodes = ask(client, BROKER_ASK_NODES, NULL, NULL);
        heard = json_array_size(nodes);
        json_decref(nodes);
        if (heard == n)
            return;
    }
    fail_msg("%zu nodes were never heard", n);
}

static const char *text(json_t *rows, size_t i, const char *name)
{
    return json_string_value(json_object_get(json_array_get(rows, i), name));
}

static void nodes_are_listed_while_they_announce(struct contract_env *env)
{
    struct peer *b = peer_open(env, "b", 1), *a = peer_open(env, "a", 1);
    struct peer *client = peer_open(env, NULL, 0);
    json_t *nodes;

    json_decref(await_nodes(client, 0));
    announce_until(b, "{\"node\": \"said\", \"runners\": [{\"state\": \"up\"}]}", client, 1);
    announce_until(a, "{\"jobs\": 7}", client, 2);
    nodes = await_nodes(client, 2);
    assert_string_equal(text(nodes, 0, "node"), "a");
    assert_int_equal(number(json_array_get(nodes, 0), "jobs"), 7);
    assert_string_equal(text(nodes, 1, "node"), "said");
    assert_int_equal(json_array_size(json_object_get(json_array_get(nodes, 1), "runners")), 1);
    json_decref(nodes);
    peer_close(a, true);
    nodes = await_nodes(client, 1);
    assert_string_equal(text(nodes, 0, "node"), "said");
    json_decref(nodes);
    check_totals(client);
}

static bool nodes_say(struct peer *p, const char *state)
{
    json_t *nodes = ask(p, BROKER_ASK_NODES, NULL, NULL);
    bool says = json_array_size(nodes) == 1 && strcmp(text(nodes, 0, "state"), state) == 0;

    json_decref(nodes);
    return says;
}

static void announce_state(struct peer *p, const char *state, struct peer *client)
{
    char json[64];

    snprintf(json, sizeof(json), "{\"state\": \"%s\"}", state);
    for (int i = 0; i < 500 && !nodes_say(client, state); i++) {
        announce(p, json, 60000);
        env_pass(p->env, 20);
    }
    assert_true(nodes_say(client, state));
}

static void the_last_announcement_of_a_node_wins(struct contract_env *env)
{
    struct peer *client = peer_open(env, NULL, 0), *first = peer_open(env, "w", 1), *second;

    announce(first, "{\"state\": \"lost\"}", 60000);
    announce_state(first, "first", client);
    /* As after a crash: what was said stays. */
    peer_close(first, false);
    env_needs(env, LACKS_LASTING_NODES);
    second = peer_open(env, "w", 2);
    assert_true(nodes_say(client, "first"));
    announce_state(second, "second", client);
}

static void an_announcement_is_forgotten_in_time(struct contract_env *env)
{
    struct peer *p = peer_open(env, "w", 1), *client = peer_open(env, NULL, 0);
    int64_t ttl_ms = 250, end;
    bool seen = false;

    /* A machine too slow to look within that time gets twice as much. */
    while (!seen && ttl_ms < 30000) {
        ttl_ms *= 2;
        announce(p, "{\"state\": \"short\"}", ttl_ms);
        end = clock_mono_ms(env->clock) + ttl_ms;
        while (!(seen = nodes_say(client, "short")) && clock_mono_ms(env->clock) < end)
            env_pass(env, 20);
    }
    assert_true(seen);
    env_pass(env, ttl_ms);
    json_decref(await_nodes(client, 0));
    announce(p, "{\"state\": \"again\"}", 60000);
    json_decref(await_nodes(client, 1));
}

static void only_a_node_announces_and_only_an_object(struct contract_env *env)
{
    struct peer *client = peer_open(env, NULL, 0), *p = peer_open(env, "w", 1);
    struct err e = ERR_INIT;

    assert_int_equal(broker_announce(client->b, slice_of("{}"), 1000, &e), -1);
    assert_int_equal(e.code, ERR_USAGE);
    assert_int_equal(broker_announce(p->b, slice_of("[1]"), 1000, &e), -1);
    assert_int_equal(e.code, ERR_USAGE);
    assert_int_equal(broker_announce(p->b, slice_of("{\"cut\":"), 1000, &e), -1);
    assert_int_equal(broker_announce(p->b, slice_of("{}"), 0, &e), -1);
    env_pass(env, 100);
    json_decref(await_nodes(client, 0));
}

static bool is_verdict(const char *word)
{
    return word &&
           (strcmp(word, "ok") == 0 || strcmp(word, "warn") == 0 || strcmp(word, "bad") == 0);
}

static void a_doctor_tells_checks(struct contract_env *env)
{
    struct peer *client = peer_open(env, NULL, 0), *worker = peer_open(env, "w", 1);
    json_t *rows = ask(client, BROKER_ASK_DOCTOR, "celery,other", NULL);
    struct seen job;

    assert_true(json_array_size(rows) > 0);
    for (size_t i = 0; i < json_array_size(rows); i++) {
        json_t *advice = json_object_get(json_array_get(rows, i), "advice");

        assert_true(strlen(text(rows, i, "check")) > 0);
        assert_true(strlen(text(rows, i, "value")) > 0);
        assert_true(is_verdict(text(rows, i, "verdict")));
        assert_true(json_is_string(advice) || json_is_null(advice));
    }
    json_decref(rows);
    /* Asked of a worker it changes nothing: that still gets its jobs. */
    rows = ask(worker, BROKER_ASK_DOCTOR, NULL, NULL);
    assert_true(json_array_size(rows) > 0);
    json_decref(rows);
    broker_credit(worker->b, 1);
    put(client, "celery", "x");
    job = peer_expect(worker, BROKER_DELIVERED, ANY_TAG);
    seen_free(&job);
}

const struct contract_row suite_operators[] = {
    {"queues are listed with their depths", queues_are_listed_with_their_depths},
    {"peek shows the next first and moves nothing", peek_shows_the_next_first_and_moves_nothing},
    {"purge removes what is not leased", purge_removes_what_is_not_leased},
    {"drop forgets an empty queue", drop_forgets_an_empty_queue},
    {"nodes are listed while they announce", nodes_are_listed_while_they_announce},
    {"the last announcement of a node wins", the_last_announcement_of_a_node_wins},
    {"an announcement is forgotten in time", an_announcement_is_forgotten_in_time},
    {"only a node announces, and only an object", only_a_node_announces_and_only_an_object},
    {"a doctor tells checks", a_doctor_tells_checks},
    {NULL, NULL},
};
