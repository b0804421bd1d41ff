#include "broker/answer.h"
#include "broker/sqlite.h"

#include <inttypes.h>
#include <stdio.h>

#define ALL "all"

typedef int answer_fn(struct sqlite_broker *b, const struct broker_ask *ask, struct buf *out);

static struct slice absent_if_empty(struct slice s)
{
    return s.len ? s : (struct slice){NULL, 0};
}

static int ask_queues(struct sqlite_broker *b, const struct broker_ask *ask, struct buf *out)
{
    sqlite3_stmt *row;
    int rc = sqlite_bind(b, SQL_ASK_QUEUES, &row, NULL, 0);

    (void)ask;
    if (rc != SQLITE_OK)
        return rc;
    answer_begin(out);
    while ((rc = sqlite3_step(row)) == SQLITE_ROW) {
        struct answer_queue q = {sqlite_column(row, 0),        sqlite3_column_int64(row, 1),
                                 sqlite3_column_int64(row, 2), sqlite3_column_int64(row, 3),
                                 sqlite3_column_int64(row, 4), sqlite3_column_int64(row, 5)};

        answer_queue(out, &q);
    }
    answer_end(out);
    return sqlite_end(row, rc);
}

/* Counters and rows are read in one transaction, so invariant 9 holds in every answer. */
static int ask_totals(struct sqlite_broker *b, const struct broker_ask *ask, struct buf *out)
{
    const struct sqlite_state *s = &b->state;
    struct answer_totals t = {.published = s->published,
                              .succeeded = s->succeeded,
                              .failed = s->failed + s->purged,
                              .retried = s->retried,
                              .duplicates = s->duplicates,
                              .purged = s->purged,
                              .removed = s->removed};
    sqlite3_stmt *row;
    int rc = sqlite_bind(b, SQL_ASK_TOTALS, &row, NULL, 0);

    (void)ask;
    if (rc != SQLITE_OK)
        return rc;
    rc = sqlite3_step(row);
    t.waiting = sqlite3_column_int64(row, 0);
    t.leased = sqlite3_column_int64(row, 1);
    t.delayed = sqlite3_column_int64(row, 2);
    t.dead = sqlite3_column_int64(row, 3) + s->removed;
    answer_totals(out, &t);
    return sqlite_end(row, rc);
}

static int ask_peek(struct sqlite_broker *b, const struct broker_ask *ask, struct buf *out)
{
    static const char *const states[] = {"waiting", "delayed", "leased"};
    sqlite3_stmt *row;
    int64_t queue;
    int rc = sqlite_queue_peek(b, ask->queue, &queue);

    if (rc == SQLITE_OK)
        rc = sqlite_query(b, SQL_ASK_PEEK, &row, ARG_INT(queue), ARG_INT(ask->limit));
    if (rc != SQLITE_OK)
        return rc;
    answer_begin(out);
    while ((rc = sqlite3_step(row)) == SQLITE_ROW) {
        struct answer_peek p = {states[sqlite3_column_int(row, 0) % 3], sqlite3_column_int(row, 1),
                                sqlite3_column_int64(row, 2), sqlite_column(row, 3)};

        answer_peek(out, &p);
    }
    answer_end(out);
    return sqlite_end(row, rc);
}

static int ask_purge(struct sqlite_broker *b, const struct broker_ask *ask, struct buf *out)
{
    static const enum sqlite_stmt_id steps[] = {SQL_PURGE_READY_MESSAGES, SQL_PURGE_READY,
                                                SQL_PURGE_DELAYED_MESSAGES, SQL_PURGE_DELAYED};
    int64_t queue, purged = 0;
    int rc = sqlite_queue_peek(b, ask->queue, &queue);

    for (size_t i = 0; rc == SQLITE_OK && i < sizeof(steps) / sizeof(steps[0]); i++) {
        rc = sqlite_do(b, steps[i], ARG_INT(queue));
        if (i % 2)
            purged += sqlite_changed(b);
    }
    b->state.purged += purged;
    b->state_dirty = true;
    answer_count(out, "purged", purged);
    return rc;
}

