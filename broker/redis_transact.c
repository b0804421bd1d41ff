/* Pushing by MULTI and EXEC: many messages with a token, or one that counts itself. */
#include "broker/redis_push.h"

#include "base/fault.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* MULTI, then an LPUSH for each list, SET of the token unless what goes alone counts itself,
 * HINCRBY, EXEC. */
enum { AROUND_PUSHES = 4, AROUND_ALONE = 3 };

_Static_assert(REDIS_BATCH_ITEMS + AROUND_PUSHES <= REDIS_COMMANDS_MAX, "each may have its list");

/* What LPUSH told of one list: in EXEC's answer, or by itself where the server refused MULTI (busy)
 * and went on. */
static const redisReply *told(const struct redis_request *r, size_t list)
{
    if (r->ran)
        return redis_at(r->last, list);
    return list + 1 < r->parts_len ? r->parts[list + 1] : r->last;
}

static bool has_pushed(const struct redis_request *r, size_t list)
{
    return told(r, list)->type == REDIS_REPLY_INTEGER;
}

/* Where MULTI was refused: the command was run all the same. */
static bool ran_alone(const redisReply *part)
{
    return part->type == REDIS_REPLY_INTEGER ||
           (part->type == REDIS_REPLY_STATUS && strcmp(part->str, "OK") == 0);
}

/* No error when anything happened: then it is not asked again as it is, for part of it is done, or
 * the token is set. If nothing did, the first command that was refused says why. */
static const redisReply *judge(const struct redis_request *r, const redisReply *last)
{
    const struct redis_push *p = r->state;

    for (size_t i = 0; i < p->lists_len; i++) {
        if (has_pushed(r, i))
            return told(r, i);
    }
    if (r->ran)
        return told(r, 0);
    for (unsigned i = 1; i < r->parts_len; i++) {
        if (ran_alone(r->parts[i]))
            return r->parts[i];
    }
    for (unsigned i = 0; i < r->parts_len; i++) {
        if (r->parts[i]->type == REDIS_REPLY_ERROR)
            return r->parts[i];
    }
    return last;
}

/* --- what was refused --- */

static void taken_back(void *owner, struct redis_request *r, const redisReply *reply)
{
    (void)reply;
    redis_fail_items(owner, r, r->state);
}

/* With the connection gone the messages stay counted, and nobody has them. What would be sent again
 * else could be taken for pushed, for the token may still be there. */
static void not_taken_back(void *owner, struct redis_request *r, const struct err *why)
{
    struct err *kept = r->state;

    (void)why;
    if (kept->code == ERR_AGAIN)
        kept->code = ERR_OPERATOR;
    redis_fail_items(owner, r, kept);
}

static const struct redis_op op_take_back = {
    .name = "publish", .done = taken_back, .failed = not_taken_back, .free_state = free};

/* n: how many too many are counted. record: for the token; "": it goes. */
static struct redis_request *take_back_request(const struct redis_push *p, int64_t n,
                                               const char *record)
{
    struct redis_request *back = redis_request_new(&op_take_back, REDIS_SCRIPT_TAKE_BACK);

    if (!back)
        return NULL;
    redis_key(back, slice_of(REDIS_TOTALS));
    redis_key(back, slice_of(p->token));
    redis_argi(back, n);
    redis_args(back, record);
    return back;
}

static int move_items(struct redis_request *to, const struct redis_request *from, size_t at,
                      size_t len)
{
    for (size_t i = at; i < at + len; i++) {
        if (redis_request_item(to, from->items[i].tag, NULL) != 0)
            return -1;
    }
    return 0;
}

/* The items fail when what was done beside their LPUSH is undone. False: it can not be. */
static bool take_back(struct redis_broker *b, const struct redis_request *r, size_t at, size_t len,
                      struct redis_request *back, const struct err *why)
{
    struct err *kept = back ? malloc(sizeof(*kept)) : NULL;

    if (!kept || move_items(back, r, at, len) != 0) {
        free(kept);
        redis_request_free(back);
        return false;
    }
    *kept = *why;
    back->state = kept;
    redis_proceed(b, back);
    return true;
}

