#include "broker/redis_conn.h"

#include "base/decimal.h"
#include "broker/backoff.h"
#include "broker/redis_address.h"
#include "broker/redis_reply.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <unistd.h>

#define CONNECT_MS   5000
#define SILENCE_MS   30000 /* with a request unanswered: the peer is gone */
#define BACKOFF_MS   50
#define BACKOFF_MAX  2000
#define OUTPUT_LIMIT (1u << 20) /* bytes that are to be written; more wait as requests */
#define KEEP_MAX     (64u << 10)
#define SPARES       4
#define SPARE_MAX    (512u << 10) /* bytes of a spare request */
#define READ_SIZE    (64u << 10)
#define READS        16    /* a busy connection does not starve the other */
#define SLEEP_MS     250   /* at a time */
#define NEAR_NS      20000 /* a request, its answer and two switches on one core take less */

void redis_conn_init(struct redis_conn *c, const struct redis_conn_hooks *hooks, void *owner,
                     const struct redis_address *address, const struct clock *clock,
                     struct uuid_source *random)
{
    *c = (struct redis_conn){
        .hooks = hooks, .owner = owner, .address = address, .clock = clock, .random = random};
    for (int id = 0; id < REDIS_SCRIPTS; id++)
        redis_script_sha((enum redis_script_id)id, c->sha[id]);
}

/* --- queues of requests --- */

static void push_tail(struct redis_requests *q, struct redis_request *r)
{
    r->next = NULL;
    if (q->tail)
        q->tail->next = r;
    else
        q->head = r;
    q->tail = r;
}

static struct redis_request *pop_head(struct redis_requests *q)
{
    struct redis_request *r = q->head;

    if (r) {
        q->head = r->next;
        if (!q->head)
            q->tail = NULL;
        r->next = NULL;
    }
    return r;
}

static void free_all(struct redis_requests *q)
{
    struct redis_request *r;

    while ((r = pop_head(q)))
        redis_request_free(r);
}

/* --- memory of requests --- */

static size_t memory_of(const struct redis_request *r)
{
    return r->keys.cap + r->args.cap + r->items_cap * sizeof(*r->items);
}

static void put_away(struct redis_conn *c, struct redis_request *r)
{
    if (c->spares_len == SPARES || memory_of(r) > SPARE_MAX) {
        redis_request_free(r);
        return;
    }
    redis_request_clear(r);
    push_tail(&c->spares, r);
    c->spares_len++;
}

struct redis_request *redis_conn_request(struct redis_conn *c, const struct redis_op *op,
                                         enum redis_script_id script)
{
    struct redis_request *r = pop_head(&c->spares);

    if (!r)
        return redis_request_new(op, script);
    c->spares_len--;
    redis_request_reuse(r, op, script);
    return r;
}

static void free_spares(struct redis_conn *c)
{
    free_all(&c->spares);
    c->spares_len = 0;
}

static void fail_all(struct redis_conn *c, struct redis_requests *q, const struct err *why)
{
    struct redis_requests failing = *q;
    struct redis_request *r;

    /* A handler may submit anew: what it adds is not failed in the same breath. */
    *q = (struct redis_requests){0};
    while ((r = pop_head(&failing))) {
        if (r->op->failed)
            r->op->failed(c->owner, r, why);
        put_away(c, r);
    }
}

void redis_conn_fail_all(struct redis_conn *c, const struct err *why)
{
    fail_all(c, &c->aside, why);
    fail_all(c, &c->waiting, why);
}

static void close_ctx(struct redis_conn *c)
{
    if (c->ctx)
        redisFree(c->ctx);
    c->ctx = NULL;
    c->phase = REDIS_DOWN;
    buf_release(&c->out);
    c->half = NULL;
    memset(c->known, 0, sizeof(c->known));
    c->greetings = 0;
    c->unanswered = 0;
    c->blocked = false;
}

void redis_conn_release(struct redis_conn *c)
{
    close_ctx(c);
    free_all(&c->waiting);
    free_all(&c->aside);
    free_all(&c->sent);
    free_spares(c);
    arena_release(&c->replies);
}

void redis_conn_rest(struct redis_conn *c)
{
    arena_rest(&c->replies);
    free_spares(c);
    if (c->ctx)
        redis_reply_rest(c->ctx);
    if (c->out.len == 0)
        buf_release(&c->out);
}

