#include "broker/amqp.h"
#include "broker/backoff.h"

#include <string.h>

#define RETRY_BASE_MS 100
#define RETRY_MAX_MS  5000

void wire_init(struct amqp_broker *b, enum amqp_role role, const struct amqp_role_ops *ops)
{
    struct amqp_wire *w = &b->wires[role];

    *w = (struct amqp_wire){.b = b, .ops = ops};
    topology_init(&w->topology, AMQP_CH_TOPOLOGY, b);
}

void wire_release(struct amqp_wire *w)
{
    dial_abandon(w->dial);
    link_close(w->link);
    topology_release(&w->topology);
    w->dial = NULL;
    w->link = NULL;
}

void wire_want(struct amqp_broker *b, enum amqp_role role)
{
    b->wires[role].wanted = true;
}

void wire_ready(struct amqp_broker *b, enum amqp_role role)
{
    struct amqp_wire *w = &b->wires[role];

    w->ready = true;
    w->tries = 0;
    w->why = (struct err)ERR_INIT;
}

void wire_drop(struct amqp_wire *w, const struct err *why)
{
    if (why && !w->broken)
        w->why = *why;
    w->broken = true;
    w->ready = false;
}

/* What was wrong and when to try again: sooner for the first time, and at the next host. */
static void fail(struct amqp_wire *w, const struct err *why)
{
    int64_t wait_ms = backoff_ms(RETRY_BASE_MS, RETRY_MAX_MS, w->tries, uuid_random(&w->b->random));

    w->why = *why;
    w->tries++;
    w->host++;
    w->retry_at_ms = amqp_now(w->b) + RETRY_BASE_MS + wait_ms;
}

static void close_broken(struct amqp_wire *w)
{
    struct err why = w->why;

    w->broken = false;
    w->ready = false;
    topology_down(&w->topology);
    link_close(w->link);
    w->link = NULL;
    fail(w, &why);
    if (w->ops->down)
        w->ops->down(w->b, &why);
}

static void begin_dial(struct amqp_wire *w)
{
    struct err e = ERR_INIT;

    w->dial = dial_start(&w->b->address, w->ops->name, w->host, w->b->address.timeout_ms, &e);
    if (!w->dial)
        fail(w, &e);
}

static void begin_link(struct amqp_wire *w, const struct amqp_dialed *dialed)
{
    struct err e = ERR_INIT;

    w->host = dialed->host;
    w->link = link_start(dialed->connection, dialed->heartbeat_s, w->ops->name, w->b,
                         w->ops->events, w->b->clock, w->b->log, &e);
    if (!w->link) {
        fail(w, &e);
        return;
    }
    if (topology_up(&w->topology, w->link, &e) != 0 || w->ops->up(w->b, &e) != 0)
        wire_drop(w, &e);
}

static void take_dial(struct amqp_wire *w)
{
    struct amqp_dialed dialed;
    struct err e = ERR_INIT;
    int rc = dial_take(w->dial, &dialed, &e);

    if (rc == 0)
        return;
    w->dial = NULL;
    if (rc > 0)
        begin_link(w, &dialed);
    else
        fail(w, &e);
}

void wire_step(struct amqp_wire *w)
{
    if (!w->wanted)
        return;
    if (!w->link && !w->dial && amqp_now(w->b) >= w->retry_at_ms)
        begin_dial(w);
    if (w->dial)
        take_dial(w);
    if (w->link && !w->broken && w->b->nothing_ready)
        link_pump_unread(w->link);
    else if (w->link && !w->broken)
        link_pump(w->link);
    if (w->link && w->broken)
        close_broken(w);
}

int64_t wire_deadline(const struct amqp_wire *w)
{
    if (!w->wanted || w->dial)
        return CLOCK_NEVER;
    if (w->broken)
        return 0; /* to be closed, and dialed again */
    return w->link ? link_deadline(w->link) : w->retry_at_ms;
}

int wire_pollset(const struct amqp_wire *w, struct pollfd *fds, int max)
{
    if (max < 1 || !w->wanted || (!w->dial && !w->link))
        return 0;
    if (w->link)
        link_poll_wants(w->link, &fds[0]);
    else
        fds[0] = (struct pollfd){.fd = dial_fd(w->dial), .events = POLLIN};
    return 1;
}
