/*
 * builtin.h - the tasks that every worker has.
 *
 * Purpose: hand the rows of the built-in tasks to whoever keeps a registry.
 * Model: each file of tasks has one table of rows and one function that returns it; builtin.c lists
 * those functions. A new task in a file is one row there; a new file is one prototype here and one
 * line in builtin.c.
 * Ownership: rows are constant and live as long as the program.
 * Fork rule: none, constant data; what a task opens it opens in its init(), after the fork.
 */
#ifndef TASKS_BUILTIN_H
#define TASKS_BUILTIN_H

#include "tasks/task.h"

struct builtin_table {
    const struct celeriac_task *rows;
    size_t len;
};

#define BUILTIN_TABLE(rows)                                                                        \
    (struct builtin_table)                                                                         \
    {                                                                                              \
        (rows), sizeof(rows) / sizeof((rows)[0])                                                   \
    }

struct builtin_table math_tasks(void);
struct builtin_table text_tasks(void);
struct builtin_table hash_tasks(void);
struct builtin_table sleep_tasks(void);
struct builtin_table fail_tasks(void);
struct builtin_table etl_tasks(void);
struct builtin_table work_tasks(void);

/* The table with this number, counted from 0; rows is NULL after the last one. */
struct builtin_table builtin_table(size_t number);

#endif
