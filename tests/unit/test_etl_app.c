/* What a load shows: its progress, and bytes that a terminal could not take. */
#include "app/etl_progress.h"
#include "app/etl_report.h"
#include "tests/support/check.h"

#include <stdlib.h>

struct shown {
    char *text; /* owned */
    size_t len;
    FILE *out;
    struct clock_fake clock;
    struct etl_progress progress;
};

static void begin(struct shown *shown, bool tty)
{
    shown->out = open_memstream(&shown->text, &shown->len);
    assert_non_null(shown->out);
    clock_fake_init(&shown->clock, 0);
    etl_progress_init(&shown->progress, shown->out, tty, &shown->clock.base);
}

static void end(struct shown *shown, const char *want)
{
    etl_progress_end(&shown->progress);
    assert_int_equal(fclose(shown->out), 0);
    assert_string_equal(shown->text, want);
    free(shown->text);
}

static void plain_lines_once_a_second_and_the_last(void **state)
{
    struct shown shown;

    (void)state;
    begin(&shown, false);
    etl_progress_moved(&shown.progress, 1, 4, 10);
    clock_fake_advance(&shown.clock, 1000);
    etl_progress_moved(&shown.progress, 2, 4, 20);
    clock_fake_advance(&shown.clock, 999);
    etl_progress_moved(&shown.progress, 3, 4, 30);
    etl_progress_moved(&shown.progress, 4, 4, 40);
    end(&shown, "2 of 4 chunks, 20 lines\n4 of 4 chunks, 40 lines\n");
}

static void a_bar_is_drawn_over_itself(void **state)
{
    struct shown shown;

    (void)state;
    begin(&shown, true);
    clock_fake_advance(&shown.clock, 100);
    etl_progress_moved(&shown.progress, 1, 2, 7);
    etl_progress_moved(&shown.progress, 2, 2, 9);
    end(&shown, "\r[####################....................]  50%  1 of 2 chunks, 7 lines "
                "\r[########################################] 100%  2 of 2 chunks, 9 lines \n");
}

static void expect_text(const char *bytes, size_t len, size_t width, const char *want)
{
    char *text = etl_report_text(bytes, len, width);

    assert_string_equal(text, want);
    free(text);
}

static void nothing_steers_a_terminal(void **state)
{
    (void)state;
    expect_text("/plain path", 11, 60, "/plain path");
    expect_text("/\x1b[2J\0\\\xff", 8, 60, "/\\x1b[2J\\x00\\x5c\\xff");
    expect_text("", 0, 60, "");
    expect_text("/a long path", 12, 9, "/a lon...");
}

static void a_report_is_one_object(void **state)
{
    char path[] = "/\xff";
    struct etl_set set = {.logs_len = 1, .parts_len = 2, .lines = 10};
    struct etl_runner runner = {.pid = 7, .jobs = 2, .cpu_s = 0.5};
    struct etl_totals totals = {.jobs = 2, .runners = &runner, .runners_len = 1, .seconds = 2};
    struct etl_summary summary = {.rows = 8, .top = {{path, 2, 8}}, .top_len = 1};
    const struct etl_report report = {"/x.db", &set, &totals, &summary};
    char *text = NULL;
    size_t len = 0;
    FILE *out = open_memstream(&text, &len);
    json_t *object;

    (void)state;
    totals.counts = (struct etl_counts){.lines = 10, .inserted = 8, .quarantined = 2};
    totals.counts.reasons[ETL_GLUED] = 2;
    etl_report_json(out, &report);
    etl_report_table(out, &report);
    assert_int_equal(fclose(out), 0);
    object = json_loads(text, JSON_DISABLE_EOF_CHECK, NULL);
    assert_int_equal(json_integer_value(json_object_get(object, "lines")), 10);
    assert_int_equal(json_integer_value(json_object_get(object, "inserted")), 8);
    assert_int_equal(json_integer_value(json_object_get(object, "rows")), 8);
    assert_int_equal(json_number_value(json_object_get(object, "lines_per_s")), 5);
    assert_int_equal(
        json_integer_value(json_object_get(json_object_get(object, "reasons"), "glued")), 2);
    assert_true(json_is_null(json_object_get(object, "request_time_s")));
    assert_non_null(strstr(text, "glued"));
    json_decref(object);
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(plain_lines_once_a_second_and_the_last),
        cmocka_unit_test(a_bar_is_drawn_over_itself),
        cmocka_unit_test(nothing_steers_a_terminal),
        cmocka_unit_test(a_report_is_one_object),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
