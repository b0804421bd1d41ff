/* The small things of base/: errors, clocks, times, ids, log lines, causes of death; and backoff.
 */
#include "base/clock.h"
#include "base/isotime.h"
#include "base/log.h"
#include "base/proc.h"
#include "base/uuid.h"
#include "base/words.h"
#include "broker/backoff.h"
#include "tests/support/check.h"

#include <ctype.h>
#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

static void errors_are_one_line(void **state)
{
    struct err e = ERR_INIT;
    char big[1000];

    (void)state;
    assert_int_equal(err_set(&e, ERR_USAGE, "a\nb\tc%s\x7f", "\x1b[1m"), -1);
    assert_string_equal(e.text, "a b c [1m ");
    assert_int_equal(e.code, ERR_USAGE);
    assert_int_equal(err_sys(&e, ERR_OPERATOR, ENOENT, "opening \"%s\"", "x"), -1);
    assert_string_equal(e.text, "opening \"x\": No such file or directory");
    assert_int_equal(err_wrap(&e, "job %d", 7), -1);
    assert_string_equal(e.text, "job 7: opening \"x\": No such file or directory");
    assert_int_equal(e.code, ERR_OPERATOR);
    memset(big, 'x', sizeof(big) - 1);
    big[sizeof(big) - 1] = '\0';
    err_set(&e, ERR_BUG, "%s", big);
    assert_int_equal(strlen(e.text), sizeof(e.text) - 1);
    err_wrap(&e, "%s", big);
    err_sys(&e, ERR_BUG, EIO, "%s", big);
    assert_int_equal(strlen(e.text), sizeof(e.text) - 1);
    assert_int_equal(err_set(NULL, ERR_BUG, "nobody listens"), -1);
    assert_int_equal(err_wrap(NULL, "nobody"), -1);
    assert_int_equal(err_nomem(&e), -1);
    assert_int_equal(e.code, ERR_NOMEM);
}

static void every_code_has_a_word(void **state)
{
    (void)state;
    for (int code = ERR_NONE; code <= ERR_BUG; code++) {
        assert_non_null(err_word((enum err_code)code));
        for (int other = ERR_NONE; other < code; other++)
            assert_string_not_equal(err_word((enum err_code)code), err_word((enum err_code)other));
    }
}

static void a_fake_clock_moves_when_told(void **state)
{
    struct clock_fake fake;
    const struct clock *clock = &fake.base;
    int64_t mono;

    (void)state;
    clock_fake_init(&fake, 5000);
    mono = clock_mono_ms(clock);
    assert_int_equal(clock_wall_ms(clock), 5000);
    assert_int_equal(clock_mono_ms(clock), mono);
    clock_fake_advance(&fake, 250);
    assert_int_equal(clock_wall_ms(clock), 5250);
    assert_int_equal(clock_mono_ms(clock), mono + 250);
    assert_int_equal(clock_poll_timeout(clock, CLOCK_NEVER), -1);
    assert_int_equal(clock_poll_timeout(clock, mono), 0);
    assert_int_equal(clock_poll_timeout(clock, mono + 251), 1);
    assert_int_equal(clock_poll_timeout(clock, CLOCK_NEVER - 1), INT_MAX);
}

static void the_systems_clock_runs_forward(void **state)
{
    const struct clock *clock = clock_system();
    int64_t mono = clock_mono_ms(clock), nano = clock_nano();

    (void)state;
    assert_true(clock_mono_ms(clock) >= mono);
    assert_true(clock_nano() >= nano);
    assert_true(clock_wall_ms(clock) > 1600000000000);
    assert_true(isotime_now_us() > 1600000000000000);
}

static void times_are_written_as_celery_does(void **state)
{
    char text[ISOTIME_SIZE];
    int64_t ms;

    (void)state;
    isotime_format_us(1795225702848590, text);
    assert_string_equal(text, "2026-11-21T01:48:22.848590+00:00");
    isotime_format_us(0, text);
    assert_string_equal(text, "1970-01-01T00:00:00.000000+00:00");
    isotime_format_us(-1, text);
    assert_string_equal(text, "1969-12-31T23:59:59.999999+00:00");
    isotime_format_us(951782400000000, text);
    assert_string_equal(text, "2000-02-29T00:00:00.000000+00:00");
    assert_int_equal(isotime_parse(text, &ms), 0);
    assert_int_equal(ms, 951782400000);
}

