/* The client library with a worker of one thread at the other end; argv[1]: sqlite, redis
 * or amqp. */
#include "tests/support/check.h"

#include "broker/broker.h"
#include "client/celeriac.h"
#include "tests/support/echo_worker.h"
#include "tests/support/place.h"

#include <jansson.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define WAIT_MS 30000
#define MANY    3000

static struct celeriac_error err;

#define GOOD(call)                                                                                 \
    do {                                                                                           \
        if ((call) != 0)                                                                           \
            fail_msg("%s: %d %s", #call, err.code, err.text);                                      \
    } while (0)

#define BAD(call, want, piece)                                                                     \
    do {                                                                                           \
        assert_int_equal((call), -1);                                                              \
        if (err.code != (want) || !strstr(err.text, (piece)))                                      \
            fail_msg("%s: got %d \"%s\"", #call, err.code, err.text);                              \
    } while (0)

static struct celeriac *open_client(const struct place *p)
{
    struct celeriac *c = celeriac_open(p->url, NULL, &err);

    if (!c)
        fail_msg("%s: %s", p->url, err.text);
    return c;
}

static void sends_and_waits(void **state)
{
    struct place *p = *state;
    struct celeriac *c = open_client(p);
    struct celeriac_task_options how = CELERIAC_TASK_OPTIONS_INIT;
    char id[CELERIAC_ID_SIZE], *document = NULL, *result;
    struct echo_worker w;

    how.args_json = "[2, 3]";
    GOOD(celeriac_send(c, "math.add", &how, id, &err));
    assert_int_equal(strlen(id), 36);
    BAD(celeriac_get(c, id, &document, &err), CELERIAC_NOT_FOUND, id);
    assert_null(document);
    BAD(celeriac_wait(c, id, 50, &document, &err), CELERIAC_TIMEOUT, "not ready within 0.05 s");
    assert_int_equal(echo_worker_start(&w, p->url), 0);
    GOOD(celeriac_wait(c, id, WAIT_MS, &document, &err));
    assert_true(celeriac_succeeded(document));
    result = celeriac_result_json(document);
    assert_non_null(result);
    assert_memory_equal(result + 1, id, 36);
    celeriac_free(result);
    celeriac_free(document);
    echo_worker_stop(&w);
    celeriac_close(c);
}

static void wait_for_success(struct celeriac *c, const char *id)
{
    char *document = NULL, *result;

    GOOD(celeriac_wait(c, id, WAIT_MS, &document, &err));
    assert_true(celeriac_succeeded(document));
    result = celeriac_result_json(document);
    assert_non_null(result);
    assert_memory_equal(result + 1, id, strlen(id));
    celeriac_free(result);
    celeriac_free(document);
}

#define TURNS 50 /* more than client/ahead.h chooses ids for at a time, thrice */

/* The client comes to expect that it waits: for some it waits late, for some twice. */
static void sends_and_waits_in_turn(void **state)
{
    struct place *p = *state;
    struct celeriac *c = open_client(p);
    char ids[TURNS][CELERIAC_ID_SIZE], *document = NULL;
    struct echo_worker w;

    assert_int_equal(echo_worker_start(&w, p->url), 0);
    for (int i = 0; i < TURNS; i++) {
        GOOD(celeriac_send(c, "echo", NULL, ids[i], &err));
        for (int earlier = 0; earlier < i; earlier++)
            assert_string_not_equal(ids[earlier], ids[i]);
        if (i % 7 == 3)
            while (celeriac_get(c, ids[i], &document, &err) < 0)
                assert_int_equal(err.code, CELERIAC_NOT_FOUND);
        celeriac_free(document);
        document = NULL;
        if (i % 5 != 4)
            wait_for_success(c, ids[i]);
    }
    for (int i = 0; i < TURNS; i++)
        wait_for_success(c, ids[i]);
    echo_worker_stop(&w);
    celeriac_close(c);
}

static void forgets_a_result(void **state)
{
    struct place *p = *state;
    struct celeriac *c = open_client(p);
    char id[CELERIAC_ID_SIZE], *document = NULL;
    struct echo_worker w;

    assert_int_equal(echo_worker_start(&w, p->url), 0);
    GOOD(celeriac_send(c, "echo", NULL, id, &err));
    GOOD(celeriac_wait(c, id, WAIT_MS, &document, &err));
    celeriac_free(document);
    GOOD(celeriac_get(c, id, &document, &err));
    celeriac_free(document);
    GOOD(celeriac_forget(c, id, &err));
    BAD(celeriac_get(c, id, &document, &err), CELERIAC_NOT_FOUND, id);
    GOOD(celeriac_forget(c, id, &err));
    echo_worker_stop(&w);
    celeriac_close(c);
}

static void tells_failures(void **state)
{
    struct place *p = *state;
    struct celeriac *c = open_client(p);
    char id[CELERIAC_ID_SIZE], *document = NULL, *result;
    struct echo_worker w;

    assert_int_equal(echo_worker_start(&w, p->url), 0);
    GOOD(celeriac_send(c, "fail", NULL, id, &err));
    GOOD(celeriac_wait(c, id, WAIT_MS, &document, &err));
    assert_false(celeriac_succeeded(document));
    result = celeriac_result_json(document);
    assert_non_null(strstr(result, "ValueError"));
    celeriac_free(result);
    celeriac_free(document);
    echo_worker_stop(&w);
    celeriac_close(c);
}

struct seen {
    size_t n;
    unsigned char marks[MANY];
};

static int mark(void *user, size_t index, const char *id, const char *document)
{
    struct seen *seen = user;

    if (seen->marks[index] || !strstr(document, id))
        return 1;
    seen->marks[index] = 1;
    seen->n++;
    return 0;
}

static void sends_and_awaits_many(void **state)
{
    struct place *p = *state;
    struct celeriac *c = open_client(p);
    const char **tasks = MUST_HAVE(calloc(MANY, sizeof(*tasks)));
    const char **ids = MUST_HAVE(calloc(MANY, sizeof(*ids)));
    char(*id_texts)[CELERIAC_ID_SIZE] = MUST_HAVE(calloc(MANY, sizeof(*id_texts)));
    struct seen *seen = MUST_HAVE(calloc(1, sizeof(*seen)));
    struct echo_worker w;

    for (size_t i = 0; i < MANY; i++) {
        tasks[i] = "echo";
        ids[i] = id_texts[i];
    }
    GOOD(celeriac_send_many(c, tasks, NULL, MANY, id_texts, &err));
    assert_int_equal(echo_worker_start(&w, p->url), 0);
    GOOD(celeriac_wait_many(c, ids, MANY, WAIT_MS, mark, seen, &err));
    assert_int_equal(seen->n, MANY);
    echo_worker_stop(&w);
    assert_int_equal(atomic_load(&w.finished), MANY);
    celeriac_close(c);
    free(seen);
    free(id_texts);
    free(ids);
    free(tasks);
}

static int stop_at_once(void *user, size_t index, const char *id, const char *document)
{
    (void)index;
    (void)id;
    (void)document;
    return ++*(int *)user;
}

static void stops_waiting_when_told(void **state)
{
    struct place *p = *state;
    struct celeriac *c = open_client(p);
    char a[CELERIAC_ID_SIZE], b[CELERIAC_ID_SIZE];
    const char *const ids[] = {a, b};
    struct echo_worker w;
    int calls = 0;

    GOOD(celeriac_send(c, "echo", NULL, a, &err));
    GOOD(celeriac_send(c, "hold", NULL, b, &err));
    assert_int_equal(echo_worker_start(&w, p->url), 0);
    GOOD(celeriac_wait_many(c, ids, 2, WAIT_MS, stop_at_once, &calls, &err));
    assert_int_equal(calls, 1);
    BAD(celeriac_wait_many(c, ids, 2, 100, NULL, NULL, &err), CELERIAC_TIMEOUT, "1 of 2");
    echo_worker_stop(&w);
    celeriac_close(c);
}

/* An id may be given more than once: each place gets the document. */
static void awaits_an_id_given_twice(void **state)
{
    struct place *p = *state;
    struct celeriac *c = open_client(p);
    struct seen *seen = calloc(1, sizeof(*seen));
    char a[CELERIAC_ID_SIZE], b[CELERIAC_ID_SIZE];
    const char *const ids[] = {a, b, a, a};
    struct echo_worker w;

    GOOD(celeriac_send(c, "echo", NULL, a, &err));
    GOOD(celeriac_send(c, "echo", NULL, b, &err));
    assert_int_equal(echo_worker_start(&w, p->url), 0);
    GOOD(celeriac_wait_many(c, ids, 4, WAIT_MS, mark, seen, &err));
    assert_int_equal(seen->n, 4);
    echo_worker_stop(&w);
    celeriac_close(c);
    free(seen);
}

/* How many messages wait, by asking the broker itself. */
static int64_t waiting(const struct place *p)
{
    struct broker_config config = {.url = p->url};
    struct err e = ERR_INIT;
    struct broker *b = broker_open(&config, &e);
    struct broker_ask ask = {.tag = 1, .question = BROKER_ASK_TOTALS};
    struct broker_event event;
    int64_t n = -1;

    assert_non_null(b);
    CHECK_OK(broker_ask(b, &ask, &e));
    for (int tries = 0; tries < 10000 && n < 0; tries++) {
        if (broker_poll(b, &event, 1) == 0) {
            poll(NULL, 0, 1);
        } else if (event.kind == BROKER_ANSWER) {
            json_t *totals = json_loadb(event.data.ptr, event.data.len, 0, NULL);

            n = json_integer_value(json_object_get(totals, "waiting"));
            json_decref(totals);
        }
    }
    broker_close(b, false);
    return n;
}

static void sends_an_id_once(void **state)
{
    struct place *p = *state;
    struct celeriac *c = open_client(p), *other = open_client(p);
    struct celeriac_task_options how = CELERIAC_TASK_OPTIONS_INIT;
    char id[CELERIAC_ID_SIZE];

    how.id = "order-4711";
    GOOD(celeriac_send(c, "echo", &how, id, &err));
    assert_string_equal(id, "order-4711");
    GOOD(celeriac_send(c, "echo", &how, id, &err));
    GOOD(celeriac_send(other, "echo", &how, id, &err));
    assert_int_equal(waiting(p), 1);
    celeriac_close(other);
    celeriac_close(c);
}

static void refuses_wrong_json(void **state)
{
    struct place *p = *state;
    struct celeriac *c = open_client(p);
    const struct celeriac_task_options init = CELERIAC_TASK_OPTIONS_INIT;
    struct celeriac_task_options how = init;
    const char *const tasks[] = {"good", "bad"};
    const struct celeriac_task_options *const hows[] = {&init, &how};
    char ids[2][CELERIAC_ID_SIZE];

    how.args_json = "[1";
    BAD(celeriac_send(c, "t", &how, ids[0], &err), CELERIAC_USAGE, "args is no valid JSON");
    assert_string_equal(ids[0], "");
    BAD(celeriac_send_many(c, tasks, hows, 2, ids, &err), CELERIAC_USAGE, "task 1: args");
    assert_string_equal(ids[0], "");
    assert_int_equal(waiting(p), 0);
    celeriac_close(c);
}

#define MANY_BATCHES 1300

/* The last of many is wrong: in a way that its text shows, or that only encoding finds. */
static void a_mistake_among_many_sends_none(void **state)
{
    static const struct {
        const char *task, *args, *said;
    } wrong[] = {
        {"bad", "[1", "task 1299: args"},
        {"bad", "[1, \"\xc3\xa9\", 1e999]", "task 1299: args"},
        {"caf\xe9", "[1]", "not UTF-8"},
    };
    struct place *p = *state;
    struct celeriac *c = open_client(p);
    const struct celeriac_task_options init = CELERIAC_TASK_OPTIONS_INIT;
    const struct celeriac_task_options *hows[MANY_BATCHES];
    char(*ids)[CELERIAC_ID_SIZE] = MUST_HAVE(calloc(MANY_BATCHES, sizeof(*ids)));
    const char *tasks[MANY_BATCHES];

    for (size_t i = 0; i < MANY_BATCHES; i++) {
        tasks[i] = "good";
        hows[i] = &init;
    }
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        struct celeriac_task_options how = init;

        how.args_json = wrong[i].args;
        hows[MANY_BATCHES - 1] = &how;
        tasks[MANY_BATCHES - 1] = wrong[i].task;
        BAD(celeriac_send_many(c, tasks, hows, MANY_BATCHES, ids, &err), CELERIAC_USAGE,
            wrong[i].said);
        assert_string_equal(ids[0], "");
        assert_int_equal(waiting(p), 0);
    }
    hows[MANY_BATCHES - 1] = &init;
    tasks[MANY_BATCHES - 1] = "good";
    GOOD(celeriac_send_many(c, tasks, hows, MANY_BATCHES, ids, &err));
    assert_int_equal(waiting(p), MANY_BATCHES);
    for (size_t i = 0; i < MANY_BATCHES; i++)
        assert_int_equal(strlen(ids[i]), 36);
    free(ids);
    celeriac_close(c);
}

static void refuses_wrong_options(void **state)
{
    static const struct {
        const char *args_json, *kwargs_json, *eta, *id;
        int priority;
        double countdown_s;
        const char *said;
    } wrong[] = {
        {.args_json = "{}", .said = "\"args\" must be an array"},
        {.kwargs_json = "[]", .said = "\"kwargs\" must be an object"},
        {.priority = 10, .said = "priority 10"},
        {.eta = "soon", .said = "no ISO-8601 time"},
        {.countdown_s = -1, .said = "\"countdown\" is out of range"},
        {.id = "0123456789012345678901234567890123456", .said = "longer than 36"},
    };
    struct place *p = *state;
    struct celeriac *c = open_client(p);

    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        struct celeriac_task_options how = CELERIAC_TASK_OPTIONS_INIT;

        how.args_json = wrong[i].args_json;
        how.kwargs_json = wrong[i].kwargs_json;
        how.priority = wrong[i].priority;
        how.eta = wrong[i].eta;
        how.countdown_s = wrong[i].countdown_s;
        how.id = wrong[i].id;
        BAD(celeriac_send(c, "t", &how, NULL, &err), CELERIAC_USAGE, wrong[i].said);
    }
    BAD(celeriac_send(c, "", NULL, NULL, &err), CELERIAC_USAGE, "\"task\" is missing");
    assert_int_equal(celeriac_send(c, NULL, NULL, NULL, NULL), -1);
    assert_int_equal(waiting(p), 0);
    celeriac_close(c);
}

