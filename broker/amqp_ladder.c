#include "broker/amqp_ladder.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

#define LEVELS AMQP_LADDER_LEVELS

/* The delays of usual backoffs, and Celery's default of three minutes. */
static const int steps_ms[] = {250,    500,    1000,   1500,   2000,    3000,   4000,
                               5000,   8000,   10000,  15000,  16000,   20000,  30000,
                               32000,  60000,  64000,  120000, 128000,  180000, 256000,
                               300000, 512000, 600000, 900000, 1800000, 3600000};
#define STEPS ((int)(sizeof(steps_ms) / sizeof(steps_ms[0])))

/* Below this the next step is taken, however far it is: the ladder has only whole seconds. */
#define FINE_MS 2000

int64_t amqp_step_ms(int step)
{
    return step >= 0 && step < STEPS ? steps_ms[step] : 0;
}

/* --- plans --- */

static bool is_near(int64_t delay_ms, int64_t step_ms)
{
    int64_t late_ms = step_ms - delay_ms;

    return delay_ms <= FINE_MS || late_ms <= 50 || late_ms <= step_ms / 50;
}

/* The smallest step that is not early, or -1 when that would be too late. */
static int find_step(int64_t delay_ms)
{
    for (int i = 0; i < STEPS; i++) {
        if (steps_ms[i] >= delay_ms)
            return is_near(delay_ms, steps_ms[i]) ? i : -1;
    }
    return -1;
}

static void step_name(char *to, size_t size, int step)
{
    snprintf(to, size, "celeriac.delay.%d", steps_ms[step]);
}

static void level_name(char *to, size_t size, int level)
{
    if (level < 0)
        snprintf(to, size, "%s", AMQP_LADDER_DELIVERY);
    else
        snprintf(to, size, "celery_delayed_%d", level);
}

static void put_queue(char *to, struct slice queue)
{
    memcpy(to, queue.ptr ? queue.ptr : "", queue.len);
    to[queue.len] = '\0';
}

/* A word of the name that would match other words. */
static bool has_wildcard(struct slice queue)
{
    size_t start = 0;

    for (size_t i = 0; i <= queue.len; i++) {
        if (i < queue.len && queue.ptr[i] != '.')
            continue;
        if (i - start == 1 && (queue.ptr[start] == '*' || queue.ptr[start] == '#'))
            return true;
        start = i + 1;
    }
    return false;
}

/* Whether the ladder can end at this queue. */
static int check_destination(struct slice queue, struct err *e)
{
    if (queue.len > 0 && queue.len <= AMQP_LADDER_QUEUE_MAX && !has_wildcard(queue))
        return 0;
    return err_set(e, ERR_USAGE,
                   "the queue \"%.*s\" can not have delayed messages: its name must have 1 to %d "
                   "bytes and no word \"*\" or \"#\"",
                   queue.len > 60 ? 60 : (int)queue.len, queue.ptr ? queue.ptr : "",
                   AMQP_LADDER_QUEUE_MAX);
}

static int plan_ladder(struct amqp_delay *plan, int64_t delay_ms, struct slice queue, struct err *e)
{
    int64_t seconds = delay_ms / 1000 + (delay_ms % 1000 > 0);
    int highest = LEVELS - 1;

    if (seconds > AMQP_LADDER_MAX_S)
        return err_set(e, ERR_USAGE, "RabbitMQ can keep a message for %d seconds, not for %lld",
                       AMQP_LADDER_MAX_S, (long long)seconds);
    if (check_destination(queue, e) < 0)
        return -1;
    while (!(seconds >> highest & 1))
        highest--;
    plan->kind = AMQP_DELAY_LADDER;
    plan->delay_ms = seconds * 1000;
    level_name(plan->exchange, sizeof(plan->exchange), highest);
    for (int level = LEVELS - 1; level >= 0; level--) {
        plan->routing_key[2 * (LEVELS - 1 - level)] = (char)('0' + (seconds >> level & 1));
        plan->routing_key[2 * (LEVELS - 1 - level) + 1] = '.';
    }
    put_queue(plan->routing_key + AMQP_LADDER_DIGITS, queue);
    return 0;
}

int amqp_delay_plan(struct amqp_delay *plan, int64_t not_before_ms, int64_t now_ms,
                    struct slice queue, struct err *e)
{
    int64_t delay_ms = not_before_ms > now_ms ? not_before_ms - now_ms : 0;

    *plan = (struct amqp_delay){.kind = AMQP_DELAY_NONE, .step = -1};
    if (queue.len == 0 || queue.len > AMQP_SHORT_MAX)
        return err_set(e, ERR_USAGE, "the name of a queue in RabbitMQ has 1 to %d bytes, not %zu",
                       AMQP_SHORT_MAX, queue.len);
    if (delay_ms > 0) {
        plan->step = find_step(delay_ms);
        if (plan->step < 0)
            return plan_ladder(plan, delay_ms, queue, e);
        plan->kind = AMQP_DELAY_STEP;
        plan->delay_ms = steps_ms[plan->step];
        step_name(plan->exchange, sizeof(plan->exchange), plan->step);
    }
    put_queue(plan->routing_key, queue);
    return 0;
}

struct slice amqp_ladder_destination(struct slice key)
{
    if (key.len <= AMQP_LADDER_DIGITS)
        return key;
    for (size_t i = 0; i < AMQP_LADDER_DIGITS; i += 2) {
        if ((key.ptr[i] != '0' && key.ptr[i] != '1') || key.ptr[i + 1] != '.')
            return key;
    }
    return slice_make(key.ptr + AMQP_LADDER_DIGITS, key.len - AMQP_LADDER_DIGITS);
}

