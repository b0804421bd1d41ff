/*
 * What processes ask each other.
 *
 * A node hears questions on an exclusive queue bound to the fanout exchange celeriac.query, and
 * consumes the queue celeriac.nodes, in which nothing ever lies: the number of its consumers, which
 * a passive declare tells, is the number of answers to wait for. Answers come by direct reply-to.
 * A node that is hung keeps the asker waiting for ANSWER_MS at most.
 */
#include "broker/amqp_ask.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NODES_QUEUE "celeriac.nodes"
#define ANSWER_MS   1000

/* --- answering --- */

static int64_t count_inside(const struct amqp_broker *b, size_t queue)
{
    int64_t n = 0;

    for (uint64_t tag = b->held.first; tag < b->held.end; tag++) {
        const struct amqp_held *h = held_ring_find(&b->held, tag);

        n += h && h->queue == queue && h->state <= HELD_DELAYED;
    }
    return n + amqp_aside_count(b, queue, false);
}

static int64_t count_lent(const struct amqp_broker *b, size_t queue)
{
    int64_t n = 0;

    for (uint64_t tag = b->held.first; tag < b->held.end; tag++) {
        const struct amqp_held *h = held_ring_find(&b->held, tag);

        n += h && h->queue == queue && (h->state == HELD_LENT || h->state == HELD_SETTLING);
    }
    return n + amqp_aside_count(b, queue, true);
}

static json_t *announced(const struct amqp_broker *b)
{
    const struct amqp_asking *a = b->asking;

    if (!a || !a->announced || clock_wall_ms(b->clock) >= a->announced_until_ms)
        return json_null();
    return json_loads(a->announced, 0, NULL);
}

static json_t *own_state(const struct amqp_broker *b)
{
    json_t *queues = json_array();

    for (size_t i = 0; i < b->queues_len; i++)
        json_array_append_new(queues, json_pack("{s:s, s:I, s:I, s:I}", "queue", b->queues[i].name,
                                                "leased", (json_int_t)count_lent(b, i), "inside",
                                                (json_int_t)count_inside(b, i), "copies",
                                                (json_int_t)amqp_aside_count(b, i, true) +
                                                    amqp_aside_count(b, i, false)));
    return json_pack("{s:s, s:o, s:o}", "node", b->node, "queues", queues, "announced",
                     announced(b));
}

static void on_sent(struct amqp_broker *b, struct out_step *step, const struct err *why)
{
    (void)b;
    (void)step;
    (void)why; /* who asked does not wait for ever */
}

static void send_text(struct amqp_broker *b, struct out_spec *spec, const char *text)
{
    struct out_step *step = text ? out_step_new(on_sent, BROKER_STORED, 0) : NULL;

    if (!step)
        return;
    spec->content_type = "application/json";
    spec->body = slice_of(text);
    out_add(b, step, spec, NULL);
    out_step_close(b, step);
}

static bool is_about_jobs(struct amqp_broker *b, const struct amqp_incoming *in)
{
    json_t *query = json_loadb(in->body.ptr, in->body.len, 0, NULL);
    bool taken = amqp_held_asked(b, query) || amqp_recent_asked(b, in, query);

    json_decref(query);
    return taken;
}

void query_asked(struct amqp_broker *b, const struct amqp_incoming *in)
{
    const amqp_basic_properties_t *p = in->properties;
    struct out_spec spec = {.priority = -1};
    json_t *state;
    char *text;

    if (is_about_jobs(b, in) || !(p->_flags & AMQP_BASIC_REPLY_TO_FLAG))
        return;
    spec.routing_key = slice_make(p->reply_to.bytes, p->reply_to.len);
    if (p->_flags & AMQP_BASIC_CORRELATION_ID_FLAG)
        spec.correlation_id = slice_make(p->correlation_id.bytes, p->correlation_id.len);
    state = own_state(b);
    text = json_dumps(state, JSON_COMPACT);
    send_text(b, &spec, text);
    free(text);
    json_decref(state);
}

void query_own_queue(const struct amqp_broker *b, char name[QUERY_NAME_SIZE])
{
    snprintf(name, QUERY_NAME_SIZE, "%s.%s", QUERY_EXCHANGE, b->instance);
}

static void on_ear(void *owner, uint64_t number, const struct err *why)
{
    struct amqp_broker *b = owner;
    struct amqp_link *l = b->wires[AMQP_CONSUME].link;
    char own[QUERY_NAME_SIZE];
    amqp_basic_consume_t m = {.no_ack = 1};

    if (why) {
        log_warn(b->log, "this node does not hear questions of others", "cause=\"%s\"", why->text);
        return;
    }
    if (b->ears[number] == b->epoch)
        return; /* wished with the connection before this one as well, which broke meanwhile */
    b->ears[number] = b->epoch;
    query_own_queue(b, own);
    m.queue = amqp_cstring_bytes(number ? NODES_QUEUE : own);
    m.consumer_tag = amqp_cstring_bytes(number ? "nodes" : "query");
    if (link_call(l, AMQP_CH_ASK, AMQP_BASIC_CONSUME_METHOD, &m, NULL, NULL, 0, NULL) == 0 &&
        !number)
        amqp_recent_listen(b, true);
}

int query_listen(struct amqp_broker *b, struct err *e)
{
    struct amqp_wire *w = &b->wires[AMQP_CONSUME];
    char own[QUERY_NAME_SIZE];
    struct topology_wish queue = {.kind = TOPOLOGY_QUERY};
    struct topology_wish nodes = {.kind = TOPOLOGY_GRAVE, .name = slice_of(NODES_QUEUE)};

    query_own_queue(b, own);
    queue.name = slice_of(own);
    if (link_open_channel(w->link, AMQP_CH_ASK, e) != 0 ||
        topology_ensure(&w->topology, &queue, on_ear, 0, e) != 0)
        return -1;
    return topology_ensure(&w->topology, &nodes, on_ear, 1, e);
}

