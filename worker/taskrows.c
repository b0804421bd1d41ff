#include "worker/taskrows.h"

#include "worker/dedup_rule.h"

#include <stdlib.h>
#include <string.h>

void taskrows_release(struct taskrows *t)
{
    for (size_t i = 0; i < t->len; i++) {
        free(t->rows[i]->name);
        dedup_rule_free(t->rows[i]->dedup);
        free(t->rows[i]);
    }
    free(t->rows);
    *t = (struct taskrows){NULL, 0};
}

static int by_name(const void *key, const void *row)
{
    return strcmp(key, (*(struct task_options *const *)row)->name);
}

static int by_row(const void *a, const void *b)
{
    return by_name((*(struct task_options *const *)a)->name, b);
}

struct task_options *taskrows_find(const struct taskrows *t, const char *name)
{
    struct task_options **found =
        t->len ? bsearch(name, t->rows, t->len, sizeof(struct task_options *), by_name) : NULL;

    return found ? *found : NULL;
}

/* Returns the row of that name, added at the end when it is new (the caller sorts). */
static struct task_options *want(struct taskrows *t, const char *name)
{
    struct task_options *row = taskrows_find(t, name);
    struct task_options **rows;

    if (row)
        return row;
    rows = realloc(t->rows, (t->len + 1) * sizeof(struct task_options *));
    if (!rows)
        return NULL;
    t->rows = rows;
    row = calloc(1, sizeof(*row));
    if (!row || !(row->name = slice_dup(slice_of(name)))) {
        free(row);
        return NULL;
    }
    t->rows[t->len++] = row;
    qsort(t->rows, t->len, sizeof(struct task_options *), by_row);
    return row;
}

/* A later runner may have another version of the module: its rule counts from then on. */
static int merge_dedup(struct task_options *row, const json_t *item, struct err *e)
{
    const char *chosen = json_string_value(json_object_get(item, "dedup"));
    struct dedup_rule *rule = NULL;

    if (chosen) {
        rule = dedup_rule_new(json_string_value(json_object_get(item, "params")), chosen,
                              json_number_value(json_object_get(item, "dedup_window_s")), e);
        if (!rule)
            return err_wrap(e, "task \"%s\"", row->name);
    }
    dedup_rule_free(row->dedup);
    row->dedup = rule;
    return 0;
}

static int merge_one(struct taskrows *t, json_t *item, struct err *e)
{
    const char *name = json_string_value(json_object_get(item, "name"));
    struct task_options *row = name ? want(t, name) : NULL;

    if (!row)
        return name ? err_nomem(e) : err_set(e, ERR_BUG, "a task row has no name");
    row->soft_limit_s = json_number_value(json_object_get(item, "soft_limit_s"));
    row->hard_limit_s = json_number_value(json_object_get(item, "hard_limit_s"));
    row->rate_us = json_integer_value(json_object_get(item, "rate_us"));
    row->ack_early = json_is_true(json_object_get(item, "ack_early"));
    return merge_dedup(row, item, e);
}

int taskrows_merge(struct taskrows *t, struct slice json, struct err *e)
{
    json_t *list = json_loadb(json.ptr, json.len, 0, NULL);
    json_t *item;
    size_t i;
    int rc = 0;

    if (!json_is_array(list))
        rc = err_set(e, ERR_BUG, "the table of tasks is not a JSON array");
    json_array_foreach(list, i, item)
    {
        rc = merge_one(t, item, e);
        if (rc < 0)
            break;
    }
    json_decref(list);
    return rc;
}
