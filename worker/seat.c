#include "worker/seat.h"

/* A runner silent for this long with several jobs gets no more. */
#define SILENT_MS 100

bool seat_is_long(const struct job *job)
{
    return job->solo || !policy_is_short(job->options);
}

int seat_room(const struct seat *s, const struct job *job, int64_t now_ms)
{
    int depth;

    if (!s->ready || s->retiring)
        return 0;
    if (s->lent_len == 0)
        return 1;
    if (s->holds_long || seat_is_long(job))
        return 0;
    if (now_ms - s->head_since_ms >= SILENT_MS)
        return 0;
    depth = policy_depth(job->options->mean_us);
    return depth > s->lent_len ? depth - s->lent_len : 0;
}
