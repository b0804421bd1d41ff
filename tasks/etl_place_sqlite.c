#include "tasks/etl_sink_sqlite.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* How a log is recognised. Among the generations that were seen under the same device and inode,
 * the newest comes first whose remembered prefix and whose every loaded chunk have the same bytes
 * as the log has now. So
 *   - an appended log keeps its generation, and one that logrotate renamed as well;
 *   - a truncated or rewritten one gets a new generation, even if it begins with the same bytes;
 *   - a copy is another log: it has another inode.
 * The path is part of the key but does not decide, for a renamed log is the same log. */
static const char candidates_sql[] =
    "SELECT id, path, generation, format, head_len, head_hash FROM source"
    " WHERE device = ? AND inode = ? ORDER BY id DESC";
static const char chunks_sql[] =
    "SELECT begin, end, checksum FROM ledger WHERE source = ? ORDER BY begin, end";
static const char remember_sql[] = "UPDATE source SET head_len = ?, head_hash = ? WHERE id = ?";

struct candidate {
    int64_t id;
    uint64_t head_len;
    uint64_t head_hash;
};

/* Does the range have this hash in the log? 1, 0, or -1 when it cannot be read. */
static int range_fits(const struct etl_source *source, uint64_t begin, uint64_t end,
                      uint64_t wanted, struct etl_err *err)
{
    uint64_t hash;

    if (end > source->size)
        return 0;
    if (etl_source_hash(source, begin, end, &hash, err) != 0)
        return err->kind == ETL_ERR_CHANGED ? 0 : -1;
    return hash == wanted;
}

static int chunks_fit(struct etl_sink_sqlite *sink, const struct etl_source *source, int64_t id,
                      struct etl_err *err)
{
    sqlite3_stmt *stmt;
    int code;
    int fits = 1;

    if (etl_db_prepare(&sink->db, chunks_sql, &stmt, err) != 0)
        return -1;
    sqlite3_bind_int64(stmt, 1, id);
    while (fits == 1 && (code = sqlite3_step(stmt)) != SQLITE_DONE) {
        const char *text;
        uint64_t wanted;

        if (code != SQLITE_ROW) {
            fits = etl_db_fail(&sink->db, "read the ledger", err);
            break;
        }
        text = (const char *)sqlite3_column_text(stmt, 2);
        if (text == NULL || !etl_hash_parse(text, &wanted))
            fits = 0;
        else
            fits = range_fits(source, (uint64_t)sqlite3_column_int64(stmt, 0),
                              (uint64_t)sqlite3_column_int64(stmt, 1), wanted, err);
    }
    sqlite3_finalize(stmt);
    return fits;
}

static int candidate_fits(struct etl_sink_sqlite *sink, const struct etl_source *source,
                          const struct candidate *candidate, struct etl_err *err)
{
    int fits = range_fits(source, 0, candidate->head_len, candidate->head_hash, err);

    return fits == 1 ? chunks_fit(sink, source, candidate->id, err) : fits;
}

/* A log that was short and grew: from now on its longer prefix recognises it. */
static int remember_head(struct etl_sink_sqlite *sink, const struct etl_source *source,
                         const struct candidate *candidate, struct etl_err *err)
{
    char hash[ETL_HASH_TEXT_SIZE];
    sqlite3_stmt *stmt;
    int rc = 0;

    if (candidate->head_len >= source->head_len)
        return 0;
    if (etl_db_prepare(&sink->db, remember_sql, &stmt, err) != 0)
        return -1;
    etl_hash_text(source->head_hash, hash);
    sqlite3_bind_int64(stmt, 1, (sqlite3_int64)source->head_len);
    sqlite3_bind_text(stmt, 2, hash, -1, SQLITE_STATIC);
    sqlite3_bind_int64(stmt, 3, candidate->id);
    if (sqlite3_step(stmt) != SQLITE_DONE)
        rc = etl_db_fail(&sink->db, "write down the log", err);
    sqlite3_finalize(stmt);
    return rc;
}

/* Copies what identifies the log out of the candidate's row. */
static int take_row(sqlite3_stmt *stmt, struct etl_place *place, struct etl_err *err)
{
    const char *path = (const char *)sqlite3_column_text(stmt, 1);
    const char *generation = (const char *)sqlite3_column_text(stmt, 2);
    const char *format = (const char *)sqlite3_column_text(stmt, 3);

    if (path == NULL || generation == NULL || format == NULL ||
        (place->format = etl_format_named(format)) == NULL)
        return etl_err_set(err, ETL_ERR_DATABASE,
                           "the row of the log in table source is damaged (format %s)",
                           format != NULL ? format : "missing");
    place->source = strdup(path);
    if (place->source == NULL)
        return etl_err_set(err, ETL_ERR_MEMORY, "out of memory");
    snprintf(place->generation, sizeof(place->generation), "%s", generation);
    place->id = sqlite3_column_int64(stmt, 0);
    place->known = true;
    return 0;
}

