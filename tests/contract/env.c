#include "contract.h"

#include "base/analyzer.h"

#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define DEADLINE_MS 10000
#define STEP_MS     10

static const char *const queues[] = {"celery", "other"};

struct peer *peer_open(struct contract_env *env, const char *node, uint64_t generation)
{
    struct broker_config config = {.url = env->url,
                                   .result_url = env->result_url[0] ? env->result_url : NULL,
                                   .node = node,
                                   .generation = generation,
                                   .queues = queues,
                                   .queues_len = node ? 2 : 0,
                                   .lease_ms = CONTRACT_LEASE_MS,
                                   .clock = env->clock,
                                   .trace = env->trace};
    struct peer *p = calloc(1, sizeof(*p));
    struct err e = ERR_INIT;

    assert_non_null(p);
    assert_true(env->peers_len < 8);
    p->env = env;
    p->b = broker_open(&config, &e);
    if (!p->b)
        fail_msg("broker_open: %s", e.text);
    env->peers[env->peers_len++] = p;
    peer_expect(p, BROKER_STATE, ANY_TAG);
    return p;
}

void seen_free(struct seen *s)
{
    free(s->queue);
    free(s->data);
    free(s->id);
}

void peer_close(struct peer *p, bool release_leases)
{
    struct contract_env *env = p->env;

    broker_close(p->b, release_leases);
    for (size_t i = 0; i < p->seen_len; i++)
        seen_free(&p->seen[i]);
    free(p->seen);
    for (int i = 0; i < env->peers_len; i++) {
        if (env->peers[i] == p)
            env->peers[i] = env->peers[--env->peers_len];
    }
    free(p);
}

static char *copy(struct slice s)
{
    return s.ptr ? slice_dup(s) : NULL;
}

/* The array holds what it grew to and what is copied into it. */
ANALYZER_LOSES_SIGHT
static void remember(struct peer *p, const struct broker_event *event)
{
    struct seen *s;

    p->seen = realloc(p->seen, (p->seen_len + 1) * sizeof(*p->seen));
    s = &p->seen[p->seen_len++];
    *s = (struct seen){.kind = event->kind,
                       .flags = event->flags,
                       .tag = event->tag,
                       .fence = event->fence,
                       .receipt = event->receipt,
                       .queue = copy(event->queue),
                       .data = copy(event->data),
                       .id = copy(event->id)};
    if (event->err) {
        s->code = event->err->code;
        snprintf(s->text, sizeof(s->text), "%s", event->err->text);
    }
}
ANALYZER_SEES_AGAIN

/* One round over all peers: work, remember, then wait for a descriptor or a step of time. */
static void pump(struct contract_env *env)
{
    struct pollfd fds[64];
    int n = 0, got = 0;

    for (int i = 0; i < env->peers_len; i++) {
        struct broker_event events[16];
        int k = broker_poll(env->peers[i]->b, events, 16);

        for (int j = 0; j < k; j++)
            remember(env->peers[i], &events[j]);
        got += k;
        n += broker_pollset(env->peers[i]->b, fds + n, 64 - n);
    }
    if (got)
        return;
    if (env->clock == &env->fake.base)
        clock_fake_advance(&env->fake, STEP_MS);
    else
        poll(fds, (nfds_t)n, STEP_MS);
}

/* Takes the first event that matches. */
static bool pick(struct peer *p, enum broker_event_kind kind, uint64_t tag, struct seen *out)
{
    for (size_t i = 0; i < p->seen_len; i++) {
        if (p->seen[i].kind != kind || (tag != ANY_TAG && p->seen[i].tag != tag))
            continue;
        *out = p->seen[i];
        memmove(&p->seen[i], &p->seen[i + 1], (p->seen_len - i - 1) * sizeof(*out));
        p->seen_len--;
        return true;
    }
    return false;
}

static bool await(struct peer *p, enum broker_event_kind kind, uint64_t tag, int64_t ms,
                  struct seen *out)
{
    int64_t end = clock_mono_ms(p->env->clock) + ms;

    while (!pick(p, kind, tag, out)) {
        if (clock_mono_ms(p->env->clock) > end)
            return false;
        pump(p->env);
    }
    return true;
}

static void say_what_came(const struct peer *p)
{
    for (size_t i = 0; i < p->seen_len; i++)
        fprintf(stderr, "  seen kind=%d tag=%llu flags=%u text=%s\n", (int)p->seen[i].kind,
                (unsigned long long)p->seen[i].tag, p->seen[i].flags, p->seen[i].text);
}

struct seen peer_expect(struct peer *p, enum broker_event_kind kind, uint64_t tag)
{
    struct seen got = {0};

