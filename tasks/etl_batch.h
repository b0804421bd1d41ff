/*
 * etl_batch.h - the lines of one chunk, read and waiting to be stored.
 *
 * Purpose: reading is the CPU-bound part of a load and must be over before a sink opens its
 * transaction; a batch is what is carried from the one to the other.
 *
 * Model: one record per line, in file order; a good one points at its event. Bad lines cost a
 * record only, so that a chunk of a million empty lines stays small. Memory is taken per batch and
 * per 256 KiB of unescaped text, never per line.
 *
 * Ownership: the batch owns records, events and unescaped text; the data it was read from is
 * borrowed and must outlive it.
 *
 * Invariants:
 * 1. The lengths of the records add up to the length of the data.
 * 2. reasons[] add up to records_len, and reasons[ETL_OK] == events_len.
 *
 * Fork rule: plain memory; made and freed in the same process.
 */
#ifndef CELERIAC_ETL_BATCH_H
#define CELERIAC_ETL_BATCH_H

#include "tasks/etl_err.h"
#include "tasks/etl_line.h"

struct etl_record {
    uint64_t offset; /* in the file */
    size_t len;      /* with its LF */
    uint32_t reason; /* enum etl_reason */
    uint32_t event;  /* index, if reason is ETL_OK */
};

struct etl_block; /* unescaped text */

struct etl_batch {
    struct etl_slice data; /* borrowed */
    uint64_t begin;        /* offset of data in the file */
    struct etl_record *records;
    size_t records_len;
    struct etl_event *events;
    size_t events_len;
    size_t events_cap;
    struct etl_block *blocks;
    uint64_t reasons[ETL_REASONS]; /* lines by verdict */
};

/* Reads all lines of data, which begins at this offset of its file, on a line's beginning. */
int etl_batch_read(struct etl_batch *batch, const struct etl_format *format, struct etl_slice data,
                   uint64_t begin, struct etl_err *err);

/* Safe after a failed read, and twice. */
void etl_batch_release(struct etl_batch *batch);

/* The bytes of a record's line, with its LF; borrowed from the data. */
struct etl_slice etl_batch_line(const struct etl_batch *batch, const struct etl_record *record);

#endif
