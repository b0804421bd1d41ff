/*
 * err.h - an error as a value, on the caller's stack.
 *
 * Purpose: a function that can fail takes `struct err *` last and returns -1 after filling it. The
 * code says what the caller should do about it, the text names the thing, the cause and what to do.
 * Model: the first failure is written with err_set, callers on the way up may add context in front
 * with err_wrap; it is logged once, where the decision is made. Texts are lower case, without a
 * full stop, with the subject quoted. Invariants: the text is always terminated, one line, and
 * never holds a password (URLs go through uri_masked). A NULL err is allowed everywhere: the code
 * is then lost, the return value is not. Fork rule: none.
 */
#ifndef BASE_ERR_H
#define BASE_ERR_H

#include <stdarg.h>

enum err_code {
    ERR_NONE = 0,
    ERR_AGAIN, /* will pass by itself: busy, full, out of memory at the server; retry with backoff
                */
    ERR_RECONNECT,  /* the connection is gone: what was in flight may or may not have happened;
                       resend */
    ERR_DEADLETTER, /* this message can never be handled: move it to the dead letters with the text
                     */
    ERR_USAGE,      /* the person gave something wrong: option, JSON, URL */
    ERR_OPERATOR,   /* somebody must change something: password, permission, missing file */
    ERR_NOTFOUND,
    ERR_REFUSED, /* understood and denied: lease lost, policy */
    ERR_TIMEOUT,
    ERR_PARTIAL, /* some of it was done, and the text says which */
    ERR_NOMEM,
    ERR_BUG /* cannot happen; the text says where */
};

struct err {
    enum err_code code;
    char text[400];
};

#define ERR_INIT                                                                                   \
    {                                                                                              \
        ERR_NONE, ""                                                                               \
    }

/* Fills e and returns -1, so that `return err_set(...)` reads well. */
int err_set(struct err *e, enum err_code code, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

/* As err_set, with ": " and strerror(errnum) at the end. */
int err_sys(struct err *e, enum err_code code, int errnum, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));

/* The same for a connection that was not made (ERR_RECONNECT): where nobody listens it says what to
 * look at. */
int err_connect(struct err *e, int errnum, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

/* Puts "context: " in front of the text that is there and returns -1. */
int err_wrap(struct err *e, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

int err_nomem(struct err *e);

/* What every caller may rely on, where an analyzer that reads one file at a time can see it. */
static inline int err_is_minus_one(int result)
{
    (void)result;
    return -1;
}
#ifndef ERR_NO_MACROS
#define err_set(...)     err_is_minus_one((err_set)(__VA_ARGS__))
#define err_sys(...)     err_is_minus_one((err_sys)(__VA_ARGS__))
#define err_connect(...) err_is_minus_one((err_connect)(__VA_ARGS__))
#define err_wrap(...)    err_is_minus_one((err_wrap)(__VA_ARGS__))
#define err_nomem(e)     err_is_minus_one((err_nomem)(e))
#endif

/* Short word for a code ("again", "usage"), for logs. */
const char *err_word(enum err_code code);

#endif
