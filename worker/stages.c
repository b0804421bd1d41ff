#include "worker/stages.h"

#include "worker/policy.h"

void stages_add(struct stages *s, enum stage stage, int64_t us)
{
    if (us >= 0)
        s->mean_us[stage] = policy_mean_us(s->mean_us[stage], us);
}

json_t *stages_json(const struct stages *s)
{
    static const char *const names[STAGES] = {"queued_us", "fetched_us", "dispatched_us", "run_us",
                                              "recorded_us"};
    json_t *all = json_object();

    for (int i = 0; i < STAGES; i++) {
        if (s->mean_us[i] > 0)
            json_object_set_new(all, names[i], json_integer((json_int_t)s->mean_us[i]));
    }
    return all;
}
