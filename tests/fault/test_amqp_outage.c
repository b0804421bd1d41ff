/* The link beside a broker that is frozen, out of memory, or behind TLS; run by amqp_outage.py. */
#include "tests/support/amqp_case.h"

#include <dirent.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/types.h>

/* What a pump may take on a busy machine, with sanitizers; a blocking send would take seconds. */
#define PUMP_MS 2500
#define BACKLOG (12u << 20)

static char message[700];
static char queue[16]; /* of this link: an old one is freed only when the server saw its end */

static const char *offered(const char *name)
{
    const char *value = getenv(name);

    if (!value)
        fail_msg("%s is not set: run this below amqp_outage.py", name);
    return value;
}

/* Whether the thread with this directory has stopped; one that is gone has. */
static bool is_stopped(const char *directory, const char *thread)
{
    char path[400], text[400] = "";
    const char *state;
    FILE *f;

    snprintf(path, sizeof(path), "%s/%s/stat", directory, thread);
    f = fopen(path, "re");
    if (f && !fgets(text, sizeof(text), f))
        text[0] = '\0';
    if (f)
        fclose(f);
    state = strrchr(text, ')');
    return !state || state[2] == 'T';
}

/* kill returns before the threads of the broker have stopped: one could answer once more. */
static bool all_stopped(int pid)
{
    char directory[64];
    struct dirent *entry;
    bool all = true;
    DIR *d;

    snprintf(directory, sizeof(directory), "/proc/%d/task", pid);
    d = opendir(directory);
    assert_non_null(d);
    while (all && (entry = readdir(d)))
        all = entry->d_name[0] == '.' || is_stopped(directory, entry->d_name);
    closedir(d);
    return all;
}

static void broker_signal(int sig)
{
    int pid = (int)strtol(offered("CELERIAC_TEST_AMQP_PID"), NULL, 10);

    assert_int_equal(kill((pid_t)pid, sig), 0);
    while (sig == SIGSTOP && !all_stopped(pid))
        poll(NULL, 0, 1); /* ctest's limit ends it */
}

static void alarm_set(const char *how)
{
    char command[400];

    snprintf(command, sizeof(command), "%s %s", offered("CELERIAC_TEST_AMQP_ALARM"), how);
    assert_int_equal(system(command), 0); /* NOLINT(cert-env33-c): our own words */
}

/* The URL with parameters. */
static char *with(char *text, size_t size, const char *name, const char *parameters)
{
    snprintf(text, size, "%s?%s", offered(name), parameters);
    return text;
}

/* A link with channel 1 in confirm mode and a queue. */
static void open_publisher(struct amqp_case *c, const char *url)
{
    struct err e;

    snprintf(queue, sizeof(queue), "q%d", (int)strtol(queue + (*queue != 0), NULL, 10) + 1);
    memset(message, 'm', sizeof(message));
    case_open(c, url);
    CHECK_OK(link_open_channel(c->link, 1, &e));
    CHECK_OK(link_confirm_select(c->link, 1, &e));
    case_queue(c, 1, queue);
}

static size_t publish_some(struct amqp_case *c, size_t n)
{
    for (size_t i = 0; i < n; i++)
        case_publish(c, 1, queue, true, slice_make(message, sizeof(message)));
    return n;
}

/* More and more is published while the broker takes nothing; then it takes all. */
static void backlog_grows_and_goes(struct amqp_case *c, size_t sent, void (*resume)(void))
{
    c->longest_pump_ms = 0;
    while (link_backlog(c->link) < BACKLOG) {
        sent += publish_some(c, 100);
        case_turn(c, 0);
        assert_int_equal(c->down, 0);
    }
    for (int i = 0; i < 50; i++)
        case_turn(c, 10);
    assert_true(link_backlog(c->link) > BACKLOG / 2);
    assert_true(c->confirmed < sent);
    resume();
    CASE_UNTIL(c, c->confirmed == sent);
    assert_int_equal(link_backlog(c->link), 0);
    assert_int_equal(c->nacked + c->returned + c->down, 0);
    assert_true(c->longest_pump_ms < PUMP_MS);
}

static void thaw(void)
{
    broker_signal(SIGCONT);
}

static void a_frozen_broker_holds_no_pump(void **state)
{
    struct amqp_case c;
    char url[300];

    (void)state;
    open_publisher(&c, with(url, sizeof(url), "CELERIAC_TEST_AMQP_URL", "heartbeat=120"));
    broker_signal(SIGSTOP);
    backlog_grows_and_goes(&c, 0, thaw);
    case_close(&c);
}

static void alarm_over(void)
{
    alarm_set("off");
}