/* --- breaking and connecting --- */

void redis_conn_drop(struct redis_conn *c, const struct err *why)
{
    close_ctx(c);
    c->retry_at_ms = clock_mono_ms(c->clock) +
                     backoff_ms(BACKOFF_MS, BACKOFF_MAX, c->failures, uuid_random(c->random));
    c->failures++;
    c->hooks->down(c->owner, c, why);
    fail_all(c, &c->sent, why);
    if (why->code == ERR_OPERATOR)
        redis_conn_fail_all(c, why);
    arena_clear(&c->replies);
    c->broken = (struct err)ERR_INIT;
}

static void drop_sys(struct redis_conn *c, int errnum)
{
    struct err e;

    err_sys(&e, ERR_RECONNECT, errnum, "redis at %s", c->address->shown);
    redis_conn_drop(c, &e);
}

static void drop_unconnected(struct redis_conn *c, int errnum)
{
    struct err e;

    err_connect(&e, errnum, "redis at %s", c->address->shown);
    redis_conn_drop(c, &e);
}

static void drop_text(struct redis_conn *c, const char *text)
{
    struct err e;

    err_set(&e, ERR_RECONNECT, "redis at %s: %s", c->address->shown, text);
    redis_conn_drop(c, &e);
}

static void start_connect(struct redis_conn *c)
{
    const struct redis_address *to = c->address;

    if (clock_mono_ms(c->clock) < c->retry_at_ms)
        return;
    c->ctx =
        to->port ? redisConnectNonBlock(to->host, to->port) : redisConnectUnixNonBlock(to->host);
    if (c->ctx && c->ctx->err == REDIS_ERR_IO) {
        drop_unconnected(c, errno);
        return;
    }
    if (!c->ctx || c->ctx->err) {
        drop_text(c, c->ctx ? c->ctx->errstr : "out of memory");
        return;
    }
    /* Buffers of the reader are kept up to this size instead of being freed after every reply. */
    c->ctx->reader->maxbuf = READ_SIZE;
    redis_reply_build_in(c->ctx->reader, &c->replies);
    c->phase = REDIS_CONNECTING;
    c->may_sleep = false;
    c->alive_at_ms = clock_mono_ms(c->clock);
}

static void finish_connect(struct redis_conn *c)
{
    struct pollfd fd = {.fd = c->ctx->fd, .events = POLLOUT};
    socklen_t len = sizeof(int);
    int errnum = 0;

    if (poll(&fd, 1, 0) <= 0) {
        if (clock_mono_ms(c->clock) - c->alive_at_ms > CONNECT_MS)
            drop_sys(c, ETIMEDOUT);
        return;
    }
    if (getsockopt(c->ctx->fd, SOL_SOCKET, SO_ERROR, &errnum, &len) != 0 || errnum) {
        drop_unconnected(c, errnum ? errnum : errno);
        return;
    }
    if (c->address->port)
        redisEnableKeepAlive(c->ctx);
    c->ctx->flags |= REDIS_CONNECTED;
    c->phase = REDIS_GREETING;
    c->hooks->greet(c->owner, c);
}

/* --- writing --- */

/* What the socket has not taken yet of a raw request. */
static void rest_of(const struct redis_conn *c, struct slice rest[2])
{
    struct slice keys = buf_slice(&c->half->keys), args = buf_slice(&c->half->args);
    size_t keys_at = c->half_at < keys.len ? c->half_at : keys.len;
    size_t args_at = c->half_at - keys_at;

    rest[0] = slice_make(keys.ptr + keys_at, keys.len - keys_at);
    rest[1] = slice_make(args.ptr + args_at, args.len - args_at);
}

