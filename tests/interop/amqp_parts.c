/* The pure parts of the AMQP broker for check_amqp.py, one JSON object per line in and out:
 *  {"send": envelope}              {"frame": hex, "body": hex, "raw": bool}
 *  {"receive": {"frame": hex, "body": hex, "exchange", "routing_key", "queue", "redelivered"}}
 *                                  {"envelope": text}
 *  {"delay_ms": n, "queue": name}  {"exchange", "routing_key", "delay_ms", "step"}
 *  {"ladder": "quorum"} or {"step": n, "type": "quorum"} or {"bind": queue}
 *                                  [{"kind", "name", "type", "source", "key", "arguments"}, ...] */
#include "broker/amqp_envelope.h"
#include "broker/amqp_ladder.h"
#include "broker/json_text.h"

#include <nettle/base16.h>
#include <stdio.h>
#include <stdlib.h>

static json_t *hex(struct slice bytes)
{
    char *text = calloc(1, BASE16_ENCODE_LENGTH(bytes.len) + 1);
    json_t *value;

    base16_encode_update(text, bytes.len, (const uint8_t *)bytes.ptr);
    value = json_string(text);
    free(text);
    return value;
}

static struct slice bytes(const json_t *object, const char *name, amqp_pool_t *pool)
{
    struct base16_decode_ctx ctx;
    const json_t *text = json_object_get(object, name);
    size_t len = json_string_length(text);
    uint8_t *to = amqp_pool_alloc(pool, BASE16_DECODE_LENGTH(len) + 1);

    base16_decode_init(&ctx);
    if (!base16_decode_update(&ctx, &len, to, len, json_string_value(text)))
        len = 0;
    return slice_make(to, len);
}

static struct slice text(const json_t *object, const char *name)
{
    return slice_of(json_string_value(json_object_get(object, name)));
}

static json_t *send_one(const json_t *envelope, amqp_pool_t *pool, struct err *e)
{
    struct slice from = {json_string_value(envelope), json_string_length(envelope)};
    struct amqp_outgoing out;
    amqp_bytes_t frame;
    int len;

    if (amqp_envelope_to_message(&out, from, 0, pool, e) < 0)
        return NULL;
    amqp_pool_alloc_bytes(pool, amqp_properties_size(&out.properties), &frame);
    len = amqp_encode_properties(AMQP_BASIC_CLASS, &out.properties, frame);
    if (len != (int)frame.len) {
        err_set(e, ERR_BUG, "%d bytes were encoded instead of %zu", len, frame.len);
        return NULL;
    }
    return json_pack("{sososb}", "frame", hex(slice_make(frame.bytes, frame.len)), "body",
                     hex(out.body), "raw", out.raw);
}

static json_t *receive(const json_t *delivery, amqp_pool_t *pool, struct err *e)
{
    struct slice frame = bytes(delivery, "frame", pool);
    struct amqp_incoming in = {
        .exchange = text(delivery, "exchange"),
        .routing_key = text(delivery, "routing_key"),
        .redelivered = json_is_true(json_object_get(delivery, "redelivered")),
        .body = bytes(delivery, "body", pool),
    };
    struct buf out = BUF_INIT;
    json_t *answer = NULL;
    void *properties;

    if (amqp_decode_properties(AMQP_BASIC_CLASS, pool, amqp_bytes_of(frame), &properties) < 0) {
        err_set(e, ERR_USAGE, "the frame cannot be decoded");
        return NULL;
    }
    in.properties = properties;
    if (amqp_envelope_from_delivery(&out, &in, text(delivery, "queue"), e) == 0)
        answer = json_pack("{ss}", "envelope", buf_str(&out));
    buf_release(&out);
    return answer;
}

static json_t *plan(const json_t *line, struct err *e)
{
    struct amqp_delay p;

    if (amqp_delay_plan(&p, json_integer_value(json_object_get(line, "delay_ms")), 0,
                        text(line, "queue"), e) < 0)
        return NULL;
    return json_pack("{sssssIsi}", "exchange", p.exchange, "routing_key", p.routing_key, "delay_ms",
                     (json_int_t)p.delay_ms, "step", p.step);
}

static json_t *declared(const struct amqp_declare *d, struct err *e)
{
    return json_pack("{siss%ss%ss%ss%so}", "kind", (int)d->kind, "name", d->name.ptr, d->name.len,
                     "type", d->type.ptr ? d->type.ptr : "", d->type.len, "source",
                     d->source.ptr ? d->source.ptr : "", d->source.len, "key",
                     d->key.ptr ? d->key.ptr : "", d->key.len, "arguments",
                     amqp_table_to_json(&d->arguments, e));
}

static enum amqp_queue_type type_of(const json_t *line, const char *name)
{
    return slice_is(text(line, name), "quorum") ? AMQP_QUORUM : AMQP_CLASSIC;
}

static json_t *topology(const json_t *line, struct err *e)
{
    const json_t *step = json_object_get(line, "step");
    json_t *list = json_array();
    struct amqp_declare d;

    if (json_object_get(line, "bind")) {
        if (amqp_ladder_binding(&d, text(line, "bind"), e) == 0)
            json_array_append_new(list, declared(&d, e));
        return list;
    }
    for (int n = 0;
         step ? amqp_step_topology(&d, n, (int)json_integer_value(step), type_of(line, "type"))
              : amqp_ladder_topology(&d, n, type_of(line, "ladder"));
         n++)
        json_array_append_new(list, declared(&d, e));
    return list;
}

static json_t *answer(const json_t *line, amqp_pool_t *pool, struct err *e)
{
    if (json_object_get(line, "send"))
        return send_one(json_object_get(line, "send"), pool, e);
    if (json_object_get(line, "receive"))
        return receive(json_object_get(line, "receive"), pool, e);
    if (json_object_get(line, "delay_ms"))
        return plan(line, e);
    return topology(line, e);
}

int main(void)
{
    struct err e = ERR_INIT;
    char *line = NULL;
    size_t size = 0;
    ssize_t len;
    bool good = true;

    while (good && (len = getline(&line, &size, stdin)) > 0) {
        json_t *object = json_text_read(slice_make(line, (size_t)len), "the line", &e), *reply;
        amqp_pool_t pool;

        init_amqp_pool(&pool, 4096);
        reply = object ? answer(object, &pool, &e) : NULL;
        good = reply && json_dumpf(reply, stdout, 0) == 0;
        puts("");
        json_decref(reply);
        json_decref(object);
        empty_amqp_pool(&pool);
    }
    free(line);
    if (!good)
        fprintf(stderr, "amqp_parts: %s\n", e.text);
    return !good;
}
