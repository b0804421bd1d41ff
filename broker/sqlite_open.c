#include "base/uuid.h"
#include "broker/sqlite.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define CLOSE_MS 2000

/* --- errors --- */

struct problem {
    int rc;
    enum err_code code;
    const char *text;
};

void sqlite_problem(const struct sqlite_broker *b, int rc, struct err *e)
{
    static const struct problem problems[] = {
        {SQLITE_BUSY, ERR_AGAIN, "is locked by another process: jobs are kept, trying again"},
        {SQLITE_LOCKED, ERR_AGAIN, "is locked by another process: jobs are kept, trying again"},
        {SQLITE_FULL, ERR_AGAIN,
         "cannot grow, the disk is full: free some space; jobs are kept, trying again"},
        {SQLITE_IOERR, ERR_AGAIN,
         "had an input/output error: check the disk and the system log; jobs are kept, trying "
         "again"},
        {SQLITE_NOMEM, ERR_AGAIN, "needs more memory than there is: jobs are kept, trying again"},
        {SQLITE_CANTOPEN, ERR_AGAIN,
         "or its '-wal' or '-shm' cannot be opened: check its directory; trying again"},
        {SQLITE_PROTOCOL, ERR_AGAIN, "is locked in a strange way: trying again"},
        {SQLITE_CORRUPT, ERR_OPERATOR,
         "is damaged: stop the workers, save a copy, and recover it with 'sqlite3 FILE .recover'"},
        {SQLITE_NOTADB, ERR_OPERATOR,
         "is not an SQLite database: name another file, or move this one away"},
        {SQLITE_READONLY, ERR_OPERATOR,
         "is read-only: make the file and its directory writable for this user"},
        {SQLITE_PERM, ERR_OPERATOR, "is not accessible: check its permissions"},
        {SQLITE_TOOBIG, ERR_OPERATOR, "was given a message larger than SQLite stores (1 GB)"},
    };
    const struct problem other = {rc, ERR_BUG, "answered in an unexpected way"};
    const struct problem *p = &other;

    for (size_t i = 0; i < sizeof(problems) / sizeof(problems[0]); i++) {
        if (problems[i].rc == (rc & 0xff))
            p = &problems[i];
    }
    err_set(e, p->code, "queue file '%s' %s (SQLite %d: %s)", b->path, p->text, rc,
            sqlite3_errstr(rc));
}

/* --- open --- */

/* Sleeps 0.1, 0.2, 0.4 ... 5 ms between looks at a lock, 50 ms in all: shorter steps than
 * SQLite's own, because a batch holds the lock for about a millisecond. */
static int wait_for_lock(void *unused, int tries)
{
    long us = tries < 6 ? 100L << tries : 5000;
    struct timespec pause = {0, us * 1000};

    (void)unused;
    if (tries > 14)
        return 0;
    nanosleep(&pause, NULL);
    return 1;
}

/* "synchronous=FULL"; a misspelt name must not become a part of the file's. */
static int read_option(struct sqlite_broker *b, const char *option, const char *masked,
                       struct err *e)
{
    static const char known[] = "synchronous=";
    const char *level = option + sizeof(known) - 1;

    if (strncmp(option, known, sizeof(known) - 1) != 0)
        return err_set(e, ERR_USAGE,
                       "'%s': the parameter '%.*s' is not known; known is synchronous", masked,
                       (int)strcspn(option, "="), option);
    b->full_sync = strcasecmp(level, "FULL") == 0;
    if (!b->full_sync && strcasecmp(level, "NORMAL") != 0)
        return err_set(e, ERR_USAGE, "'%s': synchronous is NORMAL or FULL, not '%s'", masked,
                       level);
    return 0;
}

/* The path and its option: "q.db?synchronous=FULL". */
static int read_path(struct sqlite_broker *b, const struct uri *uri, struct err *e)
{
    char *mark;
    size_t name_len;

    b->path = strdup(uri->path ? uri->path : "");
    if (!b->path)
        return err_nomem(e);
    mark = strrchr(b->path, '?');
    name_len = mark ? strspn(mark + 1, "abcdefghijklmnopqrstuvwxyz_") : 0;
    if (name_len && mark[1 + name_len] == '=') {
        if (read_option(b, mark + 1, uri->masked, e) != 0)
            return -1;
        *mark = '\0';
    }
    if (!*b->path || strcmp(b->path, ":memory:") == 0)
        return err_set(e, ERR_USAGE, "'%s' names no file: write sqlite:PATH", uri->masked);
    return 0;
}

