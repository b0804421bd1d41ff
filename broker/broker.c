#include "broker/backend.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#define DEFAULT_LEASE_MS          30000
#define DEFAULT_RESULT_EXPIRES_MS 86400000
#define DEFAULT_MESSAGE_MAX       (256ll * 1024 * 1024)
#define QUEUE_NAME_MAX            255 /* the longest that AMQP can name */
#define TOKEN_MAX                 64
#define BATCH_NAME_MAX            40
#define FDS_MAX                   16

/* One row per scheme. open NULL: known, and refused with the reason. A row may say that it keeps
 * the results of another URL itself (same server, other database); without it only an equal URL
 * counts as the same place. */
struct scheme {
    const char *name;
    broker_open_fn *open;
    broker_same_place_fn *same_place;
    const char *refusal;
};

static const char no_tls[] = "this build's hiredis has no TLS: use redis:// through a TLS tunnel "
                             "(stunnel), or a private network";
static const char no_jobs[] = "it stores nothing and can only be a result backend";

static const struct scheme schemes[] = {
    {"memory", memory_open, NULL, NULL},
    {"sqlite", sqlite_open, NULL, NULL},
    {"redis", redis_open, redis_same_place, NULL},
    {"redis+socket", redis_open, redis_same_place, NULL},
    {"rediss", NULL, NULL, no_tls},
    {"amqp", amqp_open, NULL, NULL},
    {"amqps", amqp_open, NULL, NULL},
    {"disabled", NULL, NULL, no_jobs},
};
#define SCHEMES (sizeof(schemes) / sizeof(schemes[0]))

const char *broker_schemes(void)
{
    return "memory, sqlite, redis, redis+socket, amqp, amqps";
}

static const struct scheme *find_scheme(const struct uri *uri, struct err *e)
{
    for (size_t i = 0; i < SCHEMES; i++) {
        if (strcmp(schemes[i].name, uri->scheme) != 0)
            continue;
        if (schemes[i].open)
            return &schemes[i];
        err_set(e, ERR_USAGE, "cannot open '%s': %s", uri->masked, schemes[i].refusal);
        return NULL;
    }
    err_set(e, ERR_USAGE, "cannot open '%s': no broker has this scheme", uri->masked);
    return NULL;
}

static void fill_defaults(struct broker_config *to, const struct broker_config *from)
{
    *to = *from;
    if (to->lease_ms <= 0)
        to->lease_ms = DEFAULT_LEASE_MS;
    if (to->result_expires_ms == 0)
        to->result_expires_ms = DEFAULT_RESULT_EXPIRES_MS;
    if (to->message_max <= 0)
        to->message_max = DEFAULT_MESSAGE_MAX;
    if (!to->clock)
        to->clock = clock_system();
    if (!to->node)
        to->queues_len = 0; /* leases nothing, so it consumes nothing */
}

static struct broker *open_uri(const struct uri *uri, const struct broker_config *config,
                               struct err *e)
{
    const struct scheme *scheme = find_scheme(uri, e);

    return scheme ? scheme->open(uri, config, e) : NULL;
}

/* True when the jobs' backend stores the results too, in the same step as everything else. */
static bool results_inside(const struct uri *jobs, const struct uri *results,
                           const struct broker_config *config)
{
    if (strcmp(config->url, config->result_url) == 0)
        return true;
    for (size_t i = 0; i < SCHEMES; i++) {
        if (strcmp(schemes[i].name, jobs->scheme) == 0 && schemes[i].same_place)
            return schemes[i].same_place(jobs, results);
    }
    return false;
}

/* Jobs at one URL, results at another or nowhere. */
static struct broker *open_split(const struct uri *jobs_uri, const struct uri *results_uri,
                                 const struct broker_config *config, struct err *e)
{
    struct broker_config c = *config;
    struct broker *jobs;
    struct broker *results = NULL;

    c.result_url = NULL;
    c.replies = false; /* they are not where the jobs are */
    jobs = open_uri(jobs_uri, &c, e);
    if (!jobs)
        return NULL;
    if (strcmp(results_uri->scheme, "disabled") != 0) {
        c.url = config->result_url;
        c.node = NULL;
        c.queues_len = 0;
        results = open_uri(results_uri, &c, e);
        if (!results) {
            err_wrap(e, "result backend");
            jobs->ops->close(jobs, false);
            return NULL;
        }
    }
    return split_wrap(jobs, results, e);
}

