#include "broker/amqp_topology.h"

#include "broker/amqp_topology_steps.h"

#include <stdlib.h>
#include <string.h>

struct topology_job {
    struct topology_job *next;
    struct topology_wish wish; /* its name points behind the structure */
    topology_done_fn *done;
    uint64_t number;
    int step;                    /* the next one */
    enum amqp_queue_type delays; /* of what messages wait in */
    bool adopted; /* a passive declare found the queue: the steps that make it are left out */
    bool asked;   /* the step's method was written */
    bool failed;
    struct err why;
};

void topology_init(struct amqp_topology *t, int channel, void *owner)
{
    *t = (struct amqp_topology){.channel = channel, .owner = owner};
}

static void drop_jobs(struct amqp_topology *t)
{
    while (t->jobs) {
        struct topology_job *job = t->jobs;

        t->jobs = job->next;
        free(job);
    }
}

/* --- what is known to be there --- */

/* This is asked for every message, so it allocates nothing. */
#define KEY_MAX (2 * sizeof(int32_t) + AMQP_SHORT_MAX)

struct granted {
    struct id_entry entry;
    char key[];
};

/* {NULL,0}: no server has a queue with such a name. */
static struct slice wish_key(char to[KEY_MAX], const struct topology_wish *wish)
{
    int32_t head[2] = {(int32_t)wish->kind, 0};

    if (wish->name.len > AMQP_SHORT_MAX)
        return slice_make(NULL, 0);
    if (wish->kind == TOPOLOGY_DELAY_QUEUE)
        head[1] = (int32_t)wish->number;
    memcpy(to, head, sizeof(head));
    if (wish->name.len)
        memcpy(to + sizeof(head), wish->name.ptr, wish->name.len);
    return slice_make(to, sizeof(head) + wish->name.len);
}

bool topology_has(const struct amqp_topology *t, const struct topology_wish *wish)
{
    char room[KEY_MAX];

    return id_table_find(&t->granted, wish_key(room, wish)) != NULL;
}

/* Out of memory it is wished again the next time. */
static void grant(struct amqp_topology *t, const struct topology_wish *wish)
{
    char room[KEY_MAX];
    struct slice key = wish_key(room, wish);
    struct granted *g;

    if (!key.ptr || id_table_find(&t->granted, key))
        return;
    g = malloc(sizeof(*g) + key.len);
    if (!g)
        return;
    memcpy(g->key, key.ptr, key.len);
    g->entry.id = slice_make(g->key, key.len);
    if (id_table_add(&t->granted, &g->entry) != 0)
        free(g);
}

void topology_forget(struct amqp_topology *t, enum topology_kind kind, struct slice name)
{
    char room[KEY_MAX];
    struct topology_wish wish = {.kind = kind, .name = name};
    struct id_entry *found = id_table_find(&t->granted, wish_key(room, &wish));

    if (!found)
        return;
    id_table_remove(&t->granted, found);
    free(found);
}

static void drop_grant(void *context, struct id_entry *entry)
{
    (void)context;
    free(entry);
}

static void forget_all(struct amqp_topology *t)
{
    id_table_drain(&t->granted, drop_grant, NULL);
}

void topology_release(struct amqp_topology *t)
{
    drop_jobs(t);
    forget_all(t);
    id_table_release(&t->granted);
}

/* --- running them --- */

static void run(struct amqp_topology *t);

static void finish_job(struct amqp_topology *t, const struct err *why)
{
    struct topology_job *job = t->jobs;

    t->jobs = job->next;
    if (!why)
        grant(t, &job->wish);
    if (job->done)
        job->done(t->owner, job->number, why);
    free(job);
}

/* 404 on a passive declare: it has to be made. 405 and 406: it is there, with other arguments or as
 * another connection's own, and is used as it is. */
static void take_refusal(struct topology_job *job, const struct topology_step *s,
                         const struct amqp_answer *answer)
{
    if (answer->code == 404 && s->passive) {
        job->step++;
        return;
    }
    if (answer->code == 405 || answer->code == 406) {
        job->adopted = s->d.kind == AMQP_DECLARE_QUEUE && !s->exclusive;
        job->step++;
        return;
    }
    job->failed = true;
    if (answer->why)
        job->why = *answer->why;
}

static bool next_step(struct topology_job *job, struct topology_step *s)
{
    while (topology_step(s, &job->wish, job->step, job->delays)) {
        if (!(job->adopted && s->makes))
            return true;
        job->step++;
    }
    return false;
}

static void on_answer(void *owner, void *context, uint64_t number, const struct amqp_answer *answer)
{
    struct amqp_topology *t = context;
    struct topology_job *job = t->jobs;
    struct topology_step s;

    (void)owner;
    (void)number;
    if (!job || !job->asked)
        return;
    job->asked = false;
    if (answer->method) {
        next_step(job, &s);
        if (s.passive)
            job->adopted = true;
        job->step++;
        run(t);
        return;
    }
    if (answer->code == 0)
        return; /* the connection is gone: topology_down keeps the wish for the next one */
    next_step(job, &s);
    take_refusal(job, &s, answer); /* goes on when the channel is open again */
}

