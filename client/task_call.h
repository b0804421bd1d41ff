/*
 * task_call.h - one task to call, from the three forms in which people give it.
 *
 * Purpose: the library's options, the command line's options and a JSON line all become this, are
 * checked by one set of rules, and are encoded as a message.
 * Model: a table of members says name, kind and place; the JSON form is an object of them:
 * {"task": "math.add", "args": [1, 2], "countdown": 3}. Times that lie ahead are numbers of
 * seconds, points in time are ISO-8601 texts. Invariants: a call that was accepted can be encoded,
 * except for what only message_encode knows; every refusal names the member. Ownership: a call
 * holds references to its JSON values and copies no text: what it was filled from must outlive it.
 * Fork rule: none, plain memory.
 */
#ifndef CLIENT_TASK_CALL_H
#define CLIENT_TASK_CALL_H

#include "client/celeriac.h"
#include "client/send.h"

#include <jansson.h>

struct task_call {
    const char *task;
    const char *id;     /* NULL: a new one */
    const char *new_id; /* that is the new one; NULL: any */
    const char *queue;
    const char *root_id;
    const char *parent_id;
    const char *group;
    const char *reply_to;
    const char *shadow;
    json_t *args; /* owned references */
    json_t *kwargs;
    struct slice args_text; /* {NULL,0}, or instead of args: as in struct message_spec */
    struct slice kwargs_text;
    json_t *headers;
    const char *dedup;     /* key; NULL: none */
    double dedup_window_s; /* 0: not set */
    double countdown_s;
    double expires_in_s;
    int64_t eta_ms; /* wall clock; 0: not set */
    int64_t expires_ms;
    double soft_limit_s;
    double hard_limit_s;
    int64_t priority;
    bool ignore_result;
    const char *origin; /* of the sender; NULL: found out anew */
};

int task_call_from_options(struct task_call *call, const char *task,
                           const struct celeriac_task_options *options, struct err *e);

/* object: borrowed for the life of the call. */
int task_call_from_json(struct task_call *call, json_t *object, struct err *e);
void task_call_release(struct task_call *call);

/* One line of input in its most common form: names, args and kwargs in plain JSON, other members
 * not. Takes what the line has to *call, which is filled with what lines without it get; the line
 * and names must outlive the call. False when the line is not of that form, be it good or bad: then
 * *call is as it was. */
struct task_names {
    char task[256];
    char queue[256];
    char id[UUID_SIZE];
};
bool task_call_from_plain(struct task_call *call, struct task_names *names, struct slice line);

/* True for one that certainly can be encoded: plain names, arguments as text, nothing more. False:
 * encoding tells. */
bool task_call_is_plain(const struct task_call *call);

/* Fills o, which is zero or was used before, with the encoded message, ready for send_all. */
int task_call_encode(const struct task_call *call, struct uuid_source *ids, int64_t now_ms,
                     struct outgoing *o, struct err *e);

/* Parses the JSON text of a member, for options that hold JSON: a new reference, or NULL. */
json_t *task_call_json(const char *member, const char *text, struct err *e);

#endif
