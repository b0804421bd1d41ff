/*
 * echo_worker.h - a worker of one thread, for tests of clients.
 *
 * Purpose: results appear without the worker's processes. Model: consumes the queue "celery"; a
 * task named "fail" ends in FAILURE, "hold" is never finished, any other succeeds with its id as
 * result. Fork rule: uses a broker handle of its own, opened in its thread.
 */
#ifndef TESTS_ECHO_WORKER_H
#define TESTS_ECHO_WORKER_H

#include <pthread.h>
#include <stdatomic.h>

struct echo_worker {
    pthread_t thread;
    const char *url; /* borrowed */
    atomic_bool stop;
    atomic_int finished;
};

int echo_worker_start(struct echo_worker *w, const char *url);
void echo_worker_stop(struct echo_worker *w);

#endif
