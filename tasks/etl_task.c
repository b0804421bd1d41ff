/*
 * etl_task.c - the tasks that load access logs.
 *
 * Purpose: the rows of `etl.load_chunk` and `etl.parse_chunk` for the table of built-in tasks.
 *
 * Model: both take the keyword arguments of one chunk and answer with its counts.
 *   path          where the bytes are read (the log, or its unpacked copy)
 *   source, device, inode, generation   which log it is
 *   begin, end    byte range, on line ends
 *   checksum      hash of these bytes, 16 hexadecimal digits
 *   format        name of the format
 *   db            database to load into (load_chunk only)
 * The result: lines, inserted, quarantined, duplicates, reasons (by code, only those that occur),
 * replayed, bytes, cpu_s, pid. parse_chunk reads and parses and stores nothing: its events are
 * those that would have been tried (`events`).
 *
 * A busy database or a full disk is a retry; a log that changed is a failure, because no later
 * attempt can find the bytes that were enqueued.
 *
 * Fork and threads: a runner keeps one sink open from its first chunk to its end. It is the only
 * state, it belongs to one process, and it was opened after the fork.
 */
#include "tasks/builtin.h"

#include <string.h>
#include <time.h>
#include <unistd.h>

#include "tasks/etl_sink.h"

#define LOAD_PARAMS  "path, source, device, inode, generation, begin, end, checksum, format, db"
#define PARSE_PARAMS "path, begin, end, checksum, format"

/* Several runners write to one database, and a chunk holds its lock for some tens of milliseconds:
 * waiting in line is cheaper than a retry through the broker. */
#define BUSY_MS       20000
#define RETRIES       20
#define BACKOFF_S     0.5
#define BACKOFF_MAX_S 30.0
#define TURNS         16
#define TURN_NS       4000000

/* What a call asks for. Strings are borrowed from the call. */
struct order {
    const char *path;
    const char *db;
    struct etl_chunk chunk;
};

/* The sink that this runner has open: task.h's init and exit have no place for state of their own.
 */
static struct etl_sink *kept_sink;

