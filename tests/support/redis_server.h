/*
 * redis_server.h - a private redis-server that a test may stop, kill and start again.
 *
 * Model: listens on a unix socket in its own directory; everything is written to an append-only
 * file with fsync always, so that what it confirmed outlives a kill. Stopped by its pid. Fork rule:
 * one process uses it.
 */
#ifndef TESTS_REDIS_SERVER_H
#define TESTS_REDIS_SERVER_H

#include <sys/types.h>

struct redis_server {
    char directory[48];
    char socket[80];
    char url[120];
    pid_t pid; /* 0: not running */
};

/* Makes the directory; 0, or -1 when there is no redis-server here. */
int redis_server_init(struct redis_server *r);

/* Starts it and returns once it answers. */
int redis_server_start(struct redis_server *r);
void redis_server_signal(struct redis_server *r, int sig);

/* Sends the signal and waits until it is gone. */
void redis_server_stop(struct redis_server *r, int sig);

/* Stops it and removes the directory. */
void redis_server_release(struct redis_server *r);

#endif