/* An error shows when the connection is read. */
static void send_half(struct redis_conn *c)
{
    struct slice rest[2];
    struct iovec v[2];
    struct msghdr message = {.msg_iov = v, .msg_iovlen = 2};
    ssize_t n;

    rest_of(c, rest);
    for (int i = 0; i < 2; i++)
        v[i] = (struct iovec){(void *)(uintptr_t)rest[i].ptr, rest[i].len};
    n = sendmsg(c->ctx->fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
    c->half_at += n > 0 ? (size_t)n : 0;
    if (rest[0].len + rest[1].len == (n > 0 ? (size_t)n : 0))
        c->half = NULL;
}

/* Copies the rest: something is to be written behind it. */
static void spill_half(struct redis_conn *c)
{
    struct slice rest[2];

    rest_of(c, rest);
    for (int i = 0; i < 2; i++)
        buf_add(&c->out, rest[i].ptr, rest[i].len);
    c->half = NULL;
}

static void add_bulk(struct buf *out, const char *text, size_t len)
{
    buf_adds(out, "$");
    buf_addi(out, (int64_t)len);
    buf_adds(out, "\r\n");
    buf_add(out, text, len);
    buf_adds(out, "\r\n");
}

/* As text once: most connections need few of the scripts. */
static void write_script(struct redis_conn *c, enum redis_script_id script)
{
    const char *text = redis_script_text(script);

    if (c->known[script]) {
        buf_adds(&c->out, "$7\r\nEVALSHA\r\n");
        add_bulk(&c->out, c->sha[script], REDIS_SHA_SIZE - 1);
    } else {
        buf_adds(&c->out, "$4\r\nEVAL\r\n");
        add_bulk(&c->out, text, strlen(text));
    }
    c->known[script] = true;
}

/* What stands before the keys of a request. */
static void write_head(struct redis_conn *c, const struct redis_request *r)
{
    bool plain = r->script == REDIS_PLAIN;
    char room[DECIMAL_SIZE];
    struct slice count;

    buf_adds(&c->out, "*");
    buf_addi(&c->out, (int64_t)(plain ? r->keys_len : 3 + r->keys_len + r->args_len));
    buf_adds(&c->out, "\r\n");
    if (plain)
        return;
    write_script(c, r->script);
    count = decimal_of(room, (int64_t)r->keys_len);
    add_bulk(&c->out, count.ptr, count.len);
}

/* Without memory for it: redis_conn_flush sees that. */
static void write_out(struct redis_conn *c, struct redis_request *r)
{
    if (c->half)
        spill_half(c);
    if (r->script == REDIS_RAW) {
        c->half = r;
        c->half_at = 0;
        return;
    }
    write_head(c, r);
    buf_add(&c->out, buf_slice(&r->keys).ptr, r->keys.len);
    buf_add(&c->out, buf_slice(&r->args).ptr, r->args.len);
}

static void append(struct redis_conn *c, struct redis_request *r)
{
    write_out(c, r);
    redis_request_begin(r);
    if (c->subscriber && c->phase == REDIS_READY) {
        put_away(c, r); /* its reply is one of the pushed ones */
        return;
    }
    if (c->unanswered++ == 0)
        c->alive_at_ms = clock_mono_ms(c->clock);
    push_tail(&c->sent, r);
}

/* A batch that ran out of memory while it grew must not reach the wire half written. */
static void send_one(struct redis_conn *c, struct redis_request *r)
{
    struct err e;

    if (!redis_request_broken(r)) {
        append(c, r);
        return;
    }
    err_nomem(&e);
    if (r->op->failed)
        r->op->failed(c->owner, r, &e);
    put_away(c, r);
}

void redis_conn_submit(struct redis_conn *c, struct redis_request *r)
{
    push_tail(&c->waiting, r);
}

void redis_conn_greet(struct redis_conn *c, struct redis_request *r)
{
    append(c, r);
    c->greetings++;
}

/* Those that were told "not now" and have waited go first: they are the oldest. */
static void recall_aside(struct redis_conn *c)
{
    struct redis_requests later = {0};
    struct redis_requests first = {0};
    struct redis_request *r;
    int64_t now;

    if (!c->aside.head)
        return;
    now = clock_mono_ms(c->clock);
    while ((r = pop_head(&c->aside)))
        push_tail(r->not_before_ms <= now ? &first : &later, r);
    c->aside = later;
    if (!first.head)
        return;
    first.tail->next = c->waiting.head;
    if (!c->waiting.head)
        c->waiting.tail = first.tail;
    c->waiting.head = first.head;
}

/* What is left to be written of what was given out. */
static size_t unwritten(const struct redis_conn *c)
{
    return c->out.len + (c->half ? redis_request_size(c->half) - c->half_at : 0);
}

static bool send_out(struct redis_conn *c)
{
    struct slice out = buf_slice(&c->out);
    ssize_t n = send(c->ctx->fd, out.ptr, out.len, MSG_DONTWAIT | MSG_NOSIGNAL);

    if (n < 0 && errno != EAGAIN && errno != EINTR) {
        drop_sys(c, errno);
        return false;
    }
    buf_consume(&c->out, n > 0 ? (size_t)n : 0);
    if (c->out.len == 0 && c->out.cap > KEEP_MAX)
        buf_release(&c->out);
    return true;
}

/* One system call at most per OUTPUT_LIMIT. True while there may be more. */
static bool write_some(struct redis_conn *c)
{
    size_t before = unwritten(c);

    if (before == 0)
        return false;
    if (c->out.len == 0)
        send_half(c);
    else if (!send_out(c))
        return false;
    c->blocked = unwritten(c) == before;
    return !c->blocked;
}

/* Nothing overtakes a raw request, which is written from its own memory. */
static bool has_room(const struct redis_conn *c)
{
    return !c->half && c->out.len < OUTPUT_LIMIT;
}

void redis_conn_flush(struct redis_conn *c)
{
    if (c->phase < REDIS_GREETING)
        return;
    do {
        if (c->phase == REDIS_READY) {
            recall_aside(c);
            while (c->waiting.head && has_room(c))
                send_one(c, pop_head(&c->waiting));
        }
        if (c->out.failed) {
            drop_text(c, "out of memory");
            return;
        }
    } while (write_some(c) && c->phase >= REDIS_GREETING);
}

/* --- reading --- */

static void load_script(struct redis_conn *c, enum redis_script_id script);

/* The reply asks for patience: the request waits aside. */
static void put_aside(struct redis_conn *c, struct redis_request *r, const struct err *why)
{
    redis_request_begin(r);
    r->not_before_ms = clock_mono_ms(c->clock) +
                       backoff_ms(BACKOFF_MS, BACKOFF_MAX, r->tries++, uuid_random(c->random));
    push_tail(&c->aside, r);
    if (!c->troubled)
        c->hooks->again(c->owner, why);
    c->troubled = true;
}

static bool settle_error(struct redis_conn *c, struct redis_request *r, const redisReply *reply)
{
    struct err e;

    if (strncmp(reply->str, "NOSCRIPT", 8) == 0 && !r->reloaded && r->script < REDIS_SCRIPTS) {
        /* SCRIPT FLUSH, or another server behind the same address. */
        load_script(c, r->script);
        r->reloaded = true;
        append(c, r);
        return true;
    }
    redis_reply_err(&e, c->address, reply);
    if (e.code == ERR_AGAIN && !r->op->once && c->phase == REDIS_READY) {
        put_aside(c, r, &e);
        return true;
    }
    if (r->op->failed)
        r->op->failed(c->owner, r, &e);
    return false;
}

static void settle(struct redis_conn *c, const redisReply *reply)
{
    struct redis_request *r = c->sent.head == c->half ? NULL : pop_head(&c->sent);

    if (!r) {
        err_set(&c->broken, ERR_RECONNECT, "redis at %s: reply without a request",
                c->address->shown);
        return;
    }
    c->unanswered--;
    if (r->commands) {
        r->ran = reply->type == REDIS_REPLY_ARRAY;
        r->last = reply;
        reply = r->op->judge(r, reply);
    }
    if (reply->type == REDIS_REPLY_ERROR) {
        if (settle_error(c, r, reply))
            return;
    } else {
        if (r->op->done)
            r->op->done(c->owner, r, reply);
        if (c->troubled && r->tries && !c->aside.head) {
            c->troubled = false;
            c->hooks->again(c->owner, NULL);
        }
    }
    put_away(c, r);
    if (c->phase == REDIS_GREETING && c->greetings && --c->greetings == 0 && !c->broken.code) {
        c->phase = REDIS_READY;
        c->failures = 0;
        c->hooks->ready(c->owner, c);
    }
}

/* One of several replies to the oldest request, but not the last. */
static bool keep_part(struct redis_conn *c, redisReply *reply)
{
    struct redis_request *r = c->sent.head;

    if (!r || r->parts_len + 1 >= r->commands)
        return false;
    r->parts = c->parts;
    r->parts[r->parts_len++] = reply;
    return true;
}

static void settle_all(struct redis_conn *c)
{
    void *reply;

    while (!c->broken.code) {
        if (redisReaderGetReply(c->ctx->reader, &reply) != REDIS_OK) {
            err_set(&c->broken, ERR_RECONNECT, "redis at %s: %s", c->address->shown,
                    c->ctx->reader->errstr);
            return;
        }
        if (!reply)
            return;
        if (keep_part(c, reply))
            continue;
        if (c->subscriber && c->phase == REDIS_READY)
            c->hooks->pushed(c->owner, c, reply);
        else
            settle(c, reply);
        arena_clear(&c->replies); /* no part is kept: this was the last */
    }
}

/* True when there may be more to read. */
static bool read_some(struct redis_conn *c, int flags)
{
    char bytes[READ_SIZE];
    ssize_t n = recv(c->ctx->fd, bytes, sizeof(bytes), flags);

    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return errno == EINTR;
    if (n < 0) {
        err_sys(&c->broken, ERR_RECONNECT, errno, "redis at %s", c->address->shown);
        return false;
    }
    if (n == 0) {
        err_set(&c->broken, ERR_RECONNECT, "redis at %s: the server closed the connection",
                c->address->shown);
        return false;
    }
    c->alive_at_ms = clock_mono_ms(c->clock);
    if (redisReaderFeed(c->ctx->reader, bytes, (size_t)n) != REDIS_OK) {
        err_set(&c->broken, ERR_RECONNECT, "redis at %s: out of memory", c->address->shown);
        return false;
    }
    settle_all(c);
    return (size_t)n == sizeof(bytes);
}

/* flags: of the first read. */
static void read_all(struct redis_conn *c, int flags)
{
    c->broken = (struct err)ERR_INIT;
    for (int i = 0; i < READS && read_some(c, flags) && !c->broken.code; i++)
        flags = MSG_DONTWAIT;
    if (!c->broken.code && c->unanswered && clock_mono_ms(c->clock) - c->alive_at_ms > SILENCE_MS)
        err_set(&c->broken, ERR_RECONNECT, "redis at %s: no answer for %d s", c->address->shown,
                SILENCE_MS / 1000);
    if (c->broken.code) {
        struct err why = c->broken;

        c->broken = (struct err)ERR_INIT;
        redis_conn_drop(c, &why);
    }
}

void redis_conn_step(struct redis_conn *c)
{
    /* The answer to what is only written now is not there yet; the next step looks. */
    bool was_silent = c->unanswered == 0 && c->phase == REDIS_READY && !c->subscriber;
    bool has_read = c->slept;

    c->slept = false;
    if (c->phase == REDIS_DOWN)
        start_connect(c);
    if (c->phase == REDIS_CONNECTING)
        finish_connect(c);
    if (c->phase >= REDIS_GREETING)
        redis_conn_flush(c);
    if (c->phase >= REDIS_GREETING && !has_read && !(was_silent && c->unanswered))
        read_all(c, MSG_DONTWAIT);
    redis_conn_flush(c);
}

/* --- sleeping --- */

/* hiredis connects without waiting and leaves the socket so; every other call here says
 * MSG_DONTWAIT. */
static bool may_sleep(struct redis_conn *c)
{
    struct timeval longest = {.tv_usec = SLEEP_MS * 1000};
    int fd = c->ctx->fd, flags;

    if (c->may_sleep)
        return true;
    flags = fcntl(fd, F_GETFL);
    c->may_sleep = flags >= 0 &&
                   setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &longest, sizeof(longest)) == 0 &&
                   fcntl(fd, F_SETFL, flags & ~O_NONBLOCK) == 0;
    return c->may_sleep;
}

