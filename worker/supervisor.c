#include "worker/supervisor.h"

#include "worker/channel.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

/* How long the exit functions of a runner's tasks may take after a warm stop. */
#define LEAVE_MS 5000

/* ---- ending children ---- */

/* Kills a process and, for a runner, whatever it started: user code may have children of its own.
 */
static void kill_group(const struct child *c, int sig)
{
    if (!child_alive(c))
        return;
    if (kill(-c->pid, sig) < 0)
        kill(c->pid, sig);
}

static void terminate(struct supervisor *s, struct child *c)
{
    kill_group(c, SIGTERM);
    c->kill_at_ms = supervisor_now_ms(s) + SUPERVISOR_KILL_AFTER_MS;
}

/* ---- starting children ---- */

static bool due(const struct supervisor *s, const struct child *c)
{
    return c->state == CHILD_DOWN && c->start_at_ms <= supervisor_now_ms(s);
}

/* Runners wait for a dispatcher: their job channel has to be given to somebody. */
static void start_what_is_due(struct supervisor *s)
{
    if (s->stop != STOP_NONE)
        return;
    if (due(s, &s->dispatcher) && spawn_dispatcher(s) < 0)
        return;
    for (int i = 0; i < s->config->concurrency; i++) {
        if (!child_alive(&s->dispatcher) || frame_pending(&s->dispatcher.link))
            return;
        if (due(s, &s->runners[i]))
            spawn_runner(s, &s->runners[i]);
    }
}

/* ---- links ---- */

static void set_watch(struct supervisor *s, const struct frame *f)
{
    struct channel_watch w;
    struct err e = ERR_INIT;

    if (f->id >= (uint64_t)s->config->concurrency ||
        channel_get_fixed(f->payload, &w, sizeof(w), &e) < 0)
        return;
    s->runners[f->id].watch = (struct child_watch){w.job, w.soft_at_ms, w.hard_at_ms, false, false};
}

static struct child *runner_of(struct supervisor *s, const struct frame *f)
{
    return f->id < (uint64_t)s->config->concurrency ? &s->runners[f->id] : NULL;
}

static void on_dispatcher_frame(struct supervisor *s, const struct frame *f)
{
    struct child *runner = runner_of(s, f);

    switch (f->type) {
    case CHANNEL_READY:
        child_on(&s->dispatcher, CHILD_EV_READY, supervisor_now_ms(s));
        break;
    case CHANNEL_PONG:
        s->pings_missed = 0;
        break;
    case CHANNEL_WATCH:
        set_watch(s, f);
        break;
    case CHANNEL_UNWATCH:
        if (runner)
            runner->watch = (struct child_watch){0};
        break;
    case CHANNEL_KILL:
        if (runner)
            kill_group(runner, SIGKILL);
        break;
    case CHANNEL_DONE:
        child_on(&s->dispatcher, CHILD_EV_STOP, supervisor_now_ms(s));
        break;
    default:
        log_error(&s->log, "unknown frame from the dispatcher", "type=%d", f->type);
    }
}

static void read_dispatcher(struct supervisor *s)
{
    struct err e = ERR_INIT;
    struct frame f;

    if (frame_fill(&s->dispatcher.link, &e) == FRAME_ERROR)
        log_error(&s->log, "dispatcher link broken", "error=\"%s\"", e.text);
    while (frame_take(&s->dispatcher.link, &f, &e) == FRAME_OK)
        on_dispatcher_frame(s, &f);
}

static void read_runner(struct supervisor *s, struct child *c)
{
    struct err e = ERR_INIT;
    struct frame f;

    frame_fill(&c->link, &e);
    while (frame_take(&c->link, &f, &e) == FRAME_OK) {
        if (f.type == CHANNEL_READY)
            child_on(c, CHILD_EV_READY, supervisor_now_ms(s));
    }
}

/* ---- reaping ---- */

static void tell_gone(struct supervisor *s, const struct child *c, int wait_status)
{
    struct channel_gone gone;

    memset(&gone, 0, sizeof(gone));
    gone.wait_status = wait_status;
    gone.limit_job = c->watch.hard_sent ? c->watch.job : 0;
    frame_put(&s->dispatcher.link, CHANNEL_GONE, 0, (uint64_t)c->slot,
              slice_make(&gone, sizeof(gone)));
}

