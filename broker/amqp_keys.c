#include "broker/amqp_keys.h"

#include "base/analyzer.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#define PAGE_LEN  1024u
#define INDEX_MIN 256

/* The tag is the low part of the key's hash: it gives the bucket that the key would like, and tells
 * most strangers apart without a look at their entries. */
struct amqp_keys_bucket {
    uint32_t slot; /* 0: empty */
    uint32_t tag;
};

void amqp_keys_init(struct amqp_keys *t, size_t docs_max, int64_t slack_ms)
{
    *t = (struct amqp_keys){.docs_max = docs_max, .slack_ms = slack_ms, .unused = 1};
}

struct amqp_entry *amqp_keys_at(const struct amqp_keys *t, uint32_t slot)
{
    return &t->pages[slot / PAGE_LEN][slot % PAGE_LEN];
}

/* --- documents --- */

static void drop_doc(struct amqp_keys *t, struct amqp_doc *doc)
{
    *(doc->older ? &doc->older->newer : &t->oldest_doc) = doc->newer;
    *(doc->newer ? &doc->newer->older : &t->newest_doc) = doc->older;
    amqp_keys_at(t, doc->slot)->doc = NULL;
    t->docs_len -= doc->len;
    free(doc);
}

static void drop_oldest_doc(struct amqp_keys *t)
{
    struct amqp_doc *doc = t->oldest_doc;

    t->oldest_doc = doc->newer;
    *(doc->newer ? &doc->newer->older : &t->newest_doc) = NULL;
    amqp_keys_at(t, doc->slot)->doc = NULL;
    t->docs_len -= doc->len;
    free(doc);
}

void amqp_keys_set_doc(struct amqp_keys *t, uint32_t slot, struct slice text)
{
    struct amqp_entry *entry = amqp_keys_at(t, slot);
    struct amqp_doc *doc;

    if (entry->doc)
        drop_doc(t, entry->doc);
    if (!text.len || text.len > t->docs_max)
        return;
    doc = malloc(sizeof(*doc) + text.len);
    if (!doc)
        return;
    *doc = (struct amqp_doc){.older = t->newest_doc, .slot = slot, .len = (uint32_t)text.len};
    memcpy(doc->bytes, text.ptr, text.len);
    *(doc->older ? &doc->older->newer : &t->oldest_doc) = doc;
    t->newest_doc = entry->doc = doc;
    t->docs_len += text.len;
    while (t->docs_len > t->docs_max && t->oldest_doc)
        drop_oldest_doc(t);
}

/* --- task ids --- */

static bool is_dash_at(int i)
{
    return i == 8 || i == 13 || i == 18 || i == 23;
}

