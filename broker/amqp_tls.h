/*
 * amqp_tls.h - TLS around a connected socket, so that the rest sees a plain descriptor.
 *
 * Purpose: librabbitmq can do TLS only with its own blocking calls, and the link wants one
 * descriptor to poll and to send on. So OpenSSL is ours: the handshake happens in the dial thread,
 * then a relay thread moves bytes between the TLS socket and one end of a socket pair; the other
 * end is what the caller gets.
 * Model: the relay holds at most one buffer (TLS_BUFFER) per direction; when one side takes no
 * more, the other is not read, so a stopped server shows as a full socket exactly as without TLS.
 * End of one side: what is on the way to the other is still written (for at most TLS_LINGER_MS),
 * then both are closed and the thread ends. Certificates are verified, and the name in them, unless
 * the address says verify_none. Fork rule: start after fork; the thread owns its things alone.
 */
#ifndef BROKER_AMQP_TLS_H
#define BROKER_AMQP_TLS_H

#include "broker/amqp_address.h"

#include <stdint.h>

#define TLS_BUFFER    (64u << 10)
#define TLS_LINGER_MS 5000

/* fd: connected, non-blocking; taken, also on error. deadline_ms is of clock_system(). The plain
 * descriptor, non-blocking, or -1. ERR_OPERATOR for a certificate that is not good and for files
 * that can not be read. */
int tls_wrap(int fd, const struct amqp_address *a, const char *host, const char *shown,
             int64_t deadline_ms, struct err *e);

#endif
