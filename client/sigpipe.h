/*
 * sigpipe.h - write to a dead connection without killing the host program.
 *
 * Purpose: broker libraries write with write(2); a peer that went away then raises SIGPIPE, whose
 * default ends the process. A library must not touch the program's signal dispositions.
 * Model: SIGPIPE is blocked for this thread between enter and leave; one that was raised in between
 * is taken away, one that was pending before stays. Fork rule: none.
 */
#ifndef CLIENT_SIGPIPE_H
#define CLIENT_SIGPIPE_H

#include <signal.h>
#include <stdbool.h>

struct sigpipe_guard {
    sigset_t mask_before;
    bool pending_before;
    bool idle; /* there is nothing to guard against */
};

/* As enter, if `needed`. */
void sigpipe_enter_if(struct sigpipe_guard *guard, bool needed);
void sigpipe_enter(struct sigpipe_guard *guard);
void sigpipe_leave(const struct sigpipe_guard *guard);

#endif
