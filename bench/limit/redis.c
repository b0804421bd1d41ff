/*
 * limit_redis URL: the limit on Redis, through hiredis.
 *
 * A job costs Redis: a push; a pop that records the message in `unacked` and `unacked_index` in the
 * same moment, so that it survives who took it; the result stored with an expiry and announced; the
 * record taken away. The keys and values are as long as ours. Nothing is looked into, no lease is
 * checked, nothing counted. Two batches are always in flight, so that neither side waits for the
 * other. Ways: `script` is one script per batch, `bulk` the same with one record for the batch,
 * whose messages do not pass through Lua, `job` one script per job, and `multi` is one script for
 * the pops and plain commands in MULTI and EXEC for the rest. A round trip has the ways `script`
 * and `list`: the second one leaves the record out, and so can wait in the server.
 *
 * A name of more than 64 bytes in `unacked_index` makes it a skip list from the first on. With
 * shorter names it is a packed list while fewer than 128 jobs are in flight, and ZADD then walks
 * over half of it and reads each score from text: 6 us a job instead of 0.5.
 */
#include "bench/limit/limit.h"
#include "broker/uri.h"

#include <hiredis/hiredis.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define QUEUE      "celery"
#define UNACKED    "unacked"
#define INDEX      "unacked_index"
#define BULK       "bulk"
#define PROCESSING "processing"
#define META       "celery-task-meta-"
#define BELL       "bell"
#define FIELD_HEAD "celery@localhost/1/"
#define FIELD_TAIL "/30000/12345678/longer-than-64-bytes-in-all"
#define FIELD_FORM FIELD_HEAD "%016lld" FIELD_TAIL
#define VALUE_TAIL ",\"\",\"celery\"]"
#define SCORE      "1700000000.5"
#define EXPIRES_S  "86400"
#define NAME_SIZE  96
#define IN_FLIGHT  2
#define ARGS_MAX   (8 + 3 * LIMIT_BATCH_MAX)

/* KEYS unacked, unacked_index, queue. ARGV how many, score, head of the field, number in front of
 * the first, tail of the field, tail of the value. Returns the messages. */
static const char fetch_text[] =
    "local m = redis.call('RPOP', KEYS[3], ARGV[1])\n"
    "if not m then return {} end\n"
    "local h, z = {}, {}\n"
    "for i = 1, #m do\n"
    "  local f = ARGV[3] .. string.format('%016.0f', ARGV[4] + i) .. ARGV[5]\n"
    "  h[2 * i - 1], h[2 * i] = f, '[' .. m[i] .. ARGV[6]\n"
    "  z[2 * i - 1], z[2 * i] = ARGV[2], f\n"
    "end\n"
    "redis.call('HSET', KEYS[1], unpack(h))\n"
    "redis.call('ZADD', KEYS[2], unpack(z))\n"
    "return m\n";

/* KEYS unacked, unacked_index, result keys. ARGV expiry, documents, fields. */
static const char finish_text[] = "local n = #KEYS - 2\n"
                                  "for i = 1, n do\n"
                                  "  redis.call('SETEX', KEYS[2 + i], ARGV[1], ARGV[1 + i])\n"
                                  "  redis.call('PUBLISH', KEYS[2 + i], ARGV[1 + i])\n"
                                  "end\n"
                                  "redis.call('HDEL', KEYS[1], unpack(ARGV, n + 2))\n"
                                  "return redis.call('ZREM', KEYS[2], unpack(ARGV, n + 2))\n";

/* KEYS bulk, list, queue. ARGV how many, record. The list has the messages then. */
static const char fetch_bulk_text[] =
    "local n = redis.call('SORT', KEYS[3], 'BY', 'nosort', 'LIMIT', 0, ARGV[1], 'DESC',\n"
    "  'STORE', KEYS[2])\n"
    "if n == 0 then return 0 end\n"
    "redis.call('HSET', KEYS[1], KEYS[2], ARGV[2])\n"
    "redis.call('LTRIM', KEYS[3], 0, -n - 1)\n"
    "return n\n";

