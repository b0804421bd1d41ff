/* celeriac advise: what limits the rate, and how many runners and hosts a wanted one needs. */
#include "app/command.h"

#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "app/live.h"
#include "app/scratch.h"
#include "app/sweep.h"
#include "base/table.h"
#include "broker/uri.h"
#include "client/cli.h"

#define DISTURBED 0.1 /* of all cores: from here on a person should know */
#define LIVE_S    10  /* announcements of workers are two seconds apart */

static const struct opt_row rows[] = {
    {.name = "rate",
     .letter = 'r',
     .kind = OPT_NUMBER,
     .flags = OPT_LINE_ONLY,
     .arg = "JOBS",
     .fallback = "0",
     .min = 0,
     .max = 1e9,
     .help = "Say how many runners, hosts and brokers serve so many jobs a second."},
    {.name = "runners",
     .letter = 'c',
     .kind = OPT_INT,
     .arg = "N",
     .min = 1,
     .max = 1024,
     .help = "Try up to so many runners; default: two per core."},
    {.name = "task-time",
     .kind = OPT_NUMBER,
     .flags = OPT_LINE_ONLY,
     .arg = "SECONDS",
     .fallback = "0.005",
     .min = 0.0001,
     .max = 60,
     .help = "How long each of the jobs takes; give what yours take."},
    {.name = "wait",
     .kind = OPT_FLAG,
     .flags = OPT_LINE_ONLY,
     .help = "The jobs wait instead of computing, as those that ask other servers do."},
    {.name = "serial",
     .kind = OPT_NUMBER,
     .flags = OPT_LINE_ONLY,
     .arg = "SHARE",
     .fallback = "0",
     .min = 0,
     .max = 1,
     .help = "The share (0 to 1) of each job during which no other can go on."},
    {.name = "seconds",
     .kind = OPT_NUMBER,
     .flags = OPT_LINE_ONLY,
     .arg = "SECONDS",
     .fallback = "2",
     .min = 0.1,
     .max = 3600,
     .help = "How long each step of the sweep takes; how long to look with --live (then 10 by "
             "default)."},
    {.name = "live",
     .kind = OPT_FLAG,
     .flags = OPT_LINE_ONLY,
     .help = "Start nothing: look at the workers that run."},
    {.name = NULL},
};

struct advise {
    const struct command_context *ctx;
    struct sweep sweep;
    struct advice_machine machine;
    double rate; /* wanted, or 0 */
    int runners[ADVICE_STEPS_MAX];
    struct advice_step steps[ADVICE_STEPS_MAX];
    size_t len;
    struct advice advice;
    struct advice_plan plan;
};

/* --- the sweep, as a table --- */

static double cores_of(double cpu_s, const struct advice_step *step)
{
    return 100 * cpu_s / step->seconds;
}

static void add_step(struct table *t, const struct advise *a, const struct advice_step *step)
{
    double speed_up = advice_rate(step) / advice_rate(&a->steps[0]) * a->steps[0].runners;

    table_cellf(t, "%d", step->runners);
    table_cellf(t, "%.0f", advice_rate(step));
    table_cellf(t, "%.2f", speed_up);
    table_cellf(t, "%.0f %%", 100 * speed_up / step->runners);
    table_cellf(t, "%.0f %%", 100 * advice_busy(step));
    table_cellf(t, "%.0f %%", cores_of(step->runners_cpu_s, step));
    table_cellf(t, "%.0f %%", cores_of(step->dispatcher_cpu_s, step));
    if (step->broker_cpu_s < 0)
        table_cell(t, NULL);
    else
        table_cellf(t, "%.0f %%", cores_of(step->broker_cpu_s, step));
    table_cell(t, advice_limit_word(advice_saturated(step, &a->machine)));
}

static void print_steps(const struct advise *a)
{
    static const char *const names[] = {">RUNNERS", ">JOBS/S",     ">SPEED-UP",       ">EFFICIENCY",
                                        ">BUSY",    ">RUNNER CPU", ">DISPATCHER CPU", ">BROKER CPU",
                                        "LIMIT",    NULL};
    struct table t;

    table_init(&t, names);
    for (size_t i = 0; i < a->len; i++)
        add_step(&t, a, &a->steps[i]);
    table_print(&t, stdout, a->ctx->color);
    table_release(&t);
}

