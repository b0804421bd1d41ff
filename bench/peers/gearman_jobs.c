/* The Gearman program of bench/peers: a runner, and the producer; see peer.h. */
#include "peer.h"

#include <libgearman/gearman.h>

#define BULK 256

static void check(gearman_return_t rc, const char *what)
{
    if (gearman_success(rc))
        return;
    fprintf(stderr, "gearman: %s: %s\n", what, gearman_strerror(rc));
    exit(1);
}

static in_port_t port(void)
{
    return (in_port_t)strtoul(peer_env("PEER_SERVER"), NULL, 10);
}

static gearman_client_st *connect_client(void)
{
    gearman_client_st *client = gearman_client_create(NULL);

    if (!client)
        peer_die("gearman_client_create");
    check(gearman_client_add_server(client, "127.0.0.1", port()), "add server");
    check(gearman_client_echo(client, "x", 1), "echo");
    return client;
}

/* --- runner --- */

static gearman_return_t perform(gearman_job_st *job, void *context)
{
    volatile uint64_t *done = context;

    peer_perform(gearman_job_workload(job), gearman_job_workload_size(job));
    ++*done;
    return GEARMAN_SUCCESS;
}

static int work(void)
{
    gearman_worker_st *worker = gearman_worker_create(NULL);
    gearman_return_t rc;

    if (!worker)
        peer_die("gearman_worker_create");
    check(gearman_worker_add_server(worker, "127.0.0.1", port()), "add server");
    check(gearman_worker_define_function(worker, "bench", 5, gearman_function_create(perform), 0,
                                         (void *)(uintptr_t)peer_done()),
          "define function");
    do
        rc = gearman_worker_work(worker);
    while (gearman_success(rc));
    check(rc, "work");
    return 0;
}

/* --- producer --- */

static void send_one(gearman_client_st *client, const char *message, size_t len)
{
    char handle[GEARMAN_JOB_HANDLE_SIZE];

    check(gearman_client_do_background(client, "bench", NULL, message, len, handle),
          "background job");
}

static void send_some(gearman_client_st *client, const char *message, size_t len, int n)
{
    gearman_return_t rc;

    for (int i = 0; i < n; i++) {
        if (!gearman_client_add_task_background(client, NULL, NULL, "bench", NULL, message, len,
                                                &rc))
            check(rc, "add task");
    }
    check(gearman_client_run_tasks(client), "run tasks");
    gearman_client_task_free_all(client);
}

static int produce(const char *task, int count, const char *how)
{
    gearman_client_st *client = connect_client();
    size_t len;
    char *message = peer_message(task, &len);
    int step = strcmp(how, "bulk") == 0 ? BULK : 1;
    double from = peer_now();

    for (int i = 0; i < count; i += step) {
        if (step == 1)
            send_one(client, message, len);
        else
            send_some(client, message, len, count - i < step ? count - i : step);
    }
    peer_print_span(from, peer_now());
    gearman_client_free(client);
    free(message);
    return 0;
}

static int trips(int count)
{
    gearman_client_st *client = connect_client();
    double *us = calloc((size_t)count, sizeof(*us));
    size_t len, result_len;
    char *message = peer_message("noop", &len);
    gearman_return_t rc;

    if (!us)
        peer_die("calloc");
    for (int i = 0; i < count; i++) {
        double start = peer_now();

        free(gearman_client_do(client, "bench", NULL, message, len, &result_len, &rc));
        check(rc, "job");
        us[i] = (peer_now() - start) * 1e6;
    }
    peer_print_trips(us, count);
    gearman_client_free(client);
    free(message);
    free(us);
    return 0;
}

int main(int argc, char **argv)
{
    if (argc == 2 && strcmp(argv[1], "worker") == 0)
        return work();
    if (argc == 3 && strcmp(argv[1], "trips") == 0)
        return trips((int)strtol(argv[2], NULL, 10));
    if (argc == 5 && strcmp(argv[1], "produce") == 0)
        return produce(argv[2], (int)strtol(argv[3], NULL, 10), argv[4]);
    fputs("usage: gearman_jobs worker | trips COUNT | produce TASK COUNT single|bulk\n", stderr);
    return 2;
}
