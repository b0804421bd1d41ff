/*
 * amqp.h - the RabbitMQ backend's own structure; for amqp_*.c only.
 *
 * Model: up to three connections ("wires"): one consumes and acknowledges, one publishes with
 * confirms, one reads the streams. Each is dialed by a thread (amqp_dial.h), driven without waiting
 * (amqp_link.h) and dialed again with backoff when it breaks. A client opens only what it uses.
 * The queue's own unacknowledged delivery is the lease: it ends with the connection, so there is
 * nothing to renew and nothing to take over.
 *
 * There is no atomic step. What must happen together goes in one order: follow-up messages, the
 * reply, the result record are published and confirmed; then the delivery is acknowledged; only
 * then the caller hears FINISHED. A crash in between leaves the delivery unacknowledged: it comes
 * back marked as redelivered, is looked up in the results stream, and is dropped when its record is
 * there. Such deliveries are called suspicious (amqp_suspect.c); no other one is looked up.
 *
 * Files: amqp_wire.c connections, amqp_topology.c and amqp_topology_steps.c declarations,
 * amqp_step.c, amqp_out.c and amqp_out_write.c messages on their way out, amqp_publish.c what
 * callers publish, amqp_consume.c consumers, amqp_delivery.c deliveries and their hand-out,
 * amqp_held.c the ring of unacknowledged deliveries, amqp_aside.c and amqp_long.c those
 * acknowledged early, amqp_settle.c finish, release, bury, amqp_ending.c what is said of a run,
 * amqp_suspect.c redelivered messages, amqp_claim.c, amqp_owned.c and amqp_follow.c dedup keys,
 * amqp_results.c, amqp_lookup.c, amqp_watch.c, amqp_replies.c and amqp_recent.c results,
 * amqp_reader.c stream readers, amqp_query.c questions between processes, amqp_ask.c,
 * amqp_survey.c, amqp_grave.c, amqp_dead.c and amqp_totals.c operators, amqp_doctor.c and
 * amqp_kind.c what queues are.
 * Fork rule: open after fork, one process, one thread beside the dialing ones.
 */
#ifndef BROKER_AMQP_H
#define BROKER_AMQP_H

#include "base/uuid.h"
#include "broker/amqp_address.h"
#include "broker/amqp_dial.h"
#include "broker/amqp_held.h"
#include "broker/amqp_link.h"
#include "broker/amqp_out.h"
#include "broker/amqp_record.h"
#include "broker/amqp_topology.h"
#include "broker/backend.h"
#include "broker/events.h"

#include <jansson.h>

#define AMQP_RESULTS_STREAM "celeriac.results"
#define AMQP_LEDGER_STREAM  "celeriac.ledger"

/* Channels, alike on every connection. */
enum amqp_channel {
    AMQP_CH_WORK = 1, /* consume and acknowledge; publish with confirms; read a stream */
    AMQP_CH_TOPOLOGY, /* declarations: refusals close it */
    AMQP_CH_ASK,      /* what operators ask: passive declares, get, purge */
    AMQP_CH_DOCTOR,   /* publishing, consuming: what a queue is; refusals close it */
    AMQP_CH_REPLIES,  /* on the reading connection: a client's own reply queue */
    AMQP_CH_READERS   /* on the reading connection: from here on one for each reader */
};

/* Jobs whose deliveries were acknowledged early, and copies of such that came back. */
struct amqp_aside {
    struct amqp_held **v; /* owned, as what they point to */
    size_t len, cap;
    struct held_list returned; /* nodes are asked about them */
    int64_t look_at_ms;        /* monotonic: when to look for old deliveries */
};

enum amqp_role { AMQP_CONSUME, AMQP_PUBLISH, AMQP_READ, AMQP_ROLES };

struct amqp_broker;

/* What a role does when its connection comes and goes. NULL: nothing. */
struct amqp_role_ops {
    const char *name;
    const struct amqp_link_events *events;
    int (*up)(struct amqp_broker *b, struct err *e); /* begins the set-up; wire_ready ends it */
    void (*down)(struct amqp_broker *b, const struct err *why);
};

struct amqp_wire {
    struct amqp_broker *b;
    const struct amqp_role_ops *ops;
    struct amqp_dial *dial;
    struct amqp_link *link;
    struct amqp_topology topology;
    bool wanted;
    bool ready;
    bool broken; /* its link told that it is down, or it has to be dropped: closed after the pump */
    struct err why; /* of the last failure */
    unsigned tries;
    size_t host;
    int64_t retry_at_ms; /* monotonic */
};

struct amqp_queue {
    char *name;   /* owned */
    char tag[16]; /* consumer tag in use, "" for none */
    int prefetch; /* of that consumer */
    bool declared;
    bool known;               /* and what it is was looked at: it may be consumed */
    bool changing;            /* a consume or cancel is under way */
    struct held_list waiting; /* arrived, not handed out */
};

