#include "broker/sqlite.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <unistd.h>

static int open_file(struct sqlite_bell *bell)
{
    bell->fd = open(bell->path, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    return bell->fd < 0 ? -1 : 0;
}

int sqlite_bell_open(struct sqlite_bell *bell, const char *path, struct err *e)
{
    struct buf name = BUF_INIT;

    *bell = (struct sqlite_bell){.fd = -1, .notify = -1, .watch = -1};
    buf_addf(&name, "%s-bell", path);
    bell->path = buf_detach(&name, NULL);
    buf_release(&name);
    if (!bell->path)
        return err_nomem(e);
    if (open_file(bell) != 0)
        return err_sys(e, ERR_OPERATOR, errno, "cannot open '%s', the doorbell of the queue file",
                       bell->path);
    return 0;
}

void sqlite_bell_close(struct sqlite_bell *bell)
{
    if (bell->fd >= 0)
        close(bell->fd);
    if (bell->notify >= 0)
        close(bell->notify);
    free(bell->path);
    *bell = (struct sqlite_bell){.fd = -1, .notify = -1, .watch = -1};
}

void sqlite_bell_watch(struct sqlite_bell *bell, const struct log *log)
{
    if (bell->notify < 0)
        bell->notify = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
    if (bell->notify >= 0)
        bell->watch = inotify_add_watch(bell->notify, bell->path, IN_MODIFY);
    if (bell->notify >= 0 && bell->watch >= 0)
        return;
    log_warn(log, "doorbell cannot be watched: looking every 100 ms instead",
             "file=%s errno=%d hint=fs.inotify.max_user_instances", bell->path, errno);
    if (bell->notify >= 0)
        close(bell->notify);
    bell->notify = -1;
}

void sqlite_bell_ring(struct sqlite_bell *bell)
{
    /* A bell that cannot be rung (disk full: the byte is there already) is covered by the tick. */
    ssize_t n = pwrite(bell->fd, "!", 1, 0);

    (void)n;
}

bool sqlite_bell_rang(struct sqlite_bell *bell)
{
    char events[4096] __attribute__((aligned(__alignof__(struct inotify_event))));
    bool rang = false;

    /* Equal events are merged by the kernel, so one read mostly empties it. */
    while (bell->notify >= 0) {
        ssize_t n = read(bell->notify, events, sizeof(events));

        if (n <= 0)
            break;
        rang = true;
        if ((size_t)n < sizeof(events) / 2)
            break;
    }
    return rang;
}

void sqlite_bell_check(struct sqlite_bell *bell, const struct log *log)
{
    struct stat ours, named;

    if (fstat(bell->fd, &ours) == 0 && stat(bell->path, &named) == 0 &&
        ours.st_ino == named.st_ino && ours.st_dev == named.st_dev)
        return;
    if (bell->fd >= 0)
        close(bell->fd);
    if (open_file(bell) == 0 && bell->notify >= 0) {
        inotify_rm_watch(bell->notify, bell->watch);
        sqlite_bell_watch(bell, log);
    }
}
