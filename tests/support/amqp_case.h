/*
 * amqp_case.h - a link under test: dials, pumps, remembers what the link said.
 *
 * Model: everything waits on a condition with a deadline (CASE_LIMIT_MS); the last and the number
 * of each event are kept. Hooks may act on some. longest_pump_ms is the longest single
 * link_pump, the thing that must stay short whatever the broker does. Fork rule: one process uses
 * it.
 */
#ifndef TESTS_AMQP_CASE_H
#define TESTS_AMQP_CASE_H

#include "broker/amqp_dial.h"
#include "broker/amqp_link.h"
#include "tests/support/check.h"

#define CASE_LIMIT_MS 60000

struct amqp_case {
    struct amqp_address address;
    struct amqp_link *link;
    size_t delivered, bytes, acked_from;
    void (*on_delivered)(struct amqp_case *c, const struct amqp_incoming *in);
    void (*on_confirmed)(struct amqp_case *c);
    void (*on_closed)(struct amqp_case *c, int channel);
    bool ack; /* every delivery at once */
    size_t confirmed, nacked;
    uint64_t last_confirmed;
    size_t returned;
    uint64_t returned_sequence;
    int returned_code;
    char returned_key[64];
    size_t channels_closed;
    int closed_code;
    struct err closed_why;
    size_t cancelled;
    size_t blocked, unblocked;
    size_t down;
    struct err down_why;
    size_t answers;
    int answer_code;
    int answer_codes;               /* all of them added up */
    amqp_method_number_t answer_id; /* 0: the call failed */
    struct err answer_why;
    uint32_t answer_count; /* of queue.declare-ok, purge-ok, get-ok */
    char answer_body[64];
    int64_t longest_pump_ms;
};

/* Parses the URL and, for case_open, dials and starts the link; both fail the test. */
void case_init(struct amqp_case *c, const char *url);
void case_open(struct amqp_case *c, const char *url);
/* Starts the link on a connection that is there; 0, or -1 with the error. */
int case_start(struct amqp_case *c, amqp_connection_state_t taken, int heartbeat_s,
               const struct clock *clock, struct err *e);
void case_close(struct amqp_case *c);

/* 0, or -1 with what dial_take said. */
int case_dial(struct amqp_case *c, size_t first, struct amqp_dialed *out, struct err *e);

/* One turn: waits for the link at most that long and pumps it. */
void case_turn(struct amqp_case *c, int timeout_ms);

/* Turns until the condition holds; fails the test after CASE_LIMIT_MS. */
#define CASE_UNTIL(c, condition)                                                                   \
    do {                                                                                           \
        int64_t limit_ms_ = clock_mono_ms(clock_system()) + CASE_LIMIT_MS;                         \
        while (!(condition)) {                                                                     \
            if (clock_mono_ms(clock_system()) > limit_ms_)                                         \
                fail_msg("waited in vain for %s", #condition);                                     \
            case_turn((c), 100);                                                                   \
        }                                                                                          \
    } while (0)

/* Writes the call and waits for its answer; true when the server did it. */
bool case_call(struct amqp_case *c, int channel, amqp_method_number_t id, const void *decoded);
amqp_answered_fn case_answered; /* counts; for link_call */

/* A queue that goes with the connection. */
void case_queue(struct amqp_case *c, int channel, const char *name);
void case_consume(struct amqp_case *c, int channel, const char *queue, uint16_t prefetch);
uint64_t case_publish(struct amqp_case *c, int channel, const char *key, bool mandatory,
                      struct slice body);

#endif
