#include "client/results.h"

#include "broker/backoff.h"
#include "broker/result.h"
#include "client/sigpipe.h"

#include <stdlib.h>
#include <string.h>

#define RETRY_BASE_MS 50
#define RETRY_MAX_MS  1000

enum ask_state { ASK_NEW, ASK_ASKED, ASK_DONE, ASK_TWIN };

enum ask_kind { ASK_GET, ASK_WATCH, ASK_FORGET };

/* One question per id, in whatever kind of answer. */
struct asking {
    struct session *s;
    enum ask_kind kind;
    const char *const *ids;
    size_t n;
    uint64_t tag; /* of ids[0] */
    unsigned char *states;
    size_t *twins; /* of an id that is given again: where; else n. Brokers hear of each id once */
    size_t open;
    results_fn *on_result;
    void *user;
    bool stopped; /* by the callback */
    bool again;
    int64_t retry_ms;
    unsigned tries;
    struct err err; /* the last failure, or the final one */
    bool refused;
};

static bool may_pass(enum err_code code)
{
    return code == ERR_AGAIN || code == ERR_RECONNECT || code == ERR_TIMEOUT;
}

static void done(struct asking *a, size_t index, struct slice document)
{
    for (; index < a->n; index = a->twins[index]) {
        a->states[index] = ASK_DONE;
        a->open--;
        if (a->on_result && !a->stopped)
            a->stopped = a->on_result(a->user, index, document) != 0;
    }
}

static void failed(struct asking *a, size_t index, const struct err *err)
{
    a->err = *err;
    a->states[index] = ASK_NEW;
    if (may_pass(err->code))
        a->again = true;
    else
        a->refused = true;
}

static void take_event(void *user, const struct broker_event *event)
{
    struct asking *a = user;
    size_t index = (size_t)(event->tag - a->tag);

    if (event->tag < a->tag || index >= a->n || a->states[index] != ASK_ASKED)
        return;
    if (event->kind == BROKER_FAILED)
        failed(a, index, event->err);
    else if (event->kind == BROKER_FORGOTTEN)
        done(a, index, (struct slice){NULL, 0});
    else if (event->kind == BROKER_RESULT && (a->kind == ASK_GET || result_is_ready(event->data)))
        done(a, index, event->data);
}

static int submit(struct asking *a, const uint64_t *tags, const struct slice *ids, size_t n,
                  struct err *e)
{
    struct broker *b = a->s->broker;

    if (a->kind == ASK_GET)
        return broker_result_get(b, tags, ids, n, e);
    if (a->kind == ASK_WATCH)
        return broker_result_watch(b, tags, ids, n, e);
    return broker_result_forget(b, tags, ids, n, e);
}

/* Asks about every id that has no question under way. */
static int ask_new(struct asking *a, struct err *e)
{
    uint64_t *tags = calloc(a->n, sizeof(*tags));
    struct slice *ids = calloc(a->n, sizeof(*ids));
    struct sigpipe_guard guard;
    size_t n = 0;
    int status = 0;

    a->again = false;
    a->retry_ms = CLOCK_NEVER;
    if (!tags || !ids) {
        status = err_nomem(e);
        goto out;
    }
    for (size_t i = 0; i < a->n; i++) {
        if (a->states[i] != ASK_NEW)
            continue;
        a->states[i] = ASK_ASKED;
        tags[n] = a->tag + i;
        ids[n++] = slice_of(a->ids[i]);
    }
    sigpipe_enter_if(&guard, session_may_sigpipe(a->s));
    if (n > 0)
        status = submit(a, tags, ids, n, e);
    sigpipe_leave(&guard);
out:
    free(tags);
    free(ids);
    return status;
}

static int step(struct asking *a, int64_t deadline_ms, struct err *e)
{
    struct session *s = a->s;
    int64_t now_ms = session_now(s);

    if (a->again && a->retry_ms == CLOCK_NEVER)
        a->retry_ms =
            now_ms + 1 + backoff_ms(RETRY_BASE_MS, RETRY_MAX_MS, a->tries++, uuid_random(&s->ids));
    if (now_ms >= a->retry_ms)
        return ask_new(a, e);
    return session_step(s, a->retry_ms < deadline_ms ? a->retry_ms : deadline_ms, take_event, a, e);
}

