#include "worker/params.h"

#include "base/buf.h"
#include "broker/json_text.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Where the parser stands in a signature's text. */
struct cursor {
    const char *text;
    const char *at;
    bool star_seen; /* "*" or "*rest" */
};

static int bad(const struct cursor *c, const char *what, struct err *e)
{
    return err_set(e, ERR_OPERATOR, "params \"%s\": %s at \"%s\"", c->text, what, c->at);
}

static void skip_space(struct cursor *c)
{
    while (isspace((unsigned char)*c->at))
        c->at++;
}

static bool takes(struct cursor *c, const char *token)
{
    size_t len = strlen(token);

    skip_space(c);
    if (strncmp(c->at, token, len) != 0)
        return false;
    c->at += len;
    skip_space(c);
    return true;
}

static size_t name_len(const struct cursor *c)
{
    size_t n = 0;

    if (isdigit((unsigned char)c->at[0]))
        return 0;
    while (isalnum((unsigned char)c->at[n]) || c->at[n] == '_')
        n++;
    return n;
}

static int parse_default(struct cursor *c, json_t **out, struct err *e)
{
    json_error_t why;
    json_t *value = json_loadb(c->at, strlen(c->at),
                               JSON_DECODE_ANY | JSON_DISABLE_EOF_CHECK | JSON_ALLOW_NUL, &why);

    if (!value)
        return bad(c, "the default is not JSON", e);
    c->at += why.position;
    *out = value;
    return 0;
}

static int find(const struct params *p, const char *name)
{
    for (size_t i = 0; i < p->len; i++) {
        if (strcmp(p->list[i].name, name) == 0)
            return (int)i;
    }
    return -1;
}

static struct param *append(struct params *p, char *name)
{
    struct param *grown = realloc(p->list, (p->len + 1) * sizeof(*grown));

    if (!grown)
        return NULL;
    p->list = grown;
    grown[p->len] = (struct param){name, NULL};
    return &grown[p->len++];
}

static int parse_named(struct params *p, struct cursor *c, struct err *e)
{
    const struct param *before = p->len ? &p->list[p->len - 1] : NULL;
    bool default_before = before && before->default_value;
    size_t len = name_len(c);
    char *name;
    struct param *param;

    if (len == 0)
        return bad(c, "a parameter's name is expected", e);
    name = strndup(c->at, len);
    if (!name || find(p, name) >= 0) {
        free(name);
        return name ? bad(c, "a name comes twice", e) : err_nomem(e);
    }
    param = append(p, name);
    if (!param) {
        free(name);
        return err_nomem(e);
    }
    c->at += len;
    if (takes(c, "=") && parse_default(c, &param->default_value, e) < 0)
        return -1;
    if (!c->star_seen && default_before && !param->default_value)
        return bad(c, "a parameter without a default follows one with a default", e);
    if (!c->star_seen)
        p->positional_len = p->len;
    return 0;
}

static int parse_one(struct params *p, struct cursor *c, struct err *e)
{
    if (p->star_star)
        return bad(c, "nothing may follow **", e);
    if (takes(c, "**")) {
        size_t len = name_len(c);

        p->star_star = true;
        c->at += len;
        return len ? 0 : bad(c, "a name is expected after **", e);
    }
    if (takes(c, "*")) {
        size_t len = name_len(c);

        if (c->star_seen)
            return bad(c, "a second * is one too many", e);
        c->star_seen = true;
        p->star = len > 0;
        c->at += len;
        return 0;
    }
    return parse_named(p, c, e);
}

static int parse_all(struct params *p, struct cursor *c, struct err *e)
{
    skip_space(c);
    while (*c->at) {
        if (parse_one(p, c, e) < 0)
            return -1;
        if (!takes(c, ",") && *c->at)
            return bad(c, "a comma is expected", e);
    }
    return 0;
}

struct params *params_parse(const char *text, struct err *e)
{
    struct cursor c = {text, text, false};
    struct params *p = calloc(1, sizeof(*p));

    if (!p) {
        err_nomem(e);
        return NULL;
    }
    if (parse_all(p, &c, e) < 0) {
        params_free(p);
        return NULL;
    }
    return p;
}

void params_free(struct params *p)
{
    if (!p)
        return;
    for (size_t i = 0; i < p->len; i++) {
        free(p->list[i].name);
        json_decref(p->list[i].default_value);
    }
    free(p->list);
    free(p);
}

/* One call being checked. */
struct binding {
    const struct params *p;
    const char *function;
    size_t given; /* positional arguments */
    json_t *kwargs;
    struct err *e;
};

static const char *plural(size_t n)
{
    return n == 1 ? "" : "s";
}

