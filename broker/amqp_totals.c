/*
 * The totals: how the jobs of all time ended.
 *
 * Every end is a record of the results stream, and the stream forgets. So the sum up to some offset
 * lies as one message in the queue celeriac.totals; whoever needs the totals takes it
 * (unacknowledged it is a lock), reads on from there, and puts the new sum in its place when there
 * was much to read. CRASH: after confirm, before ack - two sums lie in the queue; who comes next
 * takes the newer and acknowledges both with his own.
 *
 * A stream that was deleted and made anew counts from 0: it has nothing where the sum ends, and the
 * own sync record stands in front of that. Then all of it comes on top of the sum.
 */
#include "base/fault.h"
#include "broker/amqp_ask.h"
#include "broker/amqp_index.h"
#include "broker/amqp_ladder.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TOTALS_QUEUE "celeriac.totals"
#define LADDER_TOP   "celery_delayed_27"
/* A second record of one end may follow the first by that many at most, to be known as such. */
#define LOOK_BACK 5000
/* What was read beyond the sum is worth a new sum. */
#define WORTH_KEEPING 1000
#define LOCKED_TRIES  40
#define LOCKED_MS     25
/* Nothing at all is read for so long: the stream may have been made anew. */
#define STUCK_MS 2000

struct totals_fold {
    struct amqp_reader reader;
    struct amqp_broker *b;
    struct amqp_index *index;          /* owned */
    struct amqp_index_counters kept;   /* the sum that was found */
    struct amqp_index_counters before; /* the index at that sum's offset */
    int64_t kept_offset;               /* -1: none was found */
    int64_t last_offset;
    bool counting; /* beyond kept_offset */
    bool anew;     /* the stream ends before kept_offset */
    int sums;      /* taken out of the queue */
    uint64_t tag;  /* the last of their delivery tags */
    int tries;
    uint64_t host;
};

static const struct {
    const char *name;
    size_t offset;
} members[] = {
    {"succeeded", offsetof(struct amqp_index_counters, succeeded)},
    {"failed", offsetof(struct amqp_index_counters, failed)},
    {"retried", offsetof(struct amqp_index_counters, retried)},
    {"dead", offsetof(struct amqp_index_counters, dead)},
    {"duplicates", offsetof(struct amqp_index_counters, duplicates)},
    {"purged", offsetof(struct amqp_index_counters, purged)},
    {"removed", offsetof(struct amqp_index_counters, removed)},
    {"revived", offsetof(struct amqp_index_counters, revived)},
};
#define MEMBERS (sizeof(members) / sizeof(members[0]))

static uint64_t *member(struct amqp_index_counters *c, size_t i)
{
    return (uint64_t *)(void *)((char *)c + members[i].offset);
}

void totals_release(struct question *q)
{
    struct totals_fold *f = q->fold;

    if (!f)
        return;
    reader_end(f->b, &f->reader);
    amqp_index_free(f->index);
    free(f);
    q->fold = NULL;
}

/* --- the answer --- */

/* kept + what was counted beyond it. */
static struct amqp_index_counters sum_up(const struct totals_fold *f)
{
    struct amqp_index_counters now, sum = f->kept, before = f->before;

    amqp_index_counters(f->index, &now);
    if (f->counting) {
        for (size_t i = 0; i < MEMBERS; i++)
            *member(&sum, i) += *member(&now, i) - *member(&before, i);
    }
    return sum;
}

static int64_t count_delayed(const struct question *q)
{
    char name[32];
    int64_t n = 0;

    for (int level = 0; level < AMQP_LADDER_LEVELS; level++) {
        snprintf(name, sizeof(name), "celery_delayed_%d", level);
        n += survey_ready(q, name, "");
    }
    for (int step = 0; amqp_step_ms(step); step++) {
        snprintf(name, sizeof(name), "celeriac.delay.%lld", (long long)amqp_step_ms(step));
        n += survey_ready(q, name, "");
    }
    return n;
}

static void tell_totals(struct amqp_broker *b, struct question *q)
{
    struct amqp_index_counters c = sum_up(q->fold);
    /* A job recorded twice is one message more that ended: under succeeded and under duplicates. */
    struct answer_totals t = {.succeeded = (int64_t)(c.succeeded + c.duplicates),
                              .failed = (int64_t)c.failed,
                              .retried = (int64_t)c.retried,
                              .dead = (int64_t)(c.dead - c.revived),
                              .duplicates = (int64_t)c.duplicates,
                              .purged = (int64_t)c.purged,
                              .removed = (int64_t)c.removed,
                              .delayed = count_delayed(q)};
    struct buf out = BUF_INIT;
    json_t *name;
    size_t i;

    json_array_foreach(q->names, i, name)
    {
        const char *text = json_string_value(name);

        t.waiting += survey_ready(q, text, "") + survey_held(q, text, "inside");
        t.leased += survey_held(q, text, "leased");
        t.delayed -= survey_held(q, text, "copies"); /* one job with its delivery and its copy */
    }
    t.delayed = t.delayed > 0 ? t.delayed : 0;
    /* The broker counts nothing itself. */
    t.published = t.succeeded + t.failed + t.dead + t.waiting + t.leased + t.delayed;
    answer_totals(&out, &t);
    ask_done(b, q, &out);
}

