/* The births: what a child gets, and what it must not have. */
#include "worker/supervisor.h"

#include "worker/channel.h"
#include "worker/dispatcher.h"
#include "worker/runner.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

void supervisor_forget(struct supervisor *s)
{
    for (int i = 0; i < s->config->concurrency; i++)
        frame_link_release(&s->runners[i].link);
    frame_link_release(&s->dispatcher.link);
    free(s->runners);
    free(s->fds);
}

static void become_dispatcher(struct supervisor *s, int link_fd)
{
    struct dispatcher_config config = {s->config, link_fd, s->generation, s->pid};
    struct err e = ERR_INIT;

    if (proc_child_setup(s->pid, &link_fd, 1, &e) < 0)
        _exit(0);
    supervisor_forget(s);
    exit(dispatcher_main(&config));
}

/* Its predecessor was told when it happened. */
static void tell_failed_slots(struct supervisor *s)
{
    for (int i = 0; i < s->config->concurrency; i++) {
        if (s->runners[i].state == CHILD_FAILED)
            frame_put(&s->dispatcher.link, CHANNEL_FAILED, 0, (uint64_t)i, slice_make(NULL, 0));
    }
}

int spawn_dispatcher(struct supervisor *s)
{
    struct child *c = &s->dispatcher;
    uint64_t wall = (uint64_t)clock_wall_ms(s->clock);
    struct err e = ERR_INIT;
    int pair[2];

    if (proc_socketpair(pair, 3, &e) < 0)
        goto out;
    s->generation = wall > s->generation ? wall : s->generation + 1;
    c->pid = fork();
    if (c->pid == 0)
        become_dispatcher(s, pair[1]);
    close(pair[1]);
    if (c->pid < 0) {
        c->pid = 0;
        close(pair[0]);
        err_sys(&e, ERR_AGAIN, errno, "forking the dispatcher");
        goto out;
    }
    frame_link_release(&c->link);
    frame_link_init(&c->link, pair[0]);
    child_on(c, CHILD_EV_STARTED, supervisor_now_ms(s));
    tell_failed_slots(s);
    s->pings_missed = 0;
    s->ping_at_ms = supervisor_now_ms(s) + SUPERVISOR_PING_MS;
    log_info(&s->log, "dispatcher started", "child=%d generation=%llu", (int)c->pid,
             (unsigned long long)s->generation);
    return 0;
out:
    log_error(&s->log, "dispatcher not started", "error=\"%s\"", e.text);
    c->start_at_ms = supervisor_now_ms(s) + CHILD_RESTART_MAX_MS;
    return -1;
}

static void become_runner(struct supervisor *s, int slot, int jobs_fd, int link_fd)
{
    const struct worker_config *w = s->config;
    int keep[2] = {jobs_fd, link_fd};
    char role[24];
    struct log log;
    struct err e = ERR_INIT;

    if (proc_child_setup(s->pid, keep, 2, &e) < 0 || proc_die_with_parent(s->pid, &e) < 0)
        _exit(0);
    supervisor_forget(s);
    snprintf(role, sizeof(role), "runner-%d", slot + 1);
    log_for_role(&log, w->log, role);
    struct runner_config config = {.slot = slot,
                                   .jobs_fd = jobs_fd,
                                   .link_fd = link_fd,
                                   .node = w->node,
                                   .modules = w->modules,
                                   .modules_len = w->modules_len,
                                   .result_expires_s = w->result_expires_s,
                                   .track_started = w->track_started,
                                   .log = &log,
                                   .title = w->title};
    exit(runner_main(&config));
}

/* The dispatcher gets its end first: if that fails nothing was started, and if the fork fails it
 * sees the end of file. */
int spawn_runner(struct supervisor *s, struct child *c)
{
    int jobs[2] = {-1, -1}, link[2] = {-1, -1};
    struct err e = ERR_INIT;
    int rc = -1;

    if (proc_socketpair(jobs, 2, &e) < 0 || proc_socketpair(link, 1, &e) < 0)
        goto out;
    if (frame_send_fd(&s->dispatcher.link, CHANNEL_RUNNER, (uint64_t)c->slot, jobs[1], &e) < 0)
        goto out;
    c->pid = fork();
    if (c->pid == 0) {
        close(jobs[1]);
        close(link[0]);
        become_runner(s, c->slot, jobs[0], link[1]);
    }
    if (c->pid < 0) {
        c->pid = 0;
        err_sys(&e, ERR_AGAIN, errno, "forking a runner");
        goto out;
    }
    setpgid(c->pid, c->pid);
    frame_link_release(&c->link);
    frame_link_init(&c->link, link[0]);
    link[0] = -1;
    child_on(c, CHILD_EV_STARTED, supervisor_now_ms(s));
    log_debug(&s->log, "runner started", "slot=%d child=%d", c->slot + 1, (int)c->pid);
    rc = 0;
out:
    if (rc < 0) {
        log_error(&s->log, "runner not started", "slot=%d error=\"%s\"", c->slot + 1, e.text);
        c->start_at_ms = supervisor_now_ms(s) + CHILD_RESTART_MIN_MS;
    }
    for (int i = 0; i < 2; i++) {
        if (jobs[i] >= 0)
            close(jobs[i]);
        if (link[i] >= 0)
            close(link[i]);
    }
    return rc;
}
