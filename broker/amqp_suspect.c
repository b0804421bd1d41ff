/*
 * Deliveries that may have been handled before: redelivered ones, and those that say of themselves
 * that they may be a second copy.
 *
 * Each is held until everything that was in the results stream when it came has been read: the
 * index of ended runs follows the stream, and a sync record of our own, published after the
 * delivery came, says when it has caught up. One sync serves all that came before it; those that
 * come meanwhile wait for the next. Nothing is read as long as nothing is suspicious, and IDLE_MS
 * after the last one the reading ends. A sync that is in the stream and not read means that the
 * reading goes on where the stream does not: it was deleted and made anew. Then it begins anew.
 *
 * A producer's resend may lie right behind the first copy. As long as that one is held here and has
 * not ended its twin waits too, and is looked up anew afterwards. When that one was acknowledged
 * early meanwhile (amqp_long.c) its twin goes: a copy of it is in the broker.
 */
#include "broker/amqp.h"
#include "broker/amqp_index.h"
#include "broker/amqp_reader.h"

#include <stdlib.h>

/* How far back a run may have ended whose delivery comes again. */
#define WINDOW_MS 3600000
#define SLACK_MS  60000 /* between our clock and the server's */
#define IDLE_MS   60000
#define STUCK_MS  10000 /* the own sync was confirmed and nothing at all is read for so long */
#define TWIN_MS   50    /* between two looks at what twins wait for */
#define RETRY_MS  10000 /* between two tries to read what was refused */

struct amqp_suspects {
    struct amqp_reader reader;
    struct amqp_index *index; /* owned; NULL: nothing is read */
    struct held_list asked;   /* the sync under way is for these */
    struct held_list later;   /* came after it */
    struct held_list twins;   /* wait for another copy that is being worked on */
    bool live;
    bool syncing;
    bool refused; /* and said so */
    uint64_t host;
    uint64_t nonce;
    int64_t idle_at_ms;
    int64_t twins_at_ms; /* they are looked at then */
    int64_t retry_at_ms; /* after a refusal; not before that */
    int64_t stuck_at_ms; /* while a sync is under way */
};

static void stop_reading(struct amqp_broker *b)
{
    struct amqp_suspects *s = b->suspects;

    reader_end(b, &s->reader);
    amqp_index_free(s->index);
    s->index = NULL;
    s->live = false;
    s->syncing = false;
}

/* --- the verdict --- */

/* Another copy of the same run is held here, and nothing is known of its end yet. */
static bool has_twin(const struct amqp_broker *b, const struct amqp_held *h)
{
    for (uint64_t tag = b->held.first; tag < b->held.end; tag++) {
        const struct amqp_held *other = held_ring_find(&b->held, tag);

        if (h->id.ptr && other && other != h && other->state != HELD_SUSPECT &&
            other->state != HELD_DONE && other->retries == h->retries && slice_eq(other->id, h->id))
            return true;
    }
    return amqp_aside_ends(b, h);
}

static void look_at_twins(struct amqp_broker *b)
{
    struct amqp_suspects *s = b->suspects;
    struct held_list twins = s->twins;
    struct amqp_held *h;

    s->twins = (struct held_list){0};
    s->twins_at_ms = amqp_now(b) + TWIN_MS;
    while ((h = held_list_pop(&twins)))
        held_list_push(has_twin(b, h) ? &s->twins : &s->later, h);
}

/* Under its own name, or the one that it has in common with copies of it. */
static bool ended(const struct amqp_suspects *s, const struct amqp_held *h)
{
    return (h->id.ptr && amqp_index_find(s->index, h->id, (uint32_t)h->retries, NULL)) ||
           (*h->token && amqp_index_find(s->index, slice_of(h->token), 0, NULL));
}

static void judge(struct amqp_broker *b, struct amqp_held *h)
{
    struct amqp_suspects *s = b->suspects;

    if (ended(s, h)) {
        log_info(b->log, "a job that was recorded before came again and is dropped",
                 "id=%.*s retries=%lld", SLICE_ARG(h->id), (long long)h->retries);
        amqp_done_with(b, h);
    } else if (amqp_aside_has(b, h)) {
        amqp_done_with(b, h);
    } else if (has_twin(b, h)) {
        held_list_push(&s->twins, h);
    } else {
        h->redelivered |= *h->token != '\0'; /* of a copy: who had it is gone */
        amqp_offer(b, h, false);
    }
}

static void move_all(struct held_list *to, struct held_list *from)
{
    struct amqp_held *h;

    while ((h = held_list_pop(from)))
        held_list_push(to, h);
}

static void on_sync_sent(struct amqp_broker *b, struct out_step *step, const struct err *why)
{
    struct amqp_suspects *s = b->suspects;

    if (step->tag != s->nonce || !s->syncing)
        return;
    if (why)
        s->syncing = false; /* the next tick tries again */
    else
        s->stuck_at_ms = amqp_now(b) + STUCK_MS;
}

/* Everything in the stream before this record was there when the asked ones had come. */
static void sync(struct amqp_broker *b)
{
    struct amqp_suspects *s = b->suspects;
    struct amqp_result_record record = {
        .outcome = AMQP_RESULT_SYNC, .host = s->host, .now_ms = clock_wall_ms(b->clock)};
    struct out_step *step;

    if (s->syncing || !s->live)
        return;
    move_all(&s->asked, &s->later);
    if (s->asked.len == 0)
        return;
    step = out_step_new(on_sync_sent, BROKER_STORED, s->nonce + 1);
    if (!step)
        return;
    record.nonce = ++s->nonce;
    s->syncing = true;
    s->stuck_at_ms = CLOCK_NEVER;
    amqp_add_record(b, step, &record, NULL);
    out_step_close(b, step);
}

