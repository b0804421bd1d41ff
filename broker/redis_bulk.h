/*
 * redis_bulk.h - many messages under one lease.
 *
 * Purpose: a message that Lua records in `unacked` is hashed from end to end twice and copied six
 * times, which is half of what a short job costs the server. Model: when a fetch wants many, and
 * the last one found many, all of them small, or the first list is seen to hold many, the script
 * moves them to a list of their own, natively, and a plain LRANGE reads it (redis_script.h S12).
 * That is one lease: most of its jobs end in the usual way, all within milliseconds, and finish
 * marks them. Whatever else happens to one of them, or REDIS_BULK_MS, makes all that are left
 * leases of their own first: then they are what every other part of this backend knows, and what
 * kombu restores. So do a successor, and any worker that sees the time of the lease run out.
 *
 * CRASH: after the fetch script, before LRANGE is answered - as after any fetch; the list is found
 * by its field. Invariants: a lease in bulk is here as long as one of its messages is ours and was
 * not asked to leave it; requests are answered in order, so what is asked after redis_bulk_leave
 * finds the lease in `unacked`. Ownership: the broker's. Fork rule: as redis.h.
 */
#ifndef BROKER_REDIS_BULK_H
#define BROKER_REDIS_BULK_H

#include "base/err.h"
#include "broker/broker.h"
#include "broker/redis_keys.h"

#include <hiredis/hiredis.h>

#define REDIS_BULK_MIN   16   /* wanted messages; below that it is no cheaper */
#define REDIS_BULK_LISTS 32   /* one fetch leases from no more (redis_script.c has it too) */
#define REDIS_BULK_MANY  64   /* whoever found so many may find as many again */
#define REDIS_BULK_MS    1000 /* then they become leases of their own */
#define REDIS_BULK_PAUSE 16   /* fetches, after one that was in vain */

struct redis_broker;
struct redis_request;

struct redis_bulk {
    uint64_t number;
    size_t list;      /* place in redis_lists.chosen, while the fetch is under way */
    uint64_t fence;   /* of the first message */
    bool pushed;      /* the list is as it was pushed: the newest in front */
    size_t len;       /* messages */
    size_t left;      /* of them not ended */
    int64_t until_ms; /* monotonic */
};

struct redis_bulks {
    struct redis_bulk *items; /* owned, in the order of their fences: the oldest first */
    size_t len;
    size_t cap;
    uint64_t last_number;
    struct redis_bulk asked[REDIS_BULK_LISTS]; /* what the last fetch leased */
    size_t asked_len;
    size_t asked_read; /* so many of them have been read; their number is 0 */
    size_t usual;      /* so many lists were leased last time */
    size_t ahead;      /* and so many are asked for before the answer */
    int pause;         /* so many fetches more are not in bulk */
    bool likely;       /* the last fetch found many, all of them small */
    bool refused;      /* the server does not do it: not asked again */
};

void redis_bulk_release(struct redis_bulks *bulks);

/* --- fetching --- */

/* A fetch found so many. */
void redis_bulk_found(struct redis_broker *b, size_t n);

/* Whether the next fetch, of so many, may lease in bulk. */
bool redis_bulk_wanted(const struct redis_broker *b, int want);

/* The number for the fetch script, nothing of ours has it, nor those that follow; and more than how
 * many it is to find for that. */
void redis_bulk_args(struct redis_broker *b, struct redis_request *r, bool wanted);

/* Reads what gets that number and some that follow, if anything probably does: to be called right
 * after the fetch was submitted, so that mostly one round trip is enough. */
void redis_bulk_read_ahead(struct redis_broker *b, bool wanted);

/* What the fetch script leased, and how many messages that is. They come one list after the other
 * (redis_fetched_bulk). reloaded: the script was not there, so what was read ahead came too early.
 */
size_t redis_bulk_leased(struct redis_broker *b, const redisReply *reply, bool reloaded);

/* --- ending --- */

/* The lease that the fence is part of; NULL: it has a lease of its own. Borrowed until the next
 * call. */
struct redis_bulk *redis_bulk_of(struct redis_broker *b, uint64_t fence);

/* Its list as a key. */
void redis_bulk_key(struct redis_broker *b, struct redis_request *r, const struct redis_bulk *bulk);

/* One of its messages is not ours any more. */
void redis_bulk_ended(struct redis_broker *b, uint64_t fence);

/* --- becoming leases of their own, before the next request --- */

void redis_bulk_leave(struct redis_broker *b, const struct broker_receipt *receipt);
/* The same of a job that is noted when it starts, or claims a key: those are cheaper one by one. */
void redis_bulk_leave_unrun(struct redis_broker *b, const struct broker_receipt *receipt);
void redis_bulk_leave_all(struct redis_broker *b);
void redis_bulk_leave_old(struct redis_broker *b); /* whose time has come */
int64_t redis_bulk_deadline(const struct redis_broker *b);

/* --- other brokers' --- */

/* What HGETALL told of celeriac:bulk: those of dead predecessors and those of ours whose reply was
 * swallowed become leases of their own. */
void redis_bulk_recover(struct redis_broker *b, const redisReply *all);

/* The same of those whose time is over. Returns when the first of the others is (wall clock), or
 * CLOCK_NEVER. */
int64_t redis_bulk_sweep(struct redis_broker *b, const redisReply *all);

/* How many of them are over. */
int redis_bulk_left_over(const struct redis_broker *b, const redisReply *all);

#endif
