#include "broker/amqp_frames.h"

#define FRAME_HEAD 7

static void put_u32(char *p, uint32_t n)
{
    p[0] = (char)(n >> 24);
    p[1] = (char)(n >> 16);
    p[2] = (char)(n >> 8);
    p[3] = (char)n;
}

static void put_head(char *p, int type, int channel, size_t payload)
{
    p[0] = (char)type;
    p[1] = (char)(channel >> 8);
    p[2] = (char)channel;
    put_u32(p + 3, (uint32_t)payload);
}

/* What the library says when a table or text does not fit. */
static int not_encoded(int status, const char *what, uint32_t frame_max, struct err *e)
{
    if (status == AMQP_STATUS_NO_MEMORY)
        return err_nomem(e);
    return err_set(e, ERR_DEADLETTER,
                   "%s can not be sent: it is longer than a frame (%u bytes) (%s)", what, frame_max,
                   amqp_error_string2(status));
}

/* Room for one frame of any size at the end of the buffer. */
static char *room(struct buf *out, uint32_t frame_max, struct err *e)
{
    char *p = buf_reserve(out, frame_max);

    if (!p) {
        out->failed = false; /* nothing was added: what is there stays good */
        err_nomem(e);
    }
    return p;
}

/* Where the library encodes, behind what begins the payload and is ours. */
static amqp_bytes_t payload_behind(char *p, size_t own, uint32_t frame_max)
{
    return (amqp_bytes_t){.bytes = p + FRAME_HEAD + own, .len = frame_max - FRAME_OVERHEAD - own};
}

/* The payload is there. */
static void finish_frame(struct buf *out, char *p, int type, int channel, size_t payload)
{
    put_head(p, type, channel, payload);
    p[FRAME_HEAD + payload] = (char)AMQP_FRAME_END;
    buf_commit(out, payload + FRAME_OVERHEAD);
}

int frames_add_method(struct buf *out, uint32_t frame_max, int channel, amqp_method_number_t id,
                      const void *decoded, struct err *e)
{
    char *p = room(out, frame_max, e);
    int len;

    if (!p)
        return -1;
    len = amqp_encode_method(id, (void *)decoded, payload_behind(p, 4, frame_max));
    if (len < 0)
        return not_encoded(len, amqp_method_name(id), frame_max, e);
    put_u32(p + FRAME_HEAD, id);
    finish_frame(out, p, AMQP_FRAME_METHOD, channel, (size_t)len + 4);
    return 0;
}

static int add_header(struct buf *out, uint32_t frame_max, int channel,
                      const amqp_basic_properties_t *properties, uint64_t size, struct err *e)
{
    char *p = room(out, frame_max, e);
    int len;

    if (!p)
        return -1;
    len = amqp_encode_properties(AMQP_BASIC_CLASS, (void *)properties,
                                 payload_behind(p, 12, frame_max));
    if (len < 0)
        return not_encoded(len, "a message's headers", frame_max, e);
    put_u32(p + FRAME_HEAD, (uint32_t)AMQP_BASIC_CLASS << 16);
    put_u32(p + FRAME_HEAD + 4, (uint32_t)(size >> 32));
    put_u32(p + FRAME_HEAD + 8, (uint32_t)size);
    finish_frame(out, p, AMQP_FRAME_HEADER, channel, (size_t)len + 12);
    return 0;
}

static int add_body(struct buf *out, uint32_t frame_max, int channel, struct slice body,
                    struct err *e)
{
    size_t most = frame_max - FRAME_OVERHEAD, frames = (body.len + most - 1) / most;

    /* All room at once: a body of many frames does not move the backlog for each of them. */
    if (frames && !buf_reserve(out, body.len + frames * FRAME_OVERHEAD)) {
        out->failed = false;
        return err_nomem(e);
    }
    while (body.len) {
        size_t len = body.len < most ? body.len : most;
        char *p = buf_reserve(out, len + FRAME_OVERHEAD);

        memcpy(p + FRAME_HEAD, body.ptr, len);
        finish_frame(out, p, AMQP_FRAME_BODY, channel, len);
        body = slice_make(body.ptr + len, body.len - len);
    }
    return 0;
}

int frames_add_message(struct buf *out, uint32_t frame_max, int channel,
                       const amqp_basic_publish_t *publish,
                       const amqp_basic_properties_t *properties, struct slice body, struct err *e)
{
    size_t before = out->len;

    if (frames_add_method(out, frame_max, channel, AMQP_BASIC_PUBLISH_METHOD, publish, e) == 0 &&
        add_header(out, frame_max, channel, properties, body.len, e) == 0 &&
        add_body(out, frame_max, channel, body, e) == 0)
        return 0;
    out->len = before;
    return -1;
}

int frames_add_heartbeat(struct buf *out, struct err *e)
{
    char *p = room(out, FRAME_OVERHEAD, e);

    if (!p)
        return -1;
    finish_frame(out, p, AMQP_FRAME_HEARTBEAT, 0, 0);
    return 0;
}

int frames_split(struct slice in, uint32_t frame_max, struct amqp_piece *piece, size_t *used,
                 struct err *e)
{
    size_t size;

    if (in.len < FRAME_HEAD)
        return 0;
    size = frames_u32(in.ptr + 3);
    if (size > frame_max - FRAME_OVERHEAD)
        return err_set(e, ERR_RECONNECT,
                       "the server sent a frame of %zu bytes, more than the %u agreed", size,
                       frame_max);
    if (in.len < size + FRAME_OVERHEAD)
        return 0;
    if ((unsigned char)in.ptr[FRAME_HEAD + size] != AMQP_FRAME_END)
        return err_set(e, ERR_RECONNECT, "the server sent a frame without the mark at its end");
    piece->type = (unsigned char)in.ptr[0];
    piece->channel = (int)frames_u16(in.ptr + 1);
    piece->payload = slice_make(in.ptr + FRAME_HEAD, size);
    *used = size + FRAME_OVERHEAD;
    return 1;
}
