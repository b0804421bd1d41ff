#include "worker/dispatcher.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

void presence_init(struct dispatcher *d, int supervisor_pid)
{
    struct presence *p = &d->presence;

    p->pid = supervisor_pid;
    p->since_ms = clock_wall_ms(d->clock);
    p->at_ms = clock_mono_ms(d->clock);
    p->said_ms = p->at_ms - PRESENCE_SOON_MS;
}

void presence_release(struct dispatcher *d)
{
    free(d->presence.said);
    d->presence.said = NULL;
}

void presence_changed(struct dispatcher *d)
{
    struct presence *p = &d->presence;

    if (p->said_ms + PRESENCE_SOON_MS < p->at_ms)
        p->at_ms = p->said_ms + PRESENCE_SOON_MS;
}

void presence_broker_up(struct dispatcher *d)
{
    presence_release(d);
    presence_changed(d);
}

int64_t presence_next_ms(const struct dispatcher *d)
{
    return d->broker_up ? d->presence.at_ms : CLOCK_NEVER;
}

static const char *seat_word(const struct seat *s)
{
    if (s->failed)
        return "failed";
    if (s->jobs.fd < 0)
        return "down";
    return s->ready ? "up" : "starting";
}

static json_t *runners(const struct dispatcher *d)
{
    json_t *list = json_array();

    for (int i = 0; i < d->config->concurrency; i++) {
        const struct seat *s = &d->seats[i];

        json_array_append_new(list, json_pack("{s:i,s:s,s:I}", "slot", s->slot + 1, "state",
                                              seat_word(s), "jobs", (json_int_t)s->jobs_done));
    }
    return list;
}

static json_t *queues(const struct dispatcher *d)
{
    json_t *list = json_array();

    for (size_t i = 0; i < d->config->queues_len; i++)
        json_array_append_new(list, json_string(d->config->queues[i]));
    return list;
}

static int64_t jobs_done(const struct dispatcher *d)
{
    int64_t n = 0;

    for (int i = 0; i < d->config->concurrency; i++)
        n += d->seats[i].jobs_done;
    return n;
}

char *presence_text(const struct dispatcher *d)
{
    json_t *root = json_pack(
        "{s:s,s:i,s:i,s:o,s:i,s:I,s:s,s:I,s:o,s:o}", "node", d->config->node, "pid",
        d->presence.pid, "concurrency", d->config->concurrency, "queues", queues(d), "running",
        lend_running(d), "jobs", (json_int_t)jobs_done(d), "state",
        d->stop == DISPATCH_RUN ? "running" : "stopping", "since_ms",
        (json_int_t)d->presence.since_ms, "runners", runners(d), "stages", stages_json(&d->stages));
    char *text = root ? json_dumps(root, JSON_COMPACT) : NULL;

    json_decref(root);
    return text;
}

void presence_step(struct dispatcher *d)
{
    struct presence *p = &d->presence;
    int64_t now = clock_mono_ms(d->clock);
    char *text;

    if (now < presence_next_ms(d))
        return;
    p->at_ms = now + PRESENCE_EVERY_MS;
    text = presence_text(d);
    if (text && p->said && strcmp(text, p->said) == 0 && now < p->said_ms + PRESENCE_KEEP_MS) {
        free(text);
        return;
    }
    p->said_ms = now;
    if (text)
        broker_announce(d->broker, slice_of(text), PRESENCE_TTL_MS, NULL);
    free(p->said);
    p->said = text;
}
