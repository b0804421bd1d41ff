/*
 * sqlite.h - the broker in one SQLite file: what its own files share.
 *
 * Purpose: a queue without a server. Model: ops are copied into a list and carried out at the next
 * poll, all in ONE transaction (BEGIN IMMEDIATE ... COMMIT, at most BATCH_* of them); their events
 * are staged and handed out only after COMMIT returned. Any error rolls everything back, keeps the
 * list and tries again later: an op is either done and reported, or still in the list. Polls that
 * have nothing to write read at most, and take no lock that another process could feel.
 *
 * Waiting: after COMMIT one byte is written to PATH-bell, which the others watch with inotify
 * (sqlite_bell.c); a tick every second covers a writer that died in between. PRAGMA data_version
 * says whether a ring meant a commit that was not seen yet.
 *
 * Files: sqlite_schema.c tables and their invariants; sqlite_stmt.c every statement's text;
 * sqlite_open.c open, close, errors; sqlite_op.c the list of ops; sqlite_batch.c the poll;
 * sqlite_queue.c publish and fetch; sqlite_lease.c; sqlite_finish.c the ends of a delivery;
 * sqlite_claim.c; sqlite_results.c; sqlite_watch.c; sqlite_node.c; sqlite_ask.c;
 * sqlite_doctor.c; sqlite_bell.c.
 *
 * Errors: functions that touch the file return SQLite's result code (SQLITE_OK, SQLITE_BUSY, ...),
 * which sqlite_problem translates once, where the transaction ends. Fork rule: as broker.h; the
 * database handle never crosses a fork.
 */
#ifndef BROKER_SQLITE_H
#define BROKER_SQLITE_H

#include "base/buf.h"
#include "base/words.h"
#include "broker/backend.h"
#include "broker/events.h"

#include <sqlite3.h>

/* --- statements (sqlite_stmt.c) --- */

enum sqlite_stmt_id {
    SQL_BEGIN,
    SQL_BEGIN_READ,
    SQL_COMMIT,
    SQL_ROLLBACK,
    SQL_VERSION,
    SQL_STATE_GET,
    SQL_STATE_SET,
    SQL_QUEUE_GET,
    SQL_QUEUE_ADD,
    SQL_MESSAGE_ADD,
    SQL_MESSAGE_SET,
    SQL_MESSAGE_DEL,
    SQL_READY_ADD,
    SQL_READY_ANY,
    SQL_READY_HEAD,
    SQL_READY_CUT,
    SQL_DELAYED_ADD,
    SQL_DELAYED_DUE,
    SQL_DELAYED_CUT,
    SQL_TOKEN_SEEN,
    SQL_TOKEN_ADD_0,
    SQL_TOKEN_ADD_1,
    SQL_TOKEN_CLEAR_0,
    SQL_TOKEN_CLEAR_1,
    SQL_LEASE_ADD,
    SQL_LEASE_GET,
    SQL_LEASE_RENEW,
    SQL_LEASE_DEL,
    SQL_LEASE_EXPIRED,
    SQL_LEASE_OLDER,
    SQL_LEASE_MINE,
    SQL_RESULT_PUT,
    SQL_RESULT_GET,
    SQL_RESULT_DEL,
    SQL_RESULT_NEWER,
    SQL_RESULT_EXPIRED,
    SQL_RESULT_SWEEP,
    SQL_CLAIM_GET,
    SQL_CLAIM_PUT,
    SQL_CLAIM_SETTLE,
    SQL_CLAIM_DEL,
    SQL_CLAIM_EXPIRED,
    SQL_CLAIM_SWEEP,
    SQL_CLAIM_POSTPONE,
    SQL_DEAD_ADD,
    SQL_DEAD_LIST,
    SQL_DEAD_GET,
    SQL_DEAD_IDS,
    SQL_DEAD_REVIVE,
    SQL_DEAD_DEL,
    SQL_ASK_QUEUES,
    SQL_ASK_TOTALS,
    SQL_ASK_PEEK,
    SQL_PURGE_READY_MESSAGES,
    SQL_PURGE_READY,
    SQL_PURGE_DELAYED_MESSAGES,
    SQL_PURGE_DELAYED,
    SQL_QUEUE_DROP,
    SQL_NODE_PUT,
    SQL_NODE_DEL,
    SQL_NODE_SWEEP,
    SQL_ASK_NODES,
    SQL_COUNT
};

/* One bound value. */
struct sqlite_arg {
    enum { SQLITE_ARG_INT, SQLITE_ARG_TEXT, SQLITE_ARG_BLOB } kind;
    int64_t number;
    struct slice bytes; /* absent: NULL */
};