static int too_late(const struct asking *a, struct err *e)
{
    if (a->kind == ASK_WATCH && a->s->up)
        return err_set(e, ERR_TIMEOUT, "%zu of %zu results are not ready in time", a->open, a->n);
    if (a->err.code != ERR_NONE)
        return err_set(e, ERR_RECONNECT, "no answer: %s", a->err.text);
    return session_gave_up(a->s, "no answer", e);
}

static void unwatch(struct asking *a)
{
    struct sigpipe_guard guard;

    sigpipe_enter_if(&guard, session_may_sigpipe(a->s));
    for (size_t i = 0; i < a->n; i++) {
        struct slice id = slice_of(a->ids[i]);

        if (a->states[i] == ASK_ASKED)
            broker_result_unwatch(a->s->broker, &id, 1);
    }
    sigpipe_leave(&guard);
}

static int compare_ids(const void *x, const void *y, void *user)
{
    const struct asking *a = user;
    size_t i = *(const size_t *)x, j = *(const size_t *)y;
    int order = strcmp(a->ids[i], a->ids[j]);

    return order ? order : (i > j) - (i < j);
}

/* Chains equal ids together; all but the first are twins, which are not asked about. */
static int find_twins(struct asking *a, struct err *e)
{
    size_t *order = calloc(a->n + 1, sizeof(*order));

    a->states = calloc(a->n + 1, 1);
    a->twins = calloc(a->n + 1, sizeof(*a->twins));
    if (!order || !a->states || !a->twins) {
        free(order);
        return err_nomem(e);
    }
    for (size_t i = 0; i < a->n; i++) {
        order[i] = i;
        a->twins[i] = a->n;
    }
    qsort_r(order, a->n, sizeof(*order), compare_ids, a);
    for (size_t i = 1; i < a->n; i++) {
        if (strcmp(a->ids[order[i - 1]], a->ids[order[i]]) == 0) {
            a->twins[order[i - 1]] = order[i];
            a->states[order[i]] = ASK_TWIN;
        }
    }
    free(order);
    return 0;
}

static int ask_all(struct asking *a, int64_t deadline_ms, struct err *e)
{
    int status = find_twins(a, e);

    if (status < 0)
        goto out;
    a->tag = session_tags(a->s, a->n);
    a->open = a->n;
    status = ask_new(a, e);
    while (status == 0 && a->open > 0 && !a->stopped && !a->refused) {
        status = step(a, deadline_ms, e);
        if (status == 0 && a->open > 0 && session_now(a->s) >= deadline_ms)
            status = too_late(a, e);
    }
    if (a->refused)
        status = err_set(e, a->err.code, "%s", a->err.text);
    if (a->kind == ASK_WATCH)
        unwatch(a);
out:
    free(a->states);
    free(a->twins);
    return status;
}

int results_get(struct session *s, const char *const *ids, size_t n, results_fn *on_result,
                void *user, struct err *e)
{
    struct asking a = {
        .s = s, .kind = ASK_GET, .ids = ids, .n = n, .on_result = on_result, .user = user};

    return ask_all(&a, session_deadline(s), e);
}

int results_wait(struct session *s, const char *const *ids, size_t n, int64_t deadline_ms,
                 results_fn *on_ready, void *user, struct err *e)
{
    struct asking a = {
        .s = s, .kind = ASK_WATCH, .ids = ids, .n = n, .on_result = on_ready, .user = user};

    if (n == 1)
        ahead_waited(s, ids[0]);
    return ask_all(&a, deadline_ms, e);
}

int results_forget(struct session *s, const char *id, struct err *e)
{
    struct asking a = {.s = s, .kind = ASK_FORGET, .ids = &id, .n = 1};

    return ask_all(&a, session_deadline(s), e);
}