static struct broker *open_both(const struct uri *jobs, struct broker_config *config, struct err *e)
{
    struct uri results = {0};
    struct broker *b = NULL;

    if (!config->result_url)
        return open_uri(jobs, config, e);
    if (uri_parse(&results, config->result_url, e) != 0)
        err_wrap(e, "result backend");
    else if (results_inside(jobs, &results, config))
        b = open_uri(jobs, config, e);
    else
        b = open_split(jobs, &results, config, e);
    uri_release(&results);
    return b;
}

struct broker *broker_open(const struct broker_config *given, struct err *e)
{
    struct broker_config config;
    struct uri uri = {0};
    struct broker *b = NULL;

    fill_defaults(&config, given);
    if (!config.url || !*config.url) {
        err_set(e, ERR_USAGE, "no broker URL was given: use one of %s", broker_schemes());
        return NULL;
    }
    if (uri_parse(&uri, config.url, e) == 0)
        b = open_both(&uri, &config, e);
    uri_release(&uri);
    if (b && config.trace) {
        b = trace_wrap(b, config.log);
        if (!b)
            err_nomem(e);
    }
    if (b) {
        b->message_max = config.message_max;
        b->clock = config.clock;
        b->has_node = config.node != NULL;
    }
    return b;
}

void broker_close(struct broker *b, bool release_leases)
{
    if (b)
        b->ops->close(b, release_leases);
}

unsigned broker_caps(const struct broker *b)
{
    return b->ops->caps;
}

int broker_pollset(struct broker *b, struct pollfd *fds, int max)
{
    return b->ops->pollset(b, fds, max);
}

int64_t broker_deadline(struct broker *b)
{
    return b->ops->deadline(b);
}

int broker_poll(struct broker *b, struct broker_event *events, int max)
{
    return b->ops->poll(b, events, max);
}

void broker_sleep(struct broker *b, int64_t until_ms)
{
    struct pollfd fds[FDS_MAX];
    int64_t due_ms = broker_deadline(b);
    int n;

    until_ms = due_ms < until_ms ? due_ms : until_ms;
    if (b->ops->sleep && b->ops->sleep(b, until_ms))
        return;
    n = broker_pollset(b, fds, FDS_MAX);
    poll(fds, (nfds_t)n, clock_poll_timeout(b->clock, until_ms));
}

void broker_nothing_ready(struct broker *b)
{
    if (b->ops->nothing_ready)
        b->ops->nothing_ready(b);
}

void broker_rest(struct broker *b)
{
    if (b->ops->rest)
        b->ops->rest(b);
}

void broker_credit(struct broker *b, int n)
{
    b->ops->credit(b, n < 0 ? 0 : n);
}

/* --- checks: nothing of a batch is submitted when one item is wrong --- */

static int check_tag(uint64_t tag, struct err *e)
{
    if (tag & BROKER_TAG_RESERVED)
        return err_set(e, ERR_BUG, "tag %llu has its top bit set, which is the broker layer's own",
                       (unsigned long long)tag);
    return 0;
}

static int check_size(const struct broker *b, struct slice envelope, struct err *e)
{
    if (envelope.len > (uint64_t)b->message_max)
        return err_set(e, ERR_USAGE,
                       "message of %zu bytes is longer than the limit of %lld bytes: send a "
                       "reference to the data instead",
                       envelope.len, (long long)b->message_max);
    return 0;
}

static int check_queue(struct slice queue, struct err *e)
{
    if (queue.len == 0)
        return err_set(e, ERR_USAGE, "queue name is empty");
    if (queue.len > QUEUE_NAME_MAX)
        return err_set(e, ERR_USAGE, "queue name '%.40s...' has %zu bytes, %d are allowed",
                       queue.ptr, queue.len, QUEUE_NAME_MAX);
    if (memchr(queue.ptr, '\0', queue.len))
        return err_set(e, ERR_USAGE, "queue name '%.*s' holds a NUL byte", SLICE_ARG(queue));
    return 0;
}

static int check_message(const struct broker *b, const struct broker_message *m, struct err *e)
{
    if (check_tag(m->tag, e) != 0 || check_queue(m->queue, e) != 0 ||
        check_size(b, m->envelope, e) != 0)
        return -1;
    if (m->priority < 0 || m->priority > 9)
        return err_set(e, ERR_USAGE, "priority %d is outside 0-9", m->priority);
    if (m->token.len > TOKEN_MAX)
        return err_set(e, ERR_USAGE, "token of %zu bytes is longer than %d", m->token.len,
                       TOKEN_MAX);
    if (m->batch.len > BATCH_NAME_MAX)
        return err_set(e, ERR_BUG, "batch name of %zu bytes is longer than %d", m->batch.len,
                       BATCH_NAME_MAX);
    return 0;
}

