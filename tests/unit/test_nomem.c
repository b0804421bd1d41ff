/* Every request for memory fails once, and once with all behind it: an honest error, nothing
 * leaked (the sanitizers look), no half answer, and the next attempt succeeds. */
#include "base/opt.h"
#include "broker/json_text.h"
#include "broker/message.h"
#include "broker/result.h"
#include "broker/uri.h"
#include "tests/support/check.h"
#include "tests/support/file.h"
#include "tests/support/nomem.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define MESSAGES TEST_SOURCE_DIR "/support/messages/"

/* --- messages --- */

static void tell_json(struct buf *out, const char *name, const json_t *value)
{
    struct err e;

    buf_addf(out, "\n%s=", name);
    json_text_value(out, value, &e);
}

static int read_with(int (*read)(struct message *m, struct slice text, struct err *e),
                     struct slice envelope, struct buf *out, struct err *e)
{
    struct message m = {0};
    int rc = read(&m, envelope, e);

    if (rc == 0)
        rc = message_open_body(&m, e);
    if (rc == 0 && !message_headers(&m))
        rc = err_nomem(e);
    if (rc == 0) {
        buf_addf(out, "%s %s %s %lld %lld\n", m.task, m.id, m.root_id, (long long)m.eta_ms,
                 (long long)m.retries);
        tell_json(out, "headers", m.headers);
        tell_json(out, "args", m.args);
        tell_json(out, "kwargs", m.kwargs);
        tell_json(out, "embed", m.embed);
    }
    message_release(&m);
    return rc;
}

static int parse(const void *user, struct buf *out, struct err *e)
{
    return read_with(message_parse, buf_slice(user), out, e);
}

static int skim(const void *user, struct buf *out, struct err *e)
{
    return read_with(message_skim, buf_slice(user), out, e);
}

static void messages_are_read_or_not(void **state)
{
    static const char *const names[] = {"options-5.6.json", "protocol1-5.6.json",
                                        "chord-5.6.json",   "compressed-5.6.json",
                                        "hybrid.json",      "stamped-5.6.json"};

    (void)state;
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        struct buf envelope = BUF_INIT;
        struct nomem_work parsed = {names[i], parse, &envelope};
        struct nomem_work skimmed = {names[i], skim, &envelope};
        char path[300];

        snprintf(path, sizeof(path), MESSAGES "%s", names[i]);
        assert_int_equal(file_read(&envelope, path), 0);
        nomem_try(&parsed);
        nomem_try(&skimmed);
        buf_release(&envelope);
    }
}

/* Ids are random: what differs between two runs is not compared. */
static int encode(const void *user, struct buf *out, struct err *e)
{
    struct message_spec spec = *(const struct message_spec *)user;
    struct uuid_source ids = UUID_SOURCE_INIT;
    struct buf text = BUF_INIT;
    int rc = message_encode(&text, &spec, &ids, e);

    if (rc == 0)
        buf_addf(out, "%zu bytes", text.len);
    buf_release(&text);
    return rc;
}

static void messages_are_written_or_not(void **state)
{
    json_t *args = json_pack("[i, s, [b, n], f]", 1, "two \xc3\xa9", 1, 0.5);
    json_t *kwargs = json_pack("{s: {s: i}, s: s}", "a", "b", 3, "long", "x y z");
    json_t *headers = json_pack("{s: s}", "mine", "yes");
    struct message_spec spec = {.task = "math.add",
                                .id = "11111111-2222-4333-8444-555555555555",
                                .group_index = -1,
                                .args = args,
                                .kwargs = kwargs,
                                .headers = headers,
                                .queue = "q",
                                .reply_to = "r",
                                .eta_ms = 1795000000000,
                                .expires_ms = 1795000060000,
                                .hard_limit_s = 3,
                                .now_ms = 1794000000000};
    struct nomem_work work = {"encode", encode, &spec};

    (void)state;
    nomem_try(&work);
    json_decref(args);
    json_decref(kwargs);
    json_decref(headers);
}

