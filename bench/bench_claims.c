/*
 * bench_claims URL CASE [N]: what a dedup key costs on RabbitMQ, and whether all agree on who has
 * it.
 *
 *   race [RUNS]      3 dispatchers claim the same 10,000 keys, each in an order of its own, 256 at
 * a time; 10 runs. Every key must have one winner, and all must name the same. rate [N]         3
 * dispatchers claim 30,000 keys of their own each, 256 at a time. latency [N]      one dispatcher
 * claims 2,000 keys, one after another. replay [N]       1,000,000 claims are made; then the time
 * is taken until another dispatcher has read them and made one. Its virtual host should be a fresh
 * one.
 *
 * Each dispatcher is a process with a broker of its own, holding one message. One JSON line per
 * run. Exit status 1: two winners, or none. Fork rule: brokers are opened in the children.
 */
#include "base/clock.h"
#include "broker/broker.h"

#include <poll.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define DISPATCHERS 3
#define KEYS        10000
#define OUTSTANDING 256
#define EVENTS      256
#define NOBODY      255

/* Shared by the processes of a run. */
struct board {
    atomic_int ready;
    double seconds[DISPATCHERS];
    unsigned char winner[DISPATCHERS][KEYS]; /* as each of them was told */
};

struct desk {
    struct broker *b;
    struct broker_receipt receipt;
    int number;
    char id[16];
    long run;
    int answers;
};

static void die(const char *what)
{
    fprintf(stderr, "bench_claims: %s\n", what);
    exit(1);
}

static double since(int64_t began_ns)
{
    return (double)(clock_nano() - began_ns) / 1e9;
}

/* --- one dispatcher --- */

typedef void answered_fn(struct desk *d, int key, bool won, int holder);

static void take(struct desk *d, const struct broker_event *event, answered_fn *answered)
{
    if (event->kind == BROKER_FAILED || event->kind == BROKER_REFUSED)
        die(event->err ? event->err->text : "a claim was refused");
    if (event->kind == BROKER_DELIVERED)
        d->receipt = event->receipt;
    if (event->kind != BROKER_CLAIMED && event->kind != BROKER_DELIVERED &&
        event->kind != BROKER_PUBLISHED)
        return;
    d->answers++;
    if (answered)
        answered(d, (int)event->tag, (event->flags & BROKER_WON) != 0,
                 event->id.len ? event->id.ptr[event->id.len - 1] - '0' : NOBODY);
}

/* Works until so many answers came in all. */
static void pump(struct desk *d, int until, answered_fn *answered)
{
    while (d->answers < until) {
        struct broker_event events[EVENTS];
        struct pollfd fds[8];
        int64_t wait_ms;
        int n = broker_poll(d->b, events, EVENTS);

        for (int i = 0; i < n; i++)
            take(d, &events[i], answered);
        if (n || d->answers >= until)
            continue;
        wait_ms = broker_deadline(d->b) - clock_mono_ms(clock_system());
        n = broker_pollset(d->b, fds, 8);
        poll(fds, (nfds_t)n, wait_ms < 0 ? 0 : wait_ms > 100 ? 100 : (int)wait_ms);
    }
}

/* Every dispatcher holds one message of a queue of its own; it claims any number of keys. */
static void open_desk(struct desk *d, const char *url, long run, int number)
{
    char node[32], queue[48];
    const char *queues[] = {queue};
    struct broker_config config = {.url = url,
                                   .node = node,
                                   .generation = (uint64_t)clock_wall_ms(clock_system()),
                                   .queues = queues,
                                   .queues_len = 1};
    struct broker_message m = {.queue = slice_of(queue), .envelope = slice_of("{}")};
    struct err e = ERR_INIT;

    snprintf(node, sizeof(node), "bench-%ld-%d", run, number);
    snprintf(queue, sizeof(queue), "bench-%ld-%d", run, number);
    *d = (struct desk){.number = number, .run = run};
    snprintf(d->id, sizeof(d->id), "job-%d", number);
    d->b = broker_open(&config, &e);
    m.queue = slice_of(queue);
    if (!d->b || broker_publish(d->b, &m, 1, &e) != 0)
        die(e.text);
    pump(d, 1, NULL);
    broker_credit(d->b, 1);
    pump(d, 2, NULL);
    d->answers = 0;
}

