/*
 * amqp_health.h - what RabbitMQ's management API says about a broker, as a doctor's rows.
 *
 * Purpose: the part of BROKER_ASK_DOCTOR's answer that AMQP can not give. Model: reads a few
 * documents of the API and judges them; the rows have the form of answer.h. A document that this
 * user may not read becomes a row that says so, and the rest is still told. Pure but for the GETs.
 * Fork rule: as amqp_api.h.
 */
#ifndef BROKER_AMQP_HEALTH_H
#define BROKER_AMQP_HEALTH_H

#include "base/buf.h"
#include "broker/amqp_api.h"

/* Appends a JSON array. queues: names separated by commas, of the virtual host. -1 when the API can
 * not be asked at all; out is then as it was. */
int amqp_health(struct amqp_api *api, const char *vhost, const char *queues, struct buf *out,
                struct err *e);

/* The judgements alone, of documents that were read elsewhere; out is an open list (answer_begin).
 */
void amqp_health_nodes(const json_t *nodes, struct buf *out);
void amqp_health_queue(const json_t *queue, size_t nodes_len, struct buf *out);

#endif
