/* What nodes announced: a list sorted by node, one record each. */
#include "broker/memory_store.h"

#include <stdlib.h>

/* The link that holds the record of this node, or where it belongs. */
static struct memory_node **node_link(struct memory_store *store, struct slice node)
{
    struct memory_node **link = &store->nodes;

    while (*link && memory_compare((*link)->node, node) < 0)
        link = &(*link)->next;
    return link;
}

static void unlink_node(struct memory_node **link)
{
    struct memory_node *old = *link;

    *link = old->next;
    memory_drop(&old->node);
    memory_drop(&old->json);
    free(old);
}

static struct memory_node *add_node(struct memory_node **link, struct slice node)
{
    struct memory_node *added = calloc(1, sizeof(*added));

    if (!added || memory_copy(&added->node, node) != 0) {
        free(added);
        return NULL;
    }
    added->next = *link;
    *link = added;
    return added;
}

int memory_node_put(struct memory_store *store, struct slice node, struct slice json,
                    int64_t until_ms)
{
    struct memory_node **link = node_link(store, node);
    struct memory_node *record = *link;
    struct slice copy;

    if (memory_copy(&copy, json) != 0)
        return -1;
    if (!record || !slice_eq(record->node, node))
        record = add_node(link, node);
    if (!record) {
        memory_drop(&copy);
        return -1;
    }
    memory_drop(&record->json);
    record->json = copy;
    record->until_ms = until_ms;
    return 0;
}

void memory_node_remove(struct memory_store *store, struct slice node)
{
    struct memory_node **link = node_link(store, node);

    if (*link && slice_eq((*link)->node, node))
        unlink_node(link);
}

void memory_node_sweep(struct memory_store *store, int64_t now_ms)
{
    struct memory_node **link = &store->nodes;

    while (*link) {
        if ((*link)->until_ms <= now_ms)
            unlink_node(link);
        else
            link = &(*link)->next;
    }
}

void memory_node_free(struct memory_store *store)
{
    while (store->nodes)
        unlink_node(&store->nodes);
}
