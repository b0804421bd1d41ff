/*
 * stages.h - how long jobs take in each stage of their way.
 *
 * Purpose: say where the time goes: `celeriac status` shows a moving mean of each stage for each
 * worker, and a result holds the same times of its own job (all but the last, which comes after
 * it). Model: five stages that follow each other without a gap between publishing and the record:
 *
 *     queued      published -> delivered to the dispatcher   (clocks of two hosts)
 *     fetched     delivered -> written to a runner
 *     dispatched  written -> picked up by the runner
 *     run         in user code
 *     recorded    verdict -> confirmed by the broker
 *
 * Each mean moves by an eighth of what is new, so it tells of the last few dozen jobs. Times are
 * microseconds; what is negative was not known and counts for nothing. Fork rule: none.
 */
#ifndef WORKER_STAGES_H
#define WORKER_STAGES_H

#include <jansson.h>
#include <stdint.h>

enum stage { STAGE_QUEUED, STAGE_FETCHED, STAGE_DISPATCHED, STAGE_RUN, STAGE_RECORDED, STAGES };

struct stages {
    int64_t mean_us[STAGES]; /* 0: nothing yet; else at least 1 */
};

void stages_add(struct stages *s, enum stage stage, int64_t us);

/* {"queued_us": 12, ...} of those that are known; a new reference, or NULL. */
json_t *stages_json(const struct stages *s);

#endif