static void takes_shorter_options_of_older_programs(void **state)
{
    struct celeriac *c = open_client(*state);
    struct celeriac_task_options how = CELERIAC_TASK_OPTIONS_INIT;
    char id[CELERIAC_ID_SIZE];

    how.size = offsetof(struct celeriac_task_options, id);
    how.id = "must not be read";
    GOOD(celeriac_send(c, "echo", &how, id, &err));
    assert_string_not_equal(id, "must not be read");
    celeriac_close(c);
}

#define THREADS    4
#define PER_THREAD 100

struct thread_case {
    const struct place *place;
    pthread_t thread;
    int ready;
    struct celeriac_error err;
};

/* cmocka's checks belong to the main thread: this one only counts. */
static void *send_and_wait_in_thread(void *user)
{
    struct thread_case *t = user;
    struct celeriac *c = celeriac_open(t->place->url, NULL, &t->err);
    char id[CELERIAC_ID_SIZE], *document;

    for (int i = 0; c && i < PER_THREAD; i++) {
        if (celeriac_send(c, "echo", NULL, id, &t->err) < 0 ||
            celeriac_wait(c, id, WAIT_MS, &document, &t->err) < 0)
            break;
        t->ready += strstr(document, id) != NULL;
        celeriac_free(document);
    }
    celeriac_close(c);
    return NULL;
}