/* --- topology --- */

static void begin(struct amqp_declare *d, enum amqp_declare_kind kind)
{
    *d = (struct amqp_declare){.kind = kind};
    d->arguments.entries = d->entries;
}

static void add(struct amqp_declare *d, const char *name, amqp_field_value_t value)
{
    d->entries[d->arguments.num_entries++] = (amqp_table_entry_t){amqp_cstring_bytes(name), value};
}

static void add_text(struct amqp_declare *d, const char *name, const char *text)
{
    add(d, name, amqp_value_of_text(slice_of(text)));
}

static void declare_exchange(struct amqp_declare *d, const char *type)
{
    d->name = slice_of(d->name_text);
    d->type = slice_of(type);
}

/* What messages wait in: kombu's arguments, for both arrangements. next: in d or constant. */
static void declare_queue(struct amqp_declare *d, enum amqp_queue_type type, int64_t ttl_ms,
                          const char *next)
{
    d->name = slice_of(d->name_text);
    add_text(d, "x-queue-type", type == AMQP_QUORUM ? "quorum" : "classic");
    add_text(d, "x-overflow", "reject-publish");
    add(d, "x-message-ttl", amqp_value_of_integer(ttl_ms));
    add_text(d, "x-dead-letter-exchange", next);
    if (type == AMQP_QUORUM)
        add_text(d, "x-dead-letter-strategy", "at-least-once");
}

/* "*." for every level above, then `rest`. */
static void bind_level(struct amqp_declare *d, int level, const char *rest)
{
    int above = LEVELS - 1 - level;

    for (int i = 0; i < above; i++)
        memcpy(d->key_text + 2 * i, "*.", 2);
    memcpy(d->key_text + 2 * above, rest, strlen(rest) + 1);
    level_name(d->source_text, sizeof(d->source_text), level);
    d->name = slice_of(d->name_text);
    d->source = slice_of(d->source_text);
    d->key = slice_of(d->key_text);
}

/* Exchange, queue, and the binding of those that wait here. */
static void declare_level(struct amqp_declare *d, int level, int part, enum amqp_queue_type type)
{
    static const enum amqp_declare_kind kinds[] = {AMQP_DECLARE_EXCHANGE, AMQP_DECLARE_QUEUE,
                                                   AMQP_BIND_QUEUE};

    assert(level >= 0 && level < LEVELS);
    begin(d, kinds[part]);
    level_name(d->name_text, sizeof(d->name_text), level);
    level_name(d->next_text, sizeof(d->next_text), level - 1);
    if (kinds[part] == AMQP_DECLARE_EXCHANGE)
        declare_exchange(d, "topic");
    else if (kinds[part] == AMQP_DECLARE_QUEUE)
        declare_queue(d, type, (int64_t)1000 << level, d->next_text);
    else
        bind_level(d, level, "1.#");
}

bool amqp_ladder_topology(struct amqp_declare *d, int n, enum amqp_queue_type type)
{
    int level;

    if (n < 0 || n > 4 * LEVELS)
        return false;
    if (n < 3 * LEVELS) {
        declare_level(d, LEVELS - 1 - n / 3, n % 3, type);
        return true;
    }
    if (n == 3 * LEVELS) {
        begin(d, AMQP_DECLARE_EXCHANGE);
        level_name(d->name_text, sizeof(d->name_text), -1);
        declare_exchange(d, "topic");
        return true;
    }
    /* Those that pass, to the level below. */
    level = LEVELS - (n - 3 * LEVELS);
    begin(d, AMQP_BIND_EXCHANGE);
    level_name(d->name_text, sizeof(d->name_text), level - 1);
    bind_level(d, level, "0.#");
    return true;
}

bool amqp_step_topology(struct amqp_declare *d, int n, int step, enum amqp_queue_type type)
{
    static const enum amqp_declare_kind kinds[] = {AMQP_DECLARE_EXCHANGE, AMQP_DECLARE_QUEUE,
                                                   AMQP_BIND_QUEUE};

    if (n < 0 || n >= 3 || step < 0 || step >= STEPS)
        return false;
    begin(d, kinds[n]);
    step_name(d->name_text, sizeof(d->name_text), step);
    if (kinds[n] == AMQP_DECLARE_EXCHANGE) {
        declare_exchange(d, "fanout");
    } else if (kinds[n] == AMQP_DECLARE_QUEUE) {
        declare_queue(d, type, steps_ms[step], "");
    } else {
        memcpy(d->source_text, d->name_text, sizeof(d->source_text));
        d->name = slice_of(d->name_text);
        d->source = slice_of(d->source_text);
        d->key = slice_of("");
    }
    return true;
}

int amqp_ladder_binding(struct amqp_declare *d, struct slice queue, struct err *e)
{
    if (check_destination(queue, e) < 0)
        return -1;
    begin(d, AMQP_BIND_QUEUE);
    for (int i = 0; i < LEVELS; i++)
        memcpy(d->key_text + 2 * i, "*.", 2);
    put_queue(d->key_text + AMQP_LADDER_DIGITS, queue);
    d->name = queue;
    d->source = slice_of(AMQP_LADDER_DELIVERY);
    d->key = slice_of(d->key_text);
    return 0;
}
