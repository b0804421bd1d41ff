#include "worker/dispatcher.h"

#include "base/heap.h"
#include "broker/backoff.h"
#include "broker/uri.h"

#include <event2/event.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define EVENTS_MAX 128
/* Python peers scan for lapsed leases with a timeout of their own, so ours are refreshed often. */
#define RENEW_MAX_MS 5000
/* Between two times that memory is given back, at least. */
#define REST_MS   200
#define REST_JOBS 64

static void quit(struct dispatcher *d, int status)
{
    if (d->exit_status < 0)
        d->exit_status = status;
}

/* ---- the supervisor ---- */

static void on_stop(struct dispatcher *d, bool cold)
{
    d->stop = cold ? DISPATCH_COLD : DISPATCH_WARM;
    presence_changed(d);
    broker_credit(d->broker, 0);
    dedup_stop(d);
}

/* In every round of a warm stop: deliveries may still arrive, and a runner that dies leaves what it
 * was lent. */
static void hand_back_ready(struct dispatcher *d)
{
    struct job *job;

    while ((job = TAILQ_FIRST(&d->jobs.ready)))
        settle_hand_back(d, job, &d->jobs.ready, 0);
}

static void on_gone(struct dispatcher *d, const struct frame *f)
{
    struct channel_gone gone;
    struct err e = ERR_INIT;

    if (channel_get_fixed(f->payload, &gone, sizeof(gone), &e) < 0)
        log_error(&d->log, "supervisor makes no sense", "error=\"%s\"", e.text);
    else
        lend_lost_runner(d, (int)f->id, &gone);
}

static void on_failed(struct dispatcher *d, int slot)
{
    d->seats[slot].failed = true;
    presence_changed(d);
}

static void on_supervisor_frame(struct dispatcher *d, struct frame *f)
{
    bool known = f->id < (uint64_t)d->config->concurrency;

    if (f->type == CHANNEL_PING) {
        frame_put(&d->supervisor, CHANNEL_PONG, 0, f->id, slice_make(NULL, 0));
    } else if (f->type == CHANNEL_STOP) {
        on_stop(d, f->id != 0);
    } else if (f->type == CHANNEL_RUNNER && known && f->fd >= 0) {
        lend_open_seat(d, (int)f->id, f->fd);
        f->fd = -1;
    } else if (f->type == CHANNEL_GONE && known) {
        on_gone(d, f);
    } else if (f->type == CHANNEL_FAILED && known) {
        on_failed(d, (int)f->id);
    }
    if (f->fd >= 0)
        close(f->fd);
}

static void on_supervisor_readable(evutil_socket_t fd, short what, void *cookie)
{
    struct dispatcher *d = cookie;
    struct err e = ERR_INIT;
    struct frame f;
    enum frame_status got = frame_fill(&d->supervisor, &e);

    (void)fd;
    (void)what;
    while (frame_take(&d->supervisor, &f, &e) == FRAME_OK)
        on_supervisor_frame(d, &f);
    if (got == FRAME_EOF || got == FRAME_ERROR) {
        log_warn(&d->log, "supervisor is gone", NULL);
        d->stop = DISPATCH_COLD;
    }
}

static void flush_supervisor(struct dispatcher *d)
{
    struct err e = ERR_INIT;

    if (frame_pending(&d->supervisor) && frame_flush(&d->supervisor, &e) == FRAME_EMPTY)
        event_add(d->sup_writable, NULL);
}

/* ---- the broker ---- */

static void on_up(struct dispatcher *d)
{
    if (d->down_logged)
        log_info(&d->log, "broker is back", NULL);
    if (!d->was_up)
        frame_put(&d->supervisor, CHANNEL_READY, 0, 0, slice_make(NULL, 0));
    d->broker_up = true;
    presence_broker_up(d);
    d->was_up = true;
    d->down_logged = false;
}

static bool is_denied(const struct err *e)
{
    return e->code == ERR_OPERATOR || e->code == ERR_REFUSED;
}

static void on_down(struct dispatcher *d, const struct err *err)
{
    d->broker_up = false;
    if (!d->down_logged)
        log_error(&d->log, d->was_up ? "broker lost, retrying" : "broker not reached, retrying",
                  "error=\"%s\"", err ? err->text : "");
    d->down_logged = true;
    if (!d->was_up && err && is_denied(err))
        quit(d, WORKER_EXIT_REFUSED);
}

/* The job runs on; its end will be refused by the broker, and whoever has the message now records
 * it. */
