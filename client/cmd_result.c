/* celeriac result: what is stored for tasks, now or once they are ready. */
#include "base/table.h"
#include "base/words.h"
#include "broker/result.h"
#include "client/cli.h"
#include "client/commands.h"
#include "client/results.h"
#include "client/show.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct opt_row rows[] = {
    {.name = "wait",
     .kind = OPT_NUMBER,
     .flags = OPT_LINE_ONLY,
     .arg = "SECONDS",
     .min = 0,
     .max = 3.2e9,
     .help = "Wait so long for the results; 0 waits for ever. Without it: what is stored now."},
    {.name = "traceback",
     .kind = OPT_FLAG,
     .flags = OPT_LINE_ONLY,
     .help = "Show the tracebacks of failed tasks."},
    {.name = NULL},
};

struct lookup {
    const struct command_context *ctx;
    const char *const *ids;
    size_t n;
    char **documents; /* owned, one per id; NULL: not there (yet) */
    size_t printed;   /* JSON: documents of ids[0..printed) are out */
    bool failed;      /* a task failed */
    bool missing;     /* an id is not known */
    bool no_memory;
};

static int print_pending(const char *id)
{
    json_t *pending =
        json_pack("{s:s,s:n,s:o}", "status", "PENDING", "result", "task_id", cli_json_text(id));
    char *text = json_dumps(pending, JSON_COMPACT);

    json_decref(pending);
    if (!text)
        return -1;
    puts(text);
    free(text);
    return 0;
}

/* Lines come out in the order of the ids, each as soon as it and those in front are there. */
static void print_ready(struct lookup *l)
{
    if (l->ctx->output != COMMAND_JSON)
        return;
    for (; l->printed < l->n && l->documents[l->printed]; l->printed++)
        show_document(slice_of(l->documents[l->printed]));
    fflush(stdout);
}

static int keep_document(void *user, size_t index, struct slice document)
{
    struct lookup *l = user;

    if (!document.ptr)
        return 0;
    free(l->documents[index]);
    l->documents[index] = slice_dup(document);
    l->no_memory = !l->documents[index];
    print_ready(l);
    return l->no_memory;
}

static void judge(struct lookup *l)
{
    for (size_t i = 0; i < l->n; i++) {
        struct slice document = slice_of(l->documents[i]);

        l->missing = l->missing || !document.ptr;
        l->failed = l->failed ||
                    (document.ptr && result_is_ready(document) && !result_is_success(document));
    }
}

static void add_row(struct table *t, const char *id, const char *document)
{
    json_t *root = document ? json_loads(document, JSON_ALLOW_NUL, NULL) : NULL;
    const char *status = cli_member(root, "status");
    struct buf value = BUF_INIT;

    if (status && strcmp(status, "SUCCESS") != 0 && json_object_get(root, "result")) {
        show_exception(&value, json_object_get(root, "result"));
    } else if (status) {
        char *text = json_dumps(json_object_get(root, "result"), JSON_ENCODE_ANY);

        buf_adds(&value, text ? text : "");
        free(text);
    }
    table_cell(t, id);
    table_cell(t, status ? status : "PENDING");
    table_cell(t, cli_member(root, "date_done"));
    table_cell(t, value.len ? buf_str(&value) : NULL);
    buf_release(&value);
    json_decref(root);
}

static void print_traceback(const char *id, const char *document)
{
    json_t *root = document ? json_loads(document, JSON_ALLOW_NUL, NULL) : NULL;
    const char *traceback = cli_member(root, "traceback");

    if (traceback)
        printf("\n%s:\n%s\n", id, traceback);
    json_decref(root);
}

static void print_documents(struct lookup *l)
{
    for (; l->printed < l->n; l->printed++) {
        if (l->documents[l->printed])
            show_document(slice_of(l->documents[l->printed]));
        else if (print_pending(l->ids[l->printed]) < 0)
            l->no_memory = true;
    }
}

static void print_rows(struct lookup *l, bool tracebacks)
{
    static const char *const names[] = {"TASK ID", "STATUS", "DONE", "RESULT", NULL};
    struct table t;

    table_init(&t, names);
    for (size_t i = 0; i < l->n; i++)
        add_row(&t, l->ids[i], l->documents[i]);
    l->no_memory = table_print(&t, stdout, l->ctx->color) < 0;
    table_release(&t);
    for (size_t i = 0; i < l->n && tracebacks; i++)
        print_traceback(l->ids[i], l->documents[i]);
}

