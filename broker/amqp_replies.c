/*
 * The own queue: workers send to it what becomes of the tasks that were published from here.
 *
 * It goes by itself when its one consumer does, so a lost connection may cost replies. What was
 * sent before then is therefore looked up in the stream as well (epoch).
 */
#include "broker/amqp_results.h"
#include "broker/result.h"

#define CONSUMER_TAG "replies"
#define DAY_MS       86400000

/* --- what was sent, and what came --- */

const struct kept_doc *replies_find(const struct amqp_broker *b, struct slice id)
{
    return b->results ? kept_docs_find(&b->results->replies.sent, id) : NULL;
}

bool replies_complete(const struct amqp_broker *b, const struct kept_doc *sent)
{
    return sent->mark != 0 && sent->mark == b->results->replies.epoch;
}

/* One that is there was sent twice: its reply may have come while the queue was another. */
void amqp_replies_sent(struct amqp_broker *b, struct slice id)
{
    struct amqp_replies *all = &b->results->replies;
    struct kept_doc *sent = replies_find(b, id) ? NULL : kept_docs_add(&all->sent, id);

    if (sent)
        sent->mark = all->live || !all->lost ? all->epoch : 0;
}

void replies_forget(struct amqp_broker *b, struct slice id)
{
    struct kept_docs *all = b->results ? &b->results->replies.sent : NULL;
    struct kept_doc *sent = all ? kept_docs_find(all, id) : NULL;

    if (sent)
        kept_docs_drop(all, sent);
}

void amqp_replies_delivered(struct amqp_broker *b, const struct amqp_incoming *in)
{
    amqp_bytes_t text = in->properties->correlation_id;
    struct slice id = slice_make(text.bytes, text.len);
    struct kept_doc *sent;

    if (!b->results || !(in->properties->_flags & AMQP_BASIC_CORRELATION_ID_FLAG) ||
        in->body.len == 0)
        return;
    sent = kept_docs_find(&b->results->replies.sent, id);
    if (sent && !(sent->doc.len && result_is_success(buf_slice(&sent->doc))))
        kept_docs_set(&b->results->replies.sent, sent, in->body);
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
    results->replies.sent.max = REPLIES_MAX_BYTES;
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

void replies_release(struct amqp_broker *b)
{
    kept_docs_release(&b->results->replies.sent);
}
