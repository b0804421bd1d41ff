/* celeriac dead ls|show|retry|rm: messages that could not be handled, with their causes. */
#include "base/table.h"
#include "client/cli.h"
#include "client/commands.h"

#include <stdio.h>
#include <string.h>

static const struct opt_row select_rows[] = {
    {.name = "all",
     .kind = OPT_FLAG,
     .flags = OPT_LINE_ONLY,
     .help = "Every dead letter of --queue, or of all queues."},
    {.name = "queue",
     .letter = 'Q',
     .kind = OPT_TEXT,
     .flags = OPT_LINE_ONLY,
     .arg = "QUEUE",
     .help = "With --all: only of this queue."},
    {.name = NULL},
};

#define SEARCH_LIMIT 1000000

static int print_list(const struct command_context *ctx, const json_t *letters)
{
    static const char *const names[] = {"HANDLE", "QUEUE", "GRAVE", "AT", "ID",
                                        "TASK",   ">SIZE", "CAUSE", NULL};
    struct table t;
    json_t *row;
    size_t i;

    table_init(&t, names);
    json_array_foreach(letters, i, row)
    {
        char when[40];

        cli_time(json_integer_value(json_object_get(row, "at_ms")), when, sizeof(when));
        table_cell(&t, cli_member(row, "handle"));
        table_cell(&t, cli_member(row, "queue"));
        table_cell(&t, cli_member(row, "grave"));
        table_cell(&t, when);
        table_cell(&t, cli_member(row, "id"));
        table_cell(&t, cli_member(row, "task"));
        table_cellf(&t, "%lld", (long long)json_integer_value(json_object_get(row, "size")));
        table_cell(&t, cli_member(row, "cause"));
    }
    return cli_print_table(ctx, &t);
}

static int run_ls(struct command_context *ctx, const struct opt_values *v, int argc, char **argv)
{
    return cli_show(ctx, v, BROKER_ASK_DEAD, argc > 0 ? argv[0] : "", opt_int(v, "limit"),
                    print_list);
}

static const struct command command_ls = {
    .name = "ls",
    .summary = "List dead letters with their causes.",
    .positional = "[QUEUE]",
    .opts = {cli_limit_rows, cli_broker_rows, NULL},
    .args_max = 1,
    .run = run_ls,
};

/* People know task ids, brokers know handles: the handle of the letter with that id, or NULL with
 * an error. New reference of its row. */
static json_t *find_by_id(struct session *s, const char *id, struct err *e)
{
    json_t *letters = cli_ask(s, BROKER_ASK_DEAD, "", "", SEARCH_LIMIT, e), *row, *found = NULL;
    size_t i;

    json_array_foreach(letters, i, row)
    {
        const char *row_id = cli_member(row, "id");

        if (!found && row_id && strcmp(row_id, id) == 0)
            found = json_incref(row);
    }
    if (letters && !found)
        err_set(e, ERR_NOTFOUND, "there is no dead letter with the handle or task id '%s'", id);
    json_decref(letters);
    return found;
}

static json_t *show_one(struct session *s, const char *handle, struct err *e)
{
    json_t *letter = cli_ask(s, BROKER_ASK_DEAD_SHOW, "", handle, 0, e), *row;

    if (!letter || json_object_size(letter) > 0)
        return letter;
    json_decref(letter);
    row = find_by_id(s, handle, e);
    letter = row ? cli_ask(s, BROKER_ASK_DEAD_SHOW, "", cli_member(row, "handle"), 0, e) : NULL;
    json_decref(row);
    return letter;
}

static int print_letter(const struct command_context *ctx, const json_t *letter)
{
    static const char *const names[] = {"", "", NULL};
    static const char *const members[] = {"handle", "queue", "grave", "cause", "id", "task", NULL};
    const char *envelope = cli_member(letter, "envelope");
    char when[40];
    struct table t;

    cli_time(json_integer_value(json_object_get(letter, "at_ms")), when, sizeof(when));
    table_init(&t, names);
    for (const char *const *member = members; *member; member++) {
        table_cell(&t, *member);
        table_cell(&t, cli_member(letter, *member));
    }
    table_cell(&t, "at");
    table_cell(&t, when);
    table_cell(&t, "envelope");
    table_cell(&t, envelope);
    return cli_print_table(ctx, &t);
}

static int run_show(struct command_context *ctx, const struct opt_values *v, int argc, char **argv)
{
    struct err e = ERR_INIT;
    struct session s;
    json_t *letter;
    int status = cli_open(&s, ctx, v, true);

    (void)argc;
    if (status != EXITCODE_OK)
        return status;
    letter = show_one(&s, argv[0], &e);
    if (!letter)
        status = command_fail(ctx, &e);
    else
        status = ctx->output == COMMAND_JSON ? cli_print_json(letter) : print_letter(ctx, letter);
    json_decref(letter);
    session_close(&s);
    return status;
}

static const struct command command_show = {
    .name = "show",
    .summary = "Show one dead letter with its message.",
    .positional = "HANDLE|ID",
    .opts = {cli_broker_rows, NULL},
    .args_min = 1,
    .args_max = 1,
    .run = run_show,
};

