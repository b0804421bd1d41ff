#include "broker/result.h"
#include "tests/support/check.h"

#include <stdlib.h>

#define ID "3c3d771f-8894-4485-b561-575090d13ba7"

static void check_doc(const struct result_doc *doc, const char *want)
{
    struct err e = ERR_INIT;
    struct buf out = BUF_INIT;

    CHECK_OK(result_encode(&out, doc, &e));
    assert_string_equal(buf_str(&out), want);
    buf_release(&out);
}

/* The bytes that Celery 5.6 stored for the same outcome. */
static void success_as_celery_writes_it(void **state)
{
    json_t *five = json_integer(5);
    struct result_doc doc = {
        .status = "SUCCESS", .result = five, .task_id = ID, .date_done_us = 1795225702848590};

    (void)state;
    check_doc(&doc,
              "{\"status\": \"SUCCESS\", \"result\": 5, \"traceback\": null, \"children\": [], "
              "\"date_done\": \"2026-11-21T01:48:22.848590+00:00\", \"task_id\": \"" ID "\"}");
    json_decref(five);
}

static void failure_as_celery_writes_it(void **state)
{
    json_t *exception = result_exception("ValueError", NULL, json_pack("[s]", "boom"));
    struct result_doc doc = {.status = "FAILURE",
                             .result = exception,
                             .traceback = "line 1\nline 2",
                             .no_children = true,
                             .group_id = "g",
                             .parent_id = "p",
                             .task_id = ID,
                             .date_done_us = 1795225702000000};

    (void)state;
    check_doc(
        &doc,
        "{\"status\": \"FAILURE\", \"result\": {\"exc_type\": \"ValueError\", \"exc_message\": "
        "[\"boom\"], \"exc_module\": \"builtins\"}, \"traceback\": \"line 1\\nline 2\", "
        "\"children\": null, \"date_done\": \"2026-11-21T01:48:22.000000+00:00\", "
        "\"group_id\": \"g\", \"parent_id\": \"p\", \"task_id\": \"" ID "\"}");
    json_decref(exception);
}

static void retry_and_children(void **state)
{
    json_t *children = json_pack("[[[s, n], n]]", ID);
    struct result_doc doc = {.status = "RETRY", .children = children, .task_id = ID};

    (void)state;
    check_doc(&doc, "{\"status\": \"RETRY\", \"result\": null, \"traceback\": null, \"children\": "
                    "[[[\"" ID "\", null], null]], \"date_done\": null, \"task_id\": \"" ID "\"}");
    json_decref(children);
}

/* Ours: in front of task_id, which is last; unknown times are left out. */
static void times_of_ours(void **state)
{
    struct result_times times = RESULT_TIMES_INIT;
    struct result_doc doc = {
        .status = "SUCCESS", .task_id = ID, .worker = "celery@h", .pid = 7, .times = &times};

    (void)state;
    times.queued_us = 0;
    times.run_us = 12;
    times.max_rss_kib = 900;
    check_doc(&doc,
              "{\"status\": \"SUCCESS\", \"result\": null, \"traceback\": null, \"children\": "
              "[], \"date_done\": null, \"celeriac\": {\"worker\": \"celery@h\", \"pid\": 7, "
              "\"queued_us\": 0, \"run_us\": 12, \"max_rss_kib\": 900}, \"task_id\": \"" ID "\"}");
}

static void a_result_that_is_no_text_is_refused(void **state)
{
    struct err e = ERR_INIT;
    struct buf out = BUF_INIT;
    struct result_doc doc = {.status = "FAILURE", .traceback = "\xff", .task_id = ID};

    (void)state;
    buf_adds(&out, "before");
    CHECK_ERR(result_encode(&out, &doc, &e), ERR_USAGE, "can not be stored");
    assert_string_equal(buf_str(&out), "before");
    buf_release(&out);
}

static void exceptions_wrap_their_message(void **state)
{
    json_t *exception = result_exception("Reject", "celery.exceptions", json_string("bad"));

    (void)state;
    assert_string_equal(
        json_string_value(json_array_get(json_object_get(exception, "exc_message"), 0)), "bad");
    assert_string_equal(json_string_value(json_object_get(exception, "exc_module")),
                        "celery.exceptions");
    json_decref(exception);
    exception = result_exception("E", NULL, NULL);
    assert_int_equal(json_array_size(json_object_get(exception, "exc_message")), 0);
    assert_true(json_is_array(json_object_get(exception, "exc_message")));
    json_decref(exception);
}

static void readiness(void **state)
{
    static const struct {
        const char *doc;
        bool ready, success;
    } rows[] = {
        {"{\"status\": \"SUCCESS\", \"result\": 5}", true, true},
        {"{\"status\":\"SUCCESS\"}", true, true},
        {" {\n\"status\" :\t\"FAILURE\"", true, false},
        {"{\"status\": \"REVOKED\"}", true, false},
        {"{\"status\": \"STARTED\"}", false, false},
        {"{\"status\": \"RETRY\"}", false, false},
        {"{\"status\": \"SUCCESSFUL\"}", false, false},
        {"{\"status\": \"SUCCESS", false, false},
        {"{\"result\": 1, \"status\": \"SUCCESS\"}", true, true},
        {"{\"result\": {\"status\": \"SUCCESS\"}, \"status\": \"RETRY\"}", false, false},
        {"{\"status\": \"SUC\\u0043ESS\"}", true, true},
        {"{\"status\": 7}", false, false},
        {"", false, false},
        {"[]", false, false},
        {"not json", false, false},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        if (result_is_ready(slice_of(rows[i].doc)) != rows[i].ready ||
            result_is_success(slice_of(rows[i].doc)) != rows[i].success)
            fail_msg("%s: wrong", rows[i].doc);
    }
}

static void success_has_the_prefix_that_scripts_compare(void **state)
{
    struct err e = ERR_INIT;
    struct buf out = BUF_INIT;
    struct result_doc doc = {.status = "SUCCESS", .task_id = ID};

    (void)state;
    CHECK_OK(result_encode(&out, &doc, &e));
    assert_memory_equal(buf_str(&out), RESULT_SUCCESS_PREFIX, strlen(RESULT_SUCCESS_PREFIX));
    buf_release(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(success_as_celery_writes_it),
        cmocka_unit_test(failure_as_celery_writes_it),
        cmocka_unit_test(retry_and_children),
        cmocka_unit_test(times_of_ours),
        cmocka_unit_test(a_result_that_is_no_text_is_refused),
        cmocka_unit_test(exceptions_wrap_their_message),
        cmocka_unit_test(readiness),
        cmocka_unit_test(success_has_the_prefix_that_scripts_compare),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