static void an_alarm_blocks_and_resumes(void **state)
{
    struct amqp_case c;
    char url[300];

    (void)state;
    open_publisher(&c, with(url, sizeof(url), "CELERIAC_TEST_AMQP_URL", "heartbeat=10"));
    alarm_set("on");
    publish_some(&c, 1);
    CASE_UNTIL(&c, c.blocked == 1);
    assert_int_equal(c.confirmed, 0);
    backlog_grows_and_goes(&c, 1, alarm_over);
    CASE_UNTIL(&c, c.unblocked == 1);
    case_close(&c);
}

/* Nothing but what the deadline asks for keeps it alive. */
static void idle_links_stay_alive(void **state)
{
    int64_t end_ms = clock_mono_ms(clock_system()) + 9000;
    struct amqp_case c;
    char url[300];

    (void)state;
    open_publisher(&c, with(url, sizeof(url), "CELERIAC_TEST_AMQP_URL", "heartbeat=2"));
    while (clock_mono_ms(clock_system()) < end_ms)
        case_turn(&c, 5000);
    case_queue(&c, 1, "another");
    assert_int_equal(c.down, 0);
    case_close(&c);
}

static void silence_ends_the_link(struct amqp_case *c)
{
    int64_t stopped_ms = clock_mono_ms(clock_system());
    struct err e;
    amqp_queue_declare_t declare = {.queue = amqp_cstring_bytes(queue), .passive = 1};

    broker_signal(SIGSTOP);
    c->answers = 0;
    CHECK_OK(
        link_call(c->link, 1, AMQP_QUEUE_DECLARE_METHOD, &declare, case_answered, NULL, 0, &e));
    CASE_UNTIL(c, c->down == 1);
    broker_signal(SIGCONT);
    assert_true(clock_mono_ms(clock_system()) - stopped_ms >= 2000);
    assert_int_equal(c->answers, 1);
    assert_int_equal(c->answer_why.code, ERR_RECONNECT);
    assert_non_null(strstr(c->down_why.text, "no sign of life"));
}

static void silence_is_noticed(void **state)
{
    struct amqp_case c;
    char url[300];

    (void)state;
    open_publisher(&c, with(url, sizeof(url), "CELERIAC_TEST_AMQP_URL", "heartbeat=2"));
    silence_ends_the_link(&c);
    case_close(&c);
}

static void a_frozen_broker_times_out_the_dial(void **state)
{
    struct amqp_dialed dialed;
    struct amqp_case c;
    char url[300];
    struct err e;

    (void)state;
    case_init(&c, with(url, sizeof(url), "CELERIAC_TEST_AMQP_URL", "connection_timeout=1"));
    broker_signal(SIGSTOP);
    e = (struct err)ERR_INIT;
    assert_int_equal(case_dial(&c, 0, &dialed, &e), -1);
    broker_signal(SIGCONT);
    assert_int_equal(e.code, ERR_RECONNECT);
    assert_non_null(strstr(e.text, "no answer to the AMQP greeting"));
    amqp_address_release(&c.address);
}

/* --- TLS --- */

static char *tls_url(char *text, size_t size, const char *host, const char *parameters)
{
    const char *url = offered("CELERIAC_TEST_AMQPS_URL"), *at = strchr(url, '@') + 1;

    snprintf(text, size, "%.*s%s%s?%s", (int)(at - url), url, host, at + strcspn(at, ":"),
             parameters);
    return text;
}

static char *trusted(char *text, size_t size, const char *host, const char *more)
{
    char parameters[300];

    snprintf(parameters, sizeof(parameters), "cacertfile=%s/ca.pem%s",
             offered("CELERIAC_TEST_AMQP_TLS"), more);
    return tls_url(text, size, host, parameters);
}

static size_t entries(const char *directory)
{
    DIR *d = MUST_HAVE(opendir(directory));
    size_t n = 0;

    while (readdir(d))
        n++;
    closedir(d);
    return n;
}

/* Messages of all sizes both ways; then neither thread nor descriptor is left. */
static void tls_carries_everything(void **state)
{
    size_t threads = entries("/proc/self/task"), files, big = 5000000;
    char url[500], *body = calloc(1, big);
    struct amqp_case c;

    (void)state;
    files = entries("/proc/self/fd");
    open_publisher(&c, trusted(url, sizeof(url), "localhost", ""));
    c.ack = true;
    case_consume(&c, 1, queue, 50);
    publish_some(&c, 3000);
    case_publish(&c, 1, queue, true, slice_make(body, big));
    publish_some(&c, 1000);
    CASE_UNTIL(&c, c.confirmed == 4001 && c.delivered == 4001);
    assert_int_equal(c.bytes, 4000 * sizeof(message) + big);
    case_close(&c);
    while (entries("/proc/self/task") > threads || entries("/proc/self/fd") > files)
        poll(NULL, 0, 10); /* ctest's limit ends it */
    free(body);
}

static void tls_holds_no_pump(void **state)
{
    struct amqp_case c;
    char url[500];

    (void)state;
    open_publisher(&c, trusted(url, sizeof(url), "localhost", "&heartbeat=120"));
    broker_signal(SIGSTOP);
    backlog_grows_and_goes(&c, 0, thaw);
    case_close(&c);
    open_publisher(&c, trusted(url, sizeof(url), "127.0.0.1", "&heartbeat=2"));
    silence_ends_the_link(&c);
    case_close(&c);
}

