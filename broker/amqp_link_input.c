#include "broker/amqp_link_parts.h"

#include <string.h>

static struct slice text_of(amqp_bytes_t b)
{
    return slice_make(b.bytes, b.len);
}

static void wrong(struct amqp_link *l, const char *what, int channel)
{
    struct err e;

    err_set(&e, ERR_RECONNECT, "the server sent %s on channel %d", what, channel);
    link_break(l, &e);
}

static void reply(struct amqp_link *l, int channel, amqp_method_number_t id, const void *decoded)
{
    struct err e;

    if (frames_add_method(&l->out, l->frame_max, channel, id, decoded, &e) < 0)
        link_break(l, &e);
}

/* --- methods of the connection --- */

static void connection_close(struct amqp_link *l, struct link_channel *ch, const void *decoded)
{
    static const amqp_connection_close_ok_t ok = {0};
    const amqp_connection_close_t *m = decoded;
    struct err e;

    (void)ch;
    reply(l, 0, AMQP_CONNECTION_CLOSE_OK_METHOD, &ok);
    err_set(&e, ERR_RECONNECT, "the server closed the connection: %.*s (%d)",
            SLICE_ARG(text_of(m->reply_text)), m->reply_code);
    l->why_code = m->reply_code;
    l->why_method = (amqp_method_number_t)m->class_id << 16 | m->method_id;
    link_break(l, &e);
}

static void connection_blocked(struct amqp_link *l, struct link_channel *ch, const void *decoded)
{
    const amqp_connection_blocked_t *m = decoded;

    (void)ch;
    l->blocked = true;
    if (l->events->on_blocked)
        l->events->on_blocked(l->owner, l, true, text_of(m->reason));
}

static void connection_unblocked(struct amqp_link *l, struct link_channel *ch, const void *decoded)
{
    (void)ch;
    (void)decoded;
    l->blocked = false;
    if (l->events->on_blocked)
        l->events->on_blocked(l->owner, l, false, slice_of(""));
}

/* --- methods of a channel --- */

/* A queue whose process has not come up yet, for a moment after the server's start, is told as one
 * that does not exist. */
static int close_code(const amqp_channel_close_t *m)
{
    static const char down[] = "is down or inaccessible";
    bool waits =
        m->reply_text.len && memmem(m->reply_text.bytes, m->reply_text.len, down, sizeof(down) - 1);

    return m->reply_code == AMQP_NOT_FOUND && waits ? AMQP_RESOURCE_ERROR : m->reply_code;
}

static void channel_close(struct amqp_link *l, struct link_channel *ch, const void *decoded)
{
    static const amqp_channel_close_ok_t ok = {0};
    const amqp_channel_close_t *m = decoded;
    int code = close_code(m);
    struct err e;

    reply(l, ch->number, AMQP_CHANNEL_CLOSE_OK_METHOD, &ok);
    if (l->broken)
        return;
    err_set(&e, link_code(code), "%.*s (%d)", SLICE_ARG(text_of(m->reply_text)), m->reply_code);
    ch->phase = CHANNEL_CLOSED;
    content_clear(&ch->content);
    confirms_stop(&ch->confirms);
    link_fail_calls(l, ch, code, (amqp_method_number_t)m->class_id << 16 | m->method_id, &e);
    if (l->events->on_channel_closed)
        l->events->on_channel_closed(l->owner, l, ch->number, code, &e);
}

static void channel_flow(struct amqp_link *l, struct link_channel *ch, const void *decoded)
{
    const amqp_channel_flow_t *m = decoded;
    amqp_channel_flow_ok_t ok = {.active = m->active};

    reply(l, ch->number, AMQP_CHANNEL_FLOW_OK_METHOD, &ok);
}

static void basic_cancel(struct amqp_link *l, struct link_channel *ch, const void *decoded)
{
    const amqp_basic_cancel_t *m = decoded;
    amqp_basic_cancel_ok_t ok = {.consumer_tag = m->consumer_tag};

    if (!m->nowait)
        reply(l, ch->number, AMQP_BASIC_CANCEL_OK_METHOD, &ok);
    if (l->events->on_cancelled)
        l->events->on_cancelled(l->owner, l, ch->number, text_of(m->consumer_tag));
}

static void settle(struct amqp_link *l, struct link_channel *ch, uint64_t tag, bool multiple,
                   bool ok)
{
    struct amqp_confirms *c = &ch->confirms;
    uint64_t last = multiple && tag == 0 ? c->next - 1 : tag;

    /* The owner may publish while it is told. */
    for (uint64_t n = multiple ? c->oldest : tag; n <= last && n < c->next; n++) {
        if (confirms_take(c, n) && l->events->on_confirm)
            l->events->on_confirm(l->owner, l, ch->number, n, ok);
    }
}