    if (!await(p, kind, tag, DEADLINE_MS, &got)) {
        say_what_came(p);
        fail_msg("no event of kind %d with tag %llu", (int)kind, (unsigned long long)tag);
    }
    return got;
}

bool peer_sees(struct peer *p, enum broker_event_kind kind, uint64_t tag, int64_t ms)
{
    struct seen got = {0};
    bool came = await(p, kind, tag, ms, &got);

    seen_free(&got);
    return came;
}

void env_pass(struct contract_env *env, int64_t ms)
{
    int64_t end = clock_mono_ms(env->clock) + ms;

    while (clock_mono_ms(env->clock) < end)
        pump(env);
}

int64_t env_wall_ms(const struct contract_env *env)
{
    return clock_wall_ms(env->clock);
}

void env_needs(const struct contract_env *env, unsigned lacks)
{
    if (env->lacks & lacks)
        skip();
}

/* ---- shorthands ---- */

void put_message(struct peer *p, struct broker_message *m)
{
    struct err e = ERR_INIT;
    struct seen s;

    m->tag = ++p->last_tag;
    if (broker_publish(p->b, m, 1, &e) < 0)
        fail_msg("publish: %s", e.text);
    s = peer_expect(p, BROKER_PUBLISHED, m->tag);
    seen_free(&s);
}

void put_messages(struct peer *p, struct broker_message *v, size_t n)
{
    struct err e = ERR_INIT;

    for (size_t i = 0; i < n; i++)
        v[i].tag = ++p->last_tag;
    if (broker_publish(p->b, v, n, &e) < 0)
        fail_msg("publish: %s", e.text);
    for (size_t i = 0; i < n; i++) {
        struct seen s = peer_expect(p, BROKER_PUBLISHED, v[i].tag);

        seen_free(&s);
    }
}

void put(struct peer *p, const char *queue, const char *envelope)
{
    struct broker_message m = {.queue = slice_of(queue), .envelope = slice_of(envelope)};

    put_message(p, &m);
}

struct seen take(struct peer *p)
{
    broker_credit(p->b, 1);
    return peer_expect(p, BROKER_DELIVERED, ANY_TAG);
}

void take_is(struct peer *p, const char *envelope, struct seen *out)
{
    struct seen s = take(p);

    assert_string_equal(s.data, envelope);
    if (out)
        *out = s;
    else
        seen_free(&s);
}

uint64_t finish(struct peer *p, const struct seen *job, const char *id, const char *doc)
{
    struct broker_finish f = {.tag = ++p->last_tag,
                              .receipt = job->receipt,
                              .outcome = BROKER_JOB_SUCCEEDED,
                              .result_id = slice_of(id),
                              .result = slice_of(doc)};

    assert_int_equal(broker_finish(p->b, &f, 1, NULL), 0);
    return f.tag;
}

void finish_ok(struct peer *p, const struct seen *job)
{
    struct seen s = peer_expect(p, BROKER_FINISHED, finish(p, job, NULL, NULL));

    seen_free(&s);
}

json_t *ask(struct peer *p, enum broker_question question, const char *queue, const char *handle)
{
    struct broker_ask a = {.tag = ++p->last_tag,
                           .question = question,
                           .queue = slice_of(queue),
                           .handle = slice_of(handle)};
    struct err e = ERR_INIT;
    struct seen s;
    json_t *answer;

    if (broker_ask(p->b, &a, &e) < 0)
        fail_msg("ask %d: %s", (int)question, e.text);
    s = peer_expect(p, BROKER_ANSWER, a.tag);
    answer = json_loads(s.data, 0, NULL);
    assert_non_null(answer);
    seen_free(&s);
    return answer;
}

int64_t total(struct peer *p, const char *name)
{
    json_t *totals = ask(p, BROKER_ASK_TOTALS, NULL, NULL);
    int64_t value = json_integer_value(json_object_get(totals, name));

    json_decref(totals);
    return value;
}

void check_totals(struct peer *p)
{
    static const char *const parts[] = {"succeeded", "failed",  "dead",
                                        "waiting",   "delayed", "leased"};
    json_t *totals = ask(p, BROKER_ASK_TOTALS, NULL, NULL);
    int64_t sum = 0;

    for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++)
        sum += json_integer_value(json_object_get(totals, parts[i]));
    assert_int_equal(json_integer_value(json_object_get(totals, "published")), sum);
    json_decref(totals);
}

char *stored(struct peer *p, const char *id)
{
    struct slice ids[] = {slice_of(id)};
    uint64_t tag = ++p->last_tag;
    struct seen s;

    assert_int_equal(broker_result_get(p->b, &tag, ids, 1, NULL), 0);
    s = peer_expect(p, BROKER_RESULT, tag);
    free(s.queue);
    return s.data;
}
