#include "broker/amqp_health.h"

#include "broker/answer.h"

#include <stdio.h>
#include <stdlib.h>

#define MIB (1024.0 * 1024.0)

static const char *text(const json_t *object, const char *name)
{
    const char *value = json_string_value(json_object_get(object, name));

    return value ? value : "";
}

static double number(const json_t *object, const char *name)
{
    return json_number_value(json_object_get(object, name));
}

/* --- the nodes --- */

static void check_alarms(const json_t *node, struct buf *out)
{
    const char *name = text(node, "name");
    bool memory = json_is_true(json_object_get(node, "mem_alarm"));
    bool disk = json_is_true(json_object_get(node, "disk_free_alarm"));

    answer_check(out, "memory", memory ? ANSWER_BAD : ANSWER_OK,
                 memory ? "alarm: nothing can be published until it is over; drain queues, raise "
                          "vm_memory_high_watermark"
                        : NULL,
                 "%.0f of %.0f MiB on %s", number(node, "mem_used") / MIB,
                 number(node, "mem_limit") / MIB, name);
    answer_check(out, "disk", disk ? ANSWER_BAD : ANSWER_OK,
                 disk ? "alarm: nothing can be published until there is room" : NULL,
                 "%.0f MiB free, alarm below %.0f, on %s", number(node, "disk_free") / MIB,
                 number(node, "disk_free_limit") / MIB, name);
}

static void check_node(const json_t *node, struct buf *out)
{
    const json_t *partitions = json_object_get(node, "partitions");

    if (!json_is_true(json_object_get(node, "running"))) {
        answer_check(out, "node", ANSWER_BAD, "start it, or forget it with rabbitmqctl",
                     "%s does not run", text(node, "name"));
        return;
    }
    if (json_array_size(partitions))
        answer_check(out, "node", ANSWER_BAD, "the cluster is split: see its logs",
                     "%s is parted from %zu others", text(node, "name"),
                     json_array_size(partitions));
    /* Just started: nothing was measured yet. */
    if (json_object_get(node, "mem_used"))
        check_alarms(node, out);
}

void amqp_health_nodes(const json_t *nodes, struct buf *out)
{
    const json_t *node;
    size_t i;

    answer_check(out, "nodes", ANSWER_OK, NULL, "%zu", json_array_size(nodes));
    json_array_foreach((json_t *)nodes, i, node) check_node(node, out);
}

/* --- a queue --- */

/* A limit has three names: as argument, in a policy, and none. */
static const json_t *limit_of(const json_t *queue, const char *name)
{
    const json_t *policy = json_object_get(queue, "effective_policy_definition");
    const json_t *value;
    char argument[48];

    snprintf(argument, sizeof(argument), "x-%s", name);
    value = json_object_get(json_object_get(queue, "arguments"), argument);
    return value ? value : json_object_get(policy, name);
}

static void check_length(const json_t *queue, const char *check, struct buf *out)
{
    static const char *const names[] = {"max-length", "max-length-bytes"};
    const char *overflow = json_string_value(limit_of(queue, "overflow"));
    bool rejects = overflow && strncmp(overflow, "reject-publish", 14) == 0;

    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        const json_t *limit = limit_of(queue, names[i]);

        if (limit)
            answer_check(out, check, rejects ? ANSWER_WARN : ANSWER_BAD,
                         rejects ? "a full queue refuses jobs: their senders get an error"
                                 : "a full queue drops its oldest jobs: take the limit away, or "
                                   "set overflow to reject-publish",
                         "%s %.0f", names[i], json_number_value(limit));
    }
}

static void check_limits(const json_t *queue, const char *check, struct buf *out)
{
    static const struct {
        const char *name;
        const char *advice;
    } times[] = {
        {"message-ttl", "jobs that wait longer are dropped, or dead-lettered: take it away"},
        {"expires", "without a consumer for so long the queue is deleted with all its jobs"},
    };

    check_length(queue, check, out);
    for (size_t i = 0; i < sizeof(times) / sizeof(times[0]); i++) {
        const json_t *limit = limit_of(queue, times[i].name);

        if (limit)
            answer_check(out, check, ANSWER_WARN, times[i].advice, "%s %.0f ms", times[i].name,
                         json_number_value(limit));
    }
    if (limit_of(queue, "ha-mode"))
        answer_check(out, check, ANSWER_WARN,
                     "mirrored queues are gone in RabbitMQ 4: use a quorum queue", "ha-mode");
    if (limit_of(queue, "consumer-timeout"))
        answer_check(out, check, ANSWER_OK, NULL, "consumer-timeout %.0f ms",
                     json_number_value(limit_of(queue, "consumer-timeout")));
}

/* What an unusable type or a short life means for jobs. */
static enum answer_verdict judge(const json_t *queue, size_t nodes_len, const char **advice)
{
    const char *type = text(queue, "type");

    *advice = NULL;
    if (strcmp(type, "stream") == 0) {
        *advice = "a stream is no queue of jobs: name another queue";
        return ANSWER_BAD;
    }
    if (!json_is_true(json_object_get(queue, "durable"))) {
        *advice = "its jobs are gone when the server restarts: declare it durable";
        return ANSWER_BAD;
    }
    if (json_is_true(json_object_get(queue, "auto_delete"))) {
        *advice = "it is deleted with its jobs when its last consumer goes: declare it without";
        return ANSWER_BAD;
    }
    if (strcmp(type, "classic") == 0 && nodes_len > 1) {
        *advice = "it lives on one node of the cluster: a quorum queue survives the loss of a node";
        return ANSWER_WARN;
    }
    return ANSWER_OK;
}

