/*
 * check.h - cmocka with what it wants included, and checks for our errors.
 *
 * Purpose: one include for every test program. Model: CHECK_OK shows the text of the error when a
 * call failed; CHECK_ERR wants a failure with a code and a piece of its text. Fork rule: cmocka
 * asserts only in the parent; a child reports through its exit status.
 */
#ifndef TESTS_CHECK_H
#define TESTS_CHECK_H

/* cmocka.h wants these in front of it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

/* cmocka leaves by longjmp and does not say so: compilers and analyzers should know. */
void _fail(const char *file, int line) __attribute__((noreturn));

#include "base/err.h"

#include <string.h>

/* The pointer itself, which is not NULL. */
static inline void *must_have(void *pointer, const char *what)
{
    if (!pointer)
        fail_msg("%s is NULL", what);
    return pointer;
}
#define MUST_HAVE(pointer) must_have((pointer), #pointer)

#define CHECK_OK(call)                                                                             \
    do {                                                                                           \
        e.text[0] = '\0';                                                                          \
        if ((call) != 0)                                                                           \
            fail_msg("%s: %s", #call, e.text);                                                     \
    } while (0)

#define CHECK_ERR(call, want_code, piece)                                                          \
    do {                                                                                           \
        e = (struct err)ERR_INIT;                                                                  \
        assert_int_equal((call), -1);                                                              \
        if (e.code != (want_code) || !strstr(e.text, (piece)))                                     \
            fail_msg("%s: got %s \"%s\", wanted %s with \"%s\"", #call, err_word(e.code), e.text,  \
                     err_word(want_code), (piece));                                                \
    } while (0)

#endif
