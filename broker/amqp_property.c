#include "broker/amqp_property.h"

#include "broker/amqp_envelope.h"
#include "broker/amqp_typed.h"

#include <stdio.h>
#include <stdlib.h>

enum property_kind { SHORT, OCTET, NUMBER };

struct property {
    const char *name;
    amqp_flags_t flag;
    enum property_kind kind;
    size_t at;
    bool sent;
};

#define ROW(member, FLAG, kind, sent)                                                              \
    {                                                                                              \
#member, AMQP_BASIC_##FLAG##_FLAG, kind, offsetof(amqp_basic_properties_t, member), sent   \
    }

static const struct property rows[] = {
    ROW(correlation_id, CORRELATION_ID, SHORT, true),
    ROW(reply_to, REPLY_TO, SHORT, true),
    ROW(delivery_mode, DELIVERY_MODE, OCTET, true),
    ROW(expiration, EXPIRATION, SHORT, true),
    ROW(priority, PRIORITY, OCTET, true),
    ROW(message_id, MESSAGE_ID, SHORT, true),
    ROW(timestamp, TIMESTAMP, NUMBER, true),
    ROW(type, TYPE, SHORT, true),
    ROW(user_id, USER_ID, SHORT, false),
    ROW(app_id, APP_ID, SHORT, true),
    ROW(cluster_id, CLUSTER_ID, SHORT, true),
};
#define ROWS (sizeof(rows) / sizeof(rows[0]))

static void *member_of(amqp_basic_properties_t *p, const struct property *row)
{
    return (char *)p + row->at;
}

static const void *value_of(const amqp_basic_properties_t *p, const struct property *row)
{
    return (const char *)p + row->at;
}

/* --- as text --- */

static void put_value(struct buf *out, const amqp_basic_properties_t *from,
                      const struct property *row)
{
    const void *value = value_of(from, row);

    if (row->kind == SHORT) {
        const amqp_bytes_t *text = value;

        typed_put_text(out, slice_make(text->bytes, text->len));
    } else if (row->kind == OCTET) {
        typed_put_integer(out, *(const uint8_t *)value);
    } else {
        typed_put_integer(out, (int64_t)(*(const uint64_t *)value & INT64_MAX));
    }
}

void property_text(struct buf *out, const amqp_basic_properties_t *from)
{
    for (size_t i = 0; i < ROWS; i++) {
        if (!(from->_flags & rows[i].flag))
            continue;
        buf_add(out, "\"", 1);
        buf_adds(out, rows[i].name);
        buf_add(out, "\": ", 3);
        put_value(out, from, &rows[i]);
        buf_add(out, ", ", 2);
    }
}

/* --- from JSON --- */

static bool is_absent(const amqp_field_value_t *value)
{
    return !value || value->kind == AMQP_FIELD_KIND_VOID;
}

int property_set_text(amqp_basic_properties_t *to, amqp_flags_t flag, amqp_bytes_t *at,
                      const char *name, const amqp_field_value_t *text, struct err *e)
{
    if (is_absent(text))
        return 0;
    if (text->kind != AMQP_FIELD_KIND_UTF8)
        return err_set(e, ERR_USAGE, "\"%s\" is not a text", name);
    if (text->value.bytes.len > AMQP_SHORT_MAX)
        return err_set(e, ERR_USAGE, "\"%s\" has %zu bytes, AMQP carries at most %d", name,
                       text->value.bytes.len, AMQP_SHORT_MAX);
    *at = text->value.bytes;
    to->_flags |= flag;
    return 0;
}

/* kombu takes a priority in a text, too. */
static int read_number(int64_t *out, const char *name, const amqp_field_value_t *value,
                       struct err *e)
{
    struct slice text;
    char copy[24], *end = NULL;

    if (amqp_value_integer(value, out))
        return 0;
    if (amqp_value_text(value, &text) && text.len && text.len < sizeof(copy)) {
        memcpy(copy, text.ptr, text.len);
        copy[text.len] = '\0';
        *out = strtoll(copy, &end, 10);
    }
    if (end && end > copy && end == copy + text.len)
        return 0;
    return err_set(e, ERR_USAGE, "property \"%s\" is not a number", name);
}

static int set_number(amqp_basic_properties_t *to, const struct property *row,
                      const amqp_field_value_t *value, struct err *e)
{
    int64_t number;

    if (read_number(&number, row->name, value, e) < 0)
        return -1;
    if (number < 0)
        number = 0;
    if (row->kind == OCTET)
        *(uint8_t *)member_of(to, row) = (uint8_t)(number > UINT8_MAX ? UINT8_MAX : number);
    else
        *(uint64_t *)member_of(to, row) = (uint64_t)number;
    to->_flags |= row->flag;
    return 0;
}

/* The server closes the channel on an expiration that it does not understand. */
static int set_expiration(amqp_basic_properties_t *to, const struct property *row,
                          const amqp_field_value_t *value, amqp_pool_t *pool, struct err *e)
{
    char *text;
    int64_t ms;

    if (read_number(&ms, row->name, value, e) < 0)
        return -1;
    if (ms > UINT32_MAX)
        return 0;
    text = amqp_pool_alloc(pool, 16);
    if (!text)
        return err_nomem(e);
    snprintf(text, 16, "%u", ms < 0 ? 0 : (unsigned)ms);
    to->expiration = amqp_cstring_bytes(text);
    to->_flags |= row->flag;
    return 0;
}

static int set_property(amqp_basic_properties_t *to, const struct property *row,
                        const amqp_field_value_t *value, amqp_pool_t *pool, struct err *e)
{
    if (row->flag == AMQP_BASIC_EXPIRATION_FLAG)
        return set_expiration(to, row, value, pool, e);
    if (row->kind == SHORT)
        return property_set_text(to, row->flag, member_of(to, row), row->name, value, e);
    return set_number(to, row, value, e);
}

int property_read(amqp_basic_properties_t *to, const amqp_table_t *from, amqp_pool_t *pool,
                  struct err *e)
{
    for (size_t i = 0; i < ROWS; i++) {
        const amqp_field_value_t *value = amqp_table_get(from, rows[i].name);

        if (!is_absent(value) && rows[i].sent && set_property(to, &rows[i], value, pool, e) < 0)
            return -1;
    }
    return 0;
}

/* --- size --- */

size_t amqp_properties_size(const amqp_basic_properties_t *p)
{
    size_t size = 2;

    if (p->_flags & AMQP_BASIC_CONTENT_TYPE_FLAG)
        size += 1 + p->content_type.len;
    if (p->_flags & AMQP_BASIC_CONTENT_ENCODING_FLAG)
        size += 1 + p->content_encoding.len;
    if (p->_flags & AMQP_BASIC_HEADERS_FLAG)
        size += amqp_table_size(&p->headers);
    for (size_t i = 0; i < ROWS; i++) {
        if (!(p->_flags & rows[i].flag))
            continue;
        if (rows[i].kind == SHORT)
            size += 1 + ((const amqp_bytes_t *)value_of(p, &rows[i]))->len;
        else
            size += rows[i].kind == OCTET ? 1 : 8;
    }
    return size;
}