static int check_directory(const struct sqlite_broker *b, struct err *e)
{
    char *dir = strdup(b->path);
    char *slash = dir ? strrchr(dir, '/') : NULL;
    const char *name = slash == dir ? "/" : slash ? dir : ".";
    struct stat st;
    int rc = 0;

    if (!dir)
        return err_nomem(e);
    if (slash && slash != dir)
        *slash = '\0';
    if (stat(name, &st) != 0)
        rc = err_sys(e, ERR_OPERATOR, errno, "queue file '%s': no directory '%s'", b->path, name);
    else if (!S_ISDIR(st.st_mode))
        rc = err_set(e, ERR_OPERATOR, "queue file '%s': '%s' is not a directory", b->path, name);
    else if (access(name, W_OK | X_OK) != 0)
        rc = err_sys(e, ERR_OPERATOR, errno, "queue file '%s': directory '%s' is not writable",
                     b->path, name);
    free(dir);
    return rc;
}

static int check_file(const struct sqlite_broker *b, struct err *e)
{
    struct stat st;

    if (stat(b->path, &st) != 0)
        return check_directory(b, e);
    if (!S_ISREG(st.st_mode))
        return err_set(e, ERR_OPERATOR, "queue file '%s' is not a regular file", b->path);
    if (access(b->path, R_OK | W_OK) != 0)
        return err_sys(e, ERR_OPERATOR, errno, "queue file '%s'", b->path);
    return check_directory(b, e);
}

static int copy_config(struct sqlite_broker *b, const struct broker_config *c, struct err *e)
{
    struct uuid_source random = UUID_SOURCE_INIT;

    b->clock = c->clock;
    b->log = c->log;
    b->generation = c->generation;
    b->lease_ms = c->lease_ms;
    b->result_expires_ms = c->result_expires_ms;
    b->owner = (int64_t)(uuid_random(&random) >> 1);
    b->node = strdup(c->node ? c->node : "");
    if (!b->node)
        return err_nomem(e);
    for (size_t i = 0; i < c->queues_len; i++) {
        if (words_add(&b->consumed, slice_of(c->queues[i])) < 0)
            return err_nomem(e);
    }
    return 0;
}

/* In one transaction: our queues are known, and what a dead predecessor held waits again. */
static int arrive(struct sqlite_broker *b)
{
    int64_t id;
    int rc = sqlite_begin(b, true);

    for (size_t i = 0; rc == SQLITE_OK && i < b->consumed.len; i++)
        rc = sqlite_queue_id(b, slice_of(b->consumed.items[i]), &id);
    if (rc == SQLITE_OK && *b->node)
        rc = sqlite_lease_takeover(b);
    if (rc == SQLITE_OK)
        rc = sqlite_commit(b);
    return rc;
}

int sqlite_setup(struct sqlite_broker *b, struct err *e)
{
    int rc = sqlite_schema(b, e);

    if (rc == SQLITE_OK)
        rc = arrive(b);
    if (rc != SQLITE_OK)
        return rc;
    b->ready_to_work = b->maybe_more = true;
    if (b->news)
        sqlite_bell_ring(&b->bell);
    return SQLITE_OK;
}

static int open_file(struct sqlite_broker *b, struct err *e)
{
    int rc = sqlite3_open_v2(
        b->path, &b->db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX, NULL);

    if (rc != SQLITE_OK)
        return err_set(e, ERR_OPERATOR, "cannot open queue file '%s': %s", b->path,
                       b->db ? sqlite3_errmsg(b->db) : "out of memory");
    sqlite3_extended_result_codes(b->db, 1);
    sqlite3_busy_handler(b->db, wait_for_lock, NULL);
    return 0;
}

