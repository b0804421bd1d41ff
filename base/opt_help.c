#include "base/opt_help.h"

#include <stdio.h>
#include <string.h>

#define HELP_INDENT 28

static void pad(struct buf *out, int n)
{
    while (n-- > 0)
        buf_add(out, " ", 1);
}

void opt_wrap(struct buf *out, const char *text, int at, int indent, int columns)
{
    bool first = true;

    while (*text) {
        int len = (int)strcspn(text, " \n");

        if (!first && at + 1 + len > columns) {
            buf_add(out, "\n", 1);
            pad(out, indent);
            at = indent;
        } else if (!first) {
            buf_add(out, " ", 1);
            at++;
        }
        buf_add(out, text, (size_t)len);
        at += len;
        text += len;
        first = false;
        if (*text == '\n') {
            buf_add(out, "\n", 1);
            pad(out, text[1] ? indent : 0);
            at = indent;
            first = true;
        }
        text += *text != '\0';
    }
}

static int help_left_side(struct buf *out, const struct opt_row *row)
{
    size_t before = out->len;

    if (row->letter)
        buf_addf(out, "  -%c, --%s", row->letter, row->name);
    else
        buf_addf(out, "      --%s", row->name);
    if (row->also)
        buf_addf(out, ", --%s", row->also);
    if (row->arg)
        buf_addf(out, " %s", row->arg);
    return (int)(out->len - before);
}

static void help_row(struct buf *out, const struct opt_row *row, int columns)
{
    struct buf text = BUF_INIT;
    int at = help_left_side(out, row);

    buf_adds(&text, row->help);
    if (row->kind == OPT_CHOICE)
        buf_addf(&text, " One of %s.", row->choices);
    if (row->fallback)
        buf_addf(&text, " Default: %s.", row->fallback);
    if (at + 2 > HELP_INDENT) {
        buf_add(out, "\n", 1);
        at = 0;
    }
    pad(out, HELP_INDENT - at);
    opt_wrap(out, buf_str(&text), HELP_INDENT, HELP_INDENT, columns);
    buf_add(out, "\n", 1);
    buf_release(&text);
}

void opt_help(struct buf *out, const struct opt_row *rows, int columns)
{
    for (; rows->name; rows++) {
        if (!(rows->flags & OPT_HIDDEN))
            help_row(out, rows, columns);
    }
}

static void help_usage(struct buf *out, const struct command *command, const char *path)
{
    buf_addf(out, "Usage: %s [OPTION...]", path);
    if (command->subs)
        buf_adds(out, " COMMAND ...");
    if (command->positional)
        buf_addf(out, " %s", command->positional);
    buf_add(out, "\n", 1);
}

static void help_subs(struct buf *out, const struct command *const *subs, int columns)
{
    buf_adds(out, "\nCommands:\n");
    for (; *subs; subs++) {
        const struct command *sub = *subs;
        char left[64];

        snprintf(left, sizeof(left), "  %s%s%s", sub->name, sub->also ? ", " : "",
                 sub->also ? sub->also : "");
        buf_addf(out, "%-20s", left);
        opt_wrap(out, sub->summary, 20, 20, columns);
        buf_add(out, "\n", 1);
    }
}

static bool has_rows(const struct command *command)
{
    return command->opts[0] && command->opts[0]->name;
}

static void help_exit_status(struct buf *out)
{
    buf_adds(out, "\nExit status:\n");
    for (int code = 0; exitcode_meaning((enum exitcode)code); code++)
        buf_addf(out, "  %d  %s\n", code, exitcode_meaning((enum exitcode)code));
}

void command_help(struct buf *out, const struct command *command, const char *path, int columns)
{
    help_usage(out, command, path);
    if (command->summary) {
        opt_wrap(out, command->summary, 0, 0, columns);
        buf_add(out, "\n", 1);
    }
    if (command->details) {
        buf_add(out, "\n", 1);
        opt_wrap(out, command->details, 0, 0, columns);
        buf_add(out, "\n", 1);
    }
    if (command->subs)
        help_subs(out, command->subs, columns);
    if (has_rows(command))
        buf_adds(out, "\nOptions:\n");
    for (size_t i = 0; i < OPT_TABLES_MAX && command->opts[i]; i++)
        opt_help(out, command->opts[i], columns);
    buf_adds(out, "\nOptions of every command, accepted in front of it too:\n");
    opt_help(out, command_shared_rows(), columns);
    if (command->examples)
        buf_addf(out, "\nExamples:\n%s\n", command->examples);
    if (!strchr(path, ' '))
        help_exit_status(out);
}
