/*
 * amqp_ledger.h - who may run what: the claim ledger as a pure replicated state machine.
 *
 * Purpose: exactly one owner for each dedup key, agreed on by all dispatchers without a lock and
 * without trust in clocks. No I/O here: the backend publishes the records and feeds back, in log
 * order, every record of the stream, its own among them.
 *
 * Model: a stream is one log, the same for all who read it. amqp_ledger_apply takes the next record
 * and its offset and says what it did. State is a table of keys:
 *     none -> running (owner since an offset) -> done (for its window) -> none
 *                                             -> kept (for a retry, for its time) -> running
 * A record names the offset that it builds on (prev): compare-and-swap on the log. A claim takes
 * effect only if prev is the offset of the present owner's record, or AMQP_RECORD_NONE when there
 * is none; done, keep and release only if prev is the offset of the present, running owner. A done
 * key can not be claimed, a kept one by the task id only that it is kept for. So of all who claim
 * on the same knowledge the first in the log wins, and everyone sees the same winner. The winning
 * offset is the fence number of the run.
 *
 * Time: log time T is the greatest stamp of all records applied so far, this one included. A done
 * key is forgotten when T is more than window_ms after the stamp of its done; a claim that was not
 * said again (AMQP_CLAIM_HELD) for AMQP_LEDGER_CLAIM_S is forgotten as well. All replicas compute
 * the same T and forget alike. A
 * publisher stamps with amqp_ledger_stamp (its wall clock, or T when that is ahead), so that a
 * replica that began later catches up with T.
 *
 * Stealing: when to try is local. An owner is thought lost when nothing of its host was seen for
 * lease_ms of the caller's monotonic clock (struct amqp_ledger_view, steal_at_ms); whoever thinks
 * so publishes a claim with prev = the owner's offset. Who wins is again the log's order. Every
 * record shows that its host lives; a host that is silent for lease_ms / 3 publishes
 * AMQP_CLAIM_ALIVE.
 *
 * Begin in the middle: a replica that starts reads from AMQP_LEDGER_CLAIM_S or the longest window
 * in use, whichever is longer, plus AMQP_LEDGER_SLACK_S before now; then publishes a sync and
 * neither claims nor runs before it comes back (AMQP_LEDGER_SYNCED). What was owned before its
 * first record it learns from those who cite it: prev below the first offset is taken for true
 * during the first AMQP_LEDGER_CLAIM_S of log time, since a publisher cites only what it has seen
 * win. That is sound as long as no publisher lags AMQP_LEDGER_SLACK_S behind the log, and is why a
 * claim that runs for long has to be said again every AMQP_LEDGER_HELD_S.
 *
 * What the backend must do besides:
 *  - The first decision for a nonce counts; a record that was published twice (a lost confirm)
 *    brings a second one. A CLAIM_WON for a nonce that nobody waits for must be released at once.
 *  - Whoever learns that it is not the owner (robbed, or a refusal) never cites that offset again.
 *  - After a reconnect it goes on at amqp_ledger_next(). When the log does not go on there (a
 *    decision with `gap`: it was truncated meanwhile) the table was emptied and begins anew with
 *    that record: sync again, and take running claims for lost unless a HELD of theirs is accepted.
 *    A stream that was deleted and declared again counts from 0: reset the ledger.
 *
 * Invariants: equal logs give equal amqp_ledger_digest. An offset is applied once; a smaller one
 * than the next is skipped. Records that are malformed are skipped and counted. No step costs more
 * than a few table lookups: expired keys are removed a few at a time. When result documents need
 * more than docs_max bytes, those of the keys done first are dropped; the keys stay.
 *
 * Ownership: slices of a view are borrowed until the next call on the ledger. Fork rule: none; one
 * thread.
 */
#ifndef BROKER_AMQP_LEDGER_H
#define BROKER_AMQP_LEDGER_H

#include "base/err.h"
#include "broker/amqp_record.h"

#include <stddef.h>

#define AMQP_LEDGER_CLAIM_S 3600 /* a claim lives that long without being said again */
#define AMQP_LEDGER_HELD_S  900  /* say it again that often */
#define AMQP_LEDGER_SLACK_S 120  /* no publisher lags so far behind */
/* The server writes entries of its own where a segment of the stream begins: so many missing
 * offsets are no gap. What is truncated is a whole segment. */
#define AMQP_LEDGER_FOREIGN 16

struct amqp_ledger;

