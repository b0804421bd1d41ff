/*
 * Round trips of one no-op job, one at a time: send, wait for the result. Prints one JSON line.
 * usage: roundtrip URL COUNT
 */
#include "client/celeriac.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

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

static int one_trip(struct celeriac *c, double *us, struct celeriac_error *err)
{
    struct celeriac_task_options how = CELERIAC_TASK_OPTIONS_INIT;
    char id[CELERIAC_ID_SIZE];
    char *document = NULL;
    double start = now_us();
    int rc = celeriac_send(c, "noop", &how, id, err);

    if (rc == 0)
        rc = celeriac_wait(c, id, 10000, &document, err);
    *us = now_us() - start;
    celeriac_free(document);
    return rc;
}

static int run(struct celeriac *c, double *us, int count, struct celeriac_error *err)
{
    for (int i = 0; i < count; i++) {
        if (one_trip(c, &us[i], err) < 0)
            return -1;
    }
    qsort(us, (size_t)count, sizeof(us[0]), by_value);
    printf(
        "{\"count\": %d, \"min_us\": %.0f, \"p50_us\": %.0f, \"p99_us\": %.0f, \"max_us\": %.0f}\n",
        count, us[0], us[count / 2], us[count * 99 / 100], us[count - 1]);
    return 0;
}

int main(int argc, char **argv)
{
    struct celeriac_error err = {CELERIAC_OK, ""};
    int count = argc == 3 ? (int)strtol(argv[2], NULL, 10) : 0;
    double *us = count > 0 ? calloc((size_t)count, sizeof(*us)) : NULL;
    struct celeriac *c;
    int rc = -1;

    if (!us) {
        fputs("usage: roundtrip URL COUNT\n", stderr);
        return 2;
    }
    c = celeriac_open(argv[1], NULL, &err);
    if (c)
        rc = run(c, us, count, &err);
    if (rc < 0)
        fprintf(stderr, "roundtrip: %s\n", err.text);
    celeriac_close(c);
    free(us);
    return rc < 0;
}
