/* Waiting for results: the own queue for what was sent from here, else the stream. */
#include "broker/amqp_results.h"
#include "broker/result.h"

#include <stdlib.h>
#include <string.h>

struct watch {
    struct id_entry entry;
    uint64_t tag;
    bool followed;     /* on the stream; else it waits for the own queue */
    int64_t told;      /* offset of the last record that was told, or forgotten; -1: none */
    int64_t forgotten; /* offset of the last FORGOTTEN seen; -1: none */
    char text[];
};

static struct watch *watch_find(const struct amqp_broker *b, struct slice id)
{
    return b->results ? (struct watch *)id_table_find(&b->results->watches.ids, id) : NULL;
}

/* --- the end of a watch --- */

static void stop_following(struct amqp_broker *b, struct watch *w)
{
    struct amqp_watches *all = &b->results->watches;

    if (!w->followed)
        return;
    w->followed = false;
    if (--all->followed > 0)
        return;
    reader_end(b, &all->reader);
    all->live = false;
}

static void watch_drop(struct amqp_broker *b, struct watch *w)
{
    stop_following(b, w);
    id_table_remove(&b->results->watches.ids, &w->entry);
    free(w);
}

static void tell(struct amqp_broker *b, struct watch *w, struct slice doc)
{
    results_tell(b, w->tag, doc);
    if (result_is_ready(doc))
        watch_drop(b, w);
}

/* --- following the stream --- */

static void on_record(struct amqp_broker *b, struct amqp_reader *r, int64_t offset,
                      struct slice bytes)
{
    struct amqp_result_record record;
    struct watch *w;

    (void)r;
    if (!amqp_result_read(&record, bytes))
        return;
    w = watch_find(b, record.id);
    if (!w || !w->followed)
        return;
    if (record.outcome == AMQP_RESULT_FORGOTTEN) {
        w->told = w->forgotten = offset;
    } else if (amqp_verdict_has_doc(&record)) {
        w->told = offset;
        tell(b, w, record.doc);
    }
}

static void look(struct amqp_broker *b, struct watch *w)
{
    struct err e = ERR_INIT;

    if (lookup_watched(b, w->entry.id, &e) != 0)
        event_queue_fail(&b->events, w->tag, &e);
}

static void look_if_followed(void *context, struct id_entry *entry)
{
    struct watch *w = (struct watch *)entry;

    if (w->followed)
        look(context, w);
}

/* What comes from now on will be seen; what came before is looked up. Again after a reconnection:
 * a reader that has seen nothing yet began anew. */
static void on_live(struct amqp_broker *b, struct amqp_reader *r)
{
    struct amqp_watches *all = &b->results->watches;

    (void)r;
    all->live = true;
    id_table_each(&all->ids, look_if_followed, b);
    lookups_start(b);
}

struct failure {
    struct amqp_broker *broker; /* borrowed */
    const struct err *why;
};

static void fail_if_followed(void *context, struct id_entry *entry)
{
    const struct failure *f = context;
    struct watch *w = (struct watch *)entry;

    if (!w->followed)
        return;
    w->followed = false;
    event_queue_fail(&f->broker->events, w->tag, f->why);
}

static void on_refused(struct amqp_broker *b, struct amqp_reader *r, const struct err *why)
{
    struct amqp_watches *all = &b->results->watches;
    struct failure f = {b, why};

    (void)r;
    all->live = false;
    all->followed = 0;
    id_table_each(&all->ids, fail_if_followed, &f);
}

static const struct reader_ops watch_ops = {
    .on_record = on_record, .on_live = on_live, .on_refused = on_refused};

/* The follower is live before the look begins, so nothing falls between them. */
static void follow(struct amqp_broker *b, struct watch *w)
{
    struct amqp_watches *all = &b->results->watches;
    struct reader_start start = {.from = READER_NEXT};

    if (!w->followed) {
        w->followed = true;
        if (all->followed++ == 0)
            reader_begin(b, &all->reader, AMQP_RESULTS_STREAM, &start, &watch_ops);
    }
    if (all->live)
        look(b, w);
}

/* The look brings the document as it was at its end. It is not told when something newer was, but
 * for a success: whatever comes behind one changes nothing, only forgetting does. */
void watch_looked(struct amqp_broker *b, struct slice id, const struct amqp_verdict *v)
{
    struct watch *w = watch_find(b, id);
    struct err e = ERR_INIT;
    struct slice doc;

    if (!w || !w->followed)
        return;
    if (!v) {
        err_set(&e, ERR_AGAIN, "the results could not be read");
        event_queue_fail(&b->events, w->tag, &e);
        return;
    }
    doc = amqp_verdict_doc(v, clock_wall_ms(b->clock));
    if (!doc.ptr || v->offset <= (v->success ? w->forgotten : w->told))
        return;
    if (v->offset > w->told)
        w->told = v->offset;
    tell(b, w, doc);
}

/* --- the own queue --- */

void watch_replied(struct amqp_broker *b, struct slice id, struct slice doc)
{
    struct watch *w = watch_find(b, id);

    if (w && (!w->followed || result_is_ready(doc)))
        tell(b, w, doc);
}

static void follow_too(void *context, struct id_entry *entry)
{
    follow(context, (struct watch *)entry);
}

void watches_follow_all(struct amqp_broker *b)
{
    id_table_each(&b->results->watches.ids, follow_too, b);
    lookups_start(b);
}

/* --- adding and removing --- */

static struct watch *watch_new(struct amqp_broker *b, struct slice id)
{
    struct watch *w = malloc(sizeof(*w) + id.len);

    if (!w)
        return NULL;
    *w = (struct watch){.told = -1, .forgotten = -1};
    memcpy(w->text, id.ptr, id.len);
    w->entry.id = slice_make(w->text, id.len);
    if (id_table_add(&b->results->watches.ids, &w->entry) == 0)
        return w;
    free(w);
    return NULL;
}

int watch_add(struct amqp_broker *b, uint64_t tag, struct slice id, struct err *e)
{
    struct watch *w = watch_find(b, id);
    const struct kept_doc *reply;

    if (!w && results_of(b))
        w = watch_new(b, id);
    if (!w)
        return err_nomem(e);
    w->tag = tag;
    w->told = -1; /* what is there is told to who asks again */
    reply = replies_find(b, id);
    if (!reply || !replies_complete(b, reply))
        follow(b, w);
    if (reply && reply->doc.len)
        tell(b, w, buf_slice(&reply->doc));
    return 0;
}

void watch_remove(struct amqp_broker *b, struct slice id)
{
    struct watch *w = watch_find(b, id);

    if (w)
        watch_drop(b, w);
}

static void drop(void *context, struct id_entry *entry)
{
    (void)context;
    free(entry);
}

void watches_release(struct amqp_broker *b)
{
    id_table_drain(&b->results->watches.ids, drop, NULL);
    id_table_release(&b->results->watches.ids);
}
