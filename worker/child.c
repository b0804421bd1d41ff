#include "worker/child.h"

#include "base/clock.h"

void child_init(struct child *c, int slot)
{
    *c = (struct child){.slot = slot, .state = CHILD_DOWN};
    frame_link_init(&c->link, -1);
}

int64_t child_restart_delay_ms(int deaths)
{
    int64_t delay = CHILD_RESTART_MIN_MS;

    while (--deaths > 0 && delay < CHILD_RESTART_MAX_MS)
        delay *= 2;
    return delay < CHILD_RESTART_MAX_MS ? delay : CHILD_RESTART_MAX_MS;
}

static enum child_state on_started(struct child *c, int64_t now_ms)
{
    (void)now_ms;
    c->kill_at_ms = 0;
    c->watch = (struct child_watch){0};
    return CHILD_STARTING;
}

static enum child_state on_ready(struct child *c, int64_t now_ms)
{
    (void)now_ms;
    c->deaths = 0;
    return CHILD_UP;
}

static enum child_state on_early_exit(struct child *c, int64_t now_ms)
{
    c->deaths++;
    if (c->deaths >= CHILD_DEATHS_MAX)
        return CHILD_FAILED;
    c->start_at_ms = now_ms + child_restart_delay_ms(c->deaths);
    return CHILD_DOWN;
}

static enum child_state on_exit_when_up(struct child *c, int64_t now_ms)
{
    c->start_at_ms = now_ms;
    return CHILD_DOWN;
}

static enum child_state to_leaving(struct child *c, int64_t now_ms)
{
    (void)c;
    (void)now_ms;
    return CHILD_LEAVING;
}

static enum child_state to_gone(struct child *c, int64_t now_ms)
{
    (void)c;
    (void)now_ms;
    return CHILD_GONE;
}

typedef enum child_state transition(struct child *c, int64_t now_ms);

/* Every pair has an answer; an empty cell means "stays as it is". */
static transition *const table[][4] = {
    /*                  started     ready     exit             stop       */
    [CHILD_DOWN] = {on_started, NULL, NULL, to_gone},
    [CHILD_STARTING] = {NULL, on_ready, on_early_exit, to_leaving},
    [CHILD_UP] = {NULL, NULL, on_exit_when_up, to_leaving},
    [CHILD_LEAVING] = {NULL, NULL, to_gone, NULL},
    [CHILD_GONE] = {NULL, NULL, NULL, NULL},
    [CHILD_FAILED] = {NULL, NULL, NULL, NULL},
};

void child_on(struct child *c, enum child_event event, int64_t now_ms)
{
    transition *next = table[c->state][event];

    if (next)
        c->state = next(c, now_ms);
}

static int64_t sooner(int64_t a, int64_t b)
{
    return b && b < a ? b : a;
}

int64_t child_next_ms(const struct child *c)
{
    int64_t next = CLOCK_NEVER;

    if (c->state == CHILD_DOWN)
        return c->start_at_ms;
    if (!child_alive(c))
        return next;
    next = sooner(next, c->kill_at_ms);
    if (c->watch.job && !c->watch.soft_sent)
        next = sooner(next, c->watch.soft_at_ms);
    if (c->watch.job && !c->watch.hard_sent)
        next = sooner(next, c->watch.hard_at_ms);
    return next;
}

const char *child_state_word(enum child_state state)
{
    static const char *const words[] = {"down", "starting", "up", "leaving", "gone", "failed"};

    return words[state];
}