/* A file that is only busy, or a disk that is only full, is tried again by the polls. */
static int first_setup(struct sqlite_broker *b, struct err *e)
{
    struct err problem = ERR_INIT;
    int rc = sqlite_setup(b, &problem);

    if (rc == SQLITE_OK)
        return 0;
    if (problem.code == ERR_NONE)
        sqlite_problem(b, rc, &problem);
    sqlite_rollback(b);
    if (problem.code == ERR_AGAIN)
        return 0;
    *e = problem;
    return -1;
}

/* --- close --- */

static void free_broker(struct sqlite_broker *b)
{
    sqlite_finalize(b);
    sqlite3_close(b->db);
    sqlite_bell_close(&b->bell);
    sqlite_watches_release(b);
    free((char *)b->announced.json.ptr);
    sqlite_ops_release(&b->ops);
    event_queue_release(&b->out);
    event_queue_release(&b->staged);
    sqlite_queues_forget(b);
    free(b->queues);
    words_release(&b->consumed);
    free(b->node);
    free(b->path);
    free(b);
}

static int hand_back(struct sqlite_broker *b)
{
    int rc = sqlite_begin(b, true);

    if (rc == SQLITE_OK)
        rc = sqlite_lease_release_mine(b);
    if (rc == SQLITE_OK)
        rc = sqlite_node_remove(b);
    if (rc == SQLITE_OK)
        rc = sqlite_commit(b);
    if (rc == SQLITE_OK && b->news)
        sqlite_bell_ring(&b->bell);
    if (rc != SQLITE_OK)
        sqlite_rollback(b);
    return rc;
}

static void sqlite_close(struct broker *base, bool release_leases)
{
    struct sqlite_broker *b = (struct sqlite_broker *)base;
    int64_t deadline = clock_mono_ms(clock_system()) + CLOSE_MS;

    if (release_leases && b->ready_to_work) {
        sqlite_flush(b, deadline);
        while (hand_back(b) != SQLITE_OK && clock_mono_ms(clock_system()) < deadline)
            poll(NULL, 0, 10);
    }
    free_broker(b);
}

/* --- the table --- */

static int sqlite_pollset(struct broker *base, struct pollfd *fds, int max)
{
    struct sqlite_broker *b = (struct sqlite_broker *)base;

    if (max < 1 || b->bell.notify < 0)
        return 0;
    fds[0] = (struct pollfd){.fd = b->bell.notify, .events = POLLIN};
    return 1;
}

static void sqlite_rest(struct broker *base)
{
    struct sqlite_broker *b = (struct sqlite_broker *)base;

    event_queue_rest(&b->out);
    event_queue_rest(&b->staged);
}

static void sqlite_credit(struct broker *base, int n)
{
    ((struct sqlite_broker *)base)->credit = n;
}

static int add(struct broker *base, enum sqlite_op_kind kind, const void *v, size_t item_size,
               size_t n, struct err *e)
{
    return sqlite_ops_add(&((struct sqlite_broker *)base)->ops, kind, v, item_size, n, e);
}

static int op_publish(struct broker *base, const struct broker_message *v, size_t n, struct err *e)
{
    return add(base, SQLITE_OP_PUBLISH, v, sizeof(*v), n, e);
}

static int op_renew(struct broker *base, const struct broker_receipt *v, size_t n, struct err *e)
{
    return add(base, SQLITE_OP_RENEW, v, sizeof(*v), n, e);
}

static int op_note(struct broker *base, const struct broker_note *v, size_t n, struct err *e)
{
    return add(base, SQLITE_OP_NOTE, v, sizeof(*v), n, e);
}

static int op_finish(struct broker *base, const struct broker_finish *v, size_t n, struct err *e)
{
    return add(base, SQLITE_OP_FINISH, v, sizeof(*v), n, e);
}

static int op_release(struct broker *base, const struct broker_release *v, size_t n, struct err *e)
{
    return add(base, SQLITE_OP_RELEASE, v, sizeof(*v), n, e);
}

static int op_bury(struct broker *base, const struct broker_bury *v, size_t n, struct err *e)
{
    return add(base, SQLITE_OP_BURY, v, sizeof(*v), n, e);
}

static int op_store(struct broker *base, const struct broker_store *v, size_t n, struct err *e)
{
    return add(base, SQLITE_OP_STORE, v, sizeof(*v), n, e);
}

