/*
 * frame.h - length-prefixed messages on a stream socket, with an optional descriptor.
 *
 * Purpose: the one place that knows about partial reads and writes between our processes.
 * Model: a frame is a 16-byte header (payload length, type, flags, id; native byte order, both ends
 * are the same binary) and a payload. A sender appends frames to an output buffer and flushes; a
 * receiver fills an input buffer and takes whole frames from it. Several frames travel in one
 * system call. Invariants: a payload longer than FRAME_MAX is an error on both sides, never an
 * allocation; end-of-file is reported once, as the death notice of the peer; after an error the
 * link is closed by its owner. A descriptor is sent at once, with a frame of its own
 * (frame_send_fd). Fork rule: a link belongs to one process; the other end's
 * descriptor is closed right after fork.
 */
#ifndef BASE_FRAME_H
#define BASE_FRAME_H

#include "base/buf.h"
#include "base/err.h"

#include <stdint.h>

#define FRAME_MAX (256u * 1024 * 1024)

struct frame {
    uint16_t type;
    uint16_t flags;
    uint64_t id;
    struct slice payload; /* borrowed from the link until the next frame_take or frame_fill */
    int fd;               /* -1, or a descriptor that came with it: taken by the receiver */
};

struct frame_link {
    int fd; /* owned */
    struct buf in;
    struct buf out;
    size_t taken_len; /* bytes of the frame handed out last, dropped at the next take */
    int passed_fd;    /* received and not yet handed out, or -1 */
};

enum frame_status { FRAME_OK, FRAME_EMPTY, FRAME_EOF, FRAME_ERROR };

/* fd: taken. Both directions; the descriptor's own blocking mode decides how fill and flush behave.
 */
void frame_link_init(struct frame_link *link, int fd);
void frame_link_release(struct frame_link *link);

/* Appends a frame to the output; payload copied. A failed allocation shows at flush. */
void frame_put(struct frame_link *link, uint16_t type, uint16_t flags, uint64_t id,
               struct slice payload);

/* For a payload built in place: begin, append to link->out, end. */
size_t frame_begin(struct frame_link *link, uint16_t type, uint16_t flags, uint64_t id);
void frame_end(struct frame_link *link, size_t mark);

/* Writes what is there. FRAME_OK: all out; FRAME_EMPTY: the socket is full, try when writable; EOF:
 * the peer is gone. */
enum frame_status frame_flush(struct frame_link *link, struct err *e);

/* Reads once. FRAME_OK: something arrived; FRAME_EMPTY: nothing now; EOF: the peer is gone. */
enum frame_status frame_fill(struct frame_link *link, struct err *e);

/* Hands out the next whole frame of the input, or FRAME_EMPTY. */
enum frame_status frame_take(struct frame_link *link, struct frame *out, struct err *e);

/* Sends one frame with a descriptor (borrowed) at once; the output must be empty. Never waits:
 * ERR_AGAIN when the socket is full, and nothing was sent. */
int frame_send_fd(struct frame_link *link, uint16_t type, uint64_t id, int fd, struct err *e);

/* Gives buffers of more than `keep` bytes back that hold nothing; ends what was borrowed of a
 * frame.
 */
void frame_link_shrink(struct frame_link *link, size_t keep);

static inline bool frame_pending(const struct frame_link *link)
{
    return link->out.len > 0;
}

#endif
