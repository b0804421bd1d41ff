/* The memory broker while memory runs out: every request of each op fails once. What was refused
 * changed nothing, what was confirmed happened, nothing leaks, and the op succeeds when repeated.
 */
#include "broker/broker.h"
#include "tests/support/check.h"
#include "tests/support/nomem.h"

#include <stdlib.h>

#define SUCCESS "{\"status\": \"SUCCESS\", \"result\":1}"
#define TAG     7
#define TRIES   1000

static const char *const queues[] = {"q", "other"};

struct scene {
    struct clock_fake clock;
    struct broker *b;
    struct broker_receipt receipt;
};

static struct broker *open_broker(const struct clock_fake *clock, struct err *e)
{
    struct broker_config config = {.url = "memory:",
                                   .node = "celery@h",
                                   .generation = 1,
                                   .queues = queues,
                                   .queues_len = 2,
                                   .lease_ms = 1000,
                                   .clock = &clock->base};

    return broker_open(&config, e);
}

/* The next event with our tag, or of that kind; BROKER_STATE with code ERR_NONE when none comes. */
static enum broker_event_kind next(struct broker *b, enum broker_event_kind kind,
                                   struct broker_event *out, enum err_code *code)
{
    for (int i = 0; i < 20; i++) {
        if (broker_poll(b, out, 1) != 1 || (out->tag != TAG && out->kind != kind))
            continue;
        *code = out->err ? out->err->code : ERR_NONE;
        return out->kind;
    }
    *code = ERR_NONE;
    return BROKER_STATE;
}

static int publish(struct scene *s, struct err *e)
{
    const struct broker_message m = {.tag = TAG,
                                     .queue = slice_of("q"),
                                     .envelope = slice_of("{\"a\": 1}"),
                                     .token = slice_of("token"),
                                     .id = slice_of("id")};

    return broker_publish(s->b, &m, 1, e);
}

static int finish(struct scene *s, struct err *e)
{
    const struct broker_message again = {.queue = slice_of("later"),
                                         .envelope = slice_of("{\"b\": 2}"),
                                         .id = slice_of("id"),
                                         .not_before_ms = 1795000060000};
    const struct broker_finish f = {.tag = TAG,
                                    .receipt = s->receipt,
                                    .outcome = BROKER_JOB_SUCCEEDED,
                                    .result_id = slice_of("id"),
                                    .result = slice_of(SUCCESS),
                                    .followups = &again,
                                    .followups_len = 1};

    return broker_finish(s->b, &f, 1, e);
}

static int release(struct scene *s, struct err *e)
{
    const struct broker_release r = {
        .tag = TAG, .receipt = s->receipt, .envelope = slice_of("{\"c\": 3}")};

    return broker_release(s->b, &r, 1, e);
}

static int bury(struct scene *s, struct err *e)
{
    const struct broker_bury v = {.tag = TAG,
                                  .receipt = s->receipt,
                                  .cause = slice_of("why"),
                                  .id = slice_of("id"),
                                  .task = slice_of("t"),
                                  .result_id = slice_of("id"),
                                  .result = slice_of("{\"status\": \"FAILURE\"}")};

    return broker_bury(s->b, &v, 1, e);
}

static int store(struct scene *s, struct err *e)
{
    const struct broker_store v = {.tag = TAG, .id = slice_of("id"), .result = slice_of(SUCCESS)};

    return broker_store(s->b, &v, 1, e);
}

static int ask(struct scene *s, struct err *e)
{
    const struct broker_ask question = {.tag = TAG, .question = BROKER_ASK_QUEUES};

    return broker_ask(s->b, &question, e);
}

static int watch(struct scene *s, struct err *e)
{
    const struct slice id = slice_of("done");
    const uint64_t tag = TAG;

    return broker_result_watch(s->b, &tag, &id, 1, e);
}

static const struct op {
    const char *name;
    int (*run)(struct scene *s, struct err *e);
    enum broker_event_kind done;
    bool leased;        /* needs a delivery */
    const char *before; /* totals when it was refused */
    const char *after;  /* and when it was done */
} ops[] = {
    {"publish", publish, BROKER_PUBLISHED, false, "\"published\":0,", "\"waiting\":1,"},
    {"finish", finish, BROKER_FINISHED, true, "\"leased\":1,\"delayed\":0",
     "\"leased\":0,\"delayed\":1"},
    {"release", release, BROKER_RELEASED, true, "\"leased\":1,", "\"waiting\":1,"},
    {"bury", bury, BROKER_BURIED, true, "\"leased\":1,", "\"dead\":1,"},
    {"store", store, BROKER_STORED, false, "\"published\":0,", "\"published\":0,"},
    {"ask", ask, BROKER_ANSWER, false, "\"published\":0,", "\"published\":0,"},
    {"watch", watch, BROKER_RESULT, false, "\"published\":0,", "\"published\":0,"},
};

