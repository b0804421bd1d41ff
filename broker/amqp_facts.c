/* What the backend wants to know of a delivery. */
#include "broker/amqp_envelope.h"

static struct slice bytes_of(amqp_bytes_t bytes)
{
    return slice_make(bytes.bytes, bytes.len);
}

static int64_t integer_of(const amqp_table_t *table, const char *name)
{
    int64_t number = 0;

    amqp_value_integer(amqp_table_get(table, name), &number);
    return number;
}

static struct slice text_of(const amqp_table_t *table, const char *name)
{
    struct slice text = {NULL, 0};

    amqp_value_text(amqp_table_get(table, name), &text);
    return text;
}

/* The server puts the newest death in front. */
static void read_death(struct amqp_facts *facts, const amqp_field_value_t *deaths)
{
    const amqp_field_value_t *newest;

    if (!deaths || deaths->kind != AMQP_FIELD_KIND_ARRAY || deaths->value.array.num_entries < 1)
        return;
    facts->died = true;
    newest = &deaths->value.array.entries[0];
    if (newest->kind != AMQP_FIELD_KIND_TABLE)
        return;
    facts->death_reason = text_of(&newest->value.table, "reason");
}

static bool is_true(const amqp_field_value_t *value)
{
    return value && value->kind == AMQP_FIELD_KIND_BOOLEAN && value->value.boolean;
}

static void read_headers(struct amqp_facts *facts, const amqp_table_t *table)
{
    facts->id = text_of(table, "id");
    facts->task = text_of(table, "task");
    facts->retries = integer_of(table, "retries");
    facts->delivery_count = integer_of(table, "x-delivery-count");
    facts->again = is_true(amqp_table_get(table, AMQP_H_AGAIN));
    facts->held = text_of(table, AMQP_H_HELD);
    read_death(facts, amqp_table_get(table, "x-death"));
}

void amqp_envelope_facts(struct amqp_facts *facts, const amqp_basic_properties_t *p)
{
    *facts = (struct amqp_facts){0};
    if (p->_flags & AMQP_BASIC_HEADERS_FLAG)
        read_headers(facts, &p->headers);
    if (p->_flags & AMQP_BASIC_REPLY_TO_FLAG)
        facts->reply_to = bytes_of(p->reply_to);
    if (p->_flags & AMQP_BASIC_CORRELATION_ID_FLAG)
        facts->correlation_id = bytes_of(p->correlation_id);
    if (p->_flags & AMQP_BASIC_PRIORITY_FLAG)
        facts->priority = p->priority;
}
