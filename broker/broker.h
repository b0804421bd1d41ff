/*
 * broker.h - THE contract between Celeriac and any broker.
 *
 * Purpose: one asynchronous, batched interface that Redis, SQLite, memory and RabbitMQ all fulfil,
 * so that the dispatcher and the client library know no broker by name.
 *
 * Model: an op takes an array of items, copies what it needs, and returns at once: 0, or -1 with an
 * error that means "nothing was submitted". It completes later, in any order, as one event per
 * item, carrying the item's `tag`. broker_poll does the work (reads, writes, timers, the batched
 * transaction) and hands out events; it never waits. Between polls the caller sleeps on
 * broker_pollset's descriptors until broker_deadline; who waits for nothing else, as the blocking
 * client library does, calls broker_sleep.
 *
 * A message is the bytes of a kombu envelope (broker/message.h); backends do not look inside. A
 * delivery is leased: it stays recorded as unacknowledged under a receipt until it is finished,
 * released or buried, its lease expires, or a successor of the same node takes it over. The receipt
 * is also the fence: an op with a receipt that no longer holds is REFUSED and has no effect at all.
 *
 * Invariants that the contract suite (tests/contract) checks on every backend:
 *  1. A published message is delivered or found (waiting, delayed, leased, dead) whatever dies,
 * from the moment PUBLISHED is seen.
 *  2. finish is one atomic step: counters, result, acknowledgement and follow-up messages all
 * happen or none does.
 *  3. finish, release and bury on a lost lease are REFUSED and change nothing.
 *  4. Of several finishes for one delivery exactly one is FINISHED; the others are REFUSED.
 *  5. finish never overwrites a stored SUCCESS: it then acknowledges, drops result and follow-ups,
 * and says so with BROKER_DUPLICATE. The message is then counted under succeeded and under
 * duplicates, whatever its own outcome was.
 *  6. A publish with a token seen in the last 60 s is confirmed again and pushes nothing; so is a
 *     message of a batch that was published in the last 60 s under the same place. The token of a
 *     fresh message may be seen only if the connection broke before PUBLISHED.
 *  7. A delayed message is delivered at or after its time, never before; within one queue lower
 * priority number first (Redis order, kombu's steps 0,3,6,9), then first in first out.
 *  8. A lease that is not renewed returns the message (at the front of its queue) after lease_ms at
 * the latest plus one tick.
 *  9. totals: published = succeeded + failed + dead + waiting + delayed + leased, at every instant.
 *  10. Of all deliveries that claim one key at most one holds it at any instant, and the finish or
 * bury of the one that holds it settles the claim in its own atomic step: SUCCEEDED (and whatever
 * finds a stored SUCCESS) makes it done for the window, counted from then on the broker's clock;
 * FAILED and bury give the key up; CONTINUES keeps it for that job until its follow-up's time plus
 * lease_ms.
 *
 * Decided where backends could differ:
 *  - Queues are served round robin: successive fetches begin with successive queues, none starves.
 *  - A renew pushes the lease to lease_ms from now. Renewing a receipt that no longer holds brings
 * BROKER_LOST for it; LOST may also come unasked. A caller ignores LOST for what it has finished.
 *  - A note or a bury never overwrites a stored SUCCESS either: the note is dropped, the message is
 * buried without its result. store then says BROKER_STORED with BROKER_DUPLICATE.
 *  - Tags and tokens of follow-ups are ignored. Tags of the caller are below 2^63.
 *  - BROKER_REDELIVERED is a hint: never set on a first delivery; a backend that cannot know leaves
 * it out.
 *  - A released message keeps its priority; with not_before_ms it is delayed and `front` is
 * ignored. DEAD_RETRY sends to the back.
 *  - Take-over hands the messages of lower generations back to the front of their queues; brokers
 * of one node and one generation live side by side.
 *  - A watch may skip states that were overwritten before it looked; never the ready one.
 *  - With several finishes, publishes or releases in one call each item succeeds or fails alone.
 *  - An announcement is news, not data: it may be lost, is never waited for, counts nowhere and
 * wakes nobody.
 *  - A claim has no renewal of its own: it names its delivery, and holds as long as that delivery
 * is leased. Then (released, expired, taken over, vanished) whoever claims next has it. What a
 * retry keeps is for that job alone until its time is over. So a job takes its claim again after a
 * redelivery; one that lost both lease and claim finds out by REFUSED.
 *  - Two deliveries of one job id (a message sent twice) exclude one another like two jobs, except
 * where a backend cannot see whether the first is still leased: there the same id may always take
 * it again.
 *  - A finish or bury whose delivery does not hold the key it names leaves that key alone.
 *
 * Ownership: items are borrowed during the call. What an event points to is borrowed until the next
 * call on the same broker. Fork rule: open after fork, use in one process and one thread. Errors of
 * the connection arrive as BROKER_STATE events; ops may be submitted while it is down and are kept,
 * in order, until it is back or fails for good.
 */
