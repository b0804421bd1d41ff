#include "broker/amqp_ask.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* --- counting what is ready --- */

static void count_next(struct amqp_broker *b, struct question *q);

static const char *name_at(const struct question *q)
{
    return json_string_value(json_array_get(q->counting, q->at));
}

static void on_counted(struct amqp_broker *b, struct question *q, const struct amqp_answer *answer)
{
    const amqp_queue_declare_ok_t *ok = answer->method ? answer->method->decoded : NULL;

    if (ok)
        json_object_set_new(q->counts, name_at(q), json_integer(ok->message_count));
    else if (answer->code != 404 && answer->code != 405) {
        ask_fail(b, q, answer->why);
        return;
    }
    q->at++;
    count_next(b, q);
}

static void count_next(struct amqp_broker *b, struct question *q)
{
    amqp_queue_declare_t m = {.passive = 1};
    json_t *done;

    if (q->at < json_array_size(q->counting)) {
        m.queue = amqp_cstring_bytes(name_at(q));
        ask_call(b, q, AMQP_QUEUE_DECLARE_METHOD, &m, on_counted);
        return;
    }
    done = q->counting;
    q->counting = NULL;
    json_decref(done);
    q->counted(b, q);
}

void survey_count(struct amqp_broker *b, struct question *q, json_t *names, ask_next_fn *then)
{
    q->counting = json_incref(names);
    q->counted = then;
    q->at = 0;
    count_next(b, q);
}

bool survey_knows(const struct question *q, const char *queue, const char *suffix)
{
    char name[300];

    snprintf(name, sizeof(name), "%s%s", queue, suffix);
    return json_object_get(q->counts, name) != NULL;
}

int64_t survey_ready(const struct question *q, const char *queue, const char *suffix)
{
    char name[300];

    snprintf(name, sizeof(name), "%s%s", queue, suffix);
    return json_integer_value(json_object_get(q->counts, name));
}

/* --- which queues there are --- */

static void add_name(json_t *names, const char *name)
{
    json_t *known;
    size_t i;

    json_array_foreach(names, i, known)
    {
        if (strcmp(json_string_value(known), name) == 0)
            return;
    }
    json_array_append_new(names, json_string(name));
}

static void add_state_names(json_t *names, json_t *states)
{
    json_t *state, *row;
    size_t i, j;

    json_array_foreach(states, i, state)
    {
        json_array_foreach(json_object_get(state, "queues"), j, row)
        {
            const char *name = json_string_value(json_object_get(row, "queue"));

            if (name)
                add_name(names, name);
        }
    }
}

static int by_text(const void *x, const void *y)
{
    const char *const *a = x, *const *b = y;

    return strcmp(*a, *b);
}

/* New reference: the same texts in order. */
static json_t *sorted(json_t *names)
{
    size_t n = json_array_size(names);
    const char **texts = calloc(n + 1, sizeof(*texts));
    json_t *to = json_array();

    for (size_t i = 0; texts && i < n; i++)
        texts[i] = json_string_value(json_array_get(names, i));
    if (texts)
        qsort(texts, n, sizeof(*texts), by_text);
    for (size_t i = 0; texts && i < n; i++)
        json_array_append_new(to, json_string(texts[i]));
    free(texts);
    return to;
}

static void add_published(void *context, struct id_entry *entry)
{
    add_name(context, entry->id.ptr); /* terminated: amqp_note_queue */
}

static void learn_names(struct amqp_broker *b, struct question *q)
{
    json_t *names = json_array();

    for (size_t i = 0; i < b->queues_len; i++)
        add_name(names, b->queues[i].name);
    id_table_each(&b->asking->published, add_published, names);
    add_state_names(names, q->states);
    if (q->ask.queue.len)
        add_name(names, q->ask.queue.ptr);
    if (json_array_size(names) == 0)
        add_name(names, "celery"); /* where everything goes that says nothing else */
    json_decref(q->names);
    q->names = sorted(names);
    json_decref(names);
}

static json_t *with_graves(json_t *names)
{
    static const char *const suffixes[] = {"", ".dead", ".unknown"};
    json_t *all = json_array(), *name;
    size_t i;

    json_array_foreach(names, i, name)
    {
        for (size_t s = 0; s < sizeof(suffixes) / sizeof(suffixes[0]); s++)
            json_array_append_new(all, json_sprintf("%s%s", json_string_value(name), suffixes[s]));
    }
    return all;
}

static void on_states(struct amqp_broker *b, struct question *q)
{
    json_t *all;

    learn_names(b, q);
    all = with_graves(q->names);
    survey_count(b, q, all, q->surveyed);
    json_decref(all);
}

void survey(struct amqp_broker *b, struct question *q, ask_next_fn *then)
{
    q->surveyed = then;
    query_states(b, q, on_states);
}

int64_t survey_held(const struct question *q, const char *queue, const char *member)
{
    json_t *state, *row;
    int64_t n = 0;
    size_t i, j;

    json_array_foreach(q->states, i, state)
    {
        json_array_foreach(json_object_get(state, "queues"), j, row)
        {
            const char *name = json_string_value(json_object_get(row, "queue"));

            if (name && strcmp(name, queue) == 0)
                n += json_integer_value(json_object_get(row, member));
        }
    }
    return n;
}

struct queue_name {
    struct id_entry entry;
    char text[];
};

void amqp_note_queue(struct amqp_broker *b, struct slice queue)
{
    struct amqp_asking *a = asking_of(b);
    struct queue_name *name;

    if (!a || !queue.len || id_table_find(&a->published, queue))
        return;
    name = malloc(sizeof(*name) + queue.len + 1);
    if (!name)
        return;
    memcpy(name->text, queue.ptr, queue.len);
    name->text[queue.len] = '\0';
    name->entry.id = slice_make(name->text, queue.len);
    if (id_table_add(&a->published, &name->entry) != 0)
        free(name);
}

void amqp_forget_queue(struct amqp_broker *b, struct slice queue)
{
    struct id_entry *found = b->asking ? id_table_find(&b->asking->published, queue) : NULL;

    if (!found)
        return;
    id_table_remove(&b->asking->published, found);
    free(found); /* the first member of its queue_name */
}

/* --- BROKER_ASK_QUEUES --- */

static void tell_queues(struct amqp_broker *b, struct question *q)
{
    struct buf out = BUF_INIT;
    json_t *name;
    size_t i;

    answer_begin(&out);
    json_array_foreach(q->names, i, name)
    {
        const char *text = json_string_value(name);
        struct answer_queue row = {.queue = slice_of(text),
                                   .waiting =
                                       survey_ready(q, text, "") + survey_held(q, text, "inside"),
                                   .leased = survey_held(q, text, "leased"),
                                   .dead = survey_ready(q, text, ".dead"),
                                   .unknown = survey_ready(q, text, ".unknown")};

        answer_queue(&out, &row);
    }
    answer_end(&out);
    ask_done(b, q, &out);
}

void survey_queues(struct amqp_broker *b, struct question *q)
{
    survey(b, q, tell_queues);
}
