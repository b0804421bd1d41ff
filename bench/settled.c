/*
 * Waits until a broker's jobs are done, cheaply enough to be asked while it is measured: one
 * connection, and a question when a quarter of the time that is left by the pace so far has gone,
 * but no later than half as long again as the pace is known for: the first jobs may be the slowest.
 * Prints one JSON line: the monotonic seconds at which the
 * first job was seen to be done and the last, and how many were done when the first was seen.
 * usage: settled URL JOBS [left]. `left`: by what is left in the queue `celery`, which must hold
 * the jobs already; for RabbitMQ, which counts what is done in a stream.
 */
#include "base/buf.h"
#include "client/session.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define POLL_US   500 /* between two questions, at least */
#define PARTS     4
#define QUIET_S   300 /* without a job done */
#define NANO      1e9
#define NO_ANSWER (-1)

static json_t *ask(struct session *s, enum broker_question question, struct err *e)
{
    struct slice none = {NULL, 0};
    struct buf text = BUF_INIT;
    json_t *answer = NULL;

    if (session_ask(s, question, none, none, 0, &text, e) == 0)
        answer = json_loadb(buf_slice(&text).ptr, buf_slice(&text).len, 0, NULL);
    buf_release(&text);
    return answer;
}

static int64_t number(const json_t *object, const char *member)
{
    return json_integer_value(json_object_get(object, member));
}

static int64_t succeeded(struct session *s, int64_t jobs, struct err *e)
{
    json_t *totals = ask(s, BROKER_ASK_TOTALS, e);
    int64_t n = totals ? number(totals, "succeeded") : NO_ANSWER;

    (void)jobs;
    json_decref(totals);
    return n;
}

static int64_t gone(struct session *s, int64_t jobs, struct err *e)
{
    json_t *queues = ask(s, BROKER_ASK_QUEUES, e), *queue;
    int64_t n = queues ? jobs : NO_ANSWER;
    size_t i;

    json_array_foreach(queues, i, queue)
    {
        if (strcmp(json_string_value(json_object_get(queue, "queue")), "celery") == 0)
            n -= number(queue, "waiting") + number(queue, "leased");
    }
    json_decref(queues);
    return n;
}

typedef int64_t count_fn(struct session *s, int64_t jobs, struct err *e);

/* What was seen of the jobs. */
struct course {
    int64_t first, first_at; /* done when the first was, and when */
    int64_t done, done_at;   /* the last answer that was another than before */
};

static void note(struct course *c, int64_t done)
{
    int64_t now = clock_nano();

    if (done != c->done || !c->done_at)
        c->done_at = now;
    c->done = done;
    if (done > 0 && !c->first_at) {
        c->first = done;
        c->first_at = now;
    }
}

/* A question costs the server and us as much as a job does: they must not come thick. */
static useconds_t pause_us(const struct course *c, int64_t jobs)
{
    double known, left;

    if (c->done <= c->first)
        return POLL_US;
    known = (double)(c->done_at - c->first_at) / 1000;
    left = known / (double)(c->done - c->first) * (double)(jobs - c->done) / PARTS;
    left = left < known / 2 ? left : known / 2;
    return left > POLL_US ? (useconds_t)(left < 1e6 ? left : 1e6) : POLL_US;
}

static int wait_for(struct session *s, int64_t jobs, count_fn *count, struct err *e)
{
    struct course c = {0};
    int64_t done;

    while ((done = count(s, jobs, e)) < jobs) {
        if (done == NO_ANSWER)
            return -1;
        note(&c, done);
        if ((double)(clock_nano() - c.done_at) > QUIET_S * NANO)
            return err_set(e, ERR_TIMEOUT, "%lld of %lld jobs are done and nothing happens",
                           (long long)done, (long long)jobs);
        usleep(pause_us(&c, jobs));
    }
    note(&c, done);
    printf("{\"from\": %.9f, \"first\": %lld, \"to\": %.9f}\n", (double)c.first_at / NANO,
           (long long)c.first, (double)clock_nano() / NANO);
    return 0;
}

int main(int argc, char **argv)
{
    struct session_config config = {.url = argc > 1 ? argv[1] : NULL};
    int64_t jobs = argc > 2 ? strtoll(argv[2], NULL, 10) : 0;
    count_fn *count = argc > 3 && strcmp(argv[3], "left") == 0 ? gone : succeeded;
    struct session s;
    struct err e = ERR_INIT;
    int rc = -1;

    if (jobs < 1) {
        fputs("usage: settled URL JOBS [left]\n", stderr);
        return 2;
    }
    if (session_open(&s, &config, &e) == 0) {
        rc = wait_for(&s, jobs, count, &e);
        session_close(&s);
    }
    if (rc < 0)
        fprintf(stderr, "settled: %s\n", e.text);
    return rc < 0;
}
