#include "broker/backend.h"

/* The decorator that keeps results elsewhere; until it lands the URL is refused. */
struct broker *split_wrap(struct broker *jobs, struct broker *results, struct err *e)
{
    if (results)
        results->ops->close(results, false);
    jobs->ops->close(jobs, false);
    err_set(e, ERR_USAGE, "a result backend elsewhere than the broker is not in this version");
    return NULL;
}
