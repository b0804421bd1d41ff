#include "broker/amqp_address.h"
#include "tests/support/check.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static struct amqp_address a;

static int make(const char *url, struct err *e)
{
    struct uri uri;
    int status;

    if (uri_parse(&uri, url, e) < 0)
        return -1;
    status = amqp_address_make(&a, &uri, e);
    uri_release(&uri);
    return status;
}

static int clean(void **state)
{
    (void)state;
    unsetenv("CELERIAC_AMQP_USER");
    unsetenv("CELERIAC_AMQP_PASSWORD");
    unsetenv("CELERIAC_AMQP_PASSWORD_FILE");
    return 0;
}

/* As kombu reads them. */
static void virtual_hosts(void **state)
{
    static const char *const rows[][2] = {
        {"amqp://h", "/"},
        {"amqp://h/", "/"},
        {"amqp://h//", "/"},
        {"amqp://h/%2F", "/"},
        {"amqp://h/name", "name"},
        {"amqp://h//name", "/name"},
        {"amqp://h/%2Fname", "/name"},
        {"amqp://h/a%20b", "a b"},
        {"amqp://h/name?heartbeat=3", "name"},
        {"amqp://h?heartbeat=3", "/"},
    };
    struct err e = ERR_INIT;

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        CHECK_OK(make(rows[i][0], &e));
        if (strcmp(a.vhost, rows[i][1]) != 0)
            fail_msg("%s: got \"%s\"", rows[i][0], a.vhost);
        amqp_address_release(&a);
    }
}

static void hosts_and_ports(void **state)
{
    static const char *const rows[][2] = {
        {"amqp://", "localhost:5672/"},
        {"amqps://", "localhost:5671/"},
        {"amqp://h:1/v", "h:1/v"},
        {"amqp://u:p@[::1]:7//", "[::1]:7/"},
        {"amqp://g:g@h1,h2:5673,[::1]/v", "h1:5672/v h2:5673/v [::1]:5672/v"},
        {"amqps://g:g@h1:1,h2", "h1:1/ h2:5671/"},
        {"amqp://g:g@h1/v;amqp://g:g@h2:7/v;amqp://g:g@[::1]/v", "h1:5672/v h2:7/v [::1]:5672/v"},
        {"amqp://h/v;w", "h:5672/v;w"},
    };
    struct err e = ERR_INIT;
    char text[200], one[100];

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        text[0] = '\0';
        CHECK_OK(make(rows[i][0], &e));
        for (size_t h = 0; h < a.hosts_len; h++) {
            amqp_address_show(&a, h, one, sizeof(one));
            snprintf(text + strlen(text), sizeof(text) - strlen(text), "%s%s", h ? " " : "", one);
        }
        if (strcmp(text, rows[i][1]) != 0)
            fail_msg("%s: got \"%s\"", rows[i][0], text);
        amqp_address_release(&a);
    }
}

static void check_login(const char *url, const char *user, const char *password)
{
    struct err e = ERR_INIT;

    CHECK_OK(make(url, &e));
    assert_string_equal(a.user, user);
    assert_string_equal(a.password, password);
    amqp_address_release(&a);
}

static void name_and_password(void **state)
{
    char path[] = "/tmp/celeriac-password-XXXXXX", url[200];
    int fd = mkstemp(path);
    struct err e = ERR_INIT;

    (void)state;
    assert_int_equal(write(fd, "from file \r\nmore\n", 17), 17);
    check_login("amqp://h", "guest", "guest");
    check_login("amqp://guest@h", "guest", "guest");
    check_login("amqp://u:p%40@h", "u", "p@");
    check_login("amqp://u:@h", "u", "");
    CHECK_ERR(make("amqp://u@h", &e), ERR_OPERATOR, "CELERIAC_AMQP_PASSWORD");
    snprintf(url, sizeof(url), "amqp://u@h?password_file=%s", path);
    check_login(url, "u", "from file ");
    setenv("CELERIAC_AMQP_PASSWORD_FILE", path, 1);
    check_login("amqp://u@h", "u", "from file ");
    check_login("amqp://u:p@h", "u", "p");
    setenv("CELERIAC_AMQP_USER", "eve", 1);
    setenv("CELERIAC_AMQP_PASSWORD", "from environment", 1);
    check_login("amqp://h", "eve", "from environment");
    check_login("amqp://u@h", "u", "from environment");
    check_login("amqp://u:p@h", "u", "p");
    clean(NULL);
    CHECK_ERR(make("amqp://u@h?password_file=/nowhere", &e), ERR_OPERATOR, "\"/nowhere\"");
    CHECK_ERR(make("amqp://u@h?password_file=/dev/null", &e), ERR_OPERATOR, "no password");
    close(fd);
    unlink(path);
}

