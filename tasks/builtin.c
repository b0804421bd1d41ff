#include "tasks/builtin.h"

static struct builtin_table (*const tables[])(void) = {
    math_tasks, text_tasks, hash_tasks, sleep_tasks, fail_tasks, etl_tasks, work_tasks,
};

struct builtin_table builtin_table(size_t number)
{
    if (number >= sizeof(tables) / sizeof(tables[0]))
        return (struct builtin_table){NULL, 0};
    return tables[number]();
}
