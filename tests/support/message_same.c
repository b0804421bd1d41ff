#include "tests/support/message_same.h"

#include <stddef.h>
#include <string.h>

#define TEXT(member)                                                                               \
    {                                                                                              \
#member, offsetof(struct message, member), sizeof(const char *), true                      \
    }
#define NUMBER(member)                                                                             \
    {                                                                                              \
#member, offsetof(struct message, member), sizeof(((struct message *)0)->member), false    \
    }

static const struct {
    const char *name;
    size_t at, size;
    bool text;
} members[] = {
    TEXT(task),           TEXT(id),           TEXT(root_id),        TEXT(parent_id),
    TEXT(group),          TEXT(reply_to),     TEXT(correlation_id), TEXT(eta),
    TEXT(expires),        TEXT(queue),        TEXT(compression),    TEXT(body_encoding),
    NUMBER(group_index),  NUMBER(retries),    NUMBER(eta_ms),       NUMBER(expires_ms),
    NUMBER(hard_limit_s), NUMBER(priority),   NUMBER(soft_limit_s), NUMBER(ignore_result),
    NUMBER(lost),         NUMBER(sent_ms),    NUMBER(waits),        NUMBER(dedup_window_ms),
    NUMBER(protocol),     NUMBER(redelivered)};

static bool same_text(const char *a, const char *b)
{
    return a && b ? strcmp(a, b) == 0 : a == b;
}

static bool same_member(const struct message *a, const struct message *b, size_t i)
{
    const char *x = (const char *)a + members[i].at, *y = (const char *)b + members[i].at;

    if (members[i].text)
        return same_text(*(const char *const *)(const void *)x,
                         *(const char *const *)(const void *)y);
    return memcmp(x, y, members[i].size) == 0;
}

static bool same_json(const json_t *a, const json_t *b)
{
    return a && b ? json_equal(a, b) : a == b;
}

static const char *compare_bodies(struct message *a, struct message *b)
{
    struct err x = ERR_INIT, y = ERR_INIT;

    if (message_open_body(a, &x) != message_open_body(b, &y) || strcmp(x.text, y.text) != 0)
        return "open_body";
    if (!same_json(a->args, b->args))
        return "args";
    if (!same_json(a->kwargs, b->kwargs))
        return "kwargs";
    return same_json(a->embed, b->embed) ? NULL : "embed";
}

static const char *compare(struct message *a, struct message *b)
{
    for (size_t i = 0; i < sizeof(members) / sizeof(members[0]); i++) {
        if (!same_member(a, b, i))
            return members[i].name;
    }
    if (!slice_eq(a->body, b->body))
        return "body";
    if (!slice_eq(a->dedup_key, b->dedup_key))
        return "dedup_key";
    if (!same_json(a->headers, message_headers(b)))
        return "headers";
    if (!same_json(a->properties, message_properties(b)))
        return "properties";
    return a->task ? compare_bodies(a, b) : NULL;
}

const char *message_same(struct slice text, bool *skimmed)
{
    struct err x = ERR_INIT, y = ERR_INIT;
    struct message parsed, read = {0};
    int a = message_parse(&parsed, text, &x), b = message_skim(&read, text, &y);
    const char *difference = NULL;

    if (skimmed)
        *skimmed = b == 0 && !read.envelope;
    if (a != b)
        difference = "outcome";
    else if (x.code != y.code || strcmp(x.text, y.text) != 0)
        difference = "error";
    else
        difference = a == 0 ? compare(&parsed, &read) : NULL;
    message_release(&parsed);
    message_release(&read);
    return difference;
}
