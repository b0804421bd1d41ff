/*
 * A module that only one runner at a time survives loading: the one that holds the lock of the file
 * named by ONLY_ONE_LIVES, until it dies. Every other process that loads it ends there, before it
 * is ready.
 */
#include "tasks/task.h"

#include <fcntl.h>
#include <stdlib.h>
#include <sys/file.h>
#include <unistd.h>

__attribute__((constructor)) static void live_or_die(void)
{
    const char *path = getenv("ONLY_ONE_LIVES");
    int fd = path ? open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600) : -1;

    /* The descriptor stays open: the lock goes with the process. */
    if (path && (fd < 0 || flock(fd, LOCK_EX | LOCK_NB) < 0))
        _exit(1);
}

static int run_pid(struct celeriac_call *call)
{
    return celeriac_ok(call, json_integer(getpid()));
}

static const struct celeriac_task rows[] = {
    {.size = sizeof(struct celeriac_task), .name = "survivor.pid", .run = run_pid},
};

__attribute__((visibility("default"))) const struct celeriac_module celeriac_module = {
    sizeof(struct celeriac_module),
    CELERIAC_TASK_ABI_MAJOR,
    CELERIAC_TASK_ABI_MINOR,
    "only_one_lives",
    rows,
    sizeof(rows) / sizeof(rows[0]),
    sizeof(struct celeriac_task),
};
