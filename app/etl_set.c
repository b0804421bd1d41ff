#include "app/etl_set.h"

#include "app/etl.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

static int grow(void **items, size_t len, size_t item_size, struct etl_err *err)
{
    void *grown;

    /* Full at every power of two. */
    if ((len & (len - 1)) != 0)
        return 0;
    grown = realloc(*items, (len == 0 ? 1 : len * 2) * item_size);
    if (grown == NULL)
        return etl_err_set(err, ETL_ERR_MEMORY, "out of memory");
    *items = grown;
    return 0;
}

static int mark_stored(struct etl_set *set, const struct etl_log *log, struct etl_sink *sink,
                       struct etl_err *err)
{
    struct etl_part *part = &set->parts[set->parts_len];
    const struct etl_chunk chunk = {
        log->place.source,
        log->place.device,
        log->place.inode,
        log->place.generation,
        log->format,
        part->cut,
        0,
    };
    struct etl_counts counts;
    int seen = sink != NULL && log->place.known ? etl_sink_seen(sink, &chunk, &counts, err) : 0;

    part->was_stored = seen == 1;
    return seen < 0 ? -1 : 0;
}

static int add_part(struct etl_set *set, const struct etl_cut *cut, struct etl_sink *sink,
                    struct etl_err *err)
{
    size_t log = set->logs_len - 1;

    if (grow((void **)&set->parts, set->parts_len, sizeof(*set->parts), err) != 0)
        return -1;
    set->parts[set->parts_len] = (struct etl_part){log, *cut, false};
    if (mark_stored(set, &set->logs[log], sink, err) != 0)
        return -1;
    set->parts_len++;
    set->lines += cut->lines;
    set->bytes += cut->end - cut->begin;
    return 0;
}

static int cut_log(struct etl_set *set, const struct etl_set_options *options, struct etl_err *err)
{
    const struct etl_log *log = &set->logs[set->logs_len - 1];
    struct etl_cut cut = {0, 0, 0, 0};
    int rc;

    while (options->bytes_max == 0 || set->bytes < options->bytes_max) {
        rc = etl_source_cut(&log->source, cut.end, options->chunk_len, &cut, err);
        if (rc <= 0)
            return rc;
        if (add_part(set, &cut, options->sink, err) != 0)
            return -1;
    }
    return 0;
}

/* Which log it is, and of which format. Nothing is written down for an empty one. */
static int recognise(struct etl_log *log, const struct etl_set_options *options,
                     struct etl_err *err)
{
    if (options->format != NULL)
        log->format = etl_format_named(options->format);
    else if (etl_source_format(&log->source, &log->format, err) != 0)
        return -1;
    if (options->sink == NULL || log->source.size == 0)
        return 0;
    if (etl_sink_place(options->sink, &log->source, log->format, &log->place, err) != 0)
        return -1;
    log->format = log->place.format;
    return 0;
}

static int add_log(struct etl_set *set, const char *path, const struct etl_set_options *options,
                   struct etl_err *err)
{
    struct etl_log *log;

    if (grow((void **)&set->logs, set->logs_len, sizeof(*set->logs), err) != 0)
        return -1;
    log = &set->logs[set->logs_len];
    memset(log, 0, sizeof(*log));
    if (etl_source_open(&log->source, path, options->spool, err) != 0)
        return -1;
    set->logs_len++;
    return recognise(log, options, err);
}

int etl_set_open(struct etl_set *set, char *const *paths, size_t paths_len,
                 const struct etl_set_options *options, struct etl_err *err)
{
    int rc = 0;

    memset(set, 0, sizeof(*set));
    /* A log that cannot be read is noticed before anything of another one is enqueued. */
    for (size_t i = 0; rc == 0 && i < paths_len; i++) {
        rc = add_log(set, paths[i], options, err);
        if (rc == 0)
            rc = cut_log(set, options, err);
    }
    if (rc != 0)
        etl_set_release(set);
    return rc;
}

int etl_set_open_in(struct etl_set *set, const char *db, char *const *paths, size_t paths_len,
                    struct etl_set_options options, struct etl_err *err)
{
    int rc;

    options.sink = etl_sink_sqlite_open(db, ETL_BUSY_MS, err);
    if (options.sink == NULL)
        return -1;
    rc = etl_set_open(set, paths, paths_len, &options, err);
    etl_sink_close(options.sink);
    return rc;
}

void etl_set_release(struct etl_set *set)
{
    for (size_t i = 0; i < set->logs_len; i++) {
        etl_place_release(&set->logs[i].place);
        etl_source_close(&set->logs[i].source);
    }
    free(set->logs);
    free(set->parts);
    memset(set, 0, sizeof(*set));
}

char *etl_set_kwargs(const struct etl_set *set, size_t index, const char *db)
{
    const struct etl_part *part = &set->parts[index];
    const struct etl_log *log = &set->logs[part->log];
    char checksum[ETL_HASH_TEXT_SIZE];
    json_t *kwargs;
    char *text;

    etl_hash_text(part->cut.checksum, checksum);
    kwargs = json_pack("{s:s, s:I, s:I, s:s, s:s}", "path", log->source.data_path, "begin",
                       (json_int_t)part->cut.begin, "end", (json_int_t)part->cut.end, "checksum",
                       checksum, "format", log->format->name);
    if (kwargs != NULL && db != NULL &&
        json_object_update_new(
            kwargs, json_pack("{s:s, s:I, s:I, s:s, s:s}", "source", log->place.source, "device",
                              (json_int_t)log->place.device, "inode", (json_int_t)log->place.inode,
                              "generation", log->place.generation, "db", db)) != 0) {
        json_decref(kwargs);
        return NULL;
    }
    text = kwargs != NULL ? json_dumps(kwargs, JSON_COMPACT) : NULL;
    json_decref(kwargs);
    return text;
}