/* When a server takes a request from a unix socket, that wakes who waits there in recv, but not who
 * waits in poll: the one is running when the reply comes, the other's core must be woken first.
 * Where both take turns on one core the early wake-up only costs two switches; there answers come
 * soon. */
static void read_in_time(struct redis_conn *c)
{
    struct pollfd fd = {.fd = c->ctx->fd, .events = POLLIN};
    int64_t begun = clock_nano();

    if (!c->far)
        poll(&fd, 1, SLEEP_MS);
    read_all(c, c->far ? 0 : MSG_DONTWAIT);
    c->far = clock_nano() - begun > NEAR_NS;
}

bool redis_conn_sleep(struct redis_conn *c, int64_t until_ms)
{
    if (c->phase != REDIS_READY || !c->unanswered || unwritten(c) > 0 ||
        until_ms - clock_mono_ms(c->clock) < SLEEP_MS || !may_sleep(c))
        return false;
    read_in_time(c);
    c->slept = true;
    return true;
}

/* --- scripts --- */

static const struct redis_op op_load = {.name = "SCRIPT LOAD", .once = true};

static void load_script(struct redis_conn *c, enum redis_script_id script)
{
    struct redis_request *r = redis_request_new(&op_load, REDIS_PLAIN);

    if (!r)
        return; /* the request comes back with NOSCRIPT once more and fails honestly */
    redis_key(r, slice_of("SCRIPT"));
    redis_key(r, slice_of("LOAD"));
    redis_key(r, slice_of(redis_script_text(script)));
    append(c, r);
}

