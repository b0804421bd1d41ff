#include "tasks/etl_source.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#include "tasks/etl_spool.h"

#define BLOCK_LEN    (64 * 1024)
#define COPY_MAX_LEN ((size_t)64 * 1024 * 1024)

/* Reads exactly len bytes; a shorter file is one that changed. */
static int read_at(int fd, const char *path, uint64_t offset, char *buf, size_t len,
                   struct etl_err *err)
{
    while (len > 0) {
        ssize_t n = pread(fd, buf, len, (off_t)offset);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return etl_err_set(err, ETL_ERR_INPUT, "%s: cannot read at byte %" PRIu64 ": %s", path,
                               offset, strerror(errno));
        if (n == 0)
            return etl_err_set(err, ETL_ERR_CHANGED,
                               "%s: ends at byte %" PRIu64 ", before the end of the chunk: the "
                               "log was truncated or replaced; load it again",
                               path, offset);
        buf += n;
        offset += (uint64_t)n;
        len -= (size_t)n;
    }
    return 0;
}

static int open_regular(const char *path, struct stat *st, struct etl_err *err)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);

    if (fd < 0)
        return etl_err_set(err,
                           errno == ENOENT || errno == ENOTDIR ? ETL_ERR_NOTFOUND : ETL_ERR_INPUT,
                           "%s: cannot open the log: %s", path, strerror(errno));
    if (fstat(fd, st) != 0 || !S_ISREG(st->st_mode)) {
        etl_err_set(err, ETL_ERR_ARGUMENT, "%s: %s", path,
                    S_ISDIR(st->st_mode) ? "is a directory; name the log files in it"
                                         : "is not a regular file; copy it to one first");
        close(fd);
        return -1;
    }
    return fd;
}

/* Swaps the descriptor of a packed log for that of its unpacked copy. */
static int use_spooled(struct etl_source *source, const char *spool, struct stat *st,
                       struct etl_err *err)
{
    int fd;

    if (etl_spool_unpack(source->fd, source->path, spool, &source->data_path, err) != 0)
        return -1;
    fd = open_regular(source->data_path, st, err);
    if (fd < 0)
        return -1;
    close(source->fd);
    source->fd = fd;
    return 0;
}

static int use_nameless(struct etl_source *source, struct stat *st, struct etl_err *err)
{
    int fd = etl_spool_unpack_nameless(source->fd, source->path, err);

    if (fd < 0)
        return -1;
    close(source->fd);
    source->fd = fd;
    if (asprintf(&source->data_path, "/proc/self/fd/%d", fd) < 0) {
        source->data_path = NULL;
        return etl_err_set(err, ETL_ERR_MEMORY, "out of memory");
    }
    return fstat(fd, st) == 0
               ? 0
               : etl_err_set(err, ETL_ERR_INPUT, "%s: %s", source->path, strerror(errno));
}

static int find_data(struct etl_source *source, const char *spool, struct stat *st,
                     struct etl_err *err)
{
    if (etl_spool_is_packed(source->fd))
        return spool != NULL ? use_spooled(source, spool, st, err) : use_nameless(source, st, err);
    source->data_path = strdup(source->path);
    return source->data_path != NULL ? 0 : etl_err_set(err, ETL_ERR_MEMORY, "out of memory");
}

int etl_source_open(struct etl_source *source, const char *path, const char *spool,
                    struct etl_err *err)
{
    struct stat st = {0};

    memset(source, 0, sizeof(*source));
    source->fd = open_regular(path, &st, err);
    if (source->fd < 0)
        return -1;
    source->path = realpath(path, NULL);
    if (source->path == NULL) {
        etl_err_set(err, ETL_ERR_INPUT, "%s: %s", path, strerror(errno));
        goto out;
    }
    source->device = (uint64_t)st.st_dev;
    source->inode = (uint64_t)st.st_ino;
    if (find_data(source, spool, &st, err) != 0)
        goto out;
    source->size = (uint64_t)st.st_size;
    source->head_len = source->size < ETL_HEAD_LEN ? (size_t)source->size : ETL_HEAD_LEN;
    if (etl_source_hash(source, 0, source->head_len, &source->head_hash, err) == 0)
        return 0;
out:
    etl_source_close(source);
    return -1;
}

