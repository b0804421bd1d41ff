/*
 * base64.h - bytes as letters (RFC 4648, section 4), as bodies of task messages stand in envelopes.
 *
 * Purpose: nettle takes 8 instructions for a byte that it encodes and 27 for a letter that it
 * decodes, which was a quarter of what a client and a runner do for a job. Model: the plain middle
 * is done here; ends and all that is odd are nettle's, which decides what is base64. Invariants:
 * the outcome is nettle's, for any input. Fork rule: none.
 */
#ifndef BROKER_BASE64_H
#define BROKER_BASE64_H

#include "base/buf.h"
#include "base/err.h"
#include "base/slice.h"

/* Appends the letters. A failure shows in out->failed. */
void base64_put(struct buf *out, struct slice bytes);

/* Appends the bytes. 0, or -1: ERR_DEADLETTER (the text is no base64) or ERR_NOMEM. */
int base64_get(struct buf *out, struct slice text, struct err *e);

#endif