static bool read_candidate(sqlite3_stmt *stmt, struct candidate *candidate)
{
    const char *hash = (const char *)sqlite3_column_text(stmt, 5);

    candidate->id = sqlite3_column_int64(stmt, 0);
    candidate->head_len = (uint64_t)sqlite3_column_int64(stmt, 4);
    return hash != NULL && etl_hash_parse(hash, &candidate->head_hash);
}

/* Looks at the candidates in order: 1 when one fits, 0, or -1. */
static int find_known(struct etl_sink_sqlite *sink, const struct etl_source *source,
                      sqlite3_stmt *stmt, struct etl_place *place, struct etl_err *err)
{
    struct candidate candidate;
    int code;
    int fits = 0;

    sqlite3_bind_int64(stmt, 1, (sqlite3_int64)source->device);
    sqlite3_bind_int64(stmt, 2, (sqlite3_int64)source->inode);
    while (fits == 0 && (code = sqlite3_step(stmt)) == SQLITE_ROW)
        if (read_candidate(stmt, &candidate))
            fits = candidate_fits(sink, source, &candidate, err);
    if (fits == 0 && code != SQLITE_DONE)
        return etl_db_fail(&sink->db, "look up the log", err);
    if (fits != 1)
        return fits;
    if (take_row(stmt, place, err) != 0)
        return -1;
    sqlite3_reset(stmt);
    return remember_head(sink, source, &candidate, err) == 0 ? 1 : -1;
}

/* A generation is named after the hash of the log's beginning; the second one with the same
 * beginning in the same place gets ".2", and so on. */
static int add_generation(struct etl_sink_sqlite *sink, const struct etl_source *source,
                          struct etl_place *place, struct etl_err *err)
{
    char hash[ETL_HASH_TEXT_SIZE];
    struct etl_source_row row = {
        source->path,        source->device,   source->inode, place->generation,
        place->format->name, source->head_len, hash};
    int64_t id;
    int rc;

    etl_hash_text(source->head_hash, hash);
    snprintf(place->generation, sizeof(place->generation), "%s", hash);
    for (unsigned i = 2; (rc = etl_sink_sqlite_find_source(sink, &row, &id, err)) == 1; i++)
        snprintf(place->generation, sizeof(place->generation), "%s.%u", hash, i);
    return rc == 0 ? etl_sink_sqlite_add_source(sink, &row, &place->id, err) : -1;
}

static int begin_generation(struct etl_sink_sqlite *sink, const struct etl_source *source,
                            const struct etl_format *format, struct etl_place *place,
                            struct etl_err *err)
{
    place->format = format;
    place->source = strdup(source->path);
    if (place->source == NULL)
        return etl_err_set(err, ETL_ERR_MEMORY, "out of memory");
    return add_generation(sink, source, place, err);
}

int etl_sink_sqlite_place(struct etl_sink *base, const struct etl_source *source,
                          const struct etl_format *format, struct etl_place *place,
                          struct etl_err *err)
{
    struct etl_sink_sqlite *sink = (struct etl_sink_sqlite *)base;
    sqlite3_stmt *stmt = NULL;
    int rc;

    memset(place, 0, sizeof(*place));
    place->device = source->device;
    place->inode = source->inode;
    /* One transaction, so that two loaders of the same log agree on its generation. */
    if (etl_sink_sqlite_begin(sink, err) != 0)
        return -1;
    rc = etl_db_prepare(&sink->db, candidates_sql, &stmt, err);
    if (rc == 0)
        rc = find_known(sink, source, stmt, place, err);
    sqlite3_finalize(stmt);
    /* Only who loads may change something. */
    if (rc == 1 && format != NULL &&
        etl_sink_sqlite_reopen(sink, place->id, source->size, err) != 0)
        rc = -1;
    if (rc == 0 && format != NULL)
        rc = begin_generation(sink, source, format, place, err);
    if (rc >= 0)
        rc = etl_sink_sqlite_commit(sink, err);
    etl_sink_sqlite_rollback(sink);
    if (rc < 0)
        etl_place_release(place);
    return rc < 0 ? -1 : 0;
}