static void times_are_read_in_all_their_forms(void **state)
{
    static const struct {
        const char *text;
        int64_t ms;
    } rows[] = {
        {"2026-11-21T01:46:55.599969+00:00", 1795225615599},
        {"2026-11-21T01:46:55Z", 1795225615000},
        {"2026-11-21 01:46:55", 1795225615000},
        {"2026-11-21T01:46", 1795225560000},
        {"2026-11-21T01:46:55.5", 1795225615500},
        {"2026-11-21T03:46:55+02:00", 1795225615000},
        {"2026-11-21T03:46:55+0200", 1795225615000},
        {"2026-11-20T20:16:55-05:30", 1795225615000},
        {"1969-12-31T23:59:59Z", -1000},
        {"2000-02-29T00:00:00Z", 951782400000},
    };
    static const char *const wrong[] = {
        "",
        "now",
        "2026",
        "2026-13-01T00:00:00",
        "2026-01-32T00:00:00",
        "2026-02-29T00:00:00",
        "2100-02-29T00:00:00",
        "2026-06-31T00:00:00",
        "2026-1-1T0:0:0",
        "2026-01-01T24:00:00",
        "2026-01-01T00:60:00",
        "2026-01-01T00:00:00.",
        "2026-01-01T00:00:00+",
        "2026-01-01T00:00:00x",
        "2026-01-01T00:00:00+24:00",
        "2026-01-01T00:00:00+01:60",
        "2026-01-01T00:00:00Z extra",
    };
    int64_t ms;

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        if (isotime_parse(rows[i].text, &ms) < 0 || ms != rows[i].ms)
            fail_msg("%s: got %lld", rows[i].text, (long long)ms);
    }
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        if (isotime_parse(wrong[i], &ms) == 0)
            fail_msg("%s was taken for a time", wrong[i]);
    }
}

static void ids_are_version_4(void **state)
{
    struct uuid_source source = UUID_SOURCE_INIT;
    char ids[200][UUID_SIZE];

    (void)state;
    for (int i = 0; i < 200; i++) {
        uuid_next(&source, ids[i]);
        assert_int_equal(strlen(ids[i]), 36);
        assert_int_equal(ids[i][14], '4');
        assert_non_null(strchr("89ab", ids[i][19]));
        for (int c = 0; c < 36; c++) {
            bool dash = c == 8 || c == 13 || c == 18 || c == 23;

            assert_true(dash ? ids[i][c] == '-' : isxdigit(ids[i][c]) && !isupper(ids[i][c]));
        }
        for (int j = 0; j < i; j++)
            assert_string_not_equal(ids[i], ids[j]);
    }
}

static void ids_can_tell_their_time(void **state)
{
    static const struct {
        const char *id;
        int64_t ms;
    } rows[] = {
        {"017f22e2-79b0-7cc3-98c4-dc0c0c07398f", 1645557742000}, /* examples of RFC 9562 */
        {"C232AB00-9414-11EC-B3C8-9F6BDECED846", 1645557742000},
        {"919108f7-52d1-4320-9bac-f847db4148a8", -1},
        {"017f22e2-79b0-7cc3-98c4-dc0c0c07398", -1},
        {"017f22e2-79b0-7cc3-98c4xdc0c0c07398f", -1},
        {"017f22e2-79b0-7cc3-98c4-dc0c0c07398g", -1},
        {"job-17", -1},
        {NULL, -1},
    };
    struct uuid_source source = UUID_SOURCE_INIT;
    char id[UUID_SIZE], other[UUID_SIZE];

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
        assert_int_equal(uuid_time_ms(slice_of(rows[i].id)), rows[i].ms);
    uuid_next_at(&source, 1795000000123, id);
    uuid_next_at(&source, 1795000000123, other);
    assert_int_equal(strlen(id), 36);
    assert_int_equal(id[14], '7');
    assert_non_null(strchr("89ab", id[19]));
    assert_int_equal(uuid_time_ms(slice_of(id)), 1795000000123);
    assert_string_not_equal(id, other);
}

