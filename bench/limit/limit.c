#include "bench/limit/limit.h"

#include <getopt.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define REPEAT_MAX  100
#define BATCHES_MAX 8

struct options {
    struct limit_run run;
    const char *only; /* case; NULL: all */
    const char *way;  /* NULL: all */
    int repeat;
    int batches[BATCHES_MAX];
    size_t batches_len;
};

void limit_die(const char *format, ...)
{
    va_list ap;

    va_start(ap, format);
    fputs("limit: ", stderr);
    vfprintf(stderr, format, ap);
    fputc('\n', stderr);
    va_end(ap);
    _exit(1);
}

void limit_id(char id[LIMIT_ID_SIZE], int64_t n)
{
    uint64_t h = ((uint64_t)n + 1) * 0x9e3779b97f4a7c15u;

    snprintf(id, LIMIT_ID_SIZE, "%08x-%04x-4000-8000-%012" PRIx64, (unsigned)(h >> 32),
             (unsigned)(h >> 16) & 0xffff, (uint64_t)n & 0xffffffffffffu);
}

double limit_rate(int64_t n, int64_t since_ns)
{
    return (double)n * 1e9 / (double)(clock_nano() - since_ns);
}

pid_t limit_spawn(void (*body)(const struct limit_run *), const struct limit_run *run)
{
    pid_t pid = fork();

    if (pid < 0)
        limit_die("fork failed");
    if (pid == 0) {
        body(run);
        _exit(0);
    }
    return pid;
}

