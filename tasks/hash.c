/*
 * hash.c - hash.sha256: SHA-256 of a text, hashed again `rounds` times, as lower-case hex. One
 * round over a short text costs the same everywhere on one machine, so the number of rounds is a
 * dial for CPU time: the tests and benchmarks calibrate it. hash.sha256_file: that of a file's
 * bytes.
 */
#include "tasks/builtin.h"

#include <nettle/base16.h>
#include <nettle/sha2.h>

#include "tasks/file.h"

#define CANCEL_EVERY 4096

static void sha256(size_t len, const uint8_t *bytes, uint8_t digest[SHA256_DIGEST_SIZE])
{
    struct sha256_ctx ctx;

    sha256_init(&ctx);
    sha256_update(&ctx, len, bytes);
    sha256_digest(&ctx, SHA256_DIGEST_SIZE, digest);
}

static int answer(struct celeriac_call *call, const uint8_t digest[SHA256_DIGEST_SIZE])
{
    char hex[BASE16_ENCODE_LENGTH(SHA256_DIGEST_SIZE)];

    base16_encode_update(hex, SHA256_DIGEST_SIZE, digest);
    return celeriac_ok(call, json_stringn(hex, sizeof(hex)));
}

static int hash_sha256(struct celeriac_call *call)
{
    json_t *data = celeriac_arg(call, 0, "data");
    json_t *rounds = celeriac_arg(call, 1, "rounds");
    uint8_t digest[SHA256_DIGEST_SIZE];

    if (!json_is_string(data))
        return celeriac_fail(call, "TypeError", "data is not a string");
    if (!json_is_integer(rounds) || json_integer_value(rounds) < 1)
        return celeriac_fail(call, "ValueError", "rounds is not a whole number of at least 1");
    sha256(json_string_length(data), (const uint8_t *)json_string_value(data), digest);
    for (json_int_t i = 1; i < json_integer_value(rounds); i++) {
        if (i % CANCEL_EVERY == 0 && celeriac_cancelled(call))
            return -1;
        sha256(sizeof(digest), digest, digest);
    }
    return answer(call, digest);
}

static void take_block(void *user, const unsigned char *bytes, size_t len)
{
    sha256_update(user, len, bytes);
}

static int hash_sha256_file(struct celeriac_call *call)
{
    uint8_t digest[SHA256_DIGEST_SIZE];
    struct sha256_ctx ctx;
    int rc;

    sha256_init(&ctx);
    if (!file_read(call, take_block, &ctx, &rc))
        return rc;
    sha256_digest(&ctx, sizeof(digest), digest);
    return answer(call, digest);
}

static const struct celeriac_task rows[] = {
    {.size = sizeof(struct celeriac_task),
     .name = "hash.sha256",
     .params = "data, rounds=1",
     .run = hash_sha256},
    {.size = sizeof(struct celeriac_task),
     .name = "hash.sha256_file",
     .params = "path",
     .run = hash_sha256_file},
};

struct builtin_table hash_tasks(void)
{
    return BUILTIN_TABLE(rows);
}