/* What a lost worker and a retry do with a message. */
static int go_on(const void *user, struct buf *out, struct err *e)
{
    const struct buf *envelope = user;
    struct uuid_source ids = UUID_SOURCE_INIT;
    struct message_spec spec;
    struct buf again = BUF_INIT, retry = BUF_INIT;
    struct message m = {0};
    int rc = message_skim(&m, buf_slice(envelope), e);

    if (rc == 0)
        rc = message_open_body(&m, e);
    if (rc == 0) {
        json_t *lost = json_integer(3);

        rc = lost ? message_with_header(&again, &m, MESSAGE_H_LOST, lost, e) : err_nomem(e);
    }
    if (rc == 0)
        rc = message_spec_retry(&spec, &m, e);
    if (rc == 0)
        rc = message_encode(&retry, &spec, &ids, e);
    if (rc == 0) {
        buf_addf(out, "%zu %zu ", again.len, retry.len);
        message_args_repr(out, m.args);
        message_kwargs_repr(out, m.kwargs);
    }
    buf_release(&again);
    buf_release(&retry);
    message_release(&m);
    return rc;
}

static void messages_go_on_or_not(void **state)
{
    struct buf envelope = BUF_INIT;
    struct nomem_work work = {"retry", go_on, &envelope};

    (void)state;
    assert_int_equal(file_read(&envelope, MESSAGES "options-5.6.json"), 0);
    nomem_try(&work);
    buf_release(&envelope);
}

static int sign(const void *user, struct buf *out, struct err *e)
{
    json_t *signature = json_loads(user, 0, NULL);
    struct uuid_source ids = UUID_SOURCE_INIT;
    struct message_spec spec;
    char id[UUID_SIZE];
    int64_t not_before_ms;
    int rc = signature ? message_spec_signature(&spec, signature, NULL, &ids, 1795000000000, id,
                                                &not_before_ms, e)
                       : err_nomem(e);

    if (rc == 0)
        buf_addf(out, "%s %s %lld %d", spec.task, spec.queue, (long long)not_before_ms,
                 spec.priority);
    json_decref(signature);
    return rc;
}

static void signatures_are_read_or_not(void **state)
{
    struct nomem_work work = {
        "signature", sign,
        "{\"task\": \"a.b\", \"args\": [1], \"kwargs\": {\"x\": 2}, \"options\": "
        "{\"queue\": \"q\", \"priority\": 3, \"countdown\": 5, \"expires\": 60, "
        "\"headers\": {\"h\": 1}}, \"subtask_type\": null, \"immutable\": false}"};

    (void)state;
    nomem_try(&work);
}

/* --- results --- */

static int result(const void *user, struct buf *out, struct err *e)
{
    static const struct result_times times = RESULT_TIMES_INIT;
    json_t *message = json_string("no \xc3\xa9");
    json_t *exception = message ? result_exception("ValueError", NULL, message) : NULL;
    const struct result_doc doc = {.status = user,
                                   .result = exception,
                                   .traceback = "Traceback",
                                   .task_id = "id",
                                   .date_done_us = 1795000000000000,
                                   .worker = "celery@h",
                                   .pid = 7,
                                   .times = &times};
    int rc = exception ? result_encode(out, &doc, e) : err_nomem(e);

    json_decref(exception);
    return rc;
}

static void results_are_written_or_not(void **state)
{
    struct nomem_work work = {"result", result, "FAILURE"};

    (void)state;
    nomem_try(&work);
}

/* --- URLs --- */

static int read_param(const struct uri *uri, struct buf *out, struct err *e)
{
    char name[40], *value;
    int rc;

    snprintf(name, sizeof(name), "%.*s", (int)strcspn(uri->query, "="), uri->query);
    rc = uri_param(uri, name, &value, e);
    if (rc == 0)
        buf_addf(out, " %s", value ? value : "none");
    free(value);
    return rc;
}

