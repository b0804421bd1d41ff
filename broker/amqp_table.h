/*
 * amqp_table.h - AMQP field tables as JSON text, and JSON as field tables; pure.
 *
 * Purpose: headers of messages and arguments of queues, in both directions, without loss.
 * Model: a table is written straight into a buffer as a JSON object, since this happens for every
 * message; made the other way round from jansson values into a pool of librabbitmq, so that it
 * lives as long as the message that is being sent.
 *   to JSON    t -> true/false; b B s u I i l -> integer; L -> integer, read as signed, which is
 *              what py-amqp writes with it; f d -> real; S -> string; V -> null; A -> array;
 *              F -> object. As kombu's typed JSON has them: T -> {"__type__": "datetime",
 *              "__value__": "2026-11-21T01:46:55+00:00"}, D -> {"__type__": "decimal", "__value__":
 *              "1.25"}, x, and S that is not UTF-8, -> {"__type__": "base64", "__value__": "..."}.
 *   from JSON  the kinds that py-amqp chooses: true/false t, integer I, real d, string S, null V,
 *              array A, object F; integers beyond 31 bits l, negative ones L (py-amqp reads l as
 *              unsigned, others do not know L). The three typed objects become T, D and x (S when
 *              the bytes are not UTF-8) again where nothing is lost by that, else stay tables.
 * What JSON cannot say is ERR_DEADLETTER: a name that is not UTF-8 or has a NUL in it, NaN and
 * infinity, a kind that nobody knows. What a table cannot hold is ERR_USAGE: a name of more than
 * 255 bytes.
 * Invariants: nesting is bounded by AMQP_TABLE_DEPTH_MAX both ways; what was written by the one
 * direction and read by the other is the same JSON. Ownership: a table borrows nothing from the
 * JSON it was made of; what is looked up in a table is borrowed from it. Fork rule: none, plain
 * memory.
 */
#ifndef BROKER_AMQP_TABLE_H
#define BROKER_AMQP_TABLE_H

#include "base/buf.h"
#include "base/err.h"
#include "broker/amqp_lib.h"

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#define AMQP_TABLE_DEPTH_MAX 32  /* tables and arrays inside each other, the outermost counted */
#define AMQP_SHORT_MAX       255 /* bytes of a short string: names of headers, routing keys, ... */

/* Appends the table as one JSON object, or nothing with an error (ERR_DEADLETTER, ERR_NOMEM). */
int amqp_table_text(struct buf *out, const amqp_table_t *table, struct err *e);

/* A new reference, or NULL. For questions, not for every message. */
json_t *amqp_table_to_json(const amqp_table_t *table, struct err *e);

/* text: one JSON object. Strings without escapes are borrowed from it. depth_max: usually
 * AMQP_TABLE_DEPTH_MAX. -1: ERR_USAGE, ERR_NOMEM. */
int amqp_table_from_text(amqp_table_t *out, struct slice text, int depth_max, amqp_pool_t *pool,
                         struct err *e);

/* object: a JSON object, or NULL for an empty table. -1: ERR_USAGE, ERR_NOMEM. */
int amqp_table_from_json(amqp_table_t *out, const json_t *object, amqp_pool_t *pool, struct err *e);

/* Bytes of the table in a frame, its length word included. */
size_t amqp_table_size(const amqp_table_t *table);

/* The value, or NULL. Of several entries of one name the last one counts, as in Python. */
const amqp_field_value_t *amqp_table_get(const amqp_table_t *table, const char *name);

/* NULL and other kinds: false, and *out is left alone. Integers of every kind; texts are S and x.
 */
bool amqp_value_integer(const amqp_field_value_t *value, int64_t *out);
bool amqp_value_text(const amqp_field_value_t *value, struct slice *out);

/* Sets an entry (replaces one of that name). name and what value points to are borrowed as long as
 * the table lives; the list of entries is copied into the pool. -1: ERR_NOMEM. */
int amqp_table_set(amqp_table_t *table, const char *name, amqp_field_value_t value,
                   amqp_pool_t *pool, struct err *e);

/* Takes every entry of that name out. */
void amqp_table_remove(amqp_table_t *table, const char *name);

/* Values for amqp_table_set and for arguments; text is borrowed. */
amqp_field_value_t amqp_value_of_text(struct slice text);
amqp_field_value_t amqp_value_of_integer(int64_t number);
amqp_field_value_t amqp_value_of_bool(bool truth);

#endif
