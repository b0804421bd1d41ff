/*
 * bench_redis URL [JOBS]: what the Redis broker adds to Redis.
 *
 * For batches of 1, 16 and 256 it publishes, fetches and finishes JOBS messages of 1 KiB through
 * the broker, and does what a queue would with bare pipelined commands, a batch to a pipeline:
 * LPUSH; RPOP, then HSET and ZADD; HDEL, ZREM, SET with expiry and PUBLISH. One JSON line per case.
 * The database is flushed between cases: never point it at one that is in use.
 */
#include "broker/broker.h"

#include <hiredis/hiredis.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>

#define ENVELOPE_LEN 1024
#define BATCH_MAX    256

static const char result[] = "{\"status\": \"SUCCESS\", \"result\": null, \"traceback\": null, "
                             "\"children\": [], \"date_done\": \"2026-01-01T00:00:00+00:00\"}";

struct rates {
    double publish, fetch, finish; /* per second */
};

static void die(const char *what)
{
    fprintf(stderr, "bench_redis: %s\n", what);
    exit(1);
}

static double rate(int n, int64_t since_ns)
{
    return n * 1e9 / (double)(clock_nano() - since_ns);
}

/* --- through the broker --- */

static void take_event(const struct broker_event *event, enum broker_event_kind kind,
                       struct broker_receipt *receipts, int *got)
{
    if (event->kind == BROKER_FAILED || event->kind == BROKER_REFUSED)
        die(event->err ? event->err->text : "refused");
    if (event->kind != kind)
        return;
    if (receipts)
        receipts[*got] = event->receipt;
    ++*got;
}

static void pump(struct broker *b, enum broker_event_kind kind, struct broker_receipt *receipts,
                 int want)
{
    struct broker_event events[BATCH_MAX];
    struct pollfd fds[4];
    int got = 0;

    while (got < want) {
        int n = broker_poll(b, events, want - got < BATCH_MAX ? want - got : BATCH_MAX);

        for (int i = 0; i < n; i++)
            take_event(&events[i], kind, receipts, &got);
        if (got < want)
            poll(fds, (nfds_t)broker_pollset(b, fds, 4),
                 clock_poll_timeout(clock_system(), broker_deadline(b)));
    }
}

static void publish_batch(struct broker *b, const char *envelope, int first, int batch)
{
    struct broker_message m[BATCH_MAX];
    char ids[BATCH_MAX][40];
    struct err e;

    for (int i = 0; i < batch; i++) {
        snprintf(ids[i], sizeof(ids[i]), "bench-%d", first + i);
        m[i] = (struct broker_message){.queue = slice_of("celery"),
                                       .envelope = slice_make(envelope, ENVELOPE_LEN),
                                       .token = slice_of(ids[i])};
    }
    if (broker_publish(b, m, (size_t)batch, &e) != 0)
        die(e.text);
    pump(b, BROKER_PUBLISHED, NULL, batch);
}

static void finish_batch(struct broker *b, const struct broker_receipt *receipts, int first, int n)
{
    struct broker_finish f[BATCH_MAX];
    char ids[BATCH_MAX][40];
    struct err e;

    for (int i = 0; i < n; i++) {
        snprintf(ids[i], sizeof(ids[i]), "bench-%d", first + i);
        f[i] = (struct broker_finish){
            .receipt = receipts[i], .result_id = slice_of(ids[i]), .result = slice_of(result)};
    }
    if (broker_finish(b, f, (size_t)n, &e) != 0)
        die(e.text);
    pump(b, BROKER_FINISHED, NULL, n);
}

static struct rates run_broker(const char *url, const char *envelope, int jobs, int batch)
{
    static const char *const queues[] = {"celery"};
    struct broker_config config = {
        .url = url, .node = "bench", .generation = 1, .queues = queues, .queues_len = 1};
    struct broker_receipt *receipts = calloc((size_t)jobs + BATCH_MAX, sizeof(*receipts));
    struct rates r;
    struct err e;
    struct broker *b = broker_open(&config, &e);
    int64_t at;

    if (!b || !receipts)
        die(b ? "out of memory" : e.text);
    publish_batch(b, envelope, -batch, batch); /* connected, and every script loaded */
    broker_credit(b, batch);
    pump(b, BROKER_DELIVERED, receipts, batch);
    finish_batch(b, receipts, -batch, batch);
    at = clock_nano();
    for (int done = 0; done < jobs; done += batch)
        publish_batch(b, envelope, done, batch);
    r.publish = rate(jobs, at);
    at = clock_nano();
    for (int done = 0; done < jobs; done += batch) {
        broker_credit(b, batch);
        pump(b, BROKER_DELIVERED, receipts + done, batch);
    }
    r.fetch = rate(jobs, at);
    at = clock_nano();
    for (int done = 0; done < jobs; done += batch)
        finish_batch(b, receipts + done, done, batch);
    r.finish = rate(jobs, at);
    broker_close(b, false);
    free(receipts);
    return r;
}

