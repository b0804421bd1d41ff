/*
 * amqp_record.h - the binary records of the two streams: layout, reading, writing; pure.
 *
 * Purpose: celeriac.ledger holds claims, celeriac.results holds how jobs ended. Both are read by
 * every dispatcher at tens of thousands of records per second, so a record is a fixed head in
 * little endian followed by its texts, and is read without copying.
 *
 * Model of a ledger record, 64 bytes of head:
 *   0 version | 1 kind | 2 id_len (2) | 4 doc_len (4) | 8 until_ms or window_ms (8) | 16 prev (8)
 *   | 24 now_ms (8) | 32 host (8) | 40 nonce (8) | 48 key (16) | id | doc
 * and of a result record, 56 bytes:
 *   0 version | 1 outcome | 2 flags (2) | 4 retries (4) | 8 now_ms (8) | 16 host (8) | 24 nonce (8)
 *   | 32 id_len (2) | 34 nothing (2) | 36 doc_len (4) | 40 count (4) | 44 nothing (4)
 *   | 48 expires_ms (8) | id | doc
 *
 * Invariants: a record's length is exactly head + id_len + doc_len. Reading refuses (false) what is
 * shorter or longer, of another version or kind, or has a time that no clock says; it never reads
 * beyond its bytes. Who refuses a record skips it and counts it; all do so alike. The bytes that
 * are named "nothing" are written as 0 and not looked at. Texts of what was read are borrowed from
 * the bytes. Fork rule: none, it holds no state.
 */
#ifndef BROKER_AMQP_RECORD_H
#define BROKER_AMQP_RECORD_H

#include "base/buf.h"

#include <stdbool.h>
#include <stdint.h>

#define AMQP_RECORD_VERSION   1
#define AMQP_RECORD_ID_MAX    1024
#define AMQP_RECORD_NONE      (-1)            /* prev: nobody owns the key */
#define AMQP_RECORD_STAMP_MAX 4102444800000LL /* 2100-01-01: no clock that works says more */

#define AMQP_CLAIM_HEAD  64
#define AMQP_RESULT_HEAD 56

/* xxHash-128 in its canonical byte order. */
struct amqp_key {
    unsigned char bytes[16];
};

/* The key of a dedup text, whatever its length. */
struct amqp_key amqp_key_of(struct slice text);

enum amqp_claim_kind {
    AMQP_CLAIM = 1,     /* key, prev, until_ms, id: I want to be the owner */
    AMQP_CLAIM_ALIVE,   /* this host lives. window_ms: the longest window that is in use, and prev:
                           the log time until which it is; 0 and 0: none of an hour or more */
    AMQP_CLAIM_HELD,    /* as a claim: its owner says again that it owns since offset prev */
    AMQP_CLAIM_DONE,    /* as a claim, window_ms and doc: the owner since prev has succeeded */
    AMQP_CLAIM_KEEP,    /* as a claim, window_ms: the owner since prev keeps it for a retry of id */
    AMQP_CLAIM_RELEASE, /* key, prev: the owner since prev gives the key back */
    AMQP_CLAIM_SYNC     /* whoever sees his own has seen all before it */
};

struct amqp_claim_record {
    enum amqp_claim_kind kind;
    int64_t window_ms; /* done, keep: how long the key stays so, in log time from this record on */
    int64_t until_ms;  /* claim: of the view that prev is from; 0 with AMQP_RECORD_NONE */
    int64_t prev;      /* log offset of the owner's record that this one builds on, or
                          AMQP_RECORD_NONE */
    int64_t now_ms;    /* the publisher's stamp: amqp_ledger_stamp() */
    uint64_t host;     /* another one for each dispatcher that starts: amqp_claim.h */
    uint64_t nonce;    /* the publisher's own number for this record */
    struct amqp_key key;
    struct slice id;  /* task id */
    struct slice doc; /* done: the result document, or nothing */
};

enum amqp_result_outcome {
    AMQP_RESULT_SUCCEEDED = 1,
    AMQP_RESULT_FAILED,    /* FAILURE or REVOKED */
    AMQP_RESULT_CONTINUES, /* RETRY: a follow-up with another number of retries goes on */
    AMQP_RESULT_DEAD,      /* buried; doc is the FAILURE, if one is to be stored */
    AMQP_RESULT_STATE,     /* STARTED, progress: counts nowhere, decides nothing */
    AMQP_RESULT_FORGOTTEN, /* the stored result of the id is to be forgotten */
    AMQP_RESULT_REVIVED,   /* a dead one was sent again: (id, retries) may end once more */
    AMQP_RESULT_PURGED,    /* count messages were removed from a queue; counted as failed */
    AMQP_RESULT_REMOVED,   /* count dead ones were removed */
    AMQP_RESULT_SYNC       /* barrier, as in the ledger: host and nonce say whose */
};

enum amqp_result_flags {
    AMQP_RESULT_READY = 1 << 0,    /* doc is of a ready state */
    AMQP_RESULT_UNTOLD = 1 << 1,   /* counts and decides, but doc is to be stored for nobody */
    AMQP_RESULT_AGAIN = 1 << 2,    /* written by a run that was itself under suspicion */
    AMQP_RESULT_TWIN = 1 << 3,     /* not run: the success of another job of its dedup key counts */
    AMQP_RESULT_UNCOUNTED = 1 << 4 /* ends the pair of its id, which is no job: counts nowhere */
};

struct amqp_result_record {
    enum amqp_result_outcome outcome;
    uint16_t flags;
    uint32_t retries;
    uint32_t count; /* of PURGED and REMOVED */
    int64_t now_ms;
    int64_t expires_ms; /* so long after now_ms doc is no result any more; 0: as the reader is set
                           up; negative: never */
    uint64_t host;
    uint64_t nonce;
    struct slice id;
    struct slice doc; /* the result document, or nothing */
};

/* Appends; a failed allocation, an id over AMQP_RECORD_ID_MAX or a doc over 4 GiB sets
 * out->failed. */
void amqp_claim_write(struct buf *out, const struct amqp_claim_record *r);
void amqp_result_write(struct buf *out, const struct amqp_result_record *r);

/* False: not such a record; r is then undefined. */
bool amqp_claim_read(struct amqp_claim_record *r, struct slice bytes);
bool amqp_result_read(struct amqp_result_record *r, struct slice bytes);

#endif
