/* What the bell of Redis brings by itself: time stands still here, so no tick comes to the rescue.
 */
#include "tests/support/check.h"

#include "broker/broker.h"
#include "tests/support/place.h"

#include <poll.h>
#include <stdlib.h>

#define QUIET_MS 500   /* a worker that just came has asked all it wants to */
#define WAIT_MS  30000 /* for what never ends */

static struct clock_fake now;

static struct broker *open_broker(const struct place *p, const char *node)
{
    static const char *const queues[] = {"celery"};
    struct broker_config config = {.url = p->url,
                                   .node = node,
                                   .generation = 1,
                                   .queues = queues,
                                   .queues_len = node ? 1 : 0,
                                   .clock = &now.base};
    struct err e = ERR_INIT;
    struct broker *b = broker_open(&config, &e);

    if (!b)
        fail_msg("%s: %s", p->url, e.text);
    return b;
}

/* Whether that comes within ms of real time. */
static bool comes(struct broker *b, enum broker_event_kind kind, int64_t ms)
{
    int64_t end = clock_mono_ms(clock_system()) + ms;
    struct broker_event event;
    struct pollfd fds[16];

    while (clock_mono_ms(clock_system()) < end) {
        if (broker_poll(b, &event, 1) == 0)
            poll(fds, (nfds_t)broker_pollset(b, fds, 16), 10);
        else if (event.kind == kind)
            return true;
    }
    return false;
}

static void an_earlier_delayed_message_rings(void **state)
{
    const struct place *p = *state;
    struct broker_message m = {.queue = slice_of("celery"),
                               .envelope = slice_of("{\"body\":\"W10=\",\"properties\":{}}")};
    struct broker *worker, *client;
    struct err e = ERR_INIT;

    clock_fake_init(&now, clock_wall_ms(clock_system()));
    worker = open_broker(p, "celery@bell");
    client = open_broker(p, NULL);
    broker_credit(worker, 1);
    assert_false(comes(worker, BROKER_DELIVERED, QUIET_MS));

    m.not_before_ms = clock_wall_ms(&now.base) + 1;
    CHECK_OK(broker_publish(client, &m, 1, &e));
    assert_true(comes(client, BROKER_PUBLISHED, WAIT_MS));
    clock_fake_advance(&now, 2);
    assert_true(comes(worker, BROKER_DELIVERED, WAIT_MS));
    broker_close(client, true);
    broker_close(worker, true);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(an_earlier_delayed_message_rings)};
    struct redis_server probe;

    if (redis_server_init(&probe) < 0)
        return 77;
    redis_server_release(&probe);
    return cmocka_run_group_tests(tests, place_make_server, place_remove_server);
}
