#include "broker/events.h"
#include "tests/support/check.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LARGE ((size_t)100 << 10)

static void push(struct event_queue *q, uint64_t tag, size_t len)
{
    struct broker_event event = {.kind = BROKER_DELIVERED, .tag = tag, .queue = slice_of("q")};
    char *text = malloc(len);

    assert_non_null(text);
    memset(text, (int)('a' + tag % 26), len);
    event.data = slice_make(text, len);
    event_queue_push(q, &event);
    free(text);
}

static void check(const struct broker_event *event, uint64_t tag, size_t len)
{
    assert_int_equal(event->tag, tag);
    assert_true(slice_is(event->queue, "q"));
    assert_int_equal(event->data.len, len);
    for (size_t i = 0; i < len; i++)
        assert_int_equal(event->data.ptr[i], 'a' + tag % 26);
    assert_int_equal(event->data.ptr[len], 0);
}

/* What a drain lends stays until the next, whatever is pushed meanwhile. */
static void texts_live_until_the_next_drain(void **state)
{
    struct broker_event events[7];
    struct event_queue q;
    uint64_t pushed = 0, drained = 0;
    int n;

    (void)state;
    event_queue_init(&q);
    for (int round = 0; round < 300; round++) {
        for (int i = 0; i < 5 + round % 4; i++, pushed++)
            push(&q, pushed, 1 + pushed % 3000);
        n = event_queue_drain(&q, events, 7);
        push(&q, pushed, 1 + pushed % 3000);
        pushed++;
        for (int i = 0; i < n; i++, drained++)
            check(&events[i], drained, 1 + drained % 3000);
    }
    assert_int_equal(q.len, pushed - drained);
    event_queue_release(&q);
}

/* As a transaction's, of which some were handed out before. */
static void what_is_appended_outlives_its_queue(void **state)
{
    struct broker_event first, events[8];
    struct event_queue q, from;

    (void)state;
    event_queue_init(&q);
    event_queue_init(&from);
    push(&from, 1, 10);
    push(&from, 2, 10);
    push(&q, 0, 10);
    assert_int_equal(event_queue_drain(&from, &first, 1), 1);
    event_queue_append(&q, &from);
    assert_true(event_queue_empty(&from));
    push(&from, 9, 10);
    check(&first, 1, 10);
    event_queue_release(&from);
    assert_int_equal(event_queue_drain(&q, events, 8), 2);
    check(&events[0], 0, 10);
    check(&events[1], 2, 10);
    event_queue_release(&q);
}

static void a_large_event_leaves_nothing_behind(void **state)
{
    struct broker_event event;
    struct event_queue q;

    (void)state;
    event_queue_init(&q);
    push(&q, 1, LARGE);
    assert_int_equal(event_queue_drain(&q, &event, 1), 1);
    check(&event, 1, LARGE);
    assert_int_equal(event_queue_drain(&q, &event, 1), 0);
    assert_null(q.cutting);
    assert_null(q.chunks);
    event_queue_release(&q);
}

/* However many there were at once, few chunks are kept. */
static void a_burst_is_given_back(void **state)
{
    struct broker_event event;
    struct event_queue q;

    (void)state;
    event_queue_init(&q);
    for (uint64_t i = 0; i < 1000; i++)
        push(&q, i, 1000);
    for (uint64_t i = 0; i < 1000; i++)
        assert_int_equal(event_queue_drain(&q, &event, 1), 1);
    assert_int_equal(event_queue_drain(&q, &event, 1), 0);
    assert_int_equal(q.chunks_len, 16);
    event_queue_rest(&q);
    assert_null(q.chunks);
    assert_int_equal(q.chunks_len, 0);
    assert_null(q.cutting);
    push(&q, 1, 10);
    event_queue_rest(&q); /* what waits stays */
    assert_int_equal(event_queue_drain(&q, &event, 1), 1);
    check(&event, 1, 10);
    event_queue_release(&q);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(texts_live_until_the_next_drain),
        cmocka_unit_test(what_is_appended_outlives_its_queue),
        cmocka_unit_test(a_large_event_leaves_nothing_behind),
        cmocka_unit_test(a_burst_is_given_back),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
