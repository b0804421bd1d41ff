#include "broker/amqp_docs.h"

#include <stdlib.h>

static void free_kept(void *context, struct id_entry *entry)
{
    struct kept_doc *k = (struct kept_doc *)entry;

    (void)context;
    buf_release(&k->doc);
    free(k);
}

void kept_docs_release(struct kept_docs *all)
{
    id_table_drain(&all->ids, free_kept, NULL);
    id_table_release(&all->ids);
    *all = (struct kept_docs){.max = all->max};
}

struct kept_doc *kept_docs_find(const struct kept_docs *all, struct slice id)
{
    return (struct kept_doc *)id_table_find(&all->ids, id);
}

static size_t size_of(const struct kept_doc *k)
{
    return sizeof(*k) + k->entry.id.len + k->doc.cap;
}

void kept_docs_drop(struct kept_docs *all, struct kept_doc *k)
{
    *(k->older ? &k->older->newer : &all->oldest) = k->newer;
    *(k->newer ? &k->newer->older : &all->newest) = k->older;
    all->bytes -= size_of(k);
    id_table_remove(&all->ids, &k->entry);
    free_kept(NULL, &k->entry);
}

/* False: k itself had to go. */
static bool make_room(struct kept_docs *all, const struct kept_doc *k)
{
    while (all->bytes > all->max) {
        bool itself = all->oldest == k;

        kept_docs_drop(all, all->oldest);
        if (itself)
            return false;
    }
    return true;
}

struct kept_doc *kept_docs_add(struct kept_docs *all, struct slice id)
{
    struct kept_doc *k = kept_docs_find(all, id);

    if (k)
        return k;
    k = calloc(1, sizeof(*k) + id.len);
    if (!k)
        return NULL;
    memcpy(k + 1, id.ptr, id.len);
    k->entry.id = slice_make(k + 1, id.len);
    if (id_table_add(&all->ids, &k->entry) != 0) {
        free(k);
        return NULL;
    }
    k->older = all->newest;
    *(k->older ? &k->older->newer : &all->oldest) = k;
    all->newest = k;
    all->bytes += size_of(k);
    return make_room(all, k) ? k : NULL;
}

bool kept_docs_set(struct kept_docs *all, struct kept_doc *k, struct slice doc)
{
    all->bytes -= size_of(k);
    buf_clear(&k->doc);
    buf_add(&k->doc, doc.ptr, doc.len);
    all->bytes += size_of(k);
    if (!k->doc.failed)
        return make_room(all, k);
    kept_docs_drop(all, k);
    return false;
}