#ifndef BROKER_BROKER_H
#define BROKER_BROKER_H

#include "base/clock.h"
#include "base/err.h"
#include "base/log.h"
#include "base/slice.h"

#include <poll.h>
#include <stdbool.h>
#include <stdint.h>

struct broker;

/* What a backend can do; the generic layer refuses at open what a caller needs and the backend
 * lacks. */
enum broker_caps {
    BROKER_CAP_ATOMIC_FINISH = 1 << 0,
    BROKER_CAP_LEASES = 1 << 1,
    BROKER_CAP_DELAY = 1 << 2,
    BROKER_CAP_PRIORITY = 1 << 3,
    BROKER_CAP_PEEK = 1 << 4,
    BROKER_CAP_RESULTS = 1 << 5,
    BROKER_CAP_DURABLE = 1 << 6,   /* outlives the processes that use it */
    BROKER_CAP_CLAIMS = 1 << 7,    /* broker_claim; without it that op is refused (ERR_USAGE) */
    BROKER_CAP_NO_SIGPIPE = 1 << 8 /* nothing that it does raises that signal */
};

struct broker_config {
    const char *url;        /* broker URL */
    const char *result_url; /* NULL: results live in the broker; "disabled://": nowhere */
    const char *node; /* "celery@host"; identifies leases. NULL for a client that leases nothing */
    uint64_t generation; /* grows with each dispatcher of one node: a higher one takes over the
                            lower ones' leases at open */
    const char *const *queues; /* consumed queues, in order; borrowed during open */
    size_t queues_len;
    int64_t lease_ms;          /* 0: 30,000 */
    int64_t result_expires_ms; /* default for results: 0: 86,400,000; negative: never */
    int64_t message_max;       /* bytes; a longer publish is refused (ERR_USAGE). 0: 256 MiB */
    const struct clock *clock; /* NULL: the system's */
    const struct log *log;     /* NULL: silent */
    bool replies; /* the opener means to wait for results of what it publishes: a broker that can
                     then has them sent to it */
    bool trace;   /* wrap with the decorator of trace.c */
};

/* Opaque, filled by the backend; compared and copied by value. */
struct broker_receipt {
    unsigned char bytes[48];
};

/* One message to enqueue. */
struct broker_message {
    uint64_t tag;
    struct slice queue;
    struct slice envelope;
    struct slice token; /* {NULL,0}: not idempotent; else at most 64 bytes, remembered for 60 s over
                           all queues */
    /* {NULL,0}: none. Else a name of at most 40 bytes that no other call has, and the message's
     * place in that call. A resend keeps both, and passes all that got no answer, so a broker may
     * remember parts of the batch, answered together, instead of each token; that is cheaper. */
    struct slice batch;
    uint32_t batch_at;
    bool fresh;            /* no resend: nobody was ever given this batch, or without one this
                              token, and until it is PUBLISHED only this handle will be, again; after
                              that nobody. False is safe, true may be cheaper */
    struct slice id;       /* task id, for people (peek of delayed messages); may be absent */
    int priority;          /* 0-9 */
    int64_t not_before_ms; /* wall clock; 0: now */
    bool continues;        /* the same job goes on (a retry, a re-send): not counted as published */
};

/* How a job ended, as the totals count it. */
enum broker_outcome {
    BROKER_JOB_SUCCEEDED,
    BROKER_JOB_FAILED,   /* FAILURE or REVOKED */
    BROKER_JOB_CONTINUES /* RETRY: the job goes on in one of the follow-ups (which has continues
                            set) */
};

