#include "tests/support/check.h"
#include "worker/inflight.h"

#include <stdlib.h>
#include <string.h>

static struct job *take(struct inflight *t, const char *envelope)
{
    struct job *job = inflight_new(t, slice_of(envelope));

    assert_non_null(job);
    inflight_move(job, NULL, &t->ready, JOB_READY);
    return job;
}

static void give_back(struct inflight *t, struct job *job)
{
    inflight_move(job, &t->ready, NULL, JOB_SETTLING);
    inflight_free(t, job);
}

/* Nothing of the last job is left in the next one, which has its memory. */
static void a_spare_job_is_as_new(void **state)
{
    struct inflight t;
    struct job *job;
    const char *memory;
    uint64_t number;

    (void)state;
    inflight_init(&t);
    job = take(&t, "a long envelope");
    memory = buf_slice(&job->envelope).ptr;
    number = job->number;
    job->id = "id";
    job->lost = 3;
    job->early_acked = true;
    job->key.text = strdup("key");
    job->key.won = true;
    buf_adds(&job->settle.text, "result");
    job->settle.tries = 7;
    give_back(&t, job);
    assert_null(inflight_find(&t, number));
    assert_ptr_equal(take(&t, "short"), job);
    assert_true(slice_is(buf_slice(&job->envelope), "short"));
    assert_ptr_equal(buf_slice(&job->envelope).ptr, memory);
    assert_int_not_equal(job->number, number);
    assert_null(job->id);
    assert_null(job->key.text);
    assert_int_equal(job->lost + job->early_acked + job->key.won + job->settle.tries, 0);
    assert_int_equal(job->settle.text.len, 0);
    inflight_release(&t);
}

static void a_rest_leaves_no_spare(void **state)
{
    struct inflight t;
    struct job *jobs[100];

    (void)state;
    inflight_init(&t);
    for (int i = 0; i < 100; i++)
        jobs[i] = take(&t, "envelope");
    for (int i = 0; i < 99; i++)
        give_back(&t, jobs[i]);
    assert_false(TAILQ_EMPTY(&t.spares));
    inflight_rest(&t);
    assert_true(TAILQ_EMPTY(&t.spares));
    assert_int_equal(t.len, 1);
    assert_ptr_equal(inflight_find(&t, jobs[99]->number), jobs[99]);
    inflight_release(&t);
}

/* What one large message needed does not stay. */
static void a_large_envelope_is_not_kept(void **state)
{
    char *text = calloc(1, (size_t)1 << 20);
    struct inflight t;
    struct job *job;

    (void)state;
    assert_non_null(text);
    memset(text, 'x', ((size_t)1 << 20) - 1);
    inflight_init(&t);
    job = take(&t, text);
    give_back(&t, job);
    assert_ptr_equal(take(&t, "small"), job);
    assert_true(job->envelope.cap < 1024);
    inflight_release(&t);
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_spare_job_is_as_new),
        cmocka_unit_test(a_rest_leaves_no_spare),
        cmocka_unit_test(a_large_envelope_is_not_kept),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
