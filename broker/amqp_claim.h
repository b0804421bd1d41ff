/*
 * amqp_claim.h - dedup keys over RabbitMQ: what the files that deal with them share; private to
 * them and to amqp_settle.c.
 *
 * Model: who owns a key is decided by the ledger (amqp_ledger.h), which every dispatcher follows
 * (amqp_follow.c). Three things stand between the ledger and the caller:
 *  - an ask (amqp_claim.c) is one item of broker_claim. It is answered from the table when that is
 *    enough, else it publishes a claim record and is answered by what the log makes of it;
 *  - an owned key (amqp_owned.c) is a key that a delivery of this dispatcher holds, or for which a
 *    record of this dispatcher is under way. There is at most one for each key, so asks of one
 *    dispatcher for one key wait for each other here and not in the log;
 *  - the end of a run publishes its record first (done, keep, release) and holds back the result,
 *    the reply and the follow-ups until the record was seen to count. One that does not count means
 *    that the key was taken over: the finish is REFUSED and nothing of it leaves.
 *
 * Own records come back in the order in which they were published, also after a reconnection, so
 * what waits for a record is a queue; a record that was passed over was lost.
 *
 * What is remembered: a window is at most CLAIMS_WINDOW_MAX_S, longer ones are cut to it, since a
 * dispatcher that starts reads back as far as the longest window in use. It first reads an hour;
 * every dispatcher says from time to time how far back others have to read (AMQP_CLAIM_ALIVE), and
 * only when it says more, or when nobody has said anything, is more read.
 *
 * Hosts: the number of a dispatcher is made of its node, its generation and chance, so that a
 * successor knows its predecessors and need not wait for their silence.
 *
 * CRASH: after a claim is won, before it is told or run - the host falls silent, or its successor
 * comes: whoever claims next has the key. CRASH: after done was seen, before the result is
 * published - the message comes back, claims, and is told that it is done by itself, with the
 * document that the record carries and with BROKER_REDELIVERED: it is finished with that document,
 * and what follows from it is sent. When there is no document to be had it runs again.
 * Ownership: struct amqp_claims is the broker's. Fork rule: as amqp.h.
 */
#ifndef BROKER_AMQP_CLAIM_H
#define BROKER_AMQP_CLAIM_H

#include "broker/amqp.h"
#include "broker/amqp_ids.h"
#include "broker/amqp_ledger.h"
#include "broker/amqp_reader.h"

#include <sys/queue.h>

#define CLAIMS_WINDOW_MAX_S 86400
/* A longer result document is not put into the done record. */
#define CLAIMS_DOC_MAX 32768

/* One item of broker_claim. */
struct claim_ask {
    struct claim_ask *next;
    uint64_t tag;
    struct broker_receipt receipt;
    struct amqp_key key;
    bool again;         /* done by its own id: what followed may not have been sent */
    int64_t fence;      /* likewise: offset of the record that says so */
    struct slice first; /* likewise: the id that succeeded; owned */
    struct slice id;    /* behind the structure */
};

struct ask_list {
    struct claim_ask *head;
    struct claim_ask **end; /* NULL for an empty list never used */
};

enum owned_state {
    OWNED_ASKED, /* a claim is under way, for the first of its asks */
    OWNED_HELD,  /* its delivery holds it */
    OWNED_ENDING /* done, keep or release is under way */
};

struct amqp_owned {
    struct id_entry entry;        /* in the table of keys */
    TAILQ_ENTRY(amqp_owned) link; /* asked and ending: among the pending ones */
    struct amqp_owned *next;      /* held: the next one of its delivery */
    struct amqp_held *held;       /* held: its delivery */
    enum owned_state state;
    struct amqp_key key;
    uint64_t nonce;        /* asked and ending: of the record that is under way */
    int64_t fence;         /* offset of the claim that won: the fence number of the run */
    int64_t said_at_ms;    /* monotonic; held: when it was claimed or said again */
    struct out_step *step; /* ending: what it holds back; NULL: nothing. Owned */
    struct ask_list asks;  /* wait for what becomes of it. Owned */
    struct slice id;       /* task id; behind the structure */
};

