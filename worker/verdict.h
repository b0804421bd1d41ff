/*
 * verdict.h - what a finished call means for the queue.
 *
 * Purpose: turn the record of a call into the channel's verdict: outcome, result document, and the
 * messages that follow.
 * Model: one maker per decision. On success the callbacks and the next step of the chain follow, on
 * failure the errbacks, on retry the same job's next attempt; messages that the task spawned come
 * with every verdict that is recorded. All of them become visible with the verdict, or none.
 * Invariants: the document is Celery's; a callback that cannot be sent makes the job a FAILURE, as
 * in Celery; where results are ignored no document is made. Ownership: a verdict owns its buffers
 * and is used for one call after another; `out` borrows from them. Fork rule: runner process only.
 */
#ifndef WORKER_VERDICT_H
#define WORKER_VERDICT_H

#include "worker/call.h"

struct verdict {
    struct channel_verdict out;
    struct buf result;
    struct buf followups;
    uint32_t followups_len;
};

void verdict_init(struct verdict *v);
void verdict_release(struct verdict *v);

/* times: run_us and what is known beside it. expires_s: the worker's default for results. */
void verdict_make(struct verdict *v, struct call *call, const struct result_times *times,
                  double expires_s);

/* For a message whose body cannot be opened: to be buried with the cause and a FAILURE. */
void verdict_make_poison(struct verdict *v, struct call *call, const char *cause);

#endif