void etl_source_close(struct etl_source *source)
{
    if (source->fd >= 0)
        close(source->fd);
    free(source->path);
    free(source->data_path);
    memset(source, 0, sizeof(*source));
    source->fd = -1;
}

int etl_source_hash(const struct etl_source *source, uint64_t begin, uint64_t end, uint64_t *hash,
                    struct etl_err *err)
{
    char buf[BLOCK_LEN];
    XXH3_state_t *state = XXH3_createState();
    int rc = 0;

    if (state == NULL)
        return etl_err_set(err, ETL_ERR_MEMORY, "out of memory");
    XXH3_64bits_reset(state);
    while (rc == 0 && begin < end) {
        size_t len = end - begin < sizeof(buf) ? (size_t)(end - begin) : sizeof(buf);

        rc = read_at(source->fd, source->data_path, begin, buf, len, err);
        if (rc == 0)
            XXH3_64bits_update(state, buf, len);
        begin += len;
    }
    *hash = XXH3_64bits_digest(state);
    XXH3_freeState(state);
    return rc;
}

/* How many of these bytes belong to the chunk: up to the first line end at or after wanted. The
 * byte before `begin + wanted` counts, so that a chunk may be exactly as long as wanted. */
static size_t bytes_of_chunk(const char *buf, size_t len, uint64_t before, uint64_t wanted_len,
                             bool *complete)
{
    size_t from = wanted_len > before + 1 ? (size_t)(wanted_len - before - 1) : 0;
    const char *lf = from < len ? memchr(buf + from, '\n', len - from) : NULL;

    *complete = lf != NULL;
    return lf != NULL ? (size_t)(lf - buf) + 1 : len;
}

/* Counted here and not by those who parse, so that their counts can be held against it. */
static uint64_t count_newlines(const char *buf, size_t len)
{
    uint64_t n = 0;

    for (size_t i = 0; i < len; i++)
        n += buf[i] == '\n';
    return n;
}

int etl_source_cut(const struct etl_source *source, uint64_t begin, uint64_t wanted_len,
                   struct etl_cut *cut, struct etl_err *err)
{
    char buf[BLOCK_LEN];
    XXH3_state_t *state;
    bool complete = false;
    char last = '\n';
    int rc = 1;

    if (begin >= source->size)
        return 0;
    state = XXH3_createState();
    if (state == NULL)
        return etl_err_set(err, ETL_ERR_MEMORY, "out of memory");
    XXH3_64bits_reset(state);
    *cut = (struct etl_cut){begin, begin, 0, 0};
    while (!complete && cut->end < source->size) {
        uint64_t left = source->size - cut->end;
        size_t len = left < sizeof(buf) ? (size_t)left : sizeof(buf);

        if (read_at(source->fd, source->data_path, cut->end, buf, len, err) != 0) {
            rc = -1;
            break;
        }
        len = bytes_of_chunk(buf, len, cut->end - begin, wanted_len, &complete);
        XXH3_64bits_update(state, buf, len);
        cut->end += len;
        cut->lines += count_newlines(buf, len);
        last = buf[len - 1];
    }
    cut->lines += last != '\n'; /* the file's last line may have none */
    cut->checksum = XXH3_64bits_digest(state);
    XXH3_freeState(state);
    return rc;
}

int etl_source_format(const struct etl_source *source, const struct etl_format **format,
                      struct etl_err *err)
{
    struct etl_slice data = {"", (size_t)source->size};
    void *map;

