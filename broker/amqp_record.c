#include "broker/amqp_record.h"

#include <endian.h>
#include <string.h>
#include <xxhash.h>

/* Writes and reads fields one behind the other; the caller has checked that they fit. */
static void put(unsigned char **at, const void *value, size_t len)
{
    memcpy(*at, value, len);
    *at += len;
}

static void put16(unsigned char **at, uint16_t value)
{
    put(at, &(uint16_t){htole16(value)}, sizeof(value));
}

static void put32(unsigned char **at, uint32_t value)
{
    put(at, &(uint32_t){htole32(value)}, sizeof(value));
}

static void put64(unsigned char **at, uint64_t value)
{
    put(at, &(uint64_t){htole64(value)}, sizeof(value));
}

static void get(const unsigned char **at, void *value, size_t len)
{
    memcpy(value, *at, len);
    *at += len;
}

static uint16_t get16(const unsigned char **at)
{
    uint16_t value;

    get(at, &value, sizeof(value));
    return le16toh(value);
}

static uint32_t get32(const unsigned char **at)
{
    uint32_t value;

    get(at, &value, sizeof(value));
    return le32toh(value);
}

static uint64_t get64(const unsigned char **at)
{
    uint64_t value;

    get(at, &value, sizeof(value));
    return le64toh(value);
}

struct amqp_key amqp_key_of(struct slice text)
{
    struct amqp_key key;
    XXH128_canonical_t canonical;

    XXH128_canonicalFromHash(&canonical, XXH3_128bits(text.ptr, text.len));
    memcpy(key.bytes, canonical.digest, sizeof(key.bytes));
    return key;
}

/* Room for a record, or NULL with out->failed. */
static unsigned char *begin_record(struct buf *out, size_t head, struct slice id, struct slice doc)
{
    char *at = NULL;

    if (id.len <= AMQP_RECORD_ID_MAX && doc.len <= UINT32_MAX)
        at = buf_reserve(out, head + id.len + doc.len);
    if (!at) {
        out->failed = true;
        return NULL;
    }
    buf_commit(out, head + id.len + doc.len);
    return (unsigned char *)at;
}

static void put_texts(unsigned char **at, struct slice id, struct slice doc)
{
    if (id.len)
        put(at, id.ptr, id.len);
    if (doc.len)
        put(at, doc.ptr, doc.len);
}

void amqp_claim_write(struct buf *out, const struct amqp_claim_record *r)
{
    unsigned char *at = begin_record(out, AMQP_CLAIM_HEAD, r->id, r->doc);

    if (!at)
        return;
    put(&at, (unsigned char[]){AMQP_RECORD_VERSION, (unsigned char)r->kind}, 2);
    put16(&at, (uint16_t)r->id.len);
    put32(&at, (uint32_t)r->doc.len);
    put64(&at, (uint64_t)(r->kind == AMQP_CLAIM ? r->until_ms : r->window_ms));
    put64(&at, (uint64_t)r->prev);
    put64(&at, (uint64_t)r->now_ms);
    put64(&at, r->host);
    put64(&at, r->nonce);
    put(&at, r->key.bytes, sizeof(r->key.bytes));
    put_texts(&at, r->id, r->doc);
}

void amqp_result_write(struct buf *out, const struct amqp_result_record *r)
{
    unsigned char *at = begin_record(out, AMQP_RESULT_HEAD, r->id, r->doc);

    if (!at)
        return;
    put(&at, (unsigned char[]){AMQP_RECORD_VERSION, (unsigned char)r->outcome}, 2);
    put16(&at, r->flags);
    put32(&at, r->retries);
    put64(&at, (uint64_t)r->now_ms);
    put64(&at, r->host);
    put64(&at, r->nonce);
    put16(&at, (uint16_t)r->id.len);
    put16(&at, 0);
    put32(&at, (uint32_t)r->doc.len);
    put32(&at, r->count);
    put32(&at, 0);
    put64(&at, (uint64_t)r->expires_ms);
    put_texts(&at, r->id, r->doc);
}

static bool is_time(int64_t ms)
{
    return ms >= 0 && ms <= AMQP_RECORD_STAMP_MAX;
}

/* The texts behind the head, which must fill the rest of the record to the byte. */
static bool get_texts(struct slice rest, size_t id_len, size_t doc_len, struct slice *id,
                      struct slice *doc)
{
    if (id_len > AMQP_RECORD_ID_MAX || id_len > rest.len || rest.len - id_len != doc_len)
        return false;
    *id = slice_make(rest.ptr, id_len);
    *doc = doc_len ? slice_make(rest.ptr + id_len, doc_len) : slice_make(NULL, 0);
    return true;
}

/* What kinds of ledger records must hold. */
static bool is_claim(const struct amqp_claim_record *r)
{
    bool needs_owner = r->kind == AMQP_CLAIM_HELD || r->kind == AMQP_CLAIM_DONE ||
                       r->kind == AMQP_CLAIM_KEEP || r->kind == AMQP_CLAIM_RELEASE;

    return r->kind >= AMQP_CLAIM && r->kind <= AMQP_CLAIM_SYNC && is_time(r->now_ms) &&
           is_time(r->window_ms) && r->prev >= (needs_owner ? 0 : AMQP_RECORD_NONE) &&
           (r->kind != AMQP_CLAIM || (r->prev == AMQP_RECORD_NONE) == (r->until_ms == 0));
}

bool amqp_claim_read(struct amqp_claim_record *r, struct slice bytes)
{
    const unsigned char *at = (const unsigned char *)bytes.ptr;
    uint16_t id_len;
    uint32_t doc_len;

    if (bytes.len < AMQP_CLAIM_HEAD || at[0] != AMQP_RECORD_VERSION)
        return false;
    r->kind = (enum amqp_claim_kind)at[1];
    at += 2;
    id_len = get16(&at);
    doc_len = get32(&at);
    r->window_ms = r->until_ms = (int64_t)get64(&at);
    r->prev = (int64_t)get64(&at);
    r->now_ms = (int64_t)get64(&at);
    r->host = get64(&at);
    r->nonce = get64(&at);
    get(&at, r->key.bytes, sizeof(r->key.bytes));
    return is_claim(r) &&
           get_texts(slice_make(at, bytes.len - AMQP_CLAIM_HEAD), id_len, doc_len, &r->id, &r->doc);
}

bool amqp_result_read(struct amqp_result_record *r, struct slice bytes)
{
    const unsigned char *at = (const unsigned char *)bytes.ptr;
    uint16_t id_len;
    uint32_t doc_len;

    if (bytes.len < AMQP_RESULT_HEAD || at[0] != AMQP_RECORD_VERSION)
        return false;
    r->outcome = (enum amqp_result_outcome)at[1];
    at += 2;
    r->flags = get16(&at);
    r->retries = get32(&at);
    r->now_ms = (int64_t)get64(&at);
    r->host = get64(&at);
    r->nonce = get64(&at);
    id_len = get16(&at);
    at += 2;
    doc_len = get32(&at);
    r->count = get32(&at);
    at += 4;
    r->expires_ms = (int64_t)get64(&at);
    return r->outcome >= AMQP_RESULT_SUCCEEDED && r->outcome <= AMQP_RESULT_SYNC &&
           is_time(r->now_ms) &&
           get_texts(slice_make(at, bytes.len - AMQP_RESULT_HEAD), id_len, doc_len, &r->id,
                     &r->doc);
}
