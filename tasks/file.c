#include "tasks/file.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define BLOCK_LEN ((size_t)64 * 1024)

/* 0, or the error. */
static int read_blocks(struct celeriac_call *call, int fd, file_take *take, void *user)
{
    unsigned char block[BLOCK_LEN];
    ssize_t len;

    do {
        if (celeriac_cancelled(call))
            return ECANCELED;
        len = read(fd, block, sizeof(block));
        if (len > 0)
            take(user, block, (size_t)len);
    } while (len > 0 || (len < 0 && errno == EINTR));
    return len < 0 ? errno : 0;
}

/* A pipe would make the runner wait for somebody who writes. */
static int open_regular(const char *path, int *fd)
{
    struct stat st;

    *fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (*fd < 0 || fstat(*fd, &st) != 0)
        return errno;
    return S_ISREG(st.st_mode) ? 0 : S_ISDIR(st.st_mode) ? EISDIR : EINVAL;
}

bool file_read(struct celeriac_call *call, file_take *take, void *user, int *rc)
{
    const char *path = json_string_value(celeriac_arg(call, 0, "path"));
    int fd, why;

    if (path == NULL) {
        *rc = celeriac_fail(call, "TypeError", "path is not a string");
        return false;
    }
    why = open_regular(path, &fd);
    if (why == 0)
        why = read_blocks(call, fd, take, user);
    if (fd >= 0)
        close(fd);
    if (why != 0)
        *rc = why == ECANCELED ? -1 : celeriac_fail(call, "OSError", strerror(why));
    return why == 0;
}