void amqp_health_queue(const json_t *queue, size_t nodes_len, struct buf *out)
{
    const char *policy = text(queue, "policy"), *advice;
    enum answer_verdict verdict = judge(queue, nodes_len, &advice);
    char check[128];

    snprintf(check, sizeof(check), "queue %.100s", text(queue, "name"));
    answer_check(out, check, verdict, advice, "%s%s%s, %.0f waiting, %.0f leased, %.0f consumers",
                 text(queue, "type"), policy[0] ? ", policy " : "", policy,
                 number(queue, "messages_ready"), number(queue, "messages_unacknowledged"),
                 number(queue, "consumers"));
    check_limits(queue, check, out);
}

/* --- what is read --- */

struct health {
    struct amqp_api *api;
    const char *vhost;
    struct buf *out;
    size_t nodes_len;
};

/* A document that can not be had is a row. */
static json_t *read_or_say(struct health *h, const char *check, const char *const *path)
{
    struct err e = ERR_INIT;
    json_t *answer = amqp_api_get(h->api, path, &e);

    if (!answer)
        answer_check(h->out, check, ANSWER_WARN, "give the user the tag monitoring", "%s", e.text);
    return answer;
}

static void tell_overview(struct health *h, const json_t *overview)
{
    answer_check(h->out, "management API", ANSWER_OK, NULL, "%s", amqp_api_shown(h->api));
    answer_check(h->out, "cluster", ANSWER_OK, NULL, "%s, RabbitMQ %s, Erlang %s",
                 text(overview, "cluster_name"), text(overview, "rabbitmq_version"),
                 text(overview, "erlang_version"));
}

static void tell_nodes(struct health *h)
{
    json_t *nodes = read_or_say(h, "nodes", AMQP_API_PATH("nodes"));

    h->nodes_len = json_array_size(nodes);
    if (nodes)
        amqp_health_nodes(nodes, h->out);
    json_decref(nodes);
}

static void tell_flags(struct health *h)
{
    json_t *flags = read_or_say(h, "streams", AMQP_API_PATH("feature-flags"));
    const json_t *flag;
    const char *state = "";
    size_t i;

    json_array_foreach(flags, i, flag)
    {
        if (strcmp(text(flag, "name"), "stream_queue") == 0)
            state = text(flag, "state");
    }
    if (flags)
        answer_check(h->out, "streams", strcmp(state, "enabled") == 0 ? ANSWER_OK : ANSWER_WARN,
                     strcmp(state, "enabled") == 0
                         ? NULL
                         : "rabbitmqctl enable_feature_flag stream_queue: results and dedup keys "
                           "are kept in streams",
                     "%s", state[0] ? state : "not known to the server");
    json_decref(flags);
}

/* The names are few; each has its own document, so that a host with many queues is no burden. */
static void tell_queue(struct health *h, const char *name)
{
    struct err e = ERR_INIT;
    json_t *queue;
    char check[128];

    snprintf(check, sizeof(check), "queue %.100s", name);
    queue = amqp_api_get(h->api, AMQP_API_PATH("queues", h->vhost, name), &e);
    if (queue)
        amqp_health_queue(queue, h->nodes_len, h->out);
    else if (e.code == ERR_NOTFOUND)
        answer_check(h->out, check, ANSWER_OK, "a worker or a sender declares it when it starts",
                     "not declared in %s", h->vhost);
    else
        answer_check(h->out, check, ANSWER_WARN, "give the user access to the virtual host", "%s",
                     e.text);
    json_decref(queue);
}

static void tell_policies(struct health *h)
{
    json_t *policies = read_or_say(h, "policies", AMQP_API_PATH("policies", h->vhost));
    struct buf names = BUF_INIT;
    const json_t *policy;
    size_t i;

    json_array_foreach(policies, i, policy)
    {
        buf_addf(&names, "%s%s on %s", i ? ", " : "", text(policy, "name"),
                 text(policy, "pattern"));
    }
    if (policies)
        answer_check(h->out, "policies", ANSWER_OK, NULL, "%s",
                     names.len ? buf_str(&names) : "none");
    buf_release(&names);
    json_decref(policies);
}

static void tell_queues(struct health *h, const char *queues)
{
    char *names = strdup(queues), *rest = names;

    for (const char *name; rest && (name = strsep(&rest, ","));) {
        if (*name)
            tell_queue(h, name);
    }
    free(names);
}

int amqp_health(struct amqp_api *api, const char *vhost, const char *queues, struct buf *out,
                struct err *e)
{
    struct health h = {.api = api, .vhost = vhost, .out = out};
    json_t *overview = amqp_api_get(api, AMQP_API_PATH("overview"), e);

    if (!overview)
        return -1;
    answer_begin(out);
    tell_overview(&h, overview);
    tell_nodes(&h);
    tell_flags(&h);
    tell_policies(&h);
    tell_queues(&h, queues);
    answer_end(out);
    json_decref(overview);
    return 0;
}
