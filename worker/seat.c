#include "worker/seat.h"

/* A runner silent for this long with several jobs gets no more. */
#define SILENT_MS 100

static int depth_of(const struct seat *s, const struct job *job)
{
    int depth = job->solo ? 1 : policy_depth(job->options);

    return s->lent_len && s->depth < depth ? s->depth : depth;
}

int seat_room(const struct seat *s, const struct job *job, int64_t now_ms)
{
    int depth;

    if (!s->ready || s->retiring)
        return 0;
    if (s->lent_len == 0)
        return 1;
    if (now_ms - s->head_since_ms >= SILENT_MS)
        return 0;
    depth = depth_of(s, job);
    return depth > s->lent_len ? depth - s->lent_len : 0;
}

void seat_lent(struct seat *s, const struct job *job)
{
    s->depth = depth_of(s, job);
    s->lent_len++;
}
