/* The option table: parsing, precedence, refusals. */
#include "tests/support/check.h"

#include "base/opt.h"
#include "base/opt_help.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static const struct opt_row rows[] = {
    {.name = "broker", .letter = 'b', .kind = OPT_TEXT, .env = "CELERY_BROKER_URL", .help = "B."},
    {.name = "queues", .letter = 'Q', .kind = OPT_LIST, .fallback = "celery", .help = "Q."},
    {.name = "max-retries",
     .letter = 'm',
     .kind = OPT_INT,
     .fallback = "3",
     .choices = "auto",
     .min = 0,
     .max = 100,
     .arg = "N",
     .help = "M."},
    {.name = "wait", .kind = OPT_NUMBER, .min = 0, .max = 1e9, .arg = "SECONDS", .help = "W."},
    {.name = "loglevel", .letter = 'l', .kind = OPT_CHOICE, .choices = "debug|info", .help = "L."},
    {.name = "verbose", .letter = 'v', .kind = OPT_FLAG, .help = "V."},
    {.name = "force",
     .letter = 'f',
     .also = "yes",
     .kind = OPT_FLAG,
     .flags = OPT_LINE_ONLY,
     .help = "F."},
    {.name = "secret", .kind = OPT_FLAG, .flags = OPT_HIDDEN, .help = "never shown"},
    {.name = NULL},
};
static const struct opt_row *const tables[] = {rows, NULL};

static struct err e;

#define LINE(v, ...) read_words(v, (const char *[]){__VA_ARGS__, NULL})

static int read_words(struct opt_values *v, const char **words)
{
    int n = 0;

    while (words[n])
        n++;
    return opt_read_line(v, n, (char **)words, OPT_PERMUTE, NULL, &e);
}

static int setup(void **state)
{
    static struct opt_values v;

    unsetenv("CELERIAC_BROKER");
    unsetenv("CELERY_BROKER_URL");
    unsetenv("CELERIAC_MAX_RETRIES");
    unsetenv("CELERIAC_FORCE");
    unsetenv("CELERIAC_QUEUES");
    *state = &v;
    return opt_values_init(&v, tables, &e);
}

static int teardown(void **state)
{
    opt_values_release(*state);
    return 0;
}

static void reads_every_gnu_form(void **state)
{
    struct opt_values *v = *state;

    CHECK_OK(LINE(v, "--broker=a", "--wait", "1.5", "-m7", "-l", "INFO"));
    assert_string_equal(opt_text(v, "broker"), "a");
    assert_true(opt_number(v, "wait") == 1.5);
    assert_int_equal(opt_int(v, "max-retries"), 7);
    assert_string_equal(opt_text(v, "loglevel"), "info");
    CHECK_OK(LINE(v, "-b", "second"));
    assert_string_equal(opt_text(v, "broker"), "second");
}

static void clusters_letters(void **state)
{
    struct opt_values *v = *state;

    CHECK_OK(LINE(v, "-vfm9"));
    assert_true(opt_flag(v, "verbose"));
    assert_true(opt_flag(v, "force"));
    assert_int_equal(opt_int(v, "max-retries"), 9);
    CHECK_OK(LINE(v, "-vm", "11"));
    assert_int_equal(opt_int(v, "max-retries"), 11);
    CHECK_ERR(LINE(v, "-vz"), ERR_USAGE, "unknown option -z");
}

static void collects_words_from_anywhere(void **state)
{
    struct opt_values *v = *state;

    CHECK_OK(LINE(v, "one", "-v", "-", "--", "--broker", "-x"));
    assert_int_equal(v->args_len, 4);
    assert_string_equal(v->args[0], "one");
    assert_string_equal(v->args[1], "-");
    assert_string_equal(v->args[2], "--broker");
    assert_null(opt_text(v, "broker"));
}

