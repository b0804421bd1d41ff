#include "base/uuid.h"

#include <stdbool.h>
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
    if (source->pid != UUID_NEVER_FORKED)
        source->pid = (int)getpid();
}

static bool is_used_up(const struct uuid_source *source, size_t n)
{
    if (source->left < n)
        return true;
    return source->pid != UUID_NEVER_FORKED && source->pid != (int)getpid();
}

static const unsigned char *take(struct uuid_source *source, size_t n)
{
    if (is_used_up(source, n))
        refill(source);
    source->left -= n;
    return source->pool + source->left;
}

static void write_id(unsigned char b[16], int version, char out[UUID_SIZE])
{
    static const char hex[] = "0123456789abcdef";
    char *to = out;

    b[6] = (unsigned char)((b[6] & 0x0f) | version << 4);
    b[8] = (unsigned char)((b[8] & 0x3f) | 0x80);
    for (int i = 0; i < 16; i++) {
        if (i == 4 || i == 6 || i == 8 || i == 10)
            *to++ = '-';
        *to++ = hex[b[i] >> 4];
        *to++ = hex[b[i] & 15];
    }
    *to = '\0';
}

void uuid_next(struct uuid_source *source, char out[UUID_SIZE])
{
    unsigned char b[16];

    memcpy(b, take(source, sizeof(b)), sizeof(b));
    write_id(b, 4, out);
}

void uuid_next_at(struct uuid_source *source, int64_t ms, char out[UUID_SIZE])
{
    unsigned char b[16];

    for (int i = 0; i < 6; i++)
        b[i] = (unsigned char)(ms >> (40 - 8 * i));
    memcpy(b + 6, take(source, 10), 10);
    write_id(b, 7, out);
}

static int digit_of(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* The first 64 bits, which hold times; false: not an id of that form. */
static bool first_half(struct slice id, uint64_t *out)
{
    *out = 0;
    if (id.len != UUID_SIZE - 1)
        return false;
    for (size_t i = 0; i < id.len; i++) {
        bool dash = i == 8 || i == 13 || i == 18 || i == 23;
        int digit = digit_of(id.ptr[i]);

        if (dash ? id.ptr[i] != '-' : digit < 0)
            return false;
        if (!dash && i < 18)
            *out = *out << 4 | (uint64_t)digit;
    }
    return true;
}

int64_t uuid_time_ms(struct slice id)
{
    /* Version 1 counts 100 ns since the Gregorian calendar began. */
    const uint64_t gregorian = 122192928000000000u;
    uint64_t bits, ticks;

    if (!first_half(id, &bits))
        return -1;
    if (id.ptr[14] == '7')
        return (int64_t)(bits >> 16);
    if (id.ptr[14] != '1')
        return -1;
    ticks = (bits & 0xfff) << 48 | (bits >> 16 & 0xffff) << 32 | bits >> 32;
    return ticks < gregorian ? -1 : (int64_t)((ticks - gregorian) / 10000);
}

unsigned long long uuid_random(struct uuid_source *source)
{
    unsigned long long value;

    memcpy(&value, take(source, sizeof(value)), sizeof(value));
    return value;
}
