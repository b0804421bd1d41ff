/*
 * runner_peer.h - the two processes that a runner talks to, played by a test.
 *
 * Purpose: drive the real runner_main in a forked child through its channel, without broker,
 * dispatcher or supervisor.
 * Model: send messages, take frames. Every wait has a deadline of 20 s, after which the test fails.
 * Ownership: what is handed out is borrowed until the next frame is taken, but for JSON, which is
 * the caller's.
 * Fork rule: the child leaves with _exit and makes no assertion.
 */
#ifndef TESTS_RUNNER_PEER_H
#define TESTS_RUNNER_PEER_H

#include "broker/message.h"
#include "worker/channel.h"

#include <sys/types.h>

struct runner_peer {
    pid_t pid;
    struct frame_link jobs;
    struct frame_link link;
    struct uuid_source ids;
    uint64_t last_job;
    char id[UUID_SIZE]; /* of the last message that was made */
};

struct peer_options {
    const char *const *modules;
    size_t modules_len;
    bool track_started;
};

void peer_start(struct runner_peer *p, const struct peer_options *options);
/* Closes the channel and returns the wait status of the runner. */
int peer_stop(struct runner_peer *p);
/* Waits for the end without closing anything first. */
int peer_wait_dead(struct runner_peer *p);

/* A spec with an id, for the caller to change. */
struct message_spec peer_spec(struct runner_peer *p, const char *task, json_t *args,
                              json_t *kwargs);
/* Lends one job. */
void peer_run_envelope(struct runner_peer *p, struct slice envelope, bool measured);
/* CHANNEL_REST. */
void peer_rest(struct runner_peer *p);
void peer_run(struct runner_peer *p, const struct message_spec *spec, bool measured);

/* The same for a duplicate: not to be run, the document of `first` stands for it. */
void peer_repeat(struct runner_peer *p, const struct message_spec *spec, const char *first,
                 const char *document);

/* The next frame, which must have this type. */
struct frame peer_take(struct runner_peer *p, enum channel_type type);
/* The next frame, which must be the verdict of this job. */
struct channel_verdict peer_verdict(struct runner_peer *p, uint64_t job);
/* Its document; the caller's. */
json_t *peer_document(const struct channel_verdict *v);
/* Takes one follow-up and opens its message. */
void peer_followup(struct slice *rest, struct channel_followup *f, struct message *m);

#endif