#define ARG_INT(n)  ((struct sqlite_arg){.kind = SQLITE_ARG_INT, .number = (n)})
#define ARG_TEXT(s) ((struct sqlite_arg){.kind = SQLITE_ARG_TEXT, .bytes = (s)})
#define ARG_BLOB(s) ((struct sqlite_arg){.kind = SQLITE_ARG_BLOB, .bytes = (s)})

/* --- ops (sqlite_op.c) --- */

enum sqlite_op_kind {
    SQLITE_OP_PUBLISH,
    SQLITE_OP_RENEW,
    SQLITE_OP_NOTE,
    SQLITE_OP_FINISH,
    SQLITE_OP_RELEASE,
    SQLITE_OP_BURY,
    SQLITE_OP_STORE,
    SQLITE_OP_CLAIM,
    SQLITE_OP_GET,
    SQLITE_OP_FORGET,
    SQLITE_OP_ASK,
    SQLITE_OP_KINDS
};

struct sqlite_id {
    uint64_t tag;
    struct slice id;
};

/* One submitted item with its texts behind it in the same block. */
struct sqlite_op {
    struct sqlite_op *next;
    enum sqlite_op_kind kind;
    size_t size; /* bytes of the block */
    union {
        struct broker_message publish;
        struct broker_receipt renew;
        struct broker_note note;
        struct broker_finish finish;
        struct broker_release release;
        struct broker_bury bury;
        struct broker_store store;
        struct broker_claim claim;
        struct sqlite_id id; /* get, forget */
        struct broker_ask ask;
    };
};

struct sqlite_ops_list {
    struct sqlite_op *head;
    struct sqlite_op *tail;
    size_t len;
    size_t writers; /* ops that change the file */
};

void sqlite_ops_release(struct sqlite_ops_list *list);
/* Drops the first n, which are done. */
void sqlite_ops_drop(struct sqlite_ops_list *list, size_t n);
bool sqlite_op_writes(const struct sqlite_op *op);
/* Moves all of `from` to the end of list. */
void sqlite_ops_append(struct sqlite_ops_list *list, struct sqlite_ops_list *from);

/* Appends copies; -1 with ERR_NOMEM and nothing appended. item_size: of one item in v. */
int sqlite_ops_add(struct sqlite_ops_list *list, enum sqlite_op_kind kind, const void *v,
                   size_t item_size, size_t n, struct err *e);

/* --- the broker --- */

/* The one row of table state: read when a transaction begins, written when it ends. */
struct sqlite_state {
    int64_t published, succeeded, failed, retried, duplicates, purged, removed;
    int64_t last_id;      /* of messages, and of places in a queue */
    int64_t last_fence;   /* of leases */
    int64_t last_version; /* of results */
    int64_t tokens_at_ms; /* when the two token tables were last turned, wall clock */
    int64_t tokens_turn;  /* the table that is written to: 0 or 1 */
};

struct sqlite_queue {
    int64_t id;
    char *name; /* owned */
    size_t len;
};

/* A receipt's content. */
struct sqlite_receipt {
    int64_t fence;
    int64_t message;
};

struct sqlite_watch {
    struct sqlite_watch *next;
    uint64_t tag;
    int64_t seen; /* version of the document handed out last */
    bool fresh;   /* the stored document was not looked up yet */
    size_t id_len;
    char id[];
};

struct sqlite_watches {
    struct sqlite_watch **slots; /* hash table with chains; slots_len is a power of two or 0 */
    size_t slots_len;
    size_t len;
    size_t fresh;
    int64_t seen; /* results up to this version were looked at */
    bool scan;    /* there may be newer ones */
};

struct sqlite_bell {
    char *path; /* owned */
    int fd;     /* written to */
    int notify; /* inotify; -1 when nobody listens here */
    int watch;
};

/* What this node says of itself; the latest only. */
struct sqlite_news {
    struct slice json; /* owned; {NULL,0}: nothing to write */
    int64_t until_ms;  /* wall clock */
    bool told;         /* the file may hold a record of ours */
};

struct sqlite_broker {
    struct broker base;
    const struct clock *clock;
    const struct log *log;
    sqlite3 *db;
    sqlite3_stmt *stmts[SQL_COUNT];
    char *path; /* owned */
    char *node; /* owned */
    bool full_sync;
    bool ready_to_work; /* the schema is there and our leases were taken over */
    uint64_t generation;
    int64_t owner; /* random: brokers of one node and generation live side by side */
    int64_t lease_ms;
    int64_t result_expires_ms;

