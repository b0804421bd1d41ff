#include "app/select.h"

#include "base/suggest.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Stretches of argv that hold options of the levels walked through, to be read again with the rows
 * of the command that was found. */
struct stretch {
    int begin, end;
};

#define LEVELS_MAX 4

const struct command *selection_sub(const struct command *command, const char *word)
{
    for (const struct command *const *sub = command->subs; sub && *sub; sub++) {
        if (strcmp((*sub)->name, word) == 0 || ((*sub)->also && strcmp((*sub)->also, word) == 0))
            return *sub;
    }
    return NULL;
}

static int values_for(struct opt_values *values, const struct command *command, struct err *e)
{
    const struct opt_row *tables[OPT_TABLES_MAX + 2];
    size_t n = 0;

    for (size_t i = 0; i < OPT_TABLES_MAX && command->opts[i]; i++)
        tables[n++] = command->opts[i];
    tables[n++] = command_shared_rows();
    tables[n] = NULL;
    return opt_values_init(values, tables, e);
}

/* The options in front of the next word, checked with the rows of this level. */
static int options_ahead(const struct command *command, int argc, char **argv, int *used,
                         struct err *e)
{
    struct opt_values values;
    int status = values_for(&values, command, e);

    *used = 0;
    if (status == 0)
        status = opt_read_line(&values, argc, argv, OPT_STOP_AT_WORD, used, e);
    opt_values_release(&values);
    return status;
}

static void say_unknown(struct selection *s, const char *word)
{
    struct suggest near;

    suggest_init(&near, word);
    for (const struct command *const *sub = s->command->subs; *sub; sub++)
        suggest_offer(&near, (*sub)->name);
    if (near.best)
        snprintf(s->unknown, sizeof(s->unknown), "unknown command '%.40s'; did you mean '%s'?",
                 word, near.best);
    else
        snprintf(s->unknown, sizeof(s->unknown), "unknown command '%.40s'; see '%s --help'", word,
                 s->path);
}

static void enter(struct selection *s, const struct command *sub)
{
    size_t len = strlen(s->path);

    snprintf(s->path + len, sizeof(s->path) - len, " %s", sub->name);
    s->command = sub;
}

int selection_make(struct selection *s, const struct command *root, int argc, char **argv,
                   struct err *e)
{
    struct stretch stretches[LEVELS_MAX] = {{0, 0}};
    int levels = 0, at = 0, used;

    *s = (struct selection){.command = root, .path = "celeriac"};
    while (s->command->subs && levels < LEVELS_MAX) {
        const struct command *sub;

        if (options_ahead(s->command, argc - at, argv + at, &used, e) < 0)
            return -1;
        stretches[levels++] = (struct stretch){at, at + used};
        at += used;
        sub = at < argc ? selection_sub(s->command, argv[at]) : NULL;
        if (!sub && at < argc)
            say_unknown(s, argv[at]);
        if (!sub)
            break;
        enter(s, sub);
        at++;
    }
    if (values_for(&s->values, s->command, e) < 0)
        return -1;
    for (int i = 0; i < levels; i++) {
        if (opt_read_line(&s->values, stretches[i].end - stretches[i].begin,
                          argv + stretches[i].begin, OPT_STOP_AT_WORD, NULL, e) < 0)
            return -1;
    }
    /* Behind an unknown word anything may stand: only the word itself is worth a message. */
    if (s->unknown[0])
        return opt_read_line(&s->values, 1, argv + at, OPT_PERMUTE, NULL, e);
    return opt_read_line(&s->values, argc - at, argv + at, OPT_PERMUTE, NULL, e);
}

void selection_release(struct selection *s)
{
    opt_values_release(&s->values);
}

static bool known_below(const struct command *command, const char *key)
{
    for (size_t i = 0; i < OPT_TABLES_MAX && command->opts[i]; i++) {
        const struct opt_row *row = opt_find(command->opts[i], key);

        if (row && !(row->flags & OPT_LINE_ONLY))
            return true;
    }
    for (const struct command *const *sub = command->subs; sub && *sub; sub++) {
        if (known_below(*sub, key))
            return true;
    }
    return false;
}

/* One file serves all commands: a key of another command is no mistake. */
static bool known_key(void *user, const char *key)
{
    return known_below(user, key);
}

static void user_file(char *to, size_t size)
{
    const char *config = getenv("XDG_CONFIG_HOME"), *home = getenv("HOME");

    if (config && *config)
        snprintf(to, size, "%s/celeriac/celeriac.conf", config);
    else
        snprintf(to, size, "%s/.config/celeriac/celeriac.conf", home ? home : "");
}

/* The file that was named must exist; of the usual places the first that exists is read. */
static int read_config(struct selection *s, const struct command *root, struct err *e)
{
    const char *named = opt_text(&s->values, "config");
    char path[4096];

    if (named) {
        if (opt_read_file(&s->values, named, known_key, (void *)root, e) < 0) {
            e->code = ERR_USAGE;
            return -1;
        }
        return 0;
    }
    user_file(path, sizeof(path));
    if (access(path, F_OK) < 0)
        snprintf(path, sizeof(path), "/etc/celeriac.conf");
    if (access(path, F_OK) < 0)
        return 0;
    return opt_read_file(&s->values, path, known_key, (void *)root, e);
}

int selection_complete(struct selection *s, const struct command *root, struct err *e)
{
    if (opt_read_env(&s->values, e) < 0 || read_config(s, root, e) < 0)
        return -1;
    return opt_read_defaults(&s->values, e);
}
