#include "broker/sqlite.h"

#include <stdlib.h>

#define STEPS         4
#define TOKEN_LIFE_MS 60000
#define DUE_MAX       256
#define FETCH_MAX     1024
#define FETCH_BYTES   (16u * 1024 * 1024)

/* --- names and numbers of queues --- */

void sqlite_queues_forget(struct sqlite_broker *b)
{
    for (size_t i = 0; i < b->queues_len; i++)
        free(b->queues[i].name);
    b->queues_len = 0;
}

static int remember(struct sqlite_broker *b, struct slice name, int64_t id)
{
    char *copy;

    if (b->queues_len == b->queues_cap) {
        size_t cap = b->queues_cap ? b->queues_cap * 2 : 8;
        struct sqlite_queue *grown = realloc(b->queues, cap * sizeof(*grown));

        if (!grown)
            return SQLITE_NOMEM;
        b->queues = grown;
        b->queues_cap = cap;
    }
    copy = slice_dup(name);
    if (!copy)
        return SQLITE_NOMEM;
    b->queues[b->queues_len++] = (struct sqlite_queue){id, copy, name.len};
    return SQLITE_OK;
}

int sqlite_queue_peek(struct sqlite_broker *b, struct slice name, int64_t *id)
{
    sqlite3_stmt *stmt;
    int rc;

    for (size_t i = 0; i < b->queues_len; i++) {
        if (slice_eq(name, slice_make(b->queues[i].name, b->queues[i].len))) {
            *id = b->queues[i].id;
            return SQLITE_OK;
        }
    }
    *id = 0;
    rc = sqlite_query(b, SQL_QUEUE_GET, &stmt, ARG_TEXT(name));
    if (rc != SQLITE_OK)
        return rc;
    rc = sqlite3_step(stmt);
    if (rc == SQLITE_ROW)
        *id = sqlite3_column_int64(stmt, 0);
    rc = sqlite_end(stmt, rc);
    return rc == SQLITE_OK && *id ? remember(b, name, *id) : rc;
}

void sqlite_queue_forget(struct sqlite_broker *b, int64_t id)
{
    for (size_t i = 0; i < b->queues_len; i++) {
        if (b->queues[i].id != id)
            continue;
        free(b->queues[i].name);
        b->queues[i] = b->queues[--b->queues_len];
        return;
    }
}

int sqlite_queue_id(struct sqlite_broker *b, struct slice name, int64_t *id)
{
    int rc = sqlite_queue_peek(b, name, id);

    if (rc != SQLITE_OK || *id)
        return rc;
    rc = sqlite_do(b, SQL_QUEUE_ADD, ARG_TEXT(name));
    *id = sqlite3_last_insert_rowid(b->db);
    return rc == SQLITE_OK ? remember(b, name, *id) : rc;
}

/* --- publish --- */

/* Every 60 s the older table of tokens is emptied and written to. */
static int turn_tokens(struct sqlite_broker *b, int64_t now)
{
    struct sqlite_state *s = &b->state;

    if (s->tokens_at_ms == 0)
        s->tokens_at_ms = now;
    if (now - s->tokens_at_ms < TOKEN_LIFE_MS)
        return SQLITE_OK;
    s->tokens_turn = !s->tokens_turn;
    s->tokens_at_ms = now;
    return sqlite_exec_args(b, s->tokens_turn ? SQL_TOKEN_CLEAR_1 : SQL_TOKEN_CLEAR_0, NULL, 0);
}

/* *seen true: published already. Otherwise the token is remembered from now on. */
static int check_token(struct sqlite_broker *b, struct slice token, bool *seen)
{
    int64_t now = clock_wall_ms(b->clock);
    sqlite3_stmt *stmt;
    int rc = sqlite_query(b, SQL_TOKEN_SEEN, &stmt, ARG_BLOB(token), ARG_INT(now - TOKEN_LIFE_MS));

    if (rc != SQLITE_OK)
        return rc;
    rc = sqlite3_step(stmt);
    *seen = rc == SQLITE_ROW;
    rc = sqlite_end(stmt, rc);
    if (rc != SQLITE_OK || *seen)
        return rc;
    rc = turn_tokens(b, now);
    if (rc == SQLITE_OK)
        rc = sqlite_do(b, b->state.tokens_turn ? SQL_TOKEN_ADD_1 : SQL_TOKEN_ADD_0, ARG_BLOB(token),
                       ARG_INT(now));
    return rc;
}

