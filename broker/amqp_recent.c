/*
 * What a node stored last: whoever asks for a result need not read the stream then.
 *
 * Kept are successes alone, since nothing that comes later changes them but forgetting, and that is
 * told to all nodes on the exchange by which they are asked. A node that does not hear the exchange
 * keeps nothing. An answer is the record as it stands in the stream.
 */
#include "broker/amqp_ask.h"
#include "broker/amqp_results.h"

#include <stdio.h>
#include <stdlib.h>

#define RECENT_MAX_BYTES (16u * 1024 * 1024)
#define IDS_MAX          64 /* more are found faster by reading */

enum { UNCONFIRMED, CONFIRMED };

static struct kept_docs *docs_of(const struct amqp_broker *b)
{
    return b->results && b->results->recent.max ? &b->results->recent : NULL;
}

/* --- keeping --- */

void amqp_recent_listen(struct amqp_broker *b, bool heard)
{
    if (!heard && !b->results)
        return;
    if (!results_of(b))
        return;
    kept_docs_release(&b->results->recent);
    b->results->recent.max = heard ? RECENT_MAX_BYTES : 0;
}

static bool is_still_there(const struct amqp_broker *b, const struct kept_doc *k)
{
    return k->doc.len && clock_wall_ms(b->clock) < k->until_ms;
}

void amqp_recent_keep(struct amqp_broker *b, const struct amqp_result_record *r)
{
    struct kept_docs *all = docs_of(b);
    struct buf bytes = BUF_INIT;
    struct kept_doc *k;

    if (!all || r->outcome != AMQP_RESULT_SUCCEEDED || r->flags & AMQP_RESULT_AGAIN ||
        !amqp_verdict_has_doc(r))
        return;
    k = kept_docs_add(all, r->id);
    if (!k || is_still_there(b, k))
        return; /* the first success stays */
    amqp_result_write(&bytes, r);
    k->mark = UNCONFIRMED;
    k->until_ms = r->expires_ms > 0 ? r->now_ms + r->expires_ms : INT64_MAX;
    if (bytes.failed)
        kept_docs_drop(all, k);
    else
        kept_docs_set(all, k, buf_slice(&bytes));
    buf_release(&bytes);
}

void amqp_recent_confirmed(struct amqp_broker *b, struct slice id)
{
    struct kept_docs *all = docs_of(b);
    struct kept_doc *k = all && id.len ? kept_docs_find(all, id) : NULL;

    if (k)
        k->mark = CONFIRMED;
}

/* --- answering --- */

static void on_sent(struct amqp_broker *b, struct out_step *step, const struct err *why)
{
    (void)b;
    (void)step;
    (void)why; /* who asked reads the stream */
}

static void send_alone(struct amqp_broker *b, const struct out_spec *spec)
{
    struct out_step *step = out_step_new(on_sent, BROKER_STORED, 0);

    if (!step)
        return;
    if (out_add(b, step, spec, NULL) != 0)
        step->failed = true;
    out_step_close(b, step);
}

static struct slice text_of(const json_t *value)
{
    return slice_make(json_string_value(value), json_string_length(value));
}

static void answer(struct amqp_broker *b, const struct amqp_incoming *in, struct slice id)
{
    const amqp_basic_properties_t *p = in->properties;
    struct kept_docs *all = docs_of(b);
    struct kept_doc *k = all && id.ptr ? kept_docs_find(all, id) : NULL;
    struct out_spec spec = {.routing_key = slice_make(p->reply_to.bytes, p->reply_to.len),
                            .correlation_id =
                                slice_make(p->correlation_id.bytes, p->correlation_id.len)};

    if (!k || k->mark != CONFIRMED || !is_still_there(b, k))
        return; /* silence: who asks reads the stream meanwhile */
    spec.body = buf_slice(&k->doc);
    send_alone(b, &spec);
}

static void forget(struct amqp_broker *b, struct slice id)
{
    struct kept_docs *all = docs_of(b);
    struct kept_doc *k = all && id.ptr ? kept_docs_find(all, id) : NULL;

    if (k)
        kept_docs_drop(all, k);
}

bool amqp_recent_asked(struct amqp_broker *b, const struct amqp_incoming *in, const json_t *query)
{
    const json_t *ids = json_object_get(query, "ids");
    const char *what = json_string_value(json_object_get(query, "ask"));
    amqp_flags_t wanted = AMQP_BASIC_REPLY_TO_FLAG | AMQP_BASIC_CORRELATION_ID_FLAG;
    bool asked = what && strcmp(what, "results") == 0;
    bool forgotten = what && strcmp(what, "forget") == 0;

    for (size_t i = 0; i < json_array_size(ids); i++) {
        if (forgotten)
            forget(b, text_of(json_array_get(ids, i)));
        else if (asked && (in->properties->_flags & wanted) == wanted)
            answer(b, in, text_of(json_array_get(ids, i)));
    }
    return asked || forgotten;
}

/* --- asking --- */

static char *query_text(const char *what, json_t *ids)
{
    json_t *query = json_pack("{s:s, s:O}", "ask", what, "ids", ids);
    char *text = json_dumps(query, JSON_COMPACT);

    json_decref(query);
    return text;
}

static void add_id(void *context, struct id_entry *entry)
{
    json_array_append_new(context, json_stringn(entry->id.ptr, entry->id.len));
}

void recent_ask(struct amqp_broker *b, const struct id_table *ids, uint64_t number)
{
    struct out_spec spec = {.exchange = slice_of(QUERY_EXCHANGE),
                            .routing_key = slice_of(""),
                            .reply_to = slice_of(DIRECT_REPLY),
                            .content_type = "application/json"};
    char name[32];
    json_t *list;
    char *text;

    if (ids->len > IDS_MAX)
        return;
    list = json_array();
    id_table_each(ids, add_id, list);
    text = query_text("results", list);
    snprintf(name, sizeof(name), RECENT_ANSWER "%llu", (unsigned long long)number);
    spec.correlation_id = slice_of(name);
    spec.body = slice_of(text);
    if (text)
        send_alone(b, &spec);
    free(text);
    json_decref(list);
}

int recent_forget(struct amqp_broker *b, struct out_step *step, struct slice id, struct err *e)
{
    struct out_spec spec = {.exchange = slice_of(QUERY_EXCHANGE),
                            .routing_key = slice_of(""),
                            .content_type = "application/json"};
    json_t *list = json_array();
    char *text;
    int status = 0;

    json_array_append_new(list, json_stringn(id.ptr, id.len));
    text = json_array_size(list) ? query_text("forget", list) : NULL;
    spec.body = slice_of(text);
    if (text)
        status = out_add(b, step, &spec, e); /* an id that is not UTF-8 is kept by nobody */
    free(text);
    json_decref(list);
    return status;
}

bool amqp_recent_replied(struct amqp_broker *b, const struct amqp_incoming *in)
{
    amqp_bytes_t name = in->properties->correlation_id;
    const size_t prefix = sizeof(RECENT_ANSWER) - 1;
    char number[24];

    if (name.len <= prefix || memcmp(name.bytes, RECENT_ANSWER, prefix) != 0)
        return false;
    snprintf(number, sizeof(number), "%.*s", (int)(name.len - prefix),
             (const char *)name.bytes + prefix);
    lookup_heard(b, strtoull(number, NULL, 10), in->body);
    return true;
}
