/* Which lists a fetch names; no server. */
#include "tests/support/check.h"

#include "broker/redis_lists.h"

#define QUEUES 5

static char names[QUEUES][8] = {"mail", "celery", "a", "celeryx", "z"};
static const struct redis_queue queues[QUEUES] = {{.name = names[0]},
                                                  {.name = names[1]},
                                                  {.name = names[2]},
                                                  {.name = names[3]},
                                                  {.name = names[4]}};

static void open_lists(struct redis_lists *l)
{
    assert_int_equal(redis_lists_init(l, queues, QUEUES), 0);
    assert_int_equal(l->maybe, 4 * QUEUES);
}

/* Everything is seen to be empty. */
static void settle(struct redis_lists *l)
{
    redis_lists_choose(l, SIZE_MAX, true);
    redis_lists_heard(l, l->chosen_len);
    assert_int_equal(l->maybe, 0);
}

static void the_bell_names_lists(void **state)
{
    struct redis_lists l;

    (void)state;
    open_lists(&l);
    settle(&l);
    assert_false(redis_lists_pushed_key(&l, slice_of("unacked")));
    assert_false(redis_lists_pushed_key(&l, slice_of("celer")));
    assert_false(redis_lists_pushed_key(&l, slice_of("")));
    assert_false(redis_lists_pushed_key(&l, slice_of("other\x06\x16"
                                                     "3")));
    assert_int_equal(l.maybe, 0);
    for (size_t i = 0; i < QUEUES; i++)
        assert_true(redis_lists_pushed_key(&l, slice_of(queues[i].name)));
    assert_int_equal(l.maybe, QUEUES);
    assert_true(redis_lists_pushed_key(&l, slice_of("celery")));
    assert_int_equal(l.maybe, QUEUES);
    settle(&l);
    assert_true(redis_lists_pushed_key(&l, slice_of("celery\x06\x16"
                                                    "9")));
    assert_true(redis_lists_pushed(&l, slice_of("a"), 1));
    redis_lists_choose(&l, SIZE_MAX, false);
    assert_int_equal(l.chosen_len, 2);
    assert_string_equal(queues[redis_lists_queue(&l, l.chosen[0])].name, "a");
    assert_int_equal(redis_lists_step(&l, l.chosen[0]), 1);
    assert_string_equal(queues[redis_lists_queue(&l, l.chosen[1])].name, "celery");
    assert_int_equal(redis_lists_step(&l, l.chosen[1]), 3);
    redis_lists_release(&l);
}

static void lists_can_be_asked_for_beside_a_choice(void **state)
{
    const size_t some[] = {0, 2, 3};
    struct redis_lists l;

    (void)state;
    open_lists(&l);
    redis_lists_ask(&l, some, 3);
    assert_int_equal(l.maybe, 4 * QUEUES - 3);
    redis_lists_choose(&l, 2, false);
    assert_int_equal(l.chosen_len, 2);
    assert_int_equal(l.chosen[0], 1);
    assert_int_equal(l.chosen[1], 4);
    assert_true(redis_lists_pushed_key(&l, slice_of(names[2])));
    redis_lists_answered(&l, some, 3, true);
    assert_int_equal(l.maybe, 4 * QUEUES - 2); /* but not what was pushed meanwhile */
    redis_lists_ask(&l, some, 1);
    redis_lists_answered(&l, some, 3, false);
    assert_int_equal(l.maybe, 4 * QUEUES - 1);
    redis_lists_release(&l);
}

static void what_is_pushed_meanwhile_is_not_lost(void **state)
{
    struct redis_lists l;

    (void)state;
    open_lists(&l);
    redis_lists_choose(&l, SIZE_MAX, true);
    assert_int_equal(l.maybe, 0);
    assert_true(redis_lists_pushed_key(&l, slice_of("z")));
    redis_lists_heard(&l, l.chosen_len);
    assert_int_equal(l.maybe, 1);
    redis_lists_choose(&l, SIZE_MAX, true);
    assert_int_equal(l.chosen_len, 1);
    redis_lists_heard(&l, 0); /* it was not empty */
    assert_int_equal(l.maybe, 1);
    redis_lists_pushed(&l, slice_of("mail"), 0);
    redis_lists_choose(&l, SIZE_MAX, true);
    assert_int_equal(l.chosen_len, 2);
    redis_lists_heard(&l, 1); /* the second one was not */
    assert_int_equal(l.maybe, 1);
    redis_lists_choose(&l, SIZE_MAX, true);
    redis_lists_forget(&l);
    redis_lists_heard(&l, l.chosen_len);
    assert_int_equal(l.maybe, 4 * QUEUES);
    redis_lists_release(&l);
}

static void few_are_chosen_step_by_step_and_in_turn(void **state)
{
    struct redis_lists l;

    (void)state;
    open_lists(&l);
    for (size_t turn = 0; turn < 2 * QUEUES; turn++) {
        redis_lists_choose(&l, QUEUES + 2, false);
        assert_int_equal(l.chosen_len, QUEUES + 2);
        for (size_t i = 0; i < l.chosen_len; i++) {
            assert_int_equal(redis_lists_queue(&l, l.chosen[i]), (turn + i) % QUEUES);
            assert_int_equal(redis_lists_step(&l, l.chosen[i]), i / QUEUES);
        }
    }
    /* Those that are empty take no turn. */
    settle(&l);
    redis_lists_pushed(&l, slice_of("mail"), 0);
    redis_lists_pushed(&l, slice_of("z"), 0);
    redis_lists_choose(&l, 1, false);
    size_t one = l.chosen[0];
    redis_lists_choose(&l, 1, false);
    assert_int_not_equal(l.chosen[0], one);
    redis_lists_choose(&l, 1, false);
    assert_int_equal(l.chosen[0], one);
    redis_lists_release(&l);
}

static void none_is_no_list(void **state)
{
    struct redis_lists l;

    (void)state;
    assert_int_equal(redis_lists_init(&l, NULL, 0), 0);
    assert_false(redis_lists_pushed_key(&l, slice_of("celery")));
    redis_lists_forget(&l);
    assert_int_equal(l.maybe, 0);
    redis_lists_release(&l);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_bell_names_lists),
        cmocka_unit_test(lists_can_be_asked_for_beside_a_choice),
        cmocka_unit_test(what_is_pushed_meanwhile_is_not_lost),
        cmocka_unit_test(few_are_chosen_step_by_step_and_in_turn),
        cmocka_unit_test(none_is_no_list),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
