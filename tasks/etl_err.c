#include "tasks/etl_err.h"

#include <stdarg.h>
#include <stdio.h>

static const char *const types[ETL_ERR_KINDS] = {
    [ETL_ERR_NONE] = "RuntimeError",
    [ETL_ERR_ARGUMENT] = "ValueError",
    [ETL_ERR_NOTFOUND] = "FileNotFoundError",
    [ETL_ERR_INPUT] = "OSError",
    [ETL_ERR_CHANGED] = "SourceChanged",
    [ETL_ERR_BUSY] = "DatabaseBusy",
    [ETL_ERR_SPACE] = "OSError",
    [ETL_ERR_DATABASE] = "DatabaseError",
    [ETL_ERR_MEMORY] = "MemoryError",
};

int etl_err_set(struct etl_err *err, enum etl_err_kind kind, const char *format, ...)
{
    va_list args;

    err->kind = kind;
    va_start(args, format);
    vsnprintf(err->text, sizeof(err->text), format, args);
    va_end(args);
    return -1;
}

const char *etl_err_type(enum etl_err_kind kind)
{
    return kind < ETL_ERR_KINDS ? types[kind] : "RuntimeError";
}
