/*
 * etl_paths.h - a list of files' paths that it owns.
 *
 * Model: a zeroed structure is an empty list; an add that fails leaves it as it was. Fork rule:
 * none.
 */
#ifndef TASKS_ETL_PATHS_H
#define TASKS_ETL_PATHS_H

#include "tasks/etl_err.h"

#include <stddef.h>

struct etl_paths {
    char **items; /* owned, like the strings */
    size_t len;
};

/* Copies the path; NULL is "". */
int etl_paths_add(struct etl_paths *paths, const char *path, struct etl_err *err);
void etl_paths_release(struct etl_paths *paths);

#endif
