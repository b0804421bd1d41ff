#include "tasks/etl_spool.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <xxhash.h>
#include <zlib.h>

#define COPY_LEN (128 * 1024)

bool etl_spool_is_packed(int fd)
{
    unsigned char magic[2];

    return pread(fd, magic, 2, 0) == 2 && magic[0] == 0x1F && magic[1] == 0x8B;
}

static int write_all(int fd, const char *data, size_t len)
{
    while (len > 0) {
        ssize_t n = write(fd, data, len);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -1;
        data += n;
        len -= (size_t)n;
    }
    return 0;
}

/* Copies the whole unpacked stream. where: of the copy, for messages. */
static int inflate_into(gzFile in, const char *path, int out, const char *where,
                        struct etl_err *err)
{
    char buf[COPY_LEN];
    const char *why, *named;
    int code;
    int n;

    while ((n = gzread(in, buf, sizeof(buf))) > 0)
        if (write_all(out, buf, (size_t)n) != 0)
            return etl_err_set(err, ETL_ERR_SPACE, "%s: cannot write the unpacked log: %s", where,
                               strerror(errno));
    why = gzerror(in, &code);
    named = strstr(why, ">: "); /* zlib puts "<fd:4>: " in front */
    why = code == Z_ERRNO ? strerror(errno) : named != NULL ? named + 3 : why;
    if (n < 0 || code != Z_OK)
        return etl_err_set(err, ETL_ERR_INPUT, "%s: damaged gzip data (%s); nothing of it was used",
                           path, why);
    if (fdatasync(out) != 0)
        return etl_err_set(err, ETL_ERR_SPACE, "%s: cannot write the unpacked log: %s", where,
                           strerror(errno));
    return 0;
}

/* Unpacks fd into the new file out. */
static int unpack(int fd, const char *path, int out, const char *where, struct etl_err *err)
{
    int in_fd = fcntl(fd, F_DUPFD_CLOEXEC, 0);
    gzFile in = NULL;
    int rc;

    if (in_fd < 0 || lseek(in_fd, 0, SEEK_SET) != 0 || (in = gzdopen(in_fd, "rb")) == NULL) {
        etl_err_set(err, ETL_ERR_INPUT, "%s: cannot read: %s", path, strerror(errno));
        if (in_fd >= 0)
            close(in_fd);
        return -1;
    }
    gzbuffer(in, COPY_LEN);
    rc = inflate_into(in, path, out, where, err);
    gzclose(in);
    return rc;
}

/* The name may be one that others can guess, in a folder that others can write to: what stands
 * there goes, and nothing is followed. */
static int unpack_to(int fd, const char *path, const char *part, struct etl_err *err)
{
    int out, rc;

    unlink(part);
    out = open(part, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (out < 0)
        return etl_err_set(err, ETL_ERR_SPACE, "%s: cannot create: %s", part, strerror(errno));
    rc = unpack(fd, path, out, part, err);
    close(out);
    return rc;
}

/* A folder that another user made in our place could hold logs of that user's making. */
static int make_folder(const char *folder, struct etl_err *err)
{
    struct stat st;

    if (mkdir(folder, 0700) == 0)
        return 0;
    if (errno != EEXIST || stat(folder, &st) != 0)
        return etl_err_set(err, ETL_ERR_SPACE, "%s: cannot make the spool folder: %s", folder,
                           strerror(errno));
    if (st.st_uid != geteuid() && st.st_uid != 0)
        return etl_err_set(err, ETL_ERR_INPUT,
                           "%s: the spool folder belongs to another user: name one of your own "
                           "with --spool",
                           folder);
    return 0;
}

static int spool_name(int fd, const char *path, const char *folder, char **name,
                      struct etl_err *err)
{
    struct stat st;
    uint64_t identity[5];

    if (fstat(fd, &st) != 0)
        return etl_err_set(err, ETL_ERR_INPUT, "%s: %s", path, strerror(errno));
    identity[0] = (uint64_t)st.st_dev;
    identity[1] = (uint64_t)st.st_ino;
    identity[2] = (uint64_t)st.st_size;
    identity[3] = (uint64_t)st.st_mtim.tv_sec;
    identity[4] = (uint64_t)st.st_mtim.tv_nsec;
    if (asprintf(name, "%s/%016" PRIx64 ".log", folder,
                 (uint64_t)XXH3_64bits(identity, sizeof(identity))) < 0) {
        *name = NULL;
        return etl_err_set(err, ETL_ERR_MEMORY, "out of memory");
    }
    return 0;
}

int etl_spool_unpack(int fd, const char *path, const char *folder, char **spooled,
                     struct etl_err *err)
{
    char *part = NULL;
    int rc = -1;

    *spooled = NULL;
    if (make_folder(folder, err) != 0 || spool_name(fd, path, folder, spooled, err) != 0 ||
        !*spooled)
        return -1;
    if (access(*spooled, R_OK) == 0)
        return 0;
    if (asprintf(&part, "%s.%ld", *spooled, (long)getpid()) < 0) {
        part = NULL;
        etl_err_set(err, ETL_ERR_MEMORY, "out of memory");
        goto out;
    }
    rc = unpack_to(fd, path, part, err);
    if (rc == 0 && rename(part, *spooled) != 0)
        rc = etl_err_set(err, ETL_ERR_SPACE, "%s: cannot rename: %s", part, strerror(errno));
    if (rc != 0)
        unlink(part);
out:
    free(part);
    if (rc != 0) {
        free(*spooled);
        *spooled = NULL;
    }
    return rc;
}

/* A file without a name; a file system that cannot make one gets a name that is removed at once. */
static int open_nameless(const char *folder)
{
    int fd = open(folder, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    char name[4096];

    if (fd >= 0 || (errno != EOPNOTSUPP && errno != EISDIR && errno != EINVAL))
        return fd;
    snprintf(name, sizeof(name), "%s/celeriac-XXXXXX", folder);
    fd = mkostemp(name, O_CLOEXEC);
    if (fd >= 0)
        unlink(name);
    return fd;
}

int etl_spool_unpack_nameless(int fd, const char *path, struct etl_err *err)
{
    const char *tmp = getenv("TMPDIR");
    const char *folder = tmp != NULL && *tmp != '\0' ? tmp : "/tmp";
    int out = open_nameless(folder);

    if (out < 0)
        return etl_err_set(err, ETL_ERR_SPACE, "%s: cannot make a file for the unpacked log: %s",
                           folder, strerror(errno));
    if (unpack(fd, path, out, folder, err) == 0)
        return out;
    close(out);
    return -1;
}
