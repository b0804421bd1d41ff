/*
 * amqp_ask.h - how operators' questions are answered over RabbitMQ; private to amqp_ask.c,
 * amqp_survey.c, amqp_query.c, amqp_totals.c and amqp_dead.c.
 *
 * Model: open questions stand in a line; the first one has the channel AMQP_CH_ASK of the
 * publishing connection for itself and is a chain of callbacks that ends with ask_done or ask_fail.
 * A refusal (404) closes that channel: it is opened again, and only then the chain goes on
 * (ask_call's rule). When the connection breaks, the question at work fails (it may have changed
 * something), the others wait for the next one.
 *
 * What AMQP tells of a queue is how many messages are ready; who holds unacknowledged ones is told
 * by the processes themselves (query_states). Fork rule: as amqp.h.
 */
#ifndef BROKER_AMQP_ASK_H
#define BROKER_AMQP_ASK_H

#include "broker/amqp.h"
#include "broker/amqp_reader.h"
#include "broker/answer.h"

#include <jansson.h>

/* A reply_to that leads back over the channel itself. */
#define DIRECT_REPLY "amq.rabbitmq.reply-to"

struct question;

typedef void ask_next_fn(struct amqp_broker *b, struct question *q);
/* method NULL: the server refused with that code, and the channel is open again. */
typedef void ask_answered_fn(struct amqp_broker *b, struct question *q,
                             const struct amqp_answer *answer);

#define QUERY_NAME_SIZE 64

struct question {
    struct question *next;
    uint64_t serial;
    struct broker_ask ask; /* its texts lie behind the structure */
    bool at_work;
    ask_answered_fn *answered; /* of the call under way */
    bool failed;               /* the call was refused; its channel is being opened again */
    int refused;               /* with that code; 0: the channel was closed for something else */
    struct err why;

    json_t *names; /* owned: of task queues, an array */
    json_t
        *counts; /* owned: object, ready messages by queue name; absent: there is no such queue */
    json_t *states;   /* owned: array, what the nodes said of themselves */
    json_t *counting; /* owned: array of names being counted */
    size_t at;        /* the next one */
    ask_next_fn *counted;
    ask_next_fn *surveyed;
    ask_next_fn *then;
    ask_next_fn *later;
    int64_t later_ms; /* monotonic; CLOCK_NEVER */

    struct totals_fold *fold; /* owned; amqp_totals.c */
    struct grave_work *grave; /* owned; amqp_grave.h */
};

struct amqp_asking {
    struct question *line; /* owned; the first one is at work when the connection is there */
    bool channel_open;
    uint64_t serial;

    /* amqp_query.c, asking */
    uint64_t query;     /* number of the query under way */
    int expected;       /* answers that are still to come */
    int64_t give_up_ms; /* monotonic; CLOCK_NEVER: no query */
    bool hears;         /* replies are consumed on this connection */

    /* amqp_query.c, answering */
    char *announced;            /* owned */
    int64_t announced_until_ms; /* wall clock */
    struct id_table published;  /* owned; by the names of the queues that were published to */
};

/* --- amqp_ask.c --- */
struct amqp_asking *asking_of(struct amqp_broker *b);
/* A synchronous method on the channel; -1: the question has failed. */
int ask_call(struct amqp_broker *b, struct question *q, amqp_method_number_t id,
             const void *decoded, ask_answered_fn *answered);
/* Goes on with `later` after that time. */
void ask_later(struct amqp_broker *b, struct question *q, int64_t ms, ask_next_fn *later);
/* Ends the question with that text, which is released. */
void ask_done(struct amqp_broker *b, struct question *q, struct buf *json);
void ask_fail(struct amqp_broker *b, struct question *q, const struct err *why);

/* --- amqp_survey.c --- */
/* Asks the nodes for their state, learns which queues there are, counts what is ready in them and
 * in their graves, then goes on with then. */
void survey(struct amqp_broker *b, struct question *q, ask_next_fn *then);
/* Counts what is ready in every queue of `names` (borrowed array) into q->counts, then then. */
void survey_count(struct amqp_broker *b, struct question *q, json_t *names, ask_next_fn *then);
/* Whether there is such a queue. */
bool survey_knows(const struct question *q, const char *queue, const char *suffix);
int64_t survey_ready(const struct question *q, const char *queue, const char *suffix);
/* What the nodes hold of a queue: handed out, or (inside) fetched and not handed out. */
int64_t survey_held(const struct question *q, const char *queue, const char *member);
void survey_queues(struct amqp_broker *b, struct question *q); /* ends with BROKER_ASK_QUEUES */

/* --- amqp_query.c --- */
/* Collects what all nodes say of themselves into q->states, then goes on with then. */
void query_states(struct amqp_broker *b, struct question *q, ask_next_fn *then);
void query_nodes(struct amqp_broker *b, struct question *q); /* ends with BROKER_ASK_NODES */
/* Replies to what names DIRECT_REPLY can be taken from now on; once for each connection. */
int query_hear(struct amqp_broker *b, struct err *e);
/* A reply to a query of ours, and a query of others. */
void query_replied(struct amqp_broker *b, const struct amqp_incoming *in);
void query_asked(struct amqp_broker *b, const struct amqp_incoming *in);
/* The queue on which this node hears questions, and answers to those that are no operator's. */
void query_own_queue(const struct amqp_broker *b, char name[QUERY_NAME_SIZE]);
/* amqp_long.c: a question or an answer about jobs acknowledged early; false: about others. */
bool amqp_held_asked(struct amqp_broker *b, const json_t *query);
int query_listen(struct amqp_broker *b, struct err *e); /* a node's consuming connection is up */
void query_tick(struct amqp_broker *b);

/* --- amqp_totals.c --- */
void totals_answer(struct amqp_broker *b, struct question *q);
void totals_release(struct question *q);

/* --- amqp_dead.c and amqp_grave.c --- */
void dead_list(struct amqp_broker *b, struct question *q);
void dead_show(struct amqp_broker *b, struct question *q);
void dead_retry(struct amqp_broker *b, struct question *q);
void dead_rm(struct amqp_broker *b, struct question *q);
void queue_peek(struct amqp_broker *b, struct question *q);
void queue_purge(struct amqp_broker *b, struct question *q);
void queue_drop(struct amqp_broker *b, struct question *q);
void dead_release(struct question *q);

#endif
