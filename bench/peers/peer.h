/*
 * peer.h - what the programs in C of bench/peers share; see peer.py for how they are called.
 *
 * Model: one process is a producer or one runner. A runner counts what it has done in eight bytes
 * of a mapped file that the driver reads. Fork rule: none forks.
 */
#ifndef PEERS_PEER_H
#define PEERS_PEER_H

#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

static inline void peer_die(const char *what)
{
    perror(what);
    exit(1);
}

static inline const char *peer_env(const char *name)
{
    const char *text = getenv(name);

    if (!text) {
        fprintf(stderr, "%s is not set: started by bench/peers/run\n", name);
        exit(2);
    }
    return text;
}

static inline double peer_clock(clockid_t which)
{
    struct timespec ts;

    clock_gettime(which, &ts);
    return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

static inline double peer_now(void)
{
    return peer_clock(CLOCK_MONOTONIC);
}

/* Uses so much CPU as a burning task is told to. */
static inline void peer_burn(void)
{
    double end = peer_clock(CLOCK_THREAD_CPUTIME_ID) + strtod(peer_env("PEER_BURN_S"), NULL);

    while (peer_clock(CLOCK_THREAD_CPUTIME_ID) < end)
        continue;
}

/* The counter of this process. */
static inline volatile uint64_t *peer_done(void)
{
    char path[4096];
    void *at;
    int fd;

    snprintf(path, sizeof(path), "%s.%d", peer_env("PEER_DONE"), (int)getpid());
    fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0 || ftruncate(fd, sizeof(uint64_t)) < 0)
        peer_die(path);
    at = mmap(NULL, sizeof(uint64_t), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (at == MAP_FAILED)
        peer_die("mmap");
    close(fd);
    return at;
}

/* The message: its task and so many bytes as messages have. */
static inline char *peer_message(const char *task, size_t *len)
{
    char *text;

    *len = (size_t)strtoul(peer_env("PEER_BYTES"), NULL, 10);
    if (*len < 64)
        *len = 64;
    text = malloc(*len);
    if (!text)
        peer_die("malloc");
    memset(text, 'x', *len);
    memcpy(text, task, strlen(task));
    return text;
}

static inline void peer_perform(const char *message, size_t len)
{
    if (len >= 4 && memcmp(message, "burn", 4) == 0)
        peer_burn();
}

static inline void peer_print_span(double from, double to)
{
    printf("{\"from\": %.9f, \"to\": %.9f}\n", from, to);
}

static inline void peer_print_trips(const double *us, int count)
{
    printf("{\"us\": [");
    for (int i = 0; i < count; i++)
        printf("%s%.1f", i ? ", " : "", us[i]);
    puts("]}");
}

#endif