static void parameters(void **state)
{
    struct amqp_address copy;
    struct err e = ERR_INIT;

    (void)state;
    CHECK_OK(make("amqp://h", &e));
    assert_int_equal(a.heartbeat_s, 15);
    assert_int_equal(a.timeout_ms, 10000);
    assert_false(a.tls);
    amqp_address_release(&a);
    CHECK_OK(make(
        "amqps://h,h2/v?heartbeat=0&connection_timeout=3&cacertfile=/ca%20.pem&certfile=c&keyfile="
        "k&verify=verify_none",
        &e));
    CHECK_OK(amqp_address_copy(&copy, &a, &e));
    amqp_address_release(&a);
    assert_int_equal(copy.heartbeat_s, 0);
    assert_int_equal(copy.timeout_ms, 3000);
    assert_true(copy.tls);
    assert_false(copy.verify);
    assert_string_equal(copy.ca_file, "/ca .pem");
    assert_string_equal(copy.cert_file, "c");
    assert_string_equal(copy.key_file, "k");
    assert_string_equal(copy.hosts[1].name, "h2");
    assert_int_equal(copy.hosts[1].port, 5671);
    amqp_address_release(&copy);
    CHECK_OK(make("amqps://h?verify=verify_peer", &e));
    assert_true(a.verify);
    assert_null(a.ca_file);
    amqp_address_release(&a);
}

static void errors_name_the_cause(void **state)
{
    static const char *const wrong[][2] = {
        {"amqp://:secret@h?hartbeat=3", "\"hartbeat\" is not known"},
        {"amqp://:secret@h?heartbeat=3&x", "\"x\" is not known"},
        {"amqp://:secret@h?heartbeat=-1", "number of seconds from 0 to 65535"},
        {"amqp://:secret@h?heartbeat=65536", "number of seconds"},
        {"amqp://:secret@h?heartbeat=", "number of seconds"},
        {"amqp://:secret@h?heartbeat=1s", "number of seconds"},
        {"amqp://:secret@h?connection_timeout=0", "from 1 to"},
        {"amqp://:secret@h?cacertfile=x", "amqps://"},
        {"amqp://:secret@h?verify=verify_none", "amqps://"},
        {"amqps://:secret@h?verify=no", "verify_peer"},
        {"amqps://:secret@h?keyfile=k", "certfile"},
        {"amqp://:secret@h1,,h2", "no name"},
        {"amqp://:secret@h1,:5", "no name"},
        {"amqp://:secret@h1,h2:x", "port"},
        {"amqp://:secret@h1;amqp://:secret@h2/v", "only in host and port"},
        {"amqp://:secret@h1;amqp://:secret1@h2", "only in host and port"},
        {"amqp://:secret@h1;amqps://:secret@h2", "only in host and port"},
        {"amqp://:secret@h1;amqp://:secret@h2,h3", "only in host and port"},
        {"amqp://:secret@h1;amqp://:secret@h2:x", "port"},
    };
    struct err e = ERR_INIT;

    (void)state;
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        CHECK_ERR(make(wrong[i][0], &e), ERR_USAGE, wrong[i][1]);
        assert_null(strstr(e.text, "secret"));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(virtual_hosts, clean),
        cmocka_unit_test_setup(hosts_and_ports, clean),
        cmocka_unit_test_setup_teardown(name_and_password, clean, clean),
        cmocka_unit_test_setup(parameters, clean),
        cmocka_unit_test_setup(errors_name_the_cause, clean),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
