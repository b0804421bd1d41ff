#include "worker/seat.h"

/* A runner silent for this long with several jobs gets no more. */
#define SILENT_MS 100

static bool all_short(const struct seat *s)
{
    const struct job *job;

    TAILQ_FOREACH(job, &s->lent, link)
    {
        if (job->solo || !policy_is_short(job->options))
            return false;
    }
    return true;
}

int seat_room(const struct seat *s, const struct job *job, int64_t now_ms)
{
    int depth;

    if (!s->ready || s->retiring)
        return 0;
    if (s->lent_len == 0)
        return 1;
    if (job->solo || !policy_is_short(job->options) || !all_short(s))
        return 0;
    if (now_ms - s->head_since_ms >= SILENT_MS)
        return 0;
    depth = policy_depth(job->options->mean_us);
    return depth > s->lent_len ? depth - s->lent_len : 0;
}