/* The lists have become something else, but EXEC has set the token and counted all the same. */
static void not_pushed(void *owner, struct redis_request *r, const struct err *why)
{
    struct redis_request *back =
        r->ran ? take_back_request(r->state, (int64_t)r->items_len, "") : NULL;

    if (!take_back(owner, r, 0, r->items_len, back, why))
        redis_fail_items(owner, r, why);
}

/* By how many HINCRBY, in front of EXEC, raised the counter more than there are messages in lists.
 */
static int64_t counted_too_many(const struct redis_request *r)
{
    const struct redis_push *p = r->state;
    unsigned count = r->commands - 2;
    int64_t n = 0;

    if (r->ran || (count < r->parts_len && r->parts[count]->type == REDIS_REPLY_INTEGER))
        n = (int64_t)r->items_len;
    for (size_t i = 0; i < p->lists_len; i++)
        n -= has_pushed(r, i) ? (int64_t)p->lists[i].len : 0;
    return n;
}

/* Others than this list took theirs, mostly. What EXEC ran is refused for good, and the token tells
 * why. What was refused outside of a transaction may be sent again: then the token must be gone. */
static void list_refused(struct redis_broker *b, const struct redis_request *r, size_t list,
                         size_t from, int64_t too_many)
{
    const struct redis_push *p = r->state;
    const struct redis_push_list *l = &p->lists[list];
    struct slice text = redis_slice(told(r, list));
    struct err why = ERR_INIT;
    char record[256] = "";

    redis_reply_err(&why, b->main.address, told(r, list));
    if (r->ran)
        snprintf(record, sizeof(record), "%zu %.*s\n", list, text.len < 200 ? (int)text.len : 200,
                 text.ptr);
    if (take_back(b, r, from, l->len, take_back_request(p, too_many, record), &why))
        return;
    err_nomem(&why);
    redis_push_refused(b, r, l, from, &why);
}

/* CRASH: after EXEC, before its caller is told - a resend of the batch pushes nothing. */
static void transacted(void *owner, struct redis_request *r, const redisReply *reply)
{
    struct redis_broker *b = owner;
    const struct redis_push *p = r->state;
    int64_t too_many = counted_too_many(r);
    size_t from = 0;

    (void)reply;
    FAULT_POINT("redis.after-publish");
    for (size_t i = 0; i < p->lists_len; from += p->lists[i++].len) {
        if (has_pushed(r, i)) {
            redis_push_landed(b, r, &p->lists[i], from);
        } else {
            list_refused(b, r, i, from, too_many);
            too_many = 0;
        }
    }
}

static const struct redis_op op_transact = {.name = "publish",
                                            .done = transacted,
                                            .failed = not_pushed,
                                            .judge = judge,
                                            .free_state = free};

/* --- by one that counts itself (redis_tally.h) --- */

/* What HINCRBY told, also where it was run by itself; -1: nothing. */
static int64_t count_told(const struct redis_request *r)
{
    const redisReply *count = told(r, 1);

    return count->type == REDIS_REPLY_INTEGER ? count->integer : -1;
}

static void pushed_alone(void *owner, struct redis_request *r, const redisReply *reply)
{
    redis_tally_done(owner, count_told(r));
    transacted(owner, r, reply);
}

static void not_pushed_alone(void *owner, struct redis_request *r, const struct err *why)
{
    const struct redis_push *p = r->state;
    struct redis_request *back = NULL;

    if (why->code == ERR_RECONNECT)
        redis_tally_lost(owner, p->token);
    else if (count_told(r) < 0)
        redis_tally_refused(owner);
    else
        back = redis_tally_take_back(owner, &op_take_back, (int64_t)r->items_len);
    if (!take_back(owner, r, 0, r->items_len, back, why))
        redis_fail_items(owner, r, why);
}

static const struct redis_op op_alone = {.name = "publish",
                                         .done = pushed_alone,
                                         .failed = not_pushed_alone,
                                         .judge = judge,
                                         .free_state = free};

/* --- writing them --- */

/* LPUSH first: refused, it keeps the others from being run, unless the list is none. All are in
 * one buffer behind MULTI. */
