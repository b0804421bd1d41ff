#include "broker/redis_lists.h"

#include "broker/redis_keys.h"

#include <stdlib.h>
#include <string.h>

enum { MAYBE, ASKED, EMPTY };

size_t redis_lists_queue(const struct redis_lists *l, size_t list)
{
    return list % l->queues_len;
}

int redis_lists_step(const struct redis_lists *l, size_t list)
{
    return (int)(list / l->queues_len);
}

static size_t lists_len(const struct redis_lists *l)
{
    return REDIS_STEPS * l->queues_len;
}

/* --- by name --- */

static int by_name(const void *a, const void *b, void *cookie)
{
    const struct redis_lists *l = cookie;

    return strcmp(l->queues[*(const size_t *)a].name, l->queues[*(const size_t *)b].name);
}

static int compare(struct slice name, const char *other)
{
    size_t len = strlen(other);
    int order = memcmp(name.ptr, other, name.len < len ? name.len : len);

    return order ? order : (name.len > len) - (name.len < len);
}

static bool find_queue(const struct redis_lists *l, struct slice name, size_t *queue)
{
    size_t low = 0, high = l->queues_len;

    while (low < high) {
        size_t mid = low + (high - low) / 2;
        int order = compare(name, l->queues[l->by_name[mid]].name);

        if (order == 0) {
            *queue = l->by_name[mid];
            return true;
        }
        if (order < 0)
            high = mid;
        else
            low = mid + 1;
    }
    return false;
}

static bool ends_with(struct slice key, const char *suffix)
{
    size_t len = strlen(suffix);

    return key.len >= len && memcmp(key.ptr + key.len - len, suffix, len) == 0;
}

/* --- life --- */

int redis_lists_init(struct redis_lists *l, const struct redis_queue *queues, size_t queues_len)
{
    *l = (struct redis_lists){.queues = queues, .queues_len = queues_len};
    if (queues_len == 0)
        return 0;
    l->maybe = lists_len(l);
    l->states = calloc(lists_len(l), 1);
    l->chosen = calloc(lists_len(l), sizeof(*l->chosen));
    l->by_name = calloc(queues_len, sizeof(*l->by_name));
    if (!l->states || !l->chosen || !l->by_name)
        return -1;
    for (size_t i = 0; i < queues_len; i++)
        l->by_name[i] = i;
    qsort_r(l->by_name, queues_len, sizeof(*l->by_name), by_name, l);
    return 0;
}

void redis_lists_release(struct redis_lists *l)
{
    free(l->states);
    free(l->chosen);
    free(l->by_name);
    *l = (struct redis_lists){0};
}

/* --- what is known --- */

void redis_lists_forget(struct redis_lists *l)
{
    if (l->queues_len)
        memset(l->states, MAYBE, lists_len(l));
    l->maybe = lists_len(l);
}

static void become(struct redis_lists *l, size_t list, unsigned char state)
{
    l->maybe += (size_t)(state == MAYBE) - (l->states[list] == MAYBE);
    l->states[list] = state;
}

bool redis_lists_pushed(struct redis_lists *l, struct slice queue, int step)
{
    size_t at;

    if (!find_queue(l, queue, &at))
        return false;
    become(l, at + (size_t)step * l->queues_len, MAYBE);
    return true;
}

bool redis_lists_pushed_key(struct redis_lists *l, struct slice key)
{
    for (int step = REDIS_STEPS - 1; step >= 0; step--) {
        const char *suffix = redis_step_suffix(step);

        if (ends_with(key, suffix) &&
            redis_lists_pushed(l, slice_make(key.ptr, key.len - strlen(suffix)), step))
            return true;
    }
    return false;
}

void redis_lists_ask(struct redis_lists *l, const size_t *lists, size_t n)
{
    for (size_t i = 0; i < n; i++)
        become(l, lists[i], ASKED);
}

static void choose_between(struct redis_lists *l, size_t from, size_t end, size_t most)
{
    while (from < end && l->chosen_len < most) {
        const unsigned char *at = memchr(l->states + from, MAYBE, end - from);

        if (!at)
            return;
        from = (size_t)(at - l->states);
        l->chosen[l->chosen_len++] = from++;
    }
}

void redis_lists_choose(struct redis_lists *l, size_t most, bool listen)
{
    l->chosen_len = 0;
    for (size_t step = 0; step < REDIS_STEPS; step++) {
        size_t begin = step * l->queues_len;

        choose_between(l, begin + l->first, begin + l->queues_len, most);
        choose_between(l, begin, begin + l->first, most);
    }
    if (l->chosen_len)
        l->first = (redis_lists_queue(l, l->chosen[0]) + 1) % l->queues_len;
    if (listen)
        redis_lists_ask(l, l->chosen, l->chosen_len);
}

void redis_lists_answered(struct redis_lists *l, const size_t *lists, size_t n, bool empty)
{
    for (size_t i = 0; i < n; i++) {
        if (l->states[lists[i]] == ASKED)
            become(l, lists[i], empty ? EMPTY : MAYBE);
    }
}

void redis_lists_heard(struct redis_lists *l, size_t empty)
{
    size_t first = empty < l->chosen_len ? empty : l->chosen_len;

    redis_lists_answered(l, l->chosen, first, true);
    redis_lists_answered(l, l->chosen + first, l->chosen_len - first, false);
}
