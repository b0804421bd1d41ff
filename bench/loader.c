/*
 * What loading an access log costs without a queue: one process that cuts the log, reads, parses
 * and stores chunk after chunk, through the functions that the tasks use, so that rows, statements
 * and transactions are the same. Without DB it parses only. Prints one JSON line: counts, the
 * seconds of each part, and of parsing alone (reading and comparing the checksum included) the CPU
 * seconds too.
 * usage: loader LOG [DB]
 */
#include "base/clock.h"
#include "tasks/etl_sink.h"

#include <inttypes.h>
#include <stdio.h>
#include <time.h>

#define CHUNK_LEN 2097152 /* as `celeriac etl load` has it */
#define BUSY_MS   20000

struct loader {
    struct etl_source source;
    struct etl_sink *sink; /* NULL: parse only */
    struct etl_place place;
    const struct etl_format *format;
    struct etl_counts counts;
    uint64_t chunks;
    int64_t cut_ns, parse_ns, store_ns, parse_cpu_ns;
};

static int64_t cpu_nano(void)
{
    struct timespec now;

    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

/* Adds the time since *at_ns, and begins anew. */
static void note(int64_t *sum_ns, int64_t *at_ns)
{
    int64_t now_ns = clock_nano();

    *sum_ns += now_ns - *at_ns;
    *at_ns = now_ns;
}

static void add(struct etl_counts *sum, const struct etl_counts *counts)
{
    sum->lines += counts->lines;
    sum->inserted += counts->inserted;
    sum->quarantined += counts->quarantined;
    sum->duplicates += counts->duplicates;
}

static int store(struct loader *l, const struct etl_cut *cut, const struct etl_batch *batch,
                 struct etl_err *err)
{
    const struct etl_chunk chunk = {
        l->place.source, l->place.device, l->place.inode, l->place.generation, l->format, *cut, 0};
    struct etl_counts counts;

    if (etl_sink_store(l->sink, &chunk, batch, &counts, err) != 0)
        return -1;
    add(&l->counts, &counts);
    return 0;
}

static int take_chunk(struct loader *l, const struct etl_cut *cut, struct etl_err *err)
{
    int64_t at_ns = clock_nano(), cpu_ns = cpu_nano();
    struct etl_chunk_data data;
    struct etl_batch batch;
    int rc;

    if (etl_chunk_read(&data, l->source.data_path, cut, err) != 0)
        return -1;
    rc = etl_batch_read(&batch, l->format, data.bytes, cut->begin, err);
    l->parse_cpu_ns += cpu_nano() - cpu_ns;
    note(&l->parse_ns, &at_ns);
    if (rc == 0 && l->sink != NULL)
        rc = store(l, cut, &batch, err);
    else if (rc == 0)
        l->counts.lines += batch.records_len;
    if (rc == 0)
        etl_batch_release(&batch);
    etl_chunk_release(&data);
    note(&l->store_ns, &at_ns);
    l->chunks++;
    return rc;
}

static int take_log(struct loader *l, struct etl_err *err)
{
    struct etl_cut cut = {0, 0, 0, 0};
    int rc;

    for (;;) {
        int64_t at_ns = clock_nano();

        rc = etl_source_cut(&l->source, cut.end, CHUNK_LEN, &cut, err);
        note(&l->cut_ns, &at_ns);
        if (rc <= 0)
            return rc;
        if (take_chunk(l, &cut, err) != 0)
            return -1;
    }
}

static int load(struct loader *l, const char *db, struct etl_err *err)
{
    if (etl_source_format(&l->source, &l->format, err) != 0)
        return -1;
    if (db == NULL)
        return take_log(l, err);
    l->sink = etl_sink_sqlite_open(db, BUSY_MS, err);
    if (l->sink == NULL || etl_sink_place(l->sink, &l->source, l->format, &l->place, err) != 0)
        return -1;
    return take_log(l, err);
}

static void print(const struct loader *l, double seconds)
{
    printf("{\"lines\": %" PRIu64 ", \"inserted\": %" PRIu64 ", \"quarantined\": %" PRIu64
           ", \"duplicates\": %" PRIu64 ", \"chunks\": %" PRIu64
           ", \"cut_s\": %.6f, \"parse_s\": %.6f, \"parse_cpu_s\": %.6f, \"store_s\": %.6f"
           ", \"s\": %.6f}\n",
           l->counts.lines, l->counts.inserted, l->counts.quarantined, l->counts.duplicates,
           l->chunks, (double)l->cut_ns / 1e9, (double)l->parse_ns / 1e9,
           (double)l->parse_cpu_ns / 1e9, (double)l->store_ns / 1e9, seconds);
}

int main(int argc, char **argv)
{
    int64_t began_ns = clock_nano();
    struct loader l = {.sink = NULL};
    struct etl_err err;
    int rc;

    if (argc < 2 || argc > 3) {
        fputs("usage: loader LOG [DB]\n", stderr);
        return 2;
    }
    rc = etl_source_open(&l.source, argv[1], NULL, &err);
    if (rc == 0) {
        rc = load(&l, argv[2], &err);
        if (rc == 0)
            print(&l, (double)(clock_nano() - began_ns) / 1e9);
        etl_place_release(&l.place);
        etl_sink_close(l.sink);
        etl_source_close(&l.source);
    }
    if (rc != 0)
        fprintf(stderr, "loader: %s\n", err.text);
    return rc == 0 ? 0 : 1;
}