struct broker_finish {
    uint64_t tag;
    struct broker_receipt receipt;
    enum broker_outcome outcome;
    struct slice result_id;                 /* {NULL,0}: store no result */
    struct slice result;                    /* the result document, JSON text as Celery stores it */
    int64_t result_expires_ms;              /* 0: the configured default; negative: never */
    const struct broker_message *followups; /* borrowed; their tags are ignored */
    size_t followups_len;
    struct slice dedup_key;  /* of the claim that this delivery holds, or {NULL,0} */
    int64_t dedup_window_ms; /* with a key: how long a success is remembered; above 0 */
    bool duplicate; /* SUCCEEDED only: another job's success stands for this one. Counted under
                       succeeded and duplicates; FINISHED then has BROKER_DUPLICATE */
};

/* A state that is not final, stored and announced while the receipt still holds; dropped in silence
 * otherwise. */
struct broker_note {
    struct broker_receipt receipt;
    struct slice result_id;
    struct slice result;
};

/* Hand back. */
struct broker_release {
    uint64_t tag;
    struct broker_receipt receipt;
    int64_t not_before_ms; /* 0: now */
    struct slice
        envelope; /* {NULL,0}: as it was; else what to store instead (attempt counter raised) */
    bool front;   /* to the front of its queue (shutdown, lost worker) instead of the back */
};

/* Where a buried message rests. */
enum broker_grave { BROKER_DEAD, BROKER_UNKNOWN };

struct broker_bury {
    uint64_t tag;
    struct broker_receipt receipt;
    enum broker_grave grave; /* <queue>.dead or <queue>.unknown */
    struct slice cause;      /* one line of text */
    struct slice id;         /* task id and name where they can be read, for dead ls */
    struct slice task;
    struct slice
        result_id; /* as in broker_finish: a FAILURE to store in the same step, or {NULL,0} */
    struct slice result;
    struct slice dedup_key; /* of the claim that this delivery holds and gives up, or {NULL,0} */
};

/*
 * The right to run the job that a key stands for, asked for before it runs. The answer is one
 * BROKER_CLAIMED event with the item's tag and
 *   BROKER_WON        this delivery holds the key now: run the job, finish settles the claim
 *   BROKER_DUPLICATE  done inside its window: event.id is the task id that succeeded, event.data
 * its result document as it is stored now, {NULL,0} when there is none any more. With
 * BROKER_REDELIVERED beside it: done by this very job, whose finish was cut short, so that what
 * follows from it may not have been sent (only where finish is not one step); neither: the
 * delivery of event.id holds the key or its retry is due: ask again later. Or BROKER_REFUSED when
 * the lease behind the receipt is gone. Asking again under the same receipt is safe: the holder
 * wins again.
 */
struct broker_claim {
    uint64_t tag;
    struct broker_receipt receipt;
    struct slice key;  /* BROKER_KEY_MAX bytes at most, any bytes */
    struct slice id;   /* task id of the delivery; not empty */
    int64_t window_ms; /* above 0, as in the finish that may follow; for brokers that must know
                          beforehand how long they will be asked to remember */
};

#define BROKER_KEY_MAX 512

/* A result written without a delivery (result backend elsewhere; client-side states). SUCCESS is
 * never overwritten. */
struct broker_store {
    uint64_t tag;
    struct slice id;
    struct slice result;
    int64_t expires_ms;
};

