/*
 * amqp_typed.h - values of AMQP in JSON text, those that JSON has not as kombu's typed JSON; for
 * the files that turn messages into JSON.
 *
 * Model: {"__type__": T, "__value__": V} with T "datetime", "decimal" or "base64", as in
 * amqp_table.h. Invariant: an object is read as such a value only when writing that value gives the
 * object's text again; every other object is a table like any other. Fork rule: none, plain memory.
 */
#ifndef BROKER_AMQP_TYPED_H
#define BROKER_AMQP_TYPED_H

#include "base/buf.h"
#include "base/err.h"
#include "broker/amqp_lib.h"

#include <stdbool.h>
#include <stdint.h>

/* Failures of memory are in out->failed. A text that is not UTF-8 is written as bytes. */
void typed_put_text(struct buf *out, struct slice text);
void typed_put_integer(struct buf *out, int64_t number);
void typed_put_bytes(struct buf *out, struct slice bytes);
void typed_put_decimal(struct buf *out, amqp_decimal_t decimal);
/* seconds since 1970; ERR_DEADLETTER behind the year 9999. */
int typed_put_time(struct buf *out, uint64_t seconds, struct err *e);

/* A table that is such an object becomes the value (bytes from the pool); others stay. -1:
 * ERR_NOMEM.
 */
int typed_read(amqp_field_value_t *value, amqp_pool_t *pool, struct err *e);

#endif