static int ask_drop(struct sqlite_broker *b, const struct broker_ask *ask, struct buf *out)
{
    int64_t queue;
    int dropped = 0, rc = sqlite_queue_peek(b, ask->queue, &queue);

    if (rc == SQLITE_OK && queue)
        rc = sqlite_do(b, SQL_QUEUE_DROP, ARG_INT(queue));
    if (rc == SQLITE_OK && queue)
        dropped = sqlite_changed(b) > 0;
    if (dropped)
        sqlite_queue_forget(b, queue);
    answer_count(out, "dropped", dropped);
    return rc;
}

static void dead_row(sqlite3_stmt *row, bool whole, struct buf *out)
{
    char handle[24];
    struct answer_dead dead = {.queue = sqlite_column(row, 1),
                               .grave = sqlite3_column_int(row, 2) ? BROKER_UNKNOWN : BROKER_DEAD,
                               .cause = sqlite_column(row, 3),
                               .id = sqlite_column(row, 4),
                               .task = sqlite_column(row, 5),
                               .at_ms = sqlite3_column_int64(row, 6),
                               .size = (size_t)sqlite3_column_int64(row, 7)};

    snprintf(handle, sizeof(handle), "%" PRId64, (int64_t)sqlite3_column_int64(row, 0));
    dead.handle = slice_of(handle);
    if (whole)
        dead.envelope = sqlite_column(row, 8);
    answer_dead(out, &dead);
}

static int ask_dead(struct sqlite_broker *b, const struct broker_ask *ask, struct buf *out)
{
    sqlite3_stmt *row;
    int rc = sqlite_query(b, SQL_DEAD_LIST, &row, ARG_TEXT(absent_if_empty(ask->queue)),
                          ARG_INT(ask->limit));

    if (rc != SQLITE_OK)
        return rc;
    answer_begin(out);
    while ((rc = sqlite3_step(row)) == SQLITE_ROW)
        dead_row(row, false, out);
    answer_end(out);
    return sqlite_end(row, rc);
}

/* A handle is the row's number; 0, which no row has, for any other text. */
static int64_t handle_number(struct slice handle)
{
    int64_t n = 0;

    for (size_t i = 0; i < handle.len; i++) {
        if (handle.ptr[i] < '0' || handle.ptr[i] > '9' || i > 17)
            return 0;
        n = n * 10 + (handle.ptr[i] - '0');
    }
    return n;
}

static int ask_dead_show(struct sqlite_broker *b, const struct broker_ask *ask, struct buf *out)
{
    sqlite3_stmt *row;
    int rc = sqlite_query(b, SQL_DEAD_GET, &row, ARG_INT(handle_number(ask->handle)));

    if (rc != SQLITE_OK)
        return rc;
    rc = sqlite3_step(row);
    if (rc == SQLITE_ROW)
        dead_row(row, true, out);
    else
        buf_adds(out, "{}");
    return sqlite_end(row, rc);
}

struct dead_id {
    int64_t id, queue, priority;
};

/* The rows a handle names, as an array of dead_id in `rows`. */
static int dead_ids(struct sqlite_broker *b, const struct broker_ask *ask, struct buf *rows)
{
    bool all = slice_is(ask->handle, ALL);
    struct sqlite_arg id = all ? ARG_TEXT(slice_of(NULL)) : ARG_INT(handle_number(ask->handle));
    struct slice queue = all ? absent_if_empty(ask->queue) : slice_of(NULL);
    sqlite3_stmt *row;
    int rc = sqlite_query(b, SQL_DEAD_IDS, &row, id, ARG_TEXT(queue));

    if (rc != SQLITE_OK)
        return rc;
    while ((rc = sqlite3_step(row)) == SQLITE_ROW) {
        struct dead_id dead = {sqlite3_column_int64(row, 0), sqlite3_column_int64(row, 1),
                               sqlite3_column_int64(row, 2)};

        buf_add(rows, &dead, sizeof(dead));
    }
    rc = sqlite_end(row, rc);
    return rows->failed ? SQLITE_NOMEM : rc;
}