static void totals_hold(struct scene *s, const struct op *op, long n, const char *piece)
{
    const struct broker_ask question = {.tag = TAG, .question = BROKER_ASK_TOTALS};
    struct broker_event event;
    enum err_code code;
    struct err e;

    CHECK_OK(broker_ask(s->b, &question, &e));
    assert_int_equal(next(s->b, BROKER_ANSWER, &event, &code), BROKER_ANSWER);
    if (!strstr(event.data.ptr, piece))
        fail_msg("%s, request %ld: %s is not in %.*s", op->name, n, piece, SLICE_ARG(event.data));
}

static void begin(struct scene *s, const struct op *op)
{
    const struct broker_store stored = {
        .tag = TAG, .id = slice_of("done"), .result = slice_of(SUCCESS)};
    struct broker_event event;
    enum err_code code;
    struct err e;

    clock_fake_init(&s->clock, 1795000000000);
    s->b = MUST_HAVE(open_broker(&s->clock, &e));
    assert_int_equal(next(s->b, BROKER_STATE, &event, &code), BROKER_STATE);
    CHECK_OK(broker_store(s->b, &stored, 1, &e));
    assert_int_equal(next(s->b, BROKER_STORED, &event, &code), BROKER_STORED);
    if (!op->leased)
        return;
    CHECK_OK(publish(s, &e));
    assert_int_equal(next(s->b, BROKER_PUBLISHED, &event, &code), BROKER_PUBLISHED);
    broker_credit(s->b, 1);
    assert_int_equal(next(s->b, BROKER_DELIVERED, &event, &code), BROKER_DELIVERED);
    s->receipt = event.receipt;
}

/* What is told is what happened; a failure is repeated, as a dispatcher or a client does. */
static void look(struct scene *s, const struct op *op, long n, int rc, const struct err *e)
{
    struct broker_event event;
    enum broker_event_kind kind = BROKER_FAILED;
    enum err_code code = e->code;
    struct err none;

    if (rc == 0)
        kind = next(s->b, op->done, &event, &code);
    if (kind == op->done)
        return;
    if (kind != BROKER_FAILED || code != ERR_NOMEM)
        fail_msg("%s, request %ld: event %d, %s", op->name, n, (int)kind, err_word(code));
    /* An answer that was too big to hand out is a failure, too, but publishing one is no half. */
    totals_hold(s, op, n, op->before);
    if (op->run(s, &none) != 0)
        fail_msg("%s, request %ld: it does not go on: %s", op->name, n, none.text);
    assert_int_equal(next(s->b, op->done, &event, &code), op->done);
}

static bool try_op(const struct op *op, long n, enum nomem_mode mode)
{
    struct scene s;
    struct err e = ERR_INIT;
    bool failed;
    int rc;

    begin(&s, op);
    nomem_begin(n, mode);
    rc = op->run(&s, &e);
    failed = nomem_end();
    look(&s, op, n, rc, &e);
    totals_hold(&s, op, n, op->after);
    broker_close(s.b, true);
    return failed;
}

static void every_op_is_done_or_refused(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(ops) / sizeof(ops[0]); i++) {
        for (int mode = NOMEM_ONCE; mode <= NOMEM_ON; mode++) {
            long n = 1;

            while (try_op(&ops[i], n, (enum nomem_mode)mode))
                assert_true(n++ < TRIES);
            assert_true(n > 1);
        }
    }
}

static void opening_fails_as_a_whole(void **state)
{
    struct clock_fake clock;
    struct err e = ERR_INIT;
    struct broker *b = NULL;

    (void)state;
    clock_fake_init(&clock, 1795000000000);
    for (long n = 1; !b; n++) {
        nomem_begin(n, NOMEM_ONCE);
        b = open_broker(&clock, &e);
        if (nomem_end() && !b)
            assert_int_equal(e.code, ERR_NOMEM);
        assert_true(n < TRIES);
    }
    broker_close(b, true);
}

/* Without memory for the delivery itself the job is leased to nobody, and comes back. */
static void a_delivery_that_was_not_told_comes_back(void **state)
{
    const struct op none = {.leased = false};

    (void)state;
    for (long n = 1; n < 20; n++) {
        struct broker_event event;
        enum err_code code;
        struct scene s;
        struct err e;

        begin(&s, &none);
        CHECK_OK(publish(&s, &e));
        assert_int_equal(next(s.b, BROKER_PUBLISHED, &event, &code), BROKER_PUBLISHED);
        broker_credit(s.b, 1);
        nomem_begin(n, NOMEM_ONCE);
        if (broker_poll(s.b, &event, 1) != 1 || event.kind != BROKER_DELIVERED) {
            nomem_end();
            clock_fake_advance(&s.clock, 1001);
            broker_credit(s.b, 1);
            assert_int_equal(next(s.b, BROKER_DELIVERED, &event, &code), BROKER_DELIVERED);
        }
        nomem_end();
        assert_int_equal(event.data.len, 8);
        broker_close(s.b, true);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_op_is_done_or_refused),
        cmocka_unit_test(opening_fails_as_a_whole),
        cmocka_unit_test(a_delivery_that_was_not_told_comes_back),
    };

    nomem_init();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
