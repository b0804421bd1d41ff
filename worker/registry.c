#include "worker/registry.h"

#include "tasks/builtin.h"
#include "worker/dedup_rule.h"

#include <dlfcn.h>
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* The oldest row and module that ever were: up to and with the members of ABI 1.0 that must be set.
 */
#define ROW_SIZE_MIN    (offsetof(struct celeriac_task, run) + sizeof(int (*)(void)))
#define MODULE_SIZE_MIN sizeof(struct celeriac_module)

#define DEFAULT_MAX_RETRIES   3
#define DEFAULT_BACKOFF_S     1.0
#define DEFAULT_BACKOFF_MAX_S 600.0

static int compare_name(const void *name, const void *entry)
{
    return strcmp(name, ((const struct registry_entry *)entry)->row.name);
}

static int compare_entries(const void *a, const void *b)
{
    return compare_name(((const struct registry_entry *)a)->row.name, b);
}

static void fill_defaults(struct celeriac_task *row)
{
    if (row->max_retries == CELERIAC_UNSET)
        row->max_retries = DEFAULT_MAX_RETRIES;
    if (row->backoff_s <= 0)
        row->backoff_s = DEFAULT_BACKOFF_S;
    if (row->backoff_max_s <= 0)
        row->backoff_max_s = DEFAULT_BACKOFF_MAX_S;
    if (row->jitter == CELERIAC_UNSET)
        row->jitter = CELERIAC_YES;
}

/* Copies what both sides know of a row: later members of ours are zero when the module is older,
 * later members of a newer module are cut off. */
static int copy_row(struct celeriac_task *to, const char *from, size_t stride, struct err *e)
{
    size_t size;

    memcpy(&size, from, sizeof(size));
    if (size < ROW_SIZE_MIN || size > stride)
        return err_set(e, ERR_OPERATOR,
                       "a row says it is %zu bytes long, not %zu to %zu: set .size to "
                       "sizeof(struct celeriac_task)",
                       size, ROW_SIZE_MIN, stride);
    memset(to, 0, sizeof(*to));
    memcpy(to, from, size < sizeof(*to) ? size : sizeof(*to));
    if (!to->name || !to->name[0])
        return err_set(e, ERR_OPERATOR, "a row has no name");
    if (!to->run)
        return err_set(e, ERR_OPERATOR, "task \"%s\" has no run function", to->name);
    fill_defaults(to);
    return 0;
}

/* "10/s": microseconds between two starts. 0 for no limit, -1 for what is no rate. */
static int64_t rate_us(const char *rate)
{
    static const struct {
        char unit;
        double us;
    } units[] = {{'s', 1e6}, {'m', 60e6}, {'h', 3600e6}};
    double count;
    char *end;

    if (!rate)
        return 0;
    count = strtod(rate, &end);
    if (!(count > 0) || *end != '/')
        return -1;
    for (size_t i = 0; i < 3; i++) {
        if (end[1] == units[i].unit && end[2] == '\0')
            return (int64_t)(units[i].us / count);
    }
    return -1;
}

static int check_dedup(const struct celeriac_task *row, struct err *e)
{
    struct dedup_rule *rule;

    if (!row->dedup)
        return 0;
    if (row->ack_early == CELERIAC_YES)
        return err_set(e, ERR_OPERATOR,
                       "dedup and ack_early exclude each other: what is acknowledged before it "
                       "runs cannot be taken over");
    rule = dedup_rule_new(row->params, row->dedup, row->dedup_window_s, e);
    dedup_rule_free(rule);
    return rule ? 0 : -1;
}

static int make_entry(struct registry_entry *entry, const char *row, size_t stride, struct err *e)
{
    *entry = (struct registry_entry){.init_ok = false};
    if (copy_row(&entry->row, row, stride, e) < 0)
        return -1;
    if (rate_us(entry->row.rate) < 0)
        return err_set(e, ERR_OPERATOR,
                       "task \"%s\": rate \"%s\" is none: write \"10/s\", \"100/m\" or \"5/h\"",
                       entry->row.name, entry->row.rate);
    if (check_dedup(&entry->row, e) < 0)
        return err_wrap(e, "task \"%s\"", entry->row.name);
    if (!entry->row.params)
        return 0;
    entry->params = params_parse(entry->row.params, e);
    return entry->params ? 0 : err_wrap(e, "task \"%s\"", entry->row.name);
}

static void drop_entries(struct registry *r, size_t len)
{
    while (r->len > len)
        params_free(r->entries[--r->len].params);
}

static bool has_name(const struct registry *r, const char *name)
{
    for (size_t i = 0; i < r->len; i++) {
        if (strcmp(r->entries[i].row.name, name) == 0)
            return true;
    }
    return false;
}

/* Adds rows behind those that are there; on an error the registry is as before. Names are compared
 * before anything is sorted, so that dropping the tail undoes it. */
static int add_rows(struct registry *r, const char *rows, size_t len, size_t stride, struct err *e)
{
    size_t before = r->len;
    struct registry_entry *grown = realloc(r->entries, (before + len + 1) * sizeof(*grown));

    if (!grown)
        return err_nomem(e);
    r->entries = grown;
    for (size_t i = 0; i < len; i++) {
        struct registry_entry *entry = &r->entries[r->len];

        if (make_entry(entry, rows + i * stride, stride, e) < 0)
            goto undo;
        if (has_name(r, entry->row.name)) {
            err_set(e, ERR_OPERATOR, "task \"%s\" exists already: rename one of them",
                    entry->row.name);
            params_free(entry->params);
            goto undo;
        }
        r->len++;
    }
    qsort(r->entries, r->len, sizeof(*r->entries), compare_entries);
    return 0;
undo:
    drop_entries(r, before);
    return -1;
}

