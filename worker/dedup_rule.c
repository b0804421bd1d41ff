#include "worker/dedup_rule.h"

#include "broker/broker.h"
#include "broker/message.h"
#include "worker/params.h"

#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#define PLAIN_MAX 200 /* a longer key is a digest */
#define TASK_MAX  400 /* a task with a longer name is part of the digest only */
#define SPACES    " \t\n"

struct dedup_rule {
    struct params *params; /* owned; NULL: unchecked */
    char *chosen;          /* owned: the names, each ended by NUL; NULL: all */
    size_t chosen_len;
    double window_s;
};

static bool is_parameter(const struct params *p, const char *name)
{
    for (size_t i = 0; p && i < p->len; i++) {
        if (strcmp(p->list[i].name, name) == 0)
            return true;
    }
    return false;
}

/* "x, y" becomes "x\0y\0". */
static int read_names(struct dedup_rule *rule, const char *chosen, struct err *e)
{
    char *to = malloc(strlen(chosen) + 2);

    rule->chosen = to;
    if (!to)
        return err_nomem(e);
    while (*chosen) {
        size_t skipped = strspn(chosen, SPACES ","), len;

        chosen += skipped;
        len = strcspn(chosen, SPACES ",");
        if (len == 0)
            continue;
        memcpy(to, chosen, len);
        to[len] = '\0';
        if (!is_parameter(rule->params, to))
            return err_set(e, ERR_OPERATOR, "dedup names \"%s\", which is not in params", to);
        to += len + 1;
        chosen += len;
    }
    rule->chosen_len = (size_t)(to - rule->chosen);
    return rule->chosen_len ? 0
                            : err_set(e, ERR_OPERATOR, "dedup names no parameter: \"*\" is all");
}

static int fill(struct dedup_rule *rule, const char *params, const char *chosen, double window_s,
                struct err *e)
{
    rule->window_s = window_s == 0 ? MESSAGE_WINDOW_S : window_s;
    if (!(rule->window_s >= 0.001 && rule->window_s <= MESSAGE_WINDOW_MAX_S))
        return err_set(e, ERR_OPERATOR, "dedup_window_s is %g: 0.001 to %.0f seconds are allowed",
                       window_s, MESSAGE_WINDOW_MAX_S);
    if (params && !(rule->params = params_parse(params, e)))
        return -1;
    return strcmp(chosen, "*") == 0 ? 0 : read_names(rule, chosen, e);
}

struct dedup_rule *dedup_rule_new(const char *params, const char *chosen, double window_s,
                                  struct err *e)
{
    struct dedup_rule *rule = calloc(1, sizeof(*rule));

    if (!rule) {
        err_nomem(e);
        return NULL;
    }
    if (fill(rule, params, chosen, window_s, e) == 0)
        return rule;
    dedup_rule_free(rule);
    return NULL;
}

void dedup_rule_free(struct dedup_rule *rule)
{
    if (!rule)
        return;
    params_free(rule->params);
    free(rule->chosen);
    free(rule);
}

int64_t dedup_rule_window_ms(const struct dedup_rule *rule)
{
    return (int64_t)(rule->window_s * 1000);
}

/* Positional arguments under their names beside the keywords; those for *rest under "*". */
static int name_positional(const struct params *p, const json_t *args, json_t *all)
{
    size_t n = json_array_size(args);
    json_t *rest = n > p->positional_len ? json_array() : NULL;
    int failed = n > p->positional_len && !rest;

    for (size_t i = 0; i < n && !failed; i++) {
        json_t *value = json_array_get(args, i);

        failed = i < p->positional_len ? json_object_set(all, p->list[i].name, value)
                                       : json_array_append(rest, value);
    }
    if (rest && !failed)
        failed = json_object_set(all, "*", rest);
    json_decref(rest);
    return failed;
}

static int keep_chosen(const struct dedup_rule *rule, json_t **all)
{
    json_t *some = json_object();
    int failed = some == NULL;
    const char *name = rule->chosen;

    for (; !failed && name < rule->chosen + rule->chosen_len; name += strlen(name) + 1)
        failed = json_object_set(some, name, json_object_get(*all, name));
    json_decref(*all);
    *all = some;
    return failed;
}

/* What counts of the arguments, as one object; new reference or NULL. */
static json_t *arguments(const struct dedup_rule *rule, const char *task, const json_t *args,
                         json_t *kwargs, struct err *e)
{
    json_t *bound, *all;
    int failed;

    if (!rule->params) {
        all = json_pack("{s:O, s:O}", "args", args, "kwargs", kwargs);
        if (!all)
            err_nomem(e);
        return all;
    }
    if (params_bind(rule->params, task, args, kwargs, &bound, e) < 0)
        return NULL;
    all = json_copy(bound);
    json_decref(bound);
    failed = !all || name_positional(rule->params, args, all);
    if (!failed && rule->chosen)
        failed = keep_chosen(rule, &all);
    if (!failed)
        return all;
    json_decref(all);
    err_nomem(e);
    return NULL;
}

static void put_key(struct buf *key, const char *task, const char *json, size_t len)
{
    size_t task_len = strlen(task);
    XXH3_state_t *state;
    XXH128_canonical_t digest;

    if (task_len + 1 + len <= PLAIN_MAX) {
        buf_addf(key, "%s:", task);
        buf_add(key, json, len);
        return;
    }
    state = XXH3_createState();
    if (!state) {
        key->failed = true;
        return;
    }
    XXH3_128bits_reset(state);
    XXH3_128bits_update(state, task, task_len + 1);
    XXH3_128bits_update(state, json, len);
    XXH128_canonicalFromHash(&digest, XXH3_128bits_digest(state));
    XXH3_freeState(state);
    if (task_len <= TASK_MAX)
        buf_addf(key, "%s:", task);
    buf_adds(key, "xxh128:");
    for (size_t i = 0; i < sizeof(digest.digest); i++)
        buf_addf(key, "%02x", digest.digest[i]);
}

int dedup_rule_key(const struct dedup_rule *rule, const char *task, const json_t *args,
                   json_t *kwargs, struct buf *key, struct err *e)
{
    json_t *all = arguments(rule, task, args, kwargs, e);
    char *json = all ? json_dumps(all, JSON_SORT_KEYS | JSON_COMPACT) : NULL;

    if (json)
        put_key(key, task, json, strlen(json));
    else if (all)
        err_nomem(e);
    json_decref(all);
    if (!json)
        return -1;
    free(json);
    return key->failed ? err_nomem(e) : 0;
}
