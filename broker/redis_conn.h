/*
 * redis_conn.h - requests, and one connection that carries them in a pipeline.
 *
 * Purpose: a state machine over hiredis's non-blocking context that connects, greets (AUTH, SELECT,
 * ...), sends what waits, reads replies in order, and tries again with backoff when it broke.
 * Raw requests go straight from their own memory to the socket, the others through `out`; hiredis
 * connects and reads. Nothing that is written raises SIGPIPE.
 * Model: a request is a command or script call under construction (its arguments are appended in
 * RESP form, so that small ones can still grow while they wait), with the items whose fate its
 * reply decides. redis_conn_step does everything that can be done without waiting. Replies go to
 * the op's `done`; a request that was sent when the connection broke goes to `failed` with
 * ERR_RECONNECT; one that was not sent stays and is sent later. A reply that says "not now" (out of
 * memory, loading, busy, read-only) puts the request aside and sends it again after a backoff; the
 * others overtake it.
 * Invariants: replies match requests first in, first out; every request ends in exactly one done or
 * failed; handlers may submit requests, never close the connection. Ownership: the connection owns
 * the requests it was given. Fork rule: open after fork, one process, one thread.
 */
#ifndef BROKER_REDIS_CONN_H
#define BROKER_REDIS_CONN_H

#include "base/arena.h"
#include "base/buf.h"
#include "base/clock.h"
#include "base/err.h"
#include "base/uuid.h"
#include "broker/broker.h"
#include "broker/redis_script.h"

#include <hiredis/hiredis.h>

struct redis_request;
struct redis_conn;

/* What a request is for: constant rows. owner is what redis_conn_init was given. */
struct redis_op {
    const char *name;
    /* NULL: nothing */
    void (*done)(void *owner, struct redis_request *r, const redisReply *reply);
    void (*failed)(void *owner, struct redis_request *r, const struct err *why);
    void (*free_state)(void *state); /* NULL: state is not owned */
    /* Of several commands: the reply that tells how all of it ended. */
    const redisReply *(*judge)(const struct redis_request *r, const redisReply *last);
    bool once; /* a "not now" is a failure: it is asked again anyway */
};

struct redis_item {
    uint64_t tag;
    struct broker_receipt receipt;
};

#define REDIS_COMMANDS_MAX 132

struct redis_request {
    struct redis_request *next;
    const struct redis_op *op;
    enum redis_script_id script;
    struct buf keys; /* RESP bulk strings; of a plain command: all of it. REDIS_RAW: whole commands,
                        which go on in args */
    struct buf args;
    size_t keys_len;
    size_t args_len;
    struct redis_item *items; /* owned */
    size_t items_len;
    size_t items_cap;
    unsigned commands; /* 0: one; else how many, of a raw request */
    unsigned parts_len;
    redisReply **parts; /* borrowed of the connection: the replies before the last */
    void *state;
    const redisReply *last; /* of several commands: borrowed alike */
    unsigned tries;
    bool ran;              /* of several commands: the last reply was that of EXEC */
    bool reloaded;         /* the script was missing once */
    int64_t not_before_ms; /* monotonic */
};

struct redis_request *redis_request_new(const struct redis_op *op, enum redis_script_id script);
void redis_request_free(struct redis_request *r);
/* One that has ended, with its memory; what was its own before is freed. */
void redis_request_clear(struct redis_request *r);
void redis_request_reuse(struct redis_request *r, const struct redis_op *op,
                         enum redis_script_id script);

/* Appends one key or argument; the parts are joined. Failures show in buf.failed. */
void redis_key(struct redis_request *r, struct slice key);
void redis_key2(struct redis_request *r, const char *prefix, struct slice rest);
void redis_key3(struct redis_request *r, const char *prefix, struct slice mid, const char *suffix);
void redis_arg(struct redis_request *r, struct slice arg);
void redis_arg3(struct redis_request *r, struct slice a, struct slice b,
                struct slice c); /* joined */
void redis_args(struct redis_request *r, const char *arg);
void redis_argi(struct redis_request *r, int64_t n);
int redis_request_item(struct redis_request *r, uint64_t tag, const struct broker_receipt *receipt);
bool redis_request_broken(const struct redis_request *r);
/* Drops the replies that came, for a request that is sent once more. */
void redis_request_begin(struct redis_request *r);
size_t redis_request_size(const struct redis_request *r);

