/*
 * redis_reply.h - replies that are built in an arena.
 *
 * Purpose: hiredis asks for two or three allocations for each element of a reply, and a batch of
 * jobs has hundreds. Model: hiredis's reader calls functions of ours for each object; they cut it
 * from the connection's arena, and nothing is freed until the whole reply has been dealt with.
 * Invariants: what they build is what hiredis's own functions build of RESP 2, and must never be
 * given to freeReplyObject. Fork rule: as redis_conn.h.
 */
#ifndef BROKER_REDIS_REPLY_H
#define BROKER_REDIS_REPLY_H

#include "base/arena.h"

#include <hiredis/hiredis.h>

/* From now on the reader's replies are built in the arena (borrowed). */
void redis_reply_build_in(redisReader *reader, struct arena *arena);

/* Frees what the reader keeps for longer replies, unless it is in the middle of one. */
void redis_reply_rest(redisContext *ctx);

#endif