static void print_knee(const struct scaling_fit *fit)
{
    double knee = scaling_knee(fit);

    if (isinf(knee))
        printf("knee:          none: nothing in the queue stops more runners from helping\n");
    else if (fit->coherency > 0)
        printf("knee:          %.0f runners; more of them make it slower than %.0f jobs/s\n", knee,
               scaling_limit(fit));
    else
        printf(
            "knee:          %.0f runners, half of the %.0f jobs/s that endlessly many would do\n",
            knee, scaling_limit(fit));
}

static void print_law(const struct advise *a)
{
    const struct scaling_fit *fit = &a->advice.fit;

    if (!a->advice.fitted) {
        printf("serial share:  not known: it takes rates with two different numbers of runners\n");
        return;
    }
    printf("serial share:  %.1f %% of a job (%s, fitted up to %d runners, error %.1f %%)\n",
           100 * fit->serial, fit->coherency > 0 ? "universal scalability law" : "Amdahl's law",
           a->advice.fit_max, 100 * fit->error);
    if (fit->coherency > 0)
        printf("coherency:     %.3f %% of a job for each pair of runners\n", 100 * fit->coherency);
    print_knee(fit);
}

static void print_plan(const struct advise *a)
{
    const struct advice_plan *p = &a->plan;

    printf("%.0f jobs/s need %d host%s like this one with %d runner%s each", p->rate, p->hosts,
           p->hosts == 1 ? "" : "s", p->runners_per_host, p->runners_per_host == 1 ? "" : "s");
    if (p->brokers > 0)
        printf(", and %d broker%s at %.0f %% of its CPU", p->brokers, p->brokers == 1 ? "" : "s",
               100 * p->broker_share);
    printf("; nothing is planned to be busier than %.0f %%\n", 100 * ADVICE_HEADROOM);
    if (strncmp(a->sweep.broker, "sqlite:", 7) == 0 && p->hosts > 1)
        printf("a file serves one host: for %d take Redis or RabbitMQ\n", p->hosts);
}

static double most_disturbed(const struct advise *a)
{
    double most = 0;

    for (size_t i = 0; i < a->len; i++)
        most = fmax(most, advice_disturbed(&a->steps[i], &a->machine));
    return most;
}

static void print_table(const struct advise *a)
{
    double others = most_disturbed(a);

    print_steps(a);
    putchar('\n');
    print_law(a);
    printf("saturated:     %s, at %d runners and %.0f jobs/s\n",
           advice_limit_word(a->advice.saturated), a->advice.best_runners, a->advice.best_rate);
    if (a->rate > 0)
        print_plan(a);
    if (others > DISTURBED)
        printf("Other programs used up to %.0f %% of this machine meanwhile: measure again when it "
               "is quiet.\n",
               100 * others);
}

/* --- and as JSON --- */

static json_t *known(double value)
{
    return value < 0 || isinf(value) || isnan(value) ? json_null() : json_real(value);
}

static json_t *step_json(const struct advise *a, const struct advice_step *step)
{
    return json_pack("{s:i,s:I,s:f,s:f,s:f,s:f,s:f,s:o,s:f,s:s}", "runners", step->runners, "jobs",
                     (json_int_t)step->jobs, "seconds", step->seconds, "rate", advice_rate(step),
                     "busy", advice_busy(step), "runner_cpu", step->runners_cpu_s / step->seconds,
                     "dispatcher_cpu", step->dispatcher_cpu_s / step->seconds, "broker_cpu",
                     known(step->broker_cpu_s / step->seconds), "others",
                     advice_disturbed(step, &a->machine), "limit",
                     advice_limit_word(advice_saturated(step, &a->machine)));
}

static json_t *law_json(const struct advice *a)
{
    const struct scaling_fit *fit = &a->fit;

    if (!a->fitted)
        return json_null();
    return json_pack(
        "{s:s,s:f,s:f,s:f,s:f,s:o,s:o,s:i}", "law", fit->coherency > 0 ? "usl" : "amdahl", "serial",
        fit->serial, "coherency", fit->coherency, "one", fit->one, "error", fit->error, "knee",
        known(scaling_knee(fit)), "limit", known(scaling_limit(fit)), "runners", a->fit_max);
}

