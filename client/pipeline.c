#include "client/pipeline.h"

#include <stdlib.h>

#define PUMP_EACH 64 /* messages; answers are taken that often */

struct pipeline *pipeline_new(struct session *s)
{
    struct pipeline *p = calloc(1, sizeof(*p));

    if (p)
        p->s = s;
    return p;
}

void pipeline_free(struct pipeline *p)
{
    for (size_t i = 0; p && i < PIPELINE_BATCHES; i++) {
        for (size_t k = 0; k < SEND_BATCH; k++)
            outgoing_release(&p->batches[i].v[k]);
    }
    free(p);
}

void pipeline_begin(struct pipeline *p, size_t size, size_t bytes_max, pipeline_landed_fn *landed,
                    void *user)
{
    p->size = size;
    p->bytes_max = bytes_max;
    p->landed = landed;
    p->user = user;
    p->broken = false;
    p->batches[p->filling].len = p->batches[p->filling].bytes = 0;
}

static struct pipeline_batch *oldest(struct pipeline *p)
{
    return &p->batches[p->oldest];
}

static bool has_silent(const struct pipeline_batch *batch)
{
    for (size_t i = 0; i < batch->len; i++) {
        if (batch->v[i].state != OUTGOING_CONFIRMED && batch->v[i].state != OUTGOING_REFUSED)
            return true;
    }
    return false;
}

/* Waits for the oldest batch. */
static void land(struct pipeline *p)
{
    struct pipeline_batch *batch = oldest(p);
    struct err why = ERR_INIT;

    sending_end(&batch->sending, &why);
    p->broken |= has_silent(batch);
    p->oldest = (p->oldest + 1) % PIPELINE_BATCHES;
    p->under_way--;
    p->landed(p->user, batch, &why);
    batch->len = batch->bytes = 0;
    if (p->under_way && !p->broken)
        sending_renew(&oldest(p)->sending);
}

/* Lands what has all its answers. */
static void pump(struct pipeline *p)
{
    if (p->under_way)
        sending_pump(&oldest(p)->sending);
    while (p->under_way && sending_is_over(&oldest(p)->sending))
        land(p);
}

static void send_off(struct pipeline *p)
{
    struct pipeline_batch *batch = &p->batches[p->filling];

    if (batch->len == 0 || p->broken)
        return;
    sending_begin(&batch->sending, p->s, batch->v, batch->len);
    p->under_way++;
    p->filling = (p->filling + 1) % PIPELINE_BATCHES;
    pump(p);
    while (p->under_way == PIPELINE_BATCHES)
        land(p);
}

struct outgoing *pipeline_slot(struct pipeline *p)
{
    struct pipeline_batch *batch = &p->batches[p->filling];

    return &batch->v[batch->len];
}

void pipeline_add(struct pipeline *p, uint64_t number)
{
    struct pipeline_batch *batch = &p->batches[p->filling];

    batch->bytes += batch->v[batch->len].envelope_len;
    batch->numbers[batch->len++] = number;
    if (batch->len >= p->size || batch->bytes >= p->bytes_max)
        send_off(p);
    else if (batch->len % PUMP_EACH == 0)
        pump(p);
}

size_t pipeline_flush(struct pipeline *p)
{
    struct pipeline_batch *batch = &p->batches[p->filling];
    size_t dropped;

    send_off(p);
    while (p->under_way)
        land(p);
    dropped = batch->len;
    batch->len = batch->bytes = 0;
    return dropped;
}
