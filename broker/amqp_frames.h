/*
 * amqp_frames.h - AMQP frames as bytes, out and in.
 *
 * Purpose: the one place that knows the seven bytes in front of a payload and the one behind it.
 * Model: writers append whole frames to a buffer, librabbitmq encoding what is inside; when one
 * fails the buffer is as before, so a half-written frame can not exist. frames_split finds the
 * first frame of what was read; its payload stays where it is. Invariants: no frame is longer than
 * frame_max, in either direction. Fork rule: none.
 */
#ifndef BROKER_AMQP_FRAMES_H
#define BROKER_AMQP_FRAMES_H

#include "base/buf.h"
#include "base/err.h"
#include "broker/amqp_lib.h"

#include <stdint.h>

#define FRAME_OVERHEAD 8

struct amqp_piece {
    int type; /* AMQP_FRAME_METHOD, _HEADER, _BODY, _HEARTBEAT or what the server thinks of */
    int channel;
    struct slice payload; /* borrowed */
};

int frames_add_method(struct buf *out, uint32_t frame_max, int channel, amqp_method_number_t id,
                      const void *decoded, struct err *e);
/* basic.publish, header and as many body frames as are needed. */
int frames_add_message(struct buf *out, uint32_t frame_max, int channel,
                       const amqp_basic_publish_t *publish,
                       const amqp_basic_properties_t *properties, struct slice body, struct err *e);
int frames_add_heartbeat(struct buf *out, struct err *e);

/* 1: *piece is the first frame and *used its length; 0: not complete yet; -1: not AMQP. */
int frames_split(struct slice in, uint32_t frame_max, struct amqp_piece *piece, size_t *used,
                 struct err *e);

static inline uint32_t frames_u16(const char *p)
{
    return (uint32_t)(unsigned char)p[0] << 8 | (unsigned char)p[1];
}

static inline uint32_t frames_u32(const char *p)
{
    return frames_u16(p) << 16 | frames_u16(p + 2);
}

static inline uint64_t frames_u64(const char *p)
{
    return (uint64_t)frames_u32(p) << 32 | frames_u32(p + 4);
}

#endif