int sqlite_push(struct sqlite_broker *b, const struct broker_message *m)
{
    int64_t queue, id = ++b->state.last_id;
    int rc = sqlite_queue_id(b, m->queue, &queue);

    b->state_dirty = b->news = b->maybe_more = true;
    if (rc == SQLITE_OK)
        rc = sqlite_do(b, SQL_MESSAGE_ADD, ARG_INT(id), ARG_INT(m->priority), ARG_TEXT(m->id),
                       ARG_BLOB(m->envelope.ptr ? m->envelope : slice_of("")));
    if (rc != SQLITE_OK)
        return rc;
    if (!m->continues)
        b->state.published++;
    if (m->not_before_ms > clock_wall_ms(b->clock))
        return sqlite_do(b, SQL_DELAYED_ADD, ARG_INT(m->not_before_ms), ARG_INT(id), ARG_INT(queue),
                         ARG_INT(m->priority / 3), ARG_INT(0));
    return sqlite_do(b, SQL_READY_ADD, ARG_INT(queue), ARG_INT(m->priority / 3), ARG_INT(id),
                     ARG_INT(id), ARG_INT(0));
}

int sqlite_publish(struct sqlite_broker *b, const struct sqlite_op *op)
{
    const struct broker_message *m = &op->publish;
    bool seen = false;
    int rc = SQLITE_OK;

    if (m->token.len)
        rc = check_token(b, m->token, &seen);
    if (rc == SQLITE_OK && !seen)
        rc = sqlite_push(b, m);
    if (rc == SQLITE_OK)
        event_queue_done(&b->staged, BROKER_PUBLISHED, m->tag, 0);
    return rc;
}

/* --- delayed messages --- */

struct due {
    int64_t at_ms, message, queue, step, again;
};

/* Reads what is due into due[], and the time of the first that is not. */
static int read_due(struct sqlite_broker *b, struct due due[DUE_MAX], size_t *n)
{
    int64_t now = clock_wall_ms(b->clock);
    sqlite3_stmt *stmt;
    int rc = sqlite_query(b, SQL_DELAYED_DUE, &stmt, ARG_INT(DUE_MAX));

    *n = 0;
    b->due_at = CLOCK_NEVER;
    if (rc != SQLITE_OK)
        return rc;
    while ((rc = sqlite3_step(stmt)) == SQLITE_ROW) {
        int64_t at = b->due_at = sqlite3_column_int64(stmt, 0);

        if (at > now)
            break;
        due[(*n)++] = (struct due){at, sqlite3_column_int64(stmt, 1), sqlite3_column_int64(stmt, 2),
                                   sqlite3_column_int64(stmt, 3), sqlite3_column_int64(stmt, 4)};
    }
    if (rc == SQLITE_DONE && *n < DUE_MAX)
        b->due_at = CLOCK_NEVER;
    return sqlite_end(stmt, rc);
}

int sqlite_due_next(struct sqlite_broker *b)
{
    sqlite3_stmt *row;
    int rc = sqlite_query(b, SQL_DELAYED_DUE, &row, ARG_INT(1));

    if (rc != SQLITE_OK)
        return rc;
    rc = sqlite3_step(row);
    b->due_at = rc == SQLITE_ROW ? sqlite3_column_int64(row, 0) : CLOCK_NEVER;
    return sqlite_end(row, rc);
}

int sqlite_wake_due(struct sqlite_broker *b)
{
    struct due due[DUE_MAX];
    size_t n;
    int rc = read_due(b, due, &n);

    for (size_t i = 0; rc == SQLITE_OK && i < n; i++)
        rc = sqlite_do(b, SQL_READY_ADD, ARG_INT(due[i].queue), ARG_INT(due[i].step),
                       ARG_INT(++b->state.last_id), ARG_INT(due[i].message), ARG_INT(due[i].again));
    if (rc != SQLITE_OK || n == 0)
        return rc;
    b->state_dirty = b->news = b->maybe_more = true;
    return sqlite_do(b, SQL_DELAYED_CUT, ARG_INT(due[n - 1].at_ms), ARG_INT(due[n - 1].message));
}

/* --- fetch --- */