/*
 * Questions of operators. The answer is one BROKER_ANSWER event whose data is JSON (answer.h writes
 * it):
 *  QUEUES      [{"queue":"celery","waiting":1,"delayed":0,"leased":2,"dead":0,"unknown":0}, ...]
 *              sorted by name: every queue that holds anything or that this broker consumes, and
 *              others that are known
 *  TOTALS      {"published":..,"succeeded":..,"failed":..,"retried":..,"dead":..,"waiting":..,
 *              "leased":..,"delayed":..,"duplicates":..,"purged":..,"removed":..} over all queues.
 *              dead: buried and not sent again, .unknown included; what dead rm removed stays in
 *              "dead" and is also told as "removed"; what purge removed is counted into "failed"
 *              and also told as "purged": so invariant 9 holds
 *  PEEK        [{"state":"waiting"|"delayed"|"leased","priority":0,"not_before_ms":0,
 *              "envelope":"..."}] first `limit` of `queue`: waiting ones, next to be delivered
 *              first, then delayed ones by time, then leased ones
 *  PURGE       {"purged":N} removes waiting and delayed messages of `queue`
 *  DEAD        [{"handle":"...","queue":"celery","grave":"dead"|"unknown","cause":"..","id":..,
 *              "task":..,"at_ms":..,"size":..}] of `queue`, or of all when it is empty; at most
 *              `limit`, oldest first within a queue and grave
 *  DEAD_SHOW   the same one object plus "envelope", by `handle`; {} when there is none
 *  DEAD_RETRY  {"moved":N} sends it back to its queue, by `handle` ("all": every one of `queue`, of
 *              all queues when it is empty), lost-worker counters kept
 *  DEAD_RM     {"removed":N} by `handle` or "all", as DEAD_RETRY
 *  NODES       [{"node":"celery@host", ...}] the objects that nodes announced and whose time is not
 *              over, sorted by the node they were announced under, each as it was announced (only
 *              an object without a "node" gets that one)
 *  DOCTOR      [{"check":"..","value":"..","verdict":"ok"|"warn"|"bad","advice":".."|null}, ...]
 * how this broker is set up, for the person who runs it: at least one row; `queue` may name queues
 * to look at, separated by commas. Changes nothing
 *  DROP        {"dropped":0|1} forgets `queue`, which must hold nothing (else 0). Only for one that
 *              nobody but the asker has open: others may go on under what they remember of it. A
 *              broker that forgets no queue answers 0, RabbitMQ 1 for one that never was
 */
enum broker_question {
    BROKER_ASK_QUEUES,
    BROKER_ASK_TOTALS,
    BROKER_ASK_PEEK,
    BROKER_ASK_PURGE,
    BROKER_ASK_DEAD,
    BROKER_ASK_DEAD_SHOW,
    BROKER_ASK_DEAD_RETRY,
    BROKER_ASK_DEAD_RM,
    BROKER_ASK_NODES,
    BROKER_ASK_DOCTOR,
    BROKER_ASK_DROP
};

struct broker_ask {
    uint64_t tag;
    enum broker_question question;
    struct slice queue;
    struct slice handle;
    int64_t limit; /* 0: 100 */
};

enum broker_event_kind {
    BROKER_DELIVERED, /* receipt, queue, data = envelope, fence; flags BROKER_REDELIVERED */
    BROKER_PUBLISHED, /* tag */
    BROKER_FINISHED,  /* tag; flags BROKER_DUPLICATE */
    BROKER_RELEASED,  /* tag */
    BROKER_BURIED,    /* tag */
    BROKER_REFUSED,   /* tag of a finish, release, bury or claim whose lease was lost */
    BROKER_STORED,    /* tag of a store */
    BROKER_RESULT,    /* tag of a get or watch; data = document, {NULL,0} when there is none */
    BROKER_FORGOTTEN, /* tag of a forget */
    BROKER_ANSWER,    /* tag of an ask; data = JSON, terminated behind its end */
    BROKER_FAILED, /* tag of any item that was not done (or, with ERR_RECONNECT, perhaps done): err
                      says why */
    BROKER_LOST,  /* receipt: the lease is gone (expired, taken over, connection generation over) */
    BROKER_STATE, /* flags BROKER_UP, or down with err (ERR_RECONNECT: it tries again by itself;
                     ERR_OPERATOR: it needs help) */
    BROKER_CLAIMED /* tag of a claim; flags BROKER_WON, or BROKER_DUPLICATE or none with id, data */
};

enum broker_event_flags {
    BROKER_REDELIVERED = 1 << 0,
    BROKER_DUPLICATE = 1 << 1,
    BROKER_UP = 1 << 2,
    BROKER_WON = 1 << 3
};

struct broker_event {
    enum broker_event_kind kind;
    unsigned flags;
    uint64_t tag;
    uint64_t fence; /* of a delivery: grows with every delivery of this broker. Of CLAIMED with
                       BROKER_WON: grows with everybody who comes to hold that key, and takes the
                       place of the delivery's; 0: that one does it */
    struct broker_receipt receipt;
    struct slice queue;
    struct slice data;
    struct slice id; /* of CLAIMED, unless won: the task id that holds the key or succeeded */
    const struct err *err;
};

