/* What is stored for a task: the stream is read once for all who ask. */
#include "base/analyzer.h"
#include "broker/amqp_results.h"

#include <stdlib.h>
#include <string.h>

/* Clocks of hosts differ: a record may be older than the id of its task says. */
#define SLACK_MS 60000

struct asker {
    struct asker *next;
    uint64_t tag;
    lookup_told_fn *told; /* instead of an event with the tag; or NULL */
    void *context;
};

struct lookup {
    struct id_entry entry;
    struct amqp_verdict verdict;
    struct asker *askers; /* owned */
    bool watched;
    char text[];
};

/* --- the ids of a batch --- */

static void lookup_free(struct lookup *l)
{
    while (l->askers) {
        struct asker *asker = l->askers;

        l->askers = asker->next;
        free(asker);
    }
    amqp_verdict_release(&l->verdict);
    free(l);
}

/* No record about the id is older than this. */
static int64_t oldest_for(const struct amqp_broker *b, struct slice id)
{
    int64_t now_ms = clock_wall_ms(b->clock), age_s = amqp_results_age_s(b);
    int64_t kept_ms = age_s > 0 ? now_ms - age_s * 1000 : 0;
    int64_t id_ms = uuid_time_ms(id);

    if (id_ms > now_ms)
        id_ms = now_ms;
    id_ms -= SLACK_MS;
    return id_ms > kept_ms ? id_ms : kept_ms;
}

static struct lookup *lookup_new(struct lookup_batch *batch, struct slice id)
{
    struct lookup *l = calloc(1, sizeof(*l) + id.len);

    if (!l)
        return NULL;
    amqp_verdict_init(&l->verdict);
    memcpy(l->text, id.ptr, id.len);
    l->entry.id = slice_make(l->text, id.len);
    if (id_table_add(&batch->ids, &l->entry) == 0)
        return l;
    lookup_free(l);
    return NULL;
}

/* The one that is about to be read will do when it has not begun and begins early enough. */
static struct lookup_batch *batch_for(struct amqp_lookups *all, int64_t from_ms)
{
    bool running = all->reader.ops != NULL;
    struct lookup_batch *batch =
        running && (all->live || from_ms < all->now.from_ms) ? &all->then : &all->now;

    if (batch->ids.len == 0 || from_ms < batch->from_ms)
        batch->from_ms = from_ms;
    return batch;
}

static struct lookup *wanted(struct amqp_broker *b, struct slice id, struct err *e)
{
    struct amqp_results *results = results_of(b);
    struct lookup_batch *batch = results ? batch_for(&results->lookups, oldest_for(b, id)) : NULL;
    struct id_entry *found = batch ? id_table_find(&batch->ids, id) : NULL;
    struct lookup *l = (struct lookup *)found;

    if (!l && batch)
        l = lookup_new(batch, id);
    if (!l)
        err_nomem(e);
    return l;
}

/* --- reading --- */

static void answer(void *context, struct id_entry *entry)
{
    struct amqp_broker *b = context;
    struct lookup *l = (struct lookup *)entry;
    struct slice doc = amqp_verdict_doc(&l->verdict, clock_wall_ms(b->clock));
    const struct kept_doc *reply = l->verdict.known ? NULL : replies_find(b, entry->id);

    if (!doc.ptr && reply && reply->doc.len)
        doc = buf_slice(&reply->doc); /* a Celery worker's, which writes no records */
    for (struct asker *asker = l->askers; asker; asker = asker->next) {
        if (asker->told)
            asker->told(b, asker->context, &doc, NULL);
        else
            results_tell(b, asker->tag, doc);
    }
    if (l->watched)
        watch_looked(b, entry->id, &l->verdict);
    lookup_free(l);
}

static void begin(struct amqp_broker *b);

/* The reading is over: each of its ids is handed to fn, and what came too late for it begins. */
static void end(struct amqp_broker *b, void (*fn)(void *context, struct id_entry *entry),
                void *context)
{
    struct amqp_lookups *all = &b->results->lookups;
    struct lookup_batch ended = all->now;

    reader_end(b, &all->reader);
    all->live = false;
    all->now = all->then;
    all->then = (struct lookup_batch){.from_ms = 0};
    id_table_drain(&ended.ids, fn, context);
    id_table_release(&ended.ids);
    begin(b);
}

static void on_record(struct amqp_broker *b, struct amqp_reader *r, int64_t offset,
                      struct slice bytes)
{
    struct amqp_lookups *all = &b->results->lookups;
    struct amqp_result_record record;
    struct lookup *l;

    (void)r;
    if (!amqp_result_read(&record, bytes))
        return;
    if (record.outcome == AMQP_RESULT_SYNC) {
        if (record.host == all->host && record.nonce == all->nonce)
            end(b, answer, b);
        return;
    }
    l = (struct lookup *)id_table_find(&all->now.ids, record.id);
    if (l)
        amqp_verdict_apply(&l->verdict, offset, &record, b->result_expires_ms);
}

/* --- the sync record --- */

struct failure {
    struct amqp_broker *broker; /* borrowed */
    const struct err *why;
};

