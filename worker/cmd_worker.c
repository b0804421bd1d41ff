#include "worker/command.h"

#include "broker/uri.h"
#include "worker/supervisor.h"

#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define CONCURRENCY_MAX 1024

static const struct opt_row worker_rows[] = {
    {.name = "queues",
     .letter = 'Q',
     .kind = OPT_LIST,
     .arg = "Q1,Q2",
     .fallback = "celery",
     .help = "Take jobs from these queues, in turn."},
    {.name = "concurrency",
     .letter = 'c',
     .kind = OPT_INT,
     .arg = "N|auto",
     .fallback = "auto",
     .choices = "auto",
     .min = 1,
     .max = CONCURRENCY_MAX,
     .help = "How many runner processes; auto is one per core that this process may use."},
    {.name = "hostname",
     .letter = 'n',
     .kind = OPT_TEXT,
     .also = "name",
     .arg = "NAME",
     .help =
         "Name of this worker, NAME or NAME@HOST; %h is the host name, %d the domain, %n the name "
         "alone. Default: celery@%h."},
    {.name = "soft-time-limit",
     .kind = OPT_NUMBER,
     .arg = "SECONDS",
     .fallback = "0",
     .min = 0,
     .max = 1e9,
     .help =
         "Ask a task to stop after this time; 0 is never. A message's or a task's own limit goes "
         "first."},
    {.name = "time-limit",
     .kind = OPT_NUMBER,
     .arg = "SECONDS",
     .fallback = "0",
     .min = 0,
     .max = 1e9,
     .help = "Kill a task's runner after this time; 0 is never."},
    {.name = "max-tasks-per-child",
     .kind = OPT_INT,
     .arg = "N",
     .fallback = "0",
     .min = 0,
     .max = 1e15,
     .help = "Replace a runner after it has run this many tasks; 0 is never."},
    {.name = "max-memory-per-child",
     .kind = OPT_INT,
     .arg = "KIB",
     .fallback = "0",
     .min = 0,
     .max = 1e15,
     .help = "Replace a runner after a task if its memory has been larger than this; 0 is never."},
    {.name = "lease",
     .kind = OPT_NUMBER,
     .arg = "SECONDS",
     .fallback = "30",
     .min = 0.1,
     .max = 86400,
     .help = "How long a job belongs to a worker that says nothing; renewed while it lives."},
    {.name = "lost-max",
     .kind = OPT_INT,
     .arg = "N",
     .fallback = "5",
     .min = 1,
     .max = 1000,
     .help = "Move a job to the dead letters after this many runners died of it."},
    {.name = "result-expires",
     .kind = OPT_NUMBER,
     .arg = "SECONDS",
     .fallback = "86400",
     .min = -1,
     .max = 1e9,
     .help = "How long results are kept; -1 is for ever."},
    {.name = "connect-timeout",
     .kind = OPT_NUMBER,
     .arg = "SECONDS",
     .fallback = "10",
     .min = 0,
     .max = 1e6,
     .help =
         "How long the broker may be out of reach at the start; 0 is for ever. Once reached, it is "
         "waited for without end."},
    {.name = "track-started", .kind = OPT_FLAG, .help = "Store state STARTED when a task begins."},
    {.name = "trace-broker",
     .kind = OPT_FLAG,
     .help = "Log every broker operation (with --loglevel debug)."},
    {.name = NULL},
};

/* "%h", "%d" and "%n" as Celery expands them. */
static void expand(const char *from, const char *host, char *to, size_t size)
{
    const char *dot = strchr(host, '.');
    size_t len = 0;

    for (; *from && len + 1 < size; from++) {
        const char *part = NULL;
        int n = -1;

        if (from[0] == '%' && from[1] == 'h')
            part = host;
        else if (from[0] == '%' && from[1] == 'd')
            part = dot ? dot + 1 : "";
        else if (from[0] == '%' && from[1] == 'n')
            n = dot ? (int)(dot - host) : (int)strlen(host);
        if (!part && n < 0) {
            to[len++] = *from;
            continue;
        }
        from++;
        len += (size_t)snprintf(to + len, size - len, "%.*s", n < 0 ? 255 : n, part ? part : host);
        if (len >= size)
            len = size - 1;
    }
    to[len] = '\0';
}

