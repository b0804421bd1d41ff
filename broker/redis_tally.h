/*
 * redis_tally.h - a producer's own count of what it pushed one message at a time.
 *
 * Purpose: beside its LPUSH, a message needs two things in the same transaction: to be counted, and
 * to be recognised when it comes again because the connection broke before the answer. For one that
 * goes alone one HINCRBY does both: a field of `celeriac:sent` belongs to one producer, and EXEC
 * tells its value. A broken connection leaves at most one push in doubt, and whether that happened
 * shows in the field.
 * Model: a field is named when the first message needs it, and lives for an hour. Then, at close,
 * and after a break its value moves to the counter `published`; after a break in front of
 * everything else that the next connection carries, and together with the token of the push in
 * doubt if that happened: so a resend goes the way of all resends and finds its token. The name
 * begins with the hour, so that workers move what a killed producer left, a day later.
 * Invariants: of one producer at most one push that counts itself is under way, and none while one
 * is in doubt; `published` and all fields together are the number of messages ever published.
 * Fork rule: as redis.h.
 */
#ifndef BROKER_REDIS_TALLY_H
#define BROKER_REDIS_TALLY_H

#include "broker/redis_conn.h"

#define REDIS_TALLY_FIELD 40  /* the hour in 10 digits, a slash, 16 random hexadecimal digits */
#define REDIS_TOKEN_SIZE  128 /* of a token's key: the prefix and at most 64 bytes */

struct redis_broker;

struct redis_tally {
    char field[REDIS_TALLY_FIELD]; /* "": none yet */
    int64_t count;                 /* what the server said last; 0: nothing yet */
    int64_t until_ms;              /* wall clock: then it gets a new name */
    bool busy;                     /* a push that counts itself is under way */
    bool doubtful;                /* one was, and nobody knows; field and count are those of then */
    char token[REDIS_TOKEN_SIZE]; /* its key */
    int64_t sweep_at_ms;          /* of a worker: monotonic */
};

/* The field for the next push, which is under way from now on; NULL: it has to go another way. */
const char *redis_tally_begin(struct redis_broker *b);
/* How the push ended: count is what the server told, or -1 if it did not. */
void redis_tally_done(struct redis_broker *b, int64_t count);
void redis_tally_refused(struct redis_broker *b);
/* The connection is gone. token: its key. */
void redis_tally_lost(struct redis_broker *b, const char *token);
/* A request that ends the field and takes n of its messages back, which are none. NULL: no memory.
 */
struct redis_request *redis_tally_take_back(struct redis_broker *b, const struct redis_op *op,
                                            int64_t n);

/* The first thing that a new connection says, if there is a doubt. */
void redis_tally_settle(struct redis_broker *b, struct redis_conn *c);
/* At close. */
void redis_tally_end(struct redis_broker *b);
/* What dead producers left; by workers, soon and every hour. */
void redis_tally_sweep(struct redis_broker *b);

#endif
