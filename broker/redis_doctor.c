/* What a doctor says of a Redis server: INFO in the first place, then what only a question tells.
 */
#include "broker/answer.h"
#include "broker/redis.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#define MIB (1024.0 * 1024.0)

/* The commands of the examination, one after the other; only the first must succeed. */
enum step { STEP_INFO, STEP_SAVE, STEP_FSYNC, STEP_BULK, STEP_TRACKING, STEPS };

static const char *const commands[STEPS][4] = {
    [STEP_INFO] = {"INFO", NULL},
    [STEP_SAVE] = {"CONFIG", "GET", "save", NULL},
    [STEP_FSYNC] = {"CONFIG", "GET", "appendfsync", NULL},
    [STEP_BULK] = {"HGETALL", REDIS_BULK, NULL},
    [STEP_TRACKING] = {"CLIENT", "TRACKING", "OFF", NULL},
};

struct doctor {
    uint64_t tag;
    enum step step;
    struct buf info;
    char save[128]; /* "" for none */
    char fsync[16];
    bool save_known;
    int left_over; /* lists of jobs whose lease is over */
    bool tracking; /* this connection may ask for it */
};

static void doctor_free(void *state)
{
    struct doctor *d = state;

    if (d)
        buf_release(&d->info);
    free(d);
}

/* --- reading INFO --- */

/* The value of "name:value\r\n"; "" when there is none. */
static void field(struct doctor *d, const char *name, char *to, size_t size)
{
    const char *text = buf_str(&d->info);
    size_t len = strlen(name);

    to[0] = '\0';
    for (const char *line = text; line && *line; line = strchr(line, '\n')) {
        if (*line == '\n')
            line++;
        if (strncmp(line, name, len) == 0 && line[len] == ':') {
            snprintf(to, size, "%.*s", (int)strcspn(line + len + 1, "\r\n"), line + len + 1);
            return;
        }
    }
}

static bool field_is(struct doctor *d, const char *name, const char *value)
{
    char text[64];

    field(d, name, text, sizeof(text));
    return strcmp(text, value) == 0;
}

static int64_t number(struct doctor *d, const char *name)
{
    char text[32];

    field(d, name, text, sizeof(text));
    return strtoll(text, NULL, 10);
}

/* --- the checks --- */

static void check_version(struct doctor *d, struct buf *out)
{
    char version[32], valkey[32];
    bool old;

    field(d, "redis_version", version, sizeof(version));
    field(d, "valkey_version", valkey, sizeof(valkey));
    old = strtol(version, NULL, 10) < 6;
    answer_check(out, "server", old ? ANSWER_WARN : ANSWER_OK,
                 old ? "6.0 or later wakes workers at once instead of at their next look" : NULL,
                 "%s %s", valkey[0] ? "Valkey" : "Redis", valkey[0] ? valkey : version);
}

static void check_role(struct doctor *d, struct buf *out)
{
    bool replica = field_is(d, "role", "slave"), cluster = field_is(d, "redis_mode", "cluster");

    answer_check(out, "role", replica ? ANSWER_BAD : ANSWER_OK,
                 replica ? "a replica refuses writes: name its master" : NULL, "%s",
                 replica ? "replica" : "master");
    if (cluster)
        answer_check(out, "mode", ANSWER_BAD,
                     "steps that touch several keys can not run in a cluster: use one server",
                     "cluster");
}

static void check_memory(struct doctor *d, struct buf *out)
{
    int64_t used = number(d, "used_memory"), max = number(d, "maxmemory");
    bool full = max > 0 && used > max / 10 * 9;

    if (max <= 0)
        answer_check(out, "memory", ANSWER_OK, NULL, "%.1f MiB, no limit", (double)used / MIB);
    else
        answer_check(out, "memory", full ? ANSWER_WARN : ANSWER_OK,
                     full ? "publishers wait when it is full: raise maxmemory, drain queues, or "
                            "let results expire sooner"
                          : NULL,
                     "%.1f of %.1f MiB", (double)used / MIB, (double)max / MIB);
}

static void check_eviction(struct doctor *d, struct buf *out)
{
    enum answer_verdict verdict = ANSWER_OK;
    char policy[32];

    field(d, "maxmemory_policy", policy, sizeof(policy));
    if (policy[0] && strcmp(policy, "noeviction") != 0)
        verdict = strncmp(policy, "allkeys", 7) == 0 && number(d, "maxmemory") > 0 ? ANSWER_BAD
                                                                                   : ANSWER_WARN;
    answer_check(out, "maxmemory-policy", verdict,
                 verdict == ANSWER_OK ? NULL
                                      : "set noeviction: with any other policy a full server drops "
                                        "results, or whole queues",
                 "%s", policy[0] ? policy : "unknown");
}

static void check_log_file(struct doctor *d, struct buf *out)
{
    const char *fsync = d->fsync[0] ? d->fsync : "unknown";
    bool lazy = strcmp(fsync, "no") == 0;

    if (!field_is(d, "aof_last_write_status", "ok"))
        answer_check(out, "persistence", ANSWER_BAD, "see the server's log: a full disk?",
                     "the append-only file can not be written");
    else
        answer_check(out, "persistence", lazy ? ANSWER_WARN : ANSWER_OK,
                     strcmp(fsync, "always") == 0
                         ? NULL
                         : "a power failure may lose the last second or more: appendfsync always "
                           "forbids it",
                     "append-only file, appendfsync %s", fsync);
}

