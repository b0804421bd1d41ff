/*
 * child.h - a place for one child process, and the rules of its life.
 *
 * Purpose: the state machine and the restart throttle of the supervisor's slots, free of system
 * calls so that a unit test can hold every state and event in its hand. Model: state x event, see
 * the table in child.c:
 *
 *     DOWN --start--> STARTING --ready--> UP --exit--> DOWN (at once)
 *                        |  exit: DOWN, after 0.1, 0.2, 0.4 ... 5 s; the 10th in a row: FAILED
 *     any  --stop-->  LEAVING --exit--> GONE
 *
 * Invariants: a process that had been ready resets the count of deaths, however it died; FAILED and
 * GONE are final. Fork rule: only the supervisor holds these.
 */
#ifndef WORKER_CHILD_H
#define WORKER_CHILD_H

#include "base/frame.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

enum child_state {
    CHILD_DOWN,     /* no process; start_at_ms says when to start one */
    CHILD_STARTING, /* forked, has not said that it is ready */
    CHILD_UP,
    CHILD_LEAVING, /* asked to go; will not be replaced */
    CHILD_GONE,    /* left as asked */
    CHILD_FAILED   /* died too often before it was ready; will not be replaced */
};

enum child_event { CHILD_EV_STARTED, CHILD_EV_READY, CHILD_EV_EXIT, CHILD_EV_STOP };

#define CHILD_DEATHS_MAX     10
#define CHILD_RESTART_MIN_MS 100
#define CHILD_RESTART_MAX_MS 5000

/* A limit that the supervisor keeps for the dispatcher. */
struct child_watch {
    uint64_t job; /* 0: none */
    int64_t soft_at_ms;
    int64_t hard_at_ms;
    bool soft_sent;
    bool hard_sent;
};

struct child {
    int slot; /* runner number from 0; -1 for the dispatcher */
    enum child_state state;
    int deaths;          /* in a row, before ready */
    int64_t start_at_ms; /* monotonic */
    int64_t kill_at_ms;  /* monotonic: SIGKILL follows the SIGTERM; 0: not asked */
    pid_t pid;           /* 0: no process */
    struct frame_link link;
    struct child_watch watch;
};

void child_init(struct child *c, int slot);

/* Applies an event; impossible pairs change nothing. */
void child_on(struct child *c, enum child_event event, int64_t now_ms);

/* How long to wait after the n-th death in a row (from 1). */
int64_t child_restart_delay_ms(int deaths);

/* True when there is a process. */
static inline bool child_alive(const struct child *c)
{
    return c->pid > 0;
}

/* The next moment at which the supervisor has something to do for this child; CLOCK_NEVER when
 * there is none. */
int64_t child_next_ms(const struct child *c);

const char *child_state_word(enum child_state state);

#endif
