/*
 * Any bytes as records of the two streams, and any records as a log.
 *
 * Input that begins with 'r' is one record, read as both kinds: what can be read is written again
 * as it was. Any other input is a log: each step takes a few bytes as the fields of a well-formed
 * record, so that the rules are reached; two ledgers of different hosts must agree on every
 * verdict, and a third that begins in the middle must survive it.
 */
#include "broker/amqp_index.h"
#include "broker/amqp_ledger.h"

#include <stdlib.h>

#define STEP_LEN 6

static void need(bool holds)
{
    if (!holds)
        abort();
}

/* Reads every byte, so that a slice beyond its memory is caught. */
static void touch(struct slice text)
{
    unsigned any = 0;

    for (size_t i = 0; i < text.len; i++)
        any |= (unsigned char)text.ptr[i];
    need(any <= 255);
}

static void one_record(struct slice bytes)
{
    struct buf again = BUF_INIT;
    struct amqp_claim_record claim;
    struct amqp_result_record result, result_again;

    if (amqp_claim_read(&claim, bytes)) {
        touch(claim.id);
        touch(claim.doc);
        amqp_claim_write(&again, &claim);
        need(slice_eq(buf_slice(&again), bytes));
        buf_clear(&again);
    }
    if (amqp_result_read(&result, bytes)) {
        touch(result.id);
        touch(result.doc);
        amqp_result_write(&again, &result);
        need(amqp_result_read(&result_again, buf_slice(&again)));
        need(slice_eq(result_again.id, result.id) && slice_eq(result_again.doc, result.doc));
        need(result_again.retries == result.retries && result_again.now_ms == result.now_ms);
    }
    buf_release(&again);
}

/* kind and host | key | prev, counted back from the end of the log | id | seconds that pass |
 * window in seconds */
static void make_claim(struct amqp_claim_record *r, const uint8_t *step, int64_t offset,
                       int64_t *now_ms)
{
    static const char *const ids[] = {"a", "b", "3c3d771f-8894-4485-b561-575090d13ba7", ""};
    int64_t back = step[2];

    *now_ms += ((int64_t)step[4] - 16) * 1000;
    if (*now_ms < 0)
        *now_ms = 0;
    *r = (struct amqp_claim_record){.kind = (enum amqp_claim_kind)(step[0] % 7 + 1),
                                    .host = step[0] / 7 % 3,
                                    .key = amqp_key_of(slice_make(step + 1, 1)),
                                    .prev = back == 0 || back > offset ? AMQP_RECORD_NONE
                                                                       : offset - back,
                                    .id = slice_of(ids[step[3] % 4]),
                                    .now_ms = *now_ms,
                                    .window_ms = (int64_t)step[5] * 1000};
    if (r->kind == AMQP_CLAIM && r->prev != AMQP_RECORD_NONE)
        r->until_ms = *now_ms + ((int64_t)step[5] - 64) * 1000;
    r->until_ms = r->until_ms < 0 ? 0 : r->until_ms;
}

static void apply_all(struct amqp_ledger *ledgers[3], int64_t offset, struct slice bytes)
{
    struct amqp_ledger_decision d[3];
    struct err e;

    for (int i = 0; i < 3; i++) {
        struct amqp_key key;
        struct amqp_ledger_view view;

        if (i == 2 && offset < 40)
            continue;
        need(amqp_ledger_apply(ledgers[i], offset, bytes, offset, &d[i], &e) == 0);
        key = d[i].key;
        amqp_ledger_lookup(ledgers[i], &key, 0, &view);
        touch(view.id);
        touch(view.doc);
    }
    need(d[0].offset == d[1].offset);
    need(d[0].verdict == d[1].verdict || d[0].verdict == AMQP_LEDGER_SYNCED ||
         d[1].verdict == AMQP_LEDGER_SYNCED);
}

static void one_log(const uint8_t *data, size_t len)
{
    struct amqp_ledger *ledgers[3];
    struct buf bytes = BUF_INIT;
    struct amqp_claim_record r;
    int64_t now_ms = 0;

    for (uint64_t i = 0; i < 3; i++)
        need((ledgers[i] = amqp_ledger_new(&(struct amqp_ledger_config){.host = i})) != NULL);
    for (size_t i = 0; i + STEP_LEN <= len; i += STEP_LEN) {
        int64_t offset = (int64_t)(i / STEP_LEN);

        make_claim(&r, data + i, offset, &now_ms);
        buf_clear(&bytes);
        amqp_claim_write(&bytes, &r);
        apply_all(ledgers, offset, buf_slice(&bytes));
    }
    need(amqp_ledger_digest(ledgers[0]) == amqp_ledger_digest(ledgers[1]));
    for (int i = 0; i < 3; i++)
        amqp_ledger_free(ledgers[i]);
    buf_release(&bytes);
}

/* The same bytes as ends of runs. */
static void one_index(const uint8_t *data, size_t len)
{
    struct amqp_index *index = amqp_index_new(&(struct amqp_index_config){.max = 50});
    struct err e;
    bool counted;

    need(index != NULL);
    for (size_t i = 0; i + 3 <= len; i += 3) {
        struct amqp_result_record r = {
            .outcome = (enum amqp_result_outcome)(data[i] % AMQP_RESULT_SYNC + 1),
            .retries = data[i] / AMQP_RESULT_SYNC,
            .id = slice_make(data + i + 1, 1),
            .now_ms = (int64_t)data[i + 2] * 60000};

        need(amqp_index_apply(index, (int64_t)i, &r, &counted, &e) == 0);
        need(!counted || amqp_index_find(index, r.id, r.retries, NULL));
        need(amqp_index_len(index) <= 50);
    }
    amqp_index_free(index);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    if (len && *data == 'r') {
        one_record(slice_make(data + 1, len - 1));
        return 0;
    }
    one_log(data, len);
    one_index(data, len);
    return 0;
}
