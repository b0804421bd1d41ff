#include "tasks/etl_batch.h"

#include <stdlib.h>
#include <string.h>

#define BLOCK_LEN        ((size_t)256 * 1024)
#define LINE_TYPICAL_LEN 160

struct etl_block {
    struct etl_block *next;
    struct etl_arena arena;
    char text[];
};

static size_t count_lines(struct etl_slice data)
{
    size_t lines = 0;

    while (data.len > 0) {
        size_t len = etl_line_len(data);

        data.at += len;
        data.len -= len;
        lines++;
    }
    return lines;
}

static int batch_allocate(struct etl_batch *batch, struct etl_slice data)
{
    size_t lines = count_lines(data);

    batch->events_cap = data.len / LINE_TYPICAL_LEN + 16;
    batch->records = calloc(lines + 1, sizeof(*batch->records));
    batch->events = malloc(batch->events_cap * sizeof(*batch->events));
    return batch->records != NULL && batch->events != NULL ? 0 : -1;
}

/* The place for the next event. */
static struct etl_event *next_event(struct etl_batch *batch)
{
    size_t cap = batch->events_cap * 2;
    struct etl_event *grown;

    if (batch->events_len < batch->events_cap)
        return &batch->events[batch->events_len];
    grown = realloc(batch->events, cap * sizeof(*grown));
    if (grown == NULL)
        return NULL;
    batch->events = grown;
    batch->events_cap = cap;
    return &batch->events[batch->events_len];
}

/* An arena with room for this many bytes. */
static struct etl_arena *arena_for(struct etl_batch *batch, size_t len)
{
    struct etl_block *block = batch->blocks;
    size_t cap = len > BLOCK_LEN ? len : BLOCK_LEN;

    if (block != NULL && block->arena.cap - block->arena.used >= len)
        return &block->arena;
    block = malloc(sizeof(*block) + cap);
    if (block == NULL)
        return NULL;
    block->next = batch->blocks;
    block->arena = (struct etl_arena){block->text, 0, cap};
    batch->blocks = block;
    return &block->arena;
}

static int read_record(struct etl_batch *batch, const struct etl_format *format,
                       struct etl_slice line)
{
    struct etl_record *record = &batch->records[batch->records_len];
    struct etl_event *event = next_event(batch);
    /* A line too long to be read unescapes nothing. */
    struct etl_arena *arena = arena_for(batch, line.len <= ETL_LINE_MAX_LEN + 1 ? line.len : 0);

    if (event == NULL || arena == NULL)
        return -1;
    record->offset = batch->begin + (uint64_t)(line.at - batch->data.at);
    record->len = line.len;
    record->reason = etl_line_read(format, line, record->offset, arena, event);
    record->event = (uint32_t)batch->events_len;
    batch->events_len += record->reason == ETL_OK;
    batch->reasons[record->reason]++;
    batch->records_len++;
    return 0;
}

int etl_batch_read(struct etl_batch *batch, const struct etl_format *format, struct etl_slice data,
                   uint64_t begin, struct etl_err *err)
{
    struct etl_slice rest = data;

    memset(batch, 0, sizeof(*batch));
    batch->data = data;
    batch->begin = begin;
    if (batch_allocate(batch, data) != 0)
        goto out;
    while (rest.len > 0) {
        struct etl_slice line = {rest.at, etl_line_len(rest)};

        if (read_record(batch, format, line) != 0)
            goto out;
        rest.at += line.len;
        rest.len -= line.len;
    }
    return 0;
out:
    etl_batch_release(batch);
    return etl_err_set(err, ETL_ERR_MEMORY, "out of memory for a chunk of %zu bytes", data.len);
}

void etl_batch_release(struct etl_batch *batch)
{
    free(batch->records);
    free(batch->events);
    while (batch->blocks != NULL) {
        struct etl_block *next = batch->blocks->next;

        free(batch->blocks);
        batch->blocks = next;
    }
    memset(batch, 0, sizeof(*batch));
}

struct etl_slice etl_batch_line(const struct etl_batch *batch, const struct etl_record *record)
{
    return (struct etl_slice){batch->data.at + (record->offset - batch->begin), record->len};
}
