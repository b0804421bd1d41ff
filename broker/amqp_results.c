/* The ops of results: store, get, watch, forget. */
#include "broker/amqp_results.h"
#include "broker/result.h"

#include <stdlib.h>

#define SPARE_S 3600
#define DAY_S   86400

struct amqp_results *results_of(struct amqp_broker *b)
{
    if (!b->results)
        b->results = calloc(1, sizeof(*b->results));
    return b->results;
}

void amqp_results_release(struct amqp_broker *b)
{
    if (!b->results)
        return;
    lookups_release(b);
    watches_release(b);
    replies_release(b);
    kept_docs_release(&b->results->recent);
    free(b->results);
    b->results = NULL;
}

int64_t amqp_results_age_s(const struct amqp_broker *b)
{
    if (b->result_expires_ms < 0)
        return 0;
    return (b->result_expires_ms > 0 ? b->result_expires_ms / 1000 : DAY_S) + SPARE_S;
}

void results_tell(struct amqp_broker *b, uint64_t tag, struct slice doc)
{
    struct broker_event event = {.kind = BROKER_RESULT, .tag = tag, .data = doc};

    event_queue_push(&b->events, &event);
}

/* --- records without a delivery: they count nowhere --- */

static void on_written(struct amqp_broker *b, struct out_step *step, const struct err *why)
{
    if (why)
        event_queue_fail(&b->events, step->tag, why);
    else
        event_queue_done(&b->events, step->event, step->tag, 0);
}

static void write_record(struct amqp_broker *b, enum broker_event_kind event, uint64_t tag,
                         const struct amqp_result_record *record)
{
    struct out_step *step = out_step_new(on_written, event, tag);
    struct err e = ERR_INIT;

    if (!step) {
        err_nomem(&e);
        event_queue_fail(&b->events, tag, &e);
        return;
    }
    if (amqp_add_record(b, step, record, &e) != 0 ||
        (event == BROKER_FORGOTTEN && recent_forget(b, step, record->id, &e) != 0)) {
        step->failed = true;
        step->why = e;
    }
    out_step_close(b, step);
}

/* Whether there is a success already is not asked: that would be a reading of the stream. The
 * document stays the success all the same (amqp_verdict.h), only BROKER_DUPLICATE is never said. */
int amqp_store(struct broker *base, const struct broker_store *v, size_t n, struct err *e)
{
    struct amqp_broker *b = amqp_of(base);

    (void)e;
    for (size_t i = 0; i < n; i++) {
        struct amqp_result_record record = {
            .outcome = AMQP_RESULT_STATE,
            .flags = result_is_ready(v[i].result) ? AMQP_RESULT_READY : 0,
            .now_ms = clock_wall_ms(b->clock),
            .expires_ms = v[i].expires_ms ? v[i].expires_ms : b->result_expires_ms,
            .id = v[i].id,
            .doc = v[i].result};

        write_record(b, BROKER_STORED, v[i].tag, &record);
    }
    return 0;
}

int amqp_result_forget(struct broker *base, const uint64_t *tags, const struct slice *ids, size_t n,
                       struct err *e)
{
    struct amqp_broker *b = amqp_of(base);

    (void)e;
    for (size_t i = 0; i < n; i++) {
        struct amqp_result_record record = {
            .outcome = AMQP_RESULT_FORGOTTEN, .now_ms = clock_wall_ms(b->clock), .id = ids[i]};

        replies_forget(b, ids[i]);
        write_record(b, BROKER_FORGOTTEN, tags[i], &record);
    }
    return 0;
}

/* --- reading --- */

static int get_one(struct amqp_broker *b, uint64_t tag, struct slice id, struct err *e)
{
    const struct kept_doc *reply = replies_find(b, id);

    if (!reply || !replies_complete(b, reply))
        return lookup_get(b, tag, id, e);
    results_tell(b, tag, reply->doc.len ? buf_slice(&reply->doc) : slice_make(NULL, 0));
    return 0;
}

int amqp_result_get(struct broker *base, const uint64_t *tags, const struct slice *ids, size_t n,
                    struct err *e)
{
    struct amqp_broker *b = amqp_of(base);
    struct err why = ERR_INIT;

    (void)e;
    for (size_t i = 0; i < n; i++) {
        if (get_one(b, tags[i], ids[i], &why) != 0)
            event_queue_fail(&b->events, tags[i], &why);
    }
    lookups_start(b);
    return 0;
}

int amqp_result_watch(struct broker *base, const uint64_t *tags, const struct slice *ids, size_t n,
                      struct err *e)
{
    struct amqp_broker *b = amqp_of(base);
    struct err why = ERR_INIT;

    (void)e;
    for (size_t i = 0; i < n; i++) {
        if (watch_add(b, tags[i], ids[i], &why) != 0)
            event_queue_fail(&b->events, tags[i], &why);
    }
    lookups_start(b);
    return 0;
}

void amqp_result_unwatch(struct broker *base, const struct slice *ids, size_t n)
{
    for (size_t i = 0; i < n; i++)
        watch_remove(amqp_of(base), ids[i]);
}