int registry_init(struct registry *r, struct err *e)
{
    *r = (struct registry){NULL, 0, NULL, 0};
    for (size_t number = 0;; number++) {
        struct builtin_table table = builtin_table(number);

        if (!table.rows)
            return 0;
        if (add_rows(r, (const char *)table.rows, table.len, sizeof(struct celeriac_task), e) < 0)
            return err_wrap(e, "built-in tasks");
    }
}

void registry_release(struct registry *r)
{
    drop_entries(r, 0);
    free(r->entries);
    free(r->handles);
    *r = (struct registry){NULL, 0, NULL, 0};
}

/* dlopen searches the system's folders for a name without a slash; ours is a file's name. */
static void *open_library(const char *path, struct err *e)
{
    char with_dir[4096];
    void *handle;

    if (access(path, R_OK) < 0) {
        err_sys(e, ERR_OPERATOR, errno, "module \"%s\"", path);
        return NULL;
    }
    snprintf(with_dir, sizeof(with_dir), "%s%s", strchr(path, '/') ? "" : "./", path);
    handle = dlopen(with_dir, RTLD_NOW | RTLD_LOCAL);
    if (!handle)
        err_set(e, ERR_OPERATOR, "module \"%s\" can not be loaded: %s", path, dlerror());
    return handle;
}

static int check_module(const struct celeriac_module *m, struct err *e)
{
    if (!m)
        return err_set(e, ERR_OPERATOR,
                       "it exports no celeriac_module: add CELERIAC_MODULE(name, rows) to it");
    if (m->size < MODULE_SIZE_MIN)
        return err_set(e, ERR_OPERATOR, "its celeriac_module is %zu bytes long, not %zu or more",
                       m->size, MODULE_SIZE_MIN);
    if (m->abi_major > CELERIAC_TASK_ABI_MAJOR || m->abi_major < 1)
        return err_set(e, ERR_OPERATOR,
                       "it was built for task ABI %d.%d and this worker has %d.%d: build it with "
                       "this worker's celeriac/task.h, or run a newer worker",
                       m->abi_major, m->abi_minor, CELERIAC_TASK_ABI_MAJOR,
                       CELERIAC_TASK_ABI_MINOR);
    if (!m->tasks || m->tasks_len == 0)
        return err_set(e, ERR_OPERATOR, "it has no tasks");
    if (m->task_size < ROW_SIZE_MIN || m->tasks_len > 100000)
        return err_set(e, ERR_OPERATOR, "its table of %zu rows of %zu bytes makes no sense",
                       m->tasks_len, m->task_size);
    return 0;
}

int registry_load(struct registry *r, const char *path, struct err *e)
{
    void *handle = open_library(path, e);
    const struct celeriac_module *m;
    void **grown;

    if (!handle)
        return -1;
    m = dlsym(handle, "celeriac_module");
    grown = realloc(r->handles, (r->handles_len + 1) * sizeof(*grown));
    if (grown)
        r->handles = grown;
    if (!grown || check_module(m, e) < 0 ||
        add_rows(r, (const char *)m->tasks, m->tasks_len, m->task_size, e) < 0) {
        dlclose(handle);
        return grown ? err_wrap(e, "module \"%s\"", path) : err_nomem(e);
    }
    r->handles[r->handles_len++] = handle;
    return 0;
}

struct registry_entry *registry_find(struct registry *r, const char *name)
{
    return r->len ? bsearch(name, r->entries, r->len, sizeof(*r->entries), compare_name) : NULL;
}

static json_t *describe_row(const struct celeriac_task *row)
{
    return json_pack("{s:s, s:f, s:f, s:b, s:b, s:i, s:I, s:s?, s:s?, s:f}", "name", row->name,
                     "soft_limit_s", row->soft_limit_s, "hard_limit_s", row->hard_limit_s,
                     "ack_early", row->ack_early == CELERIAC_YES, "track_started",
                     row->track_started == CELERIAC_YES, "ignore_result", row->ignore_result,
                     "rate_us", (json_int_t)rate_us(row->rate), "params", row->params, "dedup",
                     row->dedup, "dedup_window_s", row->dedup_window_s);
}

static int add_bytes(const char *bytes, size_t len, void *out)
{
    buf_add(out, bytes, len);
    return 0;
}

int registry_describe(const struct registry *r, struct buf *out, struct err *e)
{
    json_t *list = json_array();
    int failed = list ? 0 : -1;

    for (size_t i = 0; i < r->len && !failed; i++)
        failed = json_array_append_new(list, describe_row(&r->entries[i].row));
    if (!failed)
        failed = json_dump_callback(list, add_bytes, out, JSON_COMPACT);
    json_decref(list);
    return failed || out->failed ? err_nomem(e) : 0;
}

int registry_start(struct registry_entry *entry)
{
    if (!entry->init_ok)
        entry->init_ok = !entry->row.init || entry->row.init() == 0;
    return entry->init_ok ? 0 : -1;
}

void registry_exit(struct registry *r)
{
    for (size_t i = 0; i < r->len; i++) {
        if (r->entries[i].init_ok && r->entries[i].row.exit)
            r->entries[i].row.exit();
        r->entries[i].init_ok = false;
    }
}