TAILQ_HEAD(owned_list, amqp_owned);

/* The longest window that is in use. */
struct claims_reach {
    int64_t window_ms;
    int64_t until_ms; /* log time until which it is */
};

struct amqp_claims {
    struct amqp_ledger *ledger; /* owned */
    struct amqp_reader reader;
    uint64_t host;
    uint64_t nonce; /* of the last record published */

    struct id_table keys;      /* struct amqp_owned; owned */
    struct owned_list pending; /* those whose record is under way, in the order of the nonces */
    struct ask_list waiting;   /* asks that came before the barrier */

    bool ready; /* the barrier came back: claims may be made */
    bool begun; /* something was read since the last subscription */
    uint64_t sync_nonce;
    int64_t stuck_at_ms; /* nothing comes back: read anew */
    int64_t said_at_ms;  /* the last own record */
    int64_t reach_at_ms; /* say again how far back one has to read */
    int64_t held_at_ms;  /* look for keys to be said again */
    int64_t retry_at_ms; /* after a refusal */

    int64_t begun_ms;   /* log time does not matter here: how far back the reading began */
    int64_t started_ms; /* monotonic: when the reading began */
    bool whole;         /* it began with the first record there ever was */
    bool told;          /* some other dispatcher said how far back to read */
    struct claims_reach reach;

    bool refused;
    bool cut_told;  /* a window was cut and that was logged */
    struct err why; /* refused */
};

/* --- amqp_claim.c --- */
void asks_add(struct ask_list *list, struct claim_ask *ask);
/* Looks again at every one of them; taken. */
void asks_decide(struct amqp_broker *b, struct ask_list *list);
/* Each tells the first one and takes it off. */
void asks_win(struct amqp_broker *b, struct ask_list *list, int64_t fence);
void asks_refuse(struct amqp_broker *b, struct ask_list *list);
void asks_fail(struct amqp_broker *b, struct ask_list *list, const struct err *why);
void asks_free(struct ask_list *list);

/* --- amqp_owned.c --- */
struct owned_end {
    enum amqp_claim_kind kind; /* done, keep or release */
    int64_t window_ms;
    struct slice doc;
};

struct amqp_owned *owned_find(const struct amqp_claims *c, const struct amqp_key *key);
/* Publishes a claim that builds on what was seen. Takes the ask, also when it fails. */
void owned_ask(struct amqp_broker *b, struct claim_ask *ask, const struct amqp_ledger_view *seen);
/* The key that the delivery holds, taken off it, or NULL. */
struct amqp_owned *owned_take(struct amqp_broker *b, struct amqp_held *h, struct slice key);
/* Undoes that; gives the key up when the delivery is gone. NULL is a no-op. */
void owned_put_back(struct amqp_broker *b, struct amqp_owned *o,
                    const struct broker_receipt *receipt);
/* Publishes the end. The step's outs leave when it counts; when not, its event becomes REFUSED and
 * it is dropped. -1: nothing was published. */
int owned_end(struct amqp_broker *b, struct amqp_owned *o, const struct owned_end *end,
              struct out_step *step, struct err *e);
/* What an own record with that nonce led to. */
void owned_decided(struct amqp_broker *b, const struct amqp_ledger_decision *d);
/* Whatever is older than that own record and was not decided never will be. */
void owned_passed(struct amqp_broker *b, uint64_t nonce);
/* The key is another's since the log says so. */
void owned_robbed(struct amqp_broker *b, const struct amqp_key *key, int64_t fence);
/* Says again what is held: all, or what was not said for some time. */
void owned_say(struct amqp_broker *b, bool all);
void owned_release_all(struct amqp_broker *b);

/* --- amqp_follow.c --- */
/* Publishes a record: its host, nonce and stamp are filled in. done: as of a step, with the nonce
 * as its tag. */
int follow_write(struct amqp_broker *b, struct amqp_claim_record *r, out_done_fn *done,
                 struct err *e);
/* True when the host is an earlier generation of this node. */
bool follow_is_predecessor(const struct amqp_claims *c, uint64_t host);

#endif
