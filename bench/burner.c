/*
 * The work of CPU-bound jobs without a queue: work.burn's, US microseconds of CPU time TASKS times,
 * shared by PROCESSES that run at once. What this takes with one process and with two is what the
 * machine can do. Prints one JSON line: the seconds from the first start to the last end.
 * usage: burner US TASKS PROCESSES
 */
#include "base/clock.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define BETWEEN_ASKS 500

static int64_t cpu_ns(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &ts);
    return (int64_t)ts.tv_sec * 1000000000 + ts.tv_nsec;
}

static void task(long us)
{
    int64_t end = cpu_ns() + us * 1000;
    volatile unsigned state = 1;

    while (cpu_ns() < end) {
        for (int i = 0; i < BETWEEN_ASKS; i++)
            state = state * 1664525U + 1013904223U;
    }
}

static int start(long us, long tasks)
{
    pid_t pid = fork();

    if (pid != 0)
        return pid < 0 ? -1 : 0;
    for (long i = 0; i < tasks; i++)
        task(us);
    _exit(0);
}

static int run(long us, long tasks, long processes)
{
    int failed = 0, status;

    for (long i = 0; i < processes; i++)
        failed |= start(us, tasks / processes + (i < tasks % processes));
    while (wait(&status) > 0)
        failed |= status;
    return failed ? -1 : 0;
}

int main(int argc, char **argv)
{
    long v[3] = {0};
    int64_t since_ns = clock_nano();

    for (int i = 0; i < 3 && i + 1 < argc; i++)
        v[i] = strtol(argv[i + 1], NULL, 10);
    if (argc != 4 || v[0] < 1 || v[1] < 1 || v[2] < 1) {
        fputs("usage: burner US TASKS PROCESSES\n", stderr);
        return 2;
    }
    if (run(v[0], v[1], v[2]) < 0) {
        fputs("burner: a process failed\n", stderr);
        return 1;
    }
    printf("{\"s\": %.6f}\n", (double)(clock_nano() - since_ns) / 1e9);
    return 0;
}