/* --- for the owner's loop --- */

bool redis_conn_pollfd(const struct redis_conn *c, struct pollfd *fd)
{
    if (!c->ctx)
        return false;
    *fd = (struct pollfd){.fd = c->ctx->fd, .events = POLLIN};
    if (c->phase == REDIS_CONNECTING)
        fd->events = POLLOUT;
    else if (unwritten(c) > 0)
        fd->events |= POLLOUT;
    return true;
}

int64_t redis_conn_deadline(const struct redis_conn *c)
{
    int64_t at = CLOCK_NEVER;

    if (c->phase == REDIS_DOWN)
        return c->retry_at_ms;
    if (c->phase == REDIS_CONNECTING)
        return c->alive_at_ms + CONNECT_MS + 1;
    if (c->unanswered)
        at = c->alive_at_ms + SILENCE_MS + 1;
    if (c->phase != REDIS_READY)
        return at;
    if (c->waiting.head && !c->blocked)
        return 0;
    for (const struct redis_request *r = c->aside.head; r; r = r->next)
        at = r->not_before_ms < at ? r->not_before_ms : at;
    return at;
}

bool redis_conn_idle(const struct redis_conn *c)
{
    return !c->waiting.head && !c->aside.head && !c->sent.head;
}

/* --- errors --- */

