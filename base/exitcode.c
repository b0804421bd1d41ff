#include "base/exitcode.h"

#include <stddef.h>

static const enum exitcode by_error[] = {
    [ERR_NONE] = EXITCODE_OK,
    [ERR_AGAIN] = EXITCODE_UNREACHABLE,
    [ERR_RECONNECT] = EXITCODE_UNREACHABLE,
    [ERR_DEADLETTER] = EXITCODE_USAGE,
    [ERR_USAGE] = EXITCODE_USAGE,
    [ERR_OPERATOR] = EXITCODE_REFUSED,
    [ERR_NOTFOUND] = EXITCODE_NOT_FOUND,
    [ERR_REFUSED] = EXITCODE_REFUSED,
    [ERR_TIMEOUT] = EXITCODE_TIMEOUT,
    [ERR_PARTIAL] = EXITCODE_PARTIAL,
    [ERR_NOMEM] = EXITCODE_INTERNAL,
    [ERR_BUG] = EXITCODE_INTERNAL,
};

static const char *const meanings[] = {
    [EXITCODE_OK] = "done",
    [EXITCODE_TASK_FAILED] = "a task failed or was revoked",
    [EXITCODE_USAGE] = "wrong usage: option, JSON, URL, configuration",
    [EXITCODE_UNREACHABLE] = "the broker can not be reached, or did not confirm in time",
    [EXITCODE_NOT_FOUND] = "not found: task id, queue, dead letter, file",
    [EXITCODE_REFUSED] = "refused: password, permission, read-only, broken file, too large",
    [EXITCODE_TIMEOUT] = "the time given with --wait is over",
    [EXITCODE_PARTIAL] = "some of it was done; the messages say what was not",
};

enum exitcode exitcode_of(enum err_code code)
{
    return (size_t)code < sizeof(by_error) / sizeof(*by_error) ? by_error[code] : EXITCODE_INTERNAL;
}

const char *exitcode_meaning(enum exitcode code)
{
    return (size_t)code < sizeof(meanings) / sizeof(*meanings) ? meanings[code] : NULL;
}