static void check_refused(const char *url, enum err_code code, const char *piece)
{
    struct amqp_dialed dialed;
    struct amqp_case c;
    struct err e;

    case_init(&c, url);
    CHECK_ERR(case_dial(&c, 0, &dialed, &e), code, piece);
    amqp_address_release(&c.address);
}

static void check_accepted(const char *url)
{
    struct amqp_case c;

    case_open(&c, url);
    case_close(&c);
}

static void tls_trusts_only_what_it_should(void **state)
{
    const char *files = offered("CELERIAC_TEST_AMQP_TLS");
    char url[900], more[500];

    (void)state;
    check_accepted(trusted(url, sizeof(url), "localhost", ""));
    check_accepted(trusted(url, sizeof(url), "127.0.0.1", ""));
    check_accepted(tls_url(url, sizeof(url), "127.1", "verify=verify_none"));
    /* the same address under a name that is not in the certificate */
    check_refused(trusted(url, sizeof(url), "127.1", ""), ERR_OPERATOR, "not for \"127.1\"");
    check_refused(tls_url(url, sizeof(url), "localhost", ""), ERR_OPERATOR, "cacertfile=");
    check_refused(tls_url(url, sizeof(url), "localhost", "cacertfile=/nowhere/ca.pem"),
                  ERR_OPERATOR, "\"/nowhere/ca.pem\"");
    snprintf(more, sizeof(more), "&certfile=%s/client.pem&keyfile=%s/client.key", files, files);
    check_accepted(trusted(url, sizeof(url), "localhost", more));
    snprintf(more, sizeof(more), "&certfile=%s/client.pem&keyfile=%s/server.key", files, files);
    check_refused(trusted(url, sizeof(url), "localhost", more), ERR_OPERATOR, "keyfile");
}

/* Each scheme on the other's port. */
static void tls_and_plain_do_not_mix(void **state)
{
    const char *plain = offered("CELERIAC_TEST_AMQP_URL");
    char url[500];

    (void)state;
    snprintf(url, sizeof(url), "amqps%s", plain + strlen("amqp"));
    check_refused(url, ERR_OPERATOR, "does not speak TLS");
    snprintf(url, sizeof(url), "amqp%s?connection_timeout=3",
             offered("CELERIAC_TEST_AMQPS_URL") + strlen("amqps"));
    check_refused(url, ERR_RECONNECT, "amqps://");
}

/* The kernel closes what a killed process had one by one: its port may be the last. */
static void check_gone(const char *url)
{
    struct amqp_dialed dialed;
    struct amqp_case c;
    struct err e = ERR_INIT;
    int64_t give_up_at;

    case_init(&c, url);
    give_up_at = clock_mono_ms(clock_system()) + CASE_LIMIT_MS;
    do {
        assert_int_not_equal(case_dial(&c, 0, &dialed, &e), 0);
        assert_int_equal(e.code, ERR_RECONNECT);
    } while (!strstr(e.text, "refused") && clock_mono_ms(clock_system()) < give_up_at);
    amqp_address_release(&c.address);
    assert_non_null(strstr(e.text, "refused"));
}

/* The last case: nothing is left to log into. */
static void a_killed_broker_is_noticed(void **state)
{
    struct amqp_case c;

    (void)state;
    open_publisher(&c, offered("CELERIAC_TEST_AMQP_URL"));
    publish_some(&c, 10);
    broker_signal(SIGKILL);
    publish_some(&c, 10);
    CASE_UNTIL(&c, c.down == 1);
    assert_int_equal(c.down_why.code, ERR_RECONNECT);
    case_close(&c);
    check_gone(offered("CELERIAC_TEST_AMQP_URL"));
}

/* The next case must find a broker that runs. */
static int let_it_run(void **state)
{
    (void)state;
    broker_signal(SIGCONT);
    return 0;
}

static int let_it_breathe(void **state)
{
    (void)state;
    alarm_set("off");
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(a_frozen_broker_holds_no_pump, let_it_run),
        cmocka_unit_test_teardown(an_alarm_blocks_and_resumes, let_it_breathe),
        cmocka_unit_test(idle_links_stay_alive),
        cmocka_unit_test_teardown(silence_is_noticed, let_it_run),
        cmocka_unit_test_teardown(a_frozen_broker_times_out_the_dial, let_it_run),
        cmocka_unit_test(tls_carries_everything),
        cmocka_unit_test_teardown(tls_holds_no_pump, let_it_run),
        cmocka_unit_test(tls_trusts_only_what_it_should),
        cmocka_unit_test(tls_and_plain_do_not_mix),
        cmocka_unit_test(a_killed_broker_is_noticed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
