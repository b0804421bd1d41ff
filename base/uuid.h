/*
 * uuid.h - random task ids (RFC 4122, version 4) as lower-case text.
 *
 * Model: randomness is fetched from the kernel in blocks and spent 16 bytes at a time, so that a
 * bulk producer makes one system call for many ids. Invariant: bytes are used once. Fork rule: a
 * source filled before fork would give parent and child the same ids; uuid_next compares the pid it
 * was filled under and refills, so forking is safe. Threads: one source per thread.
 */
#ifndef BASE_UUID_H
#define BASE_UUID_H

#include <stddef.h>

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

void uuid_next(struct uuid_source *source, char out[UUID_SIZE]);

/* 64 random bits of the same source, for jitter and tokens. */
unsigned long long uuid_random(struct uuid_source *source);

#endif
