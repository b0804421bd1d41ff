#include "broker/base64.h"

#ifdef __SSE2__
#include <emmintrin.h>
#endif
#include <endian.h>
#include <nettle/base64.h>
#include <stdbool.h>
#include <stdint.h>

/* --- to text --- */

#ifdef __SSE2__
/* The first six of eight bytes as eight numbers of six bits, one a byte, in order. */
static uint64_t spread(const uint8_t *bytes)
{
    uint64_t v;

    memcpy(&v, bytes, sizeof(v));
    v = be64toh(v) >> 16;
    v = (v & 0xffffff000000) << 8 | (v & 0xffffff);
    v = (v & 0x00fff00000fff000) << 4 | (v & 0x00000fff00000fff);
    v = (v & 0x0fc00fc00fc00fc0) << 2 | (v & 0x003f003f003f003f);
    return htobe64(v);
}

/* What is above the limit gets `more` added. */
static __m128i raise(__m128i letters, __m128i numbers, char limit, char more)
{
    __m128i above = _mm_cmpgt_epi8(numbers, _mm_set1_epi8(limit));

    return _mm_add_epi8(letters, _mm_and_si128(above, _mm_set1_epi8(more)));
}

/* Sixteen numbers to letters: A-Z, a-z, 0-9, +, / follow each other in five runs. */
static __m128i letters_of(__m128i numbers)
{
    __m128i letters = _mm_add_epi8(numbers, _mm_set1_epi8('A'));

    letters = raise(letters, numbers, 25, 'a' - 'Z' - 1);
    letters = raise(letters, numbers, 51, '0' - 'z' - 1);
    letters = raise(letters, numbers, 61, '+' - '9' - 1);
    return raise(letters, numbers, 62, '/' - '+' - 1);
}

/* As many times twelve bytes as can be read by sixteen; how many bytes that were. */
static size_t encode_twelves(char *to, const uint8_t *bytes, size_t n)
{
    size_t i = 0;

    for (; n - i >= 16; i += 12, to += 16) {
        __m128i numbers =
            _mm_set_epi64x((int64_t)spread(bytes + i + 6), (int64_t)spread(bytes + i));

        _mm_storeu_si128((__m128i_u *)(void *)to, letters_of(numbers));
    }
    return i;
}
#else
static size_t encode_twelves(char *to, const uint8_t *bytes, size_t n)
{
    (void)to;
    (void)bytes;
    (void)n;
    return 0;
}
#endif

void base64_put(struct buf *out, struct slice bytes)
{
    const uint8_t *from = (const uint8_t *)bytes.ptr;
    size_t len = BASE64_ENCODE_RAW_LENGTH(bytes.len), done;
    char *to = buf_reserve(out, len);

    if (!to || !bytes.len)
        return;
    done = encode_twelves(to, from, bytes.len);
    base64_encode_raw(to + done / 3 * 4, bytes.len - done, from + done);
    buf_commit(out, len);
}

/* --- from text --- */

static int letter_of(char c)
{
    static const signed char values[] = {
        62, -1, -1, -1, 63, 52, 53, 54, 55, 56, 57, 58, 59, 60, 61, -1, -1, -1, -1, -1,
        -1, -1, 0,  1,  2,  3,  4,  5,  6,  7,  8,  9,  10, 11, 12, 13, 14, 15, 16, 17,
        18, 19, 20, 21, 22, 23, 24, 25, -1, -1, -1, -1, -1, -1, 26, 27, 28, 29, 30, 31,
        32, 33, 34, 35, 36, 37, 38, 39, 40, 41, 42, 43, 44, 45, 46, 47, 48, 49, 50, 51,
    };

    return c >= '+' && c <= 'z' ? values[c - '+'] : -1;
}

/* Four letters are three bytes; false when they are not all letters. */
static bool decode_four(uint8_t *to, const char *text)
{
    int a = letter_of(text[0]), b = letter_of(text[1]);
    int c = letter_of(text[2]), d = letter_of(text[3]);

    if ((a | b | c | d) < 0)
        return false;
    to[0] = (uint8_t)(a << 2 | b >> 4);
    to[1] = (uint8_t)(b << 4 | c >> 2);
    to[2] = (uint8_t)(c << 6 | d);
    return true;
}

/* The four letters at the end, of which one or two are padding: how many bytes, or 0. */
static size_t decode_end(uint8_t *to, const char *text)
{
    char last[] = {text[0], text[1], text[2] == '=' ? 'A' : text[2], 'A'};
    size_t n = text[2] == '=' ? 1 : 2;
    uint8_t bytes[3];

    if (text[3] != '=' || !decode_four(bytes, last) || bytes[n])
        return 0;
    memcpy(to, bytes, n);
    return n;
}

/* Nettle takes 27 instructions for a letter, and it and OpenSSL, which takes padding anywhere, 50
 * to 90 KB of a runner's memory. So what is just letters and padding is decoded here, and nettle
 * judges the rest. Returns how many letters were read; *len gets the bytes. */
static size_t decode_letters(uint8_t *to, struct slice text, size_t *len)
{
    size_t at = 0, n = 0;

    while (text.len - at >= 4 && decode_four(to + n, text.ptr + at)) {
        at += 4;
        n += 3;
    }
    *len = n;
    if (text.len - at != 4)
        return at;
    n = decode_end(to + n, text.ptr + at);
    *len += n;
    return n ? text.len : at;
}

int base64_get(struct buf *out, struct slice text, struct err *e)
{
    struct base64_decode_ctx ctx;
    uint8_t *to = (uint8_t *)buf_reserve(out, BASE64_DECODE_LENGTH(text.len) + 1);
    size_t read, len, rest;

    if (!to)
        return err_nomem(e);
    read = decode_letters(to, text, &len);
    if (read < text.len) {
        rest = BASE64_DECODE_LENGTH(text.len - read);
        base64_decode_init(&ctx);
        if (!base64_decode_update(&ctx, &rest, to + len, text.len - read, text.ptr + read) ||
            !base64_decode_final(&ctx))
            return err_set(e, ERR_DEADLETTER, "the body is not base64");
        len += rest;
    }
    buf_commit(out, len);
    return 0;
}
