/*
 * amqp_property.h - basic properties as members of the envelope's "properties"; for
 * amqp_envelope*.c only.
 *
 * Model: one row per property says how kombu calls it and what it holds. Absent, null and not
 * flagged mean the same. content_type, content_encoding and headers are not among them: in the
 * envelope they stand elsewhere. Fork rule: none, plain memory.
 */
#ifndef BROKER_AMQP_PROPERTY_H
#define BROKER_AMQP_PROPERTY_H

#include "base/buf.h"
#include "base/err.h"
#include "broker/amqp_lib.h"

/* Appends "name": value, and a comma and a blank behind each. Failures of memory are in
 * out->failed. */
void property_text(struct buf *out, const amqp_basic_properties_t *from);

/* Sets what the table has; texts are borrowed from it. -1: ERR_NOMEM, or ERR_USAGE for what AMQP
 * has no place for. user_id is left out, and an expiration of more than 49 days, which the server
 * refuses. */
int property_read(amqp_basic_properties_t *to, const amqp_table_t *from, amqp_pool_t *pool,
                  struct err *e);

/* A short text, flagged; NULL and null: none. ERR_USAGE, naming it. */
int property_set_text(amqp_basic_properties_t *to, amqp_flags_t flag, amqp_bytes_t *at,
                      const char *name, const amqp_field_value_t *text, struct err *e);

#endif