static int nibble(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* True when text is a UUID in the one spelling that unpack_uuid writes. */
static bool pack_uuid(unsigned char uuid[16], struct slice text)
{
    int digits = 0;

    if (text.len != AMQP_ENTRY_TEXT)
        return false;
    for (int i = 0; i < AMQP_ENTRY_TEXT; i++) {
        int value = nibble(text.ptr[i]);

        if (is_dash_at(i)) {
            if (text.ptr[i] != '-')
                return false;
            continue;
        }
        if (value < 0)
            return false;
        uuid[digits / 2] = (unsigned char)(digits % 2 ? uuid[digits / 2] | value : value << 4);
        digits++;
    }
    return true;
}

static struct slice unpack_uuid(const unsigned char uuid[16], char *room)
{
    static const char hex[] = "0123456789abcdef";
    int digits = 0;

    for (int i = 0; i < AMQP_ENTRY_TEXT; i++) {
        if (is_dash_at(i)) {
            room[i] = '-';
            continue;
        }
        room[i] = hex[digits % 2 ? uuid[digits / 2] & 15 : uuid[digits / 2] >> 4];
        digits++;
    }
    return slice_make(room, AMQP_ENTRY_TEXT);
}

static void drop_id(struct amqp_entry *entry)
{
    if (!entry->packed)
        free(entry->id.text);
    entry->packed = false;
    entry->id.text = NULL;
    entry->id_len = 0;
}

int amqp_keys_set_id(struct amqp_keys *t, uint32_t slot, struct slice id)
{
    struct amqp_entry *entry = amqp_keys_at(t, slot);
    unsigned char uuid[16];

    drop_id(entry);
    entry->packed = pack_uuid(uuid, id);
    if (entry->packed) {
        memcpy(entry->id.uuid, uuid, sizeof(uuid));
    } else if (id.len) {
        entry->id.text = slice_dup(id);
        if (!entry->id.text)
            return -1;
    }
    entry->id_len = (uint16_t)id.len;
    return 0;
}

struct slice amqp_keys_id(const struct amqp_entry *entry, char room[AMQP_ENTRY_TEXT])
{
    return entry->packed ? unpack_uuid(entry->id.uuid, room)
                         : slice_make(entry->id.text ? entry->id.text : "", entry->id_len);
}

/* --- queues --- */

static uint8_t queue_for(int64_t life_ms)
{
    uint64_t life_s = life_ms > 0 ? (uint64_t)life_ms / 1000 : 0;

    return (uint8_t)(life_s ? 64 - __builtin_clzll(life_s) : 0);
}

static void leave_queue(struct amqp_keys *t, struct amqp_entry *entry)
{
    struct amqp_keys_queue *queue = &t->queues[entry->queue];

    *(entry->older ? &amqp_keys_at(t, entry->older)->newer : &queue->oldest) = entry->newer;
    *(entry->newer ? &amqp_keys_at(t, entry->newer)->older : &queue->newest) = entry->older;
    if (!queue->oldest)
        t->queued &= ~((uint64_t)1 << entry->queue);
}

static void join_queue(struct amqp_keys *t, uint32_t slot)
{
    struct amqp_entry *entry = amqp_keys_at(t, slot);
    struct amqp_keys_queue *queue = &t->queues[entry->queue];

    entry->newer = 0;
    entry->older = queue->newest;
    *(entry->older ? &amqp_keys_at(t, entry->older)->newer : &queue->oldest) = slot;
    queue->newest = slot;
    t->queued |= (uint64_t)1 << entry->queue;
}

void amqp_keys_change(struct amqp_keys *t, uint32_t slot, enum amqp_entry_state state,
                      int64_t until_ms, int64_t now_ms)
{
    struct amqp_entry *entry = amqp_keys_at(t, slot);

    leave_queue(t, entry);
    entry->state = (uint8_t)state;
    entry->until_ms = until_ms;
    entry->queue = queue_for(until_ms - now_ms);
    join_queue(t, slot);
}

/* --- index --- */

static uint32_t tag_of(const struct amqp_key *key)
{
    uint32_t tag;

    memcpy(&tag, key->bytes, sizeof(tag));
    return tag;
}

uint32_t amqp_keys_find(const struct amqp_keys *t, const struct amqp_key *key)
{
    uint32_t tag = tag_of(key);

    if (!t->index)
        return 0;
    for (size_t i = tag & t->mask; t->index[i].slot; i = (i + 1) & t->mask)
        if (t->index[i].tag == tag &&
            memcmp(&amqp_keys_at(t, t->index[i].slot)->key, key, sizeof(*key)) == 0)
            return t->index[i].slot;
    return 0;
}

static void index_put(struct amqp_keys_bucket *index, size_t mask, struct amqp_keys_bucket bucket)
{
    size_t i = bucket.tag & mask;

    assert(index);
    while (index[i].slot)
        i = (i + 1) & mask;
    index[i] = bucket;
}

static int grow_index(struct amqp_keys *t)
{
    size_t old = t->index ? t->mask + 1 : 0, len = old ? 2 * old : INDEX_MIN;
    struct amqp_keys_bucket *fresh = calloc(len, sizeof(*fresh));

    if (!fresh)
        return -1;
    for (size_t i = 0; i < old; i++)
        if (t->index[i].slot)
            index_put(fresh, len - 1, t->index[i]);
    free(t->index);
    t->index = fresh;
    t->mask = len - 1;
    return 0;
}

/* Closes the gap that a removal leaves, so that no probe ends too early. */
static void index_remove(struct amqp_keys *t, uint32_t slot)
{
    size_t gap = tag_of(&amqp_keys_at(t, slot)->key) & t->mask;

    while (t->index[gap].slot != slot)
        gap = (gap + 1) & t->mask;
    for (size_t i = (gap + 1) & t->mask; t->index[i].slot; i = (i + 1) & t->mask) {
        size_t from_home = (i - (t->index[i].tag & t->mask)) & t->mask;

        if (from_home >= ((i - gap) & t->mask)) {
            t->index[gap] = t->index[i];
            gap = i;
        }
    }
    t->index[gap] = (struct amqp_keys_bucket){0, 0};
}

/* --- entries --- */

/* The array holds the page. */
ANALYZER_LOSES_SIGHT
static int add_page(struct amqp_keys *t)
{
    if (t->pages_len == t->pages_cap) {
        size_t cap = t->pages_cap ? 2 * t->pages_cap : 8;
        struct amqp_entry **pages = realloc(t->pages, cap * sizeof(*pages));

        if (!pages)
            return -1;
        t->pages = pages;
        t->pages_cap = cap;
    }
    t->pages[t->pages_len] = malloc(PAGE_LEN * sizeof(**t->pages));
    if (!t->pages[t->pages_len])
        return -1;
    t->pages_len++;
    return 0;
}
ANALYZER_SEES_AGAIN

static uint32_t take_slot(struct amqp_keys *t)
{
    uint32_t slot = t->free;

    if (slot) {
        t->free = amqp_keys_at(t, slot)->newer;
        return slot;
    }
    if (t->unused == UINT32_MAX || (t->unused / PAGE_LEN >= t->pages_len && add_page(t) != 0))
        return 0;
    return t->unused++;
}

uint32_t amqp_keys_add(struct amqp_keys *t, const struct amqp_key *key)
{
    uint32_t slot;

    if (4 * (t->len + 1) > 3 * (t->index ? t->mask + 1 : 0) && grow_index(t) != 0)
        return 0;
    slot = take_slot(t);
    if (!slot)
        return 0;
    *amqp_keys_at(t, slot) = (struct amqp_entry){.key = *key};
    index_put(t->index, t->mask, (struct amqp_keys_bucket){slot, tag_of(key)});
    join_queue(t, slot);
    t->len++;
    return slot;
}

static void remove_entry(struct amqp_keys *t, uint32_t slot)
{
    struct amqp_entry *entry = amqp_keys_at(t, slot);

    index_remove(t, slot);
    leave_queue(t, entry);
    if (entry->doc)
        drop_doc(t, entry->doc);
    drop_id(entry);
    entry->newer = t->free;
    t->free = slot;
    t->len--;
}

void amqp_keys_expire(struct amqp_keys *t, int64_t now_ms, int budget)
{
    for (uint64_t left = t->queued; left; left &= left - 1) {
        const struct amqp_keys_queue *queue = &t->queues[__builtin_ctzll(left)];

        while (queue->oldest && budget > 0 &&
               amqp_keys_at(t, queue->oldest)->until_ms + t->slack_ms < now_ms) {
            remove_entry(t, queue->oldest);
            budget--;
        }
    }
}

void amqp_keys_each(const struct amqp_keys *t,
                    void (*fn)(void *context, const struct amqp_entry *entry), void *context)
{
    for (uint64_t left = t->queued; left; left &= left - 1) {
        uint32_t slot = t->queues[__builtin_ctzll(left)].oldest;

        for (; slot; slot = amqp_keys_at(t, slot)->newer)
            fn(context, amqp_keys_at(t, slot));
    }
}

size_t amqp_keys_bytes(const struct amqp_keys *t)
{
    return t->pages_cap * sizeof(*t->pages) + t->pages_len * PAGE_LEN * sizeof(**t->pages) +
           (t->index ? (t->mask + 1) * sizeof(*t->index) : 0);
}

void amqp_keys_release(struct amqp_keys *t)
{
    for (uint64_t left = t->queued; left; left &= left - 1)
        for (uint32_t slot = t->queues[__builtin_ctzll(left)].oldest; slot;
             slot = amqp_keys_at(t, slot)->newer)
            drop_id(amqp_keys_at(t, slot));
    while (t->oldest_doc)
        drop_oldest_doc(t);
    for (size_t i = 0; i < t->pages_len; i++)
        free(t->pages[i]);
    free(t->pages);
    free(t->index);
    amqp_keys_init(t, t->docs_max, t->slack_ms);
}
