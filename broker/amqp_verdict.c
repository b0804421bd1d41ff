#include "broker/amqp_verdict.h"

#include "broker/result.h"

void amqp_verdict_init(struct amqp_verdict *v)
{
    *v = (struct amqp_verdict){.doc = BUF_INIT, .offset = -1};
}

void amqp_verdict_release(struct amqp_verdict *v)
{
    buf_release(&v->doc);
}

bool amqp_verdict_has_doc(const struct amqp_result_record *r)
{
    return r->doc.len > 0 && !(r->flags & AMQP_RESULT_UNTOLD) && r->outcome <= AMQP_RESULT_STATE;
}

static int64_t end_of(const struct amqp_result_record *r, int64_t default_ms)
{
    int64_t life_ms = r->expires_ms ? r->expires_ms : default_ms;

    return life_ms < 0 || life_ms > INT64_MAX - r->now_ms ? INT64_MAX : r->now_ms + life_ms;
}

static void forget(struct amqp_verdict *v, int64_t offset)
{
    buf_clear(&v->doc);
    v->success = false;
    v->known = true;
    v->offset = offset;
}

void amqp_verdict_apply(struct amqp_verdict *v, int64_t offset, const struct amqp_result_record *r,
                        int64_t default_ms)
{
    if (r->outcome == AMQP_RESULT_FORGOTTEN) {
        forget(v, offset);
        return;
    }
    if (!amqp_verdict_has_doc(r) || (v->success && r->now_ms < v->until_ms))
        return;
    forget(v, offset);
    buf_add(&v->doc, r->doc.ptr, r->doc.len);
    v->until_ms = end_of(r, default_ms);
    v->success = result_is_success(r->doc);
}

struct slice amqp_verdict_doc(const struct amqp_verdict *v, int64_t now_ms)
{
    if (v->doc.len == 0 || v->doc.failed || now_ms >= v->until_ms)
        return slice_make(NULL, 0);
    return buf_slice(&v->doc);
}