/* What is not ready in time is shown as far as it is known. */
static void look_at_rest(struct session *s, struct lookup *l, struct err *e)
{
    const char **rest = calloc(l->n, sizeof(*rest));
    struct lookup found = {.ctx = l->ctx, .n = 0, .documents = calloc(l->n, sizeof(char *))};

    for (size_t i = 0; rest && i < l->n; i++) {
        if (!l->documents[i])
            rest[found.n++] = l->ids[i];
    }
    found.printed = found.n; /* print_documents does it, in order */
    if (!rest || !found.documents)
        err_nomem(e);
    else
        results_get(s, rest, found.n, keep_document, &found, e);
    for (size_t i = 0, at = 0; found.documents && rest && i < l->n; i++) {
        if (!l->documents[i])
            l->documents[i] = found.documents[at++];
    }
    l->no_memory = l->no_memory || found.no_memory;
    free(found.documents);
    free(rest);
}

/* late: some are not ready in time; what is known of them is there. */
static void find_documents(struct session *s, struct lookup *l, const struct opt_values *v,
                           bool *late, struct err *e)
{
    double seconds = opt_number(v, "wait");
    int64_t deadline_ms = seconds > 0 ? session_now(s) + (int64_t)(seconds * 1000) : CLOCK_NEVER;

    if (opt_text(v, "wait"))
        results_wait(s, l->ids, l->n, deadline_ms, keep_document, l, e);
    else
        results_get(s, l->ids, l->n, keep_document, l, e);
    *late = e->code == ERR_TIMEOUT;
    if (*late) {
        *e = (struct err)ERR_INIT;
        look_at_rest(s, l, e);
    }
    if (l->no_memory)
        err_nomem(e);
}

static int look_up(struct session *s, struct lookup *l, const struct opt_values *v)
{
    struct err e = ERR_INIT;
    bool late;

    find_documents(s, l, v, &late, &e);
    if (e.code == ERR_NONE && l->ctx->output == COMMAND_JSON)
        print_documents(l);
    else if (e.code == ERR_NONE)
        print_rows(l, opt_flag(v, "traceback"));
    if (l->no_memory)
        err_nomem(&e);
    if (e.code != ERR_NONE)
        return command_fail(l->ctx, &e);
    judge(l);
    if (late)
        return EXITCODE_TIMEOUT;
    if (l->missing)
        return EXITCODE_NOT_FOUND;
    return l->failed ? EXITCODE_TASK_FAILED : EXITCODE_OK;
}

static int look_up_ids(struct command_context *ctx, const struct opt_values *v,
                       const char *const *ids, size_t n)
{
    struct lookup l = {.ctx = ctx, .ids = ids, .n = n};
    struct session s;
    int status;

    if (n == 0)
        return EXITCODE_OK;
    status = cli_open(&s, ctx, v, opt_text(v, "wait") == NULL);
    if (status != EXITCODE_OK)
        return status;
    l.documents = calloc(n, sizeof(*l.documents));
    if (opt_text(v, "wait"))
        status = cli_check_results(ctx, &s);
    if (status == EXITCODE_OK)
        status = l.documents ? look_up(&s, &l, v) : command_nomem(ctx);
    for (size_t i = 0; l.documents && i < n; i++)
        free(l.documents[i]);
    free(l.documents);
    session_close(&s);
    return status;
}

/* Ids from standard input, one a line. */
static int read_ids(struct words *ids, struct err *e)
{
    char *line = NULL;
    size_t cap = 0;
    int rc = 0;

    errno = 0;
    while (rc == 0 && getline(&line, &cap, stdin) >= 0) {
        size_t len = strcspn(line, "\r\n");

        if (len && words_add(ids, slice_make(line, len)) < 0)
            rc = err_nomem(e);
    }
    if (rc == 0 && !feof(stdin))
        rc = err_sys(e, ERR_USAGE, errno, "reading ids from standard input");
    free(line);
    return rc;
}

static int run(struct command_context *ctx, const struct opt_values *v, int argc, char **argv)
{
    struct words ids = WORDS_INIT;
    struct err e = ERR_INIT;
    int status;

    if (argc != 1 || strcmp(argv[0], "-") != 0)
        return look_up_ids(ctx, v, (const char *const *)argv, (size_t)argc);
    if (read_ids(&ids, &e) < 0)
        status = command_fail(ctx, &e);
    else
        status = look_up_ids(ctx, v, (const char *const *)ids.items, ids.len);
    words_release(&ids);
    return status;
}

const struct command command_result = {
    .name = "result",
    .summary = "Show the results of tasks, and wait for them if wanted.",
    .positional = "ID...",
    .details =
        "With -o json prints one line per id in the order given: the result document as it is "
        "stored, or {\"status\":\"PENDING\",\"result\":null,\"task_id\":ID} for an id that nobody "
        "knows. '-' reads the ids from standard input.\n"
        "Exit status: 6 when --wait was given and some are not ready in time; else 4 when an id is "
        "not known; else 1 when a task failed.",
    .examples = "  celeriac result 4b3f... --wait 10\n"
                "  celeriac call - < tasks.jsonl | celeriac result - --wait 0 -o json",
    .opts = {rows, cli_broker_rows},
    .args_min = 1,
    .args_max = -1,
    .run = run,
};
