/* What a doctor says of the broker in memory: little can be wrong with it, and little holds. */
#include "broker/memory_store.h"

void memory_doctor(struct memory *broker, const struct broker_ask *ask, struct buf *out)
{
    size_t queues = 0;

    (void)ask;
    for (const struct memory_queue *q = broker->store->queues; q; q = q->next)
        queues++;
    answer_begin(out);
    answer_check(
        out, "storage", ANSWER_WARN,
        "for tests and for one process: use sqlite:, redis: or amqp: for work that matters",
        "memory of this process, gone when it ends");
    answer_check(out, "queues", ANSWER_OK, NULL, "%zu", queues);
    answer_end(out);
}
