#include "broker/redis_names.h"

#include <search.h>
#include <stdlib.h>
#include <string.h>

/* A node's key is a slice whose text stands behind it. */
static int compare(const void *a, const void *b)
{
    const struct slice *x = a, *y = b;

    if (x->len != y->len)
        return x->len < y->len ? -1 : 1;
    return memcmp(x->ptr, y->ptr, x->len);
}

bool redis_names_has(const struct redis_names *names, struct slice name)
{
    return tfind(&name, &names->root, compare) != NULL;
}

static struct slice *copy_of(struct slice name)
{
    struct slice *copy = malloc(sizeof(*copy) + name.len);

    if (copy) {
        memcpy(copy + 1, name.ptr, name.len);
        *copy = slice_make((const char *)(copy + 1), name.len);
    }
    return copy;
}

void redis_names_add(struct redis_names *names, struct slice name)
{
    struct slice *copy, **node;

    if (redis_names_has(names, name))
        return;
    copy = copy_of(name);
    node = copy ? tsearch(copy, &names->root, compare) : NULL;
    if (node)
        names->len++;
    else
        free(copy);
}

void redis_names_clear(struct redis_names *names)
{
    tdestroy(names->root, free);
    *names = (struct redis_names){0};
}
