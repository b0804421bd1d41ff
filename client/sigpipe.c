#include "client/sigpipe.h"

#include <stddef.h>
#include <time.h>

static bool is_pending(void)
{
    sigset_t pending;

    return sigpending(&pending) == 0 && sigismember(&pending, SIGPIPE) == 1;
}

void sigpipe_enter(struct sigpipe_guard *guard)
{
    sigset_t pipe_only;

    guard->idle = false;
    guard->pending_before = is_pending();
    sigemptyset(&pipe_only);
    sigaddset(&pipe_only, SIGPIPE);
    pthread_sigmask(SIG_BLOCK, &pipe_only, &guard->mask_before);
}

void sigpipe_enter_if(struct sigpipe_guard *guard, bool needed)
{
    if (needed)
        sigpipe_enter(guard);
    guard->idle = !needed;
}

void sigpipe_leave(const struct sigpipe_guard *guard)
{
    const struct timespec at_once = {0, 0};
    sigset_t pipe_only;

    if (guard->idle)
        return;
    sigemptyset(&pipe_only);
    sigaddset(&pipe_only, SIGPIPE);
    if (!guard->pending_before && is_pending())
        sigtimedwait(&pipe_only, NULL, &at_once);
    pthread_sigmask(SIG_SETMASK, &guard->mask_before, NULL);
}
