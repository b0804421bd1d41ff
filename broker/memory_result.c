#include "broker/memory_store.h"
#include "broker/result.h"

#include <search.h>
#include <stdlib.h>
#include <string.h>

static int compare_cells(const void *a, const void *b)
{
    struct slice left = ((const struct memory_cell *)a)->id;
    struct slice right = ((const struct memory_cell *)b)->id;

    if (left.len != right.len)
        return left.len < right.len ? -1 : 1;
    return memcmp(left.ptr, right.ptr, left.len);
}

static struct memory_cell *find_cell(struct memory_store *store, struct slice id)
{
    struct memory_cell key = {.id = id};
    struct memory_cell **found = tfind(&key, &store->cells, compare_cells);

    return found ? *found : NULL;
}

static void free_cell(void *element)
{
    struct memory_cell *cell = element;

    while (cell->watches) {
        struct memory_watch *watch = cell->watches;

        cell->watches = watch->next;
        free(watch);
    }
    memory_drop(&cell->id);
    memory_drop(&cell->doc);
    free(cell);
}

void memory_result_free(struct memory_store *store)
{
    tdestroy(store->cells, free_cell);
    store->cells = NULL;
}

static struct memory_cell *make_cell(struct memory_store *store, struct slice id)
{
    struct memory_cell *cell = find_cell(store, id);

    if (cell)
        return cell;
    cell = calloc(1, sizeof(*cell));
    if (!cell)
        return NULL;
    if (memory_copy(&cell->id, id) != 0 || !tsearch(cell, &store->cells, compare_cells)) {
        free_cell(cell);
        return NULL;
    }
    return cell;
}

static void drop_if_bare(struct memory_store *store, struct memory_cell *cell)
{
    if (cell->doc.ptr || cell->watches)
        return;
    tdelete(cell, &store->cells, compare_cells);
    free_cell(cell);
}

/* The document that is still valid now. */
static struct slice valid_doc(const struct memory_cell *cell, int64_t now_ms)
{
    if (!cell || cell->expires_at_ms <= now_ms)
        return (struct slice){NULL, 0};
    return cell->doc;
}

static void tell(const struct memory_watch *watch, struct slice doc)
{
    struct broker_event event = {.kind = BROKER_RESULT, .tag = watch->tag, .data = doc};

    event_queue_push(&watch->broker->events, &event);
}

/* Every watch hears of the document; a ready one ends it. */
static void ring(struct memory_cell *cell)
{
    bool ready = result_is_ready(cell->doc);

    for (struct memory_watch **link = &cell->watches; *link;) {
        struct memory_watch *watch = *link;

        tell(watch, cell->doc);
        if (!ready) {
            link = &watch->next;
            continue;
        }
        *link = watch->next;
        free(watch);
    }
}

int memory_result_put(struct memory_store *store, struct slice id, struct slice doc,
                      int64_t expires_at_ms, int64_t now_ms)
{
    struct memory_cell *cell = make_cell(store, id);
    struct slice copy;

    if (!cell)
        return -1;
    if (result_is_success(valid_doc(cell, now_ms)))
        return 1;
    if (memory_copy(&copy, doc.ptr ? doc : slice_of("")) != 0) {
        drop_if_bare(store, cell);
        return -1;
    }
    memory_drop(&cell->doc);
    cell->doc = copy;
    cell->expires_at_ms = expires_at_ms;
    ring(cell);
    return 0;
}

struct slice memory_result_doc(struct memory_store *store, struct slice id, int64_t now_ms)
{
    return valid_doc(find_cell(store, id), now_ms);
}

int memory_result_watch(struct memory *broker, uint64_t tag, struct slice id, int64_t now_ms)
{
    struct memory_cell *cell = make_cell(broker->store, id);
    struct memory_watch *watch = calloc(1, sizeof(*watch));
    struct slice doc;

    if (!cell || !watch) {
        if (cell)
            drop_if_bare(broker->store, cell);
        free(watch);
        return -1;
    }
    *watch = (struct memory_watch){NULL, broker, tag};
    doc = valid_doc(cell, now_ms);
    if (doc.ptr)
        tell(watch, doc);
    if (doc.ptr && result_is_ready(doc)) {
        free(watch);
        return 0;
    }
    watch->next = cell->watches;
    cell->watches = watch;
    return 0;
}

static void remove_watches(struct memory_cell *cell, const struct memory *broker)
{
    for (struct memory_watch **link = &cell->watches; *link;) {
        struct memory_watch *watch = *link;

        if (watch->broker != broker) {
            link = &watch->next;
            continue;
        }
        *link = watch->next;
        free(watch);
    }
}

void memory_result_unwatch(struct memory *broker, struct slice id)
{
    struct memory_cell *cell = find_cell(broker->store, id);

    if (!cell)
        return;
    remove_watches(cell, broker);
    drop_if_bare(broker->store, cell);
}

static void unwatch_node(const void *node, VISIT visit, void *closure)
{
    if (visit == postorder || visit == leaf)
        remove_watches(*(struct memory_cell *const *)node, closure);
}

void memory_result_unwatch_all(struct memory *broker)
{
    twalk_r(broker->store->cells, unwatch_node, broker);
}

void memory_result_forget(struct memory_store *store, struct slice id)
{
    struct memory_cell *cell = find_cell(store, id);

    if (!cell)
        return;
    memory_drop(&cell->doc);
    drop_if_bare(store, cell);
}
