#include "worker/policy.h"

enum policy_delivery policy_on_delivery(const struct message *m, const struct task_options *options,
                                        int64_t wall_ms)
{
    if (m->expires_ms && m->expires_ms <= wall_ms)
        return POLICY_EXPIRE;
    if (m->eta_ms > wall_ms)
        return POLICY_PARK;
    return options ? POLICY_RUN : POLICY_UNKNOWN;
}

int64_t policy_rate_ms(struct task_options *options, int64_t wall_ms)
{
    int64_t now_us = wall_ms * 1000;

    if (options->rate_us <= 0)
        return 0;
    if (options->next_run_us <= now_us) {
        /* A clock that stood still, or a long pause, is no credit for a burst. */
        bool late = options->next_run_us + options->rate_us < now_us;

        options->next_run_us = (late ? now_us : options->next_run_us) + options->rate_us;
        return 0;
    }
    if (options->next_park_us < options->next_run_us)
        options->next_park_us = options->next_run_us;
    now_us = options->next_park_us;
    options->next_park_us += options->rate_us;
    return now_us / 1000 + 1;
}

bool policy_bury_lost(int64_t lost, int lost_max)
{
    return lost >= lost_max;
}

int64_t policy_hold_ms(int runners, int64_t mean_us, size_t bytes)
{
    bool another = runners * POLICY_HOLD_MS * INT64_C(1000) >= mean_us;

    if (!another || mean_us < POLICY_HOLD_FROM_US || bytes > POLICY_HOLD_BYTES)
        return 0;
    return POLICY_HOLD_MS;
}

int64_t policy_gather_ms(int runners, int64_t busy_us)
{
    int64_t margin_us = 250 + INT64_C(25) * runners; /* until the last of them is lent its next */

    return busy_us > margin_us ? (busy_us - margin_us) / 1000 : 0;
}

int64_t policy_wait_ms(int64_t waits)
{
    int64_t ms = 250;

    while (waits-- > 0 && ms < 5000)
        ms *= 2;
    return ms < 5000 ? ms : 5000;
}

double policy_limit_s(double message_s, double row_s, double worker_s)
{
    if (message_s > 0)
        return message_s;
    return row_s > 0 ? row_s : worker_s;
}

bool policy_is_short(const struct task_options *options)
{
    return options->mean_us > 0 && options->mean_us < POLICY_SHORT_US;
}

static int clamp(int64_t value, int64_t low, int64_t high)
{
    return (int)(value < low ? low : value > high ? high : value);
}

int policy_depth(const struct task_options *options)
{
    bool steady = options->mean_us < POLICY_AHEAD_US && options->peak_us < POLICY_STEADY_US;

    if (options->ack_early || options->mean_us <= 0 || !(steady || policy_is_short(options)))
        return 1;
    return clamp(POLICY_LENT_US / options->mean_us, 2, POLICY_DEPTH_MAX);
}

int policy_grain(const struct task_options *options)
{
    if (!policy_is_short(options))
        return 1;
    return clamp(POLICY_GRAIN_US / options->mean_us, 1, POLICY_DEPTH_MAX);
}

bool policy_may_join(const struct task_options *options, int runners, int lent, int behind)
{
    return policy_grain(options) > 1 || behind >= runners * lent;
}

int policy_window(int runners, int64_t mean_us)
{
    int64_t each = mean_us > 0 ? POLICY_WINDOW_US / mean_us : 1;

    return runners * (1 + clamp(each, 1, 4 * POLICY_DEPTH_MAX));
}

int policy_wanted(int runners, int64_t mean_us, int held)
{
    bool enough = held > 4 * runners && held * mean_us > runners * POLICY_WINDOW_US / 2;
    int room = policy_window(runners, mean_us) - held;

    return room > 0 && !enough ? room : 0;
}

int64_t policy_mean_us(int64_t mean_us, int64_t run_us)
{
    if (run_us < 1)
        run_us = 1;
    if (mean_us <= 0)
        return run_us;
    mean_us += (run_us - mean_us) / 8;
    return mean_us < 1 ? 1 : mean_us;
}

void policy_ran(struct task_options *options, int64_t run_us)
{
    bool first = options->mean_us <= 0;

    options->mean_us = policy_mean_us(options->mean_us, run_us);
    options->peak_us -= options->peak_us / 16;
    if (run_us > options->peak_us)
        options->peak_us = run_us;
    options->low_us += options->low_us / 64 + 1;
    if (first || run_us < options->low_us)
        options->low_us = run_us;
}
