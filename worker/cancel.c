#include "worker/cancel.h"

#include <signal.h>
#include <stddef.h>

static volatile sig_atomic_t raised;

static void on_signal(int sig)
{
    (void)sig;
    raised = 1;
}

void cancel_install(void)
{
    struct sigaction action = {.sa_handler = on_signal};

    sigemptyset(&action.sa_mask);
    sigaction(SIGUSR1, &action, NULL);
}

void cancel_lower(void)
{
    raised = 0;
}

bool cancel_raised(void)
{
    return raised != 0;
}
