/*
 * One no-op job at a time: its round trip (send, wait for the result), or its confirmed sending
 * alone; `many` sends MANY in one call. Prints one JSON line.
 * usage: roundtrip URL COUNT [quantiles|trips|send|many [ARGS_JSON]]
 */
#include "client/celeriac.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

struct bench {
    struct celeriac *c;
    const char *args; /* JSON, or NULL */
    int count;
    double *us; /* of each */
    double from_s, to_s;
};

static double now_us(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (double)ts.tv_sec * 1e6 + (double)ts.tv_nsec / 1e3;
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

static int one(const struct bench *b, bool wait, double *us, struct celeriac_error *err)
{
    struct celeriac_task_options how = CELERIAC_TASK_OPTIONS_INIT;
    char id[CELERIAC_ID_SIZE];
    char *document = NULL;
    double start = now_us();
    int rc;

    how.args_json = b->args;
    rc = celeriac_send(b->c, "noop", &how, id, err);
    if (rc == 0 && wait)
        rc = celeriac_wait(b->c, id, 10000, &document, err);
    *us = now_us() - start;
    celeriac_free(document);
    return rc;
}

static int run(struct bench *b, bool wait, struct celeriac_error *err)
{
    b->from_s = now_us() / 1e6;
    for (int i = 0; i < b->count; i++) {
        if (one(b, wait, &b->us[i], err) < 0)
            return -1;
    }
    b->to_s = now_us() / 1e6;
    qsort(b->us, (size_t)b->count, sizeof(b->us[0]), by_value);
    return 0;
}

#define MANY 1000

static int run_many(struct bench *b, bool wait, struct celeriac_error *err)
{
    static char ids[MANY][CELERIAC_ID_SIZE];
    const struct celeriac_task_options *options[MANY];
    const char *tasks[MANY];
    struct celeriac_task_options how = CELERIAC_TASK_OPTIONS_INIT;
    int rc = 0;

    (void)wait;
    how.args_json = b->args;
    for (int i = 0; i < MANY; i++) {
        tasks[i] = "noop";
        options[i] = &how;
    }
    b->from_s = now_us() / 1e6;
    for (int done = 0; done < b->count && rc == 0; done += MANY) {
        int n = b->count - done < MANY ? b->count - done : MANY;

        rc = celeriac_send_many(b->c, tasks, options, (size_t)n, ids, err);
    }
    b->to_s = now_us() / 1e6;
    return rc;
}

/* --- what is printed --- */

static void print_quantiles(const struct bench *b)
{
    printf("{\"count\": %d, \"min_us\": %.0f, \"p50_us\": %.0f, \"p99_us\": %.0f, \"max_us\": "
           "%.0f}\n",
           b->count, b->us[0], b->us[b->count / 2], b->us[b->count * 99 / 100],
           b->us[b->count - 1]);
}

static void print_trips(const struct bench *b)
{
    printf("{\"us\": [");
    for (int i = 0; i < b->count; i++)
        printf("%s%.1f", i > 0 ? ", " : "", b->us[i]);
    puts("]}");
}

static void print_span(const struct bench *b)
{
    printf("{\"from\": %.9f, \"to\": %.9f}\n", b->from_s, b->to_s);
}

static const struct mode {
    const char *name;
    bool wait;
    int (*run)(struct bench *b, bool wait, struct celeriac_error *err);
    void (*print)(const struct bench *b);
} modes[] = {
    {"quantiles", true, run, print_quantiles},
    {"trips", true, run, print_trips},
    {"send", false, run, print_span},
    {"many", false, run_many, print_span},
};

static const struct mode *mode_of(const char *name)
{
    for (size_t i = 0; i < sizeof(modes) / sizeof(modes[0]); i++) {
        if (strcmp(modes[i].name, name) == 0)
            return &modes[i];
    }
    return NULL;
}

int main(int argc, char **argv)
{
    struct celeriac_error err = {CELERIAC_OK, ""};
    const struct mode *mode = mode_of(argc > 3 ? argv[3] : "quantiles");
    struct bench b = {.args = argc > 4 ? argv[4] : NULL,
                      .count = argc > 2 ? (int)strtol(argv[2], NULL, 10) : 0};
    int rc = -1;

    b.us = b.count > 0 && mode ? calloc((size_t)b.count, sizeof(*b.us)) : NULL;
    if (!b.us) {
        fputs("usage: roundtrip URL COUNT [quantiles|trips|send|many [ARGS_JSON]]\n", stderr);
        return 2;
    }
    b.c = celeriac_open(argv[1], NULL, &err);
    if (b.c)
        rc = mode->run(&b, mode->wait, &err);
    if (rc < 0)
        fprintf(stderr, "roundtrip: %s\n", err.text);
    else
        mode->print(&b);
    celeriac_close(b.c);
    free(b.us);
    return rc < 0;
}
