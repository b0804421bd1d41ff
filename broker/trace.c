/*
 * trace.c - a decorator that logs every op and every event of any backend, one line each, at debug
 * level. Sizes and names are told, contents never: envelopes and results may hold secrets.
 */
#include "base/analyzer.h"
#include "broker/backend.h"

#include <inttypes.h>
#include <stdlib.h>

struct trace {
    struct broker base;
    struct broker_ops ops; /* ours, with the caps of the inner one */
    struct broker *inner;  /* owned */
    const struct log *log; /* borrowed */
};

static struct trace *from(struct broker *b)
{
    return (struct trace *)b;
}

static const char *name_of(struct broker *b)
{
    return from(b)->inner->ops->name;
}

/* The first bytes tell receipts apart well enough for a reader. */
static const char *receipt_text(const struct broker_receipt *receipt, char out[2 * 8 + 1])
{
    static const char hex[] = "0123456789abcdef";

    for (size_t i = 0; i < 8; i++) {
        out[2 * i] = hex[receipt->bytes[i] >> 4];
        out[2 * i + 1] = hex[receipt->bytes[i] & 15];
    }
    out[16] = '\0';
    return out;
}

#define TRACE(b, fmt, ...)                                                                         \
    log_debug(from(b)->log, "broker op", "backend=%s " fmt, name_of(b), __VA_ARGS__)

/* The outcome of a call that was not accepted; the accepted ones speak through their events. */
static int told(struct broker *b, const char *op, int rc, const struct err *e)
{
    if (rc != 0)
        TRACE(b, "op=%s refused=%s cause=\"%s\"", op, e ? err_word(e->code) : "", e ? e->text : "");
    return rc;
}

static int trace_publish(struct broker *b, const struct broker_message *v, size_t n, struct err *e)
{
    for (size_t i = 0; i < n; i++)
        TRACE(b,
              "op=publish tag=%" PRIu64 " queue=%.*s id=%.*s bytes=%zu priority=%d "
              "not_before_ms=%" PRId64,
              v[i].tag, SLICE_ARG(v[i].queue), SLICE_ARG(v[i].id), v[i].envelope.len, v[i].priority,
              v[i].not_before_ms);
    return told(b, "publish", from(b)->inner->ops->publish(from(b)->inner, v, n, e), e);
}

static int trace_renew(struct broker *b, const struct broker_receipt *v, size_t n, struct err *e)
{
    char receipt[17];

    for (size_t i = 0; i < n; i++)
        TRACE(b, "op=renew receipt=%s", receipt_text(&v[i], receipt));
    return told(b, "renew", from(b)->inner->ops->renew(from(b)->inner, v, n, e), e);
}

static int trace_note(struct broker *b, const struct broker_note *v, size_t n, struct err *e)
{
    char receipt[17];

    for (size_t i = 0; i < n; i++)
        TRACE(b, "op=note receipt=%s id=%.*s bytes=%zu", receipt_text(&v[i].receipt, receipt),
              SLICE_ARG(v[i].result_id), v[i].result.len);
    return told(b, "note", from(b)->inner->ops->note(from(b)->inner, v, n, e), e);
}

static int trace_finish(struct broker *b, const struct broker_finish *v, size_t n, struct err *e)
{
    static const char *const outcomes[] = {"succeeded", "failed", "continues"};
    char receipt[17];

    for (size_t i = 0; i < n; i++)
        TRACE(b, "op=finish tag=%" PRIu64 " receipt=%s outcome=%s id=%.*s bytes=%zu followups=%zu",
              v[i].tag, receipt_text(&v[i].receipt, receipt), outcomes[v[i].outcome],
              SLICE_ARG(v[i].result_id), v[i].result.len, v[i].followups_len);
    return told(b, "finish", from(b)->inner->ops->finish(from(b)->inner, v, n, e), e);
}

static int trace_release(struct broker *b, const struct broker_release *v, size_t n, struct err *e)
{
    char receipt[17];

    for (size_t i = 0; i < n; i++)
        TRACE(b, "op=release tag=%" PRIu64 " receipt=%s front=%d not_before_ms=%" PRId64, v[i].tag,
              receipt_text(&v[i].receipt, receipt), v[i].front, v[i].not_before_ms);
    return told(b, "release", from(b)->inner->ops->release(from(b)->inner, v, n, e), e);
}

static int trace_bury(struct broker *b, const struct broker_bury *v, size_t n, struct err *e)
{
    char receipt[17];

    for (size_t i = 0; i < n; i++)
        TRACE(b, "op=bury tag=%" PRIu64 " receipt=%s grave=%s id=%.*s cause=\"%.*s\"", v[i].tag,
              receipt_text(&v[i].receipt, receipt), v[i].grave == BROKER_DEAD ? "dead" : "unknown",
              SLICE_ARG(v[i].id), SLICE_ARG(v[i].cause));
    return told(b, "bury", from(b)->inner->ops->bury(from(b)->inner, v, n, e), e);
}

static int trace_store(struct broker *b, const struct broker_store *v, size_t n, struct err *e)
{
    for (size_t i = 0; i < n; i++)
        TRACE(b, "op=store tag=%" PRIu64 " id=%.*s bytes=%zu", v[i].tag, SLICE_ARG(v[i].id),
              v[i].result.len);
    return told(b, "store", from(b)->inner->ops->store(from(b)->inner, v, n, e), e);
}

static int trace_claim(struct broker *b, const struct broker_claim *v, size_t n, struct err *e)
{
    char receipt[17];

    for (size_t i = 0; i < n; i++)
        TRACE(b, "op=claim tag=%" PRIu64 " receipt=%s id=%.*s key_bytes=%zu window_ms=%" PRId64,
              v[i].tag, receipt_text(&v[i].receipt, receipt), SLICE_ARG(v[i].id), v[i].key.len,
              v[i].window_ms);
    return told(b, "claim", from(b)->inner->ops->claim(from(b)->inner, v, n, e), e);
}

