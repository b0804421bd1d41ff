/*
 * What a doctor says of RabbitMQ by AMQP alone; the rest is amqp_health.c's.
 *
 * A queue is looked at in two steps on a channel of its own: a passive declare tells its counts,
 * amqp_kind.c its type. The server closes the channel at each refusal. One examination at a time.
 */
#include "broker/amqp.h"
#include "broker/answer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct amqp_doctor {
    struct amqp_doctor *next;
    uint64_t tag;
    char *names; /* owned; separated by commas */
    char *rest;  /* in names: those that were not looked at */
    const char *name;
    uint32_t waiting;
    uint32_t consumers;
    struct buf out;
    bool begun;
};

static void doctor_free(struct amqp_doctor *d)
{
    buf_release(&d->out);
    free(d->names);
    free(d);
}

void amqp_doctor_release(struct amqp_broker *b)
{
    while (b->doctors) {
        struct amqp_doctor *d = b->doctors;

        b->doctors = d->next;
        doctor_free(d);
    }
}

/* --- the end --- */

static void fail(struct amqp_broker *b, struct amqp_doctor *d, const struct err *why)
{
    event_queue_fail(&b->events, d->tag, why);
    b->doctors = d->next;
    doctor_free(d);
}

void amqp_doctor_down(struct amqp_broker *b, const struct err *why)
{
    if (b->doctors && b->doctors->begun)
        fail(b, b->doctors, why);
}

static void close_channel(struct amqp_broker *b)
{
    amqp_channel_close_t bye = {.reply_code = 200};

    if (b->wires[AMQP_PUBLISH].link)
        link_call(b->wires[AMQP_PUBLISH].link, AMQP_CH_DOCTOR, AMQP_CHANNEL_CLOSE_METHOD, &bye,
                  NULL, NULL, 0, NULL);
}

static void tell(struct amqp_broker *b, struct amqp_doctor *d)
{
    struct broker_event event = {.kind = BROKER_ANSWER, .tag = d->tag};
    struct err e;

    answer_end(&d->out);
    buf_str(&d->out);
    event.data = buf_slice(&d->out);
    if (d->out.failed) {
        err_nomem(&e);
        fail(b, d, &e);
        return;
    }
    event_queue_push(&b->events, &event);
    b->doctors = d->next;
    doctor_free(d);
}

/* --- the server --- */

static bool is_yes(const struct amqp_link *l, const char *property)
{
    return strcmp(link_server(l, property), "true") == 0;
}

static void check_server(const struct amqp_link *l, struct buf *out)
{
    const char *product = link_server(l, "product"), *version = link_server(l, "version");
    bool rabbit = strcmp(product, "RabbitMQ") == 0;
    char *end;
    long major = strtol(version, &end, 10), minor = *end == '.' ? strtol(end + 1, NULL, 10) : 0;
    bool old = rabbit && (major < 3 || (major == 3 && minor < 10));

    answer_check(out, "server", !rabbit || old ? ANSWER_WARN : ANSWER_OK,
                 !rabbit ? "only RabbitMQ is known to work: it needs streams and confirms"
                 : old   ? "3.10 is the oldest that was tried"
                         : NULL,
                 "%s %s, %s", product, version, link_server(l, "cluster_name"));
}

static void check_abilities(const struct amqp_link *l, struct buf *out)
{
    bool confirms = is_yes(l, "capabilities.publisher_confirms");
    bool told = is_yes(l, "capabilities.connection.blocked");

    answer_check(out, "publisher confirms", confirms ? ANSWER_OK : ANSWER_BAD,
                 confirms ? NULL : "without them nobody knows whether a job has arrived", "%s",
                 confirms ? "yes" : "not known to the server");
    answer_check(out, "results stream", ANSWER_OK, NULL, "%s is there", AMQP_RESULTS_STREAM);
    if (link_is_blocked(l))
        answer_check(out, "alarm", ANSWER_BAD,
                     "memory or disk is short: drain queues, make room; what is sent waits",
                     "nothing can be published");
    else
        answer_check(out, "alarm", ANSWER_OK, NULL, "%s",
                     told ? "none was told" : "the server does not tell");
    answer_check(out, "consumer_timeout", ANSWER_OK,
                 "half an hour unless it was set: 'rabbitmqctl environment | grep "
                 "consumer_timeout' tells; longer jobs are acknowledged early or run again",
                 "AMQP does not tell");
}

static bool is_near(const char *host)
{
    return strcmp(host, "localhost") == 0 || strncmp(host, "127.", 4) == 0 ||
           strcmp(host, "::1") == 0;
}

static void check_line(const struct amqp_broker *b, struct buf *out)
{
    const struct amqp_address *a = &b->address;
    enum answer_verdict verdict = ANSWER_OK;
    const char *advice = NULL;

    for (size_t i = 0; i < a->hosts_len && !a->tls; i++) {
        if (!is_near(a->hosts[i].name)) {
            verdict = ANSWER_WARN;
            advice = "password and jobs travel in clear text: use amqps://";
        }
    }
    if (a->tls && !a->verify) {
        verdict = ANSWER_WARN;
        advice = "anybody in between can play the server: verify=verify_peer, cacertfile=...";
    }
    answer_check(out, "connection", verdict, advice, "%s, %zu host(s), heartbeat %d s",
                 !a->tls     ? "not encrypted"
                 : a->verify ? "TLS, verified"
                             : "TLS, not verified",
                 a->hosts_len, a->heartbeat_s);
}

/* --- a queue --- */

static void next_queue(struct amqp_broker *b, struct amqp_doctor *d);

