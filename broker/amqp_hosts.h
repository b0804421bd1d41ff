/*
 * amqp_hosts.h - when a host was last seen; for the claim ledger only.
 *
 * Model: a small map from host to the monotonic time of its last record. A host that is not in it
 * has been silent for longer than the lease, which is all that one wants to know of it: silent
 * hosts are dropped when room is needed. Invariant: at least one bucket is free. Fork rule: none.
 */
#ifndef BROKER_AMQP_HOSTS_H
#define BROKER_AMQP_HOSTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct amqp_host {
    uint64_t host;
    int64_t seen_ms;
    bool used;
};

struct amqp_hosts {
    struct amqp_host *buckets; /* owned */
    size_t mask;               /* buckets - 1; 0 before the first */
    size_t len;
    int64_t lease_ms;
};

void amqp_hosts_init(struct amqp_hosts *h, int64_t lease_ms);
void amqp_hosts_release(struct amqp_hosts *h);

/* -1: out of memory. */
int amqp_hosts_see(struct amqp_hosts *h, uint64_t host, int64_t now_ms);

/* When it is to be thought lost; INT64_MIN for one that is not known. */
int64_t amqp_hosts_lost_at(const struct amqp_hosts *h, uint64_t host);

#endif