/* --- the new sum --- */

static void give_back(struct amqp_broker *b, const struct totals_fold *f, bool replaced)
{
    struct amqp_link *l = b->wires[AMQP_PUBLISH].link;
    amqp_basic_nack_t nack = {.delivery_tag = f->tag, .multiple = 1, .requeue = 1};

    if (f->sums == 0)
        return;
    if (replaced)
        link_ack(l, AMQP_CH_ASK, f->tag, true, NULL);
    else
        link_tell(l, AMQP_CH_ASK, AMQP_BASIC_NACK_METHOD, &nack, NULL);
}

static void on_sum_kept(struct amqp_broker *b, struct out_step *step, const struct err *why)
{
    struct question *q = b->asking->line;

    if (!q || !q->at_work || q->serial != step->tag || !q->fold)
        return;
    FAULT_POINT("amqp.before-totals-ack");
    give_back(b, q->fold, !why);
    tell_totals(b, q);
}

static void keep_sum(struct amqp_broker *b, struct question *q)
{
    struct totals_fold *f = q->fold;
    struct amqp_index_counters c = sum_up(f);
    struct out_spec spec = {.routing_key = slice_of(TOTALS_QUEUE),
                            .content_type = "application/json",
                            .persistent = true,
                            .priority = -1};
    struct out_step *step = out_step_new(on_sum_kept, BROKER_STORED, q->serial);
    json_t *sum = json_pack("{s:I}", "offset", (json_int_t)f->last_offset);
    char *text;

    for (size_t i = 0; i < MEMBERS; i++)
        json_object_set_new(sum, members[i].name, json_integer((json_int_t)*member(&c, i)));
    text = json_dumps(sum, JSON_COMPACT);
    json_decref(sum);
    if (!step || !text) {
        free(step);
        give_back(b, f, false);
        tell_totals(b, q);
    } else {
        spec.body = slice_of(text);
        out_add(b, step, &spec, NULL);
        out_step_close(b, step);
    }
    free(text);
}

static void on_totals_queue(void *owner, uint64_t number, const struct err *why)
{
    struct amqp_broker *b = owner;
    struct question *q = b->asking ? b->asking->line : NULL;

    if (!q || !q->at_work || q->serial != number || !q->fold)
        return;
    if (why)
        tell_totals(b, q); /* may not declare: the next one reads it all again */
    else
        keep_sum(b, q);
}

static bool worth_keeping(const struct totals_fold *f)
{
    return f->tries <= LOCKED_TRIES &&
           (f->anew || f->sums > 1 || f->last_offset - f->kept_offset >= WORTH_KEEPING);
}

static void on_read(struct amqp_broker *b, struct question *q)
{
    struct totals_fold *f = q->fold;
    struct topology_wish wish = {.kind = TOPOLOGY_GRAVE, .name = slice_of(TOTALS_QUEUE)};

    reader_end(b, &f->reader);
    q->later_ms = CLOCK_NEVER;
    if (worth_keeping(f) && topology_ensure(&b->wires[AMQP_PUBLISH].topology, &wish,
                                            on_totals_queue, q->serial, NULL) == 0)
        return;
    give_back(b, f, false);
    tell_totals(b, q);
}

/* --- reading on --- */

static void on_own_sync(struct amqp_broker *b, struct question *q, int64_t offset)
{
    struct totals_fold *f = q->fold;

    if (offset <= f->kept_offset) {
        f->anew = f->counting = true;
        f->last_offset = offset;
    }
    on_read(b, q);
}

static void from_the_beginning(struct amqp_broker *b, struct question *q);

static void on_record(struct amqp_broker *b, struct amqp_reader *r, int64_t offset,
                      struct slice bytes)
{
    struct question *q = b->asking->line;
    struct totals_fold *f = q->fold;
    struct amqp_result_record record;
    struct err e = ERR_INIT;
    bool counted;

    (void)r;
    if (q->later_ms != CLOCK_NEVER)
        ask_later(b, q, STUCK_MS, from_the_beginning);
    if (!f->counting && offset > f->kept_offset) {
        amqp_index_counters(f->index, &f->before);
        f->counting = true;
    }
    f->last_offset = offset > f->last_offset ? offset : f->last_offset;
    if (!amqp_result_read(&record, bytes))
        return;
    if (amqp_index_apply(f->index, offset, &record, &counted, &e) != 0)
        ask_fail(b, q, &e);
    else if (record.outcome == AMQP_RESULT_SYNC && record.host == f->host)
        on_own_sync(b, q, offset);
}