int amqp_announce(struct broker *base, struct slice json, int64_t ttl_ms, struct err *e)
{
    struct amqp_broker *b = amqp_of(base);
    struct amqp_asking *a = asking_of(b);
    char *text = strndup(json.ptr, json.len);

    if (!a || !text) {
        free(text);
        return err_nomem(e);
    }
    free(a->announced);
    a->announced = text;
    a->announced_until_ms = clock_wall_ms(b->clock) + ttl_ms;
    return 0;
}

/* --- asking --- */

static void heard_all(struct amqp_broker *b, struct question *q)
{
    b->asking->give_up_ms = CLOCK_NEVER;
    q->then(b, q);
}

void query_replied(struct amqp_broker *b, const struct amqp_incoming *in)
{
    struct amqp_asking *a = b->asking;
    const amqp_basic_properties_t *p = in->properties;
    char number[24];
    json_t *state;

    if (p->_flags & AMQP_BASIC_CORRELATION_ID_FLAG && amqp_recent_replied(b, in))
        return;
    if (!a || a->give_up_ms == CLOCK_NEVER || !(p->_flags & AMQP_BASIC_CORRELATION_ID_FLAG))
        return;
    snprintf(number, sizeof(number), "%llu", (unsigned long long)a->query);
    if (!slice_is(slice_make(p->correlation_id.bytes, p->correlation_id.len), number))
        return; /* too late: of a query that was given up */
    state = json_loadb(in->body.ptr, in->body.len, 0, NULL);
    if (json_is_object(state))
        json_array_append(a->line->states, state);
    json_decref(state);
    if (--a->expected == 0)
        heard_all(b, a->line);
}

void query_tick(struct amqp_broker *b)
{
    struct amqp_asking *a = b->asking;

    if (amqp_now(b) < a->give_up_ms)
        return;
    log_warn(b->log, "a node does not answer", "missing=%d", a->expected);
    heard_all(b, a->line);
}

/* One channel is served in order: the consumer is there before the question. */
int query_hear(struct amqp_broker *b, struct err *e)
{
    amqp_basic_consume_t hear = {.queue = amqp_cstring_bytes(DIRECT_REPLY),
                                 .consumer_tag = amqp_cstring_bytes("replies"),
                                 .no_ack = 1};
    struct amqp_asking *a = asking_of(b);

    if (!a)
        return err_nomem(e);
    if (a->hears)
        return 0;
    if (link_call(b->wires[AMQP_PUBLISH].link, AMQP_CH_WORK, AMQP_BASIC_CONSUME_METHOD, &hear, NULL,
                  NULL, 0, e) != 0)
        return -1;
    a->hears = true;
    return 0;
}

static void send_query(struct amqp_broker *b, struct question *q)
{
    struct amqp_asking *a = b->asking;
    char number[24];
    struct out_spec spec = {.exchange = slice_of(QUERY_EXCHANGE),
                            .routing_key = slice_of(""),
                            .reply_to = slice_of(DIRECT_REPLY),
                            .priority = -1};

    (void)q;
    a->give_up_ms = amqp_now(b) + ANSWER_MS;
    snprintf(number, sizeof(number), "%llu", (unsigned long long)++a->query);
    spec.correlation_id = slice_of(number);
    send_text(b, &spec, "{\"ask\": \"state\"}");
}

static void on_nodes(struct amqp_broker *b, struct question *q, const struct amqp_answer *answer)
{
    const amqp_queue_declare_ok_t *ok = answer->method ? answer->method->decoded : NULL;

    b->asking->expected = ok ? (int)ok->consumer_count : 0;
    if (b->asking->expected == 0)
        q->then(b, q);
    else
        send_query(b, q);
}

void query_states(struct amqp_broker *b, struct question *q, ask_next_fn *then)
{
    amqp_queue_declare_t m = {.queue = amqp_cstring_bytes(NODES_QUEUE), .passive = 1};

    json_array_clear(q->states);
    q->then = then;
    ask_call(b, q, AMQP_QUEUE_DECLARE_METHOD, &m, on_nodes);
}

/* --- BROKER_ASK_NODES --- */

static int by_node(const void *x, const void *y)
{
    const json_t *const *a = x, *const *b = y;

    return strcmp(json_string_value(json_object_get(*a, "node")),
                  json_string_value(json_object_get(*b, "node")));
}

static void add_node(struct buf *out, json_t *state)
{
    const char *node = json_string_value(json_object_get(state, "node"));
    char *text = json_dumps(json_object_get(state, "announced"), 0);

    if (node && text)
        answer_node(out, slice_of(node), slice_of(text));
    free(text);
}

static void tell_nodes(struct amqp_broker *b, struct question *q)
{
    size_t n = json_array_size(q->states), used = 0;
    json_t **rows = calloc(n + 1, sizeof(*rows));
    struct buf out = BUF_INIT;

    out.failed = !rows;
    for (size_t i = 0; rows && i < n; i++) {
        json_t *state = json_array_get(q->states, i);

        if (json_is_object(json_object_get(state, "announced")) &&
            json_is_string(json_object_get(state, "node")))
            rows[used++] = state;
    }
    if (rows)
        qsort(rows, used, sizeof(*rows), by_node);
    answer_begin(&out);
    for (size_t i = 0; i < used; i++)
        add_node(&out, rows[i]);
    answer_end(&out);
    free(rows);
    ask_done(b, q, &out);
}

void query_nodes(struct amqp_broker *b, struct question *q)
{
    query_states(b, q, tell_nodes);
}
