#include "broker/amqp_hosts.h"

#include <stdlib.h>

#define BUCKETS_MIN 16

void amqp_hosts_init(struct amqp_hosts *h, int64_t lease_ms)
{
    *h = (struct amqp_hosts){.lease_ms = lease_ms};
}

void amqp_hosts_release(struct amqp_hosts *h)
{
    free(h->buckets);
    amqp_hosts_init(h, h->lease_ms);
}

/* The bucket of the host, or the free one where it would go. */
static struct amqp_host *bucket_of(struct amqp_host *buckets, size_t mask, uint64_t host)
{
    size_t i = (size_t)(host * 0x9e3779b97f4a7c15u >> 32) & mask;

    while (buckets[i].used && buckets[i].host != host)
        i = (i + 1) & mask;
    return &buckets[i];
}

static bool is_silent(const struct amqp_hosts *h, const struct amqp_host *host, int64_t now_ms)
{
    return host->seen_ms + h->lease_ms < now_ms;
}

/* Moves to a table twice as large as what is not silent needs. */
static int rebuild(struct amqp_hosts *h, int64_t now_ms)
{
    size_t old = h->buckets ? h->mask + 1 : 0, alive = 0, buckets = BUCKETS_MIN;
    struct amqp_host *fresh;

    for (size_t i = 0; i < old; i++)
        alive += h->buckets[i].used && !is_silent(h, &h->buckets[i], now_ms);
    while (buckets < 4 * alive)
        buckets *= 2;
    fresh = calloc(buckets, sizeof(*fresh));
    if (!fresh)
        return -1;
    for (size_t i = 0; i < old; i++)
        if (h->buckets[i].used && !is_silent(h, &h->buckets[i], now_ms))
            *bucket_of(fresh, buckets - 1, h->buckets[i].host) = h->buckets[i];
    free(h->buckets);
    h->buckets = fresh;
    h->mask = buckets - 1;
    h->len = alive;
    return 0;
}

int amqp_hosts_see(struct amqp_hosts *h, uint64_t host, int64_t now_ms)
{
    struct amqp_host *bucket = h->buckets ? bucket_of(h->buckets, h->mask, host) : NULL;

    if (!bucket || (!bucket->used && 2 * (h->len + 1) > h->mask)) {
        if (rebuild(h, now_ms) != 0)
            return -1;
        bucket = bucket_of(h->buckets, h->mask, host);
    }
    h->len += !bucket->used;
    *bucket = (struct amqp_host){host, now_ms, true};
    return 0;
}

int64_t amqp_hosts_lost_at(const struct amqp_hosts *h, uint64_t host)
{
    const struct amqp_host *bucket = h->buckets ? bucket_of(h->buckets, h->mask, host) : NULL;

    return bucket && bucket->used ? bucket->seen_ms + h->lease_ms : INT64_MIN;
}