    struct sqlite_queue *queues; /* every queue whose number is known here */
    size_t queues_len, queues_cap;
    struct words consumed; /* names, in order */
    size_t next_queue;     /* where the next fetch begins */
    int credit;

    struct sqlite_ops_list ops;
    struct event_queue out;    /* after COMMIT */
    struct event_queue staged; /* of the transaction under way */
    struct sqlite_state state;
    bool state_known; /* state is what the file holds, if nobody else committed since */
    int64_t state_version;
    bool state_dirty;
    bool news;   /* this transaction changed what others may wait for */
    int fetched; /* deliveries of this transaction */

    int64_t seen_version; /* data_version when we last looked everywhere */
    bool maybe_more;      /* a fetch may find something */
    bool look;            /* the bell rang: read what is due */
    bool tick;            /* the tick came: look, and for what expired too */
    bool sweep;           /* something expired was seen */
    int64_t tick_at;      /* monotonic */
    int64_t due_at;       /* wall clock of the first delayed message; CLOCK_NEVER */

    int64_t retry_at; /* monotonic; 0: no problem */
    int64_t problem_since;
    unsigned tries;
    bool said;    /* the problem was told by a STATE event */
    bool said_up; /* the last STATE event said up */

    struct sqlite_watches watches;
    struct sqlite_news announced;
    struct sqlite_bell bell;
};

/* --- sqlite_stmt.c --- */

/* Prepares (once), resets and binds; n arguments. */
int sqlite_bind(struct sqlite_broker *b, enum sqlite_stmt_id id, sqlite3_stmt **out,
                const struct sqlite_arg *args, size_t n);
/* Runs a statement that returns no row. */
int sqlite_exec_args(struct sqlite_broker *b, enum sqlite_stmt_id id, const struct sqlite_arg *args,
                     size_t n);
#define SQLITE_ARGS(...)                                                                           \
    (const struct sqlite_arg[]){__VA_ARGS__},                                                      \
        sizeof((const struct sqlite_arg[]){__VA_ARGS__}) / sizeof(struct sqlite_arg)
#define sqlite_do(b, id, ...)          sqlite_exec_args(b, id, SQLITE_ARGS(__VA_ARGS__))
#define sqlite_query(b, id, stmt, ...) sqlite_bind(b, id, stmt, SQLITE_ARGS(__VA_ARGS__))
/* Ends a query: SQLITE_DONE becomes SQLITE_OK. */
int sqlite_end(sqlite3_stmt *stmt, int rc);
struct slice sqlite_column(sqlite3_stmt *stmt, int column);
/* Rows that the last statement changed. */
int sqlite_changed(struct sqlite_broker *b);
void sqlite_finalize(struct sqlite_broker *b);

/* --- sqlite_schema.c --- */

/* Tables made or checked. err is filled for what only a person can mend; then SQLITE_ERROR. */
int sqlite_schema(struct sqlite_broker *b, struct err *e);

/* --- sqlite_open.c --- */

/* Schema, numbers of the consumed queues, take-over. */
int sqlite_setup(struct sqlite_broker *b, struct err *e);
void sqlite_problem(const struct sqlite_broker *b, int rc, struct err *e);

/* --- sqlite_batch.c --- */

int sqlite_begin(struct sqlite_broker *b, bool write);
int sqlite_commit(struct sqlite_broker *b);
/* PRAGMA data_version: differs when another connection committed since the last call. */
int sqlite_version(struct sqlite_broker *b, int64_t *version);
void sqlite_rollback(struct sqlite_broker *b);
int sqlite_poll(struct broker *base, struct broker_event *events, int max);
int64_t sqlite_deadline(struct broker *base);
/* Carries out what is in the list, until real time deadline_ms (monotonic of the system). */
void sqlite_flush(struct sqlite_broker *b, int64_t deadline_ms);

/* --- sqlite_queue.c --- */

/* The number of a queue; made when it is new, and with _peek 0 instead. */
int sqlite_queue_id(struct sqlite_broker *b, struct slice name, int64_t *id);
int sqlite_queue_peek(struct sqlite_broker *b, struct slice name, int64_t *id);

/* The queue with this id is gone: its name is looked up again. */
void sqlite_queue_forget(struct sqlite_broker *b, int64_t id);
void sqlite_queues_forget(struct sqlite_broker *b);
int sqlite_push(struct sqlite_broker *b, const struct broker_message *m);
int sqlite_publish(struct sqlite_broker *b, const struct sqlite_op *op);
int sqlite_fetch(struct sqlite_broker *b);
/* Moves what is due to its queue, a bounded number. */
int sqlite_wake_due(struct sqlite_broker *b);
/* Reads when the first delayed message is due. */
int sqlite_due_next(struct sqlite_broker *b);
/* Reads whether anything waits in a consumed queue. */
int sqlite_ready_any(struct sqlite_broker *b, bool *any);

