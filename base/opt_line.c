/* The command line: GNU style. */
#include "base/opt.h"
#include "base/suggest.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct line {
    struct opt_values *v;
    int argc;
    char **argv;
    int at; /* the string that is read now */
};

static int unknown_option(struct line *line, const char *name, size_t len, struct err *e)
{
    char word[80];
    struct suggest near;

    snprintf(word, sizeof(word), "%.*s", (int)len, name);
    suggest_init(&near, word);
    for (size_t i = 0; i < line->v->len; i++) {
        const struct opt_row *row = line->v->values[i].row;

        if (row->flags & OPT_HIDDEN)
            continue;
        suggest_offer(&near, row->name);
        if (row->also)
            suggest_offer(&near, row->also);
    }
    if (near.best)
        return err_set(e, ERR_USAGE, "unknown option --%s; did you mean --%s?", word, near.best);
    return err_set(e, ERR_USAGE, "unknown option --%s; see --help", word);
}

static struct opt_value *by_letter(struct opt_values *v, char letter)
{
    for (size_t i = 0; i < v->len; i++) {
        if (letter && v->values[i].row->letter == letter)
            return &v->values[i];
    }
    return NULL;
}

/* The option's argument: behind '=' or in the letter's own word, or the next word. */
static int take_argument(struct line *line, struct opt_value *value, const char *where,
                         const char *attached, struct err *e)
{
    const char *text = attached;

    if (!text) {
        if (line->at + 1 >= line->argc)
            return err_set(e, ERR_USAGE, "%s needs an argument: %s", where,
                           value->row->arg ? value->row->arg : "VALUE");
        text = line->argv[++line->at];
    }
    return opt_value_set(value, OPT_FROM_LINE, where, text, e);
}

static int read_long(struct line *line, const char *word, struct err *e)
{
    const char *equals = strchr(word, '=');
    size_t len = equals ? (size_t)(equals - word) : strlen(word);
    struct opt_value *value;
    char name[80], where[84];

    if (len >= sizeof(name) || memchr(word, '_', len))
        return unknown_option(line, word, len, e);
    snprintf(name, sizeof(name), "%.*s", (int)len, word);
    snprintf(where, sizeof(where), "--%s", name);
    value = opt_value_find(line->v, name);
    if (!value)
        return unknown_option(line, word, len, e);
    if (value->row->kind != OPT_FLAG)
        return take_argument(line, value, where, equals ? equals + 1 : NULL, e);
    return opt_value_set(value, OPT_FROM_LINE, where, equals ? equals + 1 : "1", e);
}

/* A cluster of letters: flags, and at most one option with an argument, the last. */
static int read_letters(struct line *line, const char *letters, struct err *e)
{
    for (; *letters; letters++) {
        struct opt_value *value = by_letter(line->v, *letters);
        char where[3] = {'-', *letters, '\0'};

        if (!value)
            return err_set(e, ERR_USAGE, "unknown option -%c; see --help", *letters);
        if (value->row->kind != OPT_FLAG) {
            const char *attached = letters[1] ? letters + 1 + (letters[1] == '=') : NULL;

            return take_argument(line, value, where, attached, e);
        }
        if (opt_value_set(value, OPT_FROM_LINE, where, "1", e) < 0)
            return -1;
    }
    return 0;
}

static int add_positional(struct opt_values *v, char *word, struct err *e)
{
    char **grown = realloc(v->args, (v->args_len + 2) * sizeof(*grown));

    if (!grown)
        return err_nomem(e);
    v->args = grown;
    v->args[v->args_len++] = word;
    v->args[v->args_len] = NULL;
    return 0;
}

int opt_read_line(struct opt_values *v, int argc, char **argv, enum opt_stop stop, int *used,
                  struct err *e)
{
    struct line line = {v, argc, argv, 0};
    bool only_words = false; /* behind "--" */

    for (; line.at < argc; line.at++) {
        char *word = argv[line.at];
        int status;

        if (only_words || word[0] != '-' || word[1] == '\0') {
            if (stop == OPT_STOP_AT_WORD)
                break;
            status = add_positional(v, word, e);
        } else if (strcmp(word, "--") == 0) {
            only_words = true;
            continue;
        } else if (word[1] == '-') {
            status = read_long(&line, word + 2, e);
        } else {
            status = read_letters(&line, word + 1, e);
        }
        if (status < 0)
            return -1;
    }
    if (used)
        *used = line.at;
    return 0;
}
