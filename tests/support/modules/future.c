/* A module as a later 1.x would build it (longer rows), or as an older one did (shorter rows). */
#include "tasks/task.h"

struct future_task {
    struct celeriac_task known;
    double new_option;
};

static int run_future(struct celeriac_call *call)
{
    return celeriac_ok(call, json_string("from the future"));
}

#ifdef PAST
#define ROW_SIZE offsetof(struct celeriac_task, init)
#else
#define ROW_SIZE sizeof(struct future_task)
#endif

static const struct future_task rows[] = {
    {{.size = ROW_SIZE, .name = "future.one", .params = "x=1", .run = run_future, .max_retries = 7},
     1.5},
    {{.size = ROW_SIZE, .name = "future.two", .run = run_future, .max_retries = 7}, 2.5},
};

__attribute__((visibility("default"))) const struct celeriac_module celeriac_module = {
    sizeof(struct celeriac_module),
    CELERIAC_TASK_ABI_MAJOR,
    CELERIAC_TASK_ABI_MINOR + 1,
    "future",
    &rows[0].known,
    2,
    sizeof(struct future_task),
};