/* KEYS bulk, list, result keys. ARGV expiry, documents. */
static const char finish_bulk_text[] = "local n = #KEYS - 2\n"
                                       "for i = 1, n do\n"
                                       "  redis.call('SETEX', KEYS[2 + i], ARGV[1], ARGV[1 + i])\n"
                                       "  redis.call('PUBLISH', KEYS[2 + i], ARGV[1 + i])\n"
                                       "end\n"
                                       "redis.call('DEL', KEYS[2])\n"
                                       "return n * redis.call('HDEL', KEYS[1], KEYS[2])\n";

enum { FETCH, FINISH, FETCH_BULK, FINISH_BULK, SCRIPTS };

/* One batch on its way: fetched, then finished. */
struct step {
    int64_t first;                    /* the records' numbers begin behind it */
    int64_t numbers[LIMIT_BATCH_MAX]; /* of the messages that came */
    int n;
    int finishing; /* records that its last finish takes away */
};

struct link {
    redisContext *c;
    char sha[SCRIPTS][41];
    const struct limit_run *run;
    const struct way *way;
    struct step steps[IN_FLIGHT];
    int64_t asked; /* jobs that were asked for */
    int64_t done;  /* jobs whose records are gone */
};

/* How a batch is fetched and finished. A request appends commands; a reader takes their replies. */
struct way {
    const char *name;
    void (*fetch)(struct link *l, struct step *step);
    void (*fetched)(struct link *l, struct step *step);
    void (*finish)(struct link *l, struct step *step);
    void (*done)(struct link *l, struct step *step);
};

/* --- the connection --- */

static redisContext *connect_to(const char *url)
{
    struct uri uri;
    struct err e;
    redisContext *c;

    if (uri_parse(&uri, url, &e) != 0)
        limit_die("%s", e.text);
    if (strcmp(uri.scheme, "redis+socket") == 0)
        c = redisConnectUnix(uri.path);
    else
        c = redisConnect(uri.host, uri.port ? uri.port : 6379);
    if (!c || c->err)
        limit_die("%s: %s", uri.masked, c ? c->errstr : "out of memory");
    uri_release(&uri);
    return c;
}

static redisReply *reply(redisContext *c)
{
    void *r = NULL;

    if (redisGetReply(c, &r) != REDIS_OK || !r)
        limit_die("redis: %s", c->errstr);
    if (((redisReply *)r)->type == REDIS_REPLY_ERROR)
        limit_die("redis: %s", ((redisReply *)r)->str);
    return r;
}

static void skip(redisContext *c, int n)
{
    for (int i = 0; i < n; i++)
        freeReplyObject(reply(c));
}

static int64_t ask(redisContext *c, const char *line)
{
    redisReply *r;
    int64_t n;

    redisAppendCommand(c, line);
    r = reply(c);
    n = r->integer;
    freeReplyObject(r);
    return n;
}

/* Sends what was appended and does not wait for the replies. */
static void flush(redisContext *c)
{
    int done = 0;

    while (!done) {
        if (redisBufferWrite(c, &done) != REDIS_OK)
            limit_die("redis: %s", c->errstr);
    }
}

static void load(struct link *l, int script, const char *text)
{
    redisReply *r;

    redisAppendCommand(l->c, "SCRIPT LOAD %s", text);
    r = reply(l->c);
    snprintf(l->sha[script], sizeof(l->sha[script]), "%s", r->str);
    freeReplyObject(r);
}

/* --- arguments of one command --- */

struct args {
    const char *v[ARGS_MAX];
    size_t len[ARGS_MAX];
    int n;
};

static void add(struct args *a, const char *text, size_t len)
{
    a->v[a->n] = text;
    a->len[a->n++] = len;
}

static void adds(struct args *a, const char *text)
{
    add(a, text, strlen(text));
}

static void append(redisContext *c, struct args *a)
{
    if (redisAppendCommandArgv(c, a->n, a->v, a->len) != REDIS_OK)
        limit_die("redis: out of memory");
}

static void name_field(char *out, size_t size, int64_t n)
{
    snprintf(out, size, FIELD_FORM, (long long)n);
}

static void name_result(char *out, size_t size, int64_t n)
{
    char id[LIMIT_ID_SIZE];

    limit_id(id, n);
    snprintf(out, size, META "%s", id);
}

