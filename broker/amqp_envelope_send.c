/* An envelope as an AMQP message. */
#include "broker/amqp_envelope.h"
#include "broker/amqp_property.h"
#include "broker/json_text.h"
#include "broker/message.h"

#include <nettle/base64.h>

/* What a frame of RabbitMQ's default size leaves for the properties. */
#define HEADER_MAX (131072 - 8 - 12)

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
    const json_t *envelope;
    amqp_pool_t *pool;
    struct err *e;
};

static int read_content(const struct sending *s)
{
    amqp_basic_properties_t *p = &s->out->properties;
    const json_t *type = json_object_get(s->envelope, "content-type");
    const json_t *encoding = json_object_get(s->envelope, "content-encoding");

    if (type && !json_is_null(type) &&
        property_set_text(p, AMQP_BASIC_CONTENT_TYPE_FLAG, &p->content_type, "content-type", type,
                          s->pool, s->e) < 0)
        return -1;
    if (!encoding || json_is_null(encoding))
        return 0;
    return property_set_text(p, AMQP_BASIC_CONTENT_ENCODING_FLAG, &p->content_encoding,
                             "content-encoding", encoding, s->pool, s->e);
}

static int read_headers(const struct sending *s)
{
    amqp_basic_properties_t *p = &s->out->properties;
    const json_t *headers = json_object_get(s->envelope, "headers");

    if (json_is_null(headers))
        headers = NULL;
    if (amqp_table_from_json(&p->headers, headers, s->pool, s->e) < 0)
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
static int read_body(const struct sending *s, const json_t *properties)
{
    const json_t *body = json_object_get(s->envelope, "body");
    const json_t *encoding = json_object_get(properties, "body_encoding");
    const char *name = json_string_value(encoding);
    struct slice text = {json_string_value(body), json_string_length(body)};
    char *copy;

    if (!text.ptr)
        return err_set(s->e, ERR_USAGE, "\"body\" is not a text");
    if (name && strcmp(name, "base64") == 0)
        return decode(s, text);
    if (encoding && !json_is_null(encoding) && !(name && strcmp(name, "utf-8") == 0))
        return err_set(s->e, ERR_USAGE, "property \"body_encoding\" is not base64");
    copy = amqp_pool_alloc(s->pool, text.len + 1);
    if (!copy)
        return err_nomem(s->e);
    memcpy(copy, text.ptr, text.len);
    s->out->body = slice_make(copy, text.len);
    return 0;
}

static int read_envelope(const struct sending *s, size_t header_max)
{
    const json_t *properties = json_object_get(s->envelope, "properties");
    size_t size;

    if (!json_is_object(s->envelope))
        return err_set(s->e, ERR_USAGE, "the message is not an object");
    if (json_object_get(s->envelope, MESSAGE_REFUSED))
        return err_set(s->e, ERR_USAGE, "the message was refused before");
    if (properties && !json_is_null(properties) && !json_is_object(properties))
        return err_set(s->e, ERR_USAGE, "\"properties\" must be an object");
    if (read_content(s) < 0 || read_headers(s) < 0 || read_body(s, properties) < 0 ||
        property_read(&s->out->properties, properties, s->pool, s->e) < 0)
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
    const json_t *value = json_object_get(json_object_get(s->envelope, "headers"), name);
    size_t len = json_string_length(value);
    char *copy;

    if (!json_is_string(value) || len > 1024)
        return 0;
    copy = amqp_pool_alloc(s->pool, len + 1);
    if (!copy)
        return err_nomem(s->e);
    memcpy(copy, json_string_value(value), len);
    return amqp_table_set(&s->out->properties.headers, name,
                          amqp_value_of_text(slice_make(copy, len)), s->pool, s->e);
}

static int carry(const struct sending *s, struct slice envelope)
{
    amqp_basic_properties_t *p = &s->out->properties;

    *s->out = (struct amqp_outgoing){.body = envelope, .raw = true};
    p->_flags =
        AMQP_BASIC_CONTENT_TYPE_FLAG | AMQP_BASIC_DELIVERY_MODE_FLAG | AMQP_BASIC_HEADERS_FLAG;
    p->content_type = amqp_cstring_bytes(AMQP_RAW_TYPE);
    p->delivery_mode = 2;
    return copy_header(s, "id") < 0 || copy_header(s, "task") < 0 ? -1 : 0;
}

int amqp_envelope_to_message(struct amqp_outgoing *out, struct slice envelope, size_t header_max,
                             amqp_pool_t *pool, struct err *e)
{
    struct err why = ERR_INIT;
    json_t *json = json_text_read(envelope, "the message", &why);
    struct sending s = {out, json, pool, &why};
    int status = -1;

    *out = (struct amqp_outgoing){.raw = false};
    if (json)
        status = read_envelope(&s, header_max ? header_max : HEADER_MAX);
    if (status < 0 && why.code != ERR_NOMEM) {
        err_set(e, why.code, "%s", why.text);
        s.e = e;
        status = carry(&s, envelope);
    } else if (status < 0) {
        err_nomem(e);
    }
    json_decref(json);
    return status;
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