static void on_sync_sent(struct amqp_broker *b, struct out_step *step, const struct err *why)
{
    struct question *q = b->asking->line;

    if (why && q && q->at_work && q->serial == step->tag)
        ask_fail(b, q, why);
}

static void on_live(struct amqp_broker *b, struct amqp_reader *r)
{
    struct question *q = b->asking->line;
    struct amqp_result_record record = {
        .outcome = AMQP_RESULT_SYNC, .host = q->fold->host, .now_ms = clock_wall_ms(b->clock)};
    struct out_step *step = out_step_new(on_sync_sent, BROKER_STORED, q->serial);

    (void)r;
    if (!step)
        return;
    amqp_add_record(b, step, &record, NULL);
    out_step_close(b, step);
}

static void on_refused(struct amqp_broker *b, struct amqp_reader *r, const struct err *why)
{
    (void)r;
    ask_fail(b, b->asking->line, why);
}

static void read_from(struct amqp_broker *b, struct question *q, struct reader_start start)
{
    static const struct reader_ops ops = {
        .on_record = on_record, .on_live = on_live, .on_refused = on_refused};

    reader_begin(b, &q->fold->reader, AMQP_RESULTS_STREAM, &start, &ops);
}

static void from_the_beginning(struct amqp_broker *b, struct question *q)
{
    amqp_index_reset(q->fold->index);
    q->fold->counting = false;
    read_from(b, q, (struct reader_start){READER_FIRST, 0});
}

static void read_on(struct amqp_broker *b, struct question *q)
{
    int64_t offset = q->fold->kept_offset - LOOK_BACK;

    if (offset <= 0) {
        from_the_beginning(b, q);
        return;
    }
    read_from(b, q, (struct reader_start){READER_OFFSET, offset});
    ask_later(b, q, STUCK_MS, from_the_beginning);
}

/* --- the sum that is kept --- */

static void get_sum(struct amqp_broker *b, struct question *q);

static void take_sum(struct totals_fold *f, const struct amqp_incoming *in)
{
    json_t *sum = json_loadb(in->body.ptr, in->body.len, 0, NULL);
    int64_t offset = json_integer_value(json_object_get(sum, "offset"));

    f->sums++;
    f->tag = in->delivery_tag;
    if (json_is_object(sum) && offset > f->kept_offset) {
        f->kept_offset = f->last_offset = offset;
        for (size_t i = 0; i < MEMBERS; i++)
            *member(&f->kept, i) =
                (uint64_t)json_integer_value(json_object_get(sum, members[i].name));
    }
    json_decref(sum);
}

static void on_sum(struct amqp_broker *b, struct question *q, const struct amqp_answer *answer)
{
    struct totals_fold *f = q->fold;

    if (answer->message) {
        take_sum(f, answer->message);
        if (answer->message->left > 0)
            get_sum(b, q);
        else
            read_on(b, q);
    } else if (!answer->method && answer->code != 404) {
        ask_fail(b, q, answer->why);
    } else if (answer->code == 404 || f->sums > 0 || ++f->tries > LOCKED_TRIES) {
        read_on(b, q);
    } else {
        ask_later(b, q, LOCKED_MS, get_sum); /* somebody else has it for a moment */
    }
}

static void get_sum(struct amqp_broker *b, struct question *q)
{
    amqp_basic_get_t m = {.queue = amqp_cstring_bytes(TOTALS_QUEUE)};

    ask_call(b, q, AMQP_BASIC_GET_METHOD, &m, on_sum);
}

/* --- what is delayed --- */

static void on_top_counted(struct amqp_broker *b, struct question *q)
{
    json_t *levels;

    if (!json_object_get(q->counts, LADDER_TOP)) {
        get_sum(b, q);
        return;
    }
    levels = json_array();
    for (int level = 0; level < AMQP_LADDER_LEVELS - 1; level++)
        json_array_append_new(levels, json_sprintf("celery_delayed_%d", level));
    survey_count(b, q, levels, get_sum);
    json_decref(levels);
}

static void on_survey(struct amqp_broker *b, struct question *q)
{
    json_t *names = json_pack("[s]", LADDER_TOP);

    for (int step = 0; amqp_step_ms(step); step++)
        json_array_append_new(names,
                              json_sprintf("celeriac.delay.%lld", (long long)amqp_step_ms(step)));
    survey_count(b, q, names, on_top_counted);
    json_decref(names);
}

void totals_answer(struct amqp_broker *b, struct question *q)
{
    struct totals_fold *f = calloc(1, sizeof(*f));
    struct amqp_index_config config = {0};
    struct err e = ERR_INIT;

    q->fold = f;
    if (f)
        f->index = amqp_index_new(&config);
    if (!f || !f->index) {
        err_nomem(&e);
        ask_fail(b, q, &e);
        return;
    }
    f->b = b;
    f->kept_offset = f->last_offset = -1;
    f->host = uuid_random(&b->random);
    survey(b, q, on_survey);
}