static int trace_ask(struct broker *b, const struct broker_ask *ask, struct err *e)
{
    TRACE(b, "op=ask tag=%" PRIu64 " question=%d queue=%.*s handle=%.*s", ask->tag,
          (int)ask->question, SLICE_ARG(ask->queue), SLICE_ARG(ask->handle));
    return told(b, "ask", from(b)->inner->ops->ask(from(b)->inner, ask, e), e);
}

static int trace_announce(struct broker *b, struct slice json, int64_t ttl_ms, struct err *e)
{
    TRACE(b, "op=announce bytes=%zu ttl_ms=%" PRId64, json.len, ttl_ms);
    return told(b, "announce", from(b)->inner->ops->announce(from(b)->inner, json, ttl_ms, e), e);
}

static void trace_ids(struct broker *b, const char *op, const uint64_t *tags,
                      const struct slice *ids, size_t n)
{
    for (size_t i = 0; i < n; i++)
        TRACE(b, "op=%s tag=%" PRIu64 " id=%.*s", op, tags ? tags[i] : 0, SLICE_ARG(ids[i]));
}

static int trace_get(struct broker *b, const uint64_t *tags, const struct slice *ids, size_t n,
                     struct err *e)
{
    trace_ids(b, "result_get", tags, ids, n);
    return told(b, "result_get", from(b)->inner->ops->result_get(from(b)->inner, tags, ids, n, e),
                e);
}

static int trace_watch(struct broker *b, const uint64_t *tags, const struct slice *ids, size_t n,
                       struct err *e)
{
    trace_ids(b, "result_watch", tags, ids, n);
    return told(b, "result_watch",
                from(b)->inner->ops->result_watch(from(b)->inner, tags, ids, n, e), e);
}

static void trace_unwatch(struct broker *b, const struct slice *ids, size_t n)
{
    trace_ids(b, "result_unwatch", NULL, ids, n);
    from(b)->inner->ops->result_unwatch(from(b)->inner, ids, n);
}

static int trace_forget(struct broker *b, const uint64_t *tags, const struct slice *ids, size_t n,
                        struct err *e)
{
    trace_ids(b, "result_forget", tags, ids, n);
    return told(b, "result_forget",
                from(b)->inner->ops->result_forget(from(b)->inner, tags, ids, n, e), e);
}

/* --- the loop --- */

static void trace_event(struct broker *b, const struct broker_event *event)
{
    static const char *const kinds[] = {
        "delivered", "published", "finished", "released", "buried", "refused", "stored",
        "result",    "forgotten", "answered", "failed",   "lost",   "state",   "claimed",
    };
    char receipt[17];

    log_debug(from(b)->log, "broker event",
              "backend=%s kind=%s tag=%" PRIu64 " flags=%u receipt=%s fence=%" PRIu64
              " queue=%.*s id=%.*s bytes=%zu cause=\"%s\"",
              name_of(b), kinds[event->kind], event->tag, event->flags,
              receipt_text(&event->receipt, receipt), event->fence, SLICE_ARG(event->queue),
              SLICE_ARG(event->id), event->data.len, event->err ? event->err->text : "");
}

static int trace_poll(struct broker *b, struct broker_event *events, int max)
{
    int n = from(b)->inner->ops->poll(from(b)->inner, events, max);

    for (int i = 0; i < n; i++)
        trace_event(b, &events[i]);
    return n;
}

static void trace_nothing_ready(struct broker *b)
{
    broker_nothing_ready(from(b)->inner);
}

static void trace_rest(struct broker *b)
{
    broker_rest(from(b)->inner);
}

static int trace_pollset(struct broker *b, struct pollfd *fds, int max)
{
    return from(b)->inner->ops->pollset(from(b)->inner, fds, max);
}

static int64_t trace_deadline(struct broker *b)
{
    return from(b)->inner->ops->deadline(from(b)->inner);
}

static void trace_credit(struct broker *b, int n)
{
    TRACE(b, "op=credit n=%d", n);
    from(b)->inner->ops->credit(from(b)->inner, n);
}

static void trace_close(struct broker *b, bool release_leases)
{
    TRACE(b, "op=close release_leases=%d", release_leases);
    from(b)->inner->ops->close(from(b)->inner, release_leases);
    free(b);
}

static const struct broker_ops trace_ops = {
    .name = "trace",
    .close = trace_close,
    .pollset = trace_pollset,
    .deadline = trace_deadline,
    .poll = trace_poll,
    .nothing_ready = trace_nothing_ready,
    .rest = trace_rest,
    .credit = trace_credit,
    .publish = trace_publish,
    .renew = trace_renew,
    .note = trace_note,
    .finish = trace_finish,
    .release = trace_release,
    .bury = trace_bury,
    .store = trace_store,
    .claim = trace_claim,
    .ask = trace_ask,
    .announce = trace_announce,
    .result_get = trace_get,
    .result_watch = trace_watch,
    .result_unwatch = trace_unwatch,
    .result_forget = trace_forget,
};

/* The caller holds t by its first member. */
ANALYZER_LOSES_SIGHT
struct broker *trace_wrap(struct broker *inner, const struct log *log)
{
    struct trace *t = calloc(1, sizeof(*t));

    if (!t) {
        inner->ops->close(inner, false);
        return NULL;
    }
    t->inner = inner;
    t->log = log;
    t->ops = trace_ops;
    t->ops.caps = inner->ops->caps;
    t->base.ops = &t->ops;
    return &t->base;
}
ANALYZER_SEES_AGAIN