static void stops_at_the_first_word(void **state)
{
    struct opt_values *v = *state;
    const char *words[] = {"-v", "--broker", "x", "call", "--wait", "3"};
    int used = 0;

    CHECK_OK(opt_read_line(v, 6, (char **)words, OPT_STOP_AT_WORD, &used, &e));
    assert_int_equal(used, 3);
    assert_int_equal(v->args_len, 0);
    assert_null(opt_text(v, "wait"));
}

static void knows_other_names(void **state)
{
    struct opt_values *v = *state;

    CHECK_OK(LINE(v, "--yes"));
    assert_true(opt_flag(v, "force"));
    CHECK_OK(LINE(v, "--force=no"));
    assert_false(opt_flag(v, "force"));
}

static void joins_lists(void **state)
{
    struct opt_values *v = *state;
    const char *const *queues;
    size_t n;

    CHECK_OK(LINE(v, "-Q", "a,b", "--queues=,c,"));
    CHECK_OK(opt_read_defaults(v, &e));
    queues = opt_list(v, "queues", &n);
    assert_int_equal(n, 3);
    assert_string_equal(queues[0], "a");
    assert_string_equal(queues[2], "c");
}

static void suggests_the_nearest(void **state)
{
    struct opt_values *v = *state;

    CHECK_ERR(LINE(v, "--brokr=x"), ERR_USAGE, "unknown option --brokr; did you mean --broker?");
    CHECK_ERR(LINE(v, "--max-retires", "1"), ERR_USAGE, "did you mean --max-retries?");
    CHECK_ERR(LINE(v, "--verb"), ERR_USAGE, "did you mean --verbose?");
    CHECK_ERR(LINE(v, "--quite-another"), ERR_USAGE, "unknown option --quite-another; see --help");
    CHECK_ERR(LINE(v, "--secrte"), ERR_USAGE, "see --help");
}

static void refuses_what_does_not_fit(void **state)
{
    static const struct {
        const char *words[2];
        const char *said;
    } wrong[] = {
        {{"-m", "x"}, "-m: 'x' is not a whole number from 0 to 100 or auto"},
        {{"-m1.5"}, "'1.5' is not a whole number"},
        {{"-m101"}, "from 0 to 100"},
        {{"--wait=-1"}, "--wait: '-1' is not a number"},
        {{"--wait=nan"}, "'nan' is not a number"},
        {{"--wait=0x10"}, "'0x10' is not a number"},
        {{"--wait="}, "'' is not a number"},
        {{"-l", "loud"}, "-l: 'loud' is none of debug|info"},
        {{"--wait"}, "--wait needs an argument: SECONDS"},
        {{"--verbose=maybe"}, "'maybe' is none of yes|no"},
    };
    struct opt_values *v = *state;

    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
        CHECK_ERR(LINE(v, wrong[i].words[0], wrong[i].words[1]), ERR_USAGE, wrong[i].said);
}

static void takes_a_word_for_a_number(void **state)
{
    struct opt_values *v = *state;

    CHECK_OK(LINE(v, "-m", "AUTO"));
    assert_string_equal(opt_text(v, "max-retries"), "auto");
    assert_int_equal(opt_int(v, "max-retries"), 0);
}

static void write_file(char *path, const char *text)
{
    int fd = mkstemp(path);

    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, strlen(text)), (ssize_t)strlen(text));
    close(fd);
}

static bool knows_colour(void *user, const char *key)
{
    (void)user;
    return strcmp(key, "colour") == 0;
}

static int read_text(struct opt_values *v, const char *text)
{
    char path[] = "/tmp/celeriac-opt-XXXXXX";
    int status;

    write_file(path, text);
    status = opt_read_file(v, path, knows_colour, NULL, &e);
    unlink(path);
    return status;
}