static int ask_queue(struct amqp_topology *t, const struct topology_step *s, struct err *e)
{
    amqp_queue_declare_t m = {.queue = amqp_bytes_of(s->d.name),
                              .passive = s->passive,
                              .durable = !s->exclusive,
                              .exclusive = s->exclusive,
                              .auto_delete = s->auto_delete,
                              .arguments = s->d.arguments};

    return link_call(t->link, t->channel, AMQP_QUEUE_DECLARE_METHOD, &m, on_answer, t, 0, e);
}

static int ask_exchange(struct amqp_topology *t, const struct topology_step *s, struct err *e)
{
    amqp_exchange_declare_t m = {.exchange = amqp_bytes_of(s->d.name),
                                 .type = amqp_bytes_of(s->d.type),
                                 .durable = 1,
                                 .arguments = s->d.arguments};

    return link_call(t->link, t->channel, AMQP_EXCHANGE_DECLARE_METHOD, &m, on_answer, t, 0, e);
}

static int ask_bind_queue(struct amqp_topology *t, const struct topology_step *s, struct err *e)
{
    amqp_queue_bind_t m = {.queue = amqp_bytes_of(s->d.name),
                           .exchange = amqp_bytes_of(s->d.source),
                           .routing_key = amqp_bytes_of(s->d.key)};

    return link_call(t->link, t->channel, AMQP_QUEUE_BIND_METHOD, &m, on_answer, t, 0, e);
}

static int ask_bind_exchange(struct amqp_topology *t, const struct topology_step *s, struct err *e)
{
    amqp_exchange_bind_t m = {.destination = amqp_bytes_of(s->d.name),
                              .source = amqp_bytes_of(s->d.source),
                              .routing_key = amqp_bytes_of(s->d.key)};

    return link_call(t->link, t->channel, AMQP_EXCHANGE_BIND_METHOD, &m, on_answer, t, 0, e);
}

static int ask(struct amqp_topology *t, const struct topology_step *s, struct err *e)
{
    static int (*const kinds_of[])(struct amqp_topology *, const struct topology_step *,
                                   struct err *) = {
        [AMQP_DECLARE_EXCHANGE] = ask_exchange,
        [AMQP_DECLARE_QUEUE] = ask_queue,
        [AMQP_BIND_QUEUE] = ask_bind_queue,
        [AMQP_BIND_EXCHANGE] = ask_bind_exchange,
    };

    return kinds_of[s->d.kind](t, s, e);
}

/* Quorum queues whose messages run out and are handed on safely came with RabbitMQ 3.10. */
static enum amqp_queue_type delays_of(const struct amqp_link *link)
{
    const char *version = link_server(link, "version");
    char *end;
    long major = strtol(version, &end, 10), minor = *end == '.' ? strtol(end + 1, NULL, 10) : 0;

    return major > 3 || (major == 3 && minor >= 10) ? AMQP_QUORUM : AMQP_CLASSIC;
}

/* Goes on with the first job until the server has to be waited for. */
static void run(struct amqp_topology *t)
{
    while (t->jobs && t->link && !t->jobs->asked) {
        struct topology_job *job = t->jobs;
        struct topology_step s;

        if (job->failed) {
            finish_job(t, &job->why);
            continue;
        }
        job->delays = delays_of(t->link);
        if (!next_step(job, &s)) {
            finish_job(t, NULL);
            continue;
        }
        job->asked = true;
        if (ask(t, &s, &job->why) != 0) {
            job->asked = false;
            return; /* the connection is going down */
        }
    }
}

int topology_up(struct amqp_topology *t, struct amqp_link *link, struct err *e)
{
    t->link = link;
    forget_all(t);
    if (link_open_channel(link, t->channel, e) != 0)
        return -1;
    run(t);
    return 0;
}

void topology_down(struct amqp_topology *t)
{
    t->link = NULL;
    forget_all(t);
    for (struct topology_job *job = t->jobs; job; job = job->next) {
        job->step = 0;
        job->asked = false;
        job->adopted = false;
    }
}

void topology_channel_closed(struct amqp_topology *t)
{
    if (t->jobs)
        t->jobs->asked = false;
    if (t->link && link_open_channel(t->link, t->channel, NULL) == 0)
        run(t);
}

static struct topology_job *new_job(const struct topology_wish *wish)
{
    struct topology_job *job = calloc(1, sizeof(*job) + wish->name.len + 1);

    if (!job)
        return NULL;
    job->wish = *wish;
    if (wish->name.len)
        memcpy(job + 1, wish->name.ptr, wish->name.len);
    job->wish.name = slice_make(job + 1, wish->name.len);
    return job;
}

int topology_ensure(struct amqp_topology *t, const struct topology_wish *wish,
                    topology_done_fn *done, uint64_t number, struct err *e)
{
    struct topology_job *job, **end = &t->jobs;

    if (t->link && topology_has(t, wish)) {
        if (done)
            done(t->owner, number, NULL);
        return 0;
    }
    job = new_job(wish);
    if (!job)
        return err_nomem(e);
    job->done = done;
    job->number = number;
    while (*end)
        end = &(*end)->next;
    *end = job;
    run(t);
    return 0;
}