struct redis_requests {
    struct redis_request *head;
    struct redis_request *tail;
};

enum redis_phase { REDIS_DOWN, REDIS_CONNECTING, REDIS_GREETING, REDIS_READY };

struct redis_address;

struct redis_conn_hooks {
    void (*greet)(void *owner, struct redis_conn *c); /* redis_conn_greet what must come first */
    void (*ready)(void *owner, struct redis_conn *c);
    void (*down)(void *owner, struct redis_conn *c, const struct err *why);
    void (*pushed)(void *owner, struct redis_conn *c, const redisReply *reply); /* subscriber */
    void (*again)(void *owner, const struct err *why); /* NULL why: it is over */
};

struct redis_conn {
    const struct redis_conn_hooks *hooks;
    void *owner;
    const struct redis_address *address; /* borrowed */
    const struct clock *clock;
    struct uuid_source *random;
    enum redis_phase phase;
    redisContext *ctx;
    struct arena replies;                      /* those that were read and are not dealt with */
    redisReply *parts[REDIS_COMMANDS_MAX - 1]; /* of one request, the first that was sent */
    struct redis_requests waiting;
    struct redis_requests aside; /* told "not now" */
    struct redis_requests sent;
    struct redis_requests spares; /* ended and cleared, for their memory */
    unsigned spares_len;
    struct buf out;             /* what is to be written in front of anything else */
    struct redis_request *half; /* the last of sent, of which the socket took a part; or NULL */
    size_t half_at;             /* how many bytes */
    size_t greetings;           /* sent and not answered */
    size_t unanswered;
    bool subscriber; /* in phase READY every reply is pushed */
    bool blocked;    /* the socket takes no more now */
    bool troubled;   /* hooks->again was told */
    bool may_sleep;  /* a read without MSG_DONTWAIT waits, not for long */
    bool far;        /* the answer slept for last took longer than the same core needs */
    bool slept;      /* since the last step, and read what had come */
    unsigned failures;
    char sha[REDIS_SCRIPTS][REDIS_SHA_SIZE];
    bool known[REDIS_SCRIPTS]; /* the server was given its text on this connection */
    int64_t retry_at_ms;
    int64_t alive_at_ms; /* last bytes received, or first request sent after silence */
    struct err broken;   /* set while replies are read: close when done */
};

void redis_conn_init(struct redis_conn *c, const struct redis_conn_hooks *hooks, void *owner,
                     const struct redis_address *address, const struct clock *clock,
                     struct uuid_source *random);
/* Frees everything; requests that are left get no call. */
void redis_conn_release(struct redis_conn *c);

/* As redis_request_new, from memory of one that has ended. */
struct redis_request *redis_conn_request(struct redis_conn *c, const struct redis_op *op,
                                         enum redis_script_id script);

/* Taken. */
void redis_conn_submit(struct redis_conn *c, struct redis_request *r);
void redis_conn_greet(struct redis_conn *c, struct redis_request *r);

/* Connects, reads, writes what is possible. */
void redis_conn_step(struct redis_conn *c);
/* Sleeps until an answer has come, and reads it; a while at most, never longer than until_ms.
 * False, at once, when that is not enough: something is to be written, no answer is expected, the
 * time is short. */
bool redis_conn_sleep(struct redis_conn *c, int64_t until_ms);
/* Sends what waits. */
void redis_conn_flush(struct redis_conn *c);
/* Frees memory that only a burst needs. */
void redis_conn_rest(struct redis_conn *c);
/* Gives up on the connection. */
void redis_conn_drop(struct redis_conn *c, const struct err *why);
/* Ends everything that waits with the error. */
void redis_conn_fail_all(struct redis_conn *c, const struct err *why);

bool redis_conn_pollfd(const struct redis_conn *c, struct pollfd *fd);
int64_t redis_conn_deadline(const struct redis_conn *c);
bool redis_conn_idle(const struct redis_conn *c); /* nothing waits, nothing is unanswered */

/* Says what an error reply asks for. */
enum err_code redis_classify(const char *text);
int redis_reply_err(struct err *e, const struct redis_address *address, const redisReply *reply);

#endif
