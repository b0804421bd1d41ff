#define ERR_NO_MACROS /* here the functions themselves are defined */
#include "base/err.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

/* An error is one line whatever went into it: a server's text or a file name may hold anything. */
static void flatten(char *text)
{
    for (; *text; text++) {
        if ((unsigned char)*text < ' ' || *text == 0x7f)
            *text = ' ';
    }
}

__attribute__((format(printf, 3, 0))) static void fill(struct err *e, enum err_code code,
                                                       const char *fmt, va_list ap)
{
    e->code = code;
    vsnprintf(e->text, sizeof(e->text), fmt, ap);
    flatten(e->text);
}

int err_set(struct err *e, enum err_code code, const char *fmt, ...)
{
    va_list ap;

    if (!e)
        return -1;
    va_start(ap, fmt);
    fill(e, code, fmt, ap);
    va_end(ap);
    return -1;
}

static void add_reason(struct err *e, int errnum, const char *hint)
{
    char reason[128];
    size_t len = strlen(e->text);

    snprintf(e->text + len, sizeof(e->text) - len, ": %s%s",
             strerror_r(errnum, reason, sizeof(reason)), hint);
}

int err_sys(struct err *e, enum err_code code, int errnum, const char *fmt, ...)
{
    va_list ap;

    if (!e)
        return -1;
    va_start(ap, fmt);
    fill(e, code, fmt, ap);
    va_end(ap);
    add_reason(e, errnum, "");
    return -1;
}

int err_connect(struct err *e, int errnum, const char *fmt, ...)
{
    bool nobody = errnum == ECONNREFUSED || errnum == ENOENT;
    va_list ap;

    if (!e)
        return -1;
    va_start(ap, fmt);
    fill(e, ERR_RECONNECT, fmt, ap);
    va_end(ap);
    add_reason(e, errnum, nobody ? "; is the server running there?" : "");
    return -1;
}

int err_wrap(struct err *e, const char *fmt, ...)
{
    char inner[sizeof(e->text)];
    size_t len;
    va_list ap;

    if (!e)
        return -1;
    memcpy(inner, e->text, sizeof(inner));
    va_start(ap, fmt);
    vsnprintf(e->text, sizeof(e->text), fmt, ap);
    va_end(ap);
    len = strlen(e->text);
    snprintf(e->text + len, sizeof(e->text) - len, ": %s", inner);
    flatten(e->text);
    return -1;
}

int err_nomem(struct err *e)
{
    return err_set(e, ERR_NOMEM, "out of memory");
}

const char *err_word(enum err_code code)
{
    static const char *const words[] = {
        [ERR_NONE] = "none",         [ERR_AGAIN] = "again",     [ERR_RECONNECT] = "reconnect",
        [ERR_DEADLETTER] = "poison", [ERR_USAGE] = "usage",     [ERR_OPERATOR] = "operator",
        [ERR_NOTFOUND] = "notfound", [ERR_REFUSED] = "refused", [ERR_TIMEOUT] = "timeout",
        [ERR_PARTIAL] = "partial",   [ERR_NOMEM] = "nomem",     [ERR_BUG] = "bug",
    };
    return code <= ERR_BUG ? words[code] : "unknown";
}
