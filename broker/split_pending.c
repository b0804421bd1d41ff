#include "broker/split_pending.h"

#include <stdlib.h>
#include <string.h>

struct slice split_pending_keep(struct split_pending *p, struct slice text)
{
    struct slice kept = {text.ptr ? p->text : NULL, text.len};

    if (text.ptr)
        memcpy(p->text, text.ptr, text.len);
    p->text += text.len;
    return kept;
}

static size_t message_room(const struct broker_message *m)
{
    return m->queue.len + m->envelope.len + m->id.len;
}

struct split_pending *split_pending_new(struct split_pending **all, uint64_t tag, size_t followups,
                                        size_t text)
{
    size_t room = sizeof(struct split_pending) + followups * sizeof(struct broker_message);
    struct split_pending *p = calloc(1, room + text + 1);

    if (!p)
        return NULL;
    p->followups = (struct broker_message *)(p + 1);
    p->text = (char *)p + room;
    p->tag = tag;
    p->next = *all;
    if (p->next)
        p->next->prev = p;
    *all = p;
    return p;
}

void split_pending_free(struct split_pending **all, struct split_pending *p)
{
    if (p->prev)
        p->prev->next = p->next;
    else
        *all = p->next;
    if (p->next)
        p->next->prev = p->prev;
    free(p);
}

uint64_t split_pending_tag(const struct split_pending *p)
{
    return BROKER_TAG_RESERVED | (uint64_t)(uintptr_t)p;
}

struct split_pending *split_pending_of(uint64_t tag)
{
    return (struct split_pending *)(uintptr_t)(tag & ~BROKER_TAG_RESERVED);
}

struct split_pending *split_pending_finish(struct split_pending **all,
                                           const struct broker_finish *f)
{
    struct split_pending *p;
    size_t text = f->dedup_key.len;

    for (size_t i = 0; i < f->followups_len; i++)
        text += message_room(&f->followups[i]);
    p = split_pending_new(all, f->tag, f->followups_len, text);
    if (!p)
        return NULL;
    p->finish = *f;
    p->finish.tag = split_pending_tag(p);
    p->finish.result_id = p->finish.result = (struct slice){NULL, 0};
    p->finish.followups = p->followups;
    p->finish.dedup_key = split_pending_keep(p, f->dedup_key);
    for (size_t i = 0; i < f->followups_len; i++) {
        p->followups[i] = f->followups[i];
        p->followups[i].token = (struct slice){NULL, 0};
        p->followups[i].queue = split_pending_keep(p, f->followups[i].queue);
        p->followups[i].envelope = split_pending_keep(p, f->followups[i].envelope);
        p->followups[i].id = split_pending_keep(p, f->followups[i].id);
    }
    return p;
}

struct split_pending *split_pending_bury(struct split_pending **all, const struct broker_bury *bury)
{
    struct split_pending *p = split_pending_new(
        all, bury->tag, 0, bury->cause.len + bury->id.len + bury->task.len + bury->dedup_key.len);

    if (!p)
        return NULL;
    p->is_bury = true;
    p->bury = *bury;
    p->bury.tag = split_pending_tag(p);
    p->bury.result_id = p->bury.result = (struct slice){NULL, 0};
    p->bury.cause = split_pending_keep(p, bury->cause);
    p->bury.id = split_pending_keep(p, bury->id);
    p->bury.task = split_pending_keep(p, bury->task);
    p->bury.dedup_key = split_pending_keep(p, bury->dedup_key);
    return p;
}
