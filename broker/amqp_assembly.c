#include "broker/amqp_assembly.h"

#include "broker/amqp_frames.h"

#include <inttypes.h>

#define KEEP_BODY (1u << 20) /* memory of a larger body is given back */

void content_release(struct amqp_content *c)
{
    buf_release(&c->method_bytes);
    buf_release(&c->header_bytes);
    buf_release(&c->body);
    *c = (struct amqp_content){0};
}

void content_clear(struct amqp_content *c)
{
    c->method = 0;
    c->header_known = false;
    c->size = 0;
    buf_clear(&c->method_bytes);
    buf_clear(&c->header_bytes);
    if (c->body.cap > KEEP_BODY)
        buf_release(&c->body);
    buf_clear(&c->body);
}

static int out_of_turn(const char *what, struct err *e)
{
    return err_set(e, ERR_RECONNECT, "the server sent %s out of turn", what);
}

static int keep(struct buf *to, struct slice bytes, struct err *e)
{
    buf_add(to, bytes.ptr, bytes.len);
    return to->failed ? err_nomem(e) : 0;
}

int content_begin(struct amqp_content *c, amqp_method_number_t method, struct slice arguments,
                  struct err *e)
{
    if (c->method)
        return out_of_turn("a method inside of a message", e);
    content_clear(c);
    c->method = method;
    return keep(&c->method_bytes, arguments, e);
}

int content_header(struct amqp_content *c, struct slice payload, uint64_t limit, struct err *e)
{
    if (!c->method || c->header_known || payload.len < 14)
        return out_of_turn("a message's header", e);
    c->header_known = true;
    c->size = frames_u64(payload.ptr + 4);
    if (c->size > limit)
        return err_set(e, ERR_RECONNECT,
                       "the server sent a message of %" PRIu64 " bytes, more than the limit of "
                       "%" PRIu64,
                       c->size, limit);
    return keep(&c->header_bytes, slice_make(payload.ptr + 12, payload.len - 12), e);
}

int content_body(struct amqp_content *c, struct slice payload, struct err *e)
{
    if (!c->header_known || payload.len > c->size - c->body.len)
        return out_of_turn("a message's body", e);
    return keep(&c->body, payload, e);
}

bool content_complete(const struct amqp_content *c)
{
    return c->header_known && c->body.len == c->size;
}

/* --- looking before the library does --- */

struct scan {
    const unsigned char *at, *end;
};

static bool skip(struct scan *s, size_t n)
{
    if ((size_t)(s->end - s->at) < n)
        return false;
    s->at += n;
    return true;
}

static bool skip_short(struct scan *s)
{
    return s->at < s->end && skip(s, (size_t)*s->at + 1);
}

/* The part behind a length of four bytes, cut out of s. */
static bool enter(struct scan *s, struct scan *inner)
{
    const unsigned char *from = s->at + 4;
    size_t len;

    if (s->end - s->at < 4)
        return false;
    len = frames_u32((const char *)s->at);
    if (!skip(s, 4) || !skip(s, len))
        return false;
    *inner = (struct scan){from, s->at};
    return true;
}

/* -1: the library does not know the kind either. */
static int fixed_size(unsigned char kind)
{
    static const struct {
        char kind;
        signed char size;
    } sizes[] = {
        {'t', 1}, {'b', 1}, {'B', 1}, {'s', 2}, {'u', 2}, {'I', 4}, {'i', 4},
        {'l', 8}, {'L', 8}, {'f', 4}, {'d', 8}, {'D', 5}, {'T', 8}, {'V', 0},
    };

    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        if (sizes[i].kind == (char)kind)
            return sizes[i].size;
    }
    return -1;
}

static bool sound_list(struct scan list, bool keys, int depth);

static bool sound_value(struct scan *s, int depth)
{
    struct scan inner;
    unsigned char kind;
    int size;

    if (s->at == s->end)
        return false;
    kind = *s->at++;
    if (kind == 'S' || kind == 'x')
        return enter(s, &inner);
    if (kind == 'F' || kind == 'A')
        return enter(s, &inner) && sound_list(inner, kind == 'F', depth + 1);
    size = fixed_size(kind);
    return size >= 0 && skip(s, (size_t)size);
}