struct amqp_ledger_config {
    uint64_t host;    /* of this dispatcher, as in its records */
    int64_t lease_ms; /* silence after which a host is thought lost. 0: 30,000 */
    size_t docs_max;  /* bytes of result documents. 0: 64 MiB */
};

/* NULL when out of memory. */
struct amqp_ledger *amqp_ledger_new(const struct amqp_ledger_config *config);
void amqp_ledger_free(struct amqp_ledger *l); /* NULL is a no-op */

/* Forgets all, as after _new. */
void amqp_ledger_reset(struct amqp_ledger *l);

enum amqp_ledger_verdict {
    AMQP_LEDGER_SKIPPED, /* malformed, or of an offset that was applied before */
    AMQP_LEDGER_SEEN,    /* of a host that lives, or another's sync */
    AMQP_LEDGER_CLAIM_WON,
    AMQP_LEDGER_CLAIM_LOST,
    AMQP_LEDGER_HELD,
    AMQP_LEDGER_HELD_REFUSED, /* the owner is not, or no longer, the owner */
    AMQP_LEDGER_DONE,
    AMQP_LEDGER_DONE_REFUSED,
    AMQP_LEDGER_KEPT,
    AMQP_LEDGER_KEEP_REFUSED,
    AMQP_LEDGER_RELEASED,
    AMQP_LEDGER_RELEASE_REFUSED,
    AMQP_LEDGER_SYNCED /* own sync */
};

/* What one record did. Own records (host is this dispatcher) settle the op with that nonce; what
 * others did to a key is for those who wait for it. */
struct amqp_ledger_decision {
    enum amqp_ledger_verdict verdict;
    bool own;       /* the record is this dispatcher's */
    bool robbed;    /* CLAIM_WON of another host took the key from this one */
    bool gap;       /* the log did not go on where it ended: the table was emptied before */
    uint64_t nonce; /* the record's */
    int64_t offset; /* the record's; of CLAIM_WON: the fence number */
    int64_t prev;   /* the record's; robbed: the fence number that was lost */
    struct amqp_key key;
};

/* Takes the next record. seen_ms: monotonic, now. -1: out of memory; the ledger must then be reset
 * and read again. */
int amqp_ledger_apply(struct amqp_ledger *l, int64_t offset, struct slice record, int64_t seen_ms,
                      struct amqp_ledger_decision *d, struct err *e);

enum amqp_ledger_state {
    AMQP_LEDGER_NONE,
    AMQP_LEDGER_RUNNING,
    AMQP_LEDGER_OVER,
    AMQP_LEDGER_WAITING /* kept: only a claim of the same task id can win */
};

struct amqp_ledger_view {
    enum amqp_ledger_state state;
    bool own;            /* the owner is this dispatcher */
    uint64_t host;       /* the owner */
    int64_t offset;      /* what a claim names as prev: the record that made this state, or
                            AMQP_RECORD_NONE */
    int64_t steal_at_ms; /* running: monotonic; CLOCK_NEVER for an own one */
    int64_t until_ms;    /* the last log time at which it is so */
    struct slice id;     /* task id of the first */
    struct slice doc;    /* over: its result document; {NULL,0}: not kept here */
};

/* now_ms: the wall clock. A key whose time is over by it is none: a claim that is stamped with it
 * will find it so. */
void amqp_ledger_lookup(struct amqp_ledger *l, const struct amqp_key *key, int64_t now_ms,
                        struct amqp_ledger_view *view);

/* What to write into now_ms of a record. */
int64_t amqp_ledger_stamp(const struct amqp_ledger *l, int64_t now_ms);

/* T; 0 before the first record. */
int64_t amqp_ledger_time(const struct amqp_ledger *l);

/* The offset that is expected next; 0 before the first record. */
int64_t amqp_ledger_next(const struct amqp_ledger *l);

struct amqp_ledger_stats {
    uint64_t applied, skipped, won, lost, done, refused, adopted;
    size_t keys;  /* in the table, with those that wait for their removal */
    size_t docs;  /* bytes of documents */
    size_t bytes; /* of memory, without documents and task ids that are no UUID */
    size_t hosts;
};
void amqp_ledger_stats(const struct amqp_ledger *l, struct amqp_ledger_stats *out);

/* Of all keys and owners that live at T, whatever order they came in; documents are left out. Walks
 * the whole table: for tests and for an operator's question. */
uint64_t amqp_ledger_digest(const struct amqp_ledger *l);

#endif
