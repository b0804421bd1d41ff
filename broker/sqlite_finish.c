#include "broker/sqlite.h"

/* Adds one to the counter of an outcome. */
static void count(struct sqlite_broker *b, enum broker_outcome outcome)
{
    struct sqlite_state *s = &b->state;
    int64_t *const counters[] = {[BROKER_JOB_SUCCEEDED] = &s->succeeded,
                                 [BROKER_JOB_FAILED] = &s->failed,
                                 [BROKER_JOB_CONTINUES] = &s->retried};

    (*counters[outcome])++;
    b->state_dirty = true;
}

/* The work is recorded already, by a message with the same id or the same key. */
static void count_duplicate(struct sqlite_broker *b)
{
    count(b, BROKER_JOB_SUCCEEDED);
    b->state.duplicates++;
}

static int push_followups(struct sqlite_broker *b, const struct broker_finish *f)
{
    int rc = SQLITE_OK;

    for (size_t i = 0; rc == SQLITE_OK && i < f->followups_len; i++)
        rc = sqlite_push(b, &f->followups[i]);
    return rc;
}

/* Result, counter and follow-ups of a delivery whose lease was held until now. */
static int record(struct sqlite_broker *b, const struct broker_finish *f, bool *duplicate)
{
    int rc = SQLITE_OK;

    if (f->result_id.ptr)
        rc = sqlite_result_put(b, f->result_id, f->result, f->result_expires_ms, duplicate);
    if (rc != SQLITE_OK)
        return rc;
    if (*duplicate) {
        count_duplicate(b);
        return sqlite_claim_finish(b, f, true);
    }
    *duplicate = f->duplicate;
    if (f->duplicate)
        count_duplicate(b);
    else
        count(b, f->outcome);
    rc = sqlite_claim_finish(b, f, f->outcome == BROKER_JOB_SUCCEEDED);
    return rc == SQLITE_OK ? push_followups(b, f) : rc;
}

int sqlite_finish(struct sqlite_broker *b, const struct sqlite_op *op)
{
    const struct broker_finish *f = &op->finish;
    struct sqlite_receipt receipt = sqlite_receipt_get(&f->receipt);
    bool held, duplicate = false;
    int rc = sqlite_lease_end(b, &f->receipt, &held);

    if (rc == SQLITE_OK && held)
        rc = sqlite_do(b, SQL_MESSAGE_DEL, ARG_INT(receipt.message));
    if (rc == SQLITE_OK && held)
        rc = record(b, f, &duplicate);
    if (rc == SQLITE_OK)
        event_queue_done(&b->staged, held ? BROKER_FINISHED : BROKER_REFUSED, f->tag,
                         duplicate ? BROKER_DUPLICATE : 0);
    return rc;
}

int sqlite_note(struct sqlite_broker *b, const struct sqlite_op *op)
{
    const struct broker_note *note = &op->note;
    struct sqlite_lease lease;
    bool held = false, kept;
    int rc = sqlite_lease_find(b, &note->receipt, &lease, &held);

    if (rc == SQLITE_OK && held)
        rc = sqlite_result_put(b, note->result_id, note->result, 0, &kept);
    return rc;
}

static int move_to_grave(struct sqlite_broker *b, const struct broker_bury *bury,
                         const struct sqlite_lease *lease)
{
    int rc = sqlite_do(b, SQL_DEAD_ADD, ARG_INT(lease->message), ARG_INT(lease->queue),
                       ARG_INT(bury->grave), ARG_TEXT(bury->cause), ARG_TEXT(bury->id),
                       ARG_TEXT(bury->task), ARG_INT(clock_wall_ms(b->clock)));

    return rc == SQLITE_OK ? sqlite_do(b, SQL_MESSAGE_DEL, ARG_INT(lease->message)) : rc;
}

int sqlite_bury(struct sqlite_broker *b, const struct sqlite_op *op)
{
    const struct broker_bury *bury = &op->bury;
    struct sqlite_lease lease;
    bool held = false, kept;
    int rc = sqlite_lease_find(b, &bury->receipt, &lease, &held);

    if (rc == SQLITE_OK && held)
        rc = sqlite_lease_end(b, &bury->receipt, &held);
    if (rc == SQLITE_OK && held)
        rc = move_to_grave(b, bury, &lease);
    if (rc == SQLITE_OK && held)
        rc = sqlite_claim_bury(b, bury);
    if (rc == SQLITE_OK && held && bury->result_id.ptr)
        rc = sqlite_result_put(b, bury->result_id, bury->result, 0, &kept);
    if (rc == SQLITE_OK)
        event_queue_done(&b->staged, held ? BROKER_BURIED : BROKER_REFUSED, bury->tag, 0);
    return rc;
}

int sqlite_store(struct sqlite_broker *b, const struct sqlite_op *op)
{
    const struct broker_store *store = &op->store;
    bool kept = false;
    int rc = sqlite_result_put(b, store->id, store->result, store->expires_ms, &kept);

    if (rc == SQLITE_OK)
        event_queue_done(&b->staged, BROKER_STORED, store->tag, kept ? BROKER_DUPLICATE : 0);
    return rc;
}
