/* Dedup keys: a tree by key, and a ring of which every claim looks at two in search of old ones. */
#include "broker/memory_store.h"

#include <search.h>
#include <stdlib.h>

static int compare_claims(const void *a, const void *b)
{
    return memory_compare(((const struct memory_claim *)a)->key,
                          ((const struct memory_claim *)b)->key);
}

static struct memory_claim *find_claim(struct memory_store *store, struct slice key)
{
    struct memory_claim wanted = {.key = key};
    struct memory_claim **found = tfind(&wanted, &store->claims, compare_claims);

    return found ? *found : NULL;
}

static void free_claim(struct memory_claim *claim)
{
    memory_drop(&claim->key);
    memory_drop(&claim->id);
    free(claim);
}

static void remove_claim(struct memory_store *store, struct memory_claim *claim)
{
    tdelete(claim, &store->claims, compare_claims);
    if (store->next_claim == claim)
        store->next_claim = claim->next == claim ? NULL : claim->next;
    claim->prev->next = claim->next;
    claim->next->prev = claim->prev;
    free_claim(claim);
}

/* The newest stands before the one that is looked at next, so it is looked at last. */
static void link_claim(struct memory_store *store, struct memory_claim *claim)
{
    struct memory_claim *next = store->next_claim ? store->next_claim : claim;

    if (next == claim)
        claim->prev = claim;
    claim->next = next;
    claim->prev = next->prev;
    claim->prev->next = claim;
    next->prev = claim;
    store->next_claim = next;
}

static struct memory_claim *add_claim(struct memory_store *store, const struct broker_claim *given)
{
    struct memory_claim *claim = calloc(1, sizeof(*claim));

    if (!claim)
        return NULL;
    if (memory_copy(&claim->key, given->key) != 0 ||
        !tsearch(claim, &store->claims, compare_claims)) {
        free_claim(claim);
        return NULL;
    }
    link_claim(store, claim);
    return claim;
}

/* Nobody holds it and nothing is remembered. */
static bool is_free(struct memory_store *store, const struct memory_claim *claim, int64_t now_ms)
{
    if (claim->until_ms > now_ms)
        return false;
    return claim->done || !memory_job_by_fence(store, claim->fence);
}

static void sweep_some(struct memory_store *store, int64_t now_ms)
{
    for (int i = 0; i < 2 && store->next_claim; i++) {
        struct memory_claim *claim = store->next_claim;

        store->next_claim = claim->next;
        if (is_free(store, claim, now_ms))
            remove_claim(store, claim);
    }
}

/* The same delivery asks again, or the job comes back for what its retry kept. */
static bool may_take(struct memory_store *store, const struct memory_claim *claim,
                     const struct broker_claim *by, uint64_t fence, int64_t now_ms)
{
    if (claim->done || memory_job_by_fence(store, claim->fence))
        return !claim->done && claim->fence == fence;
    return claim->until_ms <= now_ms || slice_eq(claim->id, by->id);
}

int memory_claim_take(struct memory_store *store, const struct broker_claim *given, int64_t now_ms,
                      struct broker_event *event)
{
    uint64_t fence = memory_receipt_fence(&given->receipt);
    struct memory_claim *claim;
    struct slice id;

    sweep_some(store, now_ms);
    claim = find_claim(store, given->key);
    if (claim && !is_free(store, claim, now_ms) && !may_take(store, claim, given, fence, now_ms)) {
        event->flags = claim->done ? BROKER_DUPLICATE : 0;
        event->id = claim->id;
        return 0;
    }
    if (memory_copy(&id, given->id) != 0)
        return -1;
    if (!claim)
        claim = add_claim(store, given);
    if (!claim) {
        memory_drop(&id);
        return -1;
    }
    memory_drop(&claim->id);
    claim->id = id;
    claim->fence = fence;
    claim->done = false;
    claim->until_ms = 0;
    event->flags = BROKER_WON;
    return 0;
}

void memory_claim_settle(struct memory_store *store, uint64_t fence, struct slice key,
                         enum memory_settled how, int64_t until_ms)
{
    struct memory_claim *claim = key.len ? find_claim(store, key) : NULL;

    if (!claim || claim->done || claim->fence != fence)
        return;
    if (how == MEMORY_CLAIM_GIVEN_UP) {
        remove_claim(store, claim);
        return;
    }
    claim->done = how == MEMORY_CLAIM_DONE;
    claim->until_ms = until_ms;
}

void memory_claim_free(struct memory_store *store)
{
    while (store->next_claim)
        remove_claim(store, store->next_claim);
}
