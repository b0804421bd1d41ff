/* Man pages in roff, from the tables. */
#include "base/opt_help.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

/* roff takes '\\' as its own, '-' as a hyphen, and '.' or '\'' at the begin of a line as a request.
 */
static void add_roff(struct buf *out, const char *text)
{
    bool begins = out->len == 0 || buf_str(out)[out->len - 1] == '\n';

    for (; *text; text++) {
        if (begins && (*text == '.' || *text == '\''))
            buf_adds(out, "\\&");
        if (*text == '\\')
            buf_adds(out, "\\e");
        else if (*text == '-')
            buf_adds(out, "\\-");
        else
            buf_add(out, text, 1);
        begins = *text == '\n';
    }
}

static void add_paragraphs(struct buf *out, const char *text)
{
    for (; *text; text++) {
        const char *end = strchrnul(text, '\n');
        char line[4096];

        snprintf(line, sizeof(line), "%.*s", (int)(end - text), text);
        buf_adds(out, ".PP\n");
        add_roff(out, line);
        buf_adds(out, "\n");
        if (!*end)
            break;
        text = end;
    }
}

static void add_upper(struct buf *out, const char *text)
{
    for (; *text; text++) {
        char c = (char)toupper((unsigned char)*text);

        buf_adds(out, c == '-' ? "\\-" : "");
        if (c != '-')
            buf_add(out, &c, 1);
    }
}

static void man_head(struct buf *out, const struct command *command, const char *page,
                     const char *date)
{
    buf_adds(out, ".TH ");
    add_upper(out, page);
    buf_addf(out, " 1 \"%s\" \"celeriac %s\" \"Celeriac\"\n.SH NAME\n", date, CELERIAC_VERSION);
    add_roff(out, page);
    buf_adds(out, " \\- ");
    add_roff(out, command->summary);
    buf_adds(out, "\n");
}

static void man_usage(struct buf *out, const struct command *command, const char *path)
{
    buf_adds(out, "\\fB");
    add_roff(out, path);
    buf_adds(out, "\\fR [\\fIOPTION\\fR...]");
    if (command->subs)
        buf_adds(out, " \\fICOMMAND\\fR ...");
    if (command->positional) {
        buf_adds(out, " \\fI");
        add_roff(out, command->positional);
        buf_adds(out, "\\fR");
    }
    buf_adds(out, "\n");
}

static void man_row(struct buf *out, const struct opt_row *row)
{
    buf_adds(out, ".TP\n");
    if (row->letter)
        buf_addf(out, "\\fB\\-%c\\fR, ", row->letter);
    buf_adds(out, "\\fB\\-\\-");
    add_roff(out, row->name);
    if (row->also) {
        buf_adds(out, "\\fR, \\fB\\-\\-");
        add_roff(out, row->also);
    }
    buf_adds(out, "\\fR");
    if (row->arg)
        buf_addf(out, " \\fI%s\\fR", row->arg);
    buf_adds(out, "\n");
    add_roff(out, row->help);
    if (row->kind == OPT_CHOICE)
        buf_addf(out, " One of %s.", row->choices);
    if (row->fallback) {
        buf_adds(out, " Default: ");
        add_roff(out, row->fallback);
        buf_adds(out, ".");
    }
    buf_adds(out, "\n");
}

static void man_rows(struct buf *out, const struct opt_row *rows)
{
    for (; rows->name; rows++) {
        if (!(rows->flags & OPT_HIDDEN))
            man_row(out, rows);
    }
}

static void man_options(struct buf *out, const struct command *command)
{
    for (size_t i = 0; i < OPT_TABLES_MAX && command->opts[i]; i++)
        man_rows(out, command->opts[i]);
}

/* Sub-commands of a family stand in its page; commands of the program have their own. */
static void man_subs(struct buf *out, const struct command *command, const char *path,
                     bool own_pages)
{
    buf_adds(out, ".SH COMMANDS\n");
    for (const struct command *const *sub = command->subs; *sub; sub++) {
        char sub_path[80];

        snprintf(sub_path, sizeof(sub_path), "%s%c%s", path, own_pages ? '-' : ' ', (*sub)->name);
        if (own_pages) {
            buf_adds(out, ".TP\n\\fB");
            add_roff(out, sub_path);
            buf_adds(out, "\\fR(1)\n");
            add_roff(out, (*sub)->summary);
            buf_adds(out, "\n");
            continue;
        }
        buf_adds(out, ".SS ");
        man_usage(out, *sub, sub_path);
        add_paragraphs(out, (*sub)->summary);
        if ((*sub)->details)
            add_paragraphs(out, (*sub)->details);
        man_options(out, *sub);
    }
}

static void man_environment(struct buf *out, const struct opt_row *rows)
{
    for (; rows->name; rows++) {
        char name[80];

        if (rows->flags & (OPT_LINE_ONLY | OPT_HIDDEN))
            continue;
        opt_env_name(rows, name, sizeof(name));
        buf_addf(out, ".TP\n.B %s%s%s\nAs \\fB\\-\\-", name, rows->env ? ", " : "",
                 rows->env ? rows->env : "");
        add_roff(out, rows->name);
        buf_adds(out, "\\fR.\n");
    }
}

static void man_exit_status(struct buf *out)
{
    buf_adds(out, ".SH EXIT STATUS\n");
    for (int code = 0; exitcode_meaning((enum exitcode)code); code++) {
        buf_addf(out, ".TP\n.B %d\n", code);
        add_roff(out, exitcode_meaning((enum exitcode)code));
        buf_adds(out, "\n");
    }
}

static void man_tail(struct buf *out, const struct command *command)
{
    buf_adds(out, ".SH ENVIRONMENT\nA command line option outranks the environment, which outranks "
                  "the configuration file.\n");
    for (size_t i = 0; i < OPT_TABLES_MAX && command->opts[i]; i++)
        man_environment(out, command->opts[i]);
    man_environment(out, command_shared_rows());
    buf_adds(out,
             ".TP\n.B NO_COLOR\nWhen set and not empty, no colours on a terminal.\n"
             ".SH FILES\nThe first that exists is read; lines are \\(lqkey = value\\(rq, where "
             "a key is the long name of an option; # begins a comment.\n"
             ".TP\n.I $XDG_CONFIG_HOME/celeriac/celeriac.conf\n"
             "~/.config instead of $XDG_CONFIG_HOME when that is not set.\n"
             ".TP\n.I /etc/celeriac.conf\nThe host's.\n");
}

void command_man(struct buf *out, const struct command *command, const char *path, const char *page,
                 const char *date)
{
    bool is_program = strchr(path, ' ') == NULL;

    man_head(out, command, page, date);
    buf_adds(out, ".SH SYNOPSIS\n");
    man_usage(out, command, path);
    buf_adds(out, ".SH DESCRIPTION\n");
    add_roff(out, command->summary);
    buf_adds(out, "\n");
    if (command->details)
        add_paragraphs(out, command->details);
    if (command->subs)
        man_subs(out, command, path, is_program);
    buf_adds(out, ".SH OPTIONS\n");
    man_options(out, command);
    man_rows(out, command_shared_rows());
    if (command->examples) {
        buf_adds(out, ".SH EXAMPLES\n.nf\n");
        add_roff(out, command->examples);
        buf_adds(out, "\n.fi\n");
    }
    man_exit_status(out);
    man_tail(out, command);
    buf_adds(out, ".SH SEE ALSO\n");
    buf_adds(out, is_program ? "\\fBlibceleriac\\fR(3)\n" : "\\fBceleriac\\fR(1)\n");
}