static void serves_threads_with_a_client_each(void **state)
{
    struct thread_case cases[THREADS] = {{0}};
    struct echo_worker w;
    struct place *p = *state;

    assert_int_equal(echo_worker_start(&w, p->url), 0);
    for (int i = 0; i < THREADS; i++) {
        cases[i].place = p;
        pthread_create(&cases[i].thread, NULL, send_and_wait_in_thread, &cases[i]);
    }
    for (int i = 0; i < THREADS; i++)
        pthread_join(cases[i].thread, NULL);
    echo_worker_stop(&w);
    for (int i = 0; i < THREADS; i++) {
        if (cases[i].ready != PER_THREAD)
            fail_msg("thread %d: %d of %d, %s", i, cases[i].ready, PER_THREAD, cases[i].err.text);
    }
}

static void refuses_bad_places(void **state)
{
    (void)state;
    assert_null(celeriac_open("", NULL, &err));
    assert_int_equal(err.code, CELERIAC_USAGE);
    assert_null(celeriac_open(NULL, NULL, &err));
    assert_int_equal(err.code, CELERIAC_USAGE);
    assert_null(celeriac_open("sqlit:x", NULL, &err));
    assert_int_equal(err.code, CELERIAC_USAGE);
    assert_non_null(strstr(err.text, "sqlite"));
    assert_null(celeriac_open("sqlite:/nonexistent/dir/q.db", NULL, &err));
    assert_int_equal(err.code, CELERIAC_REFUSED);
    assert_null(celeriac_open("sqlite:/nonexistent/dir/q.db", NULL, NULL));
    celeriac_close(NULL);
    assert_string_equal(celeriac_version(), CELERIAC_VERSION);
    assert_false(celeriac_succeeded("{}"));
    assert_null(celeriac_result_json("nonsense"));
}

