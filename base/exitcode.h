/*
 * exitcode.h - what the exit status of every celeriac command means, in one table.
 *
 * Model: the numbers are public (celeriac(1), enum celeriac_code of the client library has the same
 * ones). Errors carry what the caller should do; exitcode_of says which status that is for a shell.
 * Fork rule: none.
 */
#ifndef BASE_EXITCODE_H
#define BASE_EXITCODE_H

#include "base/err.h"

enum exitcode {
    EXITCODE_OK = 0,
    EXITCODE_TASK_FAILED = 1,
    EXITCODE_USAGE = 2,
    EXITCODE_UNREACHABLE = 3,
    EXITCODE_NOT_FOUND = 4,
    EXITCODE_REFUSED = 5,
    EXITCODE_TIMEOUT = 6,
    EXITCODE_PARTIAL = 7,
    EXITCODE_INTERNAL = 70 /* sysexits' EX_SOFTWARE: out of memory or a bug */
};

enum exitcode exitcode_of(enum err_code code);

/* "task failed", for help texts; NULL for a number that is none. */
const char *exitcode_meaning(enum exitcode code);

#endif
