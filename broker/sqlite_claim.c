/*
 * Dedup keys in table claims; its meaning is invariant 9 of sqlite_schema.c. A holder is alive
 * while its row of leases is there: a lease that expired counts until a sweep gave its message
 * back, just as its finish does.
 */
#include "broker/sqlite.h"

#define SWEEP_MAX   256
#define LOOK_MS     86400000 /* a claim whose lease has gone blocks nobody, but is a row */
#define STATE_HELD  0
#define STATE_KEPT  1
#define STATE_DONE  2
#define COLUMN_JOB  1
#define NO_SUCH_ROW (-1)

struct claim {
    int64_t state;    /* or NO_SUCH_ROW */
    struct slice job; /* borrowed from the statement */
    int64_t fence;
    int64_t until_ms;
    bool alive; /* the holder's lease is there */
};

static int find(struct sqlite_broker *b, struct slice key, sqlite3_stmt **row, struct claim *claim)
{
    int rc = sqlite_query(b, SQL_CLAIM_GET, row, ARG_BLOB(key));

    *claim = (struct claim){.state = NO_SUCH_ROW};
    if (rc != SQLITE_OK)
        return rc;
    rc = sqlite3_step(*row);
    if (rc == SQLITE_ROW)
        *claim = (struct claim){sqlite3_column_int64(*row, 0), sqlite_column(*row, COLUMN_JOB),
                                sqlite3_column_int64(*row, 2), sqlite3_column_int64(*row, 3),
                                sqlite3_column_int(*row, 4) != 0};
    return rc == SQLITE_ROW || rc == SQLITE_DONE ? SQLITE_OK : rc;
}

static bool may_take(const struct claim *claim, const struct broker_claim *by, int64_t fence,
                     int64_t now_ms)
{
    switch (claim->state) {
    case STATE_HELD:
        return !claim->alive || claim->fence == fence;
    case STATE_KEPT:
        return claim->until_ms <= now_ms || slice_eq(claim->job, by->id);
    case STATE_DONE:
        return claim->until_ms <= now_ms;
    default:
        return true;
    }
}

static int push_with_document(struct sqlite_broker *b, struct broker_event *event)
{
    sqlite3_stmt *row;
    int rc = sqlite_query(b, SQL_RESULT_GET, &row, ARG_TEXT(event->id),
                          ARG_INT(clock_wall_ms(b->clock)));

    if (rc != SQLITE_OK)
        return rc;
    rc = sqlite3_step(row);
    if (rc == SQLITE_ROW)
        event->data = sqlite_column(row, 1);
    if (rc == SQLITE_ROW || rc == SQLITE_DONE)
        event_queue_push(&b->staged, event);
    return sqlite_end(row, rc);
}

static int take(struct sqlite_broker *b, const struct broker_claim *by, int64_t fence)
{
    int rc = sqlite_do(b, SQL_CLAIM_PUT, ARG_BLOB(by->key), ARG_TEXT(by->id), ARG_INT(fence),
                       ARG_INT(clock_wall_ms(b->clock) + LOOK_MS));

    if (rc == SQLITE_OK)
        event_queue_done(&b->staged, BROKER_CLAIMED, by->tag, BROKER_WON);
    return rc;
}

static int decide(struct sqlite_broker *b, const struct broker_claim *by, int64_t fence)
{
    struct broker_event event = {.kind = BROKER_CLAIMED, .tag = by->tag};
    struct claim claim;
    sqlite3_stmt *row = NULL;
    int rc = find(b, by->key, &row, &claim);

    if (rc == SQLITE_OK && may_take(&claim, by, fence, clock_wall_ms(b->clock))) {
        sqlite3_reset(row);
        return take(b, by, fence);
    }
    event.id = claim.job;
    if (rc == SQLITE_OK && claim.state == STATE_DONE) {
        event.flags = BROKER_DUPLICATE;
        rc = push_with_document(b, &event);
    } else if (rc == SQLITE_OK) {
        event_queue_push(&b->staged, &event);
    }
    if (row)
        sqlite3_reset(row);
    return rc;
}

int sqlite_claim(struct sqlite_broker *b, const struct sqlite_op *op)
{
    struct sqlite_lease lease;
    bool held = false;
    int rc = sqlite_lease_find(b, &op->claim.receipt, &lease, &held);

    if (rc == SQLITE_OK && held)
        rc = decide(b, &op->claim, lease.fence);
    else if (rc == SQLITE_OK)
        event_queue_done(&b->staged, BROKER_REFUSED, op->claim.tag, 0);
    return rc;
}

static int give_up(struct sqlite_broker *b, struct slice key, const struct broker_receipt *receipt)
{
    return sqlite_do(b, SQL_CLAIM_DEL, ARG_BLOB(key), ARG_INT(sqlite_receipt_get(receipt).fence));
}

int sqlite_claim_finish(struct sqlite_broker *b, const struct broker_finish *f, bool succeeded)
{
    int64_t until = clock_wall_ms(b->clock);

    if (!f->dedup_key.len)
        return SQLITE_OK;
    if (!succeeded && f->outcome == BROKER_JOB_FAILED)
        return give_up(b, f->dedup_key, &f->receipt);
    for (size_t i = 0; !succeeded && i < f->followups_len; i++) {
        if (f->followups[i].continues && f->followups[i].not_before_ms > until)
            until = f->followups[i].not_before_ms;
    }
    return sqlite_do(b, SQL_CLAIM_SETTLE, ARG_BLOB(f->dedup_key),
                     ARG_INT(sqlite_receipt_get(&f->receipt).fence),
                     ARG_INT(succeeded ? STATE_DONE : STATE_KEPT),
                     ARG_INT(until + (succeeded ? f->dedup_window_ms : b->lease_ms)));
}

int sqlite_claim_bury(struct sqlite_broker *b, const struct broker_bury *bury)
{
    return bury->dedup_key.len ? give_up(b, bury->dedup_key, &bury->receipt) : SQLITE_OK;
}

int sqlite_claim_expired(struct sqlite_broker *b, bool *any)
{
    sqlite3_stmt *row;
    int rc = sqlite_query(b, SQL_CLAIM_EXPIRED, &row, ARG_INT(clock_wall_ms(b->clock)));

    if (rc != SQLITE_OK)
        return rc;
    rc = sqlite3_step(row);
    *any = rc == SQLITE_ROW;
    return sqlite_end(row, rc);
}

/* What is left when nothing more was found to remove is held by living leases: looked at again
 * later. */
int sqlite_claim_sweep(struct sqlite_broker *b, bool *more)
{
    int64_t now = clock_wall_ms(b->clock);
    int rc = sqlite_do(b, SQL_CLAIM_SWEEP, ARG_INT(now), ARG_INT(SWEEP_MAX));

    *more = rc == SQLITE_OK && sqlite_changed(b) == SWEEP_MAX;
    if (rc == SQLITE_OK && !*more)
        rc = sqlite_do(b, SQL_CLAIM_POSTPONE, ARG_INT(now), ARG_INT(now + LOOK_MS));
    return rc;
}
