/* A field table as JSON text. */
#include "broker/amqp_table.h"
#include "broker/amqp_typed.h"
#include "broker/json_text.h"

#include <math.h>

static int put_value(struct buf *out, const amqp_field_value_t *v, int depth, struct err *e);

static int too_deep(struct err *e)
{
    return err_set(e, ERR_DEADLETTER, "a header table is nested deeper than %d",
                   AMQP_TABLE_DEPTH_MAX);
}

static int put_real(struct buf *out, double number, struct err *e)
{
    if (!isfinite(number))
        return err_set(e, ERR_DEADLETTER, "a header holds NaN or infinity");
    json_text_real(out, number);
    return 0;
}

/* Jansson, which reads it back, has no name with a NUL in it. */
static int put_name(struct buf *out, amqp_bytes_t name, struct err *e)
{
    if (name.len && memchr(name.bytes, '\0', name.len))
        return err_set(e, ERR_DEADLETTER, "the name of a header holds a NUL");
    if (json_text_string(out, slice_make(name.bytes, name.len), NULL) < 0)
        return err_set(e, ERR_DEADLETTER, "the name of a header is not UTF-8");
    return 0;
}

static int put_array(struct buf *out, const amqp_array_t *array, int depth, struct err *e)
{
    if (depth > AMQP_TABLE_DEPTH_MAX)
        return too_deep(e);
    buf_add(out, "[", 1);
    for (int i = 0; i < array->num_entries; i++) {
        if (i)
            buf_add(out, ", ", 2);
        if (put_value(out, &array->entries[i], depth, e) < 0)
            return -1;
    }
    buf_add(out, "]", 1);
    return 0;
}

static int put_table(struct buf *out, const amqp_table_t *table, int depth, struct err *e)
{
    if (depth > AMQP_TABLE_DEPTH_MAX)
        return too_deep(e);
    buf_add(out, "{", 1);
    for (int i = 0; i < table->num_entries; i++) {
        if (i)
            buf_add(out, ", ", 2);
        if (put_name(out, table->entries[i].key, e) < 0)
            return -1;
        buf_add(out, ": ", 2);
        if (put_value(out, &table->entries[i].value, depth, e) < 0)
            return -1;
    }
    buf_add(out, "}", 1);
    return 0;
}

static int put_value(struct buf *out, const amqp_field_value_t *v, int depth, struct err *e)
{
    int64_t number;

    if (amqp_value_integer(v, &number)) {
        typed_put_integer(out, number);
        return 0;
    }
    switch (v->kind) {
    case AMQP_FIELD_KIND_UTF8:
        typed_put_text(out, slice_make(v->value.bytes.bytes, v->value.bytes.len));
        return 0;
    case AMQP_FIELD_KIND_VOID:
        buf_add(out, "null", 4);
        return 0;
    case AMQP_FIELD_KIND_BOOLEAN:
        buf_adds(out, v->value.boolean ? "true" : "false");
        return 0;
    case AMQP_FIELD_KIND_ARRAY:
        return put_array(out, &v->value.array, depth + 1, e);
    case AMQP_FIELD_KIND_TABLE:
        return put_table(out, &v->value.table, depth + 1, e);
    case AMQP_FIELD_KIND_F32:
        return put_real(out, (double)v->value.f32, e);
    case AMQP_FIELD_KIND_F64:
        return put_real(out, v->value.f64, e);
    case AMQP_FIELD_KIND_BYTES:
        typed_put_bytes(out, slice_make(v->value.bytes.bytes, v->value.bytes.len));
        return 0;
    case AMQP_FIELD_KIND_TIMESTAMP:
        return typed_put_time(out, v->value.u64, e);
    case AMQP_FIELD_KIND_DECIMAL:
        typed_put_decimal(out, v->value.decimal);
        return 0;
    }
    return err_set(e, ERR_DEADLETTER, "a header is of the unknown kind 0x%02x", v->kind);
}

int amqp_table_text(struct buf *out, const amqp_table_t *table, struct err *e)
{
    size_t before = out->len;
    int status = put_table(out, table, 1, e);

    if (out->failed)
        return err_nomem(e);
    if (status < 0)
        out->len = before;
    return status;
}

json_t *amqp_table_to_json(const amqp_table_t *table, struct err *e)
{
    struct buf text = BUF_INIT;
    json_t *json = NULL;

    if (amqp_table_text(&text, table, e) == 0)
        json = json_text_read(buf_slice(&text), "a header table", e);
    buf_release(&text);
    return json;
}