/* --- sqlite_lease.c --- */

/* A lease as it is recorded. */
struct sqlite_lease {
    int64_t fence, message, queue, step, place, owner;
};
void sqlite_receipt_put(struct broker_receipt *to, const struct sqlite_receipt *from);
struct sqlite_receipt sqlite_receipt_get(const struct broker_receipt *from);
/* *held false: the lease was lost. */
int sqlite_lease_find(struct sqlite_broker *b, const struct broker_receipt *receipt,
                      struct sqlite_lease *lease, bool *held);
/* Removes the lease; *held false: it was lost. */
int sqlite_lease_end(struct sqlite_broker *b, const struct broker_receipt *receipt, bool *held);
int sqlite_renew(struct sqlite_broker *b, const struct sqlite_op *op);
int sqlite_release(struct sqlite_broker *b, const struct sqlite_op *op);
/* Up to a bounded number of leases go back to the front of their queues. */
int sqlite_lease_sweep(struct sqlite_broker *b, bool *more);
int sqlite_lease_expired(struct sqlite_broker *b, bool *any);
int sqlite_lease_takeover(struct sqlite_broker *b);
int sqlite_lease_release_mine(struct sqlite_broker *b);

/* --- sqlite_finish.c --- */

int sqlite_finish(struct sqlite_broker *b, const struct sqlite_op *op);
int sqlite_note(struct sqlite_broker *b, const struct sqlite_op *op);
int sqlite_bury(struct sqlite_broker *b, const struct sqlite_op *op);
int sqlite_store(struct sqlite_broker *b, const struct sqlite_op *op);

/* --- sqlite_claim.c --- */

int sqlite_claim(struct sqlite_broker *b, const struct sqlite_op *op);
/* After the lease ended, in the same transaction; succeeded: the job has its SUCCESS. */
int sqlite_claim_finish(struct sqlite_broker *b, const struct broker_finish *f, bool succeeded);
int sqlite_claim_bury(struct sqlite_broker *b, const struct broker_bury *bury);
int sqlite_claim_expired(struct sqlite_broker *b, bool *any);
int sqlite_claim_sweep(struct sqlite_broker *b, bool *more);

/* --- sqlite_results.c --- */

/* expires_ms as in broker_finish. *kept true: a SUCCESS was there and stays. */
int sqlite_result_put(struct sqlite_broker *b, struct slice id, struct slice doc,
                      int64_t expires_ms, bool *kept);
int sqlite_result_get(struct sqlite_broker *b, const struct sqlite_op *op);
int sqlite_result_forget(struct sqlite_broker *b, const struct sqlite_op *op);
int sqlite_result_sweep(struct sqlite_broker *b, bool *more);
int sqlite_result_expired(struct sqlite_broker *b, bool *any);

/* --- sqlite_watch.c --- */

/* Hands out every watched document that is newer than the last look; outside any transaction. */
int sqlite_watch_scan(struct sqlite_broker *b);
int sqlite_watch(struct sqlite_broker *b, uint64_t tag, struct slice id, struct err *e);
void sqlite_unwatch(struct sqlite_broker *b, struct slice id);
void sqlite_watches_release(struct sqlite_broker *b);

/* --- sqlite_node.c --- */

int sqlite_node_announce(struct broker *base, struct slice json, int64_t ttl_ms, struct err *e);
/* Writes what was announced, outside any transaction; dropped when that fails. */
void sqlite_node_write(struct sqlite_broker *b);
int sqlite_node_remove(struct sqlite_broker *b);

/* --- sqlite_ask.c --- */

int sqlite_ask(struct sqlite_broker *b, const struct sqlite_op *op);

/* --- sqlite_doctor.c --- */

int sqlite_doctor(struct sqlite_broker *b, const struct broker_ask *ask, struct buf *out);

/* --- sqlite_bell.c --- */

int sqlite_bell_open(struct sqlite_bell *bell, const char *path, struct err *e);
void sqlite_bell_close(struct sqlite_bell *bell);
/* Begins to watch; a failure is logged, the tick remains. */
void sqlite_bell_watch(struct sqlite_bell *bell, const struct log *log);
void sqlite_bell_ring(struct sqlite_bell *bell);
/* True when it rang since the last call. */
bool sqlite_bell_rang(struct sqlite_bell *bell);
/* Makes the file anew when somebody removed it. */
void sqlite_bell_check(struct sqlite_bell *bell, const struct log *log);

#endif
