#include "base/fault.h"

#ifdef CELERIAC_FAULTS

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* True when CELERIAC_FAULT names this point and this is the pass it asks for. */
static int hit(const char *wanted, const char *name)
{
    /* The one counter per process that a crash point needs; only one name can be set at a time. */
    static long passes;
    size_t len = strlen(name);

    if (strncmp(wanted, name, len) != 0)
        return 0;
    if (wanted[len] == '\0')
        return 1;
    return wanted[len] == ':' && ++passes == strtol(wanted + len + 1, NULL, 10);
}

void fault_point(const char *name)
{
    const char *wanted = getenv("CELERIAC_FAULT");
    const char *once = getenv("CELERIAC_FAULT_FILE");

    if (!wanted || !hit(wanted, name))
        return;
    if (!once || unlink(once) == 0)
        kill(getpid(), SIGKILL);
}

#else

typedef int fault_not_compiled_in;

#endif
