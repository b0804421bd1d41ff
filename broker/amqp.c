#include "broker/amqp.h"

#include "base/fault.h"
#include "broker/amqp_reader.h"

#include <stdlib.h>
#include <string.h>

#define CLOSE_MS 2000

/* --- state --- */

static bool needs(const struct amqp_broker *b, enum amqp_role role)
{
    return role == AMQP_PUBLISH || (role == AMQP_CONSUME && b->queues_len > 0);
}

static bool all_ready(const struct amqp_broker *b)
{
    for (int role = 0; role < AMQP_ROLES; role++) {
        if (needs(b, role) && !b->wires[role].ready)
            return false;
    }
    return true;
}

/* Why it is not up; NULL while nothing went wrong yet. */
static const struct err *trouble(const struct amqp_broker *b)
{
    for (int role = 0; role < AMQP_ROLES; role++) {
        const struct amqp_wire *w = &b->wires[role];

        if (needs(b, role) && !w->ready && w->why.code != ERR_NONE)
            return &w->why;
    }
    return NULL;
}

static void tell(struct amqp_broker *b, bool up, const struct err *why)
{
    struct broker_event event = {
        .kind = BROKER_STATE, .flags = up ? BROKER_UP : 0, .err = up ? NULL : why};

    b->told = true;
    b->up = up;
    b->told_code = up ? ERR_NONE : why->code;
    event_queue_push(&b->events, &event);
}

static void tell_state(struct amqp_broker *b)
{
    const struct err *why = trouble(b);
    struct amqp_link *publisher = b->wires[AMQP_PUBLISH].link;
    struct err blocked = ERR_INIT;
    bool up = all_ready(b);

    if (up && publisher && link_is_blocked(publisher)) {
        err_set(&blocked, ERR_AGAIN,
                "the broker accepts no messages (memory or disk alarm): what is sent waits here");
        why = &blocked;
        up = false;
    }
    if (up ? !(b->told && b->up) : why && (!b->told || b->up || b->told_code != why->code))
        tell(b, up, why);
}

/* --- the steps of a poll --- */

static void flush_links(struct amqp_broker *b)
{
    for (int role = 0; role < AMQP_ROLES; role++) {
        struct amqp_wire *w = &b->wires[role];

        if (w->link && !w->broken)
            link_flush(w->link);
    }
}

static void step(struct amqp_broker *b)
{
    bool acked;

    amqp_deliveries_tick(b);
    amqp_consume_tick(b);
    amqp_out_tick(b);
    amqp_long_tick(b);
    amqp_suspects_tick(b);
    amqp_ask_tick(b);
    amqp_claims_tick(b);
    reader_tick(b);
    for (int role = 0; role < AMQP_ROLES; role++)
        wire_step(&b->wires[role]);
    amqp_doctor_tick(b);
    amqp_hand_out(b);
    amqp_out_flush(b);
    acked = amqp_ack_flush(b);
    flush_links(b);
    if (b->out.newest)
        FAULT_POINT("amqp.unconfirmed"); /* CRASH: after publish, before confirm - the delivery
                                            comes back marked and its record is looked for */
    if (acked)
        FAULT_POINT("amqp.after-ack"); /* CRASH: after ack, before FINISHED is heard - nothing to
                                          recover */
    tell_state(b);
}

static int amqp_poll(struct broker *base, struct broker_event *events, int max)
{
    struct amqp_broker *b = amqp_of(base);

    step(b);
    b->nothing_ready = false;
    return event_queue_drain(&b->events, events, max);
}

static void amqp_nothing_ready(struct broker *base)
{
    amqp_of(base)->nothing_ready = true;
}

static void amqp_rest(struct broker *base)
{
    event_queue_rest(&amqp_of(base)->events);
}

static int amqp_pollset(struct broker *base, struct pollfd *fds, int max)
{
    struct amqp_broker *b = amqp_of(base);
    int n = 0;

    for (int role = 0; role < AMQP_ROLES; role++)
        n += wire_pollset(&b->wires[role], fds + n, max - n);
    return n;
}

