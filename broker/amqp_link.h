/*
 * amqp_link.h - one live AMQP 0-9-1 connection that never blocks its process.
 *
 * Purpose: everything between "the login succeeded" (amqp_dial.h) and "a message arrived": frames
 * out, frames in, channels, remote calls, publisher confirms, heartbeats. It knows AMQP, not jobs.
 *
 * Model: librabbitmq encodes and decodes; the bytes are sent and received by us. A method or a
 * message is appended to the output buffer as frames and sent with MSG_DONTWAIT when the link is
 * pumped; nothing ever waits for the socket, because librabbitmq 0.11's own publish can wait for
 * ever (a zero timeout that means "infinite", fixed in 0.14). Its readers keep what they read ahead
 * where poll does not see it, queue frames behind the answer to a call, and decode headers by
 * recursion before one can look at them: so what the login left in the library is drained from it
 * until it reports a timeout, once, and from then on the bytes are read here and only single
 * methods and properties are given to it, after a look (amqp_assembly.h). The library's own
 * heartbeats are off (they are sent with its blocking send); the link sends one whenever nothing
 * was written for half the interval and gives the connection up when nothing was read for two
 * intervals.
 *
 * A remote call (declare, bind, qos, consume, get, cancel, ...) is written at once and answered
 * later by its callback, in order per channel; calls may follow each other without waiting for
 * answers. When the server closes the channel, every outstanding call of it fails, the owner's
 * on_channel_closed is called, and the channel can be opened again (as early as in those
 * callbacks). When the connection ends, every call fails, then on_down is called once; the link is
 * then dead and can only be closed. Callbacks run inside link_pump only, never inside a function
 * that submits; they may submit, but neither pump nor close the link. One link_pump reads a bounded
 * number of messages; when more are there, link_deadline is now. A message over LINK_BODY_MAX ends
 * the connection.
 *
 * Flow: link_backlog tells how many bytes wait. During connection.blocked (a memory or disk alarm)
 * the server reads nothing: bytes are kept and go out when it is lifted. A broker that stopped
 * altogether shows as missing heartbeats. TCP_USER_TIMEOUT is the last resort.
 *
 * Confirms: after link_confirm_select every published message gets a sequence number (1, 2, ...
 * per channel and opening of it); on_confirm is told each number exactly once, multiple acks spread
 * out, with whether the server took it; what is open when the channel or the connection ends is not
 * told. A mandatory message without a queue is told by on_returned before its confirm (found again
 * by exchange, routing key, message id, correlation id and length: AMQP tells no number).
 *
 * Ownership: bytes and tables are copied at submit. What a callback gets is borrowed for its
 * duration. Fork rule: made after fork, one process, one thread (dialing has its own thread, which
 * is gone when the link starts).
 */
#ifndef BROKER_AMQP_LINK_H
#define BROKER_AMQP_LINK_H

#include "base/clock.h"
#include "base/err.h"
#include "base/log.h"
#include "base/slice.h"
#include "broker/amqp_lib.h"

#include <poll.h>
#include <stdbool.h>
#include <stdint.h>

struct amqp_link;

/* RabbitMQ's own limit for max_message_size: it never has a longer one, so no message can end a
 * connection again and again. What is too long for a job is buried by who reads it. */
#define LINK_BODY_MAX ((uint64_t)512 << 20)

/* A message that came: by basic.deliver, basic.get-ok or basic.return. */
struct amqp_incoming {
    int channel;
    struct slice consumer_tag; /* deliver only */
    uint64_t delivery_tag;
    bool redelivered;
    struct slice exchange;
    struct slice routing_key;
    const amqp_basic_properties_t *properties;
    struct slice body;
    bool malformed;      /* headers too deep or broken: properties is then an empty set */
    struct slice unread; /* of a malformed one: its properties as they came */
    uint32_t left;       /* get-ok only: messages left in the queue */
    int reply_code;      /* return only: 312 no route, 313 no consumers */
    struct slice reply;  /* return only: the server's text */
};

/* The answer to a call. method is the reply (amqp_queue_declare_ok_t, ...) or NULL when it failed,
 * and why then says so: ERR_RECONNECT the connection is gone, ERR_NOTFOUND 404, ERR_OPERATOR 403
 * and 530, ERR_REFUSED 405, 406 and the like, ERR_AGAIN the channel was closed for something else.
 * code is the server's reply code when it was this very call that the server did not like (also
 * when that ended the connection, as 540 and 530 do), else 0. message is set for basic.get with
 * get-ok. */
struct amqp_answer {
    const amqp_method_t *method;
    const struct amqp_incoming *message;
    int code;
    const struct err *why;
};
typedef void amqp_answered_fn(void *owner, void *context, uint64_t number,
                              const struct amqp_answer *answer);