static void ask(struct desk *d, const char *prefix, int key)
{
    char text[64];
    struct broker_claim c = {
        .tag = (uint64_t)key, .receipt = d->receipt, .id = slice_of(d->id), .window_ms = 3600000};
    struct err e = ERR_INIT;

    snprintf(text, sizeof(text), "%ld:%s:%d", d->run, prefix, key);
    c.key = slice_of(text);
    if (broker_claim(d->b, &c, 1, &e) != 0)
        die(e.text);
}

/* n claims, so many of them under way at any time; order NULL: 0, 1, 2, ... */
static double claim_all(struct desk *d, const char *prefix, const int *order, int n,
                        int outstanding, answered_fn *answered)
{
    int64_t began_ns = clock_nano();
    int asked = 0;

    while (d->answers < n) {
        for (; asked < n && asked - d->answers < outstanding; asked++)
            ask(d, prefix, order ? order[asked] : asked);
        pump(d, d->answers + 1, answered);
    }
    return since(began_ns);
}

/* --- several at once --- */

typedef void work_fn(struct desk *d, struct board *board, int n);

static void wait_for_all(struct board *board)
{
    const struct timespec step = {0, 1000000};

    atomic_fetch_add(&board->ready, 1);
    while (atomic_load(&board->ready) < DISPATCHERS)
        nanosleep(&step, NULL);
}

