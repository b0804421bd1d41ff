/*
 * etl_sink.h - where events go: the interface that every kind of store fulfils.
 *
 * Purpose: the tasks and the command know chunks, batches and counts, but not SQL. A further sink
 * is one file with one table of functions.
 *
 * Model: a sink remembers which generations of which logs it has seen and which chunks it stored.
 * Storing a chunk is one step: all its events, its bad lines and its ledger row, or nothing.
 *
 * Invariants that every sink keeps:
 * 1. Storing a chunk again changes nothing and returns the first run's counts, marked replayed.
 * 2. Storing other chunks over the same bytes stores no event twice: those present count as
 *    duplicates. An event is known by its request id, if its format has one, else by (source,
 *    generation, offset); never by its content.
 * 3. inserted + quarantined + duplicates = lines, for each chunk. A bad line counts as quarantined
 *    each time it is seen, and is kept once.
 *
 * Fork and threads: a sink belongs to the process that opened it; open after fork.
 */
#ifndef CELERIAC_ETL_SINK_H
#define CELERIAC_ETL_SINK_H

#include <stdbool.h>
#include <stdlib.h>

#include "tasks/etl_batch.h"
#include "tasks/etl_source.h"

#define ETL_GENERATION_SIZE 32
#define ETL_RAW_MAX_LEN     ETL_LINE_MAX_LEN /* bytes kept of a bad line */

/* A chunk as the task gets it. Strings are borrowed. */
struct etl_chunk {
    const char *source; /* real path of the log when it was first seen */
    uint64_t device;
    uint64_t inode;
    const char *generation;
    const struct etl_format *format;
    struct etl_cut cut;
    uint64_t fence; /* of the attempt, kept in the ledger */
};

struct etl_counts {
    uint64_t lines;
    uint64_t inserted;
    uint64_t quarantined;
    uint64_t duplicates;
    uint64_t reasons[ETL_REASONS]; /* quarantined, by reason */
    bool replayed;
};

/* What a sink knows about a log that is about to be loaded. */
struct etl_place {
    bool known;   /* it was seen before */
    int64_t id;   /* the sink's own number for the generation */
    char *source; /* owned: the path under which it was first seen */
    uint64_t device;
    uint64_t inode;
    char generation[ETL_GENERATION_SIZE];
    const struct etl_format *format;
};

struct etl_sink;

struct etl_sink_ops {
    /* Finds the generation that the log belongs to, or begins a new one of this format. format
     * NULL: finds only; place->known says whether it did. */
    int (*place)(struct etl_sink *sink, const struct etl_source *source,
                 const struct etl_format *format, struct etl_place *place, struct etl_err *err);
    /* Was this chunk stored already? 1 with the counts of then, 0, or -1. */
    int (*seen)(struct etl_sink *sink, const struct etl_chunk *chunk, struct etl_counts *counts,
                struct etl_err *err);
    /* Stores a chunk that was read into batch. */
    int (*store)(struct etl_sink *sink, const struct etl_chunk *chunk,
                 const struct etl_batch *batch, struct etl_counts *counts, struct etl_err *err);
    /* Does what is stored under this name still belong to this handle? */
    bool (*is_current)(const struct etl_sink *sink, const char *name);
    void (*close)(struct etl_sink *sink);
};

struct etl_sink {
    const struct etl_sink_ops *ops;
};

/* Opens an SQLite file; busy_ms: how long to wait for another writer. NULL with err on failure. */
struct etl_sink *etl_sink_sqlite_open(const char *path, int64_t busy_ms, struct etl_err *err);

static inline int etl_sink_place(struct etl_sink *sink, const struct etl_source *source,
                                 const struct etl_format *format, struct etl_place *place,
                                 struct etl_err *err)
{
    return sink->ops->place(sink, source, format, place, err);
}

static inline void etl_place_release(struct etl_place *place)
{
    free(place->source);
    place->source = NULL;
}

static inline int etl_sink_seen(struct etl_sink *sink, const struct etl_chunk *chunk,
                                struct etl_counts *counts, struct etl_err *err)
{
    return sink->ops->seen(sink, chunk, counts, err);
}

static inline int etl_sink_store(struct etl_sink *sink, const struct etl_chunk *chunk,
                                 const struct etl_batch *batch, struct etl_counts *counts,
                                 struct etl_err *err)
{
    return sink->ops->store(sink, chunk, batch, counts, err);
}

static inline bool etl_sink_is_current(const struct etl_sink *sink, const char *name)
{
    return sink->ops->is_current(sink, name);
}

static inline void etl_sink_close(struct etl_sink *sink)
{
    if (sink != NULL)
        sink->ops->close(sink);
}

#endif
