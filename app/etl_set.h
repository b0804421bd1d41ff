/*
 * etl_set.h - the logs of one command line, recognised and cut into parts.
 *
 * Purpose: load and calibrate turn file names into parts, one task each.
 * Model: logs are opened (unpacked first, if they are packed), found in the sink, and cut. A part
 * says which log it belongs to and which bytes it is, and whether the sink had it before this run:
 * only so can a part that was redelivered within this run be told from one of an earlier run.
 * Ownership: everything in the set is its own. Fork rule: open after fork.
 */
#ifndef APP_ETL_SET_H
#define APP_ETL_SET_H

#include <stdbool.h>

#include "tasks/etl_sink.h"

struct etl_log {
    struct etl_source source;
    struct etl_place place;
    const struct etl_format *format;
};

struct etl_part {
    size_t log; /* index */
    struct etl_cut cut;
    bool was_stored;
};

struct etl_set {
    struct etl_log *logs;
    size_t logs_len;
    struct etl_part *parts;
    size_t parts_len;
    uint64_t lines;
    uint64_t bytes;
};

struct etl_set_options {
    const char *spool;
    const char *format;    /* of logs that are not known yet; NULL: by majority */
    uint64_t chunk_len;    /* wanted length of a part */
    uint64_t bytes_max;    /* stop cutting after so many; 0: all */
    struct etl_sink *sink; /* NULL: the logs are not looked up */
};

/* All or nothing: on failure nothing needs to be released. */
int etl_set_open(struct etl_set *set, char *const *paths, size_t paths_len,
                 const struct etl_set_options *options, struct etl_err *err);
void etl_set_release(struct etl_set *set);

/* The same with the database at `db` as the options' sink, open as long as the logs are looked up.
 */
int etl_set_open_in(struct etl_set *set, const char *db, char *const *paths, size_t paths_len,
                    struct etl_set_options options, struct etl_err *err);

/* The keyword arguments of etl.load_chunk (db given) or etl.parse_chunk (NULL) for a part, as JSON.
 * Owned by the caller; NULL when out of memory or when a path is not UTF-8. */
char *etl_set_kwargs(const struct etl_set *set, size_t part, const char *db);

#endif
