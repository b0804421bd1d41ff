/*
 * supervisor.h - the process that forks, reaps, and keeps time limits; it never blocks and never
 * talks to a broker.
 *
 * Purpose: keep one dispatcher and N runners alive, hand each new runner's job channel to the
 * dispatcher, tell it who died of what, end jobs that pass their limits, and stop everything on a
 * signal. Model: poll(2) over a signalfd and the links; then one pass of verbs: read links, reap,
 * enforce limits, ping, start what is due.
 *
 *     TERM, INT     warm stop: the dispatcher hands back what has not begun, waits
 *                   for what runs, and says DONE
 *     again, QUIT   cold stop: runners are killed, the dispatcher hands their jobs back
 *
 * Invariants: only this process calls kill(2); a dispatcher that dies or misses three pings takes
 * all runners with it, and all are started anew; end-of-file on a link is a death notice, but only
 * waitpid settles it. Fork rule: children share nothing with it but their sockets.
 */
#ifndef WORKER_SUPERVISOR_H
#define WORKER_SUPERVISOR_H

#include "base/clock.h"
#include "worker/child.h"
#include "worker/worker.h"

#include <poll.h>

#define SUPERVISOR_PING_MS       1000
#define SUPERVISOR_PING_MISSED   20 /* far more than a huge message takes on a busy machine */
#define SUPERVISOR_KILL_AFTER_MS 1000 /* SIGKILL follows SIGTERM */

enum stop_kind { STOP_NONE, STOP_WARM, STOP_COLD };

struct supervisor {
    const struct worker_config *config;
    const struct clock *clock;
    struct log log;
    int signal_fd;
    pid_t pid;
    struct child dispatcher;
    struct child *runners; /* config->concurrency of them */
    struct pollfd *fds;    /* signals, dispatcher, runners */
    enum stop_kind stop;
    bool stop_sent;      /* the dispatcher knows */
    int64_t ping_at_ms;  /* next ping */
    int pings_missed;    /* sent and not answered */
    uint64_t generation; /* of the last dispatcher */
    int status;          /* exit status of the worker */
};

/* Runs until stopped by a signal. The exit status of the program. */
int supervisor_run(const struct worker_config *config);

static inline int64_t supervisor_now_ms(const struct supervisor *s)
{
    return clock_mono_ms(s->clock);
}

/* Frees what the supervisor holds. A child calls it first, so that a leak checker sees only what
 * the child leaks. */
void supervisor_forget(struct supervisor *s);

/* spawn.c: 0, or -1 after saying why and setting when to try again. */
int spawn_dispatcher(struct supervisor *s);
int spawn_runner(struct supervisor *s, struct child *c);

#endif
