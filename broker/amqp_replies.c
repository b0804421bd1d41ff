/*
 * The own queue: workers send to it what becomes of the tasks that were published from here.
 *
 * It goes by itself when its one consumer does, so a lost connection may cost replies. What was
 * sent before then is therefore looked up in the stream as well (epoch).
 */
#include "broker/amqp_results.h"
#include "broker/result.h"

#include <stdlib.h>
#include <string.h>

#define CONSUMER_TAG "replies"
#define DAY_MS       86400000

/* --- what was sent --- */

const struct reply *replies_find(const struct amqp_broker *b, struct slice id)
{
    return b->results ? (struct reply *)id_table_find(&b->results->replies.ids, id) : NULL;
}

bool replies_complete(const struct amqp_broker *b, const struct reply *r)
{
    return r->epoch != 0 && r->epoch == b->results->replies.epoch;
}

static size_t size_of(const struct reply *r)
{
    return sizeof(*r) + r->entry.id.len + r->doc.cap;
}

static void reply_drop(struct amqp_replies *all, struct reply *r)
{
    *(r->older ? &r->older->newer : &all->oldest) = r->newer;
    *(r->newer ? &r->newer->older : &all->newest) = r->older;
    all->bytes -= size_of(r);
    id_table_remove(&all->ids, &r->entry);
    buf_release(&r->doc);
    free(r);
}

/* What is dropped is found in the stream. */
static void make_room(struct amqp_replies *all)
{
    while (all->bytes > REPLIES_MAX_BYTES)
        reply_drop(all, all->oldest);
}

/* One that is there was sent twice: its reply may have come while the queue was another. */
void amqp_replies_sent(struct amqp_broker *b, struct slice id)
{
    struct amqp_replies *all = &b->results->replies;
    struct reply *r = replies_find(b, id) ? NULL : calloc(1, sizeof(*r) + id.len);

    if (!r)
        return;
    memcpy(r + 1, id.ptr, id.len);
    r->entry.id = slice_make(r + 1, id.len);
    if (id_table_add(&all->ids, &r->entry) != 0) {
        free(r);
        return;
    }
    r->epoch = all->live || !all->lost ? all->epoch : 0;
    r->older = all->newest;
    *(r->older ? &r->older->newer : &all->oldest) = r;
    all->newest = r;
    all->bytes += size_of(r);
    make_room(all);
}

void replies_forget(struct amqp_broker *b, struct slice id)
{
    struct id_entry *found = b->results ? id_table_find(&b->results->replies.ids, id) : NULL;

    if (found)
        reply_drop(&b->results->replies, (struct reply *)found);
}

/* --- what came --- */

static void keep(struct amqp_replies *all, struct reply *r, struct slice doc)
{
    if (r->success)
        return;
    all->bytes -= size_of(r);
    buf_clear(&r->doc);
    buf_add(&r->doc, doc.ptr, doc.len);
    all->bytes += size_of(r);
    r->success = result_is_success(doc);
    if (r->doc.failed)
        reply_drop(all, r);
    else
        make_room(all);
}

void amqp_replies_delivered(struct amqp_broker *b, const struct amqp_incoming *in)
{
    struct slice id =
        slice_make(in->properties->correlation_id.bytes, in->properties->correlation_id.len);
    struct id_entry *found;

    if (!b->results || !(in->properties->_flags & AMQP_BASIC_CORRELATION_ID_FLAG) ||
        in->body.len == 0)
        return;
    found = id_table_find(&b->results->replies.ids, id);
    if (found)
        keep(&b->results->replies, (struct reply *)found, in->body);
    watch_replied(b, id, in->body);
}

/* --- the queue --- */

static struct topology_wish wish_of(const struct amqp_broker *b)
{
    return (struct topology_wish){.kind = TOPOLOGY_REPLIES,
                                  .name = slice_of(b->results->replies.queue),
                                  .number =
                                      b->result_expires_ms > 0 ? b->result_expires_ms : DAY_MS};
}

int amqp_replies_open(struct amqp_broker *b, struct err *e)
{
    struct amqp_results *results = results_of(b);

    if (!results)
        return err_nomem(e);
    uuid_next(&b->random, results->replies.queue);
    results->replies.epoch = 1;
    wire_want(b, AMQP_READ);
    return 0;
}

bool amqp_replies_wish(const struct amqp_broker *b, struct topology_wish *wish)
{
    if (!b->results || !b->results->replies.queue[0])
        return false;
    *wish = wish_of(b);
    return true;
}

static void on_consuming(void *owner, void *context, uint64_t number,
                         const struct amqp_answer *answer)
{
    struct amqp_broker *b = owner;

    (void)context;
    (void)number;
    if (answer->method)
        b->results->replies.live = true;
    else if (answer->code)
        wire_drop(&b->wires[AMQP_READ], answer->why);
}

static void on_declared(void *owner, uint64_t number, const struct err *why)
{
    struct amqp_broker *b = owner;
    struct amqp_wire *w = &b->wires[AMQP_READ];
    amqp_basic_consume_t consume = {.queue = amqp_cstring_bytes(b->results->replies.queue),
                                    .consumer_tag = amqp_cstring_bytes(CONSUMER_TAG),
                                    .no_ack = 1};
    struct err e = ERR_INIT;

    (void)number;
    b->results->replies.declaring = false;
    if (!b->results->replies.queue[0])
        return; /* refused on the other connection meanwhile */
    if (why && why->code != ERR_RECONNECT) {
        amqp_replies_refused(b, why);
        return;
    }
    b->results->replies.asked = true;
    if (!why && (link_open_channel(w->link, AMQP_CH_REPLIES, &e) != 0 ||
                 link_call(w->link, AMQP_CH_REPLIES, AMQP_BASIC_CONSUME_METHOD, &consume,
                           on_consuming, NULL, 0, &e) != 0))
        why = &e;
    if (why)
        wire_drop(w, why);
}

int amqp_replies_up(struct amqp_broker *b, struct err *e)
{
    struct topology_wish wish;

    if (!amqp_replies_wish(b, &wish) || b->results->replies.declaring)
        return 0;
    b->results->replies.declaring = true; /* also over a reconnection: a wish is kept */
    return topology_ensure(&b->wires[AMQP_READ].topology, &wish, on_declared, 0, e);
}

/* The queue is gone with its consumer: it is declared again by whoever comes first. */
void amqp_replies_down(struct amqp_broker *b)
{
    struct amqp_replies *all = b->results ? &b->results->replies : NULL;

    if (!all || !all->asked)
        return;
    all->asked = all->live = false;
    all->lost = true;
    all->epoch++;
    topology_forget(&b->wires[AMQP_PUBLISH].topology, TOPOLOGY_REPLIES, slice_of(all->queue));
    watches_follow_all(b);
}

void amqp_replies_refused(struct amqp_broker *b, const struct err *why)
{
    struct amqp_replies *all = &b->results->replies;

    if (!all->queue[0])
        return;
    log_warn(b->log, "no queue for results of our own: they are looked for in the stream",
             "cause=\"%s\"", why->text);
    all->queue[0] = '\0';
    all->epoch++;
    watches_follow_all(b);
}

static void drop(void *context, struct id_entry *entry)
{
    struct reply *r = (struct reply *)entry;

    (void)context;
    buf_release(&r->doc);
    free(r);
}

void replies_release(struct amqp_broker *b)
{
    id_table_drain(&b->results->replies.ids, drop, NULL);
    id_table_release(&b->results->replies.ids);
}
