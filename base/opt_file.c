/* The configuration file: `key = value` lines. */
#include "base/opt.h"
#include "base/suggest.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct conf {
    struct opt_values *v;
    const char *path;
    int line_number;
    opt_known_fn *known;
    void *user;
};

static char *trimmed(char *text)
{
    size_t len;

    while (isspace((unsigned char)*text))
        text++;
    len = strlen(text);
    while (len > 0 && isspace((unsigned char)text[len - 1]))
        text[--len] = '\0';
    return text;
}

/* "quoted values" keep their blanks. */
static char *unquoted(char *text)
{
    size_t len = strlen(text);

    if (len < 2 || text[0] != '"' || text[len - 1] != '"')
        return text;
    text[len - 1] = '\0';
    return text + 1;
}

static int unknown_key(const struct conf *conf, const char *key, struct err *e)
{
    struct suggest near;

    if (conf->known && conf->known(conf->user, key))
        return 0;
    suggest_init(&near, key);
    for (size_t i = 0; i < conf->v->len; i++) {
        if (!(conf->v->values[i].row->flags & (OPT_LINE_ONLY | OPT_HIDDEN)))
            suggest_offer(&near, conf->v->values[i].row->name);
    }
    if (near.best)
        return err_set(e, ERR_USAGE, "%s:%d: unknown key '%s'; did you mean '%s'?", conf->path,
                       conf->line_number, key, near.best);
    return err_set(e, ERR_USAGE, "%s:%d: unknown key '%s'", conf->path, conf->line_number, key);
}

static int read_conf_line(const struct conf *conf, char *line, struct err *e)
{
    char *text = trimmed(line), *equals, *key;
    struct opt_value *value;
    char where[400];

    if (*text == '\0' || *text == '#')
        return 0;
    equals = strchr(text, '=');
    if (!equals)
        return err_set(e, ERR_USAGE, "%s:%d: not of the form 'key = value': %.60s", conf->path,
                       conf->line_number, text);
    *equals = '\0';
    key = trimmed(text);
    value = opt_value_find(conf->v, key);
    if (!value || (value->row->flags & OPT_LINE_ONLY))
        return unknown_key(conf, key, e);
    snprintf(where, sizeof(where), "%s:%d: %s", conf->path, conf->line_number, key);
    return opt_value_set(value, OPT_FROM_FILE, where, unquoted(trimmed(equals + 1)), e);
}

int opt_read_file(struct opt_values *v, const char *path, opt_known_fn *known, void *user,
                  struct err *e)
{
    struct conf conf = {v, path, 0, known, user};
    FILE *file = fopen(path, "re");
    char *line = NULL;
    size_t cap = 0;
    int status = 0;

    if (!file)
        return err_sys(e, errno == ENOENT ? ERR_NOTFOUND : ERR_OPERATOR, errno,
                       "can not read the configuration file '%s'", path);
    while (status == 0 && getline(&line, &cap, file) >= 0) {
        conf.line_number++;
        status = read_conf_line(&conf, line, e);
    }
    if (status == 0 && ferror(file))
        status = err_sys(e, ERR_OPERATOR, errno, "can not read the configuration file '%s'", path);
    free(line);
    fclose(file);
    return status;
}
