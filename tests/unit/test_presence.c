/* What a dispatcher announces: from its seats, and end to end through a queue file. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <jansson.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/support/sqlite_fixture.h"
#include "worker/dispatcher.h"

#define SLOTS   4
#define WAIT_MS 20000

static const char *const queue_names[] = {"celery", "mail"};
static const struct proc_title no_title;

static struct worker_config config_of(const char *url, const struct log *log)
{
    return (struct worker_config){.broker_url = url,
                                  .node = "celery@test",
                                  .queues = queue_names,
                                  .queues_len = 2,
                                  .concurrency = SLOTS,
                                  .lost_max = WORKER_LOST_MAX_DEFAULT,
                                  .result_expires_s = 60,
                                  .log = log,
                                  .title = &no_title};
}

static const char *text_of(const json_t *object, const char *name)
{
    return json_string_value(json_object_get(object, name));
}

static int64_t number_of(const json_t *object, const char *name)
{
    return json_integer_value(json_object_get(object, name));
}

static const char *slot_state(const json_t *worker, size_t slot)
{
    return text_of(json_array_get(json_object_get(worker, "runners"), slot - 1), "state");
}

/* A dispatcher that has seats and a clock, and no broker. */
struct scene {
    struct clock_fake clock;
    struct worker_config config;
    struct seat seats[SLOTS];
    struct dispatcher d;
};

static void scene_init(struct scene *s)
{
    memset(s, 0, sizeof(*s));
    clock_fake_init(&s->clock, 1795000000000);
    s->config = config_of("memory:", NULL);
    s->d.config = &s->config;
    s->d.clock = &s->clock.base;
    s->d.seats = s->seats;
    for (int i = 0; i < SLOTS; i++) {
        s->seats[i].slot = i;
        s->seats[i].jobs.fd = -1;
    }
    presence_init(&s->d, 77);
}

static json_t *said(const struct scene *s)
{
    char *text = presence_text(&s->d);
    json_t *root = json_loads(text, 0, NULL);

    assert_non_null(root);
    free(text);
    return root;
}

static void the_text_tells_every_slot(void **state)
{
    struct scene s;
    json_t *worker;

    (void)state;
    scene_init(&s);
    s.seats[0].jobs.fd = 0;
    s.seats[0].ready = true;
    s.seats[0].jobs_done = 5;
    s.seats[0].lent_len = 2;
    s.seats[1].jobs.fd = 0;
    s.seats[2].failed = true;
    s.seats[2].jobs_done = 4;
    stages_add(&s.d.stages, STAGE_RUN, 800);
    stages_add(&s.d.stages, STAGE_RUN, 1600);
    stages_add(&s.d.stages, STAGE_QUEUED, -1);
    worker = said(&s);
    assert_string_equal(text_of(worker, "node"), "celery@test");
    assert_int_equal(number_of(worker, "pid"), 77);
    assert_int_equal(number_of(worker, "concurrency"), SLOTS);
    assert_int_equal(number_of(worker, "running"), 2);
    assert_int_equal(number_of(worker, "jobs"), 9);
    assert_int_equal(number_of(worker, "since_ms"), 1795000000000);
    assert_string_equal(text_of(worker, "state"), "running");
    assert_int_equal(json_array_size(json_object_get(worker, "queues")), 2);
    assert_string_equal(slot_state(worker, 1), "up");
    assert_string_equal(slot_state(worker, 2), "starting");
    assert_string_equal(slot_state(worker, 3), "failed");
    assert_string_equal(slot_state(worker, 4), "down");
    assert_int_equal(number_of(json_object_get(worker, "stages"), "run_us"), 900);
    assert_int_equal(json_object_size(json_object_get(worker, "stages")), 1);
    json_decref(worker);
}

static void a_worker_that_stops_says_so(void **state)
{
    struct scene s;
    json_t *worker;

    (void)state;
    scene_init(&s);
    s.d.stop = DISPATCH_WARM;
    worker = said(&s);
    assert_string_equal(text_of(worker, "state"), "stopping");
    json_decref(worker);
}

static struct broker *memory_node(const struct scene *s)
{
    struct broker_config config = {.url = "memory:", .node = "w", .clock = &s->clock.base};
    struct err e = ERR_INIT;
    struct broker *b = broker_open(&config, &e);

    assert_non_null(b);
    return b;
}

static void changes_are_said_soon_but_not_each(void **state)
{
    struct scene s;
    int64_t start;

    (void)state;
    scene_init(&s);
    s.d.broker = memory_node(&s);
    assert_int_equal(presence_next_ms(&s.d), CLOCK_NEVER);
    s.d.broker_up = true;
    start = clock_mono_ms(s.d.clock);
    assert_int_equal(presence_next_ms(&s.d), start);
    presence_step(&s.d);
    assert_int_equal(presence_next_ms(&s.d), start + PRESENCE_EVERY_MS);
    presence_changed(&s.d);
    presence_changed(&s.d);
    assert_int_equal(presence_next_ms(&s.d), start + PRESENCE_SOON_MS);
    clock_fake_advance(&s.clock, PRESENCE_SOON_MS);
    presence_step(&s.d);
    assert_int_equal(presence_next_ms(&s.d), start + PRESENCE_SOON_MS + PRESENCE_EVERY_MS);
    presence_release(&s.d);
    broker_close(s.d.broker, true);
}

