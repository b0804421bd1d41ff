#include "tasks/etl_paths.h"

#include <stdlib.h>
#include <string.h>

int etl_paths_add(struct etl_paths *paths, const char *path, struct etl_err *err)
{
    char *copy = strdup(path != NULL ? path : "");
    char **grown = realloc(paths->items, (paths->len + 1) * sizeof(*grown));

    if (grown != NULL)
        paths->items = grown;
    if (grown == NULL || copy == NULL) {
        free(copy);
        return etl_err_set(err, ETL_ERR_MEMORY, "out of memory");
    }
    paths->items[paths->len++] = copy;
    return 0;
}

void etl_paths_release(struct etl_paths *paths)
{
    for (size_t i = 0; i < paths->len; i++)
        free(paths->items[i]);
    free(paths->items);
    memset(paths, 0, sizeof(*paths));
}
