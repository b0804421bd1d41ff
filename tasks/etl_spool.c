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

/* Copies the whole unpacked stream. */
static int inflate_into(gzFile in, const char *path, int out, const char *spooled,
                        struct etl_err *err)
{
    char buf[COPY_LEN];
    const char *why;
    int code;
    int n;

    while ((n = gzread(in, buf, sizeof(buf))) > 0)
        if (write_all(out, buf, (size_t)n) != 0)
            return etl_err_set(err, ETL_ERR_SPACE, "%s: cannot write the unpacked log: %s", spooled,
                               strerror(errno));
    why = gzerror(in, &code);
    if (n < 0 || code != Z_OK)
        return etl_err_set(err, ETL_ERR_INPUT, "%s: damaged gzip data (%s); nothing of it was used",
                           path, code == Z_ERRNO ? strerror(errno) : why);
    if (fdatasync(out) != 0)
        return etl_err_set(err, ETL_ERR_SPACE, "%s: cannot write the unpacked log: %s", spooled,
                           strerror(errno));
    return 0;
}

/* Unpacks fd into a new file of this name. */
static int unpack_to(int fd, const char *path, const char *spooled, struct etl_err *err)
{
    int in_fd = fcntl(fd, F_DUPFD_CLOEXEC, 0);
    gzFile in = NULL;
    int out = -1;
    int rc = -1;

    if (in_fd < 0 || lseek(in_fd, 0, SEEK_SET) != 0 || (in = gzdopen(in_fd, "rb")) == NULL) {
        etl_err_set(err, ETL_ERR_INPUT, "%s: cannot read: %s", path, strerror(errno));
        if (in_fd >= 0)
            close(in_fd);
        return -1;
    }
    gzbuffer(in, COPY_LEN);
    out = open(spooled, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (out < 0)
        etl_err_set(err, ETL_ERR_SPACE, "%s: cannot create: %s", spooled, strerror(errno));
    else
        rc = inflate_into(in, path, out, spooled, err);
    gzclose(in);
    if (out >= 0)
        close(out);
    return rc;
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
    if (mkdir(folder, 0700) != 0 && errno != EEXIST)
        return etl_err_set(err, ETL_ERR_SPACE, "%s: cannot make the spool folder: %s", folder,
                           strerror(errno));
    if (spool_name(fd, path, folder, spooled, err) != 0 || *spooled == NULL)
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