/* --- fetching --- */

static void ask_fetch(struct link *l, int64_t first, int n)
{
    struct args a = {.n = 0};
    char count[16], behind[24];

    snprintf(count, sizeof(count), "%d", n);
    snprintf(behind, sizeof(behind), "%lld", (long long)first);
    adds(&a, "EVALSHA");
    adds(&a, l->sha[FETCH]);
    adds(&a, "3");
    adds(&a, UNACKED);
    adds(&a, INDEX);
    adds(&a, QUEUE);
    adds(&a, count);
    adds(&a, SCORE);
    adds(&a, FIELD_HEAD);
    adds(&a, behind);
    adds(&a, FIELD_TAIL);
    adds(&a, VALUE_TAIL);
    append(l->c, &a);
}

static void begin(struct link *l, struct step *step)
{
    step->first = l->asked;
    step->n = 0;
    l->asked += l->run->batch;
}

static void fetch_batch(struct link *l, struct step *step)
{
    begin(l, step);
    ask_fetch(l, step->first, l->run->batch);
}

static void fetch_jobs(struct link *l, struct step *step)
{
    begin(l, step);
    for (int i = 0; i < l->run->batch; i++)
        ask_fetch(l, step->first + i, 1);
}

static void take(struct link *l, struct step *step, int64_t first)
{
    redisReply *r = reply(l->c);

    for (size_t i = 0; i < r->elements; i++) {
        if (r->element[i]->len != l->run->envelope_len)
            limit_die("a message of %zu bytes came back", (size_t)r->element[i]->len);
        step->numbers[step->n++] = first + (int64_t)i + 1;
    }
    freeReplyObject(r);
}

static void fetched_batch(struct link *l, struct step *step)
{
    take(l, step, step->first);
}

static void fetched_jobs(struct link *l, struct step *step)
{
    for (int i = 0; i < l->run->batch; i++)
        take(l, step, step->first + i);
}

/* --- finishing --- */

static void ask_finish(struct link *l, const int64_t *numbers, int n)
{
    char keys[LIMIT_BATCH_MAX][NAME_SIZE], fields[LIMIT_BATCH_MAX][NAME_SIZE], count[16];
    struct args a = {.n = 0};

    snprintf(count, sizeof(count), "%d", n + 2);
    adds(&a, "EVALSHA");
    adds(&a, l->sha[FINISH]);
    adds(&a, count);
    adds(&a, UNACKED);
    adds(&a, INDEX);
    for (int i = 0; i < n; i++) {
        name_result(keys[i], sizeof(keys[i]), numbers[i]);
        adds(&a, keys[i]);
    }
    adds(&a, EXPIRES_S);
    for (int i = 0; i < n; i++)
        add(&a, l->run->result, l->run->result_len);
    for (int i = 0; i < n; i++) {
        name_field(fields[i], sizeof(fields[i]), numbers[i]);
        adds(&a, fields[i]);
    }
    append(l->c, &a);
}

static void finish_batch(struct link *l, struct step *step)
{
    ask_finish(l, step->numbers, step->n);
}

static void finish_jobs(struct link *l, struct step *step)
{
    for (int i = 0; i < step->n; i++)
        ask_finish(l, &step->numbers[i], 1);
}

static void store(struct link *l, int64_t number)
{
    char key[NAME_SIZE];
    struct args set = {.n = 0}, announce = {.n = 0};

    name_result(key, sizeof(key), number);
    adds(&set, "SETEX");
    adds(&set, key);
    adds(&set, EXPIRES_S);
    add(&set, l->run->result, l->run->result_len);
    append(l->c, &set);
    adds(&announce, "PUBLISH");
    adds(&announce, key);
    add(&announce, l->run->result, l->run->result_len);
    append(l->c, &announce);
}

static void drop(struct link *l, const struct step *step, const char *command, const char *key)
{
    char fields[LIMIT_BATCH_MAX][NAME_SIZE];
    struct args a = {.n = 0};

    adds(&a, command);
    adds(&a, key);
    for (int i = 0; i < step->n; i++) {
        name_field(fields[i], sizeof(fields[i]), step->numbers[i]);
        adds(&a, fields[i]);
    }
    append(l->c, &a);
}

