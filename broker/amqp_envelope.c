/* A delivery as an envelope: written straight into the buffer, in the order of kombu. */
#include "broker/amqp_envelope.h"

#include "broker/amqp_ladder.h"
#include "broker/amqp_property.h"
#include "broker/amqp_typed.h"
#include "broker/base64.h"
#include "broker/message.h"

/* Of a table that is encoded again, by a library that recurses. */
#define SAFE_DEPTH 256

static struct slice bytes_of(amqp_bytes_t bytes)
{
    return slice_make(bytes.bytes, bytes.len);
}

static void put_content(struct buf *out, const struct amqp_incoming *in)
{
    const amqp_basic_properties_t *p = in->properties;

    buf_adds(out, "{\"body\": \"");
    base64_put(out, in->body);
    buf_adds(out, "\", ");
    if (p->_flags & AMQP_BASIC_CONTENT_ENCODING_FLAG) {
        buf_adds(out, "\"content-encoding\": ");
        typed_put_text(out, bytes_of(p->content_encoding));
        buf_adds(out, ", ");
    }
    if (p->_flags & AMQP_BASIC_CONTENT_TYPE_FLAG) {
        buf_adds(out, "\"content-type\": ");
        typed_put_text(out, bytes_of(p->content_type));
        buf_adds(out, ", ");
    }
}

/* Where it was published to, when that is not the queue itself: for people. */
static void put_origin(struct buf *out, const struct amqp_incoming *in, struct slice queue)
{
    struct slice key = amqp_ladder_destination(in->routing_key);

    if (in->exchange.len) {
        buf_adds(out, ", \"sent_exchange\": ");
        typed_put_text(out, in->exchange);
    }
    if (!slice_eq(key, queue)) {
        buf_adds(out, ", \"sent_key\": ");
        typed_put_text(out, key);
    }
}

static void put_properties(struct buf *out, const struct amqp_incoming *in, struct slice queue)
{
    buf_adds(out, ", \"properties\": {");
    property_text(out, in->properties);
    buf_adds(out, "\"delivery_info\": {\"exchange\": \"\", \"routing_key\": ");
    typed_put_text(out, queue);
    if (in->redelivered)
        buf_adds(out, ", \"redelivered\": true");
    put_origin(out, in, queue);
    buf_adds(out, "}, \"body_encoding\": \"base64\", \"delivery_tag\": ");
    typed_put_integer(out, (int64_t)(in->delivery_tag & INT64_MAX));
    buf_adds(out, "}");
}

static int put_headers(struct buf *out, const struct amqp_incoming *in, struct err *e)
{
    static const amqp_table_t none = {0, NULL};
    const amqp_basic_properties_t *p = in->properties;

    buf_adds(out, "\"headers\": ");
    return amqp_table_text(out, p->_flags & AMQP_BASIC_HEADERS_FLAG ? &p->headers : &none, e);
}

/* --- what JSON cannot express --- */

static bool is_shallow(const amqp_table_t *table, int left);

static bool is_value_shallow(const amqp_field_value_t *v, int left)
{
    if (v->kind == AMQP_FIELD_KIND_TABLE)
        return is_shallow(&v->value.table, left - 1);
    if (v->kind != AMQP_FIELD_KIND_ARRAY)
        return true;
    for (int i = 0; i < v->value.array.num_entries; i++) {
        if (left <= 1 || !is_value_shallow(&v->value.array.entries[i], left - 1))
            return false;
    }
    return true;
}

static bool is_shallow(const amqp_table_t *table, int left)
{
    if (left <= 0)
        return false;
    for (int i = 0; i < table->num_entries; i++) {
        if (!is_value_shallow(&table->entries[i].value, left))
            return false;
    }
    return true;
}

/* The table as it is in a frame. */
static void put_table(struct buf *out, const amqp_table_t *table)
{
    struct buf text = BUF_INIT;
    amqp_bytes_t bytes;
    size_t len = 0;

    buf_adds(out, ", \"celeriac_table\": ");
    if (!is_shallow(table, SAFE_DEPTH)) {
        buf_adds(out, "null");
        return;
    }
    bytes.len = amqp_table_size(table);
    bytes.bytes = buf_reserve(&text, bytes.len);
    /* Not const-correct; it is only read. */
    if (bytes.bytes && amqp_encode_table(bytes, (amqp_table_t *)(uintptr_t)table, &len) == 0)
        buf_commit(&text, len);
    out->failed |= text.failed;
    buf_adds(out, "\"");
    base64_put(out, buf_slice(&text));
    buf_adds(out, "\"");
    buf_release(&text);
}

/* The two headers that name the job, where they can be read. */
static void put_names(struct buf *out, const amqp_table_t *table)
{
    static const char *const names[] = {"id", "task"};
    const char *between = "";

    buf_adds(out, "\"headers\": {");
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        struct slice text;

        if (!amqp_value_text(amqp_table_get(table, names[i]), &text))
            continue;
        buf_addf(out, "%s\"%s\": ", between, names[i]);
        typed_put_text(out, text);
        between = ", ";
    }
    buf_adds(out, "}");
}

static void put_refused(struct buf *out, const struct amqp_incoming *in, struct slice queue,
                        const char *why)
{
    put_content(out, in);
    put_names(out, &in->properties->headers);
    put_properties(out, in, queue);
    buf_adds(out, ", \"" MESSAGE_REFUSED "\": ");
    typed_put_text(out, slice_of(why));
    put_table(out, &in->properties->headers);
    buf_adds(out, "}");
}

/* Its properties were not decoded: all that is known is the body. */
static void put_unread(struct buf *out, const struct amqp_incoming *in, struct slice queue)
{
    put_content(out, in);
    buf_adds(out, "\"headers\": {}");
    put_properties(out, in, queue);
    buf_adds(out, ", \"" MESSAGE_REFUSED "\": \"headers nested too deep, or with lengths that are "
                  "not true\", \"celeriac_properties\": \"");
    base64_put(out, in->unread);
    buf_adds(out, "\"}");
}

int amqp_envelope_from_delivery(struct buf *out, const struct amqp_incoming *in, struct slice queue,
                                struct err *e)
{
    const amqp_basic_properties_t *p = in->properties;
    struct err why = ERR_INIT;
    size_t before = out->len;

    if (p->_flags & AMQP_BASIC_CONTENT_TYPE_FLAG &&
        slice_is(bytes_of(p->content_type), AMQP_RAW_TYPE)) {
        buf_add(out, in->body.ptr, in->body.len);
        return out->failed ? err_nomem(e) : 0;
    }
    if (in->malformed) {
        put_unread(out, in, queue);
        return out->failed ? err_nomem(e) : 0;
    }
    put_content(out, in);
    if (put_headers(out, in, &why) == 0) {
        put_properties(out, in, queue);
        buf_adds(out, "}");
    } else if (why.code == ERR_DEADLETTER) {
        out->len = before;
        put_refused(out, in, queue, why.text);
    }
    return out->failed ? err_nomem(e) : 0;
}
