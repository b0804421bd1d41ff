#include "base/opt.h"

#include <assert.h>
#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

static size_t count_rows(const struct opt_row *const *tables)
{
    size_t n = 0;

    for (; *tables; tables++) {
        for (const struct opt_row *row = *tables; row->name; row++)
            n++;
    }
    return n;
}

int opt_values_init(struct opt_values *v, const struct opt_row *const *tables, struct err *e)
{
    *v = (struct opt_values){NULL, 0, NULL, 0};
    v->values = calloc(count_rows(tables) + 1, sizeof(*v->values));
    if (!v->values)
        return err_nomem(e);
    for (; *tables; tables++) {
        for (const struct opt_row *row = *tables; row->name; row++)
            v->values[v->len++].row = row;
    }
    return 0;
}

void opt_values_release(struct opt_values *v)
{
    for (size_t i = 0; i < v->len; i++)
        words_release(&v->values[i].items);
    free(v->values);
    free(v->args);
    *v = (struct opt_values){NULL, 0, NULL, 0};
}

/* In environment and file people write underscores; both spellings are one name. */
static bool same_name(const char *a, const char *b)
{
    for (; *a && *b; a++, b++) {
        if ((*a == '_' ? '-' : *a) != (*b == '_' ? '-' : *b))
            return false;
    }
    return *a == *b;
}

static bool row_is(const struct opt_row *row, const char *name)
{
    return same_name(row->name, name) || (row->also && same_name(row->also, name));
}

const struct opt_row *opt_find(const struct opt_row *rows, const char *name)
{
    for (; rows->name; rows++) {
        if (row_is(rows, name))
            return rows;
    }
    return NULL;
}

struct opt_value *opt_value_find(struct opt_values *v, const char *name)
{
    for (size_t i = 0; i < v->len; i++) {
        if (row_is(v->values[i].row, name))
            return &v->values[i];
    }
    return NULL;
}

void opt_env_name(const struct opt_row *row, char *to, size_t size)
{
    size_t len = (size_t)snprintf(to, size, "CELERIAC_%s", row->name);

    for (size_t i = 0; i < len && i < size; i++)
        to[i] = to[i] == '-' ? '_' : (char)toupper((unsigned char)to[i]);
}

/* The word of choices that text is, in any case: its place and length, or NULL. */
static const char *choice_of(const char *choices, const char *text, size_t *len)
{
    while (choices && *choices) {
        *len = strcspn(choices, "|");
        if (strlen(text) == *len && strncasecmp(choices, text, *len) == 0)
            return choices;
        choices += *len;
        choices += *choices == '|';
    }
    return NULL;
}

static int bad_number(const struct opt_row *row, const char *where, const char *text, struct err *e)
{
    const char *what = row->kind == OPT_INT ? "a whole number" : "a number";
    char range[64] = "";

    if ((row->min != 0 || row->max != 0) && isfinite(row->max))
        snprintf(range, sizeof(range), " from %.15g to %.15g", row->min, row->max);
    else if (row->min != 0 || row->max != 0)
        snprintf(range, sizeof(range), ", at least %.15g", row->min);
    return err_set(e, ERR_USAGE, "%s: '%s' is not %s%s%s%s", where, text, what, range,
                   row->choices ? " or " : "", row->choices ? row->choices : "");
}

static int check_number(const struct opt_row *row, const char *where, const char *text,
                        struct err *e)
{
    char *end;
    double number;

    errno = 0;
    number = strtod(text, &end);
    if (end == text || *end || errno || !isfinite(number) || strpbrk(text, "xX \t"))
        return bad_number(row, where, text, e);
    if (row->kind == OPT_INT && (number != floor(number) || fabs(number) > 9e15))
        return bad_number(row, where, text, e);
    if ((row->min != 0 || row->max != 0) && (number < row->min || number > row->max))
        return bad_number(row, where, text, e);
    return 0;
}

/* "1" or "0", or NULL when the word is no truth value. */
static const char *flag_word(const char *text)
{
    static const struct {
        const char *word, *value;
    } words[] = {{"1", "1"}, {"true", "1"},  {"yes", "1"}, {"on", "1"},
                 {"0", "0"}, {"false", "0"}, {"no", "0"},  {"off", "0"}};

    for (size_t i = 0; i < sizeof(words) / sizeof(*words); i++) {
        if (strcasecmp(text, words[i].word) == 0)
            return words[i].value;
    }
    return NULL;
}