static void basic_ack(struct amqp_link *l, struct link_channel *ch, const void *decoded)
{
    const amqp_basic_ack_t *m = decoded;

    settle(l, ch, m->delivery_tag, m->multiple, true);
}

static void basic_nack(struct amqp_link *l, struct link_channel *ch, const void *decoded)
{
    const amqp_basic_nack_t *m = decoded;

    settle(l, ch, m->delivery_tag, m->multiple, false);
}

/* What the server says unasked. */
static const struct spontaneous {
    amqp_method_number_t id;
    bool connection;
    void (*take)(struct amqp_link *l, struct link_channel *ch, const void *decoded);
} spontaneous[] = {
    {AMQP_BASIC_ACK_METHOD, false, basic_ack},
    {AMQP_BASIC_NACK_METHOD, false, basic_nack},
    {AMQP_BASIC_CANCEL_METHOD, false, basic_cancel},
    {AMQP_CHANNEL_CLOSE_METHOD, false, channel_close},
    {AMQP_CHANNEL_FLOW_METHOD, false, channel_flow},
    {AMQP_CONNECTION_CLOSE_METHOD, true, connection_close},
    {AMQP_CONNECTION_BLOCKED_METHOD, true, connection_blocked},
    {AMQP_CONNECTION_UNBLOCKED_METHOD, true, connection_unblocked},
};

static const struct spontaneous *find_spontaneous(amqp_method_number_t id)
{
    for (size_t i = 0; i < sizeof(spontaneous) / sizeof(spontaneous[0]); i++) {
        if (spontaneous[i].id == id)
            return &spontaneous[i];
    }
    return NULL;
}

/* --- answers to calls --- */

static bool answers(amqp_method_number_t asked, amqp_method_number_t id)
{
    if (asked == AMQP_EXCHANGE_UNBIND_METHOD)
        return id == AMQP_EXCHANGE_UNBIND_OK_METHOD;
    return id == asked + 1 || (asked == AMQP_BASIC_GET_METHOD && id == AMQP_BASIC_GET_EMPTY_METHOD);
}

/* The call that this answers becomes the first. RabbitMQ answers in order, but for basic.consume:
 * that answer comes from the queue's process, and those to later calls may pass it. */
static bool find_call(struct link_channel *ch, amqp_method_number_t id)
{
    struct link_call *before = NULL, *call = ch->first;

    while (call && !answers(call->id, id)) {
        before = call;
        call = call->next;
    }
    if (!call || !before)
        return call != NULL;
    before->next = call->next;
    if (ch->last == call)
        ch->last = before;
    call->next = ch->first;
    ch->first = call;
    return true;
}

static void *decode(struct amqp_link *l, amqp_method_number_t id, struct slice arguments)
{
    void *decoded = NULL;
    int status = amqp_decode_method(id, &l->pool, amqp_bytes_of(arguments), &decoded);
    struct err e;

    if (status >= 0)
        return decoded;
    err_set(&e, ERR_RECONNECT, "the server sent a method 0x%08x that can not be read (%s)", id,
            amqp_error_string2(status));
    link_break(l, &e);
    return NULL;
}

static void take_answer(struct amqp_link *l, struct link_channel *ch, amqp_method_number_t id,
                        struct slice arguments)
{
    amqp_method_t method = {.id = id};
    struct amqp_answer answer = {.method = &method};

    if (!find_call(ch, id)) {
        wrong(l, "an answer that nobody asked for", ch->number);
        return;
    }
    method.decoded = decode(l, id, arguments);
    if (!method.decoded)
        return;
    if (id == AMQP_CHANNEL_CLOSE_OK_METHOD) {
        ch->phase = CHANNEL_CLOSED;
        content_clear(&ch->content);
        confirms_stop(&ch->confirms);
    }
    link_answer(l, ch, &answer);
}

/* --- messages --- */

static void hand_out(struct amqp_link *l, struct link_channel *ch, const struct amqp_incoming *in,
                     void *method)
{
    amqp_method_t got = {.id = ch->content.method, .decoded = method};
    struct amqp_answer answer = {.method = &got, .message = in};
    const struct amqp_link_events *on = l->events;

    if (ch->content.method == AMQP_BASIC_GET_OK_METHOD)
        link_answer(l, ch, &answer);
    else if (ch->phase != CHANNEL_OPEN)
        return; /* we are closing the channel: the server takes it back */
    else if (ch->content.method == AMQP_BASIC_DELIVER_METHOD && on->on_delivered)
        on->on_delivered(l->owner, l, in);
    else if (ch->content.method == AMQP_BASIC_RETURN_METHOD && on->on_returned)
        on->on_returned(l->owner, l, in,
                        confirms_returned(&ch->confirms, link_print(in->exchange, in->routing_key,
                                                                    in->properties, in->body.len)));
}

