/*
 * canvas.h - messages that follow from a job.
 *
 * Purpose: turn a signature, as a task or a message's embed names it, into an encoded follow-up.
 * Model: args become [given] + args unless the signature is immutable; the options link,
 * link_error, chain and chord become the new message's embed; root and parent come from the job at
 * hand. Only signatures of one task are known: a chain, group or chord as a signature is
 * ERR_REFUSED. Ownership: signatures are borrowed and not changed. Fork rule: none, plain memory.
 * Source: celery/canvas.py, Signature.apply_async and Signature._merge (Celery 5).
 */
#ifndef WORKER_CANVAS_H
#define WORKER_CANVAS_H

#include "broker/message.h"

struct canvas_sender {
    struct message *message; /* borrowed: the job at hand */
    struct uuid_source *ids;       /* borrowed */
    int64_t now_ms;                /* wall clock */
};

/* What is applied to a signature; NULL and negative mean "nothing". All borrowed. */
struct canvas_with {
    json_t *argument; /* put in front of the signature's args */
    json_t *chain;    /* the rest of a chain, last step first */
    const char *group;
    int64_t group_index;
};
#define CANVAS_PLAIN                                                                               \
    {                                                                                              \
        NULL, NULL, NULL, -1                                                                       \
    }

/* Appends one follow-up (channel_put_followup) to out; id_out receives its task id. ERR_USAGE for a
 * signature that makes no sense, ERR_REFUSED for one that is not a single task. */
int canvas_put(struct buf *out, json_t *signature, const struct canvas_sender *from,
               const struct canvas_with *with, char id_out[UUID_SIZE], struct err *e);

/* Appends a spec as a follow-up. continues: it is the same job's next attempt. */
int canvas_put_spec(struct buf *out, const struct message_spec *spec, int64_t not_before_ms,
                    bool continues, struct uuid_source *ids, struct err *e);

#endif
