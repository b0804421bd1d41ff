/* Any bytes as a message of the AMQP broker. Input that begins with '{' is an envelope to be sent;
 * anything else is a frame of properties, as a peer may send it. */
#include "broker/amqp_envelope.h"
#include "broker/json_text.h"
#include "broker/message.h"

#include <stdlib.h>

#define QUEUE slice_of("q")
#define BODY  "[[], {}, {}]"

static void need(bool holds)
{
    if (!holds)
        abort();
}

/* properties as the peer decodes them. */
static const amqp_basic_properties_t *transmit(const amqp_basic_properties_t *properties,
                                               amqp_pool_t *pool)
{
    size_t size = amqp_properties_size(properties);
    amqp_bytes_t frame = {size, amqp_pool_alloc(pool, size)};
    void *decoded = NULL;

    /* Not const-correct; it is only read. */
    need(amqp_encode_properties(AMQP_BASIC_CLASS, (void *)(uintptr_t)properties, frame) ==
         (int)size);
    need(amqp_decode_properties(AMQP_BASIC_CLASS, pool, frame, &decoded) == 0);
    return decoded;
}

static void receive(struct buf *out, const amqp_basic_properties_t *properties, struct slice body)
{
    struct amqp_incoming in = {.routing_key = QUEUE, .properties = properties, .body = body};
    struct amqp_facts facts;

    amqp_envelope_facts(&facts, properties);
    need(amqp_envelope_from_delivery(out, &in, QUEUE, NULL) == 0);
}

static bool same(const json_t *a, const json_t *b)
{
    return json_equal(a, b) || ((!a || json_is_null(a)) && (!b || json_is_null(b)));
}

/* The members that the way does not touch, unless a header of the server's was left out. */
static void same_job(struct slice before, struct slice after)
{
    json_t *a = json_text_read(before, "it", NULL), *b = json_text_read(after, "it", NULL);
    json_t *headers = json_object_get(a, "headers"), *came = json_object_get(b, "headers");

    need(a && b);
    need(same(json_object_get(a, "content-type"), json_object_get(b, "content-type")));
    need(same(json_object_get(a, "content-encoding"), json_object_get(b, "content-encoding")));
    if (json_object_size(headers) == json_object_size(came) && json_object_size(came))
        need(json_equal(headers, came));
    need(json_object_size(headers) >= json_object_size(came));
    json_decref(a);
    json_decref(b);
}

/* What a worker makes of it. */
static bool is_good(struct slice envelope)
{
    struct err e = ERR_INIT;
    struct message m;
    bool good = message_parse(&m, envelope, &e) == 0 && message_open_body(&m, &e) == 0;

    need(good || (e.code == ERR_DEADLETTER && e.text[0]));
    message_release(&m);
    return good;
}

/* Sent and received, it is the same job, or the same bytes. */
static void send_one(struct slice envelope, amqp_pool_t *pool)
{
    struct amqp_outgoing out;
    struct buf back = BUF_INIT;
    struct err e = ERR_INIT;

    need(amqp_envelope_to_message(&out, envelope, 0, pool, &e) == 0);
    need(!out.raw || e.text[0]);
    receive(&back, transmit(&out.properties, pool), out.body);
    if (out.raw)
        need(slice_eq(buf_slice(&back), envelope));
    else
        same_job(envelope, buf_slice(&back));
    if (is_good(envelope))
        need(is_good(buf_slice(&back)));
    buf_release(&back);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    struct buf envelope = BUF_INIT;
    amqp_bytes_t frame = {len, (void *)(uintptr_t)data};
    amqp_pool_t pool;
    void *decoded;

    init_amqp_pool(&pool, 4096);
    if (len && *data == '{') {
        send_one(slice_make(data, len), &pool);
    } else if (amqp_decode_properties(AMQP_BASIC_CLASS, &pool, frame, &decoded) == 0) {
        receive(&envelope, decoded, slice_of(BODY));
        is_good(buf_slice(&envelope));
        send_one(buf_slice(&envelope), &pool);
    }
    empty_amqp_pool(&pool);
    buf_release(&envelope);
    return 0;
}