static void fail_one(void *context, struct id_entry *entry)
{
    const struct failure *f = context;
    struct amqp_broker *b = f->broker;
    struct lookup *l = (struct lookup *)entry;

    for (struct asker *asker = l->askers; asker; asker = asker->next) {
        if (asker->told)
            asker->told(b, asker->context, NULL, f->why);
        else
            event_queue_fail(&b->events, asker->tag, f->why);
    }
    if (l->watched)
        watch_looked(b, entry->id, NULL);
    lookup_free(l);
}

static void fail(struct amqp_broker *b, const struct err *why)
{
    struct failure f = {b, why};

    end(b, fail_one, &f);
}

static void on_synced(struct amqp_broker *b, struct out_step *step, const struct err *why)
{
    struct err untaken = ERR_INIT;

    if (!why || step->tag != b->results->lookups.nonce || !b->results->lookups.live)
        return;
    err_set(&untaken, ERR_AGAIN, "the broker did not take what marks the end of the results");
    fail(b, &untaken);
}

static void on_refused(struct amqp_broker *b, struct amqp_reader *r, const struct err *why)
{
    (void)r;
    fail(b, why);
}

/* Also after a reconnection: the first one may never have left. Whichever comes ends it. */
static void on_live(struct amqp_broker *b, struct amqp_reader *r)
{
    struct amqp_lookups *all = &b->results->lookups;
    struct amqp_result_record sync = {.outcome = AMQP_RESULT_SYNC,
                                      .now_ms = clock_wall_ms(b->clock),
                                      .host = all->host,
                                      .nonce = all->nonce};
    struct out_step *step = out_step_new(on_synced, BROKER_STORED, all->nonce);
    struct err e = ERR_INIT;

    (void)r;
    all->live = true;
    if (!step)
        return;
    if (amqp_add_record(b, step, &sync, &e) != 0) {
        step->failed = true;
        step->why = e;
    }
    out_step_close(b, step);
}

static const struct reader_ops lookup_ops = {
    .on_record = on_record, .on_live = on_live, .on_refused = on_refused};

static void begin(struct amqp_broker *b)
{
    struct amqp_lookups *all = &b->results->lookups;
    struct reader_start start = {.from = READER_FIRST};

    if (all->reader.ops || all->now.ids.len == 0)
        return;
    if (all->now.from_ms > 0)
        start = (struct reader_start){READER_TIME, all->now.from_ms / 1000};
    if (!all->host)
        all->host = uuid_random(&b->random);
    all->nonce++;
    reader_begin(b, &all->reader, AMQP_RESULTS_STREAM, &start, &lookup_ops);
    recent_ask(b, &all->now.ids, all->nonce);
}

/* --- what nodes answer --- */

/* A success stays what it is wherever it stands in the stream, and a node that has one was told
 * what was forgotten. So the offset does not matter. */
void lookup_heard(struct amqp_broker *b, uint64_t number, struct slice bytes)
{
    struct amqp_lookups *all = b->results ? &b->results->lookups : NULL;
    struct amqp_result_record record;
    struct lookup *l;

    if (!all || !all->reader.ops || number != all->nonce || !amqp_result_read(&record, bytes))
        return;
    l = (struct lookup *)id_table_find(&all->now.ids, record.id);
    if (!l)
        return;
    amqp_verdict_release(&l->verdict);
    amqp_verdict_init(&l->verdict);
    amqp_verdict_apply(&l->verdict, 0, &record, b->result_expires_ms);
    id_table_remove(&all->now.ids, &l->entry);
    answer(b, &l->entry);
    if (all->now.ids.len == 0)
        end(b, answer, b);
}

/* --- asking --- */

/* The lookup holds its askers. */
ANALYZER_LOSES_SIGHT
static int add_asker(struct amqp_broker *b, struct slice id, const struct asker *given,
                     struct err *e)
{
    struct asker *asker = malloc(sizeof(*asker));
    struct lookup *l = wanted(b, id, e);

    if (!asker || !l) {
        free(asker);
        return err_nomem(e);
    }
    *asker = *given;
    asker->next = l->askers;
    l->askers = asker;
    return 0;
}

int lookup_get(struct amqp_broker *b, uint64_t tag, struct slice id, struct err *e)
{
    return add_asker(b, id, &(struct asker){.tag = tag}, e);
}

int lookup_ask(struct amqp_broker *b, struct slice id, lookup_told_fn *told, void *context,
               struct err *e)
{
    return add_asker(b, id, &(struct asker){.told = told, .context = context}, e);
}

ANALYZER_SEES_AGAIN

int lookup_watched(struct amqp_broker *b, struct slice id, struct err *e)
{
    struct lookup *l = wanted(b, id, e);

    if (!l)
        return -1;
    l->watched = true;
    return 0;
}

void lookups_start(struct amqp_broker *b)
{
    if (b->results)
        begin(b);
}

static void drop(void *context, struct id_entry *entry)
{
    struct lookup *l = (struct lookup *)entry;

    for (struct asker *asker = l->askers; asker; asker = asker->next) {
        if (asker->told)
            asker->told(context, asker->context, NULL, NULL);
    }
    lookup_free(l);
}

void lookups_release(struct amqp_broker *b)
{
    struct amqp_lookups *all = &b->results->lookups;

    id_table_drain(&all->now.ids, drop, b);
    id_table_drain(&all->then.ids, drop, b);
    id_table_release(&all->now.ids);
    id_table_release(&all->then.ids);
}
