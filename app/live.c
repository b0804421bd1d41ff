#include "app/live.h"

#include <jansson.h>
#include <math.h>
#include <string.h>

#include "app/advice.h"
#include "client/cli.h"

#define SAMPLE_MS 1000
#define ALL_BUSY  0.9
#define NAMES_MAX 256

struct totals {
    double done, published, waiting;
    int64_t at_ms;
};

static double number(const json_t *object, const char *name)
{
    return json_number_value(json_object_get(object, name));
}

static int ask_totals(struct session *s, struct totals *t, struct err *e)
{
    json_t *answer = cli_ask(s, BROKER_ASK_TOTALS, NULL, NULL, 0, e);

    if (answer == NULL)
        return -1;
    *t = (struct totals){.done = number(answer, "succeeded") + number(answer, "failed"),
                         .published = number(answer, "published"),
                         .waiting = number(answer, "waiting"),
                         .at_ms = session_now(s)};
    json_decref(answer);
    return 0;
}

static const char *host_of(const json_t *worker)
{
    const char *node = cli_member(worker, "node");
    const char *at = node != NULL ? strchr(node, '@') : NULL;

    return at != NULL ? at + 1 : "";
}

static int count_hosts(const json_t *workers)
{
    size_t n = json_array_size(workers);
    int hosts = 0;

    for (size_t i = 0; i < n && i < NAMES_MAX; i++) {
        size_t k = 0;

        while (k < i && strcmp(host_of(json_array_get(workers, k)),
                               host_of(json_array_get(workers, i))) != 0)
            k++;
        hosts += k == i;
    }
    return hosts;
}

static int take_sample(struct live *live, struct session *s, struct err *e)
{
    json_t *workers = cli_ask(s, BROKER_ASK_NODES, NULL, NULL, 0, e), *worker;
    double running = 0, runners = 0;
    size_t i;

    if (workers == NULL)
        return -1;
    json_array_foreach(workers, i, worker)
    {
        /* A runner holds several short jobs at once. */
        running += fmin(number(worker, "running"), number(worker, "concurrency"));
        runners += number(worker, "concurrency");
    }
    live->workers = (int)json_array_size(workers);
    live->hosts = count_hosts(workers);
    live->runners = (int)runners;
    live->busy_sum += runners > 0 ? running / runners : 0;
    live->samples++;
    json_decref(workers);
    return 0;
}

static void ignore_event(void *user, const struct broker_event *event)
{
    (void)user;
    (void)event;
}

static int pass_time(struct session *s, int64_t until_ms, struct err *e)
{
    while (session_now(s) < until_ms) {
        if (session_step(s, until_ms, ignore_event, NULL, e) < 0)
            return -1;
    }
    return 0;
}

static void conclude(struct live *live, const struct totals *from, const struct totals *to)
{
    live->seconds = fmax(0.001, (double)(to->at_ms - from->at_ms) / 1000);
    live->rate = (to->done - from->done) / live->seconds;
    live->arrivals = (to->published - from->published) / live->seconds;
    live->waiting = to->waiting;
    live->growth = (to->waiting - from->waiting) / live->seconds;
    live->busy = live->samples > 0 ? live->busy_sum / live->samples : 0;
}

int live_watch(struct live *live, struct session *s, double seconds, struct err *e)
{
    struct totals from, to;
    int64_t end_ms, next_ms;

    *live = (struct live){.seconds = 0};
    if (ask_totals(s, &from, e) < 0)
        return -1;
    end_ms = from.at_ms + (int64_t)(seconds * 1000);
    do {
        if (take_sample(live, s, e) < 0)
            return -1;
        next_ms = session_now(s) + SAMPLE_MS;
        if (pass_time(s, next_ms < end_ms ? next_ms : end_ms, e) < 0)
            return -1;
    } while (session_now(s) < end_ms);
    if (ask_totals(s, &to, e) < 0)
        return -1;
    conclude(live, &from, &to);
    return 0;
}

int live_runners_for(const struct live *live, double rate)
{
    double busy_runners = live->busy * live->runners;

    if (live->rate <= 0 || busy_runners <= 0)
        return 0;
    return (int)fmin(1e6, ceil(rate / (live->rate / busy_runners) / ADVICE_HEADROOM - 1e-9));
}

const char *live_verdict(const struct live *live)
{
    if (live->workers == 0)
        return "no worker is there: start one with 'celeriac worker'";
    if (live->busy >= ALL_BUSY && live->growth > 0)
        return "every runner is busy and what waits grows: more runners are needed";
    if (live->busy >= ALL_BUSY)
        return "every runner is busy, and they keep up";
    if (live->waiting > live->runners && live->growth >= 0)
        return "jobs wait although runners are free: the dispatcher or the broker is the limit, or "
               "a rate limit holds them back";
    return "runners are free: nothing is the limit";
}
