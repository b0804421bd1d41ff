/* The management API of a real server; run below with_rabbitmq.py --management. */
#include "broker/amqp_api.h"
#include "broker/amqp_health.h"
#include "tests/support/check.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TIMEOUT_MS 30000

/* "127.0.0.1:PORT" of the API, or of the broker. */
static void place(const char *variable, char *to, size_t size)
{
    const char *url = getenv(variable), *at = url ? strchr(url, '@') : NULL;

    if (!at)
        fail_msg("%s is not set", variable);
    snprintf(to, size, "%.*s", (int)strcspn(at + 1, "/"), at + 1);
}

static struct amqp_api *open_as(const char *login, const char *host, const char *user)
{
    struct amqp_api *api;
    struct err e = ERR_INIT;
    char url[300];

    snprintf(url, sizeof(url), "http://%s%s/", login, host);
    api = amqp_api_open(url, user, user, TIMEOUT_MS, &e);
    if (!api)
        fail_msg("%s", e.text);
    assert_null(strstr(amqp_api_shown(api), "secret"));
    return api;
}

/* What the overview ends with. */
static enum err_code overview_of(struct amqp_api *api, struct err *e)
{
    json_t *answer = amqp_api_get(api, AMQP_API_PATH("overview"), e);

    if (answer)
        assert_true(json_is_string(json_object_get(answer, "rabbitmq_version")));
    json_decref(answer);
    return answer ? ERR_NONE : e->code;
}

static void it_answers_with_either_login(void **state)
{
    struct err e = ERR_INIT;
    struct amqp_api *api;
    char host[64];

    (void)state;
    place("CELERIAC_TEST_AMQP_API", host, sizeof(host));
    api = open_as("guest:gues%74@", host, NULL);
    assert_int_equal(overview_of(api, &e), ERR_NONE);
    assert_int_equal(overview_of(api, &e), ERR_NONE);
    amqp_api_close(api);
    api = open_as("", host, NULL);
    assert_int_equal(overview_of(api, &e), ERR_NONE);
    amqp_api_close(api);
    api = open_as("", host, "guest");
    assert_int_equal(overview_of(api, &e), ERR_NONE);
    amqp_api_close(api);
}

static void what_is_wrong_is_told_without_the_login(void **state)
{
    struct err e = ERR_INIT;
    struct amqp_api *api;
    char host[64];

    (void)state;
    place("CELERIAC_TEST_AMQP_API", host, sizeof(host));
    api = open_as("guest:secret@", host, "guest");
    assert_int_equal(overview_of(api, &e), ERR_OPERATOR);
    assert_null(strstr(e.text, "secret"));
    assert_non_null(strstr(e.text, host));
    amqp_api_close(api);
    api = open_as("", host, NULL);
    assert_null(amqp_api_get(api, AMQP_API_PATH("queues", "/", "no such/queue"), &e));
    assert_int_equal(e.code, ERR_NOTFOUND);
    amqp_api_close(api);
    api = open_as("guest:secret@", "127.0.0.1:1", NULL);
    assert_int_equal(overview_of(api, &e), ERR_RECONNECT);
    assert_null(strstr(e.text, "secret"));
    amqp_api_close(api);
    /* Something that speaks, but not HTTP. */
    place("CELERIAC_TEST_AMQP_URL", host, sizeof(host));
    api = open_as("guest:secret@", host, NULL);
    assert_int_equal(overview_of(api, &e), ERR_RECONNECT);
    amqp_api_close(api);
}

static void a_text_that_is_no_such_url_is_usage(void **state)
{
    static const char *const urls[] = {"",
                                       "http://",
                                       "ftp://guest:secret@host",
                                       "file:///etc/passwd",
                                       "http://guest:secret@host:99999999",
                                       "http://a b/"};

    (void)state;
    for (size_t i = 0; i < sizeof(urls) / sizeof(urls[0]); i++) {
        struct err e = ERR_INIT;

        assert_null(amqp_api_open(urls[i], NULL, NULL, TIMEOUT_MS, &e));
        assert_int_equal(e.code, ERR_USAGE);
        assert_null(strstr(e.text, "secret"));
    }
}

/* The row with that check, or NULL. */
static json_t *row_of(json_t *rows, const char *check)
{
    json_t *row;
    size_t i;

    json_array_foreach(rows, i, row)
    {
        if (strcmp(json_string_value(json_object_get(row, "check")), check) == 0)
            return row;
    }
    return NULL;
}

static void health_of_a_fresh_server(void **state)
{
    struct buf out = BUF_INIT;
    struct err e = ERR_INIT;
    struct amqp_api *api;
    json_t *rows, *queue;
    char host[64];

    (void)state;
    place("CELERIAC_TEST_AMQP_API", host, sizeof(host));
    api = open_as("", host, NULL);
    assert_int_equal(amqp_health(api, "/", "celery,other", &out, &e), 0);
    rows = json_loads(buf_str(&out), 0, NULL);
    assert_non_null(row_of(rows, "cluster"));
    assert_string_equal(json_string_value(json_object_get(row_of(rows, "streams"), "value")),
                        "enabled");
    assert_string_equal(json_string_value(json_object_get(row_of(rows, "policies"), "value")),
                        "none");
    queue = row_of(rows, "queue other");
    assert_non_null(queue);
    assert_string_equal(json_string_value(json_object_get(queue, "value")), "not declared in /");
    json_decref(rows);
    buf_release(&out);
    amqp_api_close(api);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(it_answers_with_either_login),
        cmocka_unit_test(what_is_wrong_is_told_without_the_login),
        cmocka_unit_test(a_text_that_is_no_such_url_is_usage),
        cmocka_unit_test(health_of_a_fresh_server),
    };

    if (!getenv("CELERIAC_TEST_AMQP_API"))
        return 77;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