static void finish_multi(struct link *l, struct step *step)
{
    redisAppendCommand(l->c, "MULTI");
    for (int i = 0; i < step->n; i++)
        store(l, step->numbers[i]);
    drop(l, step, "HDEL", UNACKED);
    drop(l, step, "ZREM", INDEX);
    redisAppendCommand(l->c, "EXEC");
}

static void expect(struct link *l, int n)
{
    redisReply *r = reply(l->c);

    if (r->integer != n)
        limit_die("%lld records of %d were there", r->integer, n);
    freeReplyObject(r);
    l->done += n;
}

static void done_batch(struct link *l, struct step *step)
{
    expect(l, step->finishing);
}

static void done_jobs(struct link *l, struct step *step)
{
    for (int i = 0; i < step->finishing; i++)
        expect(l, 1);
}

static void done_multi(struct link *l, struct step *step)
{
    skip(l->c, 2 * step->finishing + 4);
    l->done += step->finishing;
}

/* --- one record for a batch --- */

static void name_list(char *out, size_t size, const struct step *step)
{
    snprintf(out, size, BULK ":" FIELD_FORM, (long long)step->first);
}

static void fetch_bulk(struct link *l, struct step *step)
{
    struct args a = {.n = 0}, read = {.n = 0};
    char list[NAME_SIZE], count[16];

    begin(l, step);
    name_list(list, sizeof(list), step);
    snprintf(count, sizeof(count), "%d", l->run->batch);
    adds(&a, "EVALSHA");
    adds(&a, l->sha[FETCH_BULK]);
    adds(&a, "3");
    adds(&a, BULK);
    adds(&a, list);
    adds(&a, QUEUE);
    adds(&a, count);
    adds(&a, SCORE VALUE_TAIL);
    append(l->c, &a);
    adds(&read, "LRANGE");
    adds(&read, list);
    adds(&read, "0");
    adds(&read, "-1");
    append(l->c, &read);
}

static void fetched_bulk(struct link *l, struct step *step)
{
    skip(l->c, 1);
    take(l, step, step->first);
}

static void finish_bulk(struct link *l, struct step *step)
{
    char keys[LIMIT_BATCH_MAX][NAME_SIZE], list[NAME_SIZE], count[16];
    struct args a = {.n = 0};

    name_list(list, sizeof(list), step);
    snprintf(count, sizeof(count), "%d", step->n + 2);
    adds(&a, "EVALSHA");
    adds(&a, l->sha[FINISH_BULK]);
    adds(&a, count);
    adds(&a, BULK);
    adds(&a, list);
    for (int i = 0; i < step->n; i++) {
        name_result(keys[i], sizeof(keys[i]), step->numbers[i]);
        adds(&a, keys[i]);
    }
    adds(&a, EXPIRES_S);
    for (int i = 0; i < step->n; i++)
        add(&a, l->run->result, l->run->result_len);
    append(l->c, &a);
}

static const struct way ways[] = {
    {"script", fetch_batch, fetched_batch, finish_batch, done_batch},
    {"bulk", fetch_bulk, fetched_bulk, finish_bulk, done_batch},
    {"job", fetch_jobs, fetched_jobs, finish_jobs, done_jobs},
    {"multi", fetch_batch, fetched_batch, finish_multi, done_multi},
};
static const char *const way_names[] = {"script", "bulk", "job", "multi", NULL};

/* --- pushing --- */

static void push(redisContext *c, const struct limit_run *run, int n)
{
    const char *v[] = {"LPUSH", QUEUE, run->envelope};
    const size_t len[] = {5, sizeof(QUEUE) - 1, run->envelope_len};

    for (int i = 0; i < n; i++)
        redisAppendCommandArgv(c, 3, v, len);
}

/* One command with the whole batch. */
static void push_many(redisContext *c, const struct limit_run *run, int n)
{
    struct args a = {.n = 0};

    adds(&a, "LPUSH");
    adds(&a, QUEUE);
    for (int i = 0; i < n; i++)
        add(&a, run->envelope, run->envelope_len);
    append(c, &a);
}

