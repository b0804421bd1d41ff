#include "base/decimal.h"
#include "broker/redis_conn.h"

#include <stdlib.h>

struct redis_request *redis_request_new(const struct redis_op *op, enum redis_script_id script)
{
    struct redis_request *r = calloc(1, sizeof(*r));

    if (r) {
        r->op = op;
        r->script = script;
    }
    return r;
}

void redis_request_clear(struct redis_request *r)
{
    if (r->op->free_state)
        r->op->free_state(r->state);
    r->state = NULL;
    buf_clear(&r->keys);
    buf_clear(&r->args);
}

void redis_request_free(struct redis_request *r)
{
    if (!r)
        return;
    redis_request_clear(r);
    buf_release(&r->keys);
    buf_release(&r->args);
    free(r->items);
    free(r);
}

void redis_request_reuse(struct redis_request *r, const struct redis_op *op,
                         enum redis_script_id script)
{
    *r = (struct redis_request){.op = op,
                                .script = script,
                                .keys = r->keys,
                                .args = r->args,
                                .items = r->items,
                                .items_cap = r->items_cap};
}

void redis_request_begin(struct redis_request *r)
{
    r->parts_len = 0;
}

/* "$len\r\n" */
static void add_len(struct buf *b, size_t len)
{
    char room[DECIMAL_SIZE];
    struct slice digits = decimal_of(room, (int64_t)len);
    char *to = buf_reserve(b, digits.len + 3);

    if (!to)
        return;
    *to = '$';
    memcpy(to + 1, digits.ptr, digits.len);
    memcpy(to + 1 + digits.len, "\r\n", 2);
    buf_commit(b, digits.len + 3);
}

static void add_parts(struct buf *b, const struct slice *parts, size_t n)
{
    size_t len = 0;

    for (size_t i = 0; i < n; i++)
        len += parts[i].len;
    add_len(b, len);
    for (size_t i = 0; i < n; i++)
        buf_add(b, parts[i].ptr ? parts[i].ptr : "", parts[i].len);
    buf_add(b, "\r\n", 2);
}

void redis_key(struct redis_request *r, struct slice key)
{
    add_parts(&r->keys, &key, 1);
    r->keys_len++;
}

void redis_key2(struct redis_request *r, const char *prefix, struct slice rest)
{
    redis_key3(r, prefix, rest, "");
}

void redis_key3(struct redis_request *r, const char *prefix, struct slice mid, const char *suffix)
{
    const struct slice parts[] = {slice_of(prefix), mid, slice_of(suffix)};

    add_parts(&r->keys, parts, 3);
    r->keys_len++;
}

void redis_arg(struct redis_request *r, struct slice arg)
{
    add_parts(&r->args, &arg, 1);
    r->args_len++;
}

void redis_arg3(struct redis_request *r, struct slice a, struct slice b, struct slice c)
{
    const struct slice parts[] = {a, b, c};

    add_parts(&r->args, parts, 3);
    r->args_len++;
}

void redis_args(struct redis_request *r, const char *arg)
{
    redis_arg(r, slice_of(arg));
}

void redis_argi(struct redis_request *r, int64_t n)
{
    char room[DECIMAL_SIZE];

    redis_arg(r, decimal_of(room, n));
}

int redis_request_item(struct redis_request *r, uint64_t tag, const struct broker_receipt *receipt)
{
    if (r->items_len == r->items_cap) {
        size_t cap = r->items_cap ? 2 * r->items_cap : 4;
        struct redis_item *items = realloc(r->items, cap * sizeof(*items));

        if (!items)
            return -1;
        r->items = items;
        r->items_cap = cap;
    }
    r->items[r->items_len] = (struct redis_item){.tag = tag};
    if (receipt)
        r->items[r->items_len].receipt = *receipt;
    r->items_len++;
    return 0;
}

bool redis_request_broken(const struct redis_request *r)
{
    return r->keys.failed || r->args.failed;
}

size_t redis_request_size(const struct redis_request *r)
{
    return r->keys.len + r->args.len;
}
