/*
 * celeriac.h - the client library: send tasks to a Celery or Celeriac queue and read their results.
 *
 *     struct celeriac_error err;
 *     struct celeriac *c = celeriac_open("redis://localhost/0", NULL, &err);
 *     struct celeriac_task_options how = CELERIAC_TASK_OPTIONS_INIT;
 *     how.args_json = "[2, 3]";
 *     char id[CELERIAC_ID_SIZE];
 *     if (!c || celeriac_send(c, "math.add", &how, id, &err) < 0) ...
 *     char *doc = NULL;
 *     if (celeriac_wait(c, id, 5000, &doc, &err) == 0) puts(doc);
 *     celeriac_free(doc);
 *     celeriac_close(c);
 *
 * Model: a client owns one connection and works only inside its calls: no thread, no event loop, no
 * signal handler. Calls block up to a deadline. A send returns once the broker confirmed it; while
 * the broker is away it is tried again with backoff until the deadline, and a resend is idempotent,
 * so a task is enqueued at most once per call and an error means "not confirmed". JSON goes in and
 * out as text, so the library forces no JSON library on the program.
 *
 * Ownership: strings given are borrowed during the call; strings received are owned by the caller
 * and freed with celeriac_free. Errors: int functions return 0, or -1 with err filled (err may be
 * NULL); err holds no memory. Threads: several threads may use the library, each with a client of
 * its own. Fork: open after fork; a client that was opened before fork must not be used, not even
 * closed, in the child. C++: safe to include.
 */
#ifndef CELERIAC_H
#define CELERIAC_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define CELERIAC_API __attribute__((visibility("default")))

#define CELERIAC_ID_SIZE 37 /* 36 characters and the NUL */

struct celeriac;

/* The numbers are also the exit codes of the celeriac command. */
enum celeriac_code {
    CELERIAC_OK = 0,
    CELERIAC_TASK_FAILED = 1, /* the task ended in FAILURE or REVOKED */
    CELERIAC_USAGE = 2,       /* an argument is wrong: URL, JSON, name */
    CELERIAC_UNREACHABLE = 3, /* the broker did not answer, or not in time to confirm */
    CELERIAC_NOT_FOUND = 4,
    CELERIAC_REFUSED = 5, /* wrong password, no permission, read-only, too large */
    CELERIAC_TIMEOUT = 6, /* the deadline passed while waiting for a result */
    CELERIAC_PARTIAL = 7  /* some of a batch was confirmed */
};

struct celeriac_error {
    enum celeriac_code code;
    char text[400]; /* one line: the thing, the cause, what to do */
};

/* Start from CELERIAC_OPTIONS_INIT; zero means the default. */
struct celeriac_options {
    size_t size;
    const char *result_url;    /* NULL: results live in the broker */
    int64_t timeout_ms;        /* for connecting and for each confirmed call; default 10,000 */
    int64_t result_expires_ms; /* reserved for states the client stores itself; default 24 h */
};
#define CELERIAC_OPTIONS_INIT                                                                      \
    {                                                                                              \
        sizeof(struct celeriac_options), NULL, 0, 0                                                \
    }

/* Start from CELERIAC_TASK_OPTIONS_INIT; NULL and zero mean "not set" unless said otherwise. */
struct celeriac_task_options {
    size_t size;
    const char *args_json;    /* JSON array; default [] */
    const char *kwargs_json;  /* JSON object; default {} */
    const char *headers_json; /* JSON object, merged into the message's headers */
    const char *id;           /* default: a new UUID */
    const char *queue;        /* default "celery" */
    int priority;             /* 0-9, Redis order: lower first; default 0 */
    double countdown_s;       /* seconds from now */
    const char *eta;          /* ISO-8601; instead of countdown_s */
    double expires_s;         /* seconds from now */
    const char *expires;      /* ISO-8601; instead of expires_s */
    double soft_limit_s;
    double hard_limit_s;
    int ignore_result;
    const char *root_id;
    const char *parent_id;
    const char *group;
    const char *reply_to;
    const char *shadow;
    /* Jobs with one key are one piece of work: run once within the window, the others get its
     * result. 1 to 512 bytes, one namespace for all tasks of the broker. */
    const char *dedup_key;
    double dedup_window_s; /* how long a success is remembered; default 3600 */
};
#define CELERIAC_TASK_OPTIONS_INIT                                                                 \
    {                                                                                              \
        sizeof(struct celeriac_task_options), NULL, NULL, NULL, NULL, NULL, 0, 0, NULL, 0, NULL,   \
            0, 0, 0, NULL, NULL, NULL, NULL, NULL, NULL, 0                                         \
    }

/* url: see celeriac(1). options may be NULL. NULL with err on failure; connects before it returns.
 */
CELERIAC_API struct celeriac *celeriac_open(const char *url, const struct celeriac_options *options,
                                            struct celeriac_error *err);
CELERIAC_API void celeriac_close(struct celeriac *c);

/* Enqueues one task; id_out may be NULL. Confirmed when it returns 0. */
CELERIAC_API int celeriac_send(struct celeriac *c, const char *task,
                               const struct celeriac_task_options *options,
                               char id_out[CELERIAC_ID_SIZE], struct celeriac_error *err);

/* Enqueues n tasks in as few steps as the broker allows. ids may be NULL; those confirmed have
 * their id set, the others "". Returns 0 when all are confirmed; -1 with CELERIAC_PARTIAL when some
 * are. */
CELERIAC_API int celeriac_send_many(struct celeriac *c, const char *const *tasks,
                                    const struct celeriac_task_options *const *options, size_t n,
                                    char (*ids)[CELERIAC_ID_SIZE], struct celeriac_error *err);

/* The stored result document (JSON text as Celery stores it), now. CELERIAC_NOT_FOUND when nothing
 * is stored. */
CELERIAC_API int celeriac_get(struct celeriac *c, const char *id, char **document,
                              struct celeriac_error *err);

/* Waits until the task is ready (SUCCESS, FAILURE, REVOKED). timeout_ms 0: for ever. 0 with the
 * document whatever the state (see celeriac_succeeded); CELERIAC_TIMEOUT otherwise. */
CELERIAC_API int celeriac_wait(struct celeriac *c, const char *id, int64_t timeout_ms,
                               char **document, struct celeriac_error *err);

/* Waits for n tasks. on_ready is called once for each as it becomes ready, in order of arrival
 * (document borrowed); non-zero stops the wait. It must not use the client. CELERIAC_TIMEOUT when
 * some are not ready in time. */
typedef int celeriac_ready_fn(void *user, size_t index, const char *id, const char *document);
CELERIAC_API int celeriac_wait_many(struct celeriac *c, const char *const *ids, size_t n,
                                    int64_t timeout_ms, celeriac_ready_fn *on_ready, void *user,
                                    struct celeriac_error *err);

/* Non-zero when the document's status is SUCCESS. */
CELERIAC_API int celeriac_succeeded(const char *document);

/* The "result" member of a document as JSON text, to be freed; NULL when it is not a document. */
CELERIAC_API char *celeriac_result_json(const char *document);

/* Removes a stored result. Not finding one is no error. */
CELERIAC_API int celeriac_forget(struct celeriac *c, const char *id, struct celeriac_error *err);

CELERIAC_API void celeriac_free(void *text);

/* "0.1.0" */
CELERIAC_API const char *celeriac_version(void);

#ifdef __cplusplus
}
#endif
#endif