static bool sound_list(struct scan list, bool keys, int depth)
{
    if (depth > CONTENT_NEST)
        return false;
    while (list.at < list.end) {
        if ((keys && !skip_short(&list)) || !sound_value(&list, depth))
            return false;
    }
    return true;
}

static bool sound_field(struct scan *s, uint32_t flag)
{
    struct scan table;

    switch (flag) {
    case AMQP_BASIC_HEADERS_FLAG:
        return enter(s, &table) && sound_list(table, true, 1);
    case AMQP_BASIC_DELIVERY_MODE_FLAG:
    case AMQP_BASIC_PRIORITY_FLAG:
        return skip(s, 1);
    case AMQP_BASIC_TIMESTAMP_FLAG:
        return skip(s, 8);
    default:
        return skip_short(s);
    }
}

bool content_sound(struct slice properties)
{
    struct scan s = {(const unsigned char *)properties.ptr,
                     (const unsigned char *)properties.ptr + properties.len};
    uint32_t flags;

    if (properties.len < 2)
        return false;
    flags = frames_u16(properties.ptr);
    s.at += 2;
    if (flags & 3)
        return false;
    for (uint32_t flag = AMQP_BASIC_CONTENT_TYPE_FLAG; flag >= AMQP_BASIC_CLUSTER_ID_FLAG;
         flag >>= 1) {
        if ((flags & flag) && !sound_field(&s, flag))
            return false;
    }
    return true;
}

/* --- decoding --- */

static struct slice text_of(amqp_bytes_t b)
{
    return slice_make(b.bytes, b.len);
}

static void from_deliver(struct amqp_incoming *in, const void *decoded)
{
    const amqp_basic_deliver_t *m = decoded;

    in->consumer_tag = text_of(m->consumer_tag);
    in->delivery_tag = m->delivery_tag;
    in->redelivered = m->redelivered;
    in->exchange = text_of(m->exchange);
    in->routing_key = text_of(m->routing_key);
}

static void from_get_ok(struct amqp_incoming *in, const void *decoded)
{
    const amqp_basic_get_ok_t *m = decoded;

    in->delivery_tag = m->delivery_tag;
    in->redelivered = m->redelivered;
    in->exchange = text_of(m->exchange);
    in->routing_key = text_of(m->routing_key);
    in->left = m->message_count;
}

static void from_return(struct amqp_incoming *in, const void *decoded)
{
    const amqp_basic_return_t *m = decoded;

    in->exchange = text_of(m->exchange);
    in->routing_key = text_of(m->routing_key);
    in->reply_code = m->reply_code;
    in->reply = text_of(m->reply_text);
}

static int decode_properties(const struct amqp_content *c, amqp_pool_t *pool,
                             struct amqp_incoming *in, struct err *e)
{
    static const amqp_basic_properties_t none = {0};
    struct slice raw = buf_slice(&c->header_bytes);
    void *decoded;
    int status;

    in->malformed = !content_sound(raw);
    in->properties = &none;
    in->unread = in->malformed ? raw : (struct slice){NULL, 0};
    if (in->malformed)
        return 0;
    status = amqp_decode_properties(AMQP_BASIC_CLASS, pool, amqp_bytes_of(raw), &decoded);
    if (status == AMQP_STATUS_NO_MEMORY)
        return err_nomem(e);
    in->malformed = status < 0;
    if (status >= 0)
        in->properties = decoded;
    else
        in->unread = raw;
    return 0;
}

int content_decode(const struct amqp_content *c, amqp_pool_t *pool, struct amqp_incoming *in,
                   void **method, struct err *e)
{
    static const struct {
        amqp_method_number_t id;
        void (*take)(struct amqp_incoming *in, const void *decoded);
    } kinds[] = {
        {AMQP_BASIC_DELIVER_METHOD, from_deliver},
        {AMQP_BASIC_GET_OK_METHOD, from_get_ok},
        {AMQP_BASIC_RETURN_METHOD, from_return},
    };
    int status =
        amqp_decode_method(c->method, pool, amqp_bytes_of(buf_slice(&c->method_bytes)), method);

    if (status < 0)
        return err_set(e, ERR_RECONNECT, "the server sent a %s that can not be read (%s)",
                       amqp_method_name(c->method), amqp_error_string2(status));
    for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
        if (kinds[i].id == c->method)
            kinds[i].take(in, *method);
    }
    in->body = buf_slice(&c->body);
    return decode_properties(c, pool, in, e);
}