/* The text as it is kept, malloc'ed; NULL with e when it does not fit the row. */
static char *accepted(const struct opt_row *row, const char *where, const char *text, struct err *e)
{
    size_t len = 0;
    const char *choice = choice_of(row->choices, text, &len);
    char *copy = NULL;

    if (choice)
        copy = strndup(choice, len);
    else if (row->kind == OPT_CHOICE)
        return err_set(e, ERR_USAGE, "%s: '%s' is none of %s", where, text, row->choices), NULL;
    else if (row->kind == OPT_FLAG && !flag_word(text))
        return err_set(e, ERR_USAGE, "%s: '%s' is none of yes|no|true|false|on|off|1|0", where,
                       text),
               NULL;
    else if ((row->kind == OPT_INT || row->kind == OPT_NUMBER) &&
             check_number(row, where, text, e) < 0)
        return NULL;
    else
        copy = strdup(row->kind == OPT_FLAG ? flag_word(text) : text);
    if (!copy)
        err_nomem(e);
    return copy;
}

static int append_list(struct opt_value *value, const char *text, struct err *e)
{
    while (*text) {
        size_t len = strcspn(text, ",");

        if (len > 0 && words_add(&value->items, slice_make(text, len)) < 0)
            return err_nomem(e);
        text += len;
        text += *text == ',';
    }
    return 0;
}

int opt_value_set(struct opt_value *value, enum opt_origin origin, const char *where,
                  const char *text, struct err *e)
{
    char *item;
    int rc;

    if (value->origin > origin)
        return 0;
    if (value->row->kind == OPT_LIST) {
        if (value->origin < origin)
            words_release(&value->items);
        value->origin = origin;
        return append_list(value, text, e);
    }
    item = accepted(value->row, where, text, e);
    if (!item)
        return -1;
    words_release(&value->items); /* of one option given twice the last one counts */
    value->origin = origin;
    rc = words_add(&value->items, slice_of(item));
    free(item);
    return rc < 0 ? err_nomem(e) : 0;
}

int opt_read_env(struct opt_values *v, struct err *e)
{
    for (size_t i = 0; i < v->len; i++) {
        struct opt_value *value = &v->values[i];
        char name[80];
        const char *where = name, *text;

        if (value->origin >= OPT_FROM_ENV || (value->row->flags & OPT_LINE_ONLY))
            continue;
        opt_env_name(value->row, name, sizeof(name));
        text = getenv(name);
        if ((!text || !*text) && value->row->env) {
            where = value->row->env;
            text = getenv(where);
        }
        /* An empty variable is how shells and unit files say "not set". */
        if (text && *text && opt_value_set(value, OPT_FROM_ENV, where, text, e) < 0)
            return -1;
    }
    return 0;
}

int opt_read_defaults(struct opt_values *v, struct err *e)
{
    for (size_t i = 0; i < v->len; i++) {
        struct opt_value *value = &v->values[i];

        if (value->origin == OPT_UNSET && value->row->fallback &&
            opt_value_set(value, OPT_FROM_DEFAULT, value->row->name, value->row->fallback, e) < 0)
            return -1;
    }
    return 0;
}

static const struct opt_value *value_of(const struct opt_values *v, const char *name)
{
    for (size_t i = 0; i < v->len; i++) {
        if (strcmp(v->values[i].row->name, name) == 0)
            return &v->values[i];
    }
    fprintf(stderr, "bug: option '%s' is in no table\n", name);
    abort();
}

const char *opt_text(const struct opt_values *v, const char *name)
{
    const struct opt_value *value = value_of(v, name);

    return value->items.len > 0 ? value->items.items[0] : NULL;
}

bool opt_flag(const struct opt_values *v, const char *name)
{
    const char *text = opt_text(v, name);

    assert(value_of(v, name)->row->kind == OPT_FLAG);
    return text && *text == '1';
}

double opt_number(const struct opt_values *v, const char *name)
{
    const char *text = opt_text(v, name);

    return text ? strtod(text, NULL) : 0;
}

int64_t opt_int(const struct opt_values *v, const char *name)
{
    assert(value_of(v, name)->row->kind == OPT_INT);
    return (int64_t)opt_number(v, name);
}

enum opt_origin opt_origin(const struct opt_values *v, const char *name)
{
    return value_of(v, name)->origin;
}

const char *const *opt_list(const struct opt_values *v, const char *name, size_t *len)
{
    const struct opt_value *value = value_of(v, name);

    *len = value->items.len;
    return (const char *const *)value->items.items;
}