static void node_name(const char *given, char *to, size_t size)
{
    char host[256] = "localhost";
    char whole[512];

    gethostname(host, sizeof(host) - 1);
    if (!given)
        given = "celery";
    snprintf(whole, sizeof(whole), "%s%s", given, strchr(given, '@') ? "" : "@%h");
    expand(whole, host, to, size);
}

/* It stands in every result, which is JSON. */
static int check_node(const char *node, struct err *e)
{
    json_t *text = json_string(node);

    json_decref(text);
    return text ? 0
                : err_set(e, ERR_USAGE,
                          "the worker's name is not UTF-8 text: give another by --hostname");
}

/* The dispatcher would say so later, but a person wants to know now. */
static int check_modules(const struct worker_config *w, struct err *e)
{
    for (size_t i = 0; i < w->modules_len; i++) {
        if (access(w->modules[i], R_OK) < 0) {
            int why = errno;

            return err_sys(e, why == ENOENT ? ERR_NOTFOUND : ERR_OPERATOR, why,
                           "cannot load the task module '%s'", w->modules[i]);
        }
    }
    return 0;
}

static int check_source(const struct worker_config *w, struct err *e)
{
    struct uri uri;

    if (w->queues_len == 0)
        return err_set(e, ERR_USAGE, "--queues names no queue: leave it out for 'celery'");
    if (!w->broker_url)
        return err_set(e, ERR_USAGE, COMMAND_NO_BROKER);
    if (uri_parse(&uri, w->broker_url, e) < 0)
        return -1;
    if (strcmp(uri.scheme, "memory") == 0)
        err_set(e, ERR_USAGE,
                "a worker cannot use '%s': memory lives in one process; use sqlite:PATH",
                uri.masked);
    uri_release(&uri);
    return e->code == ERR_NONE ? 0 : -1;
}

static int concurrency_of(const struct opt_values *v)
{
    const char *text = opt_text(v, "concurrency");

    return strcmp(text, "auto") == 0 ? proc_cores() : (int)opt_int(v, "concurrency");
}

static int run_worker(struct command_context *ctx, const struct opt_values *v, int argc,
                      char **argv)
{
    char node[512];
    struct err e = ERR_INIT;
    struct worker_config w = {
        .broker_url = opt_text(v, "broker"),
        .result_url = opt_text(v, "result-backend"),
        .node = node,
        .concurrency = concurrency_of(v),
        .soft_limit_s = opt_number(v, "soft-time-limit"),
        .hard_limit_s = opt_number(v, "time-limit"),
        .max_tasks = opt_int(v, "max-tasks-per-child"),
        .max_memory_kib = opt_int(v, "max-memory-per-child"),
        .lease_ms = (int64_t)(opt_number(v, "lease") * 1000),
        .result_expires_s = opt_number(v, "result-expires"),
        .connect_timeout_ms = (int64_t)(opt_number(v, "connect-timeout") * 1000),
        .lost_max = (int)opt_int(v, "lost-max"),
        .track_started = opt_flag(v, "track-started"),
        .trace = opt_flag(v, "trace-broker"),
        .log = ctx->log,
        .title = ctx->title,
    };

    (void)argc;
    (void)argv;
    node_name(opt_text(v, "hostname"), node, sizeof(node));
    w.queues = opt_list(v, "queues", &w.queues_len);
    w.modules = opt_list(v, "app", &w.modules_len);
    if (check_node(node, &e) < 0 || check_source(&w, &e) < 0 || check_modules(&w, &e) < 0)
        return command_fail(ctx, &e);
    return supervisor_run(&w);
}

const struct command command_worker = {
    .name = "worker",
    .summary = "Run tasks: a supervisor, a dispatcher and one runner process per core.",
    .details =
        "TERM or INT stops warmly: jobs that have not begun are handed back, those that run are "
        "finished. A second one, or QUIT, stops at once and hands everything back.\n"
        "Exit status 8 means that its processes kept dying.",
    .examples = "celeriac worker -b redis://localhost/0 -Q mail,default -c 4\n"
                "celeriac worker -b sqlite:queue.db -A ./mytasks.so",
    .opts = {worker_rows},
    .run = run_worker,
};
