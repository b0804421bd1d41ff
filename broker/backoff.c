#include "broker/backoff.h"

int64_t backoff_ms(int64_t base_ms, int64_t max_ms, unsigned tries, uint64_t random)
{
    int64_t wait = base_ms < 0 ? 0 : base_ms;

    if (max_ms < 0)
        max_ms = 0;
    while (tries-- && wait > 0 && wait < max_ms)
        wait = wait > max_ms / 2 ? max_ms : wait * 2;
    if (wait > max_ms)
        wait = max_ms;
    return random ? (int64_t)(random % ((uint64_t)wait + 1)) : wait;
}
