/*
 * contract.h - the contract of broker/broker.h as tests that run on every backend.
 *
 * Model: a case is a function over a struct contract_env, a fresh store of one backend. It opens
 * brokers (peers) on it and waits for events; time passes by a fake clock on memory and really
 * elsewhere, so a case never sleeps: it waits for an event with a deadline (peer_expect) or watches
 * that none comes for a while (env_pass). Fork rule: a case that forks opens its brokers in the
 * child.
 */
#ifndef CONTRACT_H
#define CONTRACT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>
#include <jansson.h>

#include "broker/broker.h"

#define CONTRACT_LEASE_MS 400

/* What a backend cannot do by its nature (docs/broker-contract.md says why). */
enum contract_lacks {
    LACKS_LEASES = 1 << 0,        /* a lease ends with the connection, not in time */
    LACKS_PRIORITY = 1 << 1,      /* the order is the queue's own business */
    LACKS_ATOMIC_FINISH = 1 << 2, /* what follows from a finish comes one after another */
    LACKS_DELAY_VIEW = 1 << 3,    /* what is delayed is counted, not shown */
    LACKS_LASTING_NODES = 1 << 4, /* a node that is gone has said nothing */
    LACKS_DROP = 1 << 5           /* it forgets no queue */
};

struct peer;

struct contract_env {
    const char *backend; /* "memory", "sqlite", "redis", ... */
    char dir[64];
    char url[256];
    char result_url[256]; /* empty: results in the broker */
    int redis_pid;
    bool durable;
    bool split; /* results elsewhere: what must then be looser is said in broker/split.c */
    bool trace;
    unsigned lacks;
    struct clock_fake fake;
    const struct clock *clock;
    struct peer *peers[8];
    int peers_len;
};

/* An event as it was handed out, with copies of its texts. */
struct seen {
    enum broker_event_kind kind;
    unsigned flags;
    uint64_t tag;
    uint64_t fence;
    struct broker_receipt receipt;
    char *queue; /* owned */
    char *data;  /* owned; NULL when there was none */
    char *id;    /* owned; likewise */
    enum err_code code;
    char text[400];
};

struct peer {
    struct contract_env *env;
    struct broker *b;
    struct seen *seen; /* owned: handed out by the broker, not yet asked for */
    size_t seen_len;
    uint64_t last_tag;
};

#define ANY_TAG UINT64_MAX

/* node NULL: a client. Fails the test when it cannot be opened. */
struct peer *peer_open(struct contract_env *env, const char *node, uint64_t generation);
void peer_close(struct peer *p, bool release_leases);

/* Waits for an event of that kind and tag and takes it; fails after 10 s. The result is valid until
 * the next call of peer_expect. */
struct seen peer_expect(struct peer *p, enum broker_event_kind kind, uint64_t tag);
/* True when such an event has been seen or comes within ms. */
bool peer_sees(struct peer *p, enum broker_event_kind kind, uint64_t tag, int64_t ms);
void seen_free(struct seen *s);

/* Lets time pass for all peers. */
void env_pass(struct contract_env *env, int64_t ms);
int64_t env_wall_ms(const struct contract_env *env);
/* Skips the rest of the case on a backend that lacks it. */
void env_needs(const struct contract_env *env, unsigned lacks);

/* Shorthands; each waits for its confirmation. */
void put(struct peer *p, const char *queue, const char *envelope);
void put_message(struct peer *p, struct broker_message *m);
void put_messages(struct peer *p, struct broker_message *v, size_t n); /* in one call */
struct seen take(struct peer *p); /* credit 1, the next delivery */
void take_is(struct peer *p, const char *envelope,
             struct seen *out); /* and its text; out may be NULL */
uint64_t finish(struct peer *p, const struct seen *job, const char *id,
                const char *doc); /* SUCCEEDED; returns the tag */
void finish_ok(struct peer *p, const struct seen *job);
json_t *ask(struct peer *p, enum broker_question question, const char *queue, const char *handle);
int64_t total(struct peer *p, const char *name);
/* Invariant 9. */
void check_totals(struct peer *p);
char *stored(struct peer *p, const char *id); /* owned, or NULL */

typedef void contract_case(struct contract_env *env);

struct contract_row {
    const char *name;
    contract_case *run;
};

/* Each ends with a row without a name. */
extern const struct contract_row suite_publish[];
extern const struct contract_row suite_lease[];
extern const struct contract_row suite_claim[];
extern const struct contract_row suite_finish[];
extern const struct contract_row suite_results[];
extern const struct contract_row suite_operators[];
extern const struct contract_row suite_many[];

#endif