/* Opens a broker by its URL. Connecting may go on in the background; the first BROKER_STATE event
 * tells. ERR_USAGE for a URL that can not be understood, ERR_OPERATOR for what cannot work (a
 * missing directory, a corrupt file). NULL on error. */
struct broker *broker_open(const struct broker_config *config, struct err *e);

/* If release_leases, hands back every lease that is held (to the front of the queues) and takes
 * back what was announced; then frees. NULL is a no-op. Bounded wait of 2 s. */
void broker_close(struct broker *b, bool release_leases);

unsigned broker_caps(const struct broker *b);

/* The descriptors to sleep on and the direction each wants; at most max, returns how many. May
 * change with every call. */
int broker_pollset(struct broker *b, struct pollfd *fds, int max);

/* Monotonic ms at which broker_poll wants to be called even when no descriptor is ready;
 * CLOCK_NEVER for none; a time that has passed means "now". */
int64_t broker_deadline(struct broker *b);

/* Works and hands out at most max events. Returns how many; when it returns max, call again. */
int broker_poll(struct broker *b, struct broker_event *events, int max);

/* Sleeps until broker_poll has something to do or until_ms (monotonic) has come; may return sooner.
 * For a caller with nothing else to wait for. Ends, as broker_poll does, what that lent. */
void broker_sleep(struct broker *b, int64_t until_ms);

/* Only a hint, for callers that know: no descriptor of the last pollset was ready when they looked,
 * so the next poll need not read. A broker that does not care ignores it. */
void broker_nothing_ready(struct broker *b);

/* Only a hint as well: a burst is over, so memory that only the next one needs may go. */
void broker_rest(struct broker *b);

/* How many more deliveries are wanted now; each delivery uses one up. Replaces the earlier number;
 * a fetch already under way may still bring what it was asked for. Ignored without node or queues.
 */
void broker_credit(struct broker *b, int n);

int broker_publish(struct broker *b, const struct broker_message *v, size_t n, struct err *e);
int broker_renew(struct broker *b, const struct broker_receipt *v, size_t n, struct err *e);
int broker_note(struct broker *b, const struct broker_note *v, size_t n, struct err *e);
int broker_finish(struct broker *b, const struct broker_finish *v, size_t n, struct err *e);
int broker_release(struct broker *b, const struct broker_release *v, size_t n, struct err *e);
int broker_bury(struct broker *b, const struct broker_bury *v, size_t n, struct err *e);
int broker_store(struct broker *b, const struct broker_store *v, size_t n, struct err *e);
int broker_claim(struct broker *b, const struct broker_claim *v, size_t n, struct err *e);
int broker_ask(struct broker *b, const struct broker_ask *ask, struct err *e);

/* Says that the config's node lives: json, one JSON object, is told by BROKER_ASK_NODES until
 * ttl_ms from now or the next announcement of that node; the last one wins. There is no event: what
 * could not be written is dropped in silence, so say it again well within ttl_ms. ERR_USAGE for a
 * broker without a node and for a text that is no JSON object. */
int broker_announce(struct broker *b, struct slice json, int64_t ttl_ms, struct err *e);

/* One RESULT event per id, in any order; tags[i] belongs to ids[i]. */
int broker_result_get(struct broker *b, const uint64_t *tags, const struct slice *ids, size_t n,
                      struct err *e);

/* A RESULT event (never with empty data) for the stored document, if any, and for every one stored
 * later, until a ready state (SUCCESS, FAILURE, REVOKED) was handed out or broker_result_unwatch.
 */
int broker_result_watch(struct broker *b, const uint64_t *tags, const struct slice *ids, size_t n,
                        struct err *e);
/* Says that these results will be watched, before their messages are published through this handle.
 * A broker that can listen for them ahead need not look at what is stored when they are asked for,
 * which only broker_result_watch does. False: it can not, and nothing happened. */
bool broker_result_expect(struct broker *b, const struct slice *ids, size_t n);
void broker_result_unwatch(struct broker *b, const struct slice *ids, size_t n);
int broker_result_forget(struct broker *b, const uint64_t *tags, const struct slice *ids, size_t n,
                         struct err *e);

/* Comma-separated schemes that can be opened, for messages. */
const char *broker_schemes(void);

#endif
