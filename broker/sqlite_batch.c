#include "base/fault.h"
#include "broker/backoff.h"
#include "broker/sqlite.h"

#include <poll.h>

#define BATCH_ITEMS    1024
#define BATCH_BYTES    (8u * 1024 * 1024)
#define TICK_MS        1000
#define BLIND_TICK_MS  100 /* when the bell cannot be watched */
#define BUSY_SILENT_MS 1000

/* --- the transaction --- */

int sqlite_version(struct sqlite_broker *b, int64_t *version)
{
    sqlite3_stmt *row;
    int rc = sqlite_bind(b, SQL_VERSION, &row, NULL, 0);

    if (rc != SQLITE_OK)
        return rc;
    rc = sqlite3_step(row);
    if (rc == SQLITE_ROW)
        *version = sqlite3_column_int64(row, 0);
    return sqlite_end(row, rc);
}

static int read_state(struct sqlite_broker *b)
{
    struct sqlite_state *s = &b->state;
    int64_t *const columns[] = {&s->published,    &s->succeeded,    &s->failed,
                                &s->retried,      &s->duplicates,   &s->purged,
                                &s->removed,      &s->last_id,      &s->last_fence,
                                &s->last_version, &s->tokens_at_ms, &s->tokens_turn};
    sqlite3_stmt *row;
    int rc = sqlite_bind(b, SQL_STATE_GET, &row, NULL, 0);

    if (rc != SQLITE_OK)
        return rc;
    rc = sqlite3_step(row);
    for (int i = 0; rc == SQLITE_ROW && i < (int)(sizeof(columns) / sizeof(columns[0])); i++)
        *columns[i] = sqlite3_column_int64(row, i);
    if (rc == SQLITE_DONE)
        rc = SQLITE_CORRUPT; /* the row is made with the table */
    return sqlite_end(row, rc);
}

static int write_state(struct sqlite_broker *b)
{
    const struct sqlite_state *s = &b->state;

    return sqlite_do(b, SQL_STATE_SET, ARG_INT(s->published), ARG_INT(s->succeeded),
                     ARG_INT(s->failed), ARG_INT(s->retried), ARG_INT(s->duplicates),
                     ARG_INT(s->purged), ARG_INT(s->removed), ARG_INT(s->last_id),
                     ARG_INT(s->last_fence), ARG_INT(s->last_version), ARG_INT(s->tokens_at_ms),
                     ARG_INT(s->tokens_turn));
}

/* What another connection committed since we last looked everywhere is looked at now. */
static int notice_others(struct sqlite_broker *b)
{
    int64_t version = 0;
    int rc = sqlite_version(b, &version);

    if (rc == SQLITE_OK && version != b->seen_version) {
        b->seen_version = version;
        b->maybe_more = b->watches.scan = true;
    }
    b->state_known = b->state_known && version == b->state_version;
    b->state_version = version;
    return rc;
}

int sqlite_begin(struct sqlite_broker *b, bool write)
{
    int rc = sqlite_exec_args(b, write ? SQL_BEGIN : SQL_BEGIN_READ, NULL, 0);

    b->state_dirty = b->news = false;
    b->fetched = 0;
    if (rc == SQLITE_OK)
        rc = notice_others(b);
    if (rc == SQLITE_OK && !b->state_known)
        rc = read_state(b);
    b->state_known = rc == SQLITE_OK;
    return rc;
}

int sqlite_commit(struct sqlite_broker *b)
{
    int rc = SQLITE_OK;

    if (b->staged.failed)
        return SQLITE_NOMEM;
    if (b->state_dirty)
        rc = write_state(b);
    /* CRASH: in a batch, before its commit - nothing happened; whoever submitted it sends it again
     * and leases still stand. */
    FAULT_POINT("sqlite.before-commit");
    if (rc == SQLITE_OK)
        rc = sqlite_exec_args(b, SQL_COMMIT, NULL, 0);
    return rc;
}

void sqlite_rollback(struct sqlite_broker *b)
{
    /* A full disk or an I/O error may have rolled back already. */
    if (!sqlite3_get_autocommit(b->db))
        sqlite3_exec(b->db, "ROLLBACK", NULL, NULL, NULL);
    event_queue_release(&b->staged);
    sqlite_queues_forget(b);
    b->state_known = false;
    b->maybe_more = b->look = b->watches.scan = true;
}

/* --- a batch --- */

typedef int op_fn(struct sqlite_broker *b, const struct sqlite_op *op);