static void line_beats_environment_beats_file_beats_default(void **state)
{
    struct opt_values *v = *state;

    setenv("CELERIAC_MAX_RETRIES", "20", 1);
    setenv("CELERY_BROKER_URL", "from-celery", 1);
    setenv("CELERIAC_QUEUES", "", 1); /* empty: not set */
    CHECK_OK(LINE(v, "-m30"));
    CHECK_OK(opt_read_env(v, &e));
    CHECK_OK(read_text(v, "max_retries = 40\nbroker = from-file\nwait = 2\n"));
    CHECK_OK(opt_read_defaults(v, &e));
    assert_int_equal(opt_int(v, "max-retries"), 30);
    assert_int_equal(opt_origin(v, "max-retries"), OPT_FROM_LINE);
    assert_string_equal(opt_text(v, "broker"), "from-celery");
    assert_true(opt_number(v, "wait") == 2);
    assert_int_equal(opt_origin(v, "wait"), OPT_FROM_FILE);
    assert_string_equal(opt_text(v, "queues"), "celery");
    assert_int_equal(opt_origin(v, "queues"), OPT_FROM_DEFAULT);
}

static void our_variable_beats_celerys(void **state)
{
    struct opt_values *v = *state;

    setenv("CELERY_BROKER_URL", "theirs", 1);
    setenv("CELERIAC_BROKER", "ours", 1);
    CHECK_OK(opt_read_env(v, &e));
    assert_string_equal(opt_text(v, "broker"), "ours");
}

static void keeps_line_only_options_to_the_line(void **state)
{
    struct opt_values *v = *state;

    setenv("CELERIAC_FORCE", "1", 1);
    CHECK_OK(opt_read_env(v, &e));
    assert_false(opt_flag(v, "force"));
    CHECK_ERR(read_text(v, "force = yes\n"), ERR_USAGE, "unknown key 'force'");
}

static void reads_a_file(void **state)
{
    struct opt_values *v = *state;

    CHECK_OK(read_text(v, "# comment\n\n  broker =  \" a = b \" \n\tverbose=on\ncolour = red\r\n"));
    assert_string_equal(opt_text(v, "broker"), " a = b ");
    assert_true(opt_flag(v, "verbose"));
    CHECK_ERR(read_text(v, "broker = x\nbrokre = y\n"), ERR_USAGE,
              ":2: unknown key 'brokre'; did you mean 'broker'?");
    CHECK_ERR(read_text(v, "nonsense\n"), ERR_USAGE, ":1: not of the form 'key = value'");
    CHECK_ERR(read_text(v, "wait = soon\n"), ERR_USAGE, ":1: wait: 'soon' is not a number");
    CHECK_ERR(opt_read_file(v, "/nonexistent/file", NULL, NULL, &e), ERR_NOTFOUND,
              "'/nonexistent/file'");
}

static void names_bad_variables(void **state)
{
    setenv("CELERIAC_MAX_RETRIES", "many", 1);
    CHECK_ERR(opt_read_env(*state, &e), ERR_USAGE, "CELERIAC_MAX_RETRIES: 'many'");
}

static void helps_in_columns(void **state)
{
    struct buf out = BUF_INIT;
    const char *line, *end;

    (void)state;
    opt_help(&out, rows, 60);
    assert_non_null(strstr(buf_str(&out), "  -m, --max-retries N"));
    assert_non_null(strstr(buf_str(&out), "  -f, --force, --yes"));
    assert_null(strstr(buf_str(&out), "secret"));
    for (line = buf_str(&out); (end = strchr(line, '\n')); line = end + 1)
        assert_true(end - line <= 60);
    buf_release(&out);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(reads_every_gnu_form),
        TEST(clusters_letters),
        TEST(collects_words_from_anywhere),
        TEST(stops_at_the_first_word),
        TEST(knows_other_names),
        TEST(joins_lists),
        TEST(suggests_the_nearest),
        TEST(refuses_what_does_not_fit),
        TEST(takes_a_word_for_a_number),
        TEST(line_beats_environment_beats_file_beats_default),
        TEST(our_variable_beats_celerys),
        TEST(keeps_line_only_options_to_the_line),
        TEST(reads_a_file),
        TEST(names_bad_variables),
        TEST(helps_in_columns),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
