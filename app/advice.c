#include "app/advice.h"

#include <math.h>

#define CORE_FULL                                                                                  \
    0.85              /* of one core: a process with one thread hardly gets nearer to a whole one */
#define ALL_FULL 0.9  /* of all cores */
#define TAKEN    0.75 /* of the runners' time */

static const char *const words[] = {
    [ADVICE_RUNNER_CPU] = "runner CPU",
    [ADVICE_DISPATCHER_CPU] = "dispatcher CPU",
    [ADVICE_BROKER_CPU] = "broker CPU",
    [ADVICE_ROUND_TRIP] = "round trip",
    [ADVICE_SINK] = "sink",
};

const char *advice_limit_word(enum advice_limit limit)
{
    return words[limit];
}

double advice_rate(const struct advice_step *step)
{
    return step->seconds > 0 ? step->jobs / step->seconds : 0;
}

double advice_busy(const struct advice_step *step)
{
    double there_s = step->seconds * step->runners;

    return there_s > 0 ? fmin(1, step->run_s / there_s) : 0;
}

double advice_disturbed(const struct advice_step *step, const struct advice_machine *m)
{
    return step->seconds > 0 ? step->others_cpu_s / step->seconds / m->cores : 0;
}

static enum advice_limit largest(double runners, double dispatcher, double broker)
{
    if (runners >= dispatcher && runners >= broker)
        return ADVICE_RUNNER_CPU;
    return dispatcher >= broker ? ADVICE_DISPATCHER_CPU : ADVICE_BROKER_CPU;
}

enum advice_limit advice_saturated(const struct advice_step *step, const struct advice_machine *m)
{
    /* In cores. */
    double runners = step->runners_cpu_s / step->seconds;
    double wanted = (step->runners_cpu_s + step->runners_wait_s) / step->seconds;
    double dispatcher = step->dispatcher_cpu_s / step->seconds;
    double broker = fmax(0, step->broker_cpu_s) / step->seconds;

    if (broker >= CORE_FULL * m->broker_cores)
        return ADVICE_BROKER_CPU;
    if (dispatcher >= CORE_FULL)
        return ADVICE_DISPATCHER_CPU;
    if (wanted >= CORE_FULL * fmin(step->runners, m->cores))
        return ADVICE_RUNNER_CPU;
    if (runners + dispatcher + broker >= ALL_FULL * m->cores)
        return largest(runners, dispatcher, broker);
    if (advice_busy(step) >= TAKEN)
        return ADVICE_SINK;
    return ADVICE_ROUND_TRIP;
}

static void fit_law(struct advice *a, const struct advice_step *steps, size_t len,
                    const struct advice_machine *m)
{
    struct scaling_point points[ADVICE_STEPS_MAX];
    size_t n = 0;

    for (size_t i = 0; i < len && n < ADVICE_STEPS_MAX; i++) {
        if ((!m->tasks_wait && steps[i].runners > m->cores) || advice_rate(&steps[i]) <= 0)
            continue;
        points[n++] = (struct scaling_point){steps[i].runners, advice_rate(&steps[i])};
        if (steps[i].runners > a->fit_max)
            a->fit_max = steps[i].runners;
    }
    a->fitted = scaling_fit_best(points, n, &a->fit) == 0;
}

void advice_make(struct advice *a, const struct advice_step *steps, size_t len,
                 const struct advice_machine *m)
{
    const struct advice_step *best = &steps[0];

    *a = (struct advice){.fitted = false};
    fit_law(a, steps, len, m);
    for (size_t i = 1; i < len; i++) {
        if (advice_rate(&steps[i]) > advice_rate(best))
            best = &steps[i];
    }
    a->best_runners = best->runners;
    a->best_rate = advice_rate(best);
    a->saturated = advice_saturated(best, m);
    a->dispatcher_s = best->dispatcher_cpu_s / best->jobs;
    a->broker_s = best->broker_cpu_s < 0 ? -1 : best->broker_cpu_s / best->jobs;
}

static int up(double x)
{
    return x < 1 ? 1 : (int)fmin(1e6, ceil(x - 1e-9));
}

/* Runners of one host that do at least that rate, at most as many as were tried. */
static int runners_for(const struct advice *a, double rate)
{
    int n = a->fitted ? scaling_runners_for(&a->fit, rate, a->best_runners) : 0;

    return n > 0 ? n : a->best_runners;
}

void advice_plan(const struct advice *a, const struct advice_machine *m, double rate,
                 struct advice_plan *plan)
{
    double wanted = rate / ADVICE_HEADROOM;

    *plan = (struct advice_plan){.rate = rate};
    plan->hosts = up(wanted / a->best_rate);
    if (up(wanted * a->dispatcher_s) > plan->hosts)
        plan->hosts = up(wanted * a->dispatcher_s);
    plan->runners_per_host = runners_for(a, wanted / plan->hosts);
    if (a->broker_s < 0)
        return;
    plan->brokers = up(wanted * a->broker_s / m->broker_cores);
    plan->broker_share = rate * a->broker_s / m->broker_cores / plan->brokers;
}
