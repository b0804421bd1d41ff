/* Pushing by MULTI and EXEC: many messages with a token, or one that counts itself. */
#include "broker/redis_push.h"

#include <stdlib.h>

/* Its commands, and what EXEC answers to those between. What goes alone has no token. */
enum { T_MULTI, T_PUSH, T_TOKEN, T_COUNT, T_EXEC, T_COMMANDS };
enum { A_MULTI, A_PUSH, A_COUNT, A_EXEC, A_COMMANDS };

_Static_assert((int)T_PUSH == (int)A_PUSH, "judge knows one place");

/* LPUSH tells: in EXEC's answer, or by itself where the server refused MULTI (busy) and went on.
 * If nothing was pushed, the first command that was refused says why. */
static const redisReply *judge(const struct redis_request *r, const redisReply *last)
{
    bool done = last->type == REDIS_REPLY_ARRAY;
    const redisReply *push = done ? redis_at(last, T_PUSH - 1) : r->parts[T_PUSH];

    if (done || push->type == REDIS_REPLY_INTEGER)
        return push;
    for (unsigned i = 0; i < r->parts_len; i++) {
        if (r->parts[i]->type == REDIS_REPLY_ERROR)
            return r->parts[i];
    }
    return last;
}

static void taken_back(void *owner, struct redis_request *r, const redisReply *reply)
{
    (void)reply;
    redis_fail_items(owner, r, r->state);
}

/* With the connection gone the messages stay counted, and nobody has them. */
static void not_taken_back(void *owner, struct redis_request *r, const struct err *why)
{
    (void)why;
    redis_fail_items(owner, r, r->state);
}

static const struct redis_op op_take_back = {
    .name = "publish", .done = taken_back, .failed = not_taken_back, .free_state = free};

static struct redis_request *take_back_request(const struct redis_request *r)
{
    struct redis_request *back = redis_request_new(&op_take_back, REDIS_SCRIPT_TAKE_BACK);
    const struct redis_push *p = r->state;

    if (!back)
        return NULL;
    redis_key(back, slice_of(REDIS_TOTALS));
    redis_key(back, slice_of(p->token));
    redis_argi(back, (int64_t)r->items_len);
    return back;
}

/* The messages fail when what was done beside their LPUSH is undone. */
static void take_back(struct redis_broker *b, struct redis_request *r, struct redis_request *back,
                      const struct err *why)
{
    struct err *kept = back ? malloc(sizeof(*kept)) : NULL;

    if (!kept) {
        redis_request_free(back);
        redis_fail_items(b, r, why);
        return;
    }
    *kept = *why;
    back->state = kept;
    back->items = r->items;
    back->items_len = r->items_len;
    back->items_cap = r->items_cap;
    r->items = NULL;
    r->items_len = r->items_cap = 0;
    redis_proceed(b, back);
}

/* The list has become something else, but EXEC has set the token and counted all the same. */
static void not_pushed(void *owner, struct redis_request *r, const struct err *why)
{
    take_back(owner, r, r->ran ? take_back_request(r) : NULL, why);
}

static const struct redis_op op_transact = {.name = "publish",
                                            .done = redis_pushed,
                                            .failed = not_pushed,
                                            .judge = judge,
                                            .free_state = free};

/* --- by one that counts itself (redis_tally.h) --- */

/* What HINCRBY told, also where it was run by itself; -1: nothing. */
static int64_t count_told(const struct redis_request *r)
{
    const redisReply *count = NULL;

    if (r->ran)
        count = redis_at(r->last, A_COUNT - 1);
    else if (r->parts_len > A_COUNT)
        count = r->parts[A_COUNT];
    return count && count->type == REDIS_REPLY_INTEGER ? count->integer : -1;
}

static void pushed_alone(void *owner, struct redis_request *r, const redisReply *reply)
{
    redis_tally_done(owner, count_told(r));
    redis_pushed(owner, r, reply);
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
    take_back(owner, r, back, why);
}

static const struct redis_op op_alone = {.name = "publish",
                                         .done = pushed_alone,
                                         .failed = not_pushed_alone,
                                         .judge = judge,
                                         .free_state = free};

/* --- writing them --- */

/* LPUSH first: refused, it keeps the others from being run, unless the list is none. */
static void write_multi_push(struct redis_request *r, const struct broker_message *v, size_t n)
{
    const struct redis_push *p = r->state;

    buf_adds(&r->keys, "*1\r\n$5\r\nMULTI\r\n*");
    buf_addi(&r->keys, (int64_t)n + 2);
    buf_adds(&r->keys, "\r\n$5\r\nLPUSH\r\n");
    redis_key(r, slice_of(p->list));
    redis_push_envelopes(r, v, n);
}

static void write_count_exec(struct redis_request *r, const char *key, const char *field, size_t n)
{
    buf_adds(&r->args, "*4\r\n$7\r\nHINCRBY\r\n");
    redis_args(r, key);
    redis_args(r, field);
    redis_argi(r, (int64_t)n);
    buf_adds(&r->args, "*1\r\n$4\r\nEXEC\r\n");
}

static void write_transaction(struct redis_request *r, const struct broker_message *v, size_t n)
{
    const struct redis_push *p = r->state;

    write_multi_push(r, v, n);
    buf_adds(&r->args, "*5\r\n$3\r\nSET\r\n");
    redis_args(r, p->token);
    buf_adds(&r->args, "$1\r\n1\r\n$2\r\nPX\r\n$5\r\n60000\r\n");
    write_count_exec(r, REDIS_TOTALS, "published", n);
    r->commands = T_COMMANDS;
    r->op = &op_transact;
}

/* False while another one is under way or in doubt: then it needs a token. */
static bool write_alone(struct redis_broker *b, struct redis_request *r,
                        const struct broker_message *m)
{
    const char *field = redis_tally_begin(b);

    if (!field)
        return false;
    write_multi_push(r, m, 1);
    write_count_exec(r, REDIS_SENT, field, 1);
    r->commands = A_COMMANDS;
    r->op = &op_alone;
    return true;
}

int redis_transact(struct redis_broker *b, struct redis_request *r, const struct broker_message *v,
                   size_t n, struct err *e)
{
    bool alone = v[0].batch.len == 0 && write_alone(b, r, v);

    if (!alone)
        write_transaction(r, v, n);
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
