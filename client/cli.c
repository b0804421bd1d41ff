#include "client/cli.h"

#include "broker/answer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

const struct opt_row cli_broker_rows[] = {
    {.name = "timeout",
     .kind = OPT_NUMBER,
     .arg = "SECONDS",
     .fallback = "10",
     .min = 0.001,
     .max = 86400,
     .help = "Give up when the broker has not answered for so long."},
    {.name = NULL},
};

const struct opt_row cli_limit_rows[] = {
    {.name = "limit",
     .letter = 'n',
     .kind = OPT_INT,
     .flags = OPT_LINE_ONLY,
     .arg = "N",
     .fallback = "100",
     .min = 1,
     .max = 1e9,
     .help = "At most so many."},
    {.name = NULL},
};

const struct opt_row cli_force_rows[] = {
    {.name = "force",
     .letter = 'f',
     .also = "yes",
     .kind = OPT_FLAG,
     .flags = OPT_LINE_ONLY,
     .help = "Do not ask whether it is really meant."},
    {.name = NULL},
};

static int open_session(struct session *s, const struct command_context *ctx,
                        const struct opt_values *v, bool connect_once, bool replies)
{
    struct session_config config = {
        .url = opt_text(v, "broker"),
        .result_url = opt_text(v, "result-backend"),
        .timeout_ms = (int64_t)(opt_number(v, "timeout") * 1000),
        .connect_once = connect_once,
        .replies = replies,
        .log = log_wants(ctx->log, LOG_LEVEL_DEBUG) ? ctx->log : NULL,
    };
    struct err e = ERR_INIT;

    if (!config.url)
        return command_usage(ctx, COMMAND_NO_BROKER);
    if (session_open(s, &config, &e) < 0)
        return command_fail(ctx, &e);
    return EXITCODE_OK;
}

int cli_open(struct session *s, const struct command_context *ctx, const struct opt_values *v,
             bool connect_once)
{
    return open_session(s, ctx, v, connect_once, false);
}

int cli_open_for_replies(struct session *s, const struct command_context *ctx,
                         const struct opt_values *v)
{
    return open_session(s, ctx, v, false, true);
}

int cli_check_results(const struct command_context *ctx, const struct session *s)
{
    if (broker_caps(s->broker) & BROKER_CAP_RESULTS)
        return EXITCODE_OK;
    return command_usage(ctx, "--wait would never end: the result backend stores no results");
}

json_t *cli_ask(struct session *s, enum broker_question question, const char *queue,
                const char *handle, int64_t limit, struct err *e)
{
    struct buf text = BUF_INIT;
    json_t *answer = NULL;

    if (session_ask(s, question, slice_of(queue), slice_of(handle), limit, &text, e) == 0) {
        answer = json_loads(buf_str(&text), JSON_ALLOW_NUL, NULL);
        if (!answer)
            err_set(e, ERR_BUG, "the broker's answer is no JSON: %.60s", buf_str(&text));
    }
    buf_release(&text);
    return answer;
}

int cli_confirm(const struct command_context *ctx, const struct opt_values *v, const char *what)
{
    char answer[16] = "";

    if (opt_flag(v, "force"))
        return EXITCODE_OK;
    if (!ctx->in_tty || !ctx->err_tty)
        return command_usage(ctx, "%s: this can not be undone; say --yes to do it", what);
    fprintf(stderr, "%s? [y/N] ", what);
    if (fgets(answer, sizeof(answer), stdin) && (answer[0] == 'y' || answer[0] == 'Y'))
        return EXITCODE_OK;
    fputs("celeriac: nothing was done\n", stderr);
    return EXITCODE_REFUSED;
}

static int no_memory(void)
{
    fflush(stdout);
    fputs("celeriac: out of memory\n", stderr);
    return EXITCODE_INTERNAL;
}

int cli_print_json(const json_t *value)
{
    char *text = json_dumps(value, JSON_ENCODE_ANY);

    if (!text)
        return no_memory();
    puts(text);
    free(text);
    return EXITCODE_OK;
}

int cli_print_new_json(json_t *value)
{
    int status = cli_print_json(value);

    json_decref(value);
    return status;
}

int cli_print_table(const struct command_context *ctx, struct table *t)
{
    int status = table_print(t, stdout, ctx->color) < 0 ? no_memory() : EXITCODE_OK;

    table_release(t);
    return status;
}

json_t *cli_json_text(const char *text)
{
    struct buf quoted = BUF_INIT;
    json_t *value;

    answer_text(&quoted, slice_of(text));
    value = json_loads(buf_str(&quoted), JSON_DECODE_ANY, NULL);
    buf_release(&quoted);
    return value;
}

void cli_time(int64_t wall_ms, char *to, size_t size)
{
    time_t seconds = (time_t)(wall_ms / 1000);
    struct tm tm;

    if (wall_ms == 0 || !gmtime_r(&seconds, &tm) || !strftime(to, size, "%Y-%m-%d %H:%M:%SZ", &tm))
        snprintf(to, size, "-");
}

const char *cli_member(const json_t *object, const char *name)
{
    return json_string_value(json_object_get(object, name));
}

int cli_show(const struct command_context *ctx, const struct opt_values *v,
             enum broker_question question, const char *queue, int64_t limit, cli_print_fn *print)
{
    struct err e = ERR_INIT;
    struct session s;
    json_t *answer;
    int status = cli_open(&s, ctx, v, true);

    if (status != EXITCODE_OK)
        return status;
    answer = cli_ask(&s, question, queue, NULL, limit, &e);
    if (!answer)
        status = command_fail(ctx, &e);
    else
        status = ctx->output == COMMAND_JSON ? cli_print_json(answer) : print(ctx, answer);
    json_decref(answer);
    session_close(&s);
    return status;
}
