#include "client/ahead.h"

#include "client/session.h"

#include <string.h>

/* Leaves it empty where the broker can not listen ahead. */
static void fill(struct session *s)
{
    struct ahead *a = &s->ahead;
    struct slice ids[AHEAD_IDS];

    for (size_t i = 0; i < AHEAD_IDS; i++) {
        uuid_next(&s->ids, a->ids[i]);
        ids[i] = slice_of(a->ids[i]);
    }
    a->cannot = !broker_result_expect(s->broker, ids, AHEAD_IDS);
    a->left = a->cannot ? 0 : AHEAD_IDS;
}

const char *ahead_take(struct session *s)
{
    struct ahead *a = &s->ahead;

    if (!a->waits || a->cannot)
        return NULL;
    if (a->left == 0)
        fill(s);
    if (a->left == 0)
        return NULL;
    memcpy(a->taken, a->ids[--a->left], UUID_SIZE);
    if (a->left == 0)
        fill(s);
    return a->taken;
}

void ahead_sent(struct session *s, const char *id)
{
    size_t len = strnlen(id, sizeof(s->ahead.sent) - 1);

    memcpy(s->ahead.sent, id, len);
    s->ahead.sent[len] = '\0';
    s->ahead.waits = false;
}

void ahead_waited(struct session *s, const char *id)
{
    if (strncmp(id, s->ahead.sent, sizeof(s->ahead.sent) - 1) == 0)
        s->ahead.waits = true;
}
