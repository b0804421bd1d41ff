/*
 * backoff.h - how long to wait before the next try; pure.
 *
 * Formula (as Celery's get_exponential_backoff_interval): min(max, base * 2^tries); with full
 * jitter a uniform choice in [0, that].
 * https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/ explains why full. Fork
 * rule: none; randomness is the caller's.
 */
#ifndef BROKER_BACKOFF_H
#define BROKER_BACKOFF_H

#include <stdint.h>

/* Milliseconds. tries counts from 0. random: any 64 bits, or 0 for no jitter. Never overflows; at
 * least 0. */
int64_t backoff_ms(int64_t base_ms, int64_t max_ms, unsigned tries, uint64_t random);

#endif