static void end_worker(struct supervisor *s, int status)
{
    s->status = status;
    s->stop = STOP_COLD;
    s->stop_sent = false;
}

/* Some deaths say that another start will end the same way. */
static void judge_early_exit(struct supervisor *s, struct child *c, int wait_status)
{
    int code = WIFEXITED(wait_status) ? WEXITSTATUS(wait_status) : -1;

    if (c->slot < 0 && (code == WORKER_EXIT_USAGE || code == WORKER_EXIT_UNREACHABLE ||
                        code == WORKER_EXIT_REFUSED)) {
        c->state = CHILD_FAILED;
        end_worker(s, code);
    } else if (c->slot >= 0 && code == WORKER_EXIT_MODULE) {
        c->state = CHILD_FAILED;
        end_worker(s, WORKER_EXIT_USAGE);
    }
}

static bool all_runners_failed(const struct supervisor *s)
{
    for (int i = 0; i < s->config->concurrency; i++) {
        if (s->runners[i].state != CHILD_FAILED)
            return false;
    }
    return true;
}

static void on_dispatcher_exit(struct supervisor *s)
{
    bool left = s->dispatcher.state == CHILD_GONE && s->stop == STOP_WARM;

    /* After a warm stop its runners are idle and leave by themselves at the end of their channel.
     * Else they hold jobs that nobody will settle; the successor takes the leases over. */
    for (int i = 0; i < s->config->concurrency; i++) {
        if (left)
            s->runners[i].kill_at_ms = supervisor_now_ms(s) + LEAVE_MS;
        else
            kill_group(&s->runners[i], SIGKILL);
    }
    if (s->dispatcher.state == CHILD_FAILED && s->stop == STOP_NONE)
        end_worker(s, WORKER_EXIT_FAILED);
}

static void on_child_exit(struct supervisor *s, struct child *c, int wait_status)
{
    char cause[64];
    bool early = c->state == CHILD_STARTING;
    bool expected = s->stop != STOP_NONE || (WIFEXITED(wait_status) && !early);

    proc_cause(wait_status, cause, sizeof(cause));
    log_event(&s->log, expected ? LOG_LEVEL_DEBUG : LOG_LEVEL_WARNING,
              c->slot < 0 ? "dispatcher gone" : "runner gone",
              "slot=%d child=%d cause=\"%s\" state=%s", c->slot + 1, (int)c->pid, cause,
              child_state_word(c->state));
    kill(-c->pid, SIGKILL);
    c->pid = 0;
    child_on(c, CHILD_EV_EXIT, supervisor_now_ms(s));
    if (early && s->stop == STOP_NONE)
        judge_early_exit(s, c, wait_status);
    frame_link_release(&c->link);
    if (c->slot < 0) {
        on_dispatcher_exit(s);
        return;
    }
    if (child_alive(&s->dispatcher))
        tell_gone(s, c, wait_status);
    if (c->state == CHILD_FAILED) {
        log_error(&s->log, "runner slot failed", "slot=%d deaths=%d", c->slot + 1, c->deaths);
        frame_put(&s->dispatcher.link, CHANNEL_FAILED, 0, (uint64_t)c->slot, slice_make(NULL, 0));
    }
    if (all_runners_failed(s) && s->stop == STOP_NONE)
        end_worker(s, WORKER_EXIT_FAILED);
}

static struct child *child_by_pid(struct supervisor *s, pid_t pid)
{
    if (s->dispatcher.pid == pid)
        return &s->dispatcher;
    for (int i = 0; i < s->config->concurrency; i++) {
        if (s->runners[i].pid == pid)
            return &s->runners[i];
    }
    return NULL;
}

static void reap(struct supervisor *s)
{
    int wait_status;
    pid_t pid;

    while ((pid = waitpid(-1, &wait_status, WNOHANG)) > 0) {
        struct child *c = child_by_pid(s, pid);

        if (!c)
            continue;
        /* What it said last counts: "ready" and a death may arrive together. */
        if (c->slot < 0)
            read_dispatcher(s);
        else
            read_runner(s, c);
        on_child_exit(s, c, wait_status);
    }
}

