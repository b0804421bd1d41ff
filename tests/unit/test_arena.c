#include "base/arena.h"
#include "tests/support/check.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

static void pieces_are_apart_and_aligned(void **state)
{
    struct arena a = ARENA_INIT;
    char *pieces[100];

    (void)state;
    for (size_t i = 0; i < 100; i++) {
        pieces[i] = arena_take(&a, 1 + i * 20);
        assert_non_null(pieces[i]);
        assert_int_equal((uintptr_t)pieces[i] % _Alignof(max_align_t), 0);
        memset(pieces[i], (int)i, 1 + i * 20);
    }
    for (size_t i = 0; i < 100; i++) {
        for (size_t at = 0; at < 1 + i * 20; at++)
            assert_int_equal(pieces[i][at], i);
    }
    arena_release(&a);
}

static void cleared_memory_is_used_again(void **state)
{
    struct arena a = ARENA_INIT;
    void *first = arena_take(&a, 100);

    (void)state;
    for (int i = 0; i < 1000; i++) {
        arena_clear(&a);
        assert_ptr_equal(arena_take(&a, 100), first);
    }
    arena_release(&a);
}

/* A large piece takes no room of the block that is cut from, and is not kept. */
static void large_pieces_have_their_own_blocks(void **state)
{
    struct arena a = ARENA_INIT;
    char *small = arena_take(&a, 16), *large = arena_take(&a, (size_t)1 << 20);

    (void)state;
    assert_non_null(large);
    memset(large, 1, (size_t)1 << 20);
    assert_ptr_equal(arena_take(&a, 16), small + 16);
    arena_clear(&a);
    assert_int_equal(a.spares, 1);
    arena_release(&a);
}

static void a_bounded_part_is_kept(void **state)
{
    struct arena a = ARENA_INIT;

    (void)state;
    for (int i = 0; i < 1000; i++)
        assert_non_null(arena_take(&a, 1000));
    arena_clear(&a);
    assert_int_equal(a.spares, 16);
    arena_rest(&a);
    assert_null(a.spare);
    assert_null(arena_take(&a, SIZE_MAX));
    arena_release(&a);
    assert_int_equal(a.spares, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pieces_are_apart_and_aligned),
        cmocka_unit_test(cleared_memory_is_used_again),
        cmocka_unit_test(large_pieces_have_their_own_blocks),
        cmocka_unit_test(a_bounded_part_is_kept),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