/* The first ops of the list, within the limits; *done says how many. */
static int run_ops(struct sqlite_broker *b, size_t *done)
{
    static op_fn *const run[SQLITE_OP_KINDS] = {
        [SQLITE_OP_PUBLISH] = sqlite_publish, [SQLITE_OP_RENEW] = sqlite_renew,
        [SQLITE_OP_NOTE] = sqlite_note,       [SQLITE_OP_FINISH] = sqlite_finish,
        [SQLITE_OP_RELEASE] = sqlite_release, [SQLITE_OP_BURY] = sqlite_bury,
        [SQLITE_OP_STORE] = sqlite_store,     [SQLITE_OP_CLAIM] = sqlite_claim,
        [SQLITE_OP_GET] = sqlite_result_get,  [SQLITE_OP_FORGET] = sqlite_result_forget,
        [SQLITE_OP_ASK] = sqlite_ask,
    };
    size_t bytes = 0;
    int rc = SQLITE_OK;

    *done = 0;
    for (struct sqlite_op *op = b->ops.head; op && *done < BATCH_ITEMS && bytes < BATCH_BYTES;
         op = op->next) {
        rc = run[op->kind](b, op);
        if (rc != SQLITE_OK)
            break;
        bytes += op->size;
        (*done)++;
    }
    return rc;
}

static int sweep(struct sqlite_broker *b)
{
    bool more_leases = false, more_results = false, more_claims = false;
    int rc = sqlite_lease_sweep(b, &more_leases);

    if (rc == SQLITE_OK)
        rc = sqlite_result_sweep(b, &more_results);
    if (rc == SQLITE_OK)
        rc = sqlite_claim_sweep(b, &more_claims);
    if (rc == SQLITE_OK)
        b->sweep = more_leases || more_results || more_claims;
    return rc;
}

static bool wants_fetch(const struct sqlite_broker *b)
{
    return b->credit > 0 && b->consumed.len && b->maybe_more;
}

/* After the ops, so that a renewal or a finish in the list comes before its lease is swept. */
static int run_duties(struct sqlite_broker *b)
{
    int rc = SQLITE_OK;

    if (b->consumed.len)
        rc = sqlite_wake_due(b);
    if (rc == SQLITE_OK && b->sweep)
        rc = sweep(b);
    if (rc == SQLITE_OK && wants_fetch(b))
        rc = sqlite_fetch(b);
    return rc;
}

/* Tells the others, without waking ourselves: our own ring is taken back at once, and a foreign
 * ring that goes with it shows in the data version. */
static void ring(struct sqlite_broker *b)
{
    int64_t version = b->seen_version;

    /* CRASH: after commit, before the bell - the tick of the others finds it. */
    FAULT_POINT("sqlite.after-commit");
    sqlite_bell_ring(&b->bell);
    FAULT_POINT("sqlite.after-bell");
    if (sqlite_bell_rang(&b->bell) &&
        (sqlite_version(b, &version) != SQLITE_OK || version != b->seen_version))
        b->look = true;
}

static void settle(struct sqlite_broker *b, size_t done)
{
    sqlite_ops_drop(&b->ops, done);
    event_queue_append(&b->out, &b->staged);
    b->credit -= b->fetched;
    /* CRASH: after a fetch, before its deliveries are handed out - take-over by the successor of
     * this node, or the expiry of the lease, returns them. */
    if (b->fetched) {
        FAULT_POINT("sqlite.after-fetch");
        b->next_queue++;
    }
    if (b->news)
        ring(b);
}

static int batch(struct sqlite_broker *b, bool write)
{
    size_t done = 0;
    int rc = sqlite_begin(b, write);

    if (rc == SQLITE_OK)
        rc = run_ops(b, &done);
    if (rc == SQLITE_OK && write)
        rc = run_duties(b);
    if (rc == SQLITE_OK)
        rc = sqlite_commit(b);
    if (rc == SQLITE_OK)
        settle(b, done);
    return rc;
}

/* --- what there is to do --- */

/* Reads whether a lease, a result or a dedup key is over. */
static int look_expired(struct sqlite_broker *b)
{
    static int (*const expired[])(struct sqlite_broker * b, bool *any) = {
        sqlite_lease_expired, sqlite_result_expired, sqlite_claim_expired};
    int rc = SQLITE_OK;

    for (size_t i = 0; rc == SQLITE_OK && i < sizeof(expired) / sizeof(expired[0]); i++) {
        bool any = false;

        rc = expired[i](b, &any);
        b->sweep = b->sweep || any;
    }
    return rc;
}

/* Reads, without a lock, what a ring or a tick may have brought. */
static int look(struct sqlite_broker *b)
{
    int64_t version = b->seen_version;
    bool any = false;
    int rc = sqlite_version(b, &version);

    if (rc != SQLITE_OK)
        return rc;
    if (b->consumed.len && (version != b->seen_version || b->tick)) {
        rc = sqlite_ready_any(b, &any);
        b->maybe_more = b->maybe_more || any;
        if (rc == SQLITE_OK)
            rc = sqlite_due_next(b);
    }
    if (rc == SQLITE_OK && b->tick && b->consumed.len)
        rc = look_expired(b);
    if (version != b->seen_version || b->tick)
        b->watches.scan = true;
    if (rc == SQLITE_OK) {
        b->seen_version = version;
        b->look = b->tick = false;
    }
    return rc;
}