/* --- bare --- */

static void replies(redisContext *c, int n)
{
    for (int i = 0; i < n; i++) {
        void *reply;

        if (redisGetReply(c, &reply) != REDIS_OK ||
            ((redisReply *)reply)->type == REDIS_REPLY_ERROR)
            die(c->err ? c->errstr : ((redisReply *)reply)->str);
        freeReplyObject(reply);
    }
}

static void bare_publish(redisContext *c, const char *envelope, int first, int n)
{
    (void)first;
    for (int i = 0; i < n; i++)
        redisAppendCommand(c, "LPUSH celery %b", envelope, (size_t)ENVELOPE_LEN);
    replies(c, n);
}

static void bare_fetch(redisContext *c, const char *envelope, int first, int n)
{
    for (int i = 0; i < n; i++)
        redisAppendCommand(c, "RPOP celery");
    replies(c, n);
    for (int i = 0; i < n; i++) {
        redisAppendCommand(c, "HSET unacked bench-%d %b", first + i, envelope,
                           (size_t)ENVELOPE_LEN);
        redisAppendCommand(c, "ZADD unacked_index 1700000000.5 bench-%d", first + i);
    }
    replies(c, 2 * n);
}

static void bare_finish(redisContext *c, const char *envelope, int first, int n)
{
    (void)envelope;
    for (int i = 0; i < n; i++) {
        redisAppendCommand(c, "HDEL unacked bench-%d", first + i);
        redisAppendCommand(c, "ZREM unacked_index bench-%d", first + i);
        redisAppendCommand(c, "SET celery-task-meta-bench-%d %s PX 86400000", first + i, result);
        redisAppendCommand(c, "PUBLISH celery-task-meta-bench-%d %s", first + i, result);
    }
    replies(c, 4 * n);
}

static double bare_rate(redisContext *c, const char *envelope, int jobs, int batch,
                        void (*step)(redisContext *, const char *, int, int))
{
    int64_t at = clock_nano();

    for (int done = 0; done < jobs; done += batch)
        step(c, envelope, done, batch);
    return rate(jobs, at);
}

static struct rates run_bare(redisContext *c, const char *envelope, int jobs, int batch)
{
    struct rates r;

    r.publish = bare_rate(c, envelope, jobs, batch, bare_publish);
    r.fetch = bare_rate(c, envelope, jobs, batch, bare_fetch);
    r.finish = bare_rate(c, envelope, jobs, batch, bare_finish);
    return r;
}

static void flush(redisContext *c)
{
    redisAppendCommand(c, "FLUSHALL");
    replies(c, 1);
}

static void print(const char *what, int batch, const struct rates *r)
{
    printf("{\"case\": \"%s\", \"batch\": %d, \"publish_per_s\": %.0f, \"fetch_per_s\": %.0f, "
           "\"finish_per_s\": %.0f}\n",
           what, batch, r->publish, r->fetch, r->finish);
    fflush(stdout);
}

int main(int argc, char **argv)
{
    static const int batches[] = {1, 16, 256};
    int jobs = argc > 2 ? (int)strtol(argv[2], NULL, 10) : 20480;
    char envelope[ENVELOPE_LEN];
    redisContext *c;

    if (argc < 2 || strncmp(argv[1], "redis+socket://", 15) != 0 || jobs < 1)
        die("usage: bench_redis redis+socket:///PATH [JOBS] (the server is flushed)");
    memset(envelope, 'x', sizeof(envelope));
    memcpy(envelope, "{\"body\":\"", 9);
    memcpy(envelope + ENVELOPE_LEN - 2, "\"}", 2);
    c = redisConnectUnix(argv[1] + 15);
    if (!c || c->err)
        die(c ? c->errstr : "out of memory");
    for (size_t i = 0; i < sizeof(batches) / sizeof(batches[0]); i++) {
        int n = jobs / batches[i] * batches[i];
        struct rates r;

        flush(c);
        r = run_broker(argv[1], envelope, n, batches[i]);
        print("broker", batches[i], &r);
        flush(c);
        r = run_bare(c, envelope, n, batches[i]);
        print("bare", batches[i], &r);
    }
    flush(c);
    redisFree(c);
    return 0;
}
