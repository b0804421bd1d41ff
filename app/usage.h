/*
 * usage.h - the CPU that a worker of ours and the broker used between two moments.
 *
 * Purpose: says which role of a measurement was busy. Model: reads /proc. The worker's children are
 * told apart by their titles; the broker is a server of this machine whose program is known by
 * name: of several, the one that used most. What the rest of the machine used is what makes a
 * measurement worth less. Invariants: what can not be read counts as 0, and a
 * broker that is not found here is broker_known false. Fork rule: none, it only reads.
 */
#ifndef APP_USAGE_H
#define APP_USAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#define USAGE_SERVERS_MAX 16

struct usage_server {
    pid_t pid;
    double began_s;
};

struct usage {
    pid_t worker; /* the supervisor */
    struct usage_server servers[USAGE_SERVERS_MAX];
    size_t servers_len;
    double runners_s; /* CPU seconds: since the start until usage_begin, afterwards since then */
    double runners_wait_s; /* that they were ready to run and had no CPU */
    double dispatcher_s;
    double own_s;     /* of this process */
    double machine_s; /* of everything on this machine */
    double broker_s;
    bool broker_known;
};

/* broker: URL; a server on another host is not looked for. */
void usage_begin(struct usage *u, pid_t worker, const char *broker);
void usage_end(struct usage *u);

#endif