int sqlite_ready_any(struct sqlite_broker *b, bool *any)
{
    int rc = SQLITE_OK;

    *any = false;
    for (size_t i = 0; rc == SQLITE_OK && !*any && i < b->consumed.len; i++) {
        sqlite3_stmt *stmt;
        int64_t queue;

        rc = sqlite_queue_peek(b, slice_of(b->consumed.items[i]), &queue);
        if (rc == SQLITE_OK)
            rc = sqlite_query(b, SQL_READY_ANY, &stmt, ARG_INT(queue));
        if (rc != SQLITE_OK)
            return rc;
        rc = sqlite3_step(stmt);
        *any = rc == SQLITE_ROW;
        rc = sqlite_end(stmt, rc);
    }
    return rc;
}

/* What one fetch has in hand. */
struct fetch {
    const char *name;
    int64_t queue;
    int64_t last_place[STEPS]; /* taken up to here; 0: none of the step */
    int64_t until_ms;
    size_t bytes;
};

static int lease_row(struct sqlite_broker *b, struct fetch *f, sqlite3_stmt *row)
{
    int64_t step = sqlite3_column_int64(row, 0), place = sqlite3_column_int64(row, 1);
    struct sqlite_receipt receipt = {++b->state.last_fence, sqlite3_column_int64(row, 2)};
    struct broker_event event = {.kind = BROKER_DELIVERED,
                                 .flags = sqlite3_column_int(row, 3) ? BROKER_REDELIVERED : 0,
                                 .fence = (uint64_t)receipt.fence,
                                 .queue = slice_of(f->name),
                                 .data = sqlite_column(row, 4)};

    sqlite_receipt_put(&event.receipt, &receipt);
    event_queue_push(&b->staged, &event);
    f->last_place[step & (STEPS - 1)] = place;
    f->bytes += event.data.len;
    b->fetched++;
    return sqlite_do(b, SQL_LEASE_ADD, ARG_INT(receipt.fence), ARG_INT(receipt.message),
                     ARG_INT(f->queue), ARG_INT(step), ARG_INT(place), ARG_INT(b->owner),
                     ARG_INT(f->until_ms), ARG_INT((int64_t)b->generation),
                     ARG_TEXT(slice_of(b->node)));
}

/* Deliveries are a prefix of the queue's order, so each step is cut off its list in one go. */
static int cut_taken(struct sqlite_broker *b, const struct fetch *f)
{
    int rc = SQLITE_OK;

    for (int64_t step = 0; rc == SQLITE_OK && step < STEPS; step++) {
        if (f->last_place[step])
            rc = sqlite_do(b, SQL_READY_CUT, ARG_INT(f->queue), ARG_INT(step),
                           ARG_INT(f->last_place[step]));
    }
    return rc;
}

static int fetch_queue(struct sqlite_broker *b, struct fetch *f, int want)
{
    int before = b->fetched;
    sqlite3_stmt *row;
    int rc = sqlite_query(b, SQL_READY_HEAD, &row, ARG_INT(f->queue), ARG_INT(want));

    if (rc != SQLITE_OK)
        return rc;
    while ((rc = sqlite3_step(row)) == SQLITE_ROW) {
        int failed = lease_row(b, f, row);

        if (failed) {
            sqlite3_reset(row);
            return failed;
        }
        if (f->bytes >= FETCH_BYTES)
            break;
    }
    rc = sqlite_end(row, rc);
    if (b->fetched > before && rc == SQLITE_OK) {
        b->state_dirty = true;
        rc = cut_taken(b, f);
    }
    return rc;
}

int sqlite_fetch(struct sqlite_broker *b)
{
    int want = b->credit < FETCH_MAX ? b->credit : FETCH_MAX;
    size_t bytes = 0;
    int rc = SQLITE_OK;

    for (size_t i = 0; rc == SQLITE_OK && i < b->consumed.len; i++) {
        struct fetch f = {.name = b->consumed.items[(b->next_queue + i) % b->consumed.len],
                          .until_ms = clock_wall_ms(b->clock) + b->lease_ms,
                          .bytes = bytes};

        if (b->fetched >= want || bytes >= FETCH_BYTES)
            break;
        rc = sqlite_queue_id(b, slice_of(f.name), &f.queue);
        if (rc == SQLITE_OK)
            rc = fetch_queue(b, &f, want - b->fetched);
        bytes = f.bytes;
    }
    b->maybe_more = b->fetched >= want || bytes >= FETCH_BYTES;
    return rc;
}