static bool has_duties(const struct sqlite_broker *b)
{
    return b->sweep || wants_fetch(b) || (b->consumed.len && b->due_at <= clock_wall_ms(b->clock));
}

static int attend(struct sqlite_broker *b)
{
    int rc = SQLITE_OK;

    if (b->tick || (b->look && !b->ops.writers))
        rc = look(b);
    if (rc == SQLITE_OK && (b->ops.writers || has_duties(b)))
        rc = batch(b, true);
    else if (rc == SQLITE_OK && b->ops.len)
        rc = batch(b, false);
    if (rc == SQLITE_OK && (b->watches.fresh || b->watches.scan))
        rc = sqlite_watch_scan(b);
    return rc;
}

/* --- problems --- */

static void say(struct sqlite_broker *b, unsigned flags, const struct err *e)
{
    struct broker_event event = {.kind = BROKER_STATE, .flags = flags, .err = e};

    event_queue_push(&b->out, &event);
}

static void recovered(struct sqlite_broker *b)
{
    if (!b->said_up)
        say(b, BROKER_UP, NULL);
    b->said_up = true;
    b->said = false;
    b->tries = 0;
    b->retry_at = 0;
}

/* Nothing of the batch happened. It stays in the list and is tried again. */
static void postpone(struct sqlite_broker *b, int rc, struct err *e)
{
    int64_t now = clock_mono_ms(b->clock);
    bool busy = (rc & 0xff) == SQLITE_BUSY || (rc & 0xff) == SQLITE_LOCKED;

    if (e->code == ERR_NONE)
        sqlite_problem(b, rc, e);
    sqlite_rollback(b);
    if (b->tries++ == 0)
        b->problem_since = now;
    b->retry_at =
        now + 1 + (busy ? backoff_ms(5, 100, b->tries, 0) : backoff_ms(50, 5000, b->tries, 0));
    /* A lock that is held for a moment is everyday life among several writers. */
    if (b->said || (busy && now - b->problem_since < BUSY_SILENT_MS))
        return;
    b->said = true;
    b->said_up = false;
    say(b, 0, e);
}

/* --- the poll --- */

static bool waits(const struct sqlite_broker *b)
{
    return b->consumed.len || b->watches.len;
}

static void listen_to_bell(struct sqlite_broker *b, int64_t now)
{
    if (sqlite_bell_rang(&b->bell))
        b->look = true;
    if (!waits(b) || now < b->tick_at)
        return;
    sqlite_bell_check(&b->bell, b->log);
    b->tick = true;
    b->tick_at = now + (b->bell.notify >= 0 ? TICK_MS : BLIND_TICK_MS);
}

static void work(struct sqlite_broker *b)
{
    struct err e = ERR_INIT;
    int64_t now = clock_mono_ms(b->clock);
    int rc = SQLITE_OK;

    listen_to_bell(b, now);
    if (now < b->retry_at)
        return;
    if (!b->ready_to_work)
        rc = sqlite_setup(b, &e);
    if (rc == SQLITE_OK)
        rc = attend(b);
    if (rc != SQLITE_OK) {
        postpone(b, rc, &e);
        return;
    }
    recovered(b);
    sqlite_node_write(b);
}

int sqlite_poll(struct broker *base, struct broker_event *events, int max)
{
    struct sqlite_broker *b = (struct sqlite_broker *)base;

    if (b->out.len < (size_t)max)
        work(b);
    return event_queue_drain(&b->out, events, max);
}

/* When the first delayed message is due, on the monotonic clock. */
static int64_t due_mono(const struct sqlite_broker *b, int64_t now)
{
    return b->due_at == CLOCK_NEVER ? CLOCK_NEVER : now + b->due_at - clock_wall_ms(b->clock);
}

int64_t sqlite_deadline(struct broker *base)
{
    struct sqlite_broker *b = (struct sqlite_broker *)base;
    int64_t now = clock_mono_ms(b->clock);
    int64_t at = CLOCK_NEVER;

    if (!event_queue_empty(&b->out))
        return now;
    if (b->retry_at)
        return b->retry_at;
    if (!b->ready_to_work || !b->said_up || b->ops.len || b->sweep || wants_fetch(b) ||
        b->watches.fresh || b->announced.json.ptr || (waits(b) && (b->look || b->watches.scan)))
        return now;
    if (waits(b))
        at = b->tick_at;
    if (b->consumed.len && due_mono(b, now) < at)
        at = due_mono(b, now);
    return at;
}

void sqlite_flush(struct sqlite_broker *b, int64_t deadline_ms)
{
    while (b->ops.len && clock_mono_ms(clock_system()) < deadline_ms) {
        b->retry_at = 0;
        b->credit = 0;
        work(b);
        if (b->retry_at)
            poll(NULL, 0, 10);
    }
}
