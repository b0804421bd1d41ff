/*
 * sqlite_fixture.h - an SQLite broker in a folder of its own, for tests of that backend.
 *
 * Purpose: what every test of it needs: a fresh folder, brokers with a fake or the real clock, and
 * waiting for events with a deadline. Model: fixture_wait polls until an event of the kind came,
 * sleeping on the broker's own descriptors. Fork rule: a child opens its own broker.
 */
#ifndef TESTS_SQLITE_FIXTURE_H
#define TESTS_SQLITE_FIXTURE_H

#include "broker/broker.h"

#define FIXTURE_WAIT_MS 20000

struct fixture {
    char dir[64];
    char path[96]; /* of the queue file */
    char url[128];
    struct clock_fake fake;
};

void fixture_init(struct fixture *f);
void fixture_release(struct fixture *f);

/* node NULL: a producer. The clock is the fake one, or the system's. Fails the test on error. */
struct broker *fixture_open(struct fixture *f, const char *node, uint64_t generation, bool real);
struct broker *fixture_try_open(const char *url, const char *node, uint64_t generation,
                                const struct clock *clock, struct err *e);

/* 0 and a copy of the event (its texts borrowed until the next call), or -1 after the deadline. */
int fixture_wait(struct broker *b, enum broker_event_kind kind, struct broker_event *out);
/* Polls until the broker has nothing to do now. */
void fixture_settle(struct broker *b);

void fixture_publish(struct broker *b, const char *text, const char *token);
int fixture_finish(struct broker *b, const struct broker_receipt *receipt, const char *id);

/* A number of the answer to TOTALS. */
long long fixture_total(struct broker *b, const char *name);

#endif
