#include "worker/runner.h"

#include "base/clock.h"
#include "base/isotime.h"
#include "worker/call.h"
#include "worker/cancel.h"
#include "worker/channel.h"
#include "worker/verdict.h"

#include <fcntl.h>
#include <malloc.h>
#include <sys/resource.h>
#include <unistd.h>

#define EXIT_NO_MODULE 70
#define SHORT_US       1000 /* R8: jobs that take no longer may share a write (CHANNEL_SHARE_US) */
#define IDLE_BUFFER    ((size_t)1 << 20)
#define REST_BUFFER    4096

struct runner {
    const struct runner_config *config;
    struct registry registry;
    struct frame_link jobs;
    struct uuid_source ids;
    struct call_env env;
    struct verdict verdict;
    int64_t batch_since_ns; /* first verdict that is not yet written; 0: none */
    int64_t max_rss_kib;
    struct buf title; /* of the process while it has nothing to do */
    bool titled;
};

/* One job between its frame and its verdict. */
struct job {
    uint64_t number;
    struct channel_run run;
    struct message message;
    struct call call;
    struct registry_entry *entry;
    struct result_times times;
};

static bool flush(struct runner *r, struct err *e)
{
    r->batch_since_ns = 0;
    if (!frame_pending(&r->jobs))
        return true;
    return frame_flush(&r->jobs, e) == FRAME_OK;
}

static void title_idle(struct runner *r)
{
    const struct slice title = buf_slice(&r->title);

    if (r->titled && r->config->title)
        proc_title_join(r->config->title, &title, 1);
    r->titled = false;
}

static void title_job(struct runner *r, const struct message *m)
{
    const struct slice parts[] = {buf_slice(&r->title), slice_of(" "),   slice_of(m->task),
                                  slice_of("("),        slice_of(m->id), slice_of(")")};

    if (r->config->title)
        proc_title_join(r->config->title, parts, sizeof(parts) / sizeof(parts[0]));
    r->titled = true;
}

static int64_t cpu_us(const struct timeval *t)
{
    return (int64_t)t->tv_sec * 1000000 + t->tv_usec;
}

static void usage_between(struct result_times *t, const struct rusage *a, const struct rusage *b)
{
    t->user_us = cpu_us(&b->ru_utime) - cpu_us(&a->ru_utime);
    t->system_us = cpu_us(&b->ru_stime) - cpu_us(&a->ru_stime);
    t->voluntary_switches = b->ru_nvcsw - a->ru_nvcsw;
    t->involuntary_switches = b->ru_nivcsw - a->ru_nivcsw;
    t->max_rss_kib = b->ru_maxrss;
}

/* Runs user code, measured. */
static void run_task(struct runner *r, struct job *j)
{
    struct rusage before = {0}, after = {0};
    const bool measured = j->run.measured;
    int64_t start_ns;
    int returned;

    if (measured)
        getrusage(RUSAGE_SELF, &before);
    start_ns = clock_nano();
    returned = j->entry->row.run(&j->call.base);
    call_conclude(&j->call, returned, cancel_raised());
    j->times.run_us = (clock_nano() - start_ns) / 1000;
    if (measured) {
        getrusage(RUSAGE_SELF, &after);
        usage_between(&j->times, &before, &after);
        r->max_rss_kib = after.ru_maxrss;
    }
    j->entry->run_us = (3 * j->entry->run_us + j->times.run_us) / 4 + 1;
}

static void note_started(struct runner *r, struct job *j)
{
    int row = j->entry->row.track_started;
    json_t *who;

    if (row == CELERIAC_NO || (row == CELERIAC_UNSET && !r->config->track_started))
        return;
    if (j->message.ignore_result == 1)
        return;
    who = json_pack("{s:i, s:s}", "pid", r->env.pid, "hostname", r->env.node);
    call_note(&j->call, "STARTED", who);
    json_decref(who);
}

static void fail_unregistered(struct job *j)
{
    call_fail(&j->call, "NotRegistered", "celery.exceptions", json_string(j->message.task), NULL);
}

static void fail_init(struct job *j)
{
    call_fail(&j->call, "RuntimeError", NULL,
              json_sprintf("init of task %s failed in this runner", j->message.task), NULL);
}