static const struct {
    const char *word;
    enum err_code code;
} classes[] = {
    {"OOM ", ERR_AGAIN},
    {"LOADING ", ERR_AGAIN},
    {"BUSY ", ERR_AGAIN},
    {"MISCONF ", ERR_AGAIN},
    {"READONLY ", ERR_AGAIN},
    {"MASTERDOWN ", ERR_AGAIN},
    {"TRYAGAIN ", ERR_AGAIN},
    {"NOREPLICAS ", ERR_AGAIN},
    {"NOAUTH ", ERR_OPERATOR},
    {"WRONGPASS ", ERR_OPERATOR},
    {"NOPERM ", ERR_OPERATOR},
    {"ERR The user executing the script ", ERR_OPERATOR}, /* may not; Redis 7.2 and later: */
    {"ERR ACL failure in script: ", ERR_OPERATOR},
    {"WRONGTYPE ", ERR_OPERATOR},
    {"ERR invalid password", ERR_OPERATOR},
    {"ERR invalid DB index", ERR_OPERATOR},
    {"ERR DB index is out of range", ERR_OPERATOR},
    {"ERR AUTH", ERR_OPERATOR},
    {"ERR Client sent AUTH", ERR_OPERATOR},
    {"ERR max number of clients", ERR_AGAIN},
    {"MOVED ", ERR_OPERATOR},
    {"CROSSSLOT ", ERR_OPERATOR},
};

enum err_code redis_classify(const char *text)
{
    const char *inner;

    for (size_t i = 0; i < sizeof(classes) / sizeof(classes[0]); i++) {
        if (strncmp(text, classes[i].word, strlen(classes[i].word)) == 0)
            return classes[i].code;
    }
    /* Before Redis 7 the error of a command inside a script stands behind the script's own words:
     * "ERR Error running script (call to f_...): @user_script:1: @user_script: 1: -OOM ..." */
    inner = strncmp(text, "ERR Error running script", 24) == 0 ? strstr(text, ": -") : NULL;
    if (inner)
        return redis_classify(inner + 3);
    /* "EXECABORT Transaction discarded because of: OOM ..." */
    inner = strncmp(text, "EXECABORT ", 10) == 0 ? strstr(text, " of: ") : NULL;
    return inner ? redis_classify(inner + 5) : ERR_BUG;
}

int redis_reply_err(struct err *e, const struct redis_address *address, const redisReply *reply)
{
    return err_set(e, redis_classify(reply->str), "redis at %s: %.*s", address->shown,
                   (int)reply->len, reply->str);
}