struct amqp_broker {
    struct broker base;
    struct uri uri; /* owned */
    struct amqp_address address;
    const struct clock *clock;
    const struct log *log;
    char *node; /* owned; NULL for a client */
    char instance[UUID_SIZE];
    int64_t lease_ms;
    int64_t result_expires_ms;
    struct uuid_source random;
    struct event_queue events;

    struct amqp_wire wires[AMQP_ROLES];
    bool nothing_ready; /* the caller looked: the next poll need not read */
    bool told;          /* a BROKER_STATE was given */
    bool up;            /* what it said */
    enum err_code told_code;

    struct amqp_queue *queues; /* owned */
    size_t queues_len;
    size_t next_queue; /* served first by the next hand-out */
    int credit;
    int lent; /* handed out and not ended; with the credit it is what the prefetch follows */
    unsigned consumers; /* begun so far, for their tags */
    int64_t shrink_at_ms;
    uint32_t epoch;     /* of the consuming connection; part of every receipt */
    uint32_t ears[2];   /* the epochs in which questions began to be listened to: amqp_query.c */
    int64_t lost_at_ms; /* when the consuming connection was lost last; 0: never */
    uint64_t fence;
    struct held_ring held;
    int64_t ack_at_ms; /* the odd ones out are acknowledged one by one then */
    struct held_list delayed;
    struct amqp_aside aside;

    struct out_queue out;
    struct amqp_tokens *tokens; /* owned */

    struct amqp_reader *readers;    /* running ones; each owned by who began it */
    struct amqp_results *results;   /* owned; amqp_results.c */
    struct amqp_suspects *suspects; /* owned; amqp_suspect.c */
    struct amqp_asking *asking;     /* owned; amqp_ask.c */
    struct amqp_claims *claims;     /* owned; amqp_claim.c */
    struct amqp_doctor *doctors;    /* owned; amqp_doctor.c: the first is under way */
};

static inline struct amqp_broker *amqp_of(struct broker *base)
{
    return (struct amqp_broker *)base;
}

static inline int64_t amqp_now(const struct amqp_broker *b)
{
    return clock_mono_ms(b->clock);
}

/* --- amqp_wire.c --- */
void wire_init(struct amqp_broker *b, enum amqp_role role, const struct amqp_role_ops *ops);
void wire_release(struct amqp_wire *w);
/* Opens it soon; a no-op when it is. */
void wire_want(struct amqp_broker *b, enum amqp_role role);
/* Its set-up is complete. */
void wire_ready(struct amqp_broker *b, enum amqp_role role);
/* Gives the connection up and dials again; safe inside callbacks. */
void wire_drop(struct amqp_wire *w, const struct err *why);
/* Dials, takes, pumps, closes what is broken. */
void wire_step(struct amqp_wire *w);
int64_t wire_deadline(const struct amqp_wire *w);
int wire_pollset(const struct amqp_wire *w, struct pollfd *fds, int max);

/* --- amqp_publish.c: the publishing connection and broker_publish --- */
extern const struct amqp_role_ops amqp_publish_role;
int amqp_publish(struct broker *base, const struct broker_message *v, size_t n, struct err *e);
struct out_spec amqp_task_spec(const struct broker_message *m);

/* --- amqp_consume.c --- */
extern const struct amqp_role_ops amqp_consume_role;
void amqp_credit(struct broker *base, int n);
void amqp_consume_tick(struct amqp_broker *b);
/* All queues that are there may be consumed. */
void amqp_kinds_known(struct amqp_broker *b);

/* --- amqp_delivery.c --- */
/* What came by the consumer of that queue. */
void amqp_take_delivery(struct amqp_broker *b, const struct amqp_incoming *in, size_t queue);
void amqp_hand_out(struct amqp_broker *b);
/* A delivery that is not suspicious, or was cleared: it may be handed out. */
void amqp_offer(struct amqp_broker *b, struct amqp_held *h, bool front);
/* The delivery has ended: it is acknowledged with its neighbours. */
void amqp_done_with(struct amqp_broker *b, struct amqp_held *h);
/* True when acknowledgements were written. */
bool amqp_ack_flush(struct amqp_broker *b);
/* The consuming connection is gone: its deliveries are not ours any more, and begin a new epoch. */
void amqp_deliveries_down(struct amqp_broker *b);
int64_t amqp_deliveries_deadline(const struct amqp_broker *b);
void amqp_deliveries_tick(struct amqp_broker *b);

