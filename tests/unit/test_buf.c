#include "base/buf.h"
#include "tests/support/check.h"

#include <stdlib.h>

static void appends_in_order(void **state)
{
    struct buf b = BUF_INIT;

    (void)state;
    assert_string_equal(buf_str(&b), "");
    buf_adds(&b, "a");
    buf_add(&b, "b\0c", 3);
    buf_addf(&b, "%d-%s", 7, "x");
    assert_int_equal(b.len, 7);
    assert_memory_equal(buf_str(&b), "ab\0c7-x", 8);
    buf_release(&b);
    assert_int_equal(b.len, 0);
}

static void consume_takes_from_the_front(void **state)
{
    struct buf b = BUF_INIT;

    (void)state;
    buf_adds(&b, "hello world");
    buf_consume(&b, 6);
    assert_string_equal(buf_str(&b), "world");
    buf_consume(&b, 5);
    assert_int_equal(b.start, 0);
    assert_string_equal(buf_str(&b), "");
    buf_release(&b);
}

/* Content moves to the front when half was consumed; up to then the memory doubles, once. */
static void consumed_room_is_used_again(void **state)
{
    struct buf b = BUF_INIT;
    size_t cap;

    (void)state;
    for (int i = 0; i < 25; i++)
        buf_adds(&b, "0123456789");
    cap = b.cap;
    for (int i = 0; i < 1000; i++) {
        buf_consume(&b, 10);
        buf_adds(&b, "abcdefghij");
    }
    assert_int_equal(b.cap, cap * 2);
    assert_int_equal(b.len, 250);
    assert_memory_equal(buf_str(&b), "abcdefghij", 10);
    buf_release(&b);
}

static void reserve_and_commit(void **state)
{
    struct buf b = BUF_INIT;
    char *to = buf_reserve(&b, 1000);

    (void)state;
    assert_non_null(to);
    memcpy(to, "xyz", 3);
    buf_commit(&b, 3);
    assert_true(slice_is(buf_slice(&b), "xyz"));
    buf_release(&b);
}

/* An impossible request is remembered: a builder checks once, at the end. */
static void failure_sticks(void **state)
{
    struct buf b = BUF_INIT;

    (void)state;
    buf_adds(&b, "kept");
    assert_null(buf_reserve(&b, SIZE_MAX / 2));
    assert_true(b.failed);
    buf_adds(&b, "dropped");
    assert_int_equal(b.len, 4);
    assert_string_equal(buf_str(&b), "");
    assert_null(buf_detach(&b, NULL));
    buf_clear(&b);
    buf_adds(&b, "again");
    assert_string_equal(buf_str(&b), "again");
    buf_release(&b);
}

static void detach_hands_over(void **state)
{
    struct buf b = BUF_INIT;
    size_t len = 0;
    char *text;

    (void)state;
    buf_adds(&b, "drop keep");
    buf_consume(&b, 5);
    text = buf_detach(&b, &len);
    assert_string_equal(text, "keep");
    assert_int_equal(len, 4);
    assert_null(b.mem);
    free(text);
}

static void slices_compare_by_content(void **state)
{
    (void)state;
    assert_true(slice_is(slice_of("abc"), "abc"));
    assert_false(slice_is(slice_of("abc"), "ab"));
    assert_true(slice_eq(slice_of(NULL), slice_of("")));
    assert_int_equal(slice_of(NULL).len, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(appends_in_order),
        cmocka_unit_test(consume_takes_from_the_front),
        cmocka_unit_test(consumed_room_is_used_again),
        cmocka_unit_test(reserve_and_commit),
        cmocka_unit_test(failure_sticks),
        cmocka_unit_test(detach_hands_over),
        cmocka_unit_test(slices_compare_by_content),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