/* What retry and rm do to letters. */
struct deed {
    enum broker_question question;
    const char *member; /* of the answer */
    const char *verb;
};

static const struct deed deed_retry = {BROKER_ASK_DEAD_RETRY, "moved", "sent again"};
static const struct deed deed_rm = {BROKER_ASK_DEAD_RM, "removed", "removed"};

/* How many letters it was done to, or -1 with e. */
static int64_t do_handle(struct session *s, const struct deed *deed, const char *queue,
                         const char *handle, struct err *e)
{
    json_t *answer = cli_ask(s, deed->question, queue, handle, 0, e);
    int64_t n = answer ? json_integer_value(json_object_get(answer, deed->member)) : -1;

    json_decref(answer);
    return n;
}

static int64_t do_one(struct session *s, const struct deed *deed, const char *handle, struct err *e)
{
    /* "all" is the broker's word for every letter; people say --all. */
    int64_t n = strcmp(handle, "all") == 0 ? 0 : do_handle(s, deed, "", handle, e);
    json_t *row;

    if (n != 0)
        return n;
    row = find_by_id(s, handle, e);
    n = row ? do_handle(s, deed, "", cli_member(row, "handle"), e) : -1;
    json_decref(row);
    return n;
}

static int print_done(const struct command_context *ctx, const struct deed *deed, int64_t n)
{
    if (ctx->output == COMMAND_JSON)
        return cli_print_new_json(json_pack("{s:I}", deed->member, (json_int_t)n));
    printf("%lld dead letters %s\n", (long long)n, deed->verb);
    return EXITCODE_OK;
}

/* Each handle for itself: one that is not found does not stop the others. */
static int do_each(struct session *s, const struct command_context *ctx, const struct deed *deed,
                   int argc, char **argv)
{
    int64_t done = 0;
    int status = EXITCODE_OK;

    for (int i = 0; i < argc; i++) {
        struct err e = ERR_INIT;
        int64_t n = do_one(s, deed, argv[i], &e);

        if (n < 0)
            status = command_fail(ctx, &e);
        else
            done += n;
    }
    print_done(ctx, deed, done);
    return status != EXITCODE_OK && done > 0 ? EXITCODE_PARTIAL : status;
}

static int do_all(struct session *s, const struct command_context *ctx, const struct deed *deed,
                  const char *queue)
{
    struct err e = ERR_INIT;
    int64_t n = do_handle(s, deed, queue ? queue : "", "all", &e);

    if (n < 0)
        return command_fail(ctx, &e);
    return print_done(ctx, deed, n);
}

static int do_selected(struct command_context *ctx, const struct opt_values *v,
                       const struct deed *deed, int argc, char **argv)
{
    struct session s;
    int status = cli_open(&s, ctx, v, true);

    if (status != EXITCODE_OK)
        return status;
    if (opt_flag(v, "all"))
        status = do_all(&s, ctx, deed, opt_text(v, "queue"));
    else
        status = do_each(&s, ctx, deed, argc, argv);
    session_close(&s);
    return status;
}

static int check_selection(struct command_context *ctx, const struct opt_values *v, int argc)
{
    if (opt_flag(v, "all") && argc > 0)
        return command_usage(ctx, "--all and handles exclude each other");
    if (!opt_flag(v, "all") && argc == 0)
        return command_usage(ctx, "%s: name a HANDLE or say --all", ctx->name);
    if (!opt_flag(v, "all") && opt_text(v, "queue"))
        return command_usage(ctx, "--queue goes with --all only");
    return EXITCODE_OK;
}

static int run_retry(struct command_context *ctx, const struct opt_values *v, int argc, char **argv)
{
    int status = check_selection(ctx, v, argc);

    return status == EXITCODE_OK ? do_selected(ctx, v, &deed_retry, argc, argv) : status;
}

static const struct command command_retry = {
    .name = "retry",
    .summary = "Send dead letters back to their queues.",
    .positional = "[HANDLE|ID...]",
    .opts = {select_rows, cli_broker_rows, NULL},
    .args_max = -1,
    .run = run_retry,
};

static int run_rm(struct command_context *ctx, const struct opt_values *v, int argc, char **argv)
{
    int status = check_selection(ctx, v, argc);

    if (status == EXITCODE_OK)
        status = cli_confirm(ctx, v,
                             opt_flag(v, "all") ? "remove all these dead letters"
                                                : "remove these dead letters");
    return status == EXITCODE_OK ? do_selected(ctx, v, &deed_rm, argc, argv) : status;
}

static const struct command command_rm = {
    .name = "rm",
    .summary = "Remove dead letters for good.",
    .positional = "[HANDLE|ID...]",
    .opts = {select_rows, cli_force_rows, cli_broker_rows, NULL},
    .args_max = -1,
    .run = run_rm,
};

static const struct command *const subs[] = {&command_ls, &command_show, &command_retry,
                                             &command_rm, NULL};

const struct command command_dead = {
    .name = "dead",
    .summary = "Look at messages that could not be handled, send them again or remove them.",
    .details = "A dead letter is kept untouched with its cause: in <queue>.dead what can not be "
               "read or lost its worker too often, in <queue>.unknown the messages of tasks that "
               "no worker knew.",
    .subs = subs,
};
