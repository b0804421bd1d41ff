/*
 * amqp_confirm.h - which published messages the server has not confirmed yet.
 *
 * Purpose: a channel in confirm mode numbers what is published 1, 2, ...; acks and nacks come back
 * out of order, singly or for all up to a number. Model: a ring of one slot per number from the
 * oldest open one to the newest; it grows with the window and never shrinks. A basic.return names
 * no number: a mandatory message leaves a print of its routing and ids, and a returned one is the
 * oldest open with the same print. Invariants: confirms_take hands out each number once; numbers
 * the server invents are ignored. Fork rule: a value with owned memory.
 */
#ifndef BROKER_AMQP_CONFIRM_H
#define BROKER_AMQP_CONFIRM_H

#include "base/err.h"
#include "base/slice.h"

#include <stdbool.h>
#include <stdint.h>

struct amqp_confirm_slot;

struct amqp_confirms {
    bool on;
    uint64_t oldest; /* the lowest open number; == next when none is */
    uint64_t next;
    struct amqp_confirm_slot *ring; /* owned */
    size_t cap;                     /* a power of two, or 0 */
};

void confirms_release(struct amqp_confirms *c);
/* Numbers begin at 1 again; what was open is forgotten. */
void confirms_start(struct amqp_confirms *c);
void confirms_stop(struct amqp_confirms *c);

/* Room for one more number. */
int confirms_reserve(struct amqp_confirms *c, struct err *e);
/* The next number; reserve first. print 0: not mandatory. */
uint64_t confirms_add(struct amqp_confirms *c, uint32_t print);

/* Settles one number; false when it is not open. */
bool confirms_take(struct amqp_confirms *c, uint64_t number);

/* The oldest open number of that print, each told once; 0 when there is none. */
uint64_t confirms_returned(struct amqp_confirms *c, uint32_t print);

/* Mixes a text into a print; begin with 0. Never gives 0. */
uint32_t confirms_print(uint32_t print, struct slice text);

#endif