static void push_all(redisContext *c, const struct limit_run *run)
{
    bool many = run->way && strcmp(run->way, "variadic") == 0;
    int replies = many ? 1 : run->batch;
    int64_t sent = 0;

    for (int64_t read = 0; read < run->jobs; read += run->batch) {
        for (; sent < run->jobs && sent < read + (int64_t)IN_FLIGHT * run->batch;
             sent += run->batch) {
            (many ? push_many : push)(c, run, run->batch);
            flush(c);
        }
        skip(c, replies);
    }
}

static const char *const push_ways[] = {"pipeline", "variadic", NULL};

static redisContext *empty_server(const char *url)
{
    redisContext *c = connect_to(url);

    redisAppendCommand(c, "FLUSHALL");
    skip(c, 1);
    return c;
}

static void run_push(const struct limit_run *run, double *values)
{
    redisContext *c = empty_server(run->url);
    int64_t at = clock_nano();

    push_all(c, run);
    values[0] = limit_rate(run->jobs, at);
    if (ask(c, "LLEN " QUEUE) != run->jobs)
        limit_die("the queue is not as long as it must be");
    redisFree(c);
}

/* One at a time, confirmed: a bare round trip each. */
static void run_confirm(const struct limit_run *run, double *values)
{
    redisContext *c = empty_server(run->url);
    int64_t at = clock_nano();

    for (int64_t i = 0; i < run->trips; i++) {
        push(c, run, 1);
        skip(c, 1);
    }
    values[0] = limit_rate(run->trips, at);
    redisFree(c);
}

/* --- draining --- */

static void open_link(struct link *l, const struct limit_run *run)
{
    *l = (struct link){.run = run, .c = connect_to(run->url), .way = &ways[0]};
    for (size_t i = 0; run->way && i < sizeof(ways) / sizeof(ways[0]); i++) {
        if (strcmp(run->way, ways[i].name) == 0)
            l->way = &ways[i];
    }
    load(l, FETCH, fetch_text);
    load(l, FINISH, finish_text);
    load(l, FETCH_BULK, fetch_bulk_text);
    load(l, FINISH_BULK, finish_bulk_text);
}

/* Takes what the step's last requests brought, and sends its next: while it does, the requests of
 * the other step are with the server. */
static void turn(struct link *l, struct step *step)
{
    if (step->finishing)
        l->way->done(l, step);
    l->way->fetched(l, step);
    step->finishing = step->n;
    if (step->n)
        l->way->finish(l, step);
    l->way->fetch(l, step);
    flush(l->c);
}

static void drain(struct link *l)
{
    for (int i = 0; i < IN_FLIGHT; i++)
        l->way->fetch(l, &l->steps[i]);
    flush(l->c);
    for (int i = 0; l->done < l->run->jobs; i = (i + 1) % IN_FLIGHT)
        turn(l, &l->steps[i]);
}

static void check_drained(struct link *l)
{
    redisContext *c = connect_to(l->run->url);

    if (ask(c, "LLEN " QUEUE) + ask(c, "HLEN " UNACKED) + ask(c, "ZCARD " INDEX) +
            ask(c, "HLEN " BULK) !=
        0)
        limit_die("something is left");
    if (ask(c, "DBSIZE") != l->run->jobs)
        limit_die("there are not as many results as jobs");
    redisFree(c);
    redisFree(l->c);
}

static void run_drain(const struct limit_run *run, double *values)
{
    struct limit_run filling = *run;
    struct link l;
    redisContext *c = empty_server(run->url);
    int64_t at;

    filling.way = NULL;
    filling.batch = 1;
    push_all(c, &filling);
    redisFree(c);
    open_link(&l, run);
    at = clock_nano();
    drain(&l);
    values[0] = limit_rate(run->jobs, at);
    check_drained(&l);
}

/* --- the whole cycle --- */

static void produce(const struct limit_run *run)
{
    struct limit_run pushing = *run;
    redisContext *c = connect_to(run->url);

    pushing.way = "variadic";
    push_all(c, &pushing);
    redisFree(c);
}

static void run_cycle(const struct limit_run *run, double *values)
{
    struct link l;
    int64_t at;
    pid_t producer;

    redisFree(empty_server(run->url));
    open_link(&l, run);
    at = clock_nano();
    producer = limit_spawn(produce, run);
    drain(&l);
    values[0] = limit_rate(run->jobs, at);
    limit_join(producer);
    check_drained(&l);
}

