#include "broker/amqp_assembly.h"
#include "broker/amqp_confirm.h"
#include "tests/support/check.h"

static void sound_properties(void **state)
{
    static const struct {
        const char *bytes;
        size_t len;
        bool sound;
    } rows[] = {
        {"", 0, false},
        {"\0", 1, false},
        {"\0\0", 2, true},
        {"\0\1", 2, false}, /* more flags follow: there are none in this class */
        {"\x80\0\3abc", 6, true},
        {"\x80\0\4abc", 6, false},
        {"\x80\0", 2, false},
        {"\x18\0\2\5", 4, true},
        {"\x18\0\2", 3, false},
        {"\0\x40\0\0\0\0\0\0\0\0", 10, true},
        {"\0\x40\0\0\0\0\0\0\0", 9, false},
        {"\x20\0\0\0\0\0", 6, true},
        {"\x20\0\0\0\0\1", 6, false},
        {"\x20\0\0\0\0\3\1kV", 9, true},
        {"\x20\0\0\0\0\3\2kV", 9, false},
        {"\x20\0\0\0\0\3\1kZ", 9, false},
        {"\x20\0\0\0\0\4\1kt\1", 10, true},
        {"\x20\0\0\0\0\3\1kt\1", 10, false},
        {"\x20\0\0\0\0\7\1kS\0\0\0\0", 13, true},
        {"\x20\0\0\0\0\7\1kS\0\0\0\1", 13, false},
        {"\x20\0\0\0\0\7\1kS\xff\xff\xff\xff", 13, false},
        {"\x20\0\xff\xff\xff\xff\1kV", 9, false},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        if (content_sound(slice_make(rows[i].bytes, rows[i].len)) != rows[i].sound)
            fail_msg("row %zu", i);
    }
}

static void the_ring_grows_around_its_end(void **state)
{
    struct amqp_confirms c = {0};
    uint64_t oldest = 1, next = 1;
    struct err e;

    (void)state;
    confirms_start(&c);
    for (int round = 1; round < 400; round++) {
        for (int i = 0; i < round % 37; i++, next++) {
            CHECK_OK(confirms_reserve(&c, &e));
            assert_int_equal(confirms_add(&c, (uint32_t)next), next);
        }
        if (round % 37)
            assert_int_equal(confirms_returned(&c, (uint32_t)next - 1), next - 1);
        assert_int_equal(confirms_returned(&c, (uint32_t)next - 1), 0);
        for (int i = 0; i < round % 31 && oldest < next; i++, oldest++) {
            assert_true(confirms_take(&c, oldest));
            assert_false(confirms_take(&c, oldest));
        }
        assert_int_equal(c.oldest, oldest);
    }
    assert_true(c.cap >= next - oldest);
    confirms_release(&c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sound_properties),
        cmocka_unit_test(the_ring_grows_around_its_end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
