#include "worker/channel.h"

#include <string.h>

/* A reader that remembers that something was short instead of checking at every step. */
struct reader {
    struct slice rest;
    bool bad;
};

static void get(struct reader *r, void *to, size_t size)
{
    if (r->bad || r->rest.len < size) {
        memset(to, 0, size);
        r->bad = true;
        return;
    }
    memcpy(to, r->rest.ptr, size);
    r->rest = slice_make(r->rest.ptr + size, r->rest.len - size);
}

static struct slice get_bytes(struct reader *r, size_t len)
{
    struct slice bytes = {r->rest.ptr, len};

    if (r->bad || r->rest.len < len) {
        r->bad = true;
        return slice_make(NULL, 0);
    }
    r->rest = slice_make(r->rest.ptr + len, r->rest.len - len);
    return bytes;
}

/* A text that may be absent: length + 1, or 0 for none. */
static void put_text(struct buf *out, struct slice text)
{
    uint32_t len = text.ptr ? (uint32_t)text.len + 1 : 0;

    buf_add(out, &len, sizeof(len));
    if (text.ptr)
        buf_add(out, text.ptr, text.len);
}

static struct slice get_text(struct reader *r)
{
    uint32_t len;

    get(r, &len, sizeof(len));
    return len ? get_bytes(r, len - 1) : slice_make(NULL, 0);
}

static int ended(const struct reader *r, const char *what, struct err *e)
{
    return r->bad ? err_set(e, ERR_BUG, "a %s frame is shorter than it says", what) : 0;
}

void channel_put_run(struct frame_link *link, uint64_t job, const struct channel_run *run)
{
    size_t mark = frame_begin(link, CHANNEL_RUN, 0, job);

    buf_add(&link->out, &run->delivered_us, sizeof(run->delivered_us));
    buf_add(&link->out, &run->lent_us, sizeof(run->lent_us));
    buf_add(&link->out, &run->fence, sizeof(run->fence));
    buf_add(&link->out, &run->attempt, sizeof(run->attempt));
    buf_add(&link->out, &run->soft_limit_s, sizeof(run->soft_limit_s));
    buf_add(&link->out, &run->hard_limit_s, sizeof(run->hard_limit_s));
    buf_add(&link->out, &run->measured, sizeof(run->measured));
    put_text(&link->out, run->first_id);
    put_text(&link->out, run->first);
    buf_add(&link->out, run->envelope.ptr, run->envelope.len);
    frame_end(link, mark);
}

int channel_get_run(struct slice payload, struct channel_run *out, struct err *e)
{
    struct reader r = {payload, false};

    get(&r, &out->delivered_us, sizeof(out->delivered_us));
    get(&r, &out->lent_us, sizeof(out->lent_us));
    get(&r, &out->fence, sizeof(out->fence));
    get(&r, &out->attempt, sizeof(out->attempt));
    get(&r, &out->soft_limit_s, sizeof(out->soft_limit_s));
    get(&r, &out->hard_limit_s, sizeof(out->hard_limit_s));
    get(&r, &out->measured, sizeof(out->measured));
    out->first_id = get_text(&r);
    out->first = get_text(&r);
    out->envelope = r.rest;
    return ended(&r, "job", e);
}

void channel_put_followup(struct buf *out, const struct channel_followup *f)
{
    buf_add(out, &f->not_before_ms, sizeof(f->not_before_ms));
    buf_add(out, &f->priority, sizeof(f->priority));
    buf_add(out, &f->continues, sizeof(f->continues));
    put_text(out, f->queue);
    put_text(out, f->id);
    put_text(out, f->envelope);
}

int channel_next_followup(struct slice *rest, struct channel_followup *out)
{
    struct reader r = {*rest, false};

    if (rest->len == 0)
        return 0;
    get(&r, &out->not_before_ms, sizeof(out->not_before_ms));
    get(&r, &out->priority, sizeof(out->priority));
    get(&r, &out->continues, sizeof(out->continues));
    out->queue = get_text(&r);
    out->id = get_text(&r);
    out->envelope = get_text(&r);
    *rest = r.rest;
    return r.bad ? -1 : 1;
}

void channel_put_verdict(struct frame_link *link, uint64_t job, const struct channel_verdict *v)
{
    uint32_t outcome = (uint32_t)v->outcome;
    size_t mark = frame_begin(link, CHANNEL_VERDICT, 0, job);

    buf_add(&link->out, &outcome, sizeof(outcome));
    buf_add(&link->out, &v->run_us, sizeof(v->run_us));
    buf_add(&link->out, &v->queued_us, sizeof(v->queued_us));
    buf_add(&link->out, &v->dispatched_us, sizeof(v->dispatched_us));
    buf_add(&link->out, &v->max_rss_kib, sizeof(v->max_rss_kib));
    buf_add(&link->out, &v->result_expires_ms, sizeof(v->result_expires_ms));
    buf_add(&link->out, &v->followups_len, sizeof(v->followups_len));
    put_text(&link->out, v->result);
    put_text(&link->out, v->cause);
    buf_add(&link->out, v->followups.ptr, v->followups.len);
    frame_end(link, mark);
}

static bool is_time(int64_t us)
{
    return us >= -1 && us <= CHANNEL_US_MAX; /* -1: not known */
}

int channel_get_verdict(struct slice payload, struct channel_verdict *out, struct err *e)
{
    struct reader r = {payload, false};
    uint32_t outcome;

    get(&r, &outcome, sizeof(outcome));
    get(&r, &out->run_us, sizeof(out->run_us));
    get(&r, &out->queued_us, sizeof(out->queued_us));
    get(&r, &out->dispatched_us, sizeof(out->dispatched_us));
    get(&r, &out->max_rss_kib, sizeof(out->max_rss_kib));
    get(&r, &out->result_expires_ms, sizeof(out->result_expires_ms));
    get(&r, &out->followups_len, sizeof(out->followups_len));
    out->result = get_text(&r);
    out->cause = get_text(&r);
    out->followups = r.rest;
    out->outcome = (enum channel_outcome)outcome;
    if (outcome > CHANNEL_POISON || out->followups_len > CHANNEL_FOLLOWUPS_MAX)
        return err_set(e, ERR_BUG,
                       "a verdict frame holds an unknown outcome or too many follow-ups");
    if (!is_time(out->run_us) || !is_time(out->dispatched_us))
        return err_set(e, ERR_BUG, "a verdict frame holds a time that no clock shows");
    return ended(&r, "verdict", e);
}

int channel_get_fixed(struct slice payload, void *out, size_t size, struct err *e)
{
    if (payload.len != size)
        return err_set(e, ERR_BUG, "a frame of %zu bytes came where %zu were expected", payload.len,
                       size);
    memcpy(out, payload.ptr, size);
    return 0;
}