static bool says(struct scene *s, int64_t later_ms)
{
    clock_fake_advance(&s->clock, later_ms);
    presence_step(&s->d);
    return s->d.presence.said_ms == clock_mono_ms(s->d.clock);
}

static void what_is_not_new_is_said_half_as_often(void **state)
{
    struct scene s;

    (void)state;
    scene_init(&s);
    s.d.broker = memory_node(&s);
    s.d.broker_up = true;
    assert_true(says(&s, 0));
    assert_false(says(&s, PRESENCE_EVERY_MS));
    assert_true(says(&s, PRESENCE_KEEP_MS - PRESENCE_EVERY_MS));
    s.seats[0].jobs_done++;
    assert_true(says(&s, PRESENCE_EVERY_MS));
    presence_broker_up(&s.d);
    assert_true(says(&s, PRESENCE_SOON_MS));
    presence_release(&s.d);
    broker_close(s.d.broker, true);
}

/* --- end to end: a dispatcher in a process of its own, this test as its supervisor --- */

struct act {
    struct fixture fixture;
    struct log log;
    struct worker_config config;
    struct frame_link link;
    pid_t pid;
    struct broker *client;
};

static void act_start(struct act *a)
{
    struct err e = ERR_INIT;
    int pair[2];

    fixture_init(&a->fixture);
    log_init(&a->log, STDERR_FILENO, LOG_LEVEL_WARNING, "test");
    a->config = config_of(a->fixture.url, &a->log);
    assert_int_equal(proc_socketpair(pair, 2, &e), 0);
    a->pid = fork();
    assert_true(a->pid >= 0);
    if (a->pid == 0) {
        struct dispatcher_config config = {&a->config, pair[1], 1, 77};

        close(pair[0]);
        _exit(dispatcher_main(&config));
    }
    close(pair[1]);
    frame_link_init(&a->link, pair[0]);
    a->client = fixture_open(&a->fixture, NULL, 0, true);
}

static void act_say(struct act *a, enum channel_type type, uint64_t id)
{
    struct err e = ERR_INIT;

    frame_put(&a->link, (uint16_t)type, 0, id, slice_make(NULL, 0));
    assert_int_equal(frame_flush(&a->link, &e), FRAME_OK);
}

static json_t *act_nodes(struct act *a)
{
    struct broker_ask ask = {.tag = 1, .question = BROKER_ASK_NODES};
    struct broker_event event;
    struct err e = ERR_INIT;
    json_t *nodes;

    assert_int_equal(broker_ask(a->client, &ask, &e), 0);
    assert_int_equal(fixture_wait(a->client, BROKER_ANSWER, &event), 0);
    nodes = json_loads(event.data.ptr, 0, NULL);
    assert_non_null(nodes);
    return nodes;
}

/* Waits until the one worker says that its slot is in that state. */
static void act_await_slot(struct act *a, size_t slot, const char *state)
{
    int64_t until = clock_mono_ms(clock_system()) + WAIT_MS;
    bool is = false;

    while (!is && clock_mono_ms(clock_system()) < until) {
        json_t *nodes = act_nodes(a);

        is = json_array_size(nodes) == 1 &&
             strcmp(slot_state(json_array_get(nodes, 0), slot), state) == 0;
        json_decref(nodes);
        if (!is)
            poll(NULL, 0, 10);
    }
    assert_true(is);
}

static void act_end(struct act *a)
{
    int status;

    assert_int_equal(waitpid(a->pid, &status, 0), a->pid);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
    frame_link_release(&a->link);
}

static void act_release(struct act *a)
{
    broker_close(a->client, false);
    fixture_release(&a->fixture);
}

static void a_failed_slot_is_told_and_a_stop_takes_all_back(void **state)
{
    struct act a;
    json_t *nodes;

    (void)state;
    act_start(&a);
    act_await_slot(&a, 2, "down");
    act_say(&a, CHANNEL_FAILED, 1);
    act_await_slot(&a, 2, "failed");
    act_await_slot(&a, 1, "down");
    act_say(&a, CHANNEL_STOP, 0);
    act_end(&a);
    nodes = act_nodes(&a);
    assert_int_equal(json_array_size(nodes), 0);
    json_decref(nodes);
    act_release(&a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_text_tells_every_slot),
        cmocka_unit_test(a_worker_that_stops_says_so),
        cmocka_unit_test(changes_are_said_soon_but_not_each),
        cmocka_unit_test(what_is_not_new_is_said_half_as_often),
        cmocka_unit_test(a_failed_slot_is_told_and_a_stop_takes_all_back),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
