/*
 * etl_source.h - a log file: which one it is, and how it is cut into chunks.
 *
 * Purpose: "every event once" needs a name for a file that survives what happens to logs. A source
 * is known by its real path, device, inode and the hash of its first 1,024 bytes (of all, if it is
 * shorter). Its generation says which of the files that stood in this place it is; rotating or
 * truncating begins another one, appending does not.
 *
 * Model: the hash is remembered together with the length it was made of, so that a file which was
 * shorter than 1,024 bytes is still recognised after it grew: the stored prefix is hashed again and
 * compared. Chunks are cut at the first line end at or after the wanted length, so they depend on
 * the bytes alone, and carry a checksum that the runner compares before it believes the bytes.
 * The offsets of a packed log are those of the unpacked stream; its identity is the packed file's.
 *
 * Only the bytes that were there at open are looked at; what is appended meanwhile is left for the
 * next load.
 *
 * Fork and threads: one handle, one thread; open it after a fork.
 */
#ifndef CELERIAC_ETL_SOURCE_H
#define CELERIAC_ETL_SOURCE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "tasks/etl_err.h"
#include "tasks/etl_line.h"

#define ETL_HEAD_LEN       1024
#define ETL_HASH_TEXT_SIZE 17 /* 16 hexadecimal digits and NUL */

struct etl_source {
    char *path;      /* owned: real path of the log that was named */
    char *data_path; /* owned: where its bytes can be read; differs for a packed log */
    uint64_t device;
    uint64_t inode;
    uint64_t size; /* of the data */
    size_t head_len;
    uint64_t head_hash;
    int fd; /* of the data */
};

/* One chunk: a byte range that begins and ends on line ends, and the hash of its bytes. */
struct etl_cut {
    uint64_t begin;
    uint64_t end;
    uint64_t checksum;
    uint64_t lines;
};

/* The bytes of one chunk. They are a copy, so that a log which is truncated meanwhile cannot hurt
 * the reader; only a chunk that one endless line has made huge (a hole left by a crash, say) is
 * mapped instead. */
struct etl_chunk_data {
    struct etl_slice bytes; /* owned */
    size_t map_len;         /* 0: copied */
};

/* spool: folder for unpacked logs; NULL: data_path is then for this process alone. On failure
 * nothing needs to be closed. */
int etl_source_open(struct etl_source *source, const char *path, const char *spool,
                    struct etl_err *err);
void etl_source_close(struct etl_source *source);

/* Hash of the bytes [begin, end). An end beyond the data is an ETL_ERR_CHANGED. */
int etl_source_hash(const struct etl_source *source, uint64_t begin, uint64_t end, uint64_t *hash,
                    struct etl_err *err);

/* The chunk that begins at begin and is about wanted_len long: 1, 0 at the end of the data, -1. */
int etl_source_cut(const struct etl_source *source, uint64_t begin, uint64_t wanted_len,
                   struct etl_cut *cut, struct etl_err *err);

/* The format of the file, by majority of its first lines. */
int etl_source_format(const struct etl_source *source, const struct etl_format **format,
                      struct etl_err *err);

/* Reads the bytes of a cut from the file at path and compares their hash: ETL_ERR_CHANGED if they
 * are not those that were cut. On failure nothing needs to be released. */
int etl_chunk_read(struct etl_chunk_data *data, const char *path, const struct etl_cut *cut,
                   struct etl_err *err);
void etl_chunk_release(struct etl_chunk_data *data);

/* What a prefix of length zero has. */
uint64_t etl_hash_of_nothing(void);

/* A hash as 16 hexadecimal digits, and back. */
void etl_hash_text(uint64_t hash, char text[ETL_HASH_TEXT_SIZE]);
bool etl_hash_parse(const char *text, uint64_t *hash);

#endif