static void drop_lost(struct dispatcher *d, struct job_list *list,
                      const struct broker_receipt *receipt)
{
    struct job *job, *next;

    for (job = TAILQ_FIRST(list); job; job = next) {
        next = TAILQ_NEXT(job, link);
        if (memcmp(&job->receipt, receipt, sizeof(*receipt)) != 0)
            continue;
        inflight_move(job, list, NULL, JOB_READY);
        inflight_free(&d->jobs, job);
        return;
    }
}

static void on_lost(struct dispatcher *d, const struct broker_receipt *receipt)
{
    drop_lost(d, &d->jobs.ready, receipt);
    drop_lost(d, &d->jobs.claiming, receipt);
}

static void forget_broker_events(struct dispatcher *d)
{
    for (int i = 0; i < d->broker_fds_len; i++) {
        if (d->broker_events[i])
            event_free(d->broker_events[i]);
        d->broker_events[i] = NULL;
    }
    d->broker_fds_len = 0;
}

static void on_broker_event(struct dispatcher *d, const struct broker_event *event)
{
    switch (event->kind) {
    case BROKER_DELIVERED:
        delivery_take(d, event);
        break;
    case BROKER_STATE:
        /* The descriptors behind the old numbers are closed: the numbers may come back as others.
         */
        forget_broker_events(d);
        if (event->flags & BROKER_UP)
            on_up(d);
        else
            on_down(d, event->err);
        break;
    case BROKER_LOST:
        on_lost(d, &event->receipt);
        break;
    default:
        if (event->tag & OUTBOX_TAG)
            outbox_answer(&d->outbox, event, clock_mono_ms(d->clock) + 200);
        else
            settle_answer(d, event);
    }
}

static void poll_broker(struct dispatcher *d)
{
    struct broker_event events[EVENTS_MAX];
    int n;

    if (!d->broker_ready)
        broker_nothing_ready(d->broker);
    d->broker_ready = false;
    n = broker_poll(d->broker, events, EVENTS_MAX);
    for (int i = 0; i < n; i++)
        on_broker_event(d, &events[i]);
    d->deliveries_left = n == EVENTS_MAX;
}

static int64_t renew_every_ms(const struct dispatcher *d)
{
    int64_t third = (d->config->lease_ms > 0 ? d->config->lease_ms : 30000) / 3;

    return third < RENEW_MAX_MS ? third : RENEW_MAX_MS;
}

static void renew_leases(struct dispatcher *d)
{
    struct broker_receipt *receipts;
    size_t n = 0;

    if (clock_mono_ms(d->clock) < d->renew_at_ms)
        return;
    d->renew_at_ms = clock_mono_ms(d->clock) + renew_every_ms(d);
    if (d->jobs.len == 0 || !(receipts = calloc(d->jobs.len, sizeof(*receipts))))
        return;
    for (size_t i = 0; i < d->jobs.cap; i++) {
        if (d->jobs.slots[i] && !d->jobs.slots[i]->early_acked)
            receipts[n++] = d->jobs.slots[i]->receipt;
    }
    if (n)
        broker_renew(d->broker, receipts, n, NULL);
    free(receipts);
}

static void on_broker_ready(evutil_socket_t fd, short what, void *cookie)
{
    struct dispatcher *d = cookie;

    (void)fd;
    (void)what;
    d->broker_ready = true; /* the round after this callback reads */
}

static bool same_fds(const struct dispatcher *d, const struct pollfd *fds, int n)
{
    if (n != d->broker_fds_len)
        return false;
    for (int i = 0; i < n; i++) {
        if (fds[i].fd != d->broker_fds[i].fd || fds[i].events != d->broker_fds[i].events)
            return false;
    }
    return true;
}

/* A descriptor number may be reused after a reconnect, so a lost connection always starts from
 * nothing. */
static void watch_broker(struct dispatcher *d)
{
    struct pollfd fds[DISPATCHER_BROKER_FDS];
    int n = broker_pollset(d->broker, fds, DISPATCHER_BROKER_FDS);

    if (same_fds(d, fds, n))
        return;
    forget_broker_events(d);
    for (int i = 0; i < n; i++) {
        short what = EV_PERSIST;

        if (fds[i].events & POLLIN)
            what |= EV_READ;
        if (fds[i].events & POLLOUT)
            what |= EV_WRITE;
        d->broker_events[i] = event_new(d->base, fds[i].fd, what, on_broker_ready, d);
        if (d->broker_events[i])
            event_add(d->broker_events[i], NULL);
    }
    memcpy(d->broker_fds, fds, (size_t)n * sizeof(fds[0]));
    d->broker_fds_len = n;
}

/* ---- the loop ---- */