static void finish_content(struct amqp_link *l, struct link_channel *ch)
{
    struct amqp_incoming in = {.channel = ch->number};
    void *method;
    struct err e;

    if (content_decode(&ch->content, &l->pool, &in, &method, &e) < 0)
        link_break(l, &e);
    else
        hand_out(l, ch, &in, method);
    content_clear(&ch->content);
    l->budget--;
}

static void take_content(struct amqp_link *l, struct link_channel *ch,
                         const struct amqp_piece *piece)
{
    struct err e;
    int status = piece->type == AMQP_FRAME_HEADER
                     ? content_header(&ch->content, piece->payload, LINK_BODY_MAX, &e)
                     : content_body(&ch->content, piece->payload, &e);

    if (status < 0)
        link_break(l, &e);
    else if (content_complete(&ch->content))
        finish_content(l, ch);
}

static void begin_content(struct amqp_link *l, struct link_channel *ch, amqp_method_number_t id,
                          struct slice arguments)
{
    struct err e;

    if (id == AMQP_BASIC_GET_OK_METHOD && !find_call(ch, AMQP_BASIC_GET_EMPTY_METHOD))
        wrong(l, "an answer that nobody asked for", ch->number);
    else if (content_begin(&ch->content, id, arguments, &e) < 0)
        link_break(l, &e);
}

/* --- frames --- */

static void take_method(struct amqp_link *l, struct link_channel *ch,
                        const struct amqp_piece *piece)
{
    amqp_method_number_t id = frames_u32(piece->payload.ptr);
    struct slice arguments = slice_make(piece->payload.ptr + 4, piece->payload.len - 4);
    const struct spontaneous *s = find_spontaneous(id);
    void *decoded;

    if ((s && s->connection) != (piece->channel == 0)) {
        wrong(l, "a method that does not belong there", piece->channel);
        return;
    }
    if (s) {
        decoded = decode(l, id, arguments);
        if (decoded)
            s->take(l, ch, decoded);
    } else if (id == AMQP_BASIC_DELIVER_METHOD || id == AMQP_BASIC_GET_OK_METHOD ||
               id == AMQP_BASIC_RETURN_METHOD) {
        begin_content(l, ch, id, arguments);
    } else {
        take_answer(l, ch, id, arguments);
    }
}

/* The answer to our goodbye, or one of the server's own; what else was under way is dropped. */
static void take_goodbye(struct amqp_link *l, const struct amqp_piece *piece)
{
    struct err e;
    amqp_method_number_t id = 0;

    if (piece->type == AMQP_FRAME_METHOD && piece->payload.len >= 4)
        id = frames_u32(piece->payload.ptr);
    if (id != AMQP_CONNECTION_CLOSE_OK_METHOD && id != AMQP_CONNECTION_CLOSE_METHOD)
        return;
    err_set(&e, ERR_RECONNECT, "closed");
    link_break(l, &e);
}

static void take_frame(struct amqp_link *l, const struct amqp_piece *piece)
{
    struct link_channel *ch = link_channel(l, piece->channel);
    bool open = ch && ch->phase != CHANNEL_CLOSED;

    if (piece->type == AMQP_FRAME_HEARTBEAT)
        return;
    if (l->leaving)
        take_goodbye(l, piece);
    else if (piece->type != AMQP_FRAME_METHOD && piece->type != AMQP_FRAME_HEADER &&
             piece->type != AMQP_FRAME_BODY)
        log_warn(l->log, "unknown AMQP frame ignored", "link=%s type=%d", l->name, piece->type);
    else if (piece->type == AMQP_FRAME_METHOD && piece->payload.len < 4)
        wrong(l, "a method without a number", piece->channel);
    else if (!open && (piece->channel != 0 || piece->type != AMQP_FRAME_METHOD))
        wrong(l, "something although it is not open", piece->channel);
    else if (piece->type == AMQP_FRAME_METHOD)
        take_method(l, ch, piece);
    else
        take_content(l, ch, piece);
}

void link_take_frames(struct amqp_link *l)
{
    struct amqp_piece piece;
    size_t used;
    struct err e;
    int got;

    while (!l->broken && l->budget > 0) {
        got = frames_split(buf_slice(&l->in), l->frame_max, &piece, &used, &e);
        if (got == 0)
            return;
        if (got < 0) {
            link_break(l, &e);
            return;
        }
        take_frame(l, &piece);
        recycle_amqp_pool(&l->pool);
        buf_consume(&l->in, used);
    }
}
