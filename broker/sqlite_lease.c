#include "broker/sqlite.h"

#define SWEEP_MAX 256

void sqlite_receipt_put(struct broker_receipt *to, const struct sqlite_receipt *from)
{
    memset(to, 0, sizeof(*to));
    memcpy(to->bytes, from, sizeof(*from));
}

struct sqlite_receipt sqlite_receipt_get(const struct broker_receipt *from)
{
    struct sqlite_receipt receipt;

    memcpy(&receipt, from->bytes, sizeof(receipt));
    return receipt;
}

static void read_lease(sqlite3_stmt *row, struct sqlite_lease *lease)
{
    *lease = (struct sqlite_lease){sqlite3_column_int64(row, 0), sqlite3_column_int64(row, 1),
                                   sqlite3_column_int64(row, 2), sqlite3_column_int64(row, 3),
                                   sqlite3_column_int64(row, 4), sqlite3_column_int64(row, 5)};
}

int sqlite_lease_find(struct sqlite_broker *b, const struct broker_receipt *receipt,
                      struct sqlite_lease *lease, bool *held)
{
    struct sqlite_receipt r = sqlite_receipt_get(receipt);
    sqlite3_stmt *row;
    int rc = sqlite_query(b, SQL_LEASE_GET, &row, ARG_INT(r.fence), ARG_INT(r.message));

    if (rc != SQLITE_OK)
        return rc;
    rc = sqlite3_step(row);
    *held = rc == SQLITE_ROW;
    if (*held)
        read_lease(row, lease);
    return sqlite_end(row, rc);
}

int sqlite_lease_end(struct sqlite_broker *b, const struct broker_receipt *receipt, bool *held)
{
    struct sqlite_receipt r = sqlite_receipt_get(receipt);
    int rc = sqlite_do(b, SQL_LEASE_DEL, ARG_INT(r.fence), ARG_INT(r.message));

    *held = rc == SQLITE_OK && sqlite_changed(b) == 1;
    return rc;
}

static void lost(struct sqlite_broker *b, const struct sqlite_receipt *receipt)
{
    struct broker_event event = {.kind = BROKER_LOST};

    sqlite_receipt_put(&event.receipt, receipt);
    event_queue_push(&b->staged, &event);
}

int sqlite_renew(struct sqlite_broker *b, const struct sqlite_op *op)
{
    struct sqlite_receipt r = sqlite_receipt_get(&op->renew);
    int rc = sqlite_do(b, SQL_LEASE_RENEW, ARG_INT(r.fence), ARG_INT(r.message),
                       ARG_INT(clock_wall_ms(b->clock) + b->lease_ms));

    if (rc == SQLITE_OK && sqlite_changed(b) == 0)
        lost(b, &r);
    return rc;
}

static int put_back(struct sqlite_broker *b, const struct sqlite_lease *lease,
                    const struct broker_release *release)
{
    bool front = release->front;

    b->state_dirty = b->news = b->maybe_more = true;
    if (release->not_before_ms > clock_wall_ms(b->clock))
        return sqlite_do(b, SQL_DELAYED_ADD, ARG_INT(release->not_before_ms),
                         ARG_INT(lease->message), ARG_INT(lease->queue), ARG_INT(lease->step),
                         ARG_INT(1));
    return sqlite_do(b, SQL_READY_ADD, ARG_INT(lease->queue), ARG_INT(lease->step),
                     ARG_INT(front ? lease->place : ++b->state.last_id), ARG_INT(lease->message),
                     ARG_INT(1));
}

int sqlite_release(struct sqlite_broker *b, const struct sqlite_op *op)
{
    const struct broker_release *release = &op->release;
    struct sqlite_lease lease;
    bool held = false;
    int rc = sqlite_lease_find(b, &release->receipt, &lease, &held);

    if (rc == SQLITE_OK && held)
        rc = sqlite_lease_end(b, &release->receipt, &held);
    if (rc == SQLITE_OK && held && release->envelope.ptr)
        rc = sqlite_do(b, SQL_MESSAGE_SET, ARG_INT(lease.message), ARG_BLOB(release->envelope));
    if (rc == SQLITE_OK && held)
        rc = put_back(b, &lease, release);
    if (rc == SQLITE_OK)
        event_queue_done(&b->staged, held ? BROKER_RELEASED : BROKER_REFUSED, release->tag, 0);
    return rc;
}

/* Hands back the leases that an open query finds, at most SWEEP_MAX; *n says how many. */
static int return_rows(struct sqlite_broker *b, sqlite3_stmt *rows, size_t *n)
{
    static const struct broker_release to_front = {.front = true};
    struct sqlite_lease leases[SWEEP_MAX];
    int rc;

    *n = 0;
    while (*n < SWEEP_MAX && (rc = sqlite3_step(rows)) == SQLITE_ROW)
        read_lease(rows, &leases[(*n)++]);
    rc = sqlite_end(rows, *n < SWEEP_MAX ? rc : SQLITE_DONE);
    for (size_t i = 0; rc == SQLITE_OK && i < *n; i++) {
        struct sqlite_receipt receipt = {leases[i].fence, leases[i].message};

        rc = sqlite_do(b, SQL_LEASE_DEL, ARG_INT(receipt.fence), ARG_INT(receipt.message));
        if (rc == SQLITE_OK)
            rc = put_back(b, &leases[i], &to_front);
        if (leases[i].owner == b->owner)
            lost(b, &receipt);
    }
    return rc;
}

int sqlite_lease_expired(struct sqlite_broker *b, bool *any)
{
    sqlite3_stmt *rows;
    int rc =
        sqlite_query(b, SQL_LEASE_EXPIRED, &rows, ARG_INT(clock_wall_ms(b->clock)), ARG_INT(1));

    if (rc != SQLITE_OK)
        return rc;
    rc = sqlite3_step(rows);
    *any = rc == SQLITE_ROW;
    return sqlite_end(rows, rc);
}

int sqlite_lease_sweep(struct sqlite_broker *b, bool *more)
{
    sqlite3_stmt *rows;
    size_t n = 0;
    int rc = sqlite_query(b, SQL_LEASE_EXPIRED, &rows, ARG_INT(clock_wall_ms(b->clock)),
                          ARG_INT(SWEEP_MAX));

    if (rc == SQLITE_OK)
        rc = return_rows(b, rows, &n);
    *more = n == SWEEP_MAX;
    return rc;
}

int sqlite_lease_takeover(struct sqlite_broker *b)
{
    sqlite3_stmt *rows;
    size_t n;
    int rc;

    do {
        n = 0;
        rc = sqlite_query(b, SQL_LEASE_OLDER, &rows, ARG_TEXT(slice_of(b->node)),
                          ARG_INT((int64_t)b->generation), ARG_INT(SWEEP_MAX));
        if (rc == SQLITE_OK)
            rc = return_rows(b, rows, &n);
    } while (rc == SQLITE_OK && n == SWEEP_MAX);
    return rc;
}

int sqlite_lease_release_mine(struct sqlite_broker *b)
{
    sqlite3_stmt *rows;
    size_t n;
    int rc;

    do {
        n = 0;
        rc = sqlite_query(b, SQL_LEASE_MINE, &rows, ARG_INT(b->owner), ARG_INT(SWEEP_MAX));
        if (rc == SQLITE_OK)
            rc = return_rows(b, rows, &n);
    } while (rc == SQLITE_OK && n == SWEEP_MAX);
    return rc;
}
