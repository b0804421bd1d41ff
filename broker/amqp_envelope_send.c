/* An envelope as an AMQP message. */
#include "broker/amqp_envelope.h"
#include "broker/amqp_property.h"
#include "broker/message.h"

#include <nettle/base64.h>

/* What a frame of RabbitMQ's default size leaves for the properties, with room for what is added to
 * them later: a grave's headers, above all. */
#define HEADER_MAX (131072 - 8 - 12 - 4096)
/* A longer id is not told. */
#define ID_MAX 1024

/* Headers that the server writes; one that it is sent would be believed or shown twice. */
static const char *const server_headers[] = {
    "x-death",
    "x-delivery-count",
    "x-first-death-exchange",
    "x-first-death-queue",
    "x-first-death-reason",
    "x-last-death-exchange",
    "x-last-death-queue",
    "x-last-death-reason",
};

struct sending {
    struct amqp_outgoing *out;
    amqp_table_t envelope; /* the whole of it as a table; strings are borrowed from its text */
    amqp_pool_t *pool;
    struct err *e;
};

static const amqp_field_value_t *member(const struct sending *s, const char *name)
{
    return amqp_table_get(&s->envelope, name);
}

static int read_content(const struct sending *s)
{
    amqp_basic_properties_t *p = &s->out->properties;

    if (property_set_text(p, AMQP_BASIC_CONTENT_TYPE_FLAG, &p->content_type, "content-type",
                          member(s, "content-type"), s->e) < 0)
        return -1;
    return property_set_text(p, AMQP_BASIC_CONTENT_ENCODING_FLAG, &p->content_encoding,
                             "content-encoding", member(s, "content-encoding"), s->e);
}

/* An object of the envelope: absent, null and empty are the same. */
static int read_object(const struct sending *s, const char *name, amqp_table_t *out)
{
    const amqp_field_value_t *value = member(s, name);

    *out = (amqp_table_t){0};
    if (!value || value->kind == AMQP_FIELD_KIND_VOID)
        return 0;
    if (value->kind != AMQP_FIELD_KIND_TABLE)
        return err_set(s->e, ERR_USAGE, "\"%s\" must be an object", name);
    *out = value->value.table;
    return 0;
}

static int read_headers(const struct sending *s)
{
    amqp_basic_properties_t *p = &s->out->properties;

    if (read_object(s, "headers", &p->headers) < 0)
        return -1;
    for (size_t i = 0; i < sizeof(server_headers) / sizeof(server_headers[0]); i++)
        amqp_table_remove(&p->headers, server_headers[i]);
    p->_flags |= AMQP_BASIC_HEADERS_FLAG;
    return 0;
}

static int decode(const struct sending *s, struct slice text)
{
    struct base64_decode_ctx ctx;
    size_t len = BASE64_DECODE_LENGTH(text.len);
    uint8_t *to = amqp_pool_alloc(s->pool, len + 1);

    if (!to)
        return err_nomem(s->e);
    base64_decode_init(&ctx);
    if (!base64_decode_update(&ctx, &len, to, text.len, text.ptr) || !base64_decode_final(&ctx))
        return err_set(s->e, ERR_USAGE, "\"body\" is not base64");
    s->out->body = slice_make(to, len);
    return 0;
}

/* body_encoding absent or "utf-8" (newer kombu): the text itself. */
static int read_body(const struct sending *s, const amqp_table_t *properties)
{
    const amqp_field_value_t *value = amqp_table_get(properties, "body_encoding");
    struct slice encoding = slice_of("utf-8");

    if (!amqp_value_text(member(s, "body"), &s->out->body))
        return err_set(s->e, ERR_USAGE, "\"body\" is not a text");
    if (value && value->kind != AMQP_FIELD_KIND_VOID && !amqp_value_text(value, &encoding))
        encoding = slice_of("?");
    if (slice_is(encoding, "base64"))
        return decode(s, s->out->body);
    if (slice_is(encoding, "utf-8"))
        return 0;
    return err_set(s->e, ERR_USAGE, "property \"body_encoding\" is not base64");
}

static int read_envelope(const struct sending *s, size_t header_max)
{
    amqp_table_t properties;
    size_t size;

    if (member(s, MESSAGE_REFUSED))
        return err_set(s->e, ERR_USAGE, "it was refused before");
    if (read_object(s, "properties", &properties) < 0 || read_content(s) < 0 ||
        read_headers(s) < 0 || read_body(s, &properties) < 0 ||
        property_read(&s->out->properties, &properties, s->pool, s->e) < 0)
        return -1;
    size = amqp_properties_size(&s->out->properties);
    if (size <= header_max)
        return 0;
    return err_set(s->e, ERR_USAGE, "headers and properties have %zu bytes, a frame holds %zu",
                   size, header_max);
}

/* --- what AMQP's own form cannot carry --- */

static int copy_header(const struct sending *s, const char *name)
{
    amqp_table_t headers;
    const amqp_field_value_t *value;
    struct slice text;
    int64_t number;

    if (read_object(s, "headers", &headers) < 0)
        return 0;
    value = amqp_table_get(&headers, name);
    if (!amqp_value_integer(value, &number) &&
        (!amqp_value_text(value, &text) || text.len > ID_MAX))
        return 0;
    return amqp_table_set(&s->out->properties.headers, name, *value, s->pool, s->e);
}

/* As it is, with the headers that tell which run of which job it is, where they could be read. */
static int carry(struct sending *s, struct slice envelope)
{
    amqp_basic_properties_t *p = &s->out->properties;

    *s->out = (struct amqp_outgoing){.body = envelope, .raw = true};
    p->_flags =
        AMQP_BASIC_CONTENT_TYPE_FLAG | AMQP_BASIC_DELIVERY_MODE_FLAG | AMQP_BASIC_HEADERS_FLAG;
    p->content_type = amqp_cstring_bytes(AMQP_RAW_TYPE);
    p->delivery_mode = 2;
    s->e = NULL;
    return copy_header(s, "id") < 0 || copy_header(s, "task") < 0 || copy_header(s, "retries") < 0
               ? -1
               : 0;
}

int amqp_envelope_to_message(struct amqp_outgoing *out, struct slice envelope, size_t header_max,
                             amqp_pool_t *pool, struct err *e)
{
    struct err why = ERR_INIT;
    struct sending s = {out, {0, NULL}, pool, &why};
    int status;

    *out = (struct amqp_outgoing){.raw = false};
    /* One level more than headers may have: they are inside it. */
    status = amqp_table_from_text(&s.envelope, envelope, AMQP_TABLE_DEPTH_MAX + 1, pool, &why);
    if (status == 0)
        status = read_envelope(&s, header_max ? header_max : HEADER_MAX);
    if (status == 0)
        return 0;
    if (why.code == ERR_NOMEM || carry(&s, envelope) < 0)
        return err_nomem(e);
    err_set(e, why.code, "%s", why.text);
    return 0;
}

int amqp_outgoing_header(struct amqp_outgoing *out, const char *name, amqp_field_value_t value,
                         amqp_pool_t *pool, struct err *e)
{
    out->properties._flags |= AMQP_BASIC_HEADERS_FLAG;
    return amqp_table_set(&out->properties.headers, name, value, pool, e);
}

void amqp_outgoing_delayed(struct amqp_outgoing *out)
{
    out->properties._flags &= ~(amqp_flags_t)AMQP_BASIC_EXPIRATION_FLAG;
}
