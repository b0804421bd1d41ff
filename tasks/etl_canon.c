#include "tasks/etl_canon.h"

#include <inttypes.h>

static void put_bytes(FILE *out, struct etl_slice text)
{
    for (size_t i = 0; i < text.len; i++) {
        unsigned char c = (unsigned char)text.at[i];

        if (c == '"' || c == '\\')
            fprintf(out, "\\%c", c);
        else if (c >= 0x20 && c <= 0x7E)
            putc(c, out);
        else
            fprintf(out, "\\u00%02x", c);
    }
}

static void put_text(FILE *out, const char *key, struct etl_slice text)
{
    if (text.at == NULL) {
        fprintf(out, ",\"%s\":null", key);
        return;
    }
    fprintf(out, ",\"%s\":\"", key);
    put_bytes(out, text);
    putc('"', out);
}

static void put_timed(FILE *out, const struct etl_event *event)
{
    if (event->duration_ms == ETL_DURATION_ABSENT)
        fputs(",\"request_time\":null", out);
    else
        fprintf(out, ",\"request_time\":%" PRId64, event->duration_ms);
    if (!event->has_request_id) {
        fputs(",\"request_id\":null", out);
        return;
    }
    fputs(",\"request_id\":\"", out);
    for (size_t i = 0; i < ETL_REQUEST_ID_LEN; i++)
        fprintf(out, "%02x", event->request_id[i]);
    putc('"', out);
}

static void put_event(FILE *out, const struct etl_event *event)
{
    put_text(out, "vhost", event->vhost);
    put_text(out, "address", event->address);
    put_text(out, "user", event->user);
    fprintf(out, ",\"time\":%" PRId64 ",\"zone\":%" PRId32, event->time_s, event->zone_min);
    put_text(out, "method", event->method);
    put_text(out, "path", event->path);
    put_text(out, "query", event->query);
    put_text(out, "protocol", event->protocol);
    put_text(out, "request", event->request);
    fprintf(out, ",\"status\":%" PRId32 ",\"bytes\":%" PRId64, event->status, event->bytes);
    put_text(out, "referer", event->referer);
    put_text(out, "agent", event->agent);
    put_timed(out, event);
}

void etl_canon_format(FILE *out, const struct etl_format *format)
{
    fprintf(out, "{\"format\":\"%s\"}\n", format->name);
}

void etl_canon_batch(FILE *out, const struct etl_batch *batch, uint64_t first_line)
{
    for (size_t i = 0; i < batch->records_len; i++) {
        const struct etl_record *record = &batch->records[i];

        fprintf(out, "{\"line\":%" PRIu64 ",\"offset\":%" PRIu64 ",\"length\":%zu", first_line + i,
                record->offset, record->len);
        if (record->reason == ETL_OK)
            put_event(out, &batch->events[record->event]);
        else
            fprintf(out, ",\"bad\":\"%s\"", etl_reason_name(record->reason));
        fputs("}\n", out);
    }
}
