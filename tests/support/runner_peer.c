#include "tests/support/runner_peer.h"

#include "tests/support/check.h"

#include "base/isotime.h"
#include "worker/runner.h"

#include <signal.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#define DEADLINE_S 20

static int be_runner(const struct peer_options *options, int jobs_fd, int link_fd)
{
    struct proc_title title = {NULL, 0, NULL};
    struct log log;
    struct runner_config config = {
        .slot = 0,
        .jobs_fd = jobs_fd,
        .link_fd = link_fd,
        .node = "celery@test",
        .modules = options ? options->modules : NULL,
        .modules_len = options ? options->modules_len : 0,
        .track_started = options && options->track_started,
        .log = &log,
        .title = &title,
    };

    log_init(&log, STDERR_FILENO, LOG_LEVEL_CRITICAL, "runner-1");
    return runner_main(&config);
}

static void set_deadline(int fd)
{
    struct timeval t = {.tv_sec = DEADLINE_S};

    assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &t, sizeof(t)), 0);
}

void peer_start(struct runner_peer *p, const struct peer_options *options)
{
    struct err e = ERR_INIT;
    int jobs[2], link[2];

    *p = (struct runner_peer){.ids = UUID_SOURCE_INIT};
    CHECK_OK(proc_socketpair(jobs, 0, &e));
    CHECK_OK(proc_socketpair(link, 0, &e));
    p->pid = fork();
    assert_true(p->pid >= 0);
    if (p->pid == 0) {
        close(jobs[0]);
        close(link[0]);
        _exit(be_runner(options, jobs[1], link[1]));
    }
    close(jobs[1]);
    close(link[1]);
    set_deadline(jobs[0]);
    set_deadline(link[0]);
    frame_link_init(&p->jobs, jobs[0]);
    frame_link_init(&p->link, link[0]);
}

int peer_wait_dead(struct runner_peer *p)
{
    int status = 0;

    assert_int_equal(waitpid(p->pid, &status, 0), p->pid);
    frame_link_release(&p->jobs);
    frame_link_release(&p->link);
    return status;
}

int peer_stop(struct runner_peer *p)
{
    shutdown(p->jobs.fd, SHUT_RDWR);
    return peer_wait_dead(p);
}

struct message_spec peer_spec(struct runner_peer *p, const char *task, json_t *args, json_t *kwargs)
{
    uuid_next(&p->ids, p->id);
    return (struct message_spec){
        .task = task,
        .id = p->id,
        .args = args,
        .kwargs = kwargs,
        .group_index = -1,
        .now_ms = isotime_now_us() / 1000,
    };
}

void peer_run_envelope(struct runner_peer *p, struct slice envelope, bool measured)
{
    struct channel_run run = {
        .delivered_us = isotime_now_us(),
        .fence = 77,
        .attempt = 2,
        .measured = measured,
        .soft_limit_s = 1000,
        .hard_limit_s = 2000,
        .envelope = envelope,
    };
    struct err e = ERR_INIT;

    channel_put_run(&p->jobs, ++p->last_job, &run);
    assert_int_equal(frame_flush(&p->jobs, &e), FRAME_OK);
}

void peer_rest(struct runner_peer *p)
{
    struct err e = ERR_INIT;

    frame_put(&p->jobs, CHANNEL_REST, 0, 0, slice_make(NULL, 0));
    assert_int_equal(frame_flush(&p->jobs, &e), FRAME_OK);
}

void peer_run(struct runner_peer *p, const struct message_spec *spec, bool measured)
{
    struct buf envelope = BUF_INIT;
    struct err e = ERR_INIT;

    CHECK_OK(message_encode(&envelope, spec, &p->ids, &e));
    peer_run_envelope(p, buf_slice(&envelope), measured);
    buf_release(&envelope);
}

void peer_repeat(struct runner_peer *p, const struct message_spec *spec, const char *first,
                 const char *document)
{
    struct channel_run run = {.delivered_us = isotime_now_us(),
                              .attempt = 1,
                              .first_id = slice_of(first),
                              .first = slice_of(document)};
    struct buf envelope = BUF_INIT;
    struct err e = ERR_INIT;

    CHECK_OK(message_encode(&envelope, spec, &p->ids, &e));
    run.envelope = buf_slice(&envelope);
    channel_put_run(&p->jobs, ++p->last_job, &run);
    assert_int_equal(frame_flush(&p->jobs, &e), FRAME_OK);
    buf_release(&envelope);
}

static struct frame take_from(struct frame_link *link, enum channel_type type)
{
    struct err e = ERR_INIT;
    struct frame f;
    enum frame_status status;

    while ((status = frame_take(link, &f, &e)) == FRAME_EMPTY) {
        status = frame_fill(link, &e);
        if (status != FRAME_OK)
            fail_msg("no frame of type %d: status %d %s", type, status, e.text);
    }
    assert_int_equal(status, FRAME_OK);
    assert_int_equal(f.type, type);
    return f;
}

struct frame peer_take(struct runner_peer *p, enum channel_type type)
{
    return take_from(type == CHANNEL_READY ? &p->link : &p->jobs, type);
}

struct channel_verdict peer_verdict(struct runner_peer *p, uint64_t job)
{
    struct frame f = peer_take(p, CHANNEL_VERDICT);
    struct channel_verdict v;
    struct err e = ERR_INIT;

    assert_int_equal(f.id, job);
    CHECK_OK(channel_get_verdict(f.payload, &v, &e));
    return v;
}

json_t *peer_document(const struct channel_verdict *v)
{
    json_t *doc = json_loadb(v->result.ptr ? v->result.ptr : "", v->result.len, 0, NULL);

    assert_non_null(doc);
    return doc;
}

void peer_followup(struct slice *rest, struct channel_followup *f, struct message *m)
{
    struct err e = ERR_INIT;

    *m = (struct message){0};
    assert_int_equal(channel_next_followup(rest, f), 1);
    CHECK_OK(message_parse(m, f->envelope, &e));
    CHECK_OK(message_open_body(m, &e));
}
