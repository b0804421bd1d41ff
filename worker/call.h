/*
 * call.h - one call of a task: what task.h promises to user code.
 *
 * Purpose: give a task its request and the functions it may call, and keep what it decided.
 * Model: struct celeriac_call is the first member of struct call, so the pointer that user code
 * gets leads back to ours. Functions only record (verdict, spawned messages) or put a frame into
 * the job channel (progress, send_now); worker/verdict.c reads the record when the task has
 * returned. Invariants: the last verdict wins and drops what the one before it held; spawned
 * messages are encoded at once, so a bad signature is the caller's -1 and never spoils the verdict.
 * Ownership: a call borrows message, entry and environment and owns the record.
 * Fork rule: runner process only.
 */
#ifndef WORKER_CALL_H
#define WORKER_CALL_H

#include "base/frame.h"
#include "base/log.h"
#include "broker/message.h"
#include "broker/result.h"
#include "tasks/task.h"
#include "worker/channel.h"
#include "worker/registry.h"

/* What all calls of a runner share. Borrowed. */
struct call_env {
    int pid; /* of the runner */
    const char *node;
    const struct log *log;
    struct frame_link *jobs;
    struct uuid_source *ids;
};

enum call_decision {
    CALL_UNDECIDED,
    CALL_OK,
    CALL_FAIL,
    CALL_RETRY,
    CALL_REJECT,
    CALL_REQUEUE,
    CALL_IGNORE,
    CALL_REVOKED /* not a task's choice: it expired before it ran */
};

/* What the task decided. Strings and values owned, NULL when not set. */
struct call_record {
    enum call_decision decision;
    json_t *value; /* OK: the result; FAIL, RETRY: array of the exception's arguments */
    char *type;    /* FAIL, RETRY: the exception */
    char *module;
    char *traceback;
    /* RETRY */
    int64_t countdown_ms; /* negative: the row's backoff */
    int64_t eta_ms;       /* 0: countdown */
    int max_retries;      /* CELERIAC_UNSET: the row's */
    json_t *args;
    json_t *kwargs;
    json_t *headers;
    int priority; /* negative: as it was */
    char *queue;
};

struct call {
    struct celeriac_call base; /* first: what user code sees */
    const struct call_env *env;
    struct message *message;
    const struct registry_entry *entry; /* NULL for a task that is not registered */
    const struct channel_run *run;
    uint64_t job;
    char *duplicate_of; /* owned: not run, the success of this job stands for it; or NULL */
    json_t *kwargs;     /* owned: with defaults */
    json_t *embed; /* owned: of four nulls, when a task asked for it and the message has none */
    struct call_record record;
    json_t *children;     /* owned: [[id, null], null] of everything sent */
    struct buf followups; /* owned: spawned messages */
    uint32_t followups_len;
};

/* message: parsed, and its body open when user code is to see it. */
void call_init(struct call *call, const struct call_env *env, struct message *message,
               const struct registry_entry *entry, const struct channel_run *run, uint64_t job);
void call_release(struct call *call);

/* Checks the arguments; -1 when the record now holds the TypeError. */
int call_bind(struct call *call);

/* Instead of a run: concludes with the result of the first job of its dedup key, as the run's
 * channel message has it; null when that is not stored any more. */
void call_repeat(struct call *call);

/* After run() returned: what an unset verdict and the soft limit mean. */
void call_conclude(struct call *call, int returned, bool cancelled);

/* Records a failure by hand. messages: taken. */
void call_fail(struct call *call, const char *type, const char *module, json_t *messages,
               const char *traceback);

/* The same with one text, which may have been cut in the middle of a character. */
void call_fail_text(struct call *call, const char *type, const char *module, const char *text);

/* Remembers a message that was sent on behalf of this call. */
int call_add_child(struct call *call, const char *id);

/* Sends the state document of a state that is not final. result: borrowed. */
int call_note(struct call *call, const char *state, json_t *result);

#endif
