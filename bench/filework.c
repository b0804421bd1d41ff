/*
 * The work of a task over files without a queue: runs a built-in task of one argument, a path, for
 * each line of standard input, in PROCESSES that take the next path as soon as they are free. What
 * this takes with one process and with two is what the machine can do. Prints one JSON line: the
 * seconds from the first start to the last end, and how many files it was.
 * usage: filework TASK PROCESSES < PATHS
 */
#include "base/analyzer.h"
#include "base/clock.h"
#include "tasks/builtin.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define PATHS_MAX 1000000

struct work {
    const struct celeriac_task *row;
    char **paths;
    size_t paths_len;
    atomic_size_t *next; /* shared by the processes */
};

static int never(struct celeriac_call *call)
{
    (void)call;
    return 0;
}

static int take_value(struct celeriac_call *call, json_t *value)
{
    (void)call;
    json_decref(value);
    return 0;
}

static int take_failure(struct celeriac_call *call, const char *type, const char *module,
                        json_t *message, const char *traceback)
{
    (void)module;
    (void)traceback;
    fprintf(stderr, "filework: %s: %s: %s\n", json_string_value(json_array_get(call->args, 0)),
            type, json_string_value(message));
    json_decref(message);
    exit(1);
}

static const struct celeriac_task *task_named(const char *name)
{
    for (size_t i = 0; builtin_table(i).rows != NULL; i++) {
        const struct celeriac_task *rows = builtin_table(i).rows;

        for (size_t k = 0; k < builtin_table(i).len; k++)
            if (strcmp(rows[k].name, name) == 0)
                return &rows[k];
    }
    return NULL;
}

static void work_on(const struct work *work)
{
    static const struct celeriac_call_fns fns = {
        .size = sizeof(fns), .cancelled = never, .ok = take_value, .fail = take_failure};
    size_t i;

    while ((i = atomic_fetch_add(work->next, 1)) < work->paths_len) {
        struct celeriac_call call = {.size = sizeof(call), .fn = &fns, .task = work->row->name};

        call.args = json_pack("[s]", work->paths[i]);
        if (call.args == NULL || work->row->run(&call) != 0)
            exit(1);
        json_decref(call.args);
    }
}

static int run(const struct work *work, long processes)
{
    int failed = 0, status;

    for (long i = 0; i < processes; i++) {
        pid_t pid = fork();

        if (pid == 0) {
            work_on(work);
            _exit(0);
        }
        failed |= pid < 0;
    }
    while (wait(&status) > 0)
        failed |= status;
    return failed ? -1 : 0;
}

/* The array holds the lines. */
ANALYZER_LOSES_SIGHT
static int read_paths(struct work *work)
{
    size_t cap = 0;
    char *line = NULL;
    ssize_t len;
    bool complete;

    work->paths = calloc(PATHS_MAX, sizeof(*work->paths));
    while (work->paths != NULL && work->paths_len < PATHS_MAX &&
           (len = getline(&line, &cap, stdin)) > 0) {
        line[len - (line[len - 1] == '\n')] = '\0';
        work->paths[work->paths_len] = strdup(line);
        if (work->paths[work->paths_len] == NULL)
            break;
        work->paths_len++;
    }
    complete = work->paths != NULL && (feof(stdin) || work->paths_len == PATHS_MAX);
    free(line);
    return complete ? 0 : -1;
}
ANALYZER_SEES_AGAIN

static void release(struct work *work)
{
    for (size_t i = 0; i < work->paths_len; i++)
        free(work->paths[i]);
    free(work->paths);
    munmap(work->next, sizeof(*work->next));
}

static int out_of_memory(void)
{
    fputs("filework: out of memory\n", stderr);
    return 1;
}

int main(int argc, char **argv)
{
    struct work work = {.row = argc == 3 ? task_named(argv[1]) : NULL};
    long processes = argc == 3 ? strtol(argv[2], NULL, 10) : 0;
    int64_t since_ns;
    int rc;

    if (work.row == NULL || processes < 1) {
        fputs("usage: filework TASK PROCESSES < PATHS\n", stderr);
        return 2;
    }
    work.next =
        mmap(NULL, sizeof(*work.next), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (work.next == MAP_FAILED)
        return out_of_memory();
    if (read_paths(&work) != 0) {
        release(&work);
        return out_of_memory();
    }
    since_ns = clock_nano();
    rc = run(&work, processes);
    if (rc == 0)
        printf("{\"s\": %.6f, \"files\": %zu}\n", (double)(clock_nano() - since_ns) / 1e9,
               work.paths_len);
    release(&work);
    return rc == 0 ? 0 : 1;
}
