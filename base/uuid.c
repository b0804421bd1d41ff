#include "base/uuid.h"

#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

static void refill(struct uuid_source *source)
{
    size_t have = 0;

    while (have < sizeof(source->pool)) {
        ssize_t n = getrandom(source->pool + have, sizeof(source->pool) - have, 0);

        /* getrandom without flags fails only for bad arguments or a signal; ids that repeat would
         * mix up jobs, so there is no way on without it. */
        if (n < 0)
            continue;
        have += (size_t)n;
    }
    source->left = sizeof(source->pool);
    source->pid = (int)getpid();
}

static const unsigned char *take(struct uuid_source *source, size_t n)
{
    if (source->left < n || source->pid != (int)getpid())
        refill(source);
    source->left -= n;
    return source->pool + source->left;
}

void uuid_next(struct uuid_source *source, char out[UUID_SIZE])
{
    static const char hex[] = "0123456789abcdef";
    unsigned char b[16];
    char *to = out;

    memcpy(b, take(source, sizeof(b)), sizeof(b));
    b[6] = (unsigned char)((b[6] & 0x0f) | 0x40);
    b[8] = (unsigned char)((b[8] & 0x3f) | 0x80);
    for (int i = 0; i < 16; i++) {
        if (i == 4 || i == 6 || i == 8 || i == 10)
            *to++ = '-';
        *to++ = hex[b[i] >> 4];
        *to++ = hex[b[i] & 15];
    }
    *to = '\0';
}

unsigned long long uuid_random(struct uuid_source *source)
{
    unsigned long long value;

    memcpy(&value, take(source, sizeof(value)), sizeof(value));
    return value;
}
