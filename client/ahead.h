/*
 * ahead.h - ids of tasks that are not sent yet, whose results are listened for already.
 *
 * Purpose: a program that sends one task, waits for its result, and sends the next asks the broker
 * for a subscription in each round. When it is seen to do so, its next ids are chosen some at a
 * time, and subscribed together before the first of them is sent.
 * Model: a small stack of ids in the session. It is used only right after a task that was sent
 * alone was waited for alone; it is filled when empty, one task before it is needed. An id that is
 * taken is used once or never. Invariant: an id comes from here only if the broker listens for it.
 * Fork rule: the session's.
 */
#ifndef CLIENT_AHEAD_H
#define CLIENT_AHEAD_H

#include "base/uuid.h"

#include <stdbool.h>

#define AHEAD_IDS 16

struct session;

struct ahead {
    char sent[UUID_SIZE]; /* the last task that was sent alone; a longer id is cut */
    bool waits;           /* and its result was waited for */
    bool cannot;          /* the broker does not listen ahead: not asked again */
    size_t left;
    char ids[AHEAD_IDS][UUID_SIZE];
    char taken[UUID_SIZE];
};

/* The id for the next task; NULL: any. Borrowed until the next call. */
const char *ahead_take(struct session *s);
/* What is sent alone, and what is waited for alone. */
void ahead_sent(struct session *s, const char *id);
void ahead_waited(struct session *s, const char *id);

#endif