static void check_snapshots(struct doctor *d, struct buf *out)
{
    static const char advice[] = "set appendonly yes: what came after the last snapshot is lost "
                                 "when the server dies";

    if (!field_is(d, "rdb_last_bgsave_status", "ok"))
        answer_check(out, "persistence", ANSWER_BAD, "see the server's log: a full disk?",
                     "the last snapshot failed");
    else if (d->save_known && !d->save[0])
        answer_check(out, "persistence", ANSWER_WARN,
                     "set appendonly yes: every job is lost when the server ends", "none");
    else
        answer_check(out, "persistence", ANSWER_WARN, advice, "snapshots only%s%s",
                     d->save[0] ? ", save " : "", d->save);
}

static void check_wakeup(struct doctor *d, struct buf *out)
{
    answer_check(out, "client tracking", d->tracking ? ANSWER_OK : ANSWER_WARN,
                 d->tracking ? NULL
                             : "allow CLIENT TRACKING (ACL: +client): until then workers look for "
                               "new jobs once a second",
                 "%s", d->tracking ? "permitted" : "refused or not known to the server");
}

/* A Celery worker would not find them (docs/interop.md). */
static void check_left_over(struct doctor *d, struct buf *out)
{
    if (d->left_over)
        answer_check(out, "jobs of dead workers", ANSWER_WARN,
                     "start a Celeriac worker of this broker: it puts them back",
                     "%d leases in bulk are over", d->left_over);
    else
        answer_check(out, "jobs of dead workers", ANSWER_OK, NULL, "none wait for a worker");
}

static void tell(struct redis_broker *b, struct doctor *d)
{
    struct buf out = BUF_INIT;

    answer_begin(&out);
    check_version(d, &out);
    check_role(d, &out);
    check_memory(d, &out);
    check_eviction(d, &out);
    if (number(d, "aof_enabled"))
        check_log_file(d, &out);
    else
        check_snapshots(d, &out);
    check_left_over(d, &out);
    check_wakeup(d, &out);
    answer_end(&out);
    out.failed |= d->info.failed;
    redis_answer(b, d->tag, &out);
}

/* --- the steps --- */

static void go_on(struct redis_broker *b, struct redis_request *r);

static void examined(void *owner, struct redis_request *r, const redisReply *reply)
{
    struct doctor *d = r->state;
    struct slice value = redis_slice(redis_at(reply, 1));

    if (d->step == STEP_INFO) {
        value = redis_slice(reply);
        buf_add(&d->info, value.ptr, value.len);
    } else if (d->step == STEP_SAVE) {
        d->save_known = value.ptr != NULL;
        snprintf(d->save, sizeof(d->save), "%.*s", SLICE_ARG(value));
    } else if (d->step == STEP_FSYNC) {
        snprintf(d->fsync, sizeof(d->fsync), "%.*s", SLICE_ARG(value));
    } else if (d->step == STEP_BULK) {
        d->left_over = redis_bulk_left_over(owner, reply);
    } else {
        d->tracking = true;
    }
    go_on(owner, r);
}

/* Whoever may not ask for the configuration still gets the rest. */
static void not_examined(void *owner, struct redis_request *r, const struct err *why)
{
    struct redis_broker *b = owner;
    const struct doctor *d = r->state;

    if (d->step == STEP_INFO || why->code == ERR_RECONNECT)
        event_queue_fail(&b->events, d->tag, why);
    else
        go_on(b, r);
}

static const struct redis_op op_examine = {.name = "doctor",
                                           .done = examined,
                                           .failed = not_examined,
                                           .free_state = doctor_free,
                                           .once = true};

static int send_step(struct redis_broker *b, struct doctor *d, struct err *e)
{
    struct redis_request *r = redis_new(b, &op_examine, REDIS_PLAIN, e);

    if (!r) {
        doctor_free(d);
        return -1;
    }
    r->state = d;
    for (const char *const *word = commands[d->step]; *word; word++)
        redis_key(r, slice_of(*word));
    return redis_submit(b, r, e);
}

/* The last one is not asked where the bell knows the answer, and must not be told to stop. */
static void go_on(struct redis_broker *b, struct redis_request *r)
{
    struct doctor *d = r->state;
    uint64_t tag = d->tag;
    struct err e;

    d->step++;
    if (d->step == STEP_TRACKING && b->queues_len) {
        d->tracking = !b->no_tracking;
        d->step++;
    }
    if (d->step == STEPS) {
        tell(b, d);
        return;
    }
    r->state = NULL;
    if (send_step(b, d, &e) != 0)
        event_queue_fail(&b->events, tag, &e);
}

int redis_doctor(struct redis_broker *b, const struct broker_ask *ask, struct err *e)
{
    struct doctor *d = calloc(1, sizeof(*d));

    if (!d)
        return err_nomem(e);
    d->tag = ask->tag;
    return send_step(b, d, e);
}
