#include "base/frame.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

struct header {
    uint32_t len;
    uint16_t type;
    uint16_t flags;
    uint64_t id;
};

#define READ_SIZE (64 * 1024)

/* Set in the header of a frame that a descriptor came with. */
#define FLAG_FD 0x8000u

void frame_link_init(struct frame_link *link, int fd)
{
    *link = (struct frame_link){.fd = fd, .in = BUF_INIT, .out = BUF_INIT, .passed_fd = -1};
}

void frame_link_release(struct frame_link *link)
{
    if (link->fd >= 0)
        close(link->fd);
    if (link->passed_fd >= 0)
        close(link->passed_fd);
    buf_release(&link->in);
    buf_release(&link->out);
    frame_link_init(link, -1);
}

/* Drops the frame that was handed out last; its payload was borrowed until now. */
static void drop_taken(struct frame_link *link)
{
    buf_consume(&link->in, link->taken_len);
    link->taken_len = 0;
}

void frame_link_shrink(struct frame_link *link, size_t keep)
{
    drop_taken(link);
    if (link->in.len == 0 && link->in.cap > keep)
        buf_release(&link->in);
    if (link->out.len == 0 && link->out.cap > keep)
        buf_release(&link->out);
}

size_t frame_begin(struct frame_link *link, uint16_t type, uint16_t flags, uint64_t id)
{
    struct header h = {0, type, flags, id};
    size_t mark = link->out.len;

    buf_add(&link->out, &h, sizeof(h));
    return mark;
}

void frame_end(struct frame_link *link, size_t mark)
{
    uint32_t len;

    if (link->out.failed)
        return;
    if (link->out.len - mark - sizeof(struct header) > FRAME_MAX) {
        link->out.failed = true;
        return;
    }
    len = (uint32_t)(link->out.len - mark - sizeof(struct header));
    memcpy(link->out.mem + link->out.start + mark, &len, sizeof(len));
}

void frame_put(struct frame_link *link, uint16_t type, uint16_t flags, uint64_t id,
               struct slice payload)
{
    size_t mark = frame_begin(link, type, flags, id);

    buf_add(&link->out, payload.ptr, payload.len);
    frame_end(link, mark);
}

static enum frame_status peer_gone(int errnum, const char *doing, struct err *e)
{
    if (errnum == EPIPE || errnum == ECONNRESET)
        return FRAME_EOF;
    err_sys(e, ERR_BUG, errnum, "%s a link", doing);
    return FRAME_ERROR;
}

enum frame_status frame_flush(struct frame_link *link, struct err *e)
{
    if (link->out.failed) {
        err_nomem(e);
        return FRAME_ERROR;
    }
    while (link->out.len) {
        ssize_t n = send(link->fd, link->out.mem + link->out.start, link->out.len, MSG_NOSIGNAL);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
            return FRAME_EMPTY;
        if (n < 0)
            return peer_gone(errno, "writing to", e);
        buf_consume(&link->out, (size_t)n);
    }
    return FRAME_OK;
}

/* Keeps at most one passed descriptor: the protocol sends the next only with a later frame. */
static void keep_passed_fd(struct frame_link *link, struct msghdr *msg)
{
    struct cmsghdr *c = CMSG_FIRSTHDR(msg);

    if (!c || c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
        return;
    if (link->passed_fd >= 0)
        close(link->passed_fd);
    memcpy(&link->passed_fd, CMSG_DATA(c), sizeof(int));
}

/* Room for the rest of the frame that is arriving, so that a large one is read in few calls. What
 * has come of a small one leaves a little less, or the buffer would double for it. */
static size_t wanted(const struct frame_link *link)
{
    struct header h;
    size_t whole;

    if (link->in.len < sizeof(h))
        return READ_SIZE - link->in.len;
    memcpy(&h, link->in.mem + link->in.start, sizeof(h));
    whole = sizeof(h) + (h.len <= FRAME_MAX ? h.len : 0);
    if (whole <= READ_SIZE / 2 && link->in.len < READ_SIZE / 2)
        return READ_SIZE - link->in.len;
    return whole > link->in.len + READ_SIZE ? whole - link->in.len : READ_SIZE;
}

enum frame_status frame_fill(struct frame_link *link, struct err *e)
{
    char control[CMSG_SPACE(sizeof(int))];
    struct iovec iov;
    struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};
    ssize_t n;

    drop_taken(link);
    iov.iov_len = wanted(link);
    iov.iov_base = buf_reserve(&link->in, iov.iov_len);
    if (!iov.iov_base) {
        err_nomem(e);
        return FRAME_ERROR;
    }
    do {
        msg.msg_control = control;
        msg.msg_controllen = sizeof(control);
        n = recvmsg(link->fd, &msg, MSG_CMSG_CLOEXEC);
    } while (n < 0 && errno == EINTR);
    if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
        return FRAME_EMPTY;
    if (n < 0)
        return peer_gone(errno, "reading from", e);
    if (n == 0)
        return FRAME_EOF;
    keep_passed_fd(link, &msg);
    buf_commit(&link->in, (size_t)n);
    return FRAME_OK;
}

enum frame_status frame_take(struct frame_link *link, struct frame *out, struct err *e)
{
    struct header h;

    drop_taken(link);
    if (link->in.len < sizeof(h))
        return FRAME_EMPTY;
    memcpy(&h, link->in.mem + link->in.start, sizeof(h));
    if (h.len > FRAME_MAX) {
        err_set(e, ERR_BUG, "a frame of %u bytes is over the limit of %u", h.len, FRAME_MAX);
        return FRAME_ERROR;
    }
    if (link->in.len < sizeof(h) + h.len)
        return FRAME_EMPTY;
    *out = (struct frame){h.type, h.flags, h.id,
                          slice_make(link->in.mem + link->in.start + sizeof(h), h.len), -1};
    if (h.flags & FLAG_FD) {
        out->fd = link->passed_fd;
        link->passed_fd = -1;
        out->flags &= (uint16_t)~FLAG_FD;
    }
    link->taken_len = sizeof(h) + h.len;
    return FRAME_OK;
}

int frame_send_fd(struct frame_link *link, uint16_t type, uint64_t id, int fd, struct err *e)
{
    struct header h = {0, type, FLAG_FD, id};
    struct iovec iov = {&h, sizeof(h)};
    char control[CMSG_SPACE(sizeof(int))] = {0};
    struct msghdr msg = {.msg_iov = &iov,
                         .msg_iovlen = 1,
                         .msg_control = control,
                         .msg_controllen = sizeof(control)};
    struct cmsghdr *c = CMSG_FIRSTHDR(&msg);

    c->cmsg_level = SOL_SOCKET;
    c->cmsg_type = SCM_RIGHTS;
    c->cmsg_len = CMSG_LEN(sizeof(int));
    memcpy(CMSG_DATA(c), &fd, sizeof(int));
    /* 16 bytes go into a stream socket of this kind whole or not at all. */
    while (sendmsg(link->fd, &msg, MSG_NOSIGNAL) < 0) {
        if (errno == EAGAIN || errno == EWOULDBLOCK)
            return err_set(e, ERR_AGAIN, "the socket is full");
        if (errno != EINTR)
            return err_sys(e, ERR_RECONNECT, errno, "sending a descriptor");
    }
    return 0;
}