static json_t *plan_json(const struct advise *a)
{
    if (a->rate <= 0)
        return json_null();
    return json_pack("{s:f,s:i,s:i,s:o,s:f}", "rate", a->plan.rate, "hosts", a->plan.hosts,
                     "runners_per_host", a->plan.runners_per_host, "brokers",
                     a->plan.brokers > 0 ? json_integer(a->plan.brokers) : json_null(),
                     "broker_share", a->plan.broker_share);
}

static void print_json(const struct advise *a)
{
    json_t *steps = json_array(), *all;

    for (size_t i = 0; i < a->len; i++)
        json_array_append_new(steps, step_json(a, &a->steps[i]));
    all = json_pack("{s:i,s:o,s:o,s:s,s:i,s:f,s:o}", "cores", a->machine.cores, "steps", steps,
                    "fit", law_json(&a->advice), "saturated",
                    advice_limit_word(a->advice.saturated), "best_runners", a->advice.best_runners,
                    "best_rate", a->advice.best_rate, "plan", plan_json(a));
    cli_print_json(all);
    json_decref(all);
}

/* --- running it --- */

static void tell(const struct advise *a, size_t i)
{
    bool tty = a->ctx->err_tty;

    fprintf(stderr, "%sceleriac: advise %zu of %zu: %d runner%s%s", tty ? "\r\033[K" : "", i + 1,
            a->len, a->runners[i], a->runners[i] == 1 ? "" : "s", tty ? "" : "\n");
}

static int run_steps(struct advise *a, struct err *e)
{
    int rc = 0;

    for (size_t i = 0; rc == 0 && i < a->len; i++) {
        tell(a, i);
        rc = sweep_step(&a->sweep, a->runners[i], &a->steps[i], e);
    }
    if (a->ctx->err_tty)
        fputs("\r\033[K", stderr);
    return rc;
}

static int tell_advice(struct advise *a)
{
    advice_make(&a->advice, a->steps, a->len, &a->machine);
    if (a->rate > 0)
        advice_plan(&a->advice, &a->machine, a->rate, &a->plan);
    (a->ctx->output == COMMAND_JSON ? print_json : print_table)(a);
    return EXITCODE_OK;
}

/* On the person's broker, or on a file of our own. */
static int run_sweep(struct advise *a)
{
    char folder[SCRATCH_PATH_SIZE], lock[SCRATCH_PATH_SIZE + 8], file[SCRATCH_PATH_SIZE + 24];
    struct err e = ERR_INIT;
    int rc;

    if (scratch_make(folder, &e) < 0)
        return command_fail(a->ctx, &e);
    snprintf(lock, sizeof(lock), "%s/lock", folder);
    snprintf(file, sizeof(file), "sqlite:%s/queue.db", folder);
    a->sweep.lock = lock;
    if (a->sweep.broker == NULL)
        a->sweep.broker = file;
    rc = run_steps(a, &e);
    scratch_remove(folder);
    rc = rc < 0 ? command_fail(a->ctx, &e) : tell_advice(a);
    a->sweep.lock = NULL; /* the names end here */
    if (a->sweep.broker == file)
        a->sweep.broker = NULL;
    return rc;
}

/* --- what runs already --- */

static void print_live(const struct live *l, double rate)
{
    int runners = live_runners_for(l, rate);

    printf("%d worker%s on %d host%s, %d runners, %.0f %% busy; looked for %.0f s\n", l->workers,
           l->workers == 1 ? "" : "s", l->hosts, l->hosts == 1 ? "" : "s", l->runners,
           100 * l->busy, l->seconds);
    printf("%.0f jobs/s came, %.0f jobs/s ended; %.0f wait, %+.0f a second\n", l->arrivals, l->rate,
           l->waiting, l->growth);
    printf("limit:         %s\n", live_verdict(l));
    if (rate > 0 && runners > 0)
        printf(
            "%.0f jobs/s like these need %d runners (%d now), planned to be at most %.0f %% busy\n",
            rate, runners, l->runners, 100 * ADVICE_HEADROOM);
    else if (rate > 0)
        printf("%.0f jobs/s: nothing ran meanwhile that could tell what they need\n", rate);
}

