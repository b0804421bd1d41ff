#include "broker/redis_reply.h"

#include <string.h>

/* As createArray gets it. */
#if HIREDIS_MAJOR >= 1
typedef size_t elements_count;
#else
typedef int elements_count;
#endif

/* The object in its place. Errors, states and texts have the types of their replies, as in hiredis.
 */
static redisReply *new_reply(const redisReadTask *task)
{
    redisReply *reply = arena_take(task->privdata, sizeof(*reply));

    if (!reply)
        return NULL;
    memset(reply, 0, sizeof(*reply));
    reply->type = task->type;
    if (task->parent) {
        redisReply *parent = task->parent->obj;

        parent->element[task->idx] = reply;
    }
    return reply;
}

static void *create_string(const redisReadTask *task, char *text, size_t len)
{
    char *copy = arena_take(task->privdata, len + 1);
    redisReply *reply = copy ? new_reply(task) : NULL;

    if (!reply)
        return NULL;
    memcpy(copy, text, len);
    copy[len] = '\0';
    reply->str = copy;
    reply->len = len;
    return reply;
}

static void *create_array(const redisReadTask *task, elements_count elements)
{
    size_t n = (size_t)elements;
    redisReply **element = arena_take(task->privdata, n * sizeof(redisReply *));
    redisReply *reply = element ? new_reply(task) : NULL;

    if (!reply)
        return NULL;
    reply->elements = n;
    reply->element = element;
    return reply;
}

static void *create_integer(const redisReadTask *task, long long value)
{
    redisReply *reply = new_reply(task);

    if (reply)
        reply->integer = value;
    return reply;
}

static void *create_nil(const redisReadTask *task)
{
    return new_reply(task);
}

static void leave_to_the_arena(void *reply)
{
    (void)reply;
}

static redisReplyObjectFunctions functions = {.createString = create_string,
                                              .createArray = create_array,
                                              .createInteger = create_integer,
                                              .createNil = create_nil,
                                              .freeObject = leave_to_the_arena};

void redis_reply_build_in(redisReader *reader, struct arena *arena)
{
    reader->fn = &functions;
    reader->privdata = arena;
}

/* Its buffer goes with the reader only. */
void redis_reply_rest(redisContext *ctx)
{
    redisReader *old = ctx->reader, *fresh;

    if (old->ridx >= 0 || old->pos < old->len)
        return;
    fresh = redisReaderCreate();
    if (!fresh)
        return;
    fresh->maxbuf = old->maxbuf;
    redis_reply_build_in(fresh, old->privdata);
    ctx->reader = fresh;
    redisReaderFree(old);
}