struct amqp_link_events {
    void (*on_delivered)(void *owner, struct amqp_link *l, const struct amqp_incoming *in);
    void (*on_returned)(void *owner, struct amqp_link *l, const struct amqp_incoming *in,
                        uint64_t sequence); /* 0: not known */
    void (*on_confirm)(void *owner, struct amqp_link *l, int channel, uint64_t sequence, bool ok);
    void (*on_cancelled)(void *owner, struct amqp_link *l, int channel,
                         struct slice consumer_tag); /* the queue was deleted */
    void (*on_blocked)(void *owner, struct amqp_link *l, bool blocked, struct slice reason);
    void (*on_channel_closed)(void *owner, struct amqp_link *l, int channel, int code,
                              const struct err *why);
    void (*on_down)(void *owner, struct amqp_link *l, const struct err *why);
};

/* Takes a logged-in connection. name is for logs ("consume", "publish", "ledger"). heartbeat_s as
 * agreed at login (0: none). NULL on error, the connection is then closed. */
struct amqp_link *link_start(amqp_connection_state_t taken, int heartbeat_s, const char *name,
                             void *owner, const struct amqp_link_events *events,
                             const struct clock *clock, const struct log *log, struct err *e);

/* True when the server may still have to read an acknowledgement of ours. RabbitMQ ends the
 * channels of a connection whose socket is closed before they have read everything, also when a
 * connection.close was the last of it: the message would come back. */
bool link_owes(const struct amqp_link *l);
/* Sends connection.close behind all that waits. Nothing can be submitted any more and no callback
 * is called; once link_pump has seen the answer (or the end), link_is_up is false. */
void link_leave(struct amqp_link *l);

/* Closes at once: sends connection.close if it can without waiting, frees. No callback is called.
 * NULL is a no-op. */
void link_close(struct amqp_link *l);

bool link_is_up(const struct amqp_link *l);
bool link_is_blocked(const struct amqp_link *l);
size_t link_backlog(const struct amqp_link *l);
uint32_t link_frame_max(const struct amqp_link *l);
/* A text of the server's properties ("product", "version", "cluster_name"), "true" or "false" for
 * one of its capabilities ("capabilities.consumer_cancel_notify"), or "". */
const char *link_server(const struct amqp_link *l, const char *property);

void link_poll_wants(const struct amqp_link *l, struct pollfd *fd);
int64_t link_deadline(const struct amqp_link *l);
/* Sends, receives, calls back, keeps the heartbeat. Also after a call that only submitted, to send
 * soon (many submits, one send). */
void link_pump(struct amqp_link *l);
/* The same without reading: the caller knows that the descriptor is not ready. What was read before
 * and not yet looked at is looked at. */
void link_pump_unread(struct amqp_link *l);
/* Sends what waits, without reading. */
void link_flush(struct amqp_link *l);

/* Channels are small numbers from 1 chosen by the owner. Everything below is -1 with an error when
 * the link is down (ERR_RECONNECT), the channel is not open (ERR_REFUSED), something does not fit a
 * frame (ERR_DEADLETTER), or when out of memory; nothing was then written. A channel can be used as
 * soon as its opening was written. */
int link_open_channel(struct amqp_link *l, int channel, struct err *e);
/* Writes any synchronous method (amqp_queue_declare_t with AMQP_QUEUE_DECLARE_METHOD, ...), without
 * nowait; its reply brings the callback. context and number come back in it. answered may be NULL:
 * nobody asks. */
int link_call(struct amqp_link *l, int channel, amqp_method_number_t id, const void *decoded,
              amqp_answered_fn *answered, void *context, uint64_t number, struct err *e);
/* Writes a method that has no reply (basic.ack, basic.nack, basic.reject, or one with nowait). */
int link_tell(struct amqp_link *l, int channel, amqp_method_number_t id, const void *decoded,
              struct err *e);
int link_confirm_select(struct amqp_link *l, int channel, struct err *e);
/* sequence is the number that on_confirm will tell; 0 without confirm_select. */
int link_publish(struct amqp_link *l, int channel, struct slice exchange, struct slice routing_key,
                 bool mandatory, const amqp_basic_properties_t *properties, struct slice body,
                 uint64_t *sequence, struct err *e);
int link_ack(struct amqp_link *l, int channel, uint64_t delivery_tag, bool multiple, struct err *e);

/* bytes of a slice as the library's, and back; borrowed. */
static inline amqp_bytes_t amqp_bytes_of(struct slice s)
{
    return (amqp_bytes_t){.len = s.len, .bytes = (void *)s.ptr};
}

#endif