/* --- amqp_settle.c --- */
int amqp_renew(struct broker *base, const struct broker_receipt *v, size_t n, struct err *e);
int amqp_note(struct broker *base, const struct broker_note *v, size_t n, struct err *e);
int amqp_finish(struct broker *base, const struct broker_finish *v, size_t n, struct err *e);
int amqp_release(struct broker *base, const struct broker_release *v, size_t n, struct err *e);
int amqp_bury(struct broker *base, const struct broker_bury *v, size_t n, struct err *e);
struct broker_receipt amqp_receipt_of(const struct amqp_held *h);
/* The delivery that the caller has under that receipt, or NULL. */
struct amqp_held *amqp_held_of(struct amqp_broker *b, const struct broker_receipt *receipt);
/* Whatever has become of it since it was handed out; NULL: it has ended. */
struct amqp_held *amqp_held_find(struct amqp_broker *b, const struct broker_receipt *receipt);

/* --- amqp_ending.c: what is said about a run --- */
/* The task id that records of the job carry. */
struct slice amqp_job_id(const struct amqp_held *h, struct slice result_id);
int amqp_add_record(struct amqp_broker *b, struct out_step *step,
                    const struct amqp_result_record *record, struct err *e);
/* Adds the record of a run, and with an id the reply that its sender asked for. expires_ms as in
 * broker_finish. */
int amqp_add_result(struct amqp_broker *b, struct out_step *step, const struct amqp_held *h,
                    enum amqp_result_outcome outcome, struct slice id, struct slice doc,
                    int64_t expires_ms, struct err *e);
/* Whether the server takes the result and what follows, as far as its limit is known. What
 * continues the job came in that size. */
bool amqp_followup_fits(const struct amqp_broker *b, const struct broker_message *m);
bool amqp_finish_fits(const struct amqp_broker *b, const struct broker_finish *f);
/* A job of which something does not fit has failed for that cause: else it could never end. */
int amqp_add_misfit(struct amqp_broker *b, struct out_step *step, const struct amqp_held *h,
                    const struct broker_finish *f, struct err *e);

/* --- amqp_suspect.c: deliveries that may have been handled before --- */
/* Takes charge of it: it is offered or ended (amqp_done_with) later. */
void amqp_suspect(struct amqp_broker *b, struct amqp_held *h);
/* The consuming connection is gone, and its deliveries with it. */
void amqp_suspects_forget(struct amqp_broker *b);
void amqp_suspects_release(struct amqp_broker *b);
int64_t amqp_suspects_deadline(const struct amqp_broker *b);
void amqp_suspects_tick(struct amqp_broker *b);

/* --- amqp_aside.c: jobs whose deliveries were acknowledged early --- */
/* Taken. -1 when out of memory. */
int amqp_aside_add(struct amqp_broker *b, struct amqp_held *h);
/* By the delivery that it was; NULL: none such. */
struct amqp_held *amqp_aside_find(const struct amqp_broker *b, uint32_t epoch, uint64_t tag);
/* Whether the job of a delivery goes on here under another one that was put aside: there is a copy
 * of that in the broker, so nothing is lost when this one goes. */
bool amqp_aside_has(const struct amqp_broker *b, const struct amqp_held *h);
/* The same, but what follows from it is on its way out: this delivery may be a part of that. */
bool amqp_aside_ends(const struct amqp_broker *b, const struct amqp_held *h);
/* It has ended: freed. */
void amqp_aside_end(struct amqp_broker *b, struct amqp_held *h);
/* The consuming connection is gone. */
void amqp_aside_down(struct amqp_broker *b);
void amqp_aside_release(struct amqp_broker *b);
/* How many of a queue: handed out, or not. */
int64_t amqp_aside_count(const struct amqp_broker *b, size_t queue, bool lent);

/* --- amqp_long.c: how they come to be acknowledged early, and their copies --- */
/* What follows from the job is safe: no copy with that token is to run. A no-op for "". */
void amqp_end_copies(struct amqp_broker *b, const char *token);
/* A copy came back. Takes charge of it. */
void amqp_returned(struct amqp_broker *b, struct amqp_held *h);
int64_t amqp_long_deadline(const struct amqp_broker *b);
void amqp_long_tick(struct amqp_broker *b);
/* The channel was closed because of the limit: *advice says so, and the limit is known now. */
bool amqp_timed_out(struct amqp_broker *b, const struct err *why, struct err *advice);

/* --- amqp_reader.c: the reading connection --- */
extern const struct amqp_role_ops amqp_read_role;

/* A dedup key of the delivery was lost to another, and the delivery with it: LOST, and offered
 * anew.
 */
void amqp_lease_lost(struct amqp_broker *b, struct amqp_held *h);