static int read_uri(const void *user, struct buf *out, struct err *e)
{
    struct uri uri;
    int rc = uri_parse(&uri, user, e);

    if (rc == 0)
        buf_addf(out, "%s %s %s %s %d %zu %s %s", uri.scheme, uri.user ? uri.user : "-",
                 uri.password ? uri.password : "-", uri.host ? uri.host : "-", uri.port,
                 uri.more_len, uri.path, uri.query);
    if (rc == 0 && strchr(uri.query, '='))
        rc = read_param(&uri, out, e);
    uri_release(&uri);
    return rc;
}

static void urls_are_read_or_not(void **state)
{
    static const char *const urls[] = {"redis://us%65r:pass@host:6380/3?visibility_timeout=9",
                                       "redis+socket://:pw@/run/r.sock?virtual_host=4",
                                       "sqlite:/var/q.db",
                                       "amqp://g:g@a:1,b:2,c/%2f?heartbeat=3",
                                       "memory:name",
                                       "disabled://"};

    (void)state;
    for (size_t i = 0; i < sizeof(urls) / sizeof(urls[0]); i++) {
        struct nomem_work work = {urls[i], read_uri, urls[i]};

        nomem_try(&work);
    }
}

/* --- options --- */

static const struct opt_row rows[] = {
    {.name = "broker", .letter = 'b', .kind = OPT_TEXT, .help = "B."},
    {.name = "queues", .letter = 'Q', .kind = OPT_LIST, .fallback = "celery", .help = "Q."},
    {.name = "wait", .kind = OPT_NUMBER, .max = 1e9, .fallback = "3", .help = "W."},
    {.name = "loglevel", .letter = 'l', .kind = OPT_CHOICE, .choices = "debug|info", .help = "L."},
    {.name = "verbose", .letter = 'v', .kind = OPT_FLAG, .help = "V."},
    {.name = NULL},
};
static const struct opt_row *const tables[] = {rows, NULL};

static bool knows_none(void *user, const char *key)
{
    (void)user;
    (void)key;
    return false;
}

static int read_options(const void *user, struct buf *out, struct err *e)
{
    const char *words[] = {"-Q", "a,b,c", "-b", "one", "--broker=two", "-v", "word", "-l", "INFO"};
    struct opt_values v;
    size_t n;
    int rc = opt_values_init(&v, tables, e);

    if (rc == 0)
        rc = opt_read_line(&v, sizeof(words) / sizeof(words[0]), (char **)words, OPT_PERMUTE, NULL,
                           e);
    if (rc == 0)
        rc = opt_read_env(&v, e);
    if (rc == 0)
        rc = opt_read_file(&v, user, knows_none, NULL, e);
    if (rc == 0)
        rc = opt_read_defaults(&v, e);
    if (rc == 0) {
        const char *const *queues = opt_list(&v, "queues", &n);

        buf_addf(out, "%s %zu %s %s %g %s %d %zu", opt_text(&v, "broker"), n, queues[0], queues[2],
                 opt_number(&v, "wait"), opt_text(&v, "loglevel"), opt_flag(&v, "verbose"),
                 v.args_len);
    }
    opt_values_release(&v);
    return rc;
}

static void options_are_read_or_not(void **state)
{
    char path[] = "/tmp/celeriac-nomem-XXXXXX";
    static const char text[] = "wait = 7\nqueues = x, y\nbroker = three\n";
    int fd = mkstemp(path);
    struct nomem_work work = {"options", read_options, path};

    (void)state;
    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, sizeof(text) - 1), sizeof(text) - 1);
    close(fd);
    nomem_try(&work);
    unlink(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(messages_are_read_or_not),   cmocka_unit_test(messages_are_written_or_not),
        cmocka_unit_test(messages_go_on_or_not),      cmocka_unit_test(signatures_are_read_or_not),
        cmocka_unit_test(results_are_written_or_not), cmocka_unit_test(urls_are_read_or_not),
        cmocka_unit_test(options_are_read_or_not),
    };

    nomem_init();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
