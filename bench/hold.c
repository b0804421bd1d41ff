/*
 * Leases jobs and holds them: what a busy fleet of other workers looks like to a broker.
 * usage: hold URL QUEUE COUNT. Prints "held" when it has them, hands them back when its input ends.
 */
#include "broker/broker.h"

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define EVENTS   256
#define FDS      8
#define LEASE_MS 3600000
#define WAIT_S   120

/* How many of the events are deliveries; -1 when something failed. */
static int deliveries(const struct broker_event *events, int n)
{
    int found = 0;

    for (int i = 0; i < n; i++) {
        if (events[i].kind == BROKER_FAILED) {
            fprintf(stderr, "hold: %s\n", events[i].err ? events[i].err->text : "failed");
            return -1;
        }
        found += events[i].kind == BROKER_DELIVERED;
    }
    return found;
}

static int take(struct broker *b, int count)
{
    const struct clock *clock = clock_system();
    int64_t until_ms = clock_mono_ms(clock) + WAIT_S * 1000;
    struct broker_event events[EVENTS];
    struct pollfd fds[FDS];

    for (int held = 0; held < count;) {
        int found;

        broker_credit(b, count - held);
        found = deliveries(events, broker_poll(b, events, EVENTS));
        if (found < 0 || clock_mono_ms(clock) > until_ms)
            return -1;
        held += found;
        if (found == 0)
            poll(fds, (nfds_t)broker_pollset(b, fds, FDS),
                 clock_poll_timeout(clock, broker_deadline(b)));
    }
    broker_credit(b, 0);
    return 0;
}

int main(int argc, char **argv)
{
    const char *queues[1] = {argc == 4 ? argv[2] : NULL};
    struct broker_config config = {.url = argc == 4 ? argv[1] : NULL,
                                   .node = "hold@bench",
                                   .generation = 1,
                                   .queues = queues,
                                   .queues_len = 1,
                                   .lease_ms = LEASE_MS};
    int count = argc == 4 ? (int)strtol(argv[3], NULL, 10) : 0;
    struct err e = ERR_INIT;
    struct broker *b;
    char byte;

    if (count < 1) {
        fputs("usage: hold URL QUEUE COUNT\n", stderr);
        return 2;
    }
    b = broker_open(&config, &e);
    if (!b || take(b, count) < 0) {
        fprintf(stderr, "hold: %s\n", b ? "the jobs did not come" : e.text);
        broker_close(b, true);
        return 1;
    }
    puts("held");
    fflush(stdout);
    while (read(STDIN_FILENO, &byte, 1) > 0)
        continue;
    broker_close(b, true);
    return 0;
}
