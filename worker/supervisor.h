/*
 * supervisor.h - the process that forks, reaps, and keeps time limits; it never blocks and never
 * talks to a broker.
 *
 * Purpose: keep one dispatcher and N runners alive, hand each new runner's job channel to the
 * dispatcher, tell it who died of what, end jobs that pass their limits, and stop everything on a
 * signal. Model: poll(2) over a signalfd and the links; then one pass of verbs: read links, reap,
 * enforce limits, ping, start what is due.
 *
 *     TERM, INT    warm stop: the dispatcher hands back what has not begun, waits for what runs,
 * says DONE again, QUIT  cold stop: runners are killed, the dispatcher hands their jobs back
 *
 * Invariants: only this process calls kill(2); a dispatcher that dies or misses three pings takes
 * all runners with it, and all are started anew; end-of-file on a link is a death notice, but only
 * waitpid settles it. Fork rule: children leave through _exit and share nothing but their sockets.
 */
#ifndef WORKER_SUPERVISOR_H
#define WORKER_SUPERVISOR_H

#include "worker/worker.h"

#define SUPERVISOR_PING_MS       1000
#define SUPERVISOR_PING_MISSED   3
#define SUPERVISOR_KILL_AFTER_MS 1000 /* SIGKILL follows SIGTERM */

/* The exit status of the worker. */
int supervisor_run(const struct worker_config *config);

#endif