/* --- outages, which only a server has --- */

static struct celeriac *open_patient(const struct place *p, int64_t timeout_ms)
{
    struct celeriac_options options = CELERIAC_OPTIONS_INIT;
    struct celeriac *c;

    options.timeout_ms = timeout_ms;
    c = celeriac_open(p->url, &options, &err);
    if (!c)
        fail_msg("%s: %s", p->url, err.text);
    return c;
}

static void fails_when_nobody_listens(void **state)
{
    struct celeriac_options options = CELERIAC_OPTIONS_INIT;
    struct place *p = *state;

    redis_server_stop(&p->redis, SIGTERM);
    options.timeout_ms = 200;
    assert_null(celeriac_open(p->url, &options, &err));
    assert_int_equal(err.code, CELERIAC_UNREACHABLE);
    assert_non_null(strstr(err.text, p->redis.socket));
}

struct reviver {
    struct place *place;
    pthread_t thread;
    int result;
};

static void *start_again(void *user)
{
    struct reviver *r = user;

    poll(NULL, 0, 300);
    r->result = redis_server_start(&r->place->redis);
    return NULL;
}

#define RESTART_MANY 700 /* several batches */

/* The server is killed, and comes back while the client sends: every task is there once. */
static void sends_over_a_restart(void **state)
{
    struct place *p = *state;
    struct celeriac *c = open_patient(p, 30000);
    struct reviver reviver = {.place = p};
    const char *tasks[RESTART_MANY];
    char ids[RESTART_MANY][CELERIAC_ID_SIZE], id[CELERIAC_ID_SIZE];

    for (size_t i = 0; i < RESTART_MANY; i++)
        tasks[i] = "echo";
    GOOD(celeriac_send(c, "echo", NULL, id, &err));
    redis_server_stop(&p->redis, SIGKILL);
    assert_int_equal(pthread_create(&reviver.thread, NULL, start_again, &reviver), 0);
    GOOD(celeriac_send_many(c, tasks, NULL, RESTART_MANY, ids, &err));
    pthread_join(reviver.thread, NULL);
    assert_int_equal(reviver.result, 0);
    GOOD(celeriac_send(c, "echo", NULL, id, &err));
    assert_int_equal(waiting(p), RESTART_MANY + 2);
    celeriac_close(c);
}