static struct board *run_all(const char *url, long run, work_fn *work, int n)
{
    struct board *board =
        mmap(NULL, sizeof(*board), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    int failed = 0;

    if (board == MAP_FAILED)
        die("no memory");
    memset(board->winner, NOBODY, sizeof(board->winner));
    for (int i = 0; i < DISPATCHERS; i++) {
        if (fork() == 0) {
            struct desk d;

            open_desk(&d, url, run, i);
            work(&d, board, n);
            broker_close(d.b, false);
            _exit(0);
        }
    }
    for (int i = 0; i < DISPATCHERS; i++) {
        int status;

        if (wait(&status) < 0 || status != 0)
            failed++;
    }
    if (failed)
        die("a dispatcher failed");
    return board;
}

/* The board of this process, for answers. */
struct racer {
    struct desk desk; /* first: what the answers come with */
    struct board *board;
};

static void note_winner(struct desk *d, int key, bool won, int holder)
{
    struct racer *r = (struct racer *)d;

    r->board->winner[d->number][key] = (unsigned char)(won ? d->number : holder);
}

static void race(struct desk *d, struct board *board, int n)
{
    struct racer r = {*d, board};
    int order[KEYS] = {0};

    srand((unsigned)(d->run * 7 + d->number));
    for (int i = 0; i < n; i++) {
        int j = rand() % (i + 1); /* NOLINT(cert-msc30-c,cert-msc50-cpp): an order will do */

        order[i] = order[j];
        order[j] = i;
    }
    wait_for_all(board);
    board->seconds[d->number] = claim_all(&r.desk, "race", order, n, OUTSTANDING, note_winner);
    atomic_fetch_add(&board->ready, 1);
    while (atomic_load(&board->ready) < 2 * DISPATCHERS) { /* or its keys are free for the slower */
        struct broker_event events[EVENTS];

        broker_poll(r.desk.b, events, EVENTS);
        poll(NULL, 0, 1);
    }
}

static int count_wrong(const struct board *board)
{
    int wrong = 0;

    for (int key = 0; key < KEYS; key++) {
        unsigned char winner = board->winner[0][key];

        wrong += winner >= DISPATCHERS || board->winner[1][key] != winner ||
                 board->winner[2][key] != winner || board->winner[winner][key] != winner;
    }
    return wrong;
}

static double slowest(const struct board *board)
{
    double most = 0;

    for (int i = 0; i < DISPATCHERS; i++)
        most = board->seconds[i] > most ? board->seconds[i] : most;
    return most;
}

static int run_race(const char *url, int runs)
{
    int wrongs = 0;

    for (int i = 0; i < runs; i++) {
        struct board *board = run_all(url, (long)getpid() * 1000 + i, race, KEYS);
        int won[DISPATCHERS] = {0}, wrong = count_wrong(board);

        for (int key = 0; key < KEYS; key++)
            won[board->winner[0][key] % DISPATCHERS]++;
        printf("{\"case\": \"race\", \"claims\": %d, \"keys\": %d, \"won\": [%d, %d, %d], "
               "\"wrong\": %d, \"seconds\": %.2f}\n",
               DISPATCHERS * KEYS, KEYS, won[0], won[1], won[2], wrong, slowest(board));
        fflush(stdout);
        wrongs += wrong;
        munmap(board, sizeof(*board));
    }
    return wrongs ? 1 : 0;
}

/* --- rate --- */

static void claim_own(struct desk *d, struct board *board, int n)
{
    char prefix[16];

    snprintf(prefix, sizeof(prefix), "own%d", d->number);
    wait_for_all(board);
    board->seconds[d->number] = claim_all(d, prefix, NULL, n, OUTSTANDING, NULL);
}

static int run_rate(const char *url, int n)
{
    struct board *board = run_all(url, getpid(), claim_own, n);

    printf("{\"case\": \"rate\", \"outstanding\": %d, \"claims_per_s\": [%.0f, %.0f, %.0f]}\n",
           OUTSTANDING, n / board->seconds[0], n / board->seconds[1], n / board->seconds[2]);
    munmap(board, sizeof(*board));
    return 0;
}

/* --- latency --- */

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

static int run_latency(const char *url, int n)
{
    double *ms = calloc((size_t)n, sizeof(*ms));
    struct desk d;

    if (!ms)
        die("no memory");
    open_desk(&d, url, getpid(), 0);
    for (int i = 0; i < n; i++) {
        int64_t began_ns = clock_nano();

        ask(&d, "one", i);
        pump(&d, i + 1, NULL);
        ms[i] = since(began_ns) * 1e3;
    }
    broker_close(d.b, false);
    qsort(ms, (size_t)n, sizeof(*ms), compare);
    printf("{\"case\": \"latency\", \"claims\": %d, \"p50_ms\": %.2f, \"p90_ms\": %.2f, "
           "\"p99_ms\": %.2f}\n",
           n, ms[n / 2], ms[n * 9 / 10], ms[n * 99 / 100]);
    free(ms);
    return 0;
}

/* --- replay --- */

static int run_replay(const char *url, int n)
{
    struct desk d;
    int64_t began_ns;
    double made;

    open_desk(&d, url, getpid(), 0);
    made = claim_all(&d, "replay", NULL, n, 2048, NULL);
    broker_close(d.b, false);
    began_ns = clock_nano();
    open_desk(&d, url, getpid(), 1);
    ask(&d, "first", 0);
    pump(&d, 1, NULL);
    printf("{\"case\": \"replay\", \"records\": %d, \"made_s\": %.1f, \"ready_s\": %.2f}\n", n,
           made, since(began_ns));
    broker_close(d.b, false);
    return 0;
}

int main(int argc, char **argv)
{
    static const struct {
        const char *name;
        int (*run)(const char *url, int n);
        int n;
    } cases[] = {
        {"race", run_race, 10},
        {"rate", run_rate, 30000},
        {"latency", run_latency, 2000},
        {"replay", run_replay, 1000000},
    };

    for (size_t i = 0; argc > 2 && i < sizeof(cases) / sizeof(cases[0]); i++) {
        if (strcmp(argv[2], cases[i].name) == 0)
            return cases[i].run(argv[1], argc > 3 ? (int)strtol(argv[3], NULL, 10) : cases[i].n);
    }
    fputs("usage: bench_claims URL race|rate|latency|replay [N]\n", stderr);
    return 2;
}