void limit_join(pid_t pid)
{
    int status;

    if (waitpid(pid, &status, 0) != pid || status != 0)
        limit_die("a child failed");
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

void limit_percentiles(double *us, size_t n, double *values)
{
    qsort(us, n, sizeof(us[0]), by_value);
    values[0] = us[n / 2];
    values[1] = us[n * 99 / 100];
    values[2] = us[n * 999 / 1000];
}

/* --- bytes like ours --- */

static const char head[] = "{\"body\": \"";
static const char tail[] =
    "\", \"content-encoding\": \"utf-8\", \"content-type\": \"application/json\", \"headers\": "
    "{\"lang\": \"py\", \"task\": \"noop\", \"id\": \"01a1fd8b-8d76-74cf-8b3a-1c7bb9f1019c\", "
    "\"retries\": 0}, \"properties\": {\"correlation_id\": "
    "\"01a1fd8b-8d76-74cf-8b3a-1c7bb9f1019c\", \"delivery_mode\": 2, \"delivery_info\": "
    "{\"exchange\": \"\", \"routing_key\": \"celery\"}, \"priority\": 0, \"body_encoding\": "
    "\"base64\", \"delivery_tag\": \"d778e72b-ab93-4fa9-9096-25229b31f5ae\"}}";
static const char result_head[] = "{\"status\": \"SUCCESS\", \"result\": null, \"traceback\": "
                                  "null, \"children\": [], \"celeriac\": \"";
static const char result_tail[] = "\"}";

/* front, filler, back: len bytes. */
static char *text_of(size_t len, const char *front, const char *back, const char *what)
{
    size_t fixed = strlen(front) + strlen(back);
    char *text = malloc(len + 1);

    if (!text || len < fixed)
        limit_die("%s has at least %zu bytes", what, fixed);
    memset(text, 'A', len);
    memcpy(text, front, strlen(front));
    memcpy(text + len - strlen(back), back, strlen(back) + 1);
    return text;
}

/* --- options --- */

static int64_t number(const char *text, int64_t max)
{
    char *end;
    int64_t n = strtoll(text, &end, 10);

    if (*end || n < 1 || n > max)
        limit_die("%s is no number from 1 to %lld", text, (long long)max);
    return n;
}

static void show_usage(const struct limit_program *program)
{
    printf("usage: limit_%s [OPTION]... %s\n"
           "  --case NAME   only this one:",
           program->broker, program->usage);
    for (size_t i = 0; i < program->cases_len; i++)
        printf(" %s", program->cases[i].name);
    puts("\n  --way NAME    only this way, where a case has several\n"
         "  --batch N     may be repeated; 1, 16, 64 and 256 if it is not given\n"
         "  --jobs N      100000     --size BYTES    of a message, 1260\n"
         "  --trips N     5000       --result BYTES  of a result, 381\n"
         "  --repeat N    1: minimum, median and maximum of so many runs\n"
         "The server's database is emptied: give it one of its own.");
}

static void parse_option(struct options *o, const struct limit_program *program, int letter)
{
    switch (letter) {
    case 'c':
        o->only = optarg;
        break;
    case 'w':
        o->way = optarg;
        break;
    case 'b':
        if (o->batches_len == BATCHES_MAX)
            limit_die("at most %d batches", BATCHES_MAX);
        o->batches[o->batches_len++] = (int)number(optarg, LIMIT_BATCH_MAX);
        break;
    case 'j':
        o->run.jobs = number(optarg, 1000000000);
        break;
    case 't':
        o->run.trips = number(optarg, 10000000);
        break;
    case 's':
        o->run.envelope_len = (size_t)number(optarg, 1 << 26);
        break;
    case 'r':
        o->run.result_len = (size_t)number(optarg, 1 << 26);
        break;
    case 'n':
        o->repeat = (int)number(optarg, REPEAT_MAX);
        break;
    case 'h':
        show_usage(program);
        exit(0);
    default:
        exit(2);
    }
}

static void parse(struct options *o, const struct limit_program *program, int argc, char **argv)
{
    static const struct option longs[] = {{"case", 1, NULL, 'c'},   {"way", 1, NULL, 'w'},
                                          {"batch", 1, NULL, 'b'},  {"jobs", 1, NULL, 'j'},
                                          {"trips", 1, NULL, 't'},  {"size", 1, NULL, 's'},
                                          {"result", 1, NULL, 'r'}, {"repeat", 1, NULL, 'n'},
                                          {"help", 0, NULL, 'h'},   {NULL, 0, NULL, 0}};
    static const int batches[] = {1, 16, 64, 256};
    int letter;

    while ((letter = getopt_long(argc, argv, "h", longs, NULL)) != -1)
        parse_option(o, program, letter);
    if (optind != argc - 1) {
        show_usage(program);
        exit(2);
    }
    o->run.url = argv[optind];
    if (o->batches_len == 0) {
        memcpy(o->batches, batches, sizeof(batches));
        o->batches_len = sizeof(batches) / sizeof(batches[0]);
    }
    o->run.envelope = text_of(o->run.envelope_len, head, tail, "a message");
    o->run.result = text_of(o->run.result_len, result_head, result_tail, "a result");
}

/* --- running --- */

static void print(const struct limit_program *program, const struct limit_case *c,
                  const struct limit_run *run, size_t figure, const double *values, int n)
{
    double sorted[REPEAT_MAX];
    int digits;

    memcpy(sorted, values, sizeof(sorted[0]) * (size_t)n);
    qsort(sorted, (size_t)n, sizeof(sorted[0]), by_value);
    digits = sorted[0] < 100 ? 2 : 0;
    printf("{\"case\": \"%s\", \"broker\": \"%s\", ", c->figures[figure].name, program->broker);
    if (run->way)
        printf("\"way\": \"%s\", ", run->way);
    if (c->batched)
        printf("\"batch\": %d, ", run->batch);
    printf("\"size\": %zu, \"jobs\": %lld, \"unit\": \"%s\", \"min\": %.*f, \"median\": %.*f, "
           "\"max\": %.*f, \"runs\": %d}\n",
           run->envelope_len, (long long)run->jobs, c->figures[figure].unit, digits, sorted[0],
           digits, sorted[n / 2], digits, sorted[n - 1], n);
    fflush(stdout);
}

static void repeat(const struct limit_program *program, const struct limit_case *c,
                   const struct options *o, const struct limit_run *run)
{
    double values[LIMIT_FIGURES][REPEAT_MAX];

    for (int i = 0; i < o->repeat; i++) {
        double once[LIMIT_FIGURES] = {0};

        c->run(run, once);
        for (size_t f = 0; f < LIMIT_FIGURES; f++)
            values[f][i] = once[f];
    }
    for (size_t f = 0; f < LIMIT_FIGURES && c->figures[f].unit; f++)
        print(program, c, run, f, values[f], o->repeat);
}

static int each_batch(const struct limit_program *program, const struct limit_case *c,
                      const struct options *o, const char *way)
{
    struct limit_run run = o->run;

    if (o->way && way && strcmp(o->way, way) != 0)
        return 0;
    run.way = way;
    for (size_t i = 0; i < (c->batched ? o->batches_len : 1); i++) {
        run.batch = c->batched ? o->batches[i] : 1;
        run.jobs = o->run.jobs - o->run.jobs % run.batch;
        if (run.jobs == 0)
            run.jobs = run.batch;
        repeat(program, c, o, &run);
    }
    return 1;
}

int limit_main(const struct limit_program *program, int argc, char **argv)
{
    struct options o = {
        .repeat = 1,
        .run = {.jobs = 100000, .trips = 5000, .envelope_len = 1260, .result_len = 381}};
    int done = 0;

    parse(&o, program, argc, argv);
    for (size_t i = 0; i < program->cases_len; i++) {
        const struct limit_case *c = &program->cases[i];

        if (o.only && strcmp(o.only, c->name) != 0)
            continue;
        if (!c->ways)
            done += each_batch(program, c, &o, NULL);
        for (const char *const *way = c->ways; way && *way; way++)
            done += each_batch(program, c, &o, *way);
    }
    if (!done)
        limit_die("no case of that name and way; see --help");
    free((char *)o.run.envelope);
    free((char *)o.run.result);
    return 0;
}