static void waits_over_a_restart(void **state)
{
    struct place *p = *state;
    struct celeriac *c = open_patient(p, 30000);
    struct reviver reviver = {.place = p};
    char id[CELERIAC_ID_SIZE], *document = NULL;
    struct echo_worker w;

    GOOD(celeriac_send(c, "echo", NULL, id, &err));
    BAD(celeriac_wait(c, id, 50, &document, &err), CELERIAC_TIMEOUT, id);
    redis_server_stop(&p->redis, SIGKILL);
    assert_int_equal(pthread_create(&reviver.thread, NULL, start_again, &reviver), 0);
    BAD(celeriac_wait(c, id, 100, &document, &err), CELERIAC_UNREACHABLE, "");
    pthread_join(reviver.thread, NULL);
    assert_int_equal(echo_worker_start(&w, p->url), 0);
    GOOD(celeriac_wait(c, id, WAIT_MS, &document, &err));
    assert_true(celeriac_succeeded(document));
    celeriac_free(document);
    echo_worker_stop(&w);
    celeriac_close(c);
}

/* What it listened for beforehand is listened for anew. */
static void waits_in_turn_over_a_restart(void **state)
{
    struct place *p = *state;
    struct celeriac *c = open_patient(p, 30000);
    struct reviver reviver = {.place = p};
    char id[CELERIAC_ID_SIZE];
    struct echo_worker w;

    assert_int_equal(echo_worker_start(&w, p->url), 0);
    for (int i = 0; i < 3; i++) {
        GOOD(celeriac_send(c, "echo", NULL, id, &err));
        wait_for_success(c, id);
    }
    echo_worker_stop(&w);
    GOOD(celeriac_send(c, "echo", NULL, id, &err));
    redis_server_stop(&p->redis, SIGKILL);
    assert_int_equal(pthread_create(&reviver.thread, NULL, start_again, &reviver), 0);
    pthread_join(reviver.thread, NULL);
    assert_int_equal(echo_worker_start(&w, p->url), 0);
    wait_for_success(c, id);
    GOOD(celeriac_send(c, "echo", NULL, id, &err));
    wait_for_success(c, id);
    echo_worker_stop(&w);
    celeriac_close(c);
}

