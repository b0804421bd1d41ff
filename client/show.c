#include "client/show.h"

#include "client/cli.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void add_value(struct buf *out, const json_t *value)
{
    char *text;

    if (json_is_string(value)) {
        buf_adds(out, json_string_value(value));
        return;
    }
    text = json_dumps(value, JSON_ENCODE_ANY);
    buf_adds(out, text ? text : "");
    free(text);
}

void show_exception(struct buf *out, const json_t *result)
{
    const json_t *message = json_object_get(result, "exc_message");
    const char *type = cli_member(result, "exc_type");
    size_t i;
    json_t *item;

    if (!type) {
        add_value(out, result);
        return;
    }
    buf_adds(out, type);
    if (json_is_array(message) && json_array_size(message) == 0)
        return;
    buf_adds(out, ": ");
    if (!json_is_array(message)) {
        add_value(out, message);
        return;
    }
    json_array_foreach(message, i, item)
    {
        buf_adds(out, i ? ", " : "");
        add_value(out, item);
    }
}

void show_document(struct slice document)
{
    json_t *root;

    /* Others may write JSON over several lines; one id is one line here. */
    if (!memchr(document.ptr, '\n', document.len)) {
        printf("%.*s\n", SLICE_ARG(document));
        return;
    }
    root = json_loadb(document.ptr, document.len, JSON_ALLOW_NUL, NULL);
    cli_print_json(root);
    json_decref(root);
}

static void print_failure(const json_t *root, const char *status)
{
    struct buf line = BUF_INIT;

    show_exception(&line, json_object_get(root, "result"));
    fflush(stdout);
    fprintf(stderr, "celeriac: %s: %s\n", status, buf_str(&line));
    buf_release(&line);
}

int show_result(const struct command_context *ctx, struct slice document)
{
    json_t *root = json_loadb(document.ptr, document.len, JSON_ALLOW_NUL, NULL);
    const char *status = cli_member(root, "status");
    bool ok = status && strcmp(status, "SUCCESS") == 0;

    if (ctx->output == COMMAND_JSON)
        show_document(document);
    else if (ok)
        cli_print_json(json_object_get(root, "result"));
    if (!ok)
        print_failure(root, status ? status : "broken result");
    json_decref(root);
    return ok ? EXITCODE_OK : EXITCODE_TASK_FAILED;
}

int show_id(const struct command_context *ctx, const char *id)
{
    if (ctx->output == COMMAND_JSON)
        return cli_print_new_json(json_pack("{s:s}", "task_id", id));
    puts(id);
    return EXITCODE_OK;
}
