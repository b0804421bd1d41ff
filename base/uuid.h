/*
 * uuid.h - task ids (RFC 9562, version 4 or 7) as lower-case text.
 *
 * Model: randomness is fetched from the kernel in blocks and spent 16 bytes at a time, so that a
 * bulk producer makes one system call for many ids. Invariant: bytes are used once. Fork rule: a
 * source filled before fork would give parent and child the same ids; uuid_next compares the pid it
 * was filled under and refills, so forking is safe. That is a system call for each id: an owner
 * that must not be used behind a fork anyway begins with UUID_SOURCE_NEVER_FORKED. Threads: one
 * source per thread.
 */
#ifndef BASE_UUID_H
#define BASE_UUID_H

#include "base/slice.h"

#include <stddef.h>
#include <stdint.h>

#define UUID_SIZE 37 /* 36 characters and the NUL */

struct uuid_source {
    unsigned char pool[1024];
    size_t left; /* unspent bytes at the end of pool */
    int pid;
};

#define UUID_SOURCE_INIT                                                                           \
    {                                                                                              \
        {0}, 0, 0                                                                                  \
    }

#define UUID_NEVER_FORKED (-1)
#define UUID_SOURCE_NEVER_FORKED                                                                   \
    {                                                                                              \
        {0}, 0, UUID_NEVER_FORKED                                                                  \
    }

void uuid_next(struct uuid_source *source, char out[UUID_SIZE]);

/* A version 7 id: begins with that time (milliseconds since 1970), the rest is random. */
void uuid_next_at(struct uuid_source *source, int64_t ms, char out[UUID_SIZE]);

/* The time in a version 7 or 1 id, in milliseconds since 1970; -1 when it has none. */
int64_t uuid_time_ms(struct slice id);

/* 64 random bits of the same source, for jitter and tokens. */
unsigned long long uuid_random(struct uuid_source *source);

#endif
