#include "broker/result.h"
#include "broker/sqlite.h"

#include <stdlib.h>

#define SWEEP_MAX 256

int sqlite_result_put(struct sqlite_broker *b, struct slice id, struct slice doc,
                      int64_t expires_ms, bool *kept)
{
    int64_t now = clock_wall_ms(b->clock);
    int64_t life = expires_ms ? expires_ms : b->result_expires_ms;
    struct sqlite_arg expires = life > 0 ? ARG_INT(now + life) : ARG_TEXT(slice_of(NULL));
    int rc = sqlite_do(b, SQL_RESULT_PUT, ARG_INT(b->state.last_version + 1), ARG_TEXT(id),
                       ARG_INT(result_is_success(doc)), expires,
                       ARG_BLOB(doc.ptr ? doc : slice_of("")), ARG_INT(now));

    if (rc != SQLITE_OK)
        return rc;
    *kept = sqlite_changed(b) == 0;
    if (!*kept) {
        b->state.last_version++;
        b->state_dirty = b->news = b->watches.scan = true;
    }
    return SQLITE_OK;
}

/* Looks up one document and hands it to `to`, or {NULL,0} to it when `always`. */
static int look_up(struct sqlite_broker *b, struct slice id, uint64_t tag, bool always,
                   struct event_queue *to, int64_t *version)
{
    struct broker_event event = {.kind = BROKER_RESULT, .tag = tag};
    sqlite3_stmt *row;
    int rc = sqlite_query(b, SQL_RESULT_GET, &row, ARG_TEXT(id), ARG_INT(clock_wall_ms(b->clock)));

    *version = 0;
    if (rc != SQLITE_OK)
        return rc;
    rc = sqlite3_step(row);
    if (rc == SQLITE_ROW) {
        *version = sqlite3_column_int64(row, 0);
        event.data = sqlite_column(row, 1);
    }
    if (rc == SQLITE_ROW || (rc == SQLITE_DONE && always))
        event_queue_push(to, &event);
    return sqlite_end(row, rc);
}

int sqlite_result_get(struct sqlite_broker *b, const struct sqlite_op *op)
{
    int64_t version;

    return look_up(b, op->id.id, op->id.tag, true, &b->staged, &version);
}

int sqlite_result_forget(struct sqlite_broker *b, const struct sqlite_op *op)
{
    int rc = sqlite_do(b, SQL_RESULT_DEL, ARG_TEXT(op->id.id));

    if (rc == SQLITE_OK)
        event_queue_done(&b->staged, BROKER_FORGOTTEN, op->id.tag, 0);
    return rc;
}

int sqlite_result_expired(struct sqlite_broker *b, bool *any)
{
    sqlite3_stmt *row;
    int rc = sqlite_query(b, SQL_RESULT_EXPIRED, &row, ARG_INT(clock_wall_ms(b->clock)));

    if (rc != SQLITE_OK)
        return rc;
    rc = sqlite3_step(row);
    *any = rc == SQLITE_ROW;
    return sqlite_end(row, rc);
}

int sqlite_result_sweep(struct sqlite_broker *b, bool *more)
{
    int rc = sqlite_do(b, SQL_RESULT_SWEEP, ARG_INT(clock_wall_ms(b->clock)), ARG_INT(SWEEP_MAX));

    *more = rc == SQLITE_OK && sqlite_changed(b) == SWEEP_MAX;
    return rc;
}
