/*
 * amqp_link_parts.h - what the files of a link share; nobody else includes it.
 *
 * Model: amqp_link.c owns the socket, the heartbeat and the life; amqp_link_calls.c writes what the
 * owner submits; amqp_link_input.c reads frames and calls back. Invariants: a channel is never
 * freed before its link, so a callback may open and close channels at will; `broken` is set by
 * whoever finds the end, and only link_pump turns it into on_down. Fork rule: as amqp_link.h.
 */
#ifndef BROKER_AMQP_LINK_PARTS_H
#define BROKER_AMQP_LINK_PARTS_H

#include "base/buf.h"
#include "broker/amqp_assembly.h"
#include "broker/amqp_confirm.h"
#include "broker/amqp_frames.h"
#include "broker/amqp_link.h"

#define LINK_CHANNELS 2047

struct link_call {
    struct link_call *next;
    amqp_method_number_t id;
    amqp_answered_fn *answered; /* or NULL */
    void *context;
    uint64_t number;
};

enum link_phase { CHANNEL_CLOSED, CHANNEL_OPEN, CHANNEL_CLOSING };

struct link_channel {
    int number;
    enum link_phase phase;
    struct link_call *first, *last; /* written and not answered, in order; owned */
    struct amqp_confirms confirms;
    struct amqp_content content;
};

struct link_property {
    char *name;
    char *value;
};

struct amqp_link {
    amqp_connection_state_t connection; /* owned */
    int fd;                             /* the connection's */
    char name[24];
    void *owner;
    const struct amqp_link_events *events;
    const struct clock *clock;
    const struct log *log;
    int64_t heartbeat_ms; /* 0: none */
    int64_t sent_at_ms;
    int64_t read_at_ms;
    uint32_t frame_max;
    struct buf out;
    struct buf in;
    amqp_pool_t pool; /* of what is being called back */
    struct link_channel **channels;
    size_t channels_len;
    struct link_property *properties;
    size_t properties_len;
    int budget; /* messages that this pump may still hand out */
    bool more;  /* a pump ended with input left */
    bool up;
    bool blocked;
    bool tell_blocked; /* it was said during the login */
    bool acked;        /* since the start something was acknowledged */
    bool leaving;      /* we said goodbye: only the answer to it is of interest */
    bool broken;
    struct err why;
    int why_code; /* the server's reply code, when it closed the connection */
    amqp_method_number_t why_method;
};

/* Notes the end of the connection; the first reason stays. */
void link_break(struct amqp_link *l, const struct err *why);

/* The channel, or NULL when the owner never opened it. */
struct link_channel *link_channel(const struct amqp_link *l, int number);

/* Fails the calls that wait, oldest first. culprit: the method that the server did not like. */
void link_fail_calls(struct amqp_link *l, struct link_channel *ch, int code,
                     amqp_method_number_t culprit, const struct err *why);
void link_answer(struct amqp_link *l, struct link_channel *ch, const struct amqp_answer *answer);

/* Handles the complete frames of the input while the budget lasts. */
void link_take_frames(struct amqp_link *l);

/* What returned messages are recognised by. */
uint32_t link_print(struct slice exchange, struct slice routing_key,
                    const amqp_basic_properties_t *p, size_t body_len);

enum err_code link_code(int reply_code);

#endif
