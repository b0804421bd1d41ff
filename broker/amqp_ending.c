/* What is said about a run: its record in the results stream, and the reply to who sent the job. */
#include "broker/amqp.h"
#include "broker/result.h"

#include <string.h>

struct slice amqp_job_id(const struct amqp_held *h, struct slice result_id)
{
    return h->id.ptr ? h->id : result_id;
}

int amqp_add_record(struct amqp_broker *b, struct out_step *step,
                    const struct amqp_result_record *record, struct err *e)
{
    struct buf bytes = BUF_INIT;
    struct out_spec spec = {.routing_key = slice_of(AMQP_RESULTS_STREAM), .persistent = true};
    int rc;

    amqp_result_write(&bytes, record);
    spec.body = buf_slice(&bytes);
    rc = bytes.failed ? err_nomem(e) : out_add(b, step, &spec, e);
    buf_release(&bytes);
    return rc;
}

/* A reply goes to the queue that the sender named, which is the sender's: it is never declared
 * here. Direct reply-to is always returned when mandatory, although it arrives. */
static int add_reply(struct amqp_broker *b, struct out_step *step, const struct amqp_held *h,
                     struct slice doc, struct err *e)
{
    static const char direct[] = "amq.rabbitmq.reply-to.";
    struct out_spec spec = {.routing_key = h->reply_to,
                            .content_type = "application/json",
                            .correlation_id = h->correlation_id.len ? h->correlation_id : h->id,
                            .body = doc};

    if (h->reply_to.len == 0 || doc.len == 0)
        return 0;
    spec.mandatory = h->reply_to.len < sizeof(direct) - 1 ||
                     memcmp(h->reply_to.ptr, direct, sizeof(direct) - 1) != 0;
    return out_add(b, step, &spec, e);
}

int amqp_add_result(struct amqp_broker *b, struct out_step *step, const struct amqp_held *h,
                    enum amqp_result_outcome outcome, struct slice id, struct slice doc,
                    int64_t expires_ms, struct err *e)
{
    struct amqp_result_record record = {
        .outcome = outcome,
        .flags = (uint16_t)((doc.len && result_is_ready(doc) ? AMQP_RESULT_READY : 0) |
                            (h->suspicious ? AMQP_RESULT_AGAIN : 0) |
                            (step->flags & BROKER_DUPLICATE ? AMQP_RESULT_TWIN : 0)),
        .retries = (uint32_t)h->retries,
        .expires_ms = expires_ms ? expires_ms : b->result_expires_ms,
        .now_ms = clock_wall_ms(b->clock),
        .id = amqp_job_id(h, id),
        .doc = doc};
    char own[UUID_SIZE];

    if (record.id.len == 0) { /* no two jobs without an id are the same job */
        uuid_next(&b->random, own);
        record.id = slice_of(own);
    }
    if (id.len)
        amqp_recent_keep(b, &record);
    if (id.len && add_reply(b, step, h, doc, e) != 0)
        return -1;
    return amqp_add_record(b, step, &record, e);
}

/* --- what does not fit --- */

static bool result_fits(const struct amqp_broker *b, size_t len)
{
    return !b->out.body_max || len + AMQP_RESULT_HEAD + AMQP_RECORD_ID_MAX <= b->out.body_max;
}

/* Its body is in the envelope as base64. */
bool amqp_followup_fits(const struct amqp_broker *b, const struct broker_message *m)
{
    return !b->out.body_max || m->continues || m->envelope.len / 4 * 3 <= b->out.body_max;
}

bool amqp_finish_fits(const struct amqp_broker *b, const struct broker_finish *f)
{
    for (size_t i = 0; i < f->followups_len; i++) {
        if (!amqp_followup_fits(b, &f->followups[i]))
            return false;
    }
    return result_fits(b, f->result.len);
}

static size_t largest_part(const struct broker_finish *f)
{
    size_t most = f->result.len;

    for (size_t i = 0; i < f->followups_len; i++) {
        size_t len = f->followups[i].envelope.len / 4 * 3;

        most = len > most ? len : most;
    }
    return most;
}

int amqp_add_misfit(struct amqp_broker *b, struct out_step *step, const struct amqp_held *h,
                    const struct broker_finish *f, struct err *e)
{
    struct buf id = BUF_INIT, text = BUF_INIT, doc = BUF_INIT;
    struct result_doc failure = {.status = "FAILURE",
                                 .date_done_us = clock_wall_ms(b->clock) * 1000};
    json_t *exception;
    int rc = -1;

    buf_addf(&id, "%.*s", SLICE_ARG(f->result_id));
    buf_addf(&text,
             "the result, or a task that follows, has %zu bytes, the broker takes %zu at most (its "
             "max_message_size)",
             largest_part(f), b->out.body_max);
    exception = result_exception("ResultTooLarge", "celeriac", json_string(buf_str(&text)));
    failure.task_id = buf_str(&id);
    failure.result = exception;
    if (id.failed || text.failed || !exception)
        err_nomem(e);
    else if (result_encode(&doc, &failure, e) == 0)
        rc = amqp_add_result(b, step, h, AMQP_RESULT_FAILED, f->result_id, buf_slice(&doc),
                             f->result_expires_ms, e);
    json_decref(exception);
    buf_release(&id);
    buf_release(&text);
    buf_release(&doc);
    return rc;
}