static void write_pushes(struct redis_request *r, const struct redis_load *load)
{
    const struct redis_push *p = r->state;
    const struct broker_message *const *v = load->v;

    buf_adds(&r->keys, "*1\r\n$5\r\nMULTI\r\n");
    for (size_t i = 0; i < p->lists_len; v += p->lists[i++].len) {
        buf_adds(&r->args, "*");
        buf_addi(&r->args, (int64_t)p->lists[i].len + 2);
        buf_adds(&r->args, "\r\n$5\r\nLPUSH\r\n");
        redis_args(r, p->lists[i].key);
        redis_push_envelopes(r, v, p->lists[i].len);
    }
}

static void write_count_exec(struct redis_request *r, const char *key, const char *field, size_t n)
{
    buf_adds(&r->args, "*4\r\n$7\r\nHINCRBY\r\n");
    redis_args(r, key);
    redis_args(r, field);
    redis_argi(r, (int64_t)n);
    buf_adds(&r->args, "*1\r\n$4\r\nEXEC\r\n");
}

static void write_transaction(struct redis_request *r, const struct redis_load *load)
{
    const struct redis_push *p = r->state;

    write_pushes(r, load);
    buf_adds(&r->args, "*5\r\n$3\r\nSET\r\n");
    redis_args(r, p->token);
    buf_adds(&r->args, "$1\r\n1\r\n$2\r\nPX\r\n$5\r\n60000\r\n");
    write_count_exec(r, REDIS_TOTALS, "published", load->len);
    r->commands = (unsigned)p->lists_len + AROUND_PUSHES;
    r->op = &op_transact;
}

/* False while another one is under way or in doubt: then it needs a token. */
static bool write_alone(struct redis_broker *b, struct redis_request *r,
                        const struct redis_load *load)
{
    const char *field = redis_tally_begin(b);

    if (!field)
        return false;
    write_pushes(r, load);
    write_count_exec(r, REDIS_SENT, field, 1);
    r->commands = 1 + AROUND_ALONE;
    r->op = &op_alone;
    return true;
}

int redis_transact(struct redis_broker *b, struct redis_request *r, const struct redis_load *load,
                   struct err *e)
{
    bool alone = load->v[0]->batch.len == 0 && write_alone(b, r, load);

    if (!alone)
        write_transaction(r, load);
    if (redis_submit(b, r, e) == 0)
        return 0;
    if (alone)
        redis_tally_refused(b);
    return -1;
}

/* --- may this client use transactions? --- */

static void allowed(void *owner, struct redis_request *r, const redisReply *reply)
{
    struct redis_broker *b = owner;

    (void)r;
    (void)reply;
    b->transactions = !b->no_transactions;
}

/* Not for good when the connection is about to end. */
static bool is_passing(const struct err *why)
{
    return why->code == ERR_RECONNECT || why->code == ERR_AGAIN;
}

static void no_multi(void *owner, struct redis_request *r, const struct err *why)
{
    struct redis_broker *b = owner;

    (void)r;
    if (!is_passing(why))
        b->no_transactions = true;
}

/* Also "EXEC without MULTI". Otherwise a transaction was begun that can not be ended. */
static void no_exec(void *owner, struct redis_request *r, const struct err *why)
{
    struct redis_broker *b = owner;
    struct redis_conn *c = r->state;

    if (b->no_transactions || is_passing(why))
        return;
    b->no_transactions = true;
    c->broken = *why;
    c->broken.code = ERR_RECONNECT;
}

static const struct redis_op op_multi = {.name = "greeting", .failed = no_multi, .once = true};
static const struct redis_op op_exec = {
    .name = "greeting", .done = allowed, .failed = no_exec, .once = true};

static void ask_word(struct redis_conn *c, const struct redis_op *op, const char *word)
{
    struct redis_request *r = redis_request_new(op, REDIS_PLAIN);

    if (!r)
        return;
    r->state = c;
    redis_key(r, slice_of(word));
    redis_conn_greet(c, r);
}

void redis_ask_transactions(struct redis_broker *b, struct redis_conn *c)
{
    if (b->no_transactions)
        return;
    ask_word(c, &op_multi, "MULTI");
    ask_word(c, &op_exec, "EXEC");
}