static int check_keywords(const struct binding *b)
{
    const char *key;
    json_t *value;

    json_object_foreach(b->kwargs, key, value)
    {
        int i = find(b->p, key);

        if (i < 0 && !b->p->star_star)
            return err_set(b->e, ERR_REFUSED, "%s() got an unexpected keyword argument '%s'",
                           b->function, key);
        if (i >= 0 && (size_t)i < b->p->positional_len && (size_t)i < b->given)
            return err_set(b->e, ERR_REFUSED, "%s() got multiple values for argument '%s'",
                           b->function, key);
    }
    return 0;
}

static size_t count_defaults(const struct params *p)
{
    size_t n = 0;

    for (size_t i = 0; i < p->positional_len; i++)
        n += p->list[i].default_value != NULL;
    return n;
}

static size_t count_keyword_only_given(const struct binding *b)
{
    size_t n = 0;

    for (size_t i = b->p->positional_len; i < b->p->len; i++)
        n += json_object_get(b->kwargs, b->p->list[i].name) != NULL;
    return n;
}

static int check_positional(const struct binding *b)
{
    size_t most = b->p->positional_len, defaults = count_defaults(b->p);
    size_t keyword_only = count_keyword_only_given(b);
    char takes_text[64], keyword_text[80] = "";

    if (b->given <= most || b->p->star)
        return 0;
    if (defaults)
        snprintf(takes_text, sizeof(takes_text), "from %zu to %zu", most - defaults, most);
    else
        snprintf(takes_text, sizeof(takes_text), "%zu", most);
    if (keyword_only)
        snprintf(keyword_text, sizeof(keyword_text),
                 " positional argument%s (and %zu keyword-only argument%s)", plural(b->given),
                 keyword_only, plural(keyword_only));
    return err_set(b->e, ERR_REFUSED, "%s() takes %s positional argument%s but %zu%s %s given",
                   b->function, takes_text, defaults || most != 1 ? "s" : "", b->given,
                   keyword_text, b->given == 1 && !keyword_only ? "was" : "were");
}

static bool is_missing(const struct binding *b, size_t i)
{
    const struct param *param = &b->p->list[i];

    if (i < b->p->positional_len && i < b->given)
        return false;
    return !json_object_get(b->kwargs, param->name);
}

static bool is_required_missing(const struct binding *b, size_t i)
{
    return !b->p->list[i].default_value && is_missing(b, i);
}

/* "'x'", "'x' and 'y'", "'x', 'y', and 'z'" */
static void join_names(const struct binding *b, size_t from, size_t to, size_t n, struct buf *out)
{
    size_t done = 0;

    for (size_t i = from; i < to; i++) {
        if (!is_required_missing(b, i))
            continue;
        if (done)
            buf_adds(out, n == 2 ? " and " : done + 1 == n ? ", and " : ", ");
        buf_addf(out, "'%s'", b->p->list[i].name);
        done++;
    }
}

static int check_missing(const struct binding *b, size_t from, size_t to, const char *kind)
{
    struct buf names = BUF_INIT;
    size_t n = 0;

    for (size_t i = from; i < to; i++)
        n += is_required_missing(b, i);
    if (n == 0)
        return 0;
    join_names(b, from, to, n, &names);
    err_set(b->e, ERR_REFUSED, "%s() missing %zu required %s argument%s: %s", b->function, n, kind,
            plural(n), buf_str(&names));
    buf_release(&names);
    return -1;
}

/* kwargs, or a copy with the defaults; the request itself stays as it came, for a retry. */
static json_t *with_defaults(const struct binding *b)
{
    json_t *copy = NULL;

    for (size_t i = 0; i < b->p->len; i++) {
        const struct param *param = &b->p->list[i];

        if (!param->default_value || !is_missing(b, i))
            continue;
        if (!copy)
            copy = json_text_copy(b->kwargs);
        /* A deep copy: a task may change what it was given. */
        if (!copy || json_object_set_new(copy, param->name, json_deep_copy(param->default_value))) {
            json_decref(copy);
            return NULL;
        }
    }
    return copy ? copy : json_incref(b->kwargs);
}

int params_bind(const struct params *p, const char *task, const json_t *args, json_t *kwargs,
                json_t **kwargs_out, struct err *e)
{
    const char *dot = strrchr(task, '.');
    struct binding b = {p, dot ? dot + 1 : task, json_array_size(args), kwargs, e};

    if (check_keywords(&b) < 0 || check_positional(&b) < 0 ||
        check_missing(&b, 0, p->positional_len, "positional") < 0 ||
        check_missing(&b, p->positional_len, p->len, "keyword-only") < 0)
        return -1;
    *kwargs_out = with_defaults(&b);
    return *kwargs_out ? 0 : err_nomem(e);
}