/* ---- time ---- */

static void enforce_limits(struct supervisor *s, struct child *c)
{
    int64_t now = supervisor_now_ms(s);

    if (!child_alive(c))
        return;
    if (c->kill_at_ms && c->kill_at_ms <= now) {
        kill_group(c, SIGKILL);
        c->kill_at_ms = 0;
    }
    if (!c->watch.job)
        return;
    if (c->watch.soft_at_ms && !c->watch.soft_sent && c->watch.soft_at_ms <= now) {
        c->watch.soft_sent = true;
        log_warn(&s->log, "soft time limit passed", "slot=%d", c->slot + 1);
        kill(c->pid, SIGUSR1);
    }
    if (c->watch.hard_at_ms && !c->watch.hard_sent && c->watch.hard_at_ms <= now) {
        c->watch.hard_sent = true;
        log_warn(&s->log, "hard time limit passed", "slot=%d", c->slot + 1);
        terminate(s, c);
    }
}

static void ping(struct supervisor *s)
{
    if (!child_alive(&s->dispatcher) || supervisor_now_ms(s) < s->ping_at_ms)
        return;
    s->ping_at_ms = supervisor_now_ms(s) + SUPERVISOR_PING_MS;
    if (s->pings_missed >= SUPERVISOR_PING_MISSED) {
        log_error(&s->log, "dispatcher hangs", "missed_pings=%d", s->pings_missed);
        kill_group(&s->dispatcher, SIGKILL);
        return;
    }
    s->pings_missed++;
    frame_put(&s->dispatcher.link, CHANNEL_PING, 0, 0, slice_make(NULL, 0));
}

static int64_t next_ms(const struct supervisor *s)
{
    int64_t next = child_alive(&s->dispatcher) ? s->ping_at_ms : CLOCK_NEVER;

    for (int i = -1; i < s->config->concurrency; i++) {
        const struct child *c = i < 0 ? &s->dispatcher : &s->runners[i];
        int64_t at = child_next_ms(c);

        if (c->state == CHILD_DOWN &&
            (s->stop != STOP_NONE || (i >= 0 && !child_alive(&s->dispatcher))))
            continue;
        if (at < next)
            next = at;
    }
    return next;
}

/* ---- stopping ---- */

static void on_signal(struct supervisor *s, int sig)
{
    if (sig == SIGCHLD)
        return;
    if (sig == SIGQUIT || s->stop == STOP_WARM)
        s->stop = STOP_COLD;
    else if (s->stop == STOP_NONE)
        s->stop = STOP_WARM;
    s->stop_sent = false;
    log_info(&s->log, s->stop == STOP_COLD ? "cold stop" : "warm stop", "signal=%d", sig);
}

static void read_signals(struct supervisor *s)
{
    struct signalfd_siginfo info;

    while (read(s->signal_fd, &info, sizeof(info)) == (ssize_t)sizeof(info))
        on_signal(s, (int)info.ssi_signo);
}

static void carry_out_stop(struct supervisor *s)
{
    if (s->stop == STOP_NONE || s->stop_sent)
        return;
    s->stop_sent = true;
    if (s->stop == STOP_COLD) {
        for (int i = 0; i < s->config->concurrency; i++) {
            child_on(&s->runners[i], CHILD_EV_STOP, supervisor_now_ms(s));
            kill_group(&s->runners[i], SIGKILL);
        }
        child_on(&s->dispatcher, CHILD_EV_STOP, supervisor_now_ms(s));
        s->dispatcher.kill_at_ms = supervisor_now_ms(s) + 5 * SUPERVISOR_KILL_AFTER_MS;
    }
    frame_put(&s->dispatcher.link, CHANNEL_STOP, 0, s->stop == STOP_COLD, slice_make(NULL, 0));
}

/* The worker is over when it was asked to stop and nobody is left. */
static bool finished(struct supervisor *s)
{
    if (s->stop == STOP_NONE || child_alive(&s->dispatcher))
        return false;
    for (int i = 0; i < s->config->concurrency; i++) {
        if (child_alive(&s->runners[i]))
            return false;
    }
    return true;
}