static double cpu_s(void)
{
    struct timespec now;

    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

/* The argument of this name, wherever it stands: params keeps the order of positional ones. */
static json_t *argument(struct celeriac_call *call, const char *name, size_t position)
{
    json_t *value = json_object_get(call->kwargs, name);

    return value != NULL ? value : json_array_get(call->args, position);
}

static int take_string(struct celeriac_call *call, const char *name, size_t position,
                       const char **out, struct etl_err *err)
{
    *out = json_string_value(argument(call, name, position));
    return *out != NULL ? 0 : etl_err_set(err, ETL_ERR_ARGUMENT, "%s must be a string", name);
}

static int take_number(struct celeriac_call *call, const char *name, size_t position, uint64_t *out,
                       struct etl_err *err)
{
    json_t *value = argument(call, name, position);

    if (!json_is_integer(value))
        return etl_err_set(err, ETL_ERR_ARGUMENT, "%s must be an integer", name);
    *out = (uint64_t)json_integer_value(value);
    return 0;
}

/* begin, end, checksum and format stand together in both tasks, from this position on. */
static int take_cut(struct celeriac_call *call, size_t position, struct etl_chunk *chunk,
                    struct etl_err *err)
{
    const char *checksum;
    const char *format;

    if (take_number(call, "begin", position, &chunk->cut.begin, err) != 0 ||
        take_number(call, "end", position + 1, &chunk->cut.end, err) != 0 ||
        take_string(call, "checksum", position + 2, &checksum, err) != 0 ||
        take_string(call, "format", position + 3, &format, err) != 0)
        return -1;
    if (chunk->cut.end < chunk->cut.begin || chunk->cut.end > INT64_MAX)
        return etl_err_set(err, ETL_ERR_ARGUMENT, "begin and end are not a byte range");
    if (!etl_hash_parse(checksum, &chunk->cut.checksum))
        return etl_err_set(err, ETL_ERR_ARGUMENT, "checksum must be 16 hexadecimal digits");
    chunk->format = etl_format_named(format);
    return chunk->format != NULL
               ? 0
               : etl_err_set(err, ETL_ERR_ARGUMENT, "format %.40s is not known", format);
}

static int take_order(struct celeriac_call *call, struct order *order, struct etl_err *err)
{
    struct etl_chunk *chunk = &order->chunk;

    chunk->fence = call->fence;
    if (take_string(call, "path", 0, &order->path, err) != 0 ||
        take_string(call, "source", 1, &chunk->source, err) != 0 ||
        take_number(call, "device", 2, &chunk->device, err) != 0 ||
        take_number(call, "inode", 3, &chunk->inode, err) != 0 ||
        take_string(call, "generation", 4, &chunk->generation, err) != 0 ||
        take_string(call, "db", 9, &order->db, err) != 0)
        return -1;
    return take_cut(call, 5, chunk, err);
}

/* The runner's sink, opened or reopened when another database is asked for, or another file has
 * taken its place. */
static struct etl_sink *sink_for(const char *db, struct etl_err *err)
{
    if (kept_sink != NULL && etl_sink_is_current(kept_sink, db))
        return kept_sink;
    etl_sink_close(kept_sink);
    kept_sink = etl_sink_sqlite_open(db, BUSY_MS, err);
    return kept_sink;
}

/* The runners of a worker leave in the same moment. Of connections that close at once each sees the
 * others, and none removes the write-ahead log; pids that follow one another close one by one. */
static void close_sink(void)
{
    const struct timespec turn = {0, (long)(getpid() % TURNS) * TURN_NS};

    if (kept_sink != NULL)
        nanosleep(&turn, NULL);
    etl_sink_close(kept_sink);
    kept_sink = NULL;
}

static int load_new(struct etl_sink *sink, const struct order *order, struct etl_counts *counts,
                    struct etl_err *err)
{
    struct etl_chunk_data data;
    struct etl_batch batch;
    int rc;

    if (etl_chunk_read(&data, order->path, &order->chunk.cut, err) != 0)
        return -1;
    rc = etl_batch_read(&batch, order->chunk.format, data.bytes, order->chunk.cut.begin, err);
    if (rc == 0) {
        rc = etl_sink_store(sink, &order->chunk, &batch, counts, err);
        etl_batch_release(&batch);
    }
    etl_chunk_release(&data);
    return rc;
}

static int load(const struct order *order, struct etl_counts *counts, struct etl_err *err)
{
    struct etl_sink *sink = sink_for(order->db, err);
    int seen;

    if (sink == NULL)
        return -1;
    /* A chunk that was stored needs no parsing, and its log may be gone by now. */
    seen = etl_sink_seen(sink, &order->chunk, counts, err);
    if (seen != 0)
        return seen < 0 ? -1 : 0;
    return load_new(sink, order, counts, err);
}

static json_t *reasons_json(const uint64_t reasons[ETL_REASONS])
{
    json_t *object = json_object();

    for (int i = ETL_OK + 1; i < ETL_REASONS; i++)
        if (reasons[i] > 0)
            json_object_set_new(object, etl_reason_name((enum etl_reason)i),
                                json_integer((json_int_t)reasons[i]));
    return object;
}

static void add_cost(json_t *result, const struct etl_cut *cut, double cpu_before_s)
{
    json_object_set_new(result, "bytes", json_integer((json_int_t)(cut->end - cut->begin)));
    json_object_set_new(result, "cpu_s", json_real(cpu_s() - cpu_before_s));
    json_object_set_new(result, "pid", json_integer((json_int_t)getpid()));
}

/* A failure that time may mend is a retry, any other a FAILURE with the reason. */
static int verdict_of_error(struct celeriac_call *call, const struct etl_err *err)
{
    struct celeriac_retry how = CELERIAC_RETRY_INIT;

    if (err->kind != ETL_ERR_BUSY && err->kind != ETL_ERR_SPACE)
        return celeriac_fail(call, etl_err_type(err->kind), err->text);
    how.exc_type = etl_err_type(err->kind);
    how.exc_message = err->text;
    return call->fn->retry(call, &how);
}

static int run_load(struct celeriac_call *call)
{
    double cpu_before_s = cpu_s();
    struct order order = {0};
    struct etl_counts counts;
    struct etl_err err;
    json_t *result;

    if (take_order(call, &order, &err) != 0 || load(&order, &counts, &err) != 0)
        return verdict_of_error(call, &err);
    result = json_pack("{s:I, s:I, s:I, s:I, s:o, s:b}", "lines", (json_int_t)counts.lines,
                       "inserted", (json_int_t)counts.inserted, "quarantined",
                       (json_int_t)counts.quarantined, "duplicates", (json_int_t)counts.duplicates,
                       "reasons", reasons_json(counts.reasons), "replayed", counts.replayed);
    add_cost(result, &order.chunk.cut, cpu_before_s);
    return celeriac_ok(call, result);
}

static int run_parse(struct celeriac_call *call)
{
    double cpu_before_s = cpu_s();
    struct etl_chunk chunk = {0};
    struct etl_chunk_data data;
    struct etl_batch batch;
    struct etl_err err;
    const char *path;
    json_t *result;
    int rc;

    if (take_string(call, "path", 0, &path, &err) != 0 || take_cut(call, 1, &chunk, &err) != 0 ||
        etl_chunk_read(&data, path, &chunk.cut, &err) != 0)
        return verdict_of_error(call, &err);
    rc = etl_batch_read(&batch, chunk.format, data.bytes, chunk.cut.begin, &err);
    etl_chunk_release(&data);
    if (rc != 0)
        return verdict_of_error(call, &err);
    result = json_pack("{s:I, s:I, s:I, s:o}", "lines", (json_int_t)batch.records_len, "events",
                       (json_int_t)batch.events_len, "quarantined",
                       (json_int_t)(batch.records_len - batch.events_len), "reasons",
                       reasons_json(batch.reasons));
    etl_batch_release(&batch);
    add_cost(result, &chunk.cut, cpu_before_s);
    return celeriac_ok(call, result);
}

static int nothing_to_prepare(void)
{
    return 0;
}

struct builtin_table etl_tasks(void)
{
    static const struct celeriac_task rows[] = {
        {.size = sizeof(struct celeriac_task),
         .name = "etl.load_chunk",
         .params = LOAD_PARAMS,
         .run = run_load,
         .init = nothing_to_prepare,
         .exit = close_sink,
         .max_retries = RETRIES,
         .backoff_s = BACKOFF_S,
         .backoff_max_s = BACKOFF_MAX_S},
        {.size = sizeof(struct celeriac_task),
         .name = "etl.parse_chunk",
         .params = PARSE_PARAMS,
         .run = run_parse},
    };

    return BUILTIN_TABLE(rows);
}
