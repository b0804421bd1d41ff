/* The completion script for bash, from the tables. */
#include "base/opt_help.h"

#include <stdio.h>
#include <string.h>

/* "-l|--loglevel" as a pattern of case. */
static void add_pattern(struct buf *out, const struct opt_row *row)
{
    if (row->letter)
        buf_addf(out, "-%c|", row->letter);
    if (row->also)
        buf_addf(out, "--%s|", row->also);
    buf_addf(out, "--%s)", row->name);
}

static void add_words(struct buf *out, const char *choices)
{
    for (; *choices; choices++)
        buf_add(out, *choices == '|' ? " " : choices, 1);
}

/* What may follow an option: its choices, a file, or something only the person knows. */
static void add_arguments(struct buf *out, const struct opt_row *rows)
{
    for (; rows->name; rows++) {
        if (rows->kind == OPT_FLAG || (rows->flags & OPT_HIDDEN))
            continue;
        buf_adds(out, "            ");
        add_pattern(out, rows);
        if (rows->choices) {
            buf_adds(out, " COMPREPLY=($(compgen -W \"");
            add_words(out, rows->choices);
            buf_adds(out, "\" -- \"$cur\"));");
        } else if (rows->flags & OPT_FILE_ARG) {
            buf_adds(out, " COMPREPLY=($(compgen -f -- \"$cur\"));");
        }
        buf_adds(out, " return;;\n");
    }
}

static void add_options(struct buf *out, const struct opt_row *rows)
{
    for (; rows->name; rows++) {
        if (rows->flags & OPT_HIDDEN)
            continue;
        buf_addf(out, " --%s", rows->name);
        if (rows->also)
            buf_addf(out, " --%s", rows->also);
    }
}

static void add_command(struct buf *out, const struct command *command, const char *path)
{
    buf_addf(out, "    \"%s\")\n        case \"$prev\" in\n", path);
    for (size_t i = 0; i < OPT_TABLES_MAX && command->opts[i]; i++)
        add_arguments(out, command->opts[i]);
    add_arguments(out, command_shared_rows());
    buf_adds(out, "        esac\n        words=\"");
    for (const struct command *const *sub = command->subs; sub && *sub; sub++)
        buf_addf(out, "%s ", (*sub)->name);
    for (size_t i = 0; i < OPT_TABLES_MAX && command->opts[i]; i++)
        add_options(out, command->opts[i]);
    add_options(out, command_shared_rows());
    buf_adds(out, "\";;\n");
    for (const struct command *const *sub = command->subs; sub && *sub; sub++) {
        char below[80];

        snprintf(below, sizeof(below), "%.40s %.30s", path, (*sub)->name);
        add_command(out, *sub, below);
    }
}

/* Which words go down the tree. */
static void add_paths(struct buf *out, const struct command *command, const char *path)
{
    for (const struct command *const *sub = command->subs; sub && *sub; sub++) {
        char below[80];

        snprintf(below, sizeof(below), "%.40s %.30s", path, (*sub)->name);
        buf_addf(out, "        \"%s\")", below);
        buf_addf(out, " path=\"%s\";;\n", below);
        add_paths(out, *sub, below);
    }
}

void command_complete(struct buf *out, const struct command *root)
{
    buf_addf(out, "# bash completion for %s; generated from its option tables\n", root->name);
    buf_adds(out, "_celeriac() {\n"
                  "    local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]}\n"
                  "    local path=\"\" words=\"\" word\n"
                  "    COMPREPLY=()\n"
                  "    for word in \"${COMP_WORDS[@]:1:COMP_CWORD-1}\"; do\n"
                  "        case \"$path $word\" in\n");
    add_paths(out, root, "");
    buf_adds(out, "        esac\n    done\n    case \"$path\" in\n");
    add_command(out, root, "");
    buf_adds(out, "    esac\n"
                  "    COMPREPLY=($(compgen -W \"$words\" -- \"$cur\"))\n"
                  "}\ncomplete -o default -F _celeriac celeriac\n");
}
