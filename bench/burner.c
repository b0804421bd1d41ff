/*
 * The work of CPU-bound jobs without a queue: hash.sha256's, TASKS times, shared by PROCESSES that
 * run at once. What this takes with one process and with two is what the machine can do. Prints one
 * JSON line: the seconds from the first start to the last end.
 * usage: burner ROUNDS TASKS PROCESSES
 */
#include "base/clock.h"

#include <nettle/sha2.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

static void task(long rounds)
{
    uint8_t digest[SHA256_DIGEST_SIZE] = {'x'};

    for (long i = 0; i < rounds; i++) {
        struct sha256_ctx ctx;

        sha256_init(&ctx);
        sha256_update(&ctx, sizeof(digest), digest);
        sha256_digest(&ctx, sizeof(digest), digest);
    }
}

static int start(long rounds, long tasks)
{
    pid_t pid = fork();

    if (pid != 0)
        return pid < 0 ? -1 : 0;
    for (long i = 0; i < tasks; i++)
        task(rounds);
    _exit(0);
}

static int run(long rounds, long tasks, long processes)
{
    int failed = 0, status;

    for (long i = 0; i < processes; i++)
        failed |= start(rounds, tasks / processes + (i < tasks % processes));
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
        fputs("usage: burner ROUNDS TASKS PROCESSES\n", stderr);
        return 2;
    }
    if (run(v[0], v[1], v[2]) < 0) {
        fputs("burner: a process failed\n", stderr);
        return 1;
    }
    printf("{\"s\": %.6f}\n", (double)(clock_nano() - since_ns) / 1e9);
    return 0;
}