static int revive(struct sqlite_broker *b, const struct dead_id *dead)
{
    int rc = sqlite_do(b, SQL_DEAD_REVIVE, ARG_INT(dead->id));

    if (rc == SQLITE_OK)
        rc = sqlite_do(b, SQL_READY_ADD, ARG_INT(dead->queue), ARG_INT(dead->priority / 3),
                       ARG_INT(++b->state.last_id), ARG_INT(dead->id), ARG_INT(1));
    b->state_dirty = b->news = b->maybe_more = true;
    return rc;
}

/* Revives or forgets every row that the handle names. */
static int empty_graves(struct sqlite_broker *b, const struct broker_ask *ask, bool back,
                        int64_t *n)
{
    struct buf rows = BUF_INIT;
    int rc = dead_ids(b, ask, &rows);
    size_t len = rows.len / sizeof(struct dead_id);

    for (size_t i = 0; rc == SQLITE_OK && i < len; i++) {
        struct dead_id dead;

        memcpy(&dead, buf_slice(&rows).ptr + i * sizeof(dead), sizeof(dead));
        if (back)
            rc = revive(b, &dead);
        if (rc == SQLITE_OK)
            rc = sqlite_do(b, SQL_DEAD_DEL, ARG_INT(dead.id));
    }
    *n = (int64_t)len;
    buf_release(&rows);
    return rc;
}

static int ask_dead_retry(struct sqlite_broker *b, const struct broker_ask *ask, struct buf *out)
{
    int64_t moved;
    int rc = empty_graves(b, ask, true, &moved);

    answer_count(out, "moved", moved);
    return rc;
}

static int ask_dead_rm(struct sqlite_broker *b, const struct broker_ask *ask, struct buf *out)
{
    int64_t removed;
    int rc = empty_graves(b, ask, false, &removed);

    b->state.removed += removed;
    b->state_dirty = true;
    answer_count(out, "removed", removed);
    return rc;
}

/* Only reads: what is over is removed by those who announce. */
static int ask_nodes(struct sqlite_broker *b, const struct broker_ask *ask, struct buf *out)
{
    sqlite3_stmt *row;
    int rc = sqlite_query(b, SQL_ASK_NODES, &row, ARG_INT(clock_wall_ms(b->clock)));

    (void)ask;
    if (rc != SQLITE_OK)
        return rc;
    answer_begin(out);
    while ((rc = sqlite3_step(row)) == SQLITE_ROW)
        answer_node(out, sqlite_column(row, 0), sqlite_column(row, 1));
    answer_end(out);
    return sqlite_end(row, rc);
}

int sqlite_ask(struct sqlite_broker *b, const struct sqlite_op *op)
{
    static answer_fn *const questions[] = {
        [BROKER_ASK_QUEUES] = ask_queues,
        [BROKER_ASK_TOTALS] = ask_totals,
        [BROKER_ASK_PEEK] = ask_peek,
        [BROKER_ASK_PURGE] = ask_purge,
        [BROKER_ASK_DEAD] = ask_dead,
        [BROKER_ASK_DEAD_SHOW] = ask_dead_show,
        [BROKER_ASK_DEAD_RETRY] = ask_dead_retry,
        [BROKER_ASK_DEAD_RM] = ask_dead_rm,
        [BROKER_ASK_NODES] = ask_nodes,
        [BROKER_ASK_DOCTOR] = sqlite_doctor,
        [BROKER_ASK_DROP] = ask_drop,
    };
    struct broker_event event = {.kind = BROKER_ANSWER, .tag = op->ask.tag};
    struct buf out = BUF_INIT;
    int rc = questions[op->ask.question](b, &op->ask, &out);

    buf_str(&out);
    if (rc == SQLITE_OK && out.failed)
        rc = SQLITE_NOMEM;
    event.data = buf_slice(&out);
    if (rc == SQLITE_OK)
        event_queue_push(&b->staged, &event);
    buf_release(&out);
    return rc;
}
