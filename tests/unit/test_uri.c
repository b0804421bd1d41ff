#include "broker/uri.h"
#include "tests/support/check.h"

#include <stdlib.h>

struct row {
    const char *text, *scheme, *user, *password, *host;
    int port;
    const char *path, *masked;
};

static const struct row rows[] = {
    {"redis://localhost:6379/0", "redis", NULL, NULL, "localhost", 6379, "0",
     "redis://localhost:6379/0"},
    {"redis://", "redis", NULL, NULL, NULL, 0, "", "redis://"},
    {"REDIS://h", "redis", NULL, NULL, "h", 0, "", "REDIS://h"},
    {"redis://:secret@h/1", "redis", NULL, "secret", "h", 0, "1", "redis://:***@h/1"},
    {"redis://bob:p%40%3as@h:1/2?a=b", "redis", "bob", "p@:s", "h", 1, "2",
     "redis://bob:***@h:1/2?a=b"},
    {"redis://bob@h", "redis", "bob", NULL, "h", 0, "", "redis://bob@h"},
    {"redis://[::1]:7/3", "redis", NULL, NULL, "::1", 7, "3", "redis://[::1]:7/3"},
    {"redis://a:b@[::1]", "redis", "a", "b", "::1", 0, "", "redis://a:***@[::1]"},
    {"redis+socket:///run/r.sock?virtual_host=4", "redis+socket", NULL, NULL, NULL, 0,
     "/run/r.sock", "redis+socket:///run/r.sock?virtual_host=4"},
    {"redis+socket://:pw@/run/r.sock", "redis+socket", NULL, "pw", NULL, 0, "/run/r.sock",
     "redis+socket://:***@/run/r.sock"},
    {"sqlite:queue.db", "sqlite", NULL, NULL, NULL, 0, "queue.db", "sqlite:queue.db"},
    {"sqlite:/var/q.db", "sqlite", NULL, NULL, NULL, 0, "/var/q.db", "sqlite:/var/q.db"},
    {"sqlite:///var/q.db", "sqlite", NULL, NULL, NULL, 0, "/var/q.db", "sqlite:///var/q.db"},
    {"sqlite://q%41.db?x", "sqlite", NULL, NULL, NULL, 0, "q%41.db?x", "sqlite://q%41.db?x"},
    {"sqlite:a:b@c", "sqlite", NULL, NULL, NULL, 0, "a:b@c", "sqlite:a:b@c"},
    {"memory:", "memory", NULL, NULL, NULL, 0, "", "memory:"},
    {"memory:name", "memory", NULL, NULL, NULL, 0, "name", "memory:name"},
    {"amqp://g:g@h:5672/%2f", "amqp", "g", "g", "h", 5672, "/", "amqp://g:***@h:5672/%2f"},
    {"disabled://", "disabled", NULL, NULL, NULL, 0, "", "disabled://"},
};

static void check_text(const char *url, const char *got, const char *want)
{
    got = got ? got : "nothing";
    want = want ? want : "nothing";
    if (strcmp(got, want) != 0)
        fail_msg("%s: got %s, wanted %s", url, got, want);
}

static void forms(void **state)
{
    struct err e = ERR_INIT;
    struct uri uri;

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        const struct row *r = &rows[i];

        CHECK_OK(uri_parse(&uri, r->text, &e));
        check_text(r->text, uri.scheme, r->scheme);
        check_text(r->text, uri.user, r->user);
        check_text(r->text, uri.password, r->password);
        check_text(r->text, uri.host, r->host);
        check_text(r->text, uri.path, r->path);
        check_text(r->text, uri.masked, r->masked);
        assert_int_equal(uri.port, r->port);
        uri_release(&uri);
    }
}

static void errors_name_the_cause_and_hide_the_password(void **state)
{
    static const char *const wrong[][2] = {
        {"", "no scheme"},
        {"queue.db", "no scheme"},
        {"redsi://bob:secret@h", "did you mean \"redis\""},
        {"http://bob:secret@h", "unknown scheme \"http\""},
        {"bob:secret@h", "unknown scheme \"bob\""},
        {"redis:localhost", "\"//\" is missing"},
        {"redis://:secret@h:0", "port"},
        {"redis://:secret@h:65536", "port"},
        {"redis://:secret@h:12x", "port"},
        {"redis://:secret@h:99999999999999999999", "port"},
        {"redis://:secret/more@h", "port"},
        {"redis://:secret%4@h", "hexadecimal"},
        {"redis://:secret%zz@h", "hexadecimal"},
        {"redis://:secret%00@h", "hexadecimal"},
        {"redis://[::1", "']'"},
        {"redis://[::1]x", "':'"},
        {"sqlite:", "no file"},
        {"sqlite://", "no file"},
    };
    struct err e = ERR_INIT;
    struct uri uri;

    (void)state;
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        CHECK_ERR(uri_parse(&uri, wrong[i][0], &e), ERR_USAGE, wrong[i][1]);
        assert_null(strstr(e.text, "secret"));
        assert_null(uri.scheme);
    }
}

/* A password longer than the masked text has room for. */
static void long_urls_are_cut(void **state)
{
    char text[1000] = "redis://:";
    struct err e = ERR_INIT;
    struct uri uri;

    (void)state;
    memset(text + 9, 'x', 900);
    memcpy(text + 909, "@h", 3);
    CHECK_OK(uri_parse(&uri, text, &e));
    assert_int_equal(strlen(uri.password), 900);
    assert_string_equal(uri.masked, "redis://:***@h");
    uri_release(&uri);
    memset(text, 'x', 999);
    CHECK_ERR(uri_parse(&uri, text, &e), ERR_USAGE, "no scheme");
}

static void check_param(const struct uri *uri, const char *name, const char *want)
{
    struct err e = ERR_INIT;
    char *value;

    CHECK_OK(uri_param(uri, name, &value, &e));
    if (want)
        assert_string_equal(value, want);
    else
        assert_null(value);
    free(value);
}

static void parameters(void **state)
{
    struct err e = ERR_INIT;
    static const char *const known[] = {"virtual_host", "x", "empty", NULL};
    struct uri uri;
    char *value;

    (void)state;
    CHECK_OK(
        uri_parse(&uri, "redis+socket:///s?virtual_host=4&x=%41b&empty=&bad=%4&nul=%00#a=b", &e));
    check_param(&uri, "virtual_host", "4");
    check_param(&uri, "x", "Ab");
    check_param(&uri, "empty", "");
    check_param(&uri, "virtual", NULL);
    check_param(&uri, "host", NULL);
    check_param(&uri, "a", NULL);
    CHECK_ERR(uri_param(&uri, "bad", &value, &e), ERR_USAGE, "the parameter \"bad\" has a '%'");
    assert_null(value);
    CHECK_ERR(uri_param(&uri, "nul", &value, &e), ERR_USAGE, "the parameter \"nul\" has a '%'");
    CHECK_ERR(uri_check_params(&uri, known, &e), ERR_USAGE,
              "the parameter \"bad\" is not known; known are virtual_host, x and empty");
    uri_release(&uri);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(forms),
        cmocka_unit_test(errors_name_the_cause_and_hide_the_password),
        cmocka_unit_test(long_urls_are_cut),
        cmocka_unit_test(parameters),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
