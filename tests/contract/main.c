/*
 * Runs every case of the contract on one backend. usage: contract BACKEND
 *
 * Fork rule: the case of a killed holder forks with no broker open.
 */
#include "contract.h"
#include "rabbitmq_server.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define CASES_MAX 150

struct backend {
    const char *name;
    const char *url;        /* %s: the directory of the case */
    const char *result_url; /* likewise; "" for none */
    bool durable;
    bool fake_clock;
    bool trace;
    bool redis;
    bool rabbitmq; /* url comes from the server that the tests share */
    unsigned lacks;
};

static const struct backend backends[] = {
    {.name = "memory",
     .url = "memory:%s",
     .result_url = "",
     .fake_clock = true,
     .lacks = LACKS_DROP},
    {.name = "sqlite", .url = "sqlite:%s/queue.db", .result_url = "", .durable = true},
    {.name = "redis",
     .url = "redis+socket://%s/redis.sock",
     .result_url = "",
     .durable = true,
     .redis = true},
    {.name = "amqp",
     .url = "",
     .result_url = "",
     .durable = true,
     .rabbitmq = true,
     .lacks = LACKS_LEASES | LACKS_PRIORITY | LACKS_ATOMIC_FINISH | LACKS_DELAY_VIEW |
              LACKS_LASTING_NODES},
    {.name = "redis-db",
     .url = "redis+socket://%s/redis.sock",
     .result_url = "redis+socket://%s/redis.sock?virtual_host=1",
     .durable = true,
     .redis = true},
    {.name = "trace",
     .url = "memory:%s",
     .result_url = "",
     .fake_clock = true,
     .trace = true,
     .lacks = LACKS_DROP},
    {.name = "split",
     .url = "memory:%s",
     .result_url = "memory:results-%s",
     .fake_clock = true,
     .lacks = LACKS_DROP},
};

static const struct contract_row *const suites[] = {suite_publish, suite_lease,   suite_finish,
                                                    suite_claim,   suite_results, suite_operators,
                                                    suite_many};

static void wait_for_redis(const char *socket)
{
    const struct timespec step = {0, 10000000};

    for (int i = 0; i < 1000 && access(socket, F_OK) != 0; i++)
        nanosleep(&step, NULL);
    assert_int_equal(access(socket, F_OK), 0);
}

static void start_redis(struct contract_env *env)
{
    char socket[128];

    snprintf(socket, sizeof(socket), "%s/redis.sock", env->dir);
    env->redis_pid = fork();
    if (env->redis_pid == 0) {
        if (!freopen("/dev/null", "w", stdout))
            _exit(127);
        execlp("redis-server", "redis-server", "--port", "0", "--unixsocket", socket, "--save", "",
               "--dir", env->dir, (char *)NULL);
        _exit(127);
    }
    wait_for_redis(socket);
}

static struct contract_env *env_new(const struct backend *backend)
{
    struct contract_env *env = calloc(1, sizeof(*env));

    assert_non_null(env);
    env->backend = backend->name;
    env->durable = backend->durable;
    env->trace = backend->trace;
    env->lacks = backend->lacks;
    strcpy(env->dir, "/tmp/celeriac-contract-XXXXXX");
    assert_non_null(mkdtemp(env->dir));
    /* The formats are the constants of the table above. */
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
    snprintf(env->url, sizeof(env->url), backend->url, env->dir);
    snprintf(env->result_url, sizeof(env->result_url), backend->result_url, env->dir);
#pragma GCC diagnostic pop
    clock_fake_init(&env->fake, 1795000000000);
    env->clock = backend->fake_clock ? &env->fake.base : clock_system();
    env->split = backend->result_url[0] != '\0' && !backend->redis; /* two databases are one step */
    if (backend->redis)
        start_redis(env);
    if (backend->rabbitmq && rabbitmq_fresh_url(env->url, sizeof(env->url)) != 0)
        fail_msg("no rabbitmq-server: run below tests/support/with_rabbitmq.py");
    return env;
}

static void env_free(struct contract_env *env)
{
    char command[128];

    while (env->peers_len)
        peer_close(env->peers[0], false);
    if (env->redis_pid > 0) {
        kill(env->redis_pid, SIGTERM);
        waitpid(env->redis_pid, NULL, 0);
    }
    snprintf(command, sizeof(command), "rm -rf '%s'", env->dir);
    if (system(command) != 0) /* NOLINT(cert-env33-c): our own words */
        fprintf(stderr, "could not remove %s\n", env->dir);
    free(env);
}

/* What cmocka hands to a test: which case, on which backend, and its fresh store. */
struct slot {
    const struct backend *backend;
    const struct contract_row *row;
    struct contract_env *env;
};

static int slot_set_up(void **state)
{
    struct slot *slot = *state;

    slot->env = env_new(slot->backend);
    return 0;
}

static int slot_tear_down(void **state)
{
    struct slot *slot = *state;

    env_free(slot->env);
    return 0;
}

static void slot_run(void **state)
{
    struct slot *slot = *state;

    slot->row->run(slot->env);
}

static const struct backend *find_backend(const char *name)
{
    for (size_t i = 0; i < sizeof(backends) / sizeof(backends[0]); i++) {
        if (strcmp(backends[i].name, name) == 0)
            return &backends[i];
    }
    return NULL;
}

static size_t add_tests(const struct backend *backend, const char *only, struct slot *slots,
                        struct CMUnitTest *tests)
{
    size_t n = 0;

    for (size_t s = 0; s < sizeof(suites) / sizeof(suites[0]); s++) {
        for (const struct contract_row *row = suites[s]; row->name && n < CASES_MAX; row++) {
            if (only && !strstr(row->name, only))
                continue;
            slots[n] = (struct slot){backend, row, NULL};
            tests[n] =
                (struct CMUnitTest){row->name, slot_run, slot_set_up, slot_tear_down, &slots[n]};
            n++;
        }
    }
    return n;
}

int main(int argc, char **argv)
{
    static struct slot slots[CASES_MAX];
    static struct CMUnitTest tests[CASES_MAX];
    const struct backend *backend = argc > 1 ? find_backend(argv[1]) : NULL;
    size_t n;

    if (!backend) {
        fputs("usage: contract memory|sqlite|redis|redis-db|amqp|trace|split [PART OF A CASE'S "
              "NAME]\n",
              stderr);
        return 2;
    }
    n = add_tests(backend, argc > 2 ? argv[2] : NULL, slots, tests);
    return _cmocka_run_group_tests(backend->name, tests, n, NULL, NULL);
}