/* The one way to give two jobs the same id: parent and child spending the same random bytes. */
static void a_fork_does_not_repeat_ids(void **state)
{
    struct uuid_source source = UUID_SOURCE_INIT;
    char ours[UUID_SIZE], theirs[UUID_SIZE] = "";
    int fds[2], status;
    pid_t pid;

    (void)state;
    uuid_next(&source, ours);
    assert_int_equal(pipe(fds), 0);
    pid = fork();
    if (pid == 0) {
        uuid_next(&source, theirs);
        _exit(write(fds[1], theirs, UUID_SIZE) == UUID_SIZE ? 0 : 1);
    }
    assert_true(pid > 0);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
    assert_int_equal(read(fds[0], theirs, UUID_SIZE), UUID_SIZE);
    uuid_next(&source, ours);
    assert_int_equal(strlen(theirs), 36);
    assert_string_not_equal(ours, theirs);
    close(fds[0]);
    close(fds[1]);
}

static void read_line(int fd, char *line, size_t size)
{
    ssize_t n = read(fd, line, size - 1);

    assert_true(n > 0);
    line[n] = '\0';
}

static void one_event_is_one_line(void **state)
{
    char line[4096], big[5000];
    struct log log, other;
    int fds[2];

    (void)state;
    assert_int_equal(pipe(fds), 0);
    log_init(&log, fds[1], LOG_LEVEL_INFO, "dispatcher");
    log_debug(&log, "not wanted", NULL);
    log_info(&log, "job done", "id=%s n=%d", "a\nforged\x1b line", 7);
    read_line(fds[0], line, sizeof(line));
    assert_non_null(strstr(line, " dispatcher["));
    assert_non_null(strstr(line, "job done id=a forged  line n=7\n"));
    assert_ptr_equal(strchr(line, '\n'), line + strlen(line) - 1);
    memset(big, 'x', sizeof(big) - 1);
    big[sizeof(big) - 1] = '\0';
    log_for_role(&other, &log, "runner-1");
    log_error(&other, "big", "%s", big);
    read_line(fds[0], line, sizeof(line));
    assert_non_null(strstr(line, "runner-1["));
    assert_ptr_equal(strchr(line, '\n'), line + strlen(line) - 1);
    log_event(NULL, LOG_LEVEL_ERROR, "nobody listens", NULL);
    close(fds[0]);
    close(fds[1]);
}

static void levels_have_pythons_names(void **state)
{
    enum log_level level;

    (void)state;
    assert_int_equal(log_level_parse("INFO", &level), 0);
    assert_int_equal(level, 20);
    assert_int_equal(log_level_parse("Warning", &level), 0);
    assert_int_equal(level, 30);
    assert_int_equal(log_level_parse("fatal", &level), 0);
    assert_int_equal(level, 50);
    assert_int_equal(log_level_parse("loud", &level), -1);
    assert_int_equal(log_level_parse("", &level), -1);
}