static bool is_expired(const struct job *j)
{
    return j->message.expires_ms && isotime_now_us() / 1000 >= j->message.expires_ms;
}

static void warn_of_chord(const struct runner *r, const struct message *m)
{
    if (json_is_object(json_object_get(m->embed, "chord")))
        log_warn(r->env.log, "chord not counted",
                 "task=%s id=%s cause=\"chords are not implemented: the body will not be sent\"",
                 m->task, m->id);
}

/* Everything up to user code; what stands in the way becomes the verdict. */
static void execute(struct runner *r, struct job *j)
{
    if (is_expired(j)) {
        j->call.record.decision = CALL_REVOKED;
    } else if (!j->entry) {
        fail_unregistered(j);
    } else if (j->run.first_id.ptr) {
        call_repeat(&j->call);
    } else if (registry_start(j->entry) < 0) {
        fail_init(j);
    } else if (call_bind(&j->call) == 0) {
        warn_of_chord(r, &j->message);
        /* Before anybody can know that it started, so that no signal meant for it is lost. */
        cancel_lower();
        note_started(r, j);
        run_task(r, j);
    }
}

/* Clocks of two hosts differ, and are set; a wait is never negative. */
static int64_t wait_us(int64_t from_us, int64_t to_us)
{
    return to_us > from_us ? to_us - from_us : 0;
}

static void count_waits(struct job *j)
{
    int64_t now_us = isotime_now_us();

    j->times = (struct result_times)RESULT_TIMES_INIT;
    j->times.run_us = 0;
    if (j->message.sent_ms)
        j->times.queued_us = wait_us(j->message.sent_ms * 1000, j->run.delivered_us);
    j->times.fetched_us = wait_us(j->run.delivered_us, j->run.lent_us);
    j->times.dispatched_us = wait_us(j->run.lent_us, now_us);
}

/* The supervisor takes the first job without a verdict for the one that runs: where it may have to
 * end that one, nothing else is kept back, neither before it nor behind it. */
static bool has_limit(const struct job *j)
{
    return j->run.soft_limit_s > 0 || j->run.hard_limit_s > 0;
}

/* Verdicts that wait are written before a job that may take long (R8). */
static bool make_way(struct runner *r, const struct job *j, struct err *e)
{
    bool is_short =
        !j->run.measured && j->entry && j->entry->run_us && j->entry->run_us <= SHORT_US;

    return (is_short && !has_limit(j)) || flush(r, e);
}

static bool put_verdict(struct runner *r, const struct job *j, struct err *e)
{
    int64_t now_ns = clock_nano();

    if (!r->batch_since_ns) {
        struct rusage usage;

        r->batch_since_ns = now_ns;
        if (!j->run.measured && getrusage(RUSAGE_SELF, &usage) == 0)
            r->max_rss_kib = usage.ru_maxrss;
    }
    r->verdict.out.max_rss_kib = r->max_rss_kib;
    channel_put_verdict(&r->jobs, j->number, &r->verdict.out);
    return (now_ns - r->batch_since_ns < CHANNEL_SHARE_US * 1000 && !has_limit(j)) || flush(r, e);
}

/* The dispatcher parses before it lends, so this is a message that only the body spoils, or a bug.
 */
static void refuse_poison(struct runner *r, struct job *j, const struct err *why)
{
    call_init(&j->call, &r->env, &j->message, NULL, &j->run, j->number);
    verdict_make_poison(&r->verdict, &j->call, why->text);
}

static bool run_job(struct runner *r, const struct frame *f, struct err *e)
{
    struct job j = {.number = f->id};
    struct err why = ERR_INIT;
    bool ok = false;

    if (channel_get_run(f->payload, &j.run, e) < 0)
        return false;
    if (message_skim(&j.message, j.run.envelope, &why) < 0 ||
        message_open_body(&j.message, &why) < 0) {
        refuse_poison(r, &j, &why);
    } else {
        j.entry = registry_find(&r->registry, j.message.task);
        if (!make_way(r, &j, e))
            goto out;
        title_job(r, &j.message);
        count_waits(&j);
        call_init(&j.call, &r->env, &j.message, j.entry, &j.run, j.number);
        execute(r, &j);
        verdict_make(&r->verdict, &j.call, &j.times, r->config->result_expires_s);
    }
    ok = put_verdict(r, &j, e);
out:
    call_release(&j.call);
    message_release(&j.message);
    return ok;
}

