/* What operators ask: queues, peek, purge. */
#include "contract.h"

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
    assert_int_equal(json_array_size(list), 3);
    assert_string_equal(json_string_value(json_object_get(json_array_get(list, 0), "envelope")),
                        "1");
    assert_string_equal(json_string_value(json_object_get(json_array_get(list, 1), "envelope")),
                        "2");
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
    assert_int_equal(number(answer, "purged"), 2);
    json_decref(answer);
    assert_int_equal(total(p, "waiting"), 1);
    assert_int_equal(total(p, "delayed"), 0);
    assert_int_equal(total(p, "leased"), 1);
    check_totals(p);
    finish_ok(p, &job);
    check_totals(p);
    seen_free(&job);
}

const struct contract_row suite_operators[] = {
    {"queues are listed with their depths", queues_are_listed_with_their_depths},
    {"peek shows the next first and moves nothing", peek_shows_the_next_first_and_moves_nothing},
    {"purge removes what is not leased", purge_removes_what_is_not_leased},
    {NULL, NULL},
};
