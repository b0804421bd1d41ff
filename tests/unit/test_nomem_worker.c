/* What a runner makes of a job while memory runs out: each request for memory fails once. */
#include "tests/support/check.h"
#include "tests/support/file.h"
#include "tests/support/nomem.h"
#include "worker/canvas.h"
#include "worker/channel.h"

#include <stdlib.h>

#define MESSAGES TEST_SOURCE_DIR "/support/messages/"

struct following {
    struct buf envelope; /* of the job at hand */
    json_t *signature;
    json_t *argument;
};

/* Ids are random: only the number of bytes is told. */
static int follow(const void *user, struct buf *out, struct err *e)
{
    const struct following *f = user;
    struct uuid_source ids = UUID_SOURCE_INIT;
    struct canvas_with with = CANVAS_PLAIN;
    struct buf followup = BUF_INIT;
    struct message m = {0};
    char id[UUID_SIZE];
    int rc = message_skim(&m, buf_slice(&f->envelope), e);

    with.argument = f->argument;
    if (rc == 0) {
        struct canvas_sender from = {&m, &ids, 1795000000000};

        rc = canvas_put(&followup, f->signature, &from, &with, id, e);
    }
    if (rc == 0)
        buf_addf(out, "%zu bytes", followup.len);
    buf_release(&followup);
    message_release(&m);
    return rc;
}

/* With stamps of its own and of the job at hand. */
static void followups_are_whole_or_not(void **state)
{
    struct following f = {
        BUF_INIT,
        json_loads(
            "{\"task\": \"a.b\", \"args\": [1], \"options\": {\"queue\": \"q\", \"mine\": 7, "
            "\"stamped_headers\": [\"mine\", \"absent\"], \"headers\": {\"h\": 1}}}",
            0, NULL),
        json_integer(5)};
    struct nomem_work work = {"follow-up", follow, &f};

    (void)state;
    assert_non_null(f.signature);
    assert_int_equal(file_read(&f.envelope, MESSAGES "stamped-5.6.json"), 0);
    nomem_try(&work);
    buf_release(&f.envelope);
    json_decref(f.signature);
    json_decref(f.argument);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(followups_are_whole_or_not),
    };

    nomem_init();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
