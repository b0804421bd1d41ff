#include "base/words.h"

#include <stdlib.h>

void words_release(struct words *w)
{
    for (size_t i = 0; i < w->len; i++)
        free(w->items[i]);
    free(w->items);
    *w = (struct words)WORDS_INIT;
}

static int make_room(struct words *w)
{
    size_t cap = w->cap ? w->cap * 2 : 8;
    char **grown;

    if (w->len < w->cap)
        return 0;
    grown = realloc(w->items, cap * sizeof(*grown));
    if (!grown)
        return -1;
    w->items = grown;
    w->cap = cap;
    return 0;
}

int words_add(struct words *w, struct slice text)
{
    char *copy;

    if (make_room(w) < 0)
        return -1;
    copy = slice_dup(text);
    if (!copy)
        return -1;
    w->items[w->len++] = copy;
    return 0;
}

bool words_has(const struct words *w, struct slice text)
{
    for (size_t i = 0; i < w->len; i++) {
        if (slice_is(text, w->items[i]))
            return true;
    }
    return false;
}

static int by_text(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

void words_sort(struct words *w)
{
    if (w->len)
        qsort(w->items, w->len, sizeof(*w->items), by_text);
}