static int check_key(struct slice key, int64_t window_ms, struct err *e)
{
    if (key.len == 0 || key.len > BROKER_KEY_MAX)
        return err_set(e, ERR_USAGE, "a dedup key of %zu bytes: 1 to %d are allowed", key.len,
                       BROKER_KEY_MAX);
    if (window_ms <= 0)
        return err_set(e, ERR_USAGE, "a dedup window of %lld ms", (long long)window_ms);
    return 0;
}

/* A job that goes on must go on in one message, and only then: else the totals do not add up. */
static int check_finish(const struct broker *b, const struct broker_finish *f, struct err *e)
{
    size_t continuing = 0;

    if (check_tag(f->tag, e) != 0)
        return -1;
    for (size_t i = 0; i < f->followups_len; i++) {
        if (check_message(b, &f->followups[i], e) != 0)
            return err_wrap(e, "follow-up %zu", i + 1);
        continuing += f->followups[i].continues;
    }
    if (continuing != (f->outcome == BROKER_JOB_CONTINUES))
        return err_set(e, ERR_BUG, "a finish with outcome %d has %zu follow-ups that continue it",
                       (int)f->outcome, continuing);
    if (f->duplicate && f->outcome != BROKER_JOB_SUCCEEDED)
        return err_set(e, ERR_BUG, "a finish with outcome %d cannot be a duplicate",
                       (int)f->outcome);
    return f->dedup_key.len ? check_key(f->dedup_key, f->dedup_window_ms, e) : 0;
}

static int check_claim(const struct broker_claim *c, struct err *e)
{
    if (check_tag(c->tag, e) != 0)
        return -1;
    if (c->id.len == 0)
        return err_set(e, ERR_USAGE, "a claim without a task id");
    return check_key(c->key, c->window_ms, e);
}

/* --- ops --- */

int broker_publish(struct broker *b, const struct broker_message *v, size_t n, struct err *e)
{
    for (size_t i = 0; i < n; i++) {
        if (check_message(b, &v[i], e) != 0)
            return n > 1 ? err_wrap(e, "message %zu of %zu", i + 1, n) : -1;
    }
    return n ? b->ops->publish(b, v, n, e) : 0;
}

int broker_renew(struct broker *b, const struct broker_receipt *v, size_t n, struct err *e)
{
    return n ? b->ops->renew(b, v, n, e) : 0;
}

int broker_note(struct broker *b, const struct broker_note *v, size_t n, struct err *e)
{
    for (size_t i = 0; i < n; i++) {
        if (v[i].result_id.len == 0)
            return err_set(e, ERR_USAGE, "a note without a result id");
    }
    return n ? b->ops->note(b, v, n, e) : 0;
}

int broker_finish(struct broker *b, const struct broker_finish *v, size_t n, struct err *e)
{
    for (size_t i = 0; i < n; i++) {
        if (check_finish(b, &v[i], e) != 0)
            return -1;
    }
    return n ? b->ops->finish(b, v, n, e) : 0;
}

int broker_release(struct broker *b, const struct broker_release *v, size_t n, struct err *e)
{
    for (size_t i = 0; i < n; i++) {
        if (check_tag(v[i].tag, e) != 0 || check_size(b, v[i].envelope, e) != 0)
            return -1;
    }
    return n ? b->ops->release(b, v, n, e) : 0;
}

int broker_bury(struct broker *b, const struct broker_bury *v, size_t n, struct err *e)
{
    for (size_t i = 0; i < n; i++) {
        if (check_tag(v[i].tag, e) != 0 ||
            (v[i].dedup_key.len && check_key(v[i].dedup_key, 1, e) != 0))
            return -1;
    }
    return n ? b->ops->bury(b, v, n, e) : 0;
}

int broker_store(struct broker *b, const struct broker_store *v, size_t n, struct err *e)
{
    for (size_t i = 0; i < n; i++) {
        if (check_tag(v[i].tag, e) != 0)
            return -1;
        if (v[i].id.len == 0)
            return err_set(e, ERR_USAGE, "a result without an id");
    }
    return n ? b->ops->store(b, v, n, e) : 0;
}