static int status_of_child(int sig, int code)
{
    int status;
    pid_t pid = fork();

    if (pid == 0) {
        if (sig)
            raise(sig);
        _exit(code);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return status;
}

static void causes_of_death_in_celerys_words(void **state)
{
    char text[64], tiny[6];

    (void)state;
    proc_cause(status_of_child(SIGKILL, 0), text, sizeof(text));
    assert_string_equal(text, "signal 9 (SIGKILL)");
    proc_cause(status_of_child(SIGTERM, 0), text, sizeof(text));
    assert_string_equal(text, "signal 15 (SIGTERM)");
    proc_cause(status_of_child(0, 3), text, sizeof(text));
    assert_string_equal(text, "exitcode 3");
    proc_cause(status_of_child(0, 3), tiny, sizeof(tiny));
    assert_string_equal(tiny, "exitc");
    assert_true(proc_cores() >= 1);
}

static void backoff_doubles_up_to_its_bound(void **state)
{
    (void)state;
    assert_int_equal(backoff_ms(100, 5000, 0, 0), 100);
    assert_int_equal(backoff_ms(100, 5000, 1, 0), 200);
    assert_int_equal(backoff_ms(100, 5000, 5, 0), 3200);
    assert_int_equal(backoff_ms(100, 5000, 6, 0), 5000);
    assert_int_equal(backoff_ms(100, 5000, UINT_MAX, 0), 5000);
    assert_int_equal(backoff_ms(1, INT64_MAX, 1000, 0), INT64_MAX);
    assert_int_equal(backoff_ms(9000, 5000, 0, 0), 5000);
    assert_int_equal(backoff_ms(-5, 5000, 3, 0), 0);
    assert_int_equal(backoff_ms(100, -1, 3, 0), 0);
    assert_int_equal(backoff_ms(0, 5000, UINT_MAX, 0), 0);
    for (uint64_t random = 1; random < 5000; random += 7)
        assert_in_range(backoff_ms(100, 5000, 3, random * 0x9e3779b97f4a7c15u), 0, 800);
    assert_in_range(backoff_ms(1, INT64_MAX, 1000, UINT64_MAX), 0, INT64_MAX);
}

static void a_title_leaves_nothing_of_the_last_one(void **state)
{
    char area[32];
    const struct proc_title title = {area, sizeof(area), NULL};
    const struct slice parts[] = {slice_of("runner"), slice_of(" "), slice_of("task")};

    (void)state;
    memset(area, 'x', sizeof(area)); /* a command line and an environment */
    proc_title_set(&title, "supervisor of %d", 2);
    proc_title_join(&title, parts, 3);
    assert_memory_equal(area, "runner task\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0",
                        sizeof(area));
    proc_title_join(&title,
                    (struct slice[]){slice_of("0123456789"), slice_of("0123456789"),
                                     slice_of("0123456789"), slice_of("0123456789")},
                    4);
    assert_memory_equal(area, "0123456789012345678901234567890", sizeof(area));
    proc_title_join(&title, parts, 1);
    assert_memory_equal(area, "runner\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0",
                        sizeof(area));
}

static void words_are_kept_and_sorted(void **state)
{
    struct words w = WORDS_INIT;
    char name[8];

    (void)state;
    for (int i = 19; i >= 0; i--) {
        snprintf(name, sizeof(name), "w%02d", i);
        assert_int_equal(words_add(&w, slice_of(name)), 0);
    }
    assert_int_equal(words_add(&w, (struct slice){NULL, 0}), 0);
    words_sort(&w);
    assert_int_equal(w.len, 21);
    assert_string_equal(w.items[0], "");
    assert_string_equal(w.items[1], "w00");
    assert_string_equal(w.items[20], "w19");
    assert_true(words_has(&w, slice_make("w07!", 3)));
    assert_false(words_has(&w, slice_make("w07!", 4)));
    words_release(&w);
    assert_int_equal(w.len, 0);
    words_sort(&w);
}

static void a_copied_slice_is_terminated(void **state)
{
    char *copy = slice_dup(slice_make("a\0b", 3));

    (void)state;
    assert_non_null(copy);
    assert_memory_equal(copy, "a\0b", 4);
    free(copy);
    copy = slice_dup((struct slice){NULL, 0});
    assert_string_equal(copy, "");
    free(copy);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(errors_are_one_line),
        cmocka_unit_test(every_code_has_a_word),
        cmocka_unit_test(a_fake_clock_moves_when_told),
        cmocka_unit_test(the_systems_clock_runs_forward),
        cmocka_unit_test(times_are_written_as_celery_does),
        cmocka_unit_test(times_are_read_in_all_their_forms),
        cmocka_unit_test(ids_are_version_4),
        cmocka_unit_test(ids_can_tell_their_time),
        cmocka_unit_test(a_fork_does_not_repeat_ids),
        cmocka_unit_test(one_event_is_one_line),
        cmocka_unit_test(levels_have_pythons_names),
        cmocka_unit_test(causes_of_death_in_celerys_words),
        cmocka_unit_test(a_title_leaves_nothing_of_the_last_one),
        cmocka_unit_test(words_are_kept_and_sorted),
        cmocka_unit_test(a_copied_slice_is_terminated),
        cmocka_unit_test(backoff_doubles_up_to_its_bound),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