/* What a burst of jobs needed, theirs and ours. */
static void rest(struct runner *r)
{
    frame_link_shrink(&r->jobs, REST_BUFFER);
    malloc_trim(0);
}

static bool wait_for_input(struct runner *r, struct err *e)
{
    if (!flush(r, e))
        return false;
    title_idle(r);
    /* Memory that one large job needed. */
    frame_link_shrink(&r->jobs, IDLE_BUFFER);
    return frame_fill(&r->jobs, e) == FRAME_OK;
}

/* Until the dispatcher's end is closed, or something is beyond repair (then e holds why). */
static void loop(struct runner *r, struct err *e)
{
    bool going = true;

    while (going) {
        struct frame f;
        enum frame_status status = frame_take(&r->jobs, &f, e);

        if (status == FRAME_EMPTY)
            going = wait_for_input(r, e);
        else if (status != FRAME_OK)
            going = false;
        else if (f.type == CHANNEL_RUN)
            going = run_job(r, &f, e);
        else if (f.type == CHANNEL_REST)
            rest(r);
        else
            going = err_set(e, ERR_BUG, "a frame of type %d came to a runner", f.type) == 0;
    }
}

static int load_tasks(struct runner *r, struct err *e)
{
    if (registry_init(&r->registry, e) < 0)
        return -1;
    for (size_t i = 0; i < r->config->modules_len; i++) {
        if (registry_load(&r->registry, r->config->modules[i], e) < 0)
            return -1;
    }
    return 0;
}

/* Says what can be run here, then that it can be. */
static int announce(struct runner *r, struct err *e)
{
    struct frame_link link;
    struct buf rows = BUF_INIT;
    int rc = registry_describe(&r->registry, &rows, e);

    if (rc == 0) {
        frame_put(&r->jobs, CHANNEL_ROWS, 0, 0, buf_slice(&rows));
        rc = flush(r, e) ? 0 : -1;
    }
    buf_release(&rows);
    if (rc < 0)
        return -1;
    frame_link_init(&link, r->config->link_fd);
    frame_put(&link, CHANNEL_READY, 0, 0, slice_make(NULL, 0));
    rc = frame_flush(&link, e) == FRAME_OK ? 0 : -1;
    buf_release(&link.out); /* the descriptor stays open: its end tells the supervisor of ours */
    return rc;
}

/* Nobody may wait for a terminal in a worker. */
static void close_input(void)
{
    int null = open("/dev/null", O_RDONLY | O_CLOEXEC);

    if (null < 0)
        return;
    dup2(null, STDIN_FILENO);
    if (null != STDIN_FILENO)
        close(null);
}

static int serve(struct runner *r)
{
    struct err e = ERR_INIT;

    if (load_tasks(r, &e) < 0) {
        log_error(r->env.log, "tasks can not be loaded", "cause=\"%s\"", e.text);
        return EXIT_NO_MODULE;
    }
    if (announce(r, &e) == 0)
        loop(r, &e);
    registry_exit(&r->registry);
    if (e.code == ERR_NONE)
        return 0;
    log_error(r->env.log, "runner leaves", "cause=\"%s\"", e.text);
    return EXIT_NO_MODULE + 1;
}

int runner_main(const struct runner_config *config)
{
    struct runner r = {.config = config, .ids = UUID_SOURCE_INIT, .titled = true};
    int status;

    close_input();
    cancel_install();
    frame_link_init(&r.jobs, config->jobs_fd);
    verdict_init(&r.verdict);
    r.env = (struct call_env){(int)getpid(), config->node, config->log, &r.jobs, &r.ids};
    buf_addf(&r.title, "celeriac: runner %d [%s]", config->slot + 1, config->node);
    title_idle(&r);
    status = serve(&r);
    buf_release(&r.title);
    verdict_release(&r.verdict);
    registry_release(&r.registry);
    frame_link_release(&r.jobs);
    close(config->link_fd);
    return status;
}