static void check_first_connection(struct dispatcher *d)
{
    int64_t limit = d->config->connect_timeout_ms;

    if (d->was_up || limit <= 0 || clock_mono_ms(d->clock) - d->started_ms < limit)
        return;
    log_error(&d->log, "broker not reached in time, giving up", "timeout_ms=%lld",
              (long long)limit);
    quit(d, WORKER_EXIT_UNREACHABLE);
}

static void check_stop(struct dispatcher *d)
{
    if (d->stop == DISPATCH_COLD)
        quit(d, 0);
    if (d->stop != DISPATCH_WARM || d->jobs.len || d->outbox.len)
        return;
    frame_put(&d->supervisor, CHANNEL_DONE, 0, 0, slice_make(NULL, 0));
    quit(d, 0);
}

/* When more jobs are asked for, what is held back is told with it: one round trip for both. */
static int ask(struct dispatcher *d)
{
    int wanted = lend_wanted(d);

    if (wanted > 0 && d->wanted == 0)
        d->tell_at_ms = 0;
    d->wanted = wanted;
    return wanted;
}

static void dispatcher_step(struct dispatcher *d)
{
    int wanted = ask(d);

    settle_submit(d);
    dedup_submit(d);
    outbox_submit(&d->outbox, d->broker, clock_mono_ms(d->clock));
    renew_leases(d);
    presence_step(d);
    broker_credit(d->broker, wanted);
    poll_broker(d);
    if (d->jobs.len > d->most_jobs)
        d->most_jobs = d->jobs.len;
    broker_credit(d->broker, lend_wanted(d)); /* what ended just now makes room */
    if (d->stop == DISPATCH_WARM)
        hand_back_ready(d);
    lend_jobs(d);
    lend_watch(d);
    check_first_connection(d);
    check_stop(d);
    lend_flush(d);
    flush_supervisor(d);
}

/* What many jobs at once needed goes back when the last has ended: a worker is as small after a
 * burst as before it. When, or CLOCK_NEVER; rarely enough for what it costs: 0.2 ms, and the faults
 * of the next burst. */
static int64_t rest_at_ms(const struct dispatcher *d)
{
    return d->jobs.len == 0 && d->most_jobs >= REST_JOBS ? d->rest_at_ms : CLOCK_NEVER;
}

static void rest(struct dispatcher *d)
{
    int64_t now_ms = clock_mono_ms(d->clock);

    if (now_ms < rest_at_ms(d))
        return;
    lend_rest(d);
    inflight_rest(&d->jobs);
    broker_rest(d->broker);
    frame_link_shrink(&d->supervisor, 0);
    heap_give_back();
    d->most_jobs = 0;
    d->rest_at_ms = now_ms + REST_MS;
}