static void on_own_sync(struct amqp_broker *b)
{
    struct amqp_suspects *s = b->suspects;
    struct amqp_held *h;

    s->syncing = false;
    while ((h = held_list_pop(&s->asked)))
        judge(b, h);
    s->idle_at_ms = amqp_now(b) + IDLE_MS;
    sync(b);
}

/* --- the stream --- */

static void on_record(struct amqp_broker *b, struct amqp_reader *r, int64_t offset,
                      struct slice bytes)
{
    struct amqp_suspects *s = b->suspects;
    struct amqp_result_record record;
    bool counted;

    (void)r;
    if (s->stuck_at_ms != CLOCK_NEVER)
        s->stuck_at_ms = amqp_now(b) + STUCK_MS;
    if (offset < amqp_index_next(s->index)) /* the stream was made anew */
        amqp_index_reset(s->index);
    if (!amqp_result_read(&record, bytes))
        return;
    if (amqp_index_apply(s->index, offset, &record, &counted, NULL) != 0) {
        stop_reading(b); /* out of memory: the next tick begins anew */
        return;
    }
    if (record.outcome == AMQP_RESULT_SYNC && record.host == s->host && record.nonce == s->nonce)
        on_own_sync(b);
}

static void on_live(struct amqp_broker *b, struct amqp_reader *r)
{
    (void)r;
    b->suspects->live = true;
    b->suspects->syncing = false;
    b->suspects->refused = false;
    sync(b);
}

/* Nothing is run twice for want of a right, and nothing is lost: they stay in their queue. */
static void on_refused(struct amqp_broker *b, struct amqp_reader *r, const struct err *why)
{
    struct amqp_suspects *s = b->suspects;

    (void)r;
    if (!s->refused)
        log_warn(b->log, "jobs that were delivered before wait: whether they ended is not told",
                 "error=\"%s\" advice=\"allow '%s' to be configured, written and read\"", why->text,
                 AMQP_RESULTS_STREAM);
    s->refused = true;
    s->retry_at_ms = amqp_now(b) + RETRY_MS;
    stop_reading(b);
}

static void begin_reading(struct amqp_broker *b)
{
    static const struct reader_ops ops = {
        .on_record = on_record, .on_live = on_live, .on_refused = on_refused};
    struct amqp_suspects *s = b->suspects;
    struct reader_start start = {READER_TIME,
                                 (clock_wall_ms(b->clock) - WINDOW_MS - SLACK_MS) / 1000};
    struct amqp_index_config config = {.window_ms = WINDOW_MS + SLACK_MS};

    s->index = amqp_index_new(&config);
    if (s->index)
        reader_begin(b, &s->reader, AMQP_RESULTS_STREAM, &start, &ops);
}

/* --- what the backend calls --- */

void amqp_suspect(struct amqp_broker *b, struct amqp_held *h)
{
    struct amqp_suspects *s = b->suspects;

    if (!s) {
        s = b->suspects = calloc(1, sizeof(*s));
        if (!s) {
            amqp_offer(b, h, false); /* runs twice rather than never */
            return;
        }
        s->host = uuid_random(&b->random);
        s->idle_at_ms = CLOCK_NEVER;
    }
    h->state = HELD_SUSPECT;
    held_list_push(&s->later, h);
    s->idle_at_ms = CLOCK_NEVER;
    if (!s->index && amqp_now(b) >= s->retry_at_ms)
        begin_reading(b);
    if (!s->syncing)
        sync(b);
}

void amqp_suspects_forget(struct amqp_broker *b)
{
    if (!b->suspects)
        return;
    b->suspects->asked = (struct held_list){0};
    b->suspects->later = (struct held_list){0};
    b->suspects->twins = (struct held_list){0};
}

static bool is_waiting(const struct amqp_suspects *s)
{
    return s->asked.len + s->later.len > 0;
}

int64_t amqp_suspects_deadline(const struct amqp_broker *b)
{
    const struct amqp_suspects *s = b->suspects;

    if (!s)
        return CLOCK_NEVER;
    if (s->twins.len > 0)
        return s->twins_at_ms;
    if (is_waiting(s) && !s->index)
        return s->retry_at_ms;
    if (s->syncing && s->reader.live)
        return s->stuck_at_ms;
    return s->index ? s->idle_at_ms : CLOCK_NEVER;
}

void amqp_suspects_tick(struct amqp_broker *b)
{
    struct amqp_suspects *s = b->suspects;
    bool waiting;

    if (!s)
        return;
    if (s->twins.len > 0 && amqp_now(b) >= s->twins_at_ms)
        look_at_twins(b);
    if (s->syncing && s->reader.live && amqp_now(b) >= s->stuck_at_ms) {
        log_warn(b->log, "results stream does not go on where its reading stopped, read anew",
                 NULL);
        stop_reading(b);
    }
    waiting = is_waiting(s);
    if (waiting && !s->index && amqp_now(b) >= s->retry_at_ms)
        begin_reading(b);
    else if (waiting && s->index && !s->syncing)
        sync(b);
    else if (s->index && !waiting && s->twins.len == 0 && amqp_now(b) >= s->idle_at_ms)
        stop_reading(b);
}

void amqp_suspects_release(struct amqp_broker *b)
{
    if (!b->suspects)
        return;
    stop_reading(b);
    free(b->suspects);
    b->suspects = NULL;
}
