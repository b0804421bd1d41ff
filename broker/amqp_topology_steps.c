/* What each kind of wish says to the server, step by step. */
#include "broker/amqp_topology_steps.h"

#include <stdio.h>

/* Segments are what a stream forgets: an eighth of what it keeps is lost early at most. */
#define STREAM_SEGMENT_BYTES (32 * 1024 * 1024)

static void look_for(struct topology_step *s, struct slice queue)
{
    s->d.kind = AMQP_DECLARE_QUEUE;
    s->d.name = queue;
    s->passive = true;
}

static void make_queue(struct topology_step *s, struct slice queue)
{
    s->d.kind = AMQP_DECLARE_QUEUE;
    s->d.name = queue;
    s->makes = true;
}

static void make_exchange(struct topology_step *s, struct slice name, const char *type)
{
    s->d.kind = AMQP_DECLARE_EXCHANGE;
    s->d.name = name;
    s->d.type = slice_of(type);
    s->makes = true;
}

static void bind(struct topology_step *s, struct slice queue, struct slice exchange,
                 struct slice key)
{
    s->d.kind = AMQP_BIND_QUEUE;
    s->d.name = queue;
    s->d.source = exchange;
    s->d.key = key;
    s->makes = true;
}

static void add_argument(struct topology_step *s, const char *name, amqp_field_value_t value)
{
    s->d.entries[s->d.arguments.num_entries++] =
        (amqp_table_entry_t){amqp_cstring_bytes(name), value};
    s->d.arguments.entries = s->d.entries;
}

static bool task_queue_step(struct topology_step *s, const struct topology_wish *wish, int n)
{
    struct slice name = wish->name;

    if (n == 0)
        look_for(s, name);
    else if (n == 1)
        make_exchange(s, name, "direct");
    else if (n == 2)
        make_queue(s, name);
    else if (n == 3)
        bind(s, name, name, name);
    return n < 4;
}

static bool grave_step(struct topology_step *s, const struct topology_wish *wish, int n)
{
    if (n == 0)
        look_for(s, wish->name);
    else if (n == 1)
        make_queue(s, wish->name);
    return n < 2;
}

static bool replies_step(struct topology_step *s, const struct topology_wish *wish, int n)
{
    if (n != 0)
        return false;
    make_queue(s, wish->name);
    s->auto_delete = true;
    add_argument(s, "x-expires", amqp_value_of_integer(wish->number));
    return true;
}

static bool stream_step(struct topology_step *s, const struct topology_wish *wish, int n)
{
    if (n == 0)
        look_for(s, wish->name);
    else if (n == 1) {
        make_queue(s, wish->name);
        snprintf(s->d.key_text, sizeof(s->d.key_text), "%llds", (long long)wish->number);
        add_argument(s, "x-queue-type", amqp_value_of_text(slice_of("stream")));
        if (wish->number > 0)
            add_argument(s, "x-max-age", amqp_value_of_text(slice_of(s->d.key_text)));
        add_argument(s, "x-stream-max-segment-size-bytes",
                     amqp_value_of_integer(STREAM_SEGMENT_BYTES));
    }
    return n < 2;
}

static bool query_step(struct topology_step *s, const struct topology_wish *wish, int n)
{
    if (n == 0) {
        make_exchange(s, slice_of(QUERY_EXCHANGE), "fanout");
    } else if (n == 1) {
        make_queue(s, wish->name);
        s->exclusive = true;
        s->auto_delete = true;
    } else if (n == 2) {
        bind(s, wish->name, slice_of(QUERY_EXCHANGE), slice_of(""));
    }
    return n < 3;
}

static bool query_exchange_step(struct topology_step *s, const struct topology_wish *wish, int n)
{
    (void)wish;
    if (n == 0)
        make_exchange(s, slice_of(QUERY_EXCHANGE), "fanout");
    return n < 1;
}

static bool ladder_step(struct topology_step *s, const struct topology_wish *wish, int n)
{
    (void)wish;
    return amqp_ladder_topology(&s->d, n, s->delays);
}

static bool exit_step(struct topology_step *s, const struct topology_wish *wish, int n)
{
    return n == 0 && amqp_ladder_binding(&s->d, wish->name, NULL) == 0;
}

static bool delay_step(struct topology_step *s, const struct topology_wish *wish, int n)
{
    return amqp_step_topology(&s->d, n, (int)wish->number, s->delays);
}

typedef bool step_fn(struct topology_step *s, const struct topology_wish *wish, int n);

static step_fn *const kinds[] = {
    [TOPOLOGY_TASK_QUEUE] = task_queue_step,
    [TOPOLOGY_GRAVE] = grave_step,
    [TOPOLOGY_REPLIES] = replies_step,
    [TOPOLOGY_STREAM] = stream_step,
    [TOPOLOGY_QUERY] = query_step,
    [TOPOLOGY_LADDER] = ladder_step,
    [TOPOLOGY_QUERY_EXCHANGE] = query_exchange_step,
    [TOPOLOGY_LADDER_EXIT] = exit_step,
    [TOPOLOGY_DELAY_QUEUE] = delay_step,
};

bool topology_step(struct topology_step *s, const struct topology_wish *wish, int n,
                   enum amqp_queue_type delays)
{
    *s = (struct topology_step){.delays = delays};
    return kinds[wish->kind](s, wish, n);
}
