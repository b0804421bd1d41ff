#include "broker/redis_load.h"

#include "broker/redis_keys.h"

static bool same_list(const struct broker_message *a, const struct broker_message *m)
{
    return redis_step_of(a->priority) == redis_step_of(m->priority) && slice_eq(a->queue, m->queue);
}

/* A delayed message goes alone: at a resend its time may have come. */
static bool goes_along(const struct broker_message *first, const struct broker_message *m,
                       size_t behind)
{
    return first->batch.len && m->batch_at == first->batch_at + behind &&
           slice_eq(first->batch, m->batch) && first->fresh == m->fresh && !m->continues &&
           m->not_before_ms == 0;
}

/* Mostly that of the message before, or the one that came next last time. lists_len: none yet. */
static size_t list_of(const struct redis_load *load, size_t last, const struct broker_message *m)
{
    for (size_t i = 0; i < load->lists_len; i++) {
        size_t at = last + i < load->lists_len ? last + i : last + i - load->lists_len;

        if (same_list(load->first[at], m))
            return at;
    }
    return load->lists_len;
}

/* list: of each message. */
static void find_lists(struct redis_load *load, unsigned char *list, const struct broker_message *v,
                       size_t n)
{
    size_t last = 0, bytes = 0;

    for (; load->len < n && load->len < REDIS_BATCH_ITEMS && bytes < REDIS_BATCH_BYTES;
         load->len++) {
        const struct broker_message *m = &v[load->len];

        if (!goes_along(v, m, load->len))
            return;
        last = list_of(load, last, m);
        if (last == load->lists_len) {
            load->first[load->lists_len] = m;
            load->lens[load->lists_len++] = 0;
        }
        list[load->len] = (unsigned char)last;
        load->lens[last]++;
        bytes += m->envelope.len;
    }
}

void redis_load_gather(struct redis_load *load, const struct broker_message *v, size_t n)
{
    unsigned char list[REDIS_BATCH_ITEMS];
    size_t at[REDIS_BATCH_ITEMS], next = 0;

    load->len = load->lists_len = 0;
    find_lists(load, list, v, n);
    for (size_t i = 0; i < load->lists_len; i++) {
        at[i] = next;
        next += load->lens[i];
    }
    for (size_t i = 0; i < load->len; i++)
        load->v[at[list[i]]++] = &v[i];
}

void redis_load_one(struct redis_load *load, const struct broker_message *m)
{
    load->len = load->lists_len = load->lens[0] = 1;
    load->first[0] = load->v[0] = m;
}