static int64_t earlier(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

static int64_t amqp_deadline(struct broker *base)
{
    struct amqp_broker *b = amqp_of(base);
    int64_t at = earlier(amqp_deliveries_deadline(b), amqp_out_deadline(b));

    at = earlier(at, amqp_suspects_deadline(b));
    at = earlier(at, amqp_long_deadline(b));
    at = earlier(at, amqp_ask_deadline(b));
    at = earlier(at, amqp_claims_deadline(b));
    at = earlier(at, reader_deadline(b));
    if (!event_queue_empty(&b->events))
        return 0;
    for (int role = 0; role < AMQP_ROLES; role++)
        at = earlier(at, wire_deadline(&b->wires[role]));
    return at;
}

/* --- closing --- */

static bool all_quiet(const struct amqp_broker *b)
{
    const struct amqp_link *consumer = b->wires[AMQP_CONSUME].link;

    return b->out.len == 0 && (!consumer || link_backlog(consumer) == 0);
}

/* Steps until nothing is under way or the time is over. */
static void drain(struct amqp_broker *b, int64_t until_ms)
{
    while (b->wires[AMQP_PUBLISH].ready && clock_nano() / 1000000 < until_ms) {
        struct pollfd fds[AMQP_ROLES];
        struct broker_event events[32];
        int n;

        b->ack_at_ms = earlier(b->ack_at_ms, amqp_now(b));
        step(b);
        while (event_queue_drain(&b->events, events, 32) == 32)
            ;
        if (all_quiet(b))
            return;
        n = amqp_pollset(&b->base, fds, AMQP_ROLES);
        poll(fds, (nfds_t)n, 20);
    }
}

/* Waits for the server's goodbyes where an acknowledgement may still have to be read. CRASH: before
 * the server has read it - the message comes back, its record is found, it is dropped. */
static void leave(struct amqp_broker *b, int64_t until_ms)
{
    struct amqp_link *leaving[AMQP_ROLES];
    struct pollfd fds[AMQP_ROLES];
    nfds_t n = 0;

    for (int role = 0; role < AMQP_ROLES; role++) {
        struct amqp_wire *w = &b->wires[role];

        if (!w->link || w->broken || !link_owes(w->link))
            continue;
        link_leave(w->link);
        link_flush(w->link);
        leaving[n++] = w->link;
    }
    while (n > 0 && clock_nano() / 1000000 < until_ms) {
        for (nfds_t i = 0; i < n; i++)
            link_poll_wants(leaving[i], &fds[i]);
        poll(fds, n, 20);
        for (nfds_t i = n; i-- > 0;) {
            link_pump(leaving[i]);
            if (!link_is_up(leaving[i]))
                leaving[i] = leaving[--n];
        }
    }
}

static void free_broker(struct amqp_broker *b)
{
    for (int role = 0; role < AMQP_ROLES; role++)
        wire_release(&b->wires[role]);
    amqp_results_release(b);
    amqp_suspects_release(b);
    amqp_claims_release(b);
    amqp_ask_release(b);
    amqp_doctor_release(b);
    amqp_out_release(&b->out);
    held_ring_release(&b->held);
    amqp_aside_release(b);
    event_queue_release(&b->events);
    amqp_address_release(&b->address);
    for (size_t i = 0; b->queues && i < b->queues_len; i++)
        free(b->queues[i].name);
    free(b->queues);
    free(b->tokens);
    free(b->node);
    free(b);
}

/* What is unacknowledged goes back to its place in the queue when the connection is closed. */
static void amqp_close(struct broker *base, bool release_leases)
{
    struct amqp_broker *b = amqp_of(base);
    int64_t until_ms = clock_nano() / 1000000 + CLOSE_MS;

    b->credit = 0;
    if (release_leases) {
        amqp_claims_close(b);
        drain(b, until_ms);
    }
    leave(b, until_ms);
    free_broker(b);
}

/* --- opening --- */

static int copy_queues(struct amqp_broker *b, const struct broker_config *config, struct err *e)
{
    b->queues = calloc(config->queues_len ? config->queues_len : 1, sizeof(*b->queues));
    if (!b->queues)
        return err_nomem(e);
    for (size_t i = 0; i < config->queues_len; i++) {
        b->queues[i].name = slice_dup(slice_of(config->queues[i]));
        b->queues_len++;
        if (!b->queues[i].name)
            return err_nomem(e);
    }
    return 0;
}

static int setup(struct amqp_broker *b, const struct uri *uri, const struct broker_config *config,
                 struct err *e)
{
    b->clock = config->clock;
    b->log = config->log;
    b->lease_ms = config->lease_ms;
    b->result_expires_ms = config->result_expires_ms;
    b->fence = (uint64_t)clock_wall_ms(b->clock) << 16; /* grows over restarts as well */
    uuid_next(&b->random, b->instance);
    b->node = config->node ? strdup(config->node) : NULL;
    if (config->node && !b->node)
        return err_nomem(e);
    if (amqp_address_make(&b->address, uri, e) != 0 || copy_queues(b, config, e) != 0)
        return -1;
    if (config->replies && amqp_replies_open(b, e) != 0)
        return -1;
    wire_want(b, AMQP_PUBLISH);
    if (!b->queues_len)
        return 0;
    wire_want(b, AMQP_CONSUME);
    return amqp_claims_open(b, config->generation, e);
}

static const struct broker_ops amqp_ops = {
    .name = "amqp",
    .caps = BROKER_CAP_DELAY | BROKER_CAP_PEEK | BROKER_CAP_RESULTS | BROKER_CAP_DURABLE |
            BROKER_CAP_CLAIMS,
    .close = amqp_close,
    .pollset = amqp_pollset,
    .deadline = amqp_deadline,
    .poll = amqp_poll,
    .nothing_ready = amqp_nothing_ready,
    .rest = amqp_rest,
    .credit = amqp_credit,
    .publish = amqp_publish,
    .renew = amqp_renew,
    .note = amqp_note,
    .finish = amqp_finish,
    .release = amqp_release,
    .bury = amqp_bury,
    .store = amqp_store,
    .ask = amqp_ask,
    .claim = amqp_claim,
    .announce = amqp_announce,
    .result_get = amqp_result_get,
    .result_watch = amqp_result_watch,
    .result_unwatch = amqp_result_unwatch,
    .result_forget = amqp_result_forget,
};

struct broker *amqp_open(const struct uri *uri, const struct broker_config *config, struct err *e)
{
    struct amqp_broker *b = calloc(1, sizeof(*b));

    if (!b) {
        err_nomem(e);
        return NULL;
    }
    b->base.ops = &amqp_ops;
    b->ack_at_ms = CLOCK_NEVER;
    b->epoch = 1;
    event_queue_init(&b->events);
    amqp_out_init(&b->out);
    wire_init(b, AMQP_CONSUME, &amqp_consume_role);
    wire_init(b, AMQP_PUBLISH, &amqp_publish_role);
    wire_init(b, AMQP_READ, &amqp_read_role);
    if (setup(b, uri, config, e) != 0) {
        free_broker(b);
        return NULL;
    }
    return &b->base;
}
