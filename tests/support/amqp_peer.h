/*
 * amqp_peer.h - the server's end of a link, played by the test.
 *
 * Model: a socket pair. What a server says at a login is written before the client begins, so no
 * thread is needed; then the test says frames (peer_say and the like append to out, peer_turn sends
 * them and pumps the link) and looks at those that the link sent. The clock is in the test's hand.
 * Fork rule: one process uses it.
 */
#ifndef TESTS_AMQP_PEER_H
#define TESTS_AMQP_PEER_H

#include "broker/amqp_frames.h"
#include "tests/support/amqp_case.h"

#define PEER_FRAME_MAX 131072
#define PEER_HEARTBEAT 10

struct peer {
    struct amqp_case seen;
    struct clock_fake clock;
    int fd;         /* the server's end */
    struct buf in;  /* what the link sent */
    struct buf out; /* to be sent */
};

void peer_say(struct peer *p, int channel, amqp_method_number_t id, const void *decoded);
void peer_frame(struct peer *p, int type, int channel, const void *payload, size_t len);
/* The header of a message on channel 1: its size and encoded properties. */
void peer_header(struct peer *p, uint64_t size, const void *properties, size_t len);
void peer_deliver(struct peer *p, uint64_t tag);
void peer_message(struct peer *p, uint64_t tag, const char *body);
void peer_flush(struct peer *p);
void peer_turn(struct peer *p);

/* The next frame that the link sent, its payload copied; false when there is none. */
bool peer_heard(struct peer *p, struct amqp_piece *piece, char *payload, size_t size);
void peer_expect(struct peer *p, int channel, amqp_method_number_t id);
void peer_expect_nothing(struct peer *p);

/* Appends what a server says at a login, all at once: the library reads it as it goes. */
void peer_login(struct peer *p);
/* Logs in and starts the link; what is in out behind the login comes right after it. */
int peer_open_with_rest(struct peer *p, struct err *e);
/* A link with channel 1 open. */
void peer_open(struct peer *p);
void peer_close(struct peer *p);

#endif