/* ---- the loop ---- */

static void flush_dispatcher(struct supervisor *s)
{
    struct err e = ERR_INIT;

    if (!child_alive(&s->dispatcher))
        return;
    if (frame_flush(&s->dispatcher.link, &e) == FRAME_ERROR)
        log_error(&s->log, "dispatcher link broken", "error=\"%s\"", e.text);
}

static void wait_for_something(struct supervisor *s)
{
    nfds_t n = 2 + (nfds_t)s->config->concurrency;

    s->fds[0] = (struct pollfd){s->signal_fd, POLLIN, 0};
    s->fds[1] = (struct pollfd){s->dispatcher.link.fd, POLLIN, 0};
    if (frame_pending(&s->dispatcher.link))
        s->fds[1].events |= POLLOUT;
    for (int i = 0; i < s->config->concurrency; i++) {
        /* After "ready" a runner says nothing more on its link; its end is learnt from waitpid. */
        bool listens = s->runners[i].state == CHILD_STARTING;

        s->fds[2 + i] = (struct pollfd){listens ? s->runners[i].link.fd : -1, POLLIN, 0};
    }
    poll(s->fds, n, clock_poll_timeout(s->clock, next_ms(s)));
}

static void loop(struct supervisor *s)
{
    while (!finished(s)) {
        start_what_is_due(s);
        flush_dispatcher(s);
        wait_for_something(s);
        read_signals(s);
        if (child_alive(&s->dispatcher) && (s->fds[1].revents & (POLLIN | POLLHUP)))
            read_dispatcher(s);
        for (int i = 0; i < s->config->concurrency; i++) {
            if (s->fds[2 + i].revents & (POLLIN | POLLHUP))
                read_runner(s, &s->runners[i]);
        }
        reap(s);
        carry_out_stop(s);
        for (int i = 0; i < s->config->concurrency; i++)
            enforce_limits(s, &s->runners[i]);
        enforce_limits(s, &s->dispatcher);
        ping(s);
    }
}

static int open_signals(struct err *e)
{
    static const int wanted[] = {SIGTERM, SIGINT, SIGQUIT, SIGCHLD};
    sigset_t set;
    int fd;

    sigemptyset(&set);
    for (size_t i = 0; i < sizeof(wanted) / sizeof(wanted[0]); i++)
        sigaddset(&set, wanted[i]);
    sigprocmask(SIG_BLOCK, &set, NULL);
    signal(SIGPIPE, SIG_IGN);
    fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    return fd < 0 ? err_sys(e, ERR_OPERATOR, errno, "opening the signal descriptor") : fd;
}

int supervisor_run(const struct worker_config *config)
{
    struct supervisor s = {.config = config, .clock = clock_system(), .pid = getpid()};
    size_t runners = (size_t)config->concurrency;
    struct err e = ERR_INIT;

    log_for_role(&s.log, config->log, "supervisor");
    s.signal_fd = open_signals(&e);
    s.runners = calloc(runners, sizeof(*s.runners));
    s.fds = calloc(runners + 2, sizeof(*s.fds));
    if (s.signal_fd < 0 || !s.runners || !s.fds) {
        if (e.code == ERR_NONE)
            err_nomem(&e);
        log_error(&s.log, "worker not started", "error=\"%s\"", e.text);
        s.status = WORKER_EXIT_FAILED;
        goto out;
    }
    child_init(&s.dispatcher, -1);
    for (int i = 0; i < config->concurrency; i++)
        child_init(&s.runners[i], i);
    proc_title_set(config->title, "celeriac: supervisor [%s]", config->node);
    log_info(&s.log, "worker starting", "node=%s concurrency=%d", config->node,
             config->concurrency);
    loop(&s);
    log_info(&s.log, "worker stopped", "status=%d", s.status);
    supervisor_forget(&s);
    s.runners = NULL;
    s.fds = NULL;
out:
    free(s.runners);
    free(s.fds);
    if (s.signal_fd >= 0)
        close(s.signal_fd);
    return s.status;
}