static void print_live_json(const struct live *l, double rate)
{
    int runners = live_runners_for(l, rate);
    json_t *all = json_pack("{s:f,s:i,s:i,s:i,s:f,s:f,s:f,s:f,s:f,s:s}", "seconds", l->seconds,
                            "workers", l->workers, "hosts", l->hosts, "runners", l->runners, "busy",
                            l->busy, "arrivals", l->arrivals, "rate", l->rate, "waiting",
                            l->waiting, "growth", l->growth, "limit", live_verdict(l));

    json_object_set_new(all, "runners_needed",
                        rate > 0 && runners > 0 ? json_integer(runners) : json_null());
    cli_print_json(all);
    json_decref(all);
}

static int run_live(const struct advise *a, const struct opt_values *v)
{
    struct err e = ERR_INIT;
    struct session s;
    struct live live;
    int status = cli_open(&s, a->ctx, v, true);

    if (status != EXITCODE_OK)
        return status;
    if (live_watch(&live, &s, a->sweep.seconds, &e) < 0)
        status = command_fail(a->ctx, &e);
    else if (a->ctx->output == COMMAND_JSON)
        print_live_json(&live, a->rate);
    else
        print_live(&live, a->rate);
    session_close(&s);
    return status;
}

/* --- the command --- */

/* RabbitMQ uses all cores it has, the others one. */
static int machine_of(struct advise *a, struct err *e)
{
    struct uri uri;

    a->machine = (struct advice_machine){
        .cores = proc_cores(), .broker_cores = 1, .tasks_wait = a->sweep.waits};
    if (a->sweep.broker == NULL)
        return 0;
    if (uri_parse(&uri, a->sweep.broker, e) < 0)
        return -1;
    if (strncmp(uri.scheme, "amqp", 4) == 0)
        a->machine.broker_cores = a->machine.cores;
    uri_release(&uri);
    return 0;
}

static int run_advise(struct command_context *ctx, const struct opt_values *v, int argc,
                      char **argv)
{
    struct advise a = {.ctx = ctx, .rate = opt_number(v, "rate")};
    struct err e = ERR_INIT;
    int most = opt_int(v, "runners") ? (int)opt_int(v, "runners") : 2 * proc_cores();

    (void)argc;
    (void)argv;
    a.sweep = (struct sweep){
        .broker = opt_text(v, "broker"),
        .result_backend = opt_text(v, "result-backend"),
        .task_s = opt_number(v, "task-time"),
        .serial = opt_number(v, "serial"),
        .waits = opt_flag(v, "wait"),
        .seconds = opt_number(v, "seconds"),
        .timeout_ms = (int64_t)(opt_number(v, "timeout") * 1000),
    };
    if (opt_flag(v, "live") && opt_origin(v, "seconds") == OPT_FROM_DEFAULT)
        a.sweep.seconds = LIVE_S;
    if (opt_flag(v, "live"))
        return run_live(&a, v);
    if (machine_of(&a, &e) < 0)
        return command_fail(ctx, &e);
    a.len = sweep_plan(most, a.runners);
    return run_sweep(&a);
}

const struct command command_advise = {
    .name = "advise",
    .summary = "Say what limits the rate of jobs, and what a wanted rate needs.",
    .details =
        "Runs jobs of a known length with one runner, with two and so on, on the broker that is "
        "given or in a file of its own, and fits Amdahl's law and the universal scalability law to "
        "the rates: the serial share of a job, the number of runners beyond which more are not "
        "worth it, and what was used up (runner CPU, dispatcher CPU, broker CPU, the round trips "
        "between them, or a sink that the tasks wait for). CPU is given in per cent of one core; "
        "the broker's is known when its server runs here.\n"
        "The jobs have a queue and a worker of their own and are gone afterwards; the broker's "
        "totals have counted them. --live starts nothing and looks at what runs.",
    .examples = "celeriac advise --rate 2000\n"
                "celeriac advise -b redis://localhost/0 --task-time 0.02 --wait --runners 32\n"
                "celeriac advise -b redis://localhost/0 --live --seconds 30 --rate 500",
    .opts = {rows, cli_broker_rows},
    .run = run_advise,
};