/* A server that hangs: an honest error in time, and the same id sent again is there once. */
static void tells_a_hang_and_sends_again(void **state)
{
    struct place *p = *state;
    struct celeriac *c = open_patient(p, 500);
    struct celeriac_task_options how = CELERIAC_TASK_OPTIONS_INIT;
    char id[CELERIAC_ID_SIZE], *document = NULL;

    how.id = "only-once";
    redis_server_signal(&p->redis, SIGSTOP);
    BAD(celeriac_send(c, "echo", &how, id, &err), CELERIAC_UNREACHABLE, "");
    assert_string_equal(id, "");
    BAD(celeriac_get(c, "only-once", &document, &err), CELERIAC_UNREACHABLE, "");
    redis_server_signal(&p->redis, SIGCONT);
    celeriac_close(c);
    c = open_patient(p, 30000);
    GOOD(celeriac_send(c, "echo", &how, id, &err));
    assert_int_equal(waiting(p), 1);
    celeriac_close(c);
}

static void *go_on_soon(void *user)
{
    struct place *p = user;

    poll(NULL, 0, 400); /* longer than one read waits */
    redis_server_signal(&p->redis, SIGCONT);
    return NULL;
}

static void *replace(void *user)
{
    struct reviver *r = user;

    poll(NULL, 0, 100);
    redis_server_stop(&r->place->redis, SIGKILL);
    return start_again(r);
}