int broker_claim(struct broker *b, const struct broker_claim *v, size_t n, struct err *e)
{
    if (!(b->ops->caps & BROKER_CAP_CLAIMS))
        return err_set(e, ERR_USAGE, "this broker keeps no dedup keys: send the job without one");
    for (size_t i = 0; i < n; i++) {
        if (check_claim(&v[i], e) != 0)
            return -1;
    }
    return n ? b->ops->claim(b, v, n, e) : 0;
}

int broker_ask(struct broker *b, const struct broker_ask *given, struct err *e)
{
    static const struct {
        bool queue;
        bool handle;
    } needs[] = {
        [BROKER_ASK_QUEUES] = {false, false},    [BROKER_ASK_TOTALS] = {false, false},
        [BROKER_ASK_PEEK] = {true, false},       [BROKER_ASK_PURGE] = {true, false},
        [BROKER_ASK_DEAD] = {false, false},      [BROKER_ASK_DEAD_SHOW] = {false, true},
        [BROKER_ASK_DEAD_RETRY] = {false, true}, [BROKER_ASK_DEAD_RM] = {false, true},
        [BROKER_ASK_NODES] = {false, false},     [BROKER_ASK_DOCTOR] = {false, false},
        [BROKER_ASK_DROP] = {true, false},
    };
    struct broker_ask ask = *given;

    if (check_tag(ask.tag, e) != 0)
        return -1;
    if ((unsigned)ask.question >= sizeof(needs) / sizeof(needs[0]))
        return err_set(e, ERR_BUG, "question %d is not known", (int)ask.question);
    if (needs[ask.question].queue && check_queue(ask.queue, e) != 0)
        return -1;
    if (needs[ask.question].handle && ask.handle.len == 0)
        return err_set(e, ERR_USAGE, "no dead letter was named: give a handle or 'all'");
    if (ask.limit <= 0)
        ask.limit = 100;
    return b->ops->ask(b, &ask, e);
}

static int check_object(struct slice json, struct err *e)
{
    json_t *root = json_loadb(json.ptr, json.len, JSON_ALLOW_NUL, NULL);
    bool object = json_is_object(root);

    json_decref(root);
    return object ? 0 : err_set(e, ERR_USAGE, "an announcement is one JSON object");
}

int broker_announce(struct broker *b, struct slice json, int64_t ttl_ms, struct err *e)
{
    if (!b->has_node)
        return err_set(e, ERR_USAGE, "a broker without a node has nothing to announce");
    if (ttl_ms <= 0)
        return err_set(e, ERR_USAGE, "an announcement cannot last %lld ms", (long long)ttl_ms);
    if (check_size(b, json, e) != 0 || check_object(json, e) != 0)
        return -1;
    return b->ops->announce(b, json, ttl_ms, e);
}

static int check_ids(const uint64_t *tags, const struct slice *ids, size_t n, struct err *e)
{
    for (size_t i = 0; i < n; i++) {
        if (check_tag(tags[i], e) != 0)
            return -1;
        if (ids[i].len == 0)
            return err_set(e, ERR_USAGE, "a task id is empty");
    }
    return 0;
}

int broker_result_get(struct broker *b, const uint64_t *tags, const struct slice *ids, size_t n,
                      struct err *e)
{
    if (check_ids(tags, ids, n, e) != 0)
        return -1;
    return n ? b->ops->result_get(b, tags, ids, n, e) : 0;
}

int broker_result_watch(struct broker *b, const uint64_t *tags, const struct slice *ids, size_t n,
                        struct err *e)
{
    if (check_ids(tags, ids, n, e) != 0)
        return -1;
    return n ? b->ops->result_watch(b, tags, ids, n, e) : 0;
}

bool broker_result_expect(struct broker *b, const struct slice *ids, size_t n)
{
    return b->ops->result_expect && b->ops->result_expect(b, ids, n);
}

void broker_result_unwatch(struct broker *b, const struct slice *ids, size_t n)
{
    if (n)
        b->ops->result_unwatch(b, ids, n);
}

int broker_result_forget(struct broker *b, const uint64_t *tags, const struct slice *ids, size_t n,
                         struct err *e)
{
    if (check_ids(tags, ids, n, e) != 0)
        return -1;
    return n ? b->ops->result_forget(b, tags, ids, n, e) : 0;
}
