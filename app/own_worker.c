#include "app/own_worker.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/proc.h"

#define STOP_MS 10000

static void add(const char **words, size_t *n, const char *option, const char *value)
{
    if (value == NULL)
        return;
    words[(*n)++] = option;
    words[(*n)++] = value;
}

static void become_worker(const struct own_worker *w)
{
    int null_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
    int log_fd = open(w->log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    const char *words[16] = {"celeriac", "worker", "-l", "warning"};
    size_t n = 4;
    char count[16];

    snprintf(count, sizeof(count), "%d", w->runners);
    if (null_fd < 0 || log_fd < 0 || dup2(null_fd, 0) < 0 || dup2(log_fd, 1) < 0 ||
        dup2(log_fd, 2) < 0 || setenv("CELERIAC_BROKER", w->broker, 1) < 0 ||
        (w->result_backend != NULL && setenv("CELERIAC_RESULT_BACKEND", w->result_backend, 1) < 0))
        _exit(127);
    add(words, &n, "-c", count);
    add(words, &n, "-Q", w->queue);
    add(words, &n, "-n", w->node);
    add(words, &n, "--result-expires", w->result_expires);
    words[n] = NULL;
    /* execv takes pointers to bytes it does not change. */
    execv("/proc/self/exe", (char *const *)(void *)words);
    _exit(127);
}

int own_worker_start(const struct own_worker *w, pid_t *pid, struct err *e)
{
    *pid = fork();
    if (*pid < 0)
        return err_sys(e, ERR_OPERATOR, errno, "can not start a worker");
    if (*pid == 0)
        become_worker(w);
    return 0;
}

int own_worker_check(pid_t pid, struct err *e)
{
    char cause[64];
    int status;

    if (waitpid(pid, &status, WNOHANG) != pid)
        return 0;
    proc_cause(status, cause, sizeof(cause));
    return err_set(e, ERR_BUG, "the worker of the measurement ended: %s", cause);
}

/* Waits for the end without polling: a pidfd becomes readable. */
static int ends_within(pid_t pid, int timeout_ms)
{
    struct pollfd wait = {.fd = (int)syscall(SYS_pidfd_open, pid, 0), .events = POLLIN};
    int ready = wait.fd >= 0 ? poll(&wait, 1, timeout_ms) : 0;

    if (wait.fd >= 0)
        close(wait.fd);
    return ready > 0;
}

void own_worker_stop(pid_t pid)
{
    kill(pid, SIGTERM);
    if (!ends_within(pid, STOP_MS))
        kill(pid, SIGKILL);
    while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
        continue;
}