static enum answer_verdict judge(const char *text, const char *type, const char **advice)
{
    *advice = NULL;
    if (strcmp(type, "stream") == 0)
        *advice = "a stream is no queue of jobs: name another queue";
    else if (strstr(text, "inequivalent arg 'durable'"))
        *advice = "not durable: its jobs are gone when the server restarts";
    else if (strstr(text, "inequivalent arg 'auto_delete'"))
        *advice = "it is deleted with its jobs when its last consumer goes";
    return *advice ? ANSWER_BAD : ANSWER_OK;
}

static void tell_queue(struct amqp_doctor *d, const char *text)
{
    const char *advice;
    enum answer_verdict verdict;
    char type[24], check[128];

    amqp_kind_read(text, type, sizeof(type));
    verdict = judge(text, type, &advice);
    snprintf(check, sizeof(check), "queue %.100s", d->name);
    answer_check(&d->out, check, verdict, advice, "%s, %u waiting, %u consumers",
                 type[0] ? type : "type not told", d->waiting, d->consumers);
}

static void tell_no_queue(struct amqp_doctor *d, const struct amqp_answer *a)
{
    bool missing = a->code == 404;
    char check[128];

    snprintf(check, sizeof(check), "queue %.100s", d->name);
    answer_check(&d->out, check, missing ? ANSWER_OK : ANSWER_BAD,
                 missing ? "a worker or a sender declares it when it first needs it"
                         : "no worker of ours can use it",
                 "%s", missing ? "not declared" : a->why->text);
}

static bool lost(struct amqp_broker *b, struct amqp_doctor *d, const struct amqp_answer *a)
{
    if (a->method || a->why->code != ERR_RECONNECT)
        return false;
    fail(b, d, a->why);
    return true;
}

/* A refusal closed the channel. */
static void go_on(struct amqp_broker *b, struct amqp_doctor *d, bool refused)
{
    struct err e = ERR_INIT;

    if (refused && link_open_channel(b->wires[AMQP_PUBLISH].link, AMQP_CH_DOCTOR, &e) != 0)
        fail(b, d, &e);
    else
        next_queue(b, d);
}

/* It is always refused; an acceptance, which no server gives, tells nothing. */
static void on_type(void *owner, void *context, uint64_t number, const struct amqp_answer *a)
{
    struct amqp_broker *b = owner;
    struct amqp_doctor *d = context;

    (void)number;
    if (lost(b, d, a))
        return;
    tell_queue(d, a->method ? "" : a->why->text);
    go_on(b, d, !a->method);
}

static void ask_type(struct amqp_broker *b, struct amqp_doctor *d)
{
    struct err e = ERR_INIT;

    if (amqp_kind_ask(b->wires[AMQP_PUBLISH].link, d->name, on_type, d, 0, &e) != 0)
        fail(b, d, &e);
}

static void on_counts(void *owner, void *context, uint64_t number, const struct amqp_answer *a)
{
    struct amqp_broker *b = owner;
    struct amqp_doctor *d = context;

    (void)number;
    if (lost(b, d, a))
        return;
    if (a->method) {
        const amqp_queue_declare_ok_t *ok = a->method->decoded;

        d->waiting = ok->message_count;
        d->consumers = ok->consumer_count;
        ask_type(b, d);
        return;
    }
    tell_no_queue(d, a);
    go_on(b, d, true);
}

static void next_queue(struct amqp_broker *b, struct amqp_doctor *d)
{
    amqp_queue_declare_t look = {.passive = 1};
    struct err e = ERR_INIT;

    do
        d->name = d->rest ? strsep(&d->rest, ",") : NULL;
    while (d->name && !*d->name);
    if (!d->name) {
        close_channel(b);
        tell(b, d);
        return;
    }
    look.queue = amqp_cstring_bytes(d->name);
    if (link_call(b->wires[AMQP_PUBLISH].link, AMQP_CH_DOCTOR, AMQP_QUEUE_DECLARE_METHOD, &look,
                  on_counts, d, 0, &e) != 0)
        fail(b, d, &e);
}

/* --- the beginning --- */

void amqp_doctor_tick(struct amqp_broker *b)
{
    struct amqp_doctor *d = b->doctors;
    struct amqp_wire *w = &b->wires[AMQP_PUBLISH];
    struct err e = ERR_INIT;

    /* A channel that is still closing is waited for: its answer wakes us. */
    if (!d || d->begun || !w->ready || !w->link ||
        link_open_channel(w->link, AMQP_CH_DOCTOR, &e) != 0)
        return;
    d->begun = true;
    answer_begin(&d->out);
    check_server(w->link, &d->out);
    check_line(b, &d->out);
    check_abilities(w->link, &d->out);
    next_queue(b, d);
}

static char *own_queues(const struct amqp_broker *b)
{
    struct buf names = BUF_INIT;

    buf_adds(&names, "");
    for (size_t i = 0; i < b->queues_len; i++)
        buf_addf(&names, "%s%s", i ? "," : "", b->queues[i].name);
    return buf_detach(&names, NULL);
}

int amqp_doctor(struct amqp_broker *b, const struct broker_ask *ask, struct err *e)
{
    struct amqp_doctor *d = calloc(1, sizeof(*d)), **end = &b->doctors;

    if (!d)
        return err_nomem(e);
    d->tag = ask->tag;
    d->names = ask->queue.len ? strndup(ask->queue.ptr, ask->queue.len) : own_queues(b);
    d->rest = d->names;
    if (!d->names) {
        free(d);
        return err_nomem(e);
    }
    while (*end)
        end = &(*end)->next;
    *end = d;
    amqp_doctor_tick(b);
    return 0;
}