/* --- one job at a time --- */

/* Waits in the server for a message, which is put into another list in the same moment. That list
 * does not know since when and by whom it is held, so nobody could give it back in time. */
static void serve_list(const struct limit_run *run)
{
    redisContext *c = connect_to(run->url);
    char key[NAME_SIZE];

    for (int64_t i = 0; i < run->trips; i++) {
        redisAppendCommand(c, "BLMOVE " QUEUE " " PROCESSING " RIGHT LEFT 0");
        skip(c, 1);
        name_result(key, sizeof(key), i);
        redisAppendCommand(c, "SETEX %s " EXPIRES_S " %b", key, run->result, run->result_len);
        redisAppendCommand(c, "PUBLISH %s %b", key, run->result, run->result_len);
        redisAppendCommand(c, "RPOP " PROCESSING);
        skip(c, 3);
    }
    redisFree(c);
}

/* Waits for the bell; then each job costs what it costs in the other cases. */
static void serve_recorded(const struct limit_run *run)
{
    redisContext *bell = connect_to(run->url);
    struct step step;
    struct link l;

    open_link(&l, run);
    redisAppendCommand(bell, "SUBSCRIBE " BELL);
    skip(bell, 2); /* and a first ring, which says that somebody listens */
    while (l.done < run->trips) {
        skip(bell, 1);
        l.way->fetch(&l, &step);
        flush(l.c);
        l.way->fetched(&l, &step);
        l.way->finish(&l, &step);
        step.finishing = step.n;
        flush(l.c);
        l.way->done(&l, &step);
    }
    redisFree(l.c);
    redisFree(bell);
}

static const char *const trip_ways[] = {"list", "script", NULL};

static bool is_recorded(const struct limit_run *run)
{
    return strcmp(run->way, trip_ways[1]) == 0;
}

static void trip(redisContext *c, redisContext *results, const struct limit_run *run)
{
    bool ring = is_recorded(run);

    push(c, run, 1);
    if (ring)
        redisAppendCommand(c, "PUBLISH " BELL " 1");
    skip(c, 1 + ring);
    skip(results, 1);
}

static pid_t spawn_worker(redisContext *c, const struct limit_run *run)
{
    pid_t worker = limit_spawn(is_recorded(run) ? serve_recorded : serve_list, run);

    while (is_recorded(run) && ask(c, "PUBLISH " BELL " 1") == 0)
        continue;
    return worker;
}

/* A round trip: the push is confirmed and the result has been announced. */
static void run_round_trip(const struct limit_run *run, double *values)
{
    redisContext *c = empty_server(run->url), *results = connect_to(run->url);
    double *us = calloc((size_t)run->trips, sizeof(*us));
    pid_t worker;

    if (!us)
        limit_die("out of memory");
    redisAppendCommand(results, "PSUBSCRIBE " META "*");
    skip(results, 1);
    worker = spawn_worker(c, run);
    for (int64_t i = 0; i < run->trips; i++) {
        int64_t at = clock_nano();

        trip(c, results, run);
        us[i] = (double)(clock_nano() - at) / 1e3;
    }
    limit_join(worker);
    limit_percentiles(us, (size_t)run->trips, values);
    free(us);
    redisFree(results);
    redisFree(c);
}

int main(int argc, char **argv)
{
    static const struct limit_case cases[] = {
        {"push", push_ways, true, {{"limit_push", "jobs/s"}}, run_push},
        {"confirm", NULL, false, {{"limit_confirm", "jobs/s"}}, run_confirm},
        {"drain", way_names, true, {{"limit_drain", "jobs/s"}}, run_drain},
        {"cycle", way_names, true, {{"limit_cycle", "jobs/s"}}, run_cycle},
        {"round_trip", trip_ways, false, LIMIT_TRIP_FIGURES, run_round_trip},
    };
    static const struct limit_program program = {"redis", "redis+socket:///PATH", cases,
                                                 sizeof(cases) / sizeof(cases[0])};

    return limit_main(&program, argc, argv);
}
