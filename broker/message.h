/*
 * message.h - Celery task messages in kombu's envelope.
 *
 * Purpose: encode task messages of protocol 2, decode protocol 2, 1 and the hybrid form, survive
 * everything else. Model: the envelope is one JSON object {"body": base64, "content-encoding",
 * "content-type", "headers": {...}, "properties": {...}}; the body, decoded, is [args, kwargs,
 * embed] (protocol 2) or an object (protocol 1). message_parse reads the envelope: what a
 * dispatcher needs to route, delay, expire and limit a job, without touching the body of a protocol
 * 2 message. message_skim does the same from the text alone, about twenty times as fast, where the
 * message is of the common form, and asks message_parse where it is not; message_headers and
 * message_properties make the values of a skimmed message when they are asked for.
 * message_open_body decodes and inflates the body, for the runner. Poison (broker rules
 * of docs/protocol.md) is ERR_DEADLETTER with a text that names the field; no input crashes,
 * recurses without bound or allocates more than a fixed multiple of MESSAGE_BODY_MAX.
 * Invariants: a parsed message has a non-empty task and id; numbers are in range. Where the message
 * is poison but an id could be read, `id` is set so that a FAILURE can be stored. Ownership: a
 * message owns its JSON values; strings point into them. Fork rule: none, plain memory. Source of
 * the format: Celery 5 task message protocol, as captured from 5.2.6 and 5.6.2 (docs/protocol.md).
 */
#ifndef BROKER_MESSAGE_H
#define BROKER_MESSAGE_H

#include "base/buf.h"
#include "base/err.h"
#include "base/uuid.h"

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

/* A decoded (inflated) body longer than this is poison. */
#define MESSAGE_BODY_MAX (64u * 1024 * 1024)

/* Headers of ours; Python ignores them. */
#define MESSAGE_H_LOST    "celeriac_lost"    /* integer: deliveries that ended in a lost worker */
#define MESSAGE_H_SENT_MS "celeriac_sent_ms" /* integer: wall clock when it was published */
#define MESSAGE_H_DEDUP   "celeriac_dedup"   /* {"key": text, "window": seconds}: see below */
#define MESSAGE_H_WAITS   "celeriac_waits"   /* integer: times it was sent back to wait for a key */

/* What the header MESSAGE_H_DEDUP may say. The key is 1 to BROKER_KEY_MAX bytes. */
#define MESSAGE_WINDOW_S     3600.0     /* where it says none */
#define MESSAGE_WINDOW_MAX_S 31622400.0 /* 366 days: longer is a mistake */

/* Member of an envelope that a transport made of something which no envelope can express: the
 * reason, one line. Such a message is poison. */
#define MESSAGE_REFUSED "celeriac_refused"

struct message {
    json_t *envelope; /* owned: the whole object; NULL in a skimmed message, as the following */
    json_t *headers;  /* borrowed from envelope (protocol 1: an object made from the body; owned by
                         envelope all the same) */
    json_t *properties; /* borrowed from envelope */
    struct slice text;  /* the envelope's text; borrowed by a skimmed message, else absent */
    struct slice body;  /* as it stands in the envelope; borrowed from it */
    char *names;        /* owned: the strings of a skimmed message */
    size_t names_cap;
    const char *task;
    const char *id;
    const char *root_id;   /* never NULL: id when absent */
    const char *parent_id; /* NULL when absent, as the following */
    const char *group;
    const char *reply_to;
    const char *correlation_id;
    const char *eta;
    const char *expires;
    const char *queue; /* routing key of delivery_info, or NULL */
    const char *compression;
    const char *body_encoding;
    int64_t group_index; /* -1 when absent */
    int64_t retries;
    int64_t eta_ms;      /* wall clock; 0 when absent */
    int64_t expires_ms;  /* wall clock; 0 when absent */
    double hard_limit_s; /* 0 when absent */
    double soft_limit_s;
    int priority;           /* 0-9 */
    int ignore_result;      /* -1 absent or null, 0, 1 */
    int64_t lost;           /* MESSAGE_H_LOST, 0 when absent */
    int64_t sent_ms;        /* MESSAGE_H_SENT_MS, 0 when absent */
    int64_t waits;          /* MESSAGE_H_WAITS, 0 when absent */
    struct slice dedup_key; /* of MESSAGE_H_DEDUP; {NULL,0} when absent */
    int64_t dedup_window_ms;
    int protocol; /* 1 or 2 (hybrid counts as 1) */
    bool redelivered;
    json_t *args;   /* owned; after message_open_body: array */
    json_t *kwargs; /* owned: object */
    json_t *embed;  /* owned: object with callbacks, errbacks, chain, chord, each present (null or
                       value); NULL when all of them are null */
};

