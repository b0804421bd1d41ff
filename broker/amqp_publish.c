#include "broker/amqp_ask.h"

#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#define TOKEN_MS  60000
#define TOKEN_MAX 16384 /* remembered at most; the oldest go first */

/* Tokens of messages that were confirmed, so that a caller's resend pushes nothing. A ring in the
 * order of time, and a table of the ring's places by hash. */
struct token {
    XXH128_hash_t hash;
    int64_t at_ms;
};

struct amqp_tokens {
    struct token ring[TOKEN_MAX];
    uint16_t table[TOKEN_MAX]; /* place in the ring + 1 of the last token with that hash */
    size_t next;
};

/* --- the publishing connection --- */

static void on_confirm(void *owner, struct amqp_link *l, int channel, uint64_t sequence, bool ok)
{
    (void)l;
    (void)channel;
    amqp_out_confirmed(owner, sequence, ok);
}

static void on_returned(void *owner, struct amqp_link *l, const struct amqp_incoming *in,
                        uint64_t sequence)
{
    (void)l;
    amqp_out_returned(owner, in, sequence);
}

static void on_delivered(void *owner, struct amqp_link *l, const struct amqp_incoming *in)
{
    (void)l;
    query_replied(owner, in);
}

static void on_channel_closed(void *owner, struct amqp_link *l, int channel, int code,
                              const struct err *why)
{
    struct amqp_broker *b = owner;
    struct amqp_wire *w = &b->wires[AMQP_PUBLISH];

    (void)l;
    (void)code;
    if (channel == AMQP_CH_TOPOLOGY)
        topology_channel_closed(&w->topology);
    else if (channel == AMQP_CH_ASK)
        amqp_ask_channel_closed(b);
    else if (channel != AMQP_CH_DOCTOR) {
        amqp_out_too_large(b, why);
        wire_drop(w, why);
    }
}

static void on_down(void *owner, struct amqp_link *l, const struct err *why)
{
    struct amqp_broker *b = owner;

    (void)l;
    wire_drop(&b->wires[AMQP_PUBLISH], why);
}

static const struct amqp_link_events publish_events = {
    .on_delivered = on_delivered,
    .on_confirm = on_confirm,
    .on_returned = on_returned,
    .on_channel_closed = on_channel_closed,
    .on_down = on_down,
};

static void on_stream(void *owner, uint64_t number, const struct err *why)
{
    struct amqp_broker *b = owner;

    (void)number;
    if (why)
        wire_drop(&b->wires[AMQP_PUBLISH], why);
    else
        wire_ready(b, AMQP_PUBLISH);
}

static int publish_up(struct amqp_broker *b, struct err *e)
{
    struct amqp_wire *w = &b->wires[AMQP_PUBLISH];
    struct topology_wish results = {.kind = TOPOLOGY_STREAM,
                                    .name = slice_of(AMQP_RESULTS_STREAM),
                                    .number = amqp_results_age_s(b)};

    if (link_open_channel(w->link, AMQP_CH_WORK, e) != 0 ||
        link_confirm_select(w->link, AMQP_CH_WORK, e) != 0 || amqp_ask_up(b, e) != 0)
        return -1;
    return topology_ensure(&w->topology, &results, on_stream, 0, e);
}

static void publish_down(struct amqp_broker *b, const struct err *why)
{
    amqp_out_down(b);
    amqp_ask_down(b, why);
    amqp_doctor_down(b, why);
}

const struct amqp_role_ops amqp_publish_role = {"publish", &publish_events, publish_up,
                                                publish_down};

/* --- tokens --- */

static uint16_t *place_of(struct amqp_tokens *t, XXH128_hash_t hash)
{
    return &t->table[hash.low64 & (TOKEN_MAX - 1)];
}

static bool token_known(const struct amqp_broker *b, XXH128_hash_t hash)
{
    const struct token *found;
    uint16_t place;

    if (!b->tokens)
        return false;
    place = *place_of(b->tokens, hash);
    if (!place)
        return false;
    found = &b->tokens->ring[place - 1];
    return XXH128_isEqual(found->hash, hash) && amqp_now(b) - found->at_ms < TOKEN_MS;
}

static void remember_token(struct amqp_broker *b, XXH128_hash_t hash)
{
    struct amqp_tokens *t = b->tokens;

    if (!t)
        t = b->tokens = calloc(1, sizeof(*t));
    if (!t)
        return; /* a resend would then be pushed again */
    t->ring[t->next] = (struct token){hash, amqp_now(b)};
    *place_of(t, hash) = (uint16_t)(t->next + 1);
    t->next = (t->next + 1) % TOKEN_MAX;
}

/* --- broker_publish --- */

static void on_published(struct amqp_broker *b, struct out_step *step, const struct err *why)
{
    XXH128_hash_t *token = step->owner;

    if (why) {
        event_queue_fail(&b->events, step->tag, why);
    } else {
        if (token)
            remember_token(b, *token);
        event_queue_done(&b->events, BROKER_PUBLISHED, step->tag, 0);
    }
}

static int keep_token(struct out_step *step, XXH128_hash_t hash, struct err *e)
{
    XXH128_hash_t *kept = malloc(sizeof(*kept));

    if (!kept)
        return err_nomem(e);
    *kept = hash;
    step->owner = kept;
    return 0;
}

struct out_spec amqp_task_spec(const struct broker_message *m)
{
    return (struct out_spec){.routing_key = m->queue,
                             .mandatory = true,
                             .task = true,
                             .priority = m->priority,
                             .not_before_ms = m->not_before_ms,
                             .body = m->envelope};
}

static int publish_one(struct amqp_broker *b, const struct broker_message *m, struct err *e)
{
    struct out_spec spec = amqp_task_spec(m);
    XXH128_hash_t token = {0};
    struct out_step *step;

    spec.replies = true;
    if (m->token.ptr) {
        token = XXH3_128bits(m->token.ptr, m->token.len);
        if (token_known(b, token)) {
            event_queue_done(&b->events, BROKER_PUBLISHED, m->tag, 0);
            return 0;
        }
    }
    step = out_step_new(on_published, BROKER_PUBLISHED, m->tag);
    if (!step)
        return err_nomem(e);
    if ((m->token.ptr && keep_token(step, token, e) != 0) || out_add(b, step, &spec, e) != 0) {
        free(step->owner);
        free(step);
        return -1;
    }
    out_step_close(b, step);
    return 0;
}

int amqp_publish(struct broker *base, const struct broker_message *v, size_t n, struct err *e)
{
    struct amqp_broker *b = amqp_of(base);
    struct err why = ERR_INIT;

    for (size_t i = 0; i < n; i++) {
        if (publish_one(b, &v[i], &why) == 0)
            continue;
        if (i == 0)
            return err_set(e, why.code, "%s", why.text);
        for (; i < n; i++) /* a part was taken: the rest fails one by one */
            event_queue_fail(&b->events, v[i].tag, &why);
        return 0;
    }
    return 0;
}