static int op_claim(struct broker *base, const struct broker_claim *v, size_t n, struct err *e)
{
    return add(base, SQLITE_OP_CLAIM, v, sizeof(*v), n, e);
}

static int op_ask(struct broker *base, const struct broker_ask *ask, struct err *e)
{
    return add(base, SQLITE_OP_ASK, ask, sizeof(*ask), 1, e);
}

static int add_ids(struct broker *base, enum sqlite_op_kind kind, const uint64_t *tags,
                   const struct slice *ids, size_t n, struct err *e)
{
    struct sqlite_ops_list *list = &((struct sqlite_broker *)base)->ops;
    struct sqlite_ops_list added = {0};

    for (size_t i = 0; i < n; i++) {
        struct sqlite_id item = {tags[i], ids[i]};

        if (sqlite_ops_add(&added, kind, &item, sizeof(item), 1, e) != 0) {
            sqlite_ops_release(&added);
            return -1;
        }
    }
    sqlite_ops_append(list, &added);
    return 0;
}

static int op_get(struct broker *base, const uint64_t *tags, const struct slice *ids, size_t n,
                  struct err *e)
{
    return add_ids(base, SQLITE_OP_GET, tags, ids, n, e);
}

static int op_forget(struct broker *base, const uint64_t *tags, const struct slice *ids, size_t n,
                     struct err *e)
{
    return add_ids(base, SQLITE_OP_FORGET, tags, ids, n, e);
}

static void op_unwatch(struct broker *base, const struct slice *ids, size_t n)
{
    for (size_t i = 0; i < n; i++)
        sqlite_unwatch((struct sqlite_broker *)base, ids[i]);
}

static int op_watch(struct broker *base, const uint64_t *tags, const struct slice *ids, size_t n,
                    struct err *e)
{
    struct sqlite_broker *b = (struct sqlite_broker *)base;

    if (b->bell.notify < 0)
        sqlite_bell_watch(&b->bell, b->log);
    for (size_t i = 0; i < n; i++) {
        if (sqlite_watch(b, tags[i], ids[i], e) != 0) {
            op_unwatch(base, ids, i);
            return -1;
        }
    }
    return 0;
}

static const struct broker_ops sqlite_table = {
    .name = "sqlite",
    .caps = BROKER_CAP_ATOMIC_FINISH | BROKER_CAP_LEASES | BROKER_CAP_DELAY | BROKER_CAP_PRIORITY |
            BROKER_CAP_PEEK | BROKER_CAP_RESULTS | BROKER_CAP_DURABLE | BROKER_CAP_CLAIMS |
            BROKER_CAP_NO_SIGPIPE,
    .close = sqlite_close,
    .pollset = sqlite_pollset,
    .deadline = sqlite_deadline,
    .poll = sqlite_poll,
    .rest = sqlite_rest,
    .credit = sqlite_credit,
    .publish = op_publish,
    .renew = op_renew,
    .note = op_note,
    .finish = op_finish,
    .release = op_release,
    .bury = op_bury,
    .store = op_store,
    .claim = op_claim,
    .ask = op_ask,
    .announce = sqlite_node_announce,
    .result_get = op_get,
    .result_watch = op_watch,
    .result_unwatch = op_unwatch,
    .result_forget = op_forget,
};

struct broker *sqlite_open(const struct uri *uri, const struct broker_config *config, struct err *e)
{
    struct sqlite_broker *b = calloc(1, sizeof(*b));

    if (!b) {
        err_nomem(e);
        return NULL;
    }
    b->base.ops = &sqlite_table;
    b->bell = (struct sqlite_bell){.fd = -1, .notify = -1, .watch = -1};
    if (read_path(b, uri, e) != 0 || copy_config(b, config, e) != 0 || check_file(b, e) != 0 ||
        open_file(b, e) != 0 || sqlite_bell_open(&b->bell, b->path, e) != 0)
        goto fail;
    /* Before the first look, so that no ring is missed in between. */
    if (b->consumed.len)
        sqlite_bell_watch(&b->bell, b->log);
    if (first_setup(b, e) != 0)
        goto fail;
    return &b->base;
fail:
    free_broker(b);
    return NULL;
}