    if (source->size == 0) {
        *format = etl_format_choose(data);
        return 0;
    }
    map = mmap(NULL, data.len, PROT_READ, MAP_PRIVATE, source->fd, 0);
    if (map == MAP_FAILED)
        return etl_err_set(err, ETL_ERR_INPUT, "%s: cannot map: %s", source->data_path,
                           strerror(errno));
    data.at = map;
    *format = etl_format_choose(data);
    munmap(map, data.len);
    return 0;
}

static int copy_chunk(struct etl_chunk_data *data, int fd, const char *path,
                      const struct etl_cut *cut, struct etl_err *err)
{
    char *copy = malloc(data->bytes.len + 1);

    if (copy == NULL)
        return etl_err_set(err, ETL_ERR_MEMORY, "%s: out of memory for a chunk of %zu bytes", path,
                           data->bytes.len);
    data->bytes.at = copy;
    return read_at(fd, path, cut->begin, copy, data->bytes.len, err);
}

/* Maps from the beginning of the file, because only a page's beginning can be mapped. */
static int map_chunk(struct etl_chunk_data *data, int fd, const char *path,
                     const struct etl_cut *cut, struct etl_err *err)
{
    struct stat st;
    void *map;

    if (fstat(fd, &st) != 0 || (uint64_t)st.st_size < cut->end)
        return etl_err_set(err, ETL_ERR_CHANGED,
                           "%s: is shorter than when it was enqueued; load it again", path);
    map = mmap(NULL, (size_t)cut->end, PROT_READ, MAP_PRIVATE | MAP_NORESERVE, fd, 0);
    if (map == MAP_FAILED)
        return etl_err_set(err, ETL_ERR_MEMORY, "%s: cannot map %" PRIu64 " bytes: %s", path,
                           cut->end, strerror(errno));
    data->bytes.at = (const char *)map + cut->begin;
    data->map_len = (size_t)cut->end;
    return 0;
}

static int fill_chunk(struct etl_chunk_data *data, int fd, const char *path,
                      const struct etl_cut *cut, struct etl_err *err)
{
    int rc = data->bytes.len > COPY_MAX_LEN ? map_chunk(data, fd, path, cut, err)
                                            : copy_chunk(data, fd, path, cut, err);

    if (rc != 0)
        return -1;
    if (XXH3_64bits(data->bytes.at, data->bytes.len) != cut->checksum)
        return etl_err_set(err, ETL_ERR_CHANGED,
                           "%s: bytes %" PRIu64 " to %" PRIu64 " are not those that were enqueued: "
                           "the log was replaced or changed in place; load it again",
                           path, cut->begin, cut->end);
    return 0;
}

int etl_chunk_read(struct etl_chunk_data *data, const char *path, const struct etl_cut *cut,
                   struct etl_err *err)
{
    struct stat st;
    int fd = open_regular(path, &st, err);
    int rc;

    memset(data, 0, sizeof(*data));
    if (fd < 0)
        return -1;
    data->bytes.len = (size_t)(cut->end - cut->begin);
    rc = fill_chunk(data, fd, path, cut, err);
    close(fd);
    if (rc != 0)
        etl_chunk_release(data);
    return rc;
}

void etl_chunk_release(struct etl_chunk_data *data)
{
    if (data->map_len > 0)
        munmap((void *)(uintptr_t)(data->bytes.at + data->bytes.len - data->map_len),
               data->map_len);
    else
        free((void *)(uintptr_t)data->bytes.at);
    memset(data, 0, sizeof(*data));
}

uint64_t etl_hash_of_nothing(void)
{
    return XXH3_64bits("", 0);
}

void etl_hash_text(uint64_t hash, char text[ETL_HASH_TEXT_SIZE])
{
    snprintf(text, ETL_HASH_TEXT_SIZE, "%016" PRIx64, hash);
}

bool etl_hash_parse(const char *text, uint64_t *hash)
{
    char *end;

    if (strlen(text) != ETL_HASH_TEXT_SIZE - 1 || strspn(text, "0123456789abcdef") != 16)
        return false;
    *hash = strtoull(text, &end, 16);
    return *end == '\0';
}