static int64_t sooner(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

static int64_t next_ms(struct dispatcher *d)
{
    int64_t next = broker_deadline(d->broker);

    next = sooner(next, d->renew_at_ms);
    next = sooner(next, settle_next_ms(d));
    next = sooner(next, outbox_next_ms(&d->outbox));
    next = sooner(next, lend_next_ms(d));
    next = sooner(next, presence_next_ms(d));
    next = sooner(next, rest_at_ms(d));
    if (!d->was_up && d->config->connect_timeout_ms > 0)
        next = sooner(next, d->started_ms + d->config->connect_timeout_ms);
    return d->deliveries_left || dedup_is_due(d) ? 0 : next;
}

static void on_timer(evutil_socket_t fd, short what, void *cookie)
{
    (void)fd;
    (void)what;
    (void)cookie;
}

static void set_timer(struct dispatcher *d)
{
    int wait_ms = clock_poll_timeout(d->clock, next_ms(d));
    struct timeval tv = {wait_ms / 1000, wait_ms % 1000 * 1000};

    if (wait_ms < 0)
        evtimer_del(d->timer);
    else
        evtimer_add(d->timer, &tv);
}

static void show(const struct dispatcher *d, int *shown)
{
    int running = lend_running(d);

    if (running == *shown)
        return;
    *shown = running;
    proc_title_set(d->config->title, "celeriac: dispatcher [%s] %d running%s", d->config->node,
                   running, d->stop == DISPATCH_RUN ? "" : ", stopping");
}

/* Those that come now would be, if there are none yet. */
static bool ends_are_held(const struct dispatcher *d)
{
    return d->held ||
           (!TAILQ_EMPTY(&d->jobs.ready) && policy_hold_ms(d->config->concurrency, d->mean_us, 0));
}

/* Being woken by each verdict costs a tenth of a job of half a millisecond, and while ends are held
 * back anyway and every runner has enough to do, nobody gains from it. */
static void gather(struct dispatcher *d)
{
    int64_t ms;

    if (!ends_are_held(d))
        return;
    ms = policy_gather_ms(d->config->concurrency, lend_busy_us(d));
    ms = sooner(ms, next_ms(d) - clock_mono_ms(d->clock));
    if (ms > 0)
        poll(NULL, 0, (int)ms);
}

static void loop(struct dispatcher *d)
{
    int shown = -1;

    for (;;) {
        dispatcher_step(d);
        show(d, &shown);
        if (d->exit_status >= 0)
            return;
        watch_broker(d);
        rest(d);
        set_timer(d);
        gather(d);
        event_base_loop(d->base, EVLOOP_ONCE);
    }
}

/* ---- birth and death ---- */

static int open_loop(struct dispatcher *d, struct err *e)
{
    d->base = event_base_new();
    if (!d->base)
        return err_nomem(e);
    d->timer = evtimer_new(d->base, on_timer, d);
    d->sup_readable =
        event_new(d->base, d->supervisor.fd, EV_READ | EV_PERSIST, on_supervisor_readable, d);
    d->sup_writable = event_new(d->base, d->supervisor.fd, EV_WRITE, on_broker_ready, d);
    if (!d->timer || !d->sup_readable || !d->sup_writable)
        return err_nomem(e);
    event_add(d->sup_readable, NULL);
    return 0;
}

/* Leases are taken under the node and the supervisor's pid: two workers that were given one name by
 * mistake must not take each other's jobs over. */
static int open_broker(struct dispatcher *d, const struct dispatcher_config *config, struct err *e)
{
    const struct worker_config *w = config->worker;
    char node[300];
    struct broker_config b = {.url = w->broker_url,
                              .result_url = w->result_url,
                              .node = node,
                              .generation = config->generation,
                              .queues = w->queues,
                              .queues_len = w->queues_len,
                              .lease_ms = w->lease_ms,
                              .result_expires_ms = (int64_t)(w->result_expires_s * 1000),
                              .clock = d->clock,
                              .log = &d->log,
                              .trace = w->trace};

    snprintf(node, sizeof(node), "%s#%d", w->node, config->supervisor_pid);
    d->broker = broker_open(&b, e);
    return d->broker ? 0 : -1;
}

static int open_seats(struct dispatcher *d, struct err *e)
{
    d->seats = calloc((size_t)d->config->concurrency, sizeof(*d->seats));
    if (!d->seats)
        return err_nomem(e);
    for (int i = 0; i < d->config->concurrency; i++) {
        d->seats[i].slot = i;
        frame_link_init(&d->seats[i].jobs, -1);
        TAILQ_INIT(&d->seats[i].lent);
    }
    return 0;
}

static void release(struct dispatcher *d)
{
    if (d->broker)
        forget_broker_events(d);
    broker_close(d->broker, true);
    if (d->seats)
        lend_close_seats(d);
    free(d->seats);
    inflight_release(&d->jobs);
    message_release(&d->message);
    outbox_release(&d->outbox);
    taskrows_release(&d->rows);
    presence_release(d);
    if (d->timer)
        event_free(d->timer);
    if (d->sup_readable)
        event_free(d->sup_readable);
    if (d->sup_writable)
        event_free(d->sup_writable);
    if (d->base)
        event_base_free(d->base);
    frame_link_release(&d->supervisor);
}

static int status_of(const struct err *e)
{
    if (e->code == ERR_USAGE)
        return WORKER_EXIT_USAGE;
    return is_denied(e) ? WORKER_EXIT_REFUSED : WORKER_EXIT_UNREACHABLE;
}

int dispatcher_main(const struct dispatcher_config *config)
{
    struct dispatcher d = {.config = config->worker,
                           .clock = clock_system(),
                           .random = UUID_SOURCE_INIT,
                           .exit_status = -1};
    struct err e = ERR_INIT;

    log_for_role(&d.log, config->worker->log, "dispatcher");
    inflight_init(&d.jobs);
    outbox_init(&d.outbox);
    frame_link_init(&d.supervisor, config->link_fd);
    d.started_ms = clock_mono_ms(d.clock);
    presence_init(&d, config->supervisor_pid);
    if (open_loop(&d, &e) < 0 || open_seats(&d, &e) < 0 || open_broker(&d, config, &e) < 0) {
        log_error(&d.log, "dispatcher not started", "error=\"%s\"", e.text);
        d.exit_status = status_of(&e);
    } else {
        loop(&d);
    }
    release(&d);
    return d.exit_status;
}