/* After a slow answer the client waits in reads: what has to wake it there does. */
static void sends_to_a_slow_server(void **state)
{
    struct place *p = *state;
    struct celeriac *c = open_patient(p, 30000), *hasty = open_patient(p, 1000);
    struct reviver reviver = {.place = p};
    char id[CELERIAC_ID_SIZE];
    pthread_t thread;
    int64_t before;

    for (int i = 0; i < 3; i++) {
        redis_server_signal(&p->redis, SIGSTOP);
        assert_int_equal(pthread_create(&thread, NULL, go_on_soon, p), 0);
        GOOD(celeriac_send(c, "echo", NULL, id, &err));
        pthread_join(thread, NULL);
    }
    GOOD(celeriac_send(hasty, "echo", NULL, id, &err));
    redis_server_signal(&p->redis, SIGSTOP);
    BAD(celeriac_send(hasty, "echo", NULL, id, &err), CELERIAC_UNREACHABLE, "");
    redis_server_signal(&p->redis, SIGCONT);
    celeriac_close(hasty);
    before = waiting(p);
    assert_in_range(before, 4, 5); /* what was given up may have come */

    redis_server_signal(&p->redis, SIGSTOP);
    assert_int_equal(pthread_create(&reviver.thread, NULL, replace, &reviver), 0);
    GOOD(celeriac_send(c, "echo", NULL, id, &err));
    pthread_join(reviver.thread, NULL);
    GOOD(celeriac_send(c, "echo", NULL, id, &err));
    assert_int_equal(waiting(p), before + 2);
    celeriac_close(c);
}

#define ON_FILE(f)   cmocka_unit_test_setup_teardown(f, place_make_file, place_remove_file)
#define ON_SERVER(f) cmocka_unit_test_setup_teardown(f, place_make_server, place_remove_server)
#define ON_AMQP(f)   cmocka_unit_test_setup_teardown(f, place_make_amqp, place_remove_amqp)
/* Over RabbitMQ each client knows only the ids that it sent itself: no sends_an_id_once. */
#define EVERYWHERE(ON)                                                                             \
    ON(sends_and_waits), ON(sends_and_waits_in_turn), ON(forgets_a_result), ON(tells_failures),    \
        ON(sends_and_awaits_many), ON(awaits_an_id_given_twice), ON(stops_waiting_when_told),      \
        ON(refuses_wrong_json), ON(a_mistake_among_many_sends_none), ON(refuses_wrong_options),    \
        ON(takes_shorter_options_of_older_programs), ON(serves_threads_with_a_client_each)

static int run_on_file(void)
{
    const struct CMUnitTest tests[] = {EVERYWHERE(ON_FILE), ON_FILE(sends_an_id_once),
                                       ON_FILE(refuses_bad_places)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}

static int run_on_server(void)
{
    const struct CMUnitTest tests[] = {
        EVERYWHERE(ON_SERVER),
        ON_SERVER(sends_an_id_once),
        ON_SERVER(fails_when_nobody_listens),
        ON_SERVER(sends_over_a_restart),
        ON_SERVER(waits_over_a_restart),
        ON_SERVER(waits_in_turn_over_a_restart),
        ON_SERVER(tells_a_hang_and_sends_again),
        ON_SERVER(sends_to_a_slow_server),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

static int run_on_amqp(void)
{
    const struct CMUnitTest tests[] = {EVERYWHERE(ON_AMQP)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}

int main(int argc, char **argv)
{
    struct redis_server probe;

    if (argc > 1 && strcmp(argv[1], "amqp") == 0)
        return run_on_amqp();
    if (argc < 2 || strcmp(argv[1], "redis") != 0)
        return run_on_file();
    if (redis_server_init(&probe) < 0)
        return 77;
    redis_server_release(&probe);
    return run_on_server();
}
