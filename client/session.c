#include "client/session.h"

#include "base/buf.h"
#include "broker/uri.h"
#include "client/sigpipe.h"

#include <errno.h>
#include <stdio.h>

#define TIMEOUT_DEFAULT_MS 10000
#define EVENTS_MAX         64

static void note_state(struct session *s, const struct broker_event *event)
{
    s->up = (event->flags & BROKER_UP) != 0;
    if (!s->up && event->err)
        s->down = *event->err;
    if (s->up)
        s->down = (struct err)ERR_INIT;
}

static void ignore_event(void *user, const struct broker_event *event)
{
    (void)user;
    (void)event;
}

bool session_may_sigpipe(const struct session *s)
{
    return s->broker && !(broker_caps(s->broker) & BROKER_CAP_NO_SIGPIPE);
}

int session_step(struct session *s, int64_t until_ms, session_handle_fn *handle, void *user,
                 struct err *e)
{
    struct broker_event events[EVENTS_MAX];
    struct sigpipe_guard guard;
    int n;

    sigpipe_enter_if(&guard, session_may_sigpipe(s));
    n = broker_poll(s->broker, events, EVENTS_MAX);
    for (int i = 0; i < n; i++) {
        if (events[i].kind == BROKER_STATE)
            note_state(s, &events[i]);
        else
            handle(user, &events[i]);
    }
    if (n == 0)
        broker_sleep(s->broker, until_ms);
    sigpipe_leave(&guard);
    if (!s->up && s->down.code != ERR_NONE && s->down.code != ERR_RECONNECT &&
        s->down.code != ERR_AGAIN)
        return err_set(e, s->down.code, "%s", s->down.text);
    return 0;
}

int64_t session_now(const struct session *s)
{
    return clock_mono_ms(s->clock);
}

int64_t session_deadline(const struct session *s)
{
    return session_now(s) + s->timeout_ms;
}

uint64_t session_tags(struct session *s, size_t n)
{
    uint64_t first = s->next_tag;

    s->next_tag += n;
    return first;
}

int session_gave_up(const struct session *s, const char *what, struct err *e)
{
    double seconds = (double)s->timeout_ms / 1000;

    if (!s->up && s->down.code != ERR_NONE)
        return err_set(e, ERR_RECONNECT, "%s: %s", what, s->down.text);
    return err_set(e, ERR_RECONNECT, "%s: the broker %s did not answer within %g s", what, s->name,
                   seconds);
}

static void name_session(struct session *s, const char *url)
{
    struct uri uri;

    if (uri_parse(&uri, url, NULL) == 0)
        snprintf(s->name, sizeof(s->name), "%s", uri.masked);
    uri_release(&uri);
}

static int connect_now(struct session *s, struct err *e)
{
    int64_t deadline_ms = session_deadline(s);

    while (!s->up) {
        if (session_now(s) >= deadline_ms)
            return session_gave_up(s, "no connection", e);
        if (session_step(s, deadline_ms, ignore_event, NULL, e) < 0)
            return -1;
        if (s->connect_once && !s->up && s->down.code != ERR_NONE)
            return err_set(e, s->down.code, "%s", s->down.text);
    }
    return 0;
}

int session_open(struct session *s, const struct session_config *config, struct err *e)
{
    struct broker_config broker_config = {.url = config->url,
                                          .result_url = config->result_url,
                                          .replies = config->replies,
                                          .log = config->log};

    *s = (struct session){.clock = clock_system(),
                          .ids = UUID_SOURCE_NEVER_FORKED,
                          .next_tag = 1,
                          .timeout_ms =
                              config->timeout_ms > 0 ? config->timeout_ms : TIMEOUT_DEFAULT_MS,
                          .connect_once = config->connect_once};
    if (!config->url || !*config->url)
        return err_set(e, ERR_USAGE, "the broker URL is empty");
    s->broker = broker_open(&broker_config, e);
    if (!s->broker)
        return -1;
    name_session(s, config->url);
    message_origin(s->origin);
    if (connect_now(s, e) < 0) {
        session_close(s);
        return -1;
    }
    return 0;
}

void session_close(struct session *s)
{
    struct sigpipe_guard guard;

    sigpipe_enter_if(&guard, session_may_sigpipe(s));
    broker_close(s->broker, false);
    sigpipe_leave(&guard);
    s->broker = NULL;
}

struct question {
    uint64_t tag;
    struct buf *out;
    struct err err;
    bool answered;
    bool failed;
};

static void take_answer(void *user, const struct broker_event *event)
{
    struct question *q = user;

    if (event->tag != q->tag)
        return;
    if (event->kind == BROKER_ANSWER) {
        buf_add(q->out, event->data.ptr, event->data.len);
        q->answered = true;
    } else if (event->kind == BROKER_FAILED) {
        q->err = *event->err;
        q->failed = true;
    }
}

int session_ask(struct session *s, enum broker_question question, struct slice queue,
                struct slice handle, int64_t limit, struct buf *out, struct err *e)
{
    struct question q = {.tag = session_tags(s, 1), .out = out};
    struct broker_ask ask = {q.tag, question, queue, handle, limit};
    int64_t deadline_ms = session_deadline(s);
    struct sigpipe_guard guard;
    int status;

    sigpipe_enter_if(&guard, session_may_sigpipe(s));
    status = broker_ask(s->broker, &ask, e);
    sigpipe_leave(&guard);
    while (status == 0 && !q.answered && !q.failed) {
        if (session_now(s) >= deadline_ms)
            return session_gave_up(s, "no answer", e);
        status = session_step(s, deadline_ms, take_answer, &q, e);
    }
    if (q.failed)
        return err_set(e, q.err.code, "%s", q.err.text);
    return status;
}
