/*
 * fuzz_etl.c - the log parser must survive every file.
 *
 * Model: the first byte chooses the format and where the data stands in its file, the rest is the
 * data. It is read in chunks of one piece and of two, which must agree, and what comes out must
 * keep the promises of etl_line.h and etl_batch.h. Fork rule: none.
 */
#include "tasks/etl_batch.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool holds)
{
    if (!holds)
        abort();
}

/* Reads every byte of a slice, so that a slice beyond its memory is caught. */
static void touch(struct etl_slice text)
{
    unsigned any = 0;

    must(text.at != NULL || text.len == 0);
    for (size_t i = 0; i < text.len; i++)
        any |= (unsigned char)text.at[i];
    must(any <= 255);
}

static void check_event(const struct etl_event *event)
{
    const struct etl_slice texts[] = {
        event->vhost, event->address,  event->user,    event->method,  event->path,
        event->query, event->protocol, event->request, event->referer, event->agent};

    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
        touch(texts[i]);
    must(event->address.at != NULL);
    must((event->request.at == NULL) == (event->method.at != NULL));
    must((event->method.at != NULL) == (event->path.at != NULL));
    must((event->method.at != NULL) == (event->protocol.at != NULL));
    must(event->query.at == NULL || event->path.at != NULL);
    must(event->status >= 0 && event->status <= 999);
    must(event->bytes >= 0);
    must(event->has_request_id == (event->duration_ms != ETL_DURATION_ABSENT));
    must(event->zone_min > -1440 && event->zone_min < 1440);
}

static void check_batch(const struct etl_batch *batch, struct etl_slice data)
{
    uint64_t lines = 0;
    size_t len = 0;

    for (size_t i = 0; i < batch->records_len; i++) {
        const struct etl_record *record = &batch->records[i];

        must(record->offset == batch->begin + len && record->len > 0);
        must(record->reason < ETL_REASONS);
        if (record->reason == ETL_OK)
            check_event(&batch->events[record->event]);
        len += record->len;
    }
    must(len == data.len);
    for (int i = 0; i < ETL_REASONS; i++)
        lines += batch->reasons[i];
    must(lines == batch->records_len && batch->reasons[ETL_OK] == batch->events_len);
}

/* The same verdicts, wherever the data is cut. */
static void check_halves(const struct etl_batch *whole, const struct etl_format *format,
                         struct etl_slice data)
{
    size_t first = data.len > 0 ? etl_line_len(data) : 0;
    struct etl_slice rest = {data.at + first, data.len - first};
    struct etl_batch batch;
    struct etl_err err;

    must(etl_batch_read(&batch, format, rest, whole->begin + first, &err) == 0);
    must(batch.records_len + (first > 0) == whole->records_len);
    for (size_t i = 0; i < batch.records_len; i++)
        must(batch.records[i].reason == whole->records[i + 1].reason);
    etl_batch_release(&batch);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    const struct etl_format *format;
    struct etl_batch batch;
    struct etl_slice data;
    struct etl_err err;
    char *copy;

    if (size == 0)
        return 0;
    format = etl_format_at(bytes[0] % ETL_FORMATS);
    copy = malloc(size);
    must(copy != NULL);
    /* At the end of its memory, so that a read beyond the data is one beyond the memory. */
    memcpy(copy, bytes, size);
    data = (struct etl_slice){copy + 1, size - 1};
    must(etl_format_choose(data) != NULL);
    must(etl_batch_read(&batch, format, data, (bytes[0] & 0x80) != 0 ? 4096 : 0, &err) == 0);
    check_batch(&batch, data);
    check_halves(&batch, format, data);
    etl_batch_release(&batch);
    free(copy);
    return 0;
}