/* --- amqp_claim.c and amqp_follow.c: dedup keys, see amqp_claim.h --- */
/* Begins to follow the ledger. */
int amqp_claims_open(struct amqp_broker *b, uint64_t generation, struct err *e);
int amqp_claim(struct broker *base, const struct broker_claim *v, size_t n, struct err *e);
/* The lease of the delivery ends: so do the claims it still holds. */
void amqp_claims_give_up(struct amqp_broker *b, struct amqp_held *h);
/* The consuming connection is gone, and all its leases. */
void amqp_claims_forget(struct amqp_broker *b);
/* The broker closes in order: all claims are given up. */
void amqp_claims_close(struct amqp_broker *b);
void amqp_claims_release(struct amqp_broker *b);
int64_t amqp_claims_deadline(const struct amqp_broker *b);
void amqp_claims_tick(struct amqp_broker *b);

/* --- amqp_replies.c: the own queue, named in every task that is published --- */
/* Results of what is published will be waited for. */
int amqp_replies_open(struct amqp_broker *b, struct err *e);
/* The queue as it has to be declared; false: none is wanted. */
bool amqp_replies_wish(const struct amqp_broker *b, struct topology_wish *wish);
/* The queue cannot be had: results are looked for in the stream. */
void amqp_replies_refused(struct amqp_broker *b, const struct err *why);
/* A task with that id was written with the queue in it. */
void amqp_replies_sent(struct amqp_broker *b, struct slice id);
/* What the reading connection tells. */
int amqp_replies_up(struct amqp_broker *b, struct err *e);
void amqp_replies_down(struct amqp_broker *b);
void amqp_replies_delivered(struct amqp_broker *b, const struct amqp_incoming *in);

/* --- amqp_recent.c: what a node stored last, for who asks --- */
/* Whether this node hears what others ask (and what is forgotten). */
void amqp_recent_listen(struct amqp_broker *b, bool heard);
void amqp_recent_keep(struct amqp_broker *b, const struct amqp_result_record *r);
void amqp_recent_confirmed(struct amqp_broker *b, struct slice id);
/* A query of others and a reply to one of ours; false: it is about something else. query: borrowed,
 * may be NULL. */
bool amqp_recent_asked(struct amqp_broker *b, const struct amqp_incoming *in, const json_t *query);
bool amqp_recent_replied(struct amqp_broker *b, const struct amqp_incoming *in);

/* --- amqp_results.c --- */
void amqp_results_release(struct amqp_broker *b);
/* How long the results stream keeps its records; 0: for ever. */
int64_t amqp_results_age_s(const struct amqp_broker *b);
int amqp_store(struct broker *base, const struct broker_store *v, size_t n, struct err *e);
int amqp_result_get(struct broker *base, const uint64_t *tags, const struct slice *ids, size_t n,
                    struct err *e);
int amqp_result_watch(struct broker *base, const uint64_t *tags, const struct slice *ids, size_t n,
                      struct err *e);
void amqp_result_unwatch(struct broker *base, const struct slice *ids, size_t n);
int amqp_result_forget(struct broker *base, const uint64_t *tags, const struct slice *ids, size_t n,
                       struct err *e);

/* --- amqp_ask.c, on channel AMQP_CH_ASK of the publishing connection --- */
int amqp_ask(struct broker *base, const struct broker_ask *ask, struct err *e);
int amqp_ask_up(struct amqp_broker *b, struct err *e);
void amqp_ask_channel_closed(struct amqp_broker *b);
int64_t amqp_ask_deadline(const struct amqp_broker *b);
void amqp_ask_tick(struct amqp_broker *b);
/* A queue that operators will want to hear of: it was published to. */
void amqp_note_queue(struct amqp_broker *b, struct slice queue);
/* And one that is gone. */
void amqp_forget_queue(struct amqp_broker *b, struct slice queue);
void amqp_ask_down(struct amqp_broker *b, const struct err *why);
void amqp_ask_release(struct amqp_broker *b);
int amqp_announce(struct broker *base, struct slice json, int64_t ttl_ms, struct err *e);

/* --- amqp_kind.c, on channel AMQP_CH_DOCTOR --- */
/* The refusal that comes as answer names the queue's type; it closes the channel. */
int amqp_kind_ask(struct amqp_link *l, const char *queue, amqp_answered_fn *answered, void *context,
                  uint64_t number, struct err *e);
/* The type in the text of the refusal, "" when it says something else. */
void amqp_kind_read(const char *refusal, char *to, size_t size);
/* Looks what the consumed queues are, marks them as known and goes on with amqp_kinds_known. Quorum
 * queues get their way out of the delay ladder; with a stream among them there is no consuming. */
void amqp_kinds_look(struct amqp_broker *b);

/* --- amqp_doctor.c, on channel AMQP_CH_DOCTOR of the publishing connection --- */
int amqp_doctor(struct amqp_broker *b, const struct broker_ask *ask, struct err *e);
void amqp_doctor_tick(struct amqp_broker *b);
void amqp_doctor_down(struct amqp_broker *b, const struct err *why);
void amqp_doctor_release(struct amqp_broker *b);

#endif
