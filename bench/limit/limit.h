/*
 * limit.h - what the limit programs share: options, cases, figures.
 *
 * Purpose: a limit program does only the broker's commands that a job needs, with the same number
 * of bytes as Celeriac, in the best way its library offers. What Celeriac adds is measured against
 * it, in the same run on the same machine. Model: a program is a table of cases; limit_main() reads
 * the options, runs every wanted case for every way, batch and repetition, and prints one line of
 * JSON for each figure: minimum, median and maximum of the repetitions. A case that fails ends the
 * program, for a figure of a broken run is worth nothing. The broker is emptied: a program asks for
 * a server of its own. Fork rule: a case may fork; its children leave by _exit().
 */
#ifndef BENCH_LIMIT_H
#define BENCH_LIMIT_H

#include "base/clock.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define LIMIT_BATCH_MAX 256
#define LIMIT_ID_SIZE   37
#define LIMIT_FIGURES   4

/* One run of one case. */
struct limit_run {
    const char *url;
    const char *way; /* of the case's ways; NULL when it has none */
    int64_t jobs;
    int64_t trips; /* round trips, where the case is about these */
    int batch;
    const char *envelope; /* borrowed: JSON as long as a message of ours */
    size_t envelope_len;
    const char *result; /* borrowed: a result document */
    size_t result_len;
};

struct limit_figure {
    const char *name;
    const char *unit; /* NULL ends a case's figures */
};

struct limit_case {
    const char *name;
    const char *const *ways; /* ends with NULL; NULL: there is one */
    bool batched;            /* once for each batch, else once */
    struct limit_figure figures[LIMIT_FIGURES];
    void (*run)(const struct limit_run *run, double *values); /* one value per figure */
};

struct limit_program {
    const char *broker; /* "redis" */
    const char *usage;  /* what URL looks like */
    const struct limit_case *cases;
    size_t cases_len;
};

int limit_main(const struct limit_program *program, int argc, char **argv);

/* Runs body in a child, as a producer or a worker would be a process of its own; and waits until it
 * has done so. */
pid_t limit_spawn(void (*body)(const struct limit_run *), const struct limit_run *run);
void limit_join(pid_t pid);

/* Says why on stderr and ends the process. */
void limit_die(const char *format, ...) __attribute__((format(printf, 1, 2), noreturn));

/* The id of job n: as scattered as a random one. */
void limit_id(char id[LIMIT_ID_SIZE], int64_t n);

/* Per second, since clock_nano() was since_ns. */
double limit_rate(int64_t n, int64_t since_ns);

/* Sorts the n values; LIMIT_TRIP_FIGURES in its order. */
void limit_percentiles(double *us, size_t n, double *values);
#define LIMIT_TRIP_FIGURES                                                                         \
    {                                                                                              \
        {"limit_round_trip_p50", "us"}, {"limit_round_trip_p99", "us"},                            \
        {                                                                                          \
            "limit_round_trip_p999", "us"                                                          \
        }                                                                                          \
    }

#endif
