/*
 * proc.h - what every process of ours does at its birth.
 *
 * Purpose: titles, descriptors, signals, processor count.
 * Model: the title area is the memory of argv and environ, found once by the program's main and
 * handed down by value. Fork rule: proc_child_setup is the first call of every child.
 */
#ifndef BASE_PROC_H
#define BASE_PROC_H

#include "base/err.h"
#include "base/slice.h"

#include <stddef.h>
#include <sys/types.h>

/* Where the process title is written: borrowed from the kernel's argument area. */
struct proc_title {
    char *area;
    size_t area_len;
    char *
        *copies; /* environ now, and behind it the strings of both; lives as long as the process */
};

/* Moves environ out of the way and takes argv's memory. Call once, before threads, with main's own
 * argv; argv stays usable because its strings are copied. The copies live as long as the process.
 */
int proc_title_init(struct proc_title *title, int argc, char **argv);
/* What stands behind it is gone: the area may be as long as the command line and environment. */
void proc_title_set(const struct proc_title *title, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));

/* The same of texts that stand behind one another; cheap enough for every job, for it clears the
 * last title and no more: this process, or one it was forked from, called proc_title_set. */
void proc_title_join(const struct proc_title *title, const struct slice *parts, size_t n);

/* Right after fork: default dispositions, empty mask, a process group of its own (a Ctrl-C on the
 * terminal is for the supervisor alone), and every descriptor closed but 0-2 and keep[0..n).
 * parent: the pid that must still be our parent, else -1 with err. */
int proc_child_setup(pid_t parent, const int *keep, size_t n, struct err *e);

/* For a process that runs user code and so reads no socket for long: killed when its parent dies.
 */
int proc_die_with_parent(pid_t parent, struct err *e);

/* Closes every descriptor above 2 that is not in keep. */
void proc_close_others(const int *keep, size_t n);

/* A connected pair, close-on-exec; nonblock is a mask: 1 for the first end, 2 for the second. */
int proc_socketpair(int fds[2], int nonblock, struct err *e);

int proc_set_nonblock(int fd);

/* Cores this process may use (affinity and cgroup quota counted), at least 1. */
int proc_cores(void);

/* "signal 9 (SIGKILL)" or "exitcode 1" for a wait status, in Celery's words. */
void proc_cause(int wait_status, char *to, size_t size);

#endif
