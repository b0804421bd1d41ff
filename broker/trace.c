#include "broker/backend.h"

/* The decorator that logs every op; until it lands nothing is logged. */
struct broker *trace_wrap(struct broker *inner, const struct log *log)
{
    (void)log;
    return inner;
}
