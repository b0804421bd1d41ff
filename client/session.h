/*
 * session.h - a blocking user of the asynchronous broker contract.
 *
 * Purpose: what the client library and the commands share: open, wait for events with a deadline,
 * know whether the broker is there.
 * Model: a session owns one broker handle and works only inside its calls. session_step is the only
 * place that sleeps; sending (send.h), results (results.h) and questions (session_ask) are loops
 * over it. A broker that is down is no error until the caller's deadline; one that needs an
 * operator (wrong password) is an error at once.
 * Invariants: tags are never used twice in a session, so an answer that comes too late for its call
 * is recognised and dropped. Fork rule: open after fork; one process, one thread.
 */
#ifndef CLIENT_SESSION_H
#define CLIENT_SESSION_H

#include "base/uuid.h"
#include "broker/broker.h"
#include "broker/message.h"
#include "client/ahead.h"

#include <stdbool.h>

struct session_config {
    const char *url;
    const char *result_url; /* NULL: in the broker */
    int64_t timeout_ms;     /* 0: 10,000 */
    bool connect_once;      /* the first refused connection fails the opening */
    bool replies;           /* results of what is sent will be waited for (broker.h) */
    const struct log *log;  /* NULL: silent */
};

struct sending;

struct session {
    struct broker *broker;    /* owned */
    struct sending *sendings; /* borrowed: begun and not ended (send.h) */
    const struct clock *clock;
    struct uuid_source ids;
    struct ahead ahead;
    uint64_t next_tag;
    int64_t timeout_ms;
    bool up;
    bool connect_once;
    struct err down; /* why it is not up */
    char name[256];  /* the URL without its password */
    char origin[MESSAGE_ORIGIN_SIZE];
};

/* Connects; 0, or -1 (s is then released). */
int session_open(struct session *s, const struct session_config *config, struct err *e);
void session_close(struct session *s);

/* Hands what has happened to handle; when nothing has, sleeps until something does or until_ms
 * (monotonic) has come. -1 when the broker can not be used without an operator. */
typedef void session_handle_fn(void *user, const struct broker_event *event);
int session_step(struct session *s, int64_t until_ms, session_handle_fn *handle, void *user,
                 struct err *e);

/* Whether the broker's writes have to be guarded (sigpipe.h). */
bool session_may_sigpipe(const struct session *s);

/* n tags in a row: the first. */
uint64_t session_tags(struct session *s, size_t n);

int64_t session_now(const struct session *s);
int64_t session_deadline(const struct session *s); /* now + timeout */

/* Fills e for a deadline that passed: not reached, or did not answer. what: "the task was not
 * confirmed". Returns -1. */
int session_gave_up(const struct session *s, const char *what, struct err *e);

/* Asks an operator's question and waits for the answer: JSON text appended to out. */
struct buf;
int session_ask(struct session *s, enum broker_question question, struct slice queue,
                struct slice handle, int64_t limit, struct buf *out, struct err *e);

#endif
