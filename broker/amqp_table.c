/* Looking things up in field tables, and changing them. */
#include "broker/amqp_table.h"

#include <string.h>

/* --- sizes --- */

static size_t value_size(const amqp_field_value_t *v)
{
    size_t size = 1 + 4;

    switch (v->kind) {
    case AMQP_FIELD_KIND_VOID:
        return 1;
    case AMQP_FIELD_KIND_BOOLEAN:
    case AMQP_FIELD_KIND_I8:
    case AMQP_FIELD_KIND_U8:
        return 1 + 1;
    case AMQP_FIELD_KIND_I16:
    case AMQP_FIELD_KIND_U16:
        return 1 + 2;
    case AMQP_FIELD_KIND_DECIMAL:
        return 1 + 1 + 4;
    case AMQP_FIELD_KIND_I64:
    case AMQP_FIELD_KIND_U64:
    case AMQP_FIELD_KIND_F64:
    case AMQP_FIELD_KIND_TIMESTAMP:
        return 1 + 8;
    case AMQP_FIELD_KIND_UTF8:
    case AMQP_FIELD_KIND_BYTES:
        return size + v->value.bytes.len;
    case AMQP_FIELD_KIND_TABLE:
        return 1 + amqp_table_size(&v->value.table);
    case AMQP_FIELD_KIND_ARRAY:
        for (int i = 0; i < v->value.array.num_entries; i++)
            size += value_size(&v->value.array.entries[i]);
        return size;
    }
    return size; /* I32, U32, F32 */
}

size_t amqp_table_size(const amqp_table_t *table)
{
    size_t size = 4;

    for (int i = 0; i < table->num_entries; i++)
        size += 1 + table->entries[i].key.len + value_size(&table->entries[i].value);
    return size;
}

/* --- looking and setting --- */

static bool is_named(const amqp_table_entry_t *entry, const char *name)
{
    size_t len = strlen(name);

    return entry->key.len == len && memcmp(entry->key.bytes, name, len) == 0;
}

const amqp_field_value_t *amqp_table_get(const amqp_table_t *table, const char *name)
{
    for (int i = table->num_entries; i-- > 0;) {
        if (is_named(&table->entries[i], name))
            return &table->entries[i].value;
    }
    return NULL;
}

bool amqp_value_integer(const amqp_field_value_t *value, int64_t *out)
{
    switch (value ? value->kind : AMQP_FIELD_KIND_VOID) {
    case AMQP_FIELD_KIND_I8:
        *out =
            value->value.i8; /* NOLINT(bugprone-signed-char-misuse,cert-str34-c): it is a number */
        return true;
    case AMQP_FIELD_KIND_U8:
        *out = value->value.u8;
        return true;
    case AMQP_FIELD_KIND_I16:
        *out = value->value.i16;
        return true;
    case AMQP_FIELD_KIND_U16:
        *out = value->value.u16;
        return true;
    case AMQP_FIELD_KIND_I32:
        *out = value->value.i32;
        return true;
    case AMQP_FIELD_KIND_U32:
        *out = value->value.u32;
        return true;
    case AMQP_FIELD_KIND_I64:
        *out = value->value.i64;
        return true;
    case AMQP_FIELD_KIND_U64:
        *out = (int64_t)value->value.u64; /* as py-amqp means it */
        return true;
    }
    return false;
}

bool amqp_value_text(const amqp_field_value_t *value, struct slice *out)
{
    if (!value || (value->kind != AMQP_FIELD_KIND_UTF8 && value->kind != AMQP_FIELD_KIND_BYTES))
        return false;
    *out = slice_make(value->value.bytes.bytes, value->value.bytes.len);
    return true;
}

void amqp_table_remove(amqp_table_t *table, const char *name)
{
    int kept = 0;

    for (int i = 0; i < table->num_entries; i++) {
        if (!is_named(&table->entries[i], name))
            table->entries[kept++] = table->entries[i];
    }
    table->num_entries = kept;
}

int amqp_table_set(amqp_table_t *table, const char *name, amqp_field_value_t value,
                   amqp_pool_t *pool, struct err *e)
{
    size_t n = (size_t)table->num_entries;
    amqp_table_entry_t *entries = amqp_pool_alloc(pool, (n + 1) * sizeof(*entries));

    if (!entries)
        return err_nomem(e);
    if (n)
        memcpy(entries, table->entries, n * sizeof(*entries));
    table->entries = entries;
    amqp_table_remove(table, name);
    entries[table->num_entries++] = (amqp_table_entry_t){amqp_cstring_bytes(name), value};
    return 0;
}

amqp_field_value_t amqp_value_of_text(struct slice text)
{
    amqp_field_value_t v = {.kind = AMQP_FIELD_KIND_UTF8};

    v.value.bytes = (amqp_bytes_t){text.len, (void *)(uintptr_t)text.ptr};
    return v;
}

/* The bounds are py-amqp's: it sends even -2^31 in 64 bits. It would send all of them as 'L', which
 * some clients (Go's) do not know, and read 'l' as unsigned: so 'l' where that makes no difference.
 */
amqp_field_value_t amqp_value_of_integer(int64_t number)
{
    amqp_field_value_t v = {.kind = AMQP_FIELD_KIND_I32};

    if (number >= -INT32_MAX && number <= INT32_MAX) {
        v.value.i32 = (int32_t)number;
    } else if (number > 0) {
        v.kind = AMQP_FIELD_KIND_I64;
        v.value.i64 = number;
    } else {
        v.kind = AMQP_FIELD_KIND_U64;
        v.value.u64 = (uint64_t)number;
    }
    return v;
}

amqp_field_value_t amqp_value_of_bool(bool truth)
{
    amqp_field_value_t v = {.kind = AMQP_FIELD_KIND_BOOLEAN};

    v.value.boolean = truth;
    return v;
}