/* 0, or -1: ERR_DEADLETTER (poison; m holds what could be read) or ERR_NOMEM. Release m in every
 * case. */
int message_parse(struct message *m, struct slice envelope, struct err *e);

/* The same outcome, faster; envelope is borrowed until m is released or cleared. m is all zeros or
 * was cleared. */
int message_skim(struct message *m, struct slice envelope, struct err *e);

/* As message_release, but keeps memory for the next message_skim into m. */
void message_clear(struct message *m);

/* All headers and all properties, borrowed from m. NULL when there is no memory for them. */
json_t *message_headers(struct message *m);
json_t *message_properties(struct message *m);
int message_open_body(struct message *m, struct err *e);
void message_release(struct message *m);

/* A task to send. Strings NULL and numbers 0 mean "not set" where nothing else is said. */
struct message_spec {
    const char *task;
    const char *id;      /* 36 characters */
    const char *root_id; /* NULL: id */
    const char *parent_id;
    const char *group;
    int64_t group_index;  /* -1: none */
    json_t *args;         /* borrowed array; NULL: [] */
    json_t *kwargs;       /* borrowed object; NULL: {} */
    /* {NULL,0}, or instead of args and kwargs: their text, which json_scan.h passes as an array or
     * object without failing; it is sent as it stands. */
    struct slice args_text;
    struct slice kwargs_text;
    json_t *embed;        /* borrowed object; NULL: all null */
    json_t *headers;      /* borrowed object: merged over the standard headers; NULL: none */
    json_t *carry;        /* borrowed headers of the message that this one continues: those that are
                             the user's own are sent again; NULL: none */
    const char *queue;    /* routing key; NULL: "celery" */
    const char *reply_to; /* NULL: "" is sent */
    const char *shadow;
    const char *origin; /* NULL: message_origin, found out anew */
    int64_t eta_ms;
    int64_t expires_ms;
    double hard_limit_s;
    double soft_limit_s;
    int64_t retries;
    int priority;
    int ignore_result; /* 0 or 1 */
    int64_t now_ms; /* wall clock, for MESSAGE_H_SENT_MS and the expiration property; 0: neither is
                       written */
};

/* "gen<pid>@<host>": who sends, as Celery says it. Anew after a fork. */
#define MESSAGE_ORIGIN_SIZE 160
void message_origin(char out[MESSAGE_ORIGIN_SIZE]);

/* Appends the envelope's text to out. delivery_tag comes from ids. ERR_USAGE for a spec that cannot
 * be sent. */
int message_encode(struct buf *out, const struct message_spec *spec, struct uuid_source *ids,
                   struct err *e);

/* An argument list as a Python tuple, and an object as a dict, in the words of Celery's saferepr:
 * cut at 1,024 characters, three levels deep, strings in single quotes. */
void message_args_repr(struct buf *out, const json_t *args);
void message_kwargs_repr(struct buf *out, const json_t *kwargs);

/* The same from their text, as in message_spec. False when only the values tell (escapes, numbers
 * in another form than Python's, many keys); something may have been appended then. */
bool message_args_repr_text(struct buf *out, struct slice args);
bool message_kwargs_repr_text(struct buf *out, struct slice kwargs);

/* Appends m's envelope with one header set (value taken); the rest as it came. For the lost-worker
 * counter. */
int message_with_header(struct buf *out, struct message *m, const char *header, json_t *value,
                        struct err *e);

/* Fills a spec from a parsed message with its body open, for a retry: same id, root, group, embed,
 * limits, headers of the user; retries raised by one, parent_id = id as Celery does. The spec
 * borrows from m. -1: ERR_NOMEM. */
int message_spec_retry(struct message_spec *spec, struct message *m, struct err *e);

/* A signature map (Celery's) as a spec: task, args, kwargs, options {task_id, queue, priority,
 * countdown, eta, expires, time_limit, soft_time_limit, headers, shadow, ignore_result}. parent may
 * be NULL. id_out receives the id, made when options has none. not_before_ms: from countdown or
 * eta. The spec borrows from the signature and from id_out. ERR_USAGE names the bad member. */
int message_spec_signature(struct message_spec *spec, json_t *signature,
                           const struct message *parent, struct uuid_source *ids, int64_t now_ms,
                           char id_out[UUID_SIZE], int64_t *not_before_ms, struct err *e);

#endif
