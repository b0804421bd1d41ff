/*
 * etl_verify.h - does the database hold what the log says?
 *
 * Purpose: `celeriac etl verify` reads a log again and holds every line against the database,
 * without looking at the ledger or at anything the load said about itself.
 *
 * Model: the lines of the log and the rows of its generation both come in order of their offset and
 * are merged. A good line is a row at its offset, or, if it has a request id, a row elsewhere (a
 * duplicate); a bad line is a quarantined one with the same reason. What has no partner is missing,
 * or extra.
 *
 * Invariant: rows + quarantined + duplicates + missing + wrong = lines.
 *
 * Fork and threads: opens and closes a handle of its own.
 */
#ifndef CELERIAC_ETL_VERIFY_H
#define CELERIAC_ETL_VERIFY_H

#include "tasks/etl_paths.h"
#include "tasks/etl_sink.h"

struct etl_verdict {
    uint64_t lines;
    uint64_t rows;
    uint64_t quarantined;
    uint64_t duplicates;
    uint64_t missing; /* lines without a row */
    uint64_t wrong;   /* lines whose row has other values */
    uint64_t extra;   /* rows without a line */
};

static inline bool etl_verdict_is_clean(const struct etl_verdict *verdict)
{
    return verdict->missing == 0 && verdict->wrong == 0 && verdict->extra == 0;
}

/* Compares a log with what was loaded of it; place as etl_sink_place found it. */
int etl_verify(const char *db, const struct etl_source *source, const struct etl_place *place,
               struct etl_verdict *verdict, struct etl_err *err);

/* The paths of all logs that were loaded, without repetition. */
int etl_paths_read(struct etl_paths *paths, const char *db, struct etl_err *err);

#endif
