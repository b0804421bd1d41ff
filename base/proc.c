#include "base/proc.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

/* The end of the strings that lie one behind the other from argv[0] on. */
static char *area_end(int argc, char **argv)
{
    char *end = argv[0];

    for (int i = 0; i < argc; i++) {
        if (argv[i] == end)
            end += strlen(argv[i]) + 1;
    }
    for (char **env = environ; *env; env++) {
        if (*env == end)
            end += strlen(*env) + 1;
    }
    return end;
}

static size_t count(char *const *texts)
{
    size_t n = 0;

    while (texts[n])
        n++;
    return n;
}

/* Lets each of from[0..n) point to a copy, written one behind the other to `text`; returns where
 * the last one ends. */
static char *copy_texts(char **to, char *const *from, size_t n, char *text)
{
    for (size_t i = 0; i < n; i++) {
        size_t size = strlen(from[i]) + 1;

        memcpy(text, from[i], size);
        to[i] = text;
        text += size;
    }
    return text;
}

static size_t texts_size(char *const *texts, size_t n)
{
    size_t size = 0;

    for (size_t i = 0; i < n; i++)
        size += strlen(texts[i]) + 1;
    return size;
}

int proc_title_init(struct proc_title *title, int argc, char **argv)
{
    char *start = argv[0], *end = area_end(argc, argv), *text;
    size_t env_len = count(environ), argv_len = (size_t)argc;
    size_t table_size = (env_len + 1) * sizeof(char *);
    char **env = malloc(table_size + texts_size(environ, env_len) + texts_size(argv, argv_len));

    *title = (struct proc_title){NULL, 0, NULL};
    if (!env)
        return -1;
    text = copy_texts(env, environ, env_len, (char *)env + table_size);
    copy_texts(argv, argv, argv_len, text);
    env[env_len] = NULL;
    environ = env;
    *title = (struct proc_title){start, (size_t)(end - start), env};
    return 0;
}

void proc_title_join(const struct proc_title *title, const struct slice *parts, size_t n)
{
    size_t at = 0;

    if (!title->area || title->area_len < 2)
        return;
    for (size_t i = 0; i < n; i++) {
        size_t room = title->area_len - 1 - at;
        size_t len = parts[i].len < room ? parts[i].len : room;

        memcpy(title->area + at, parts[i].ptr, len);
        at += len;
    }
    memset(title->area + at, 0, strnlen(title->area + at, title->area_len - at));
}

void proc_title_set(const struct proc_title *title, const char *fmt, ...)
{
    va_list ap;
    int n;

    if (!title->area || title->area_len < 2)
        return;
    va_start(ap, fmt);
    n = vsnprintf(title->area, title->area_len, fmt, ap);
    va_end(ap);
    if (n >= 0 && (size_t)n < title->area_len)
        memset(title->area + n, 0, title->area_len - (size_t)n);
}

static bool kept(int fd, const int *keep, size_t n)
{
    if (fd <= 2)
        return true;
    for (size_t i = 0; i < n; i++) {
        if (keep[i] == fd)
            return true;
    }
    return false;
}

void proc_close_others(const int *keep, size_t n)
{
    DIR *dir = opendir("/proc/self/fd");
    struct dirent *entry;

    if (!dir)
        return;
    while ((entry = readdir(dir))) {
        int fd = (int)strtol(entry->d_name, NULL, 10);

        if (entry->d_name[0] != '.' && fd != dirfd(dir) && !kept(fd, keep, n))
            close(fd);
    }
    closedir(dir);
}

int proc_child_setup(pid_t parent, const int *keep, size_t n, struct err *e)
{
    sigset_t none;

    for (int sig = 1; sig < NSIG; sig++)
        signal(sig, SIG_DFL);
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    signal(SIGPIPE, SIG_IGN);
    proc_close_others(keep, n);
    setpgid(0, 0);
    if (getppid() != parent)
        return err_set(e, ERR_REFUSED, "the parent process %d is gone", (int)parent);
    return 0;
}

int proc_die_with_parent(pid_t parent, struct err *e)
{
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    /* It may have died before the request took effect. */
    if (getppid() != parent)
        return err_set(e, ERR_REFUSED, "the parent process %d is gone", (int)parent);
    return 0;
}

int proc_set_nonblock(int fd)
{
    int flags = fcntl(fd, F_GETFL);

    return flags < 0 ? -1 : fcntl(fd, F_SETFL, flags | O_NONBLOCK);
}

int proc_socketpair(int fds[2], int nonblock, struct err *e)
{
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) < 0)
        return err_sys(e, ERR_OPERATOR, errno, "making a socket pair");
    for (int i = 0; i < 2; i++) {
        if (nonblock & (1 << i))
            proc_set_nonblock(fds[i]);
    }
    return 0;
}

/* cgroup v2: "max 100000" or "200000 100000" (quota and period in microseconds). */
static double cgroup_cores(void)
{
    FILE *file = fopen("/sys/fs/cgroup/cpu.max", "re");
    char line[64] = "", *end = line;
    double quota, period;

    if (!file)
        return INFINITY;
    if (!fgets(line, sizeof(line), file))
        line[0] = '\0';
    fclose(file);
    quota = strtod(line, &end);
    period = end > line ? strtod(end, NULL) : 0;
    return period > 0 ? quota / period : INFINITY;
}

int proc_cores(void)
{
    cpu_set_t set;
    double cores = sched_getaffinity(0, sizeof(set), &set) == 0 ? CPU_COUNT(&set) : 1;

    cores = fmin(cores, ceil(cgroup_cores()));
    return cores < 1 ? 1 : (int)cores;
}

void proc_cause(int wait_status, char *to, size_t size)
{
    if (WIFSIGNALED(wait_status)) {
        const char *name = sigabbrev_np(WTERMSIG(wait_status));

        snprintf(to, size, "signal %d (SIG%s)", WTERMSIG(wait_status), name ? name : "?");
    } else {
        snprintf(to, size, "exitcode %d", WEXITSTATUS(wait_status));
    }
}
