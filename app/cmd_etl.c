#include "app/etl.h"

#include "app/command.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const enum err_code codes[ETL_ERR_KINDS] = {
    [ETL_ERR_NONE] = ERR_BUG,          [ETL_ERR_ARGUMENT] = ERR_USAGE,
    [ETL_ERR_NOTFOUND] = ERR_NOTFOUND, [ETL_ERR_INPUT] = ERR_OPERATOR,
    [ETL_ERR_CHANGED] = ERR_REFUSED,   [ETL_ERR_BUSY] = ERR_REFUSED,
    [ETL_ERR_SPACE] = ERR_OPERATOR,    [ETL_ERR_DATABASE] = ERR_OPERATOR,
    [ETL_ERR_MEMORY] = ERR_NOMEM,
};

enum err_code etl_code_of(enum etl_err_kind kind)
{
    return kind < ETL_ERR_KINDS ? codes[kind] : ERR_BUG;
}

int etl_err_take(struct err *e, const struct etl_err *from)
{
    return err_set(e, etl_code_of(from->kind), "%s", from->text);
}

int etl_fail(const struct command_context *ctx, const struct etl_err *err)
{
    struct err e = ERR_INIT;

    etl_err_take(&e, err);
    return command_fail(ctx, &e);
}

int etl_absolute(const char *path, char **absolute, struct err *e)
{
    char folder[4096];

    *absolute = NULL;
    if (path[0] != '/' && getcwd(folder, sizeof(folder)) == NULL)
        return err_sys(e, ERR_OPERATOR, errno, "can not tell the current directory");
    if (asprintf(absolute, "%s%s%s", path[0] == '/' ? "" : folder, path[0] == '/' ? "" : "/",
                 path) < 0) {
        *absolute = NULL;
        return err_nomem(e);
    }
    return 0;
}

static const struct command *const subs[] = {
    &command_etl_load, &command_etl_verify, &command_etl_parse, &command_etl_calibrate, NULL,
};

const struct command command_etl = {
    .name = "etl",
    .summary = "Load access logs into a database, every event once.",
    .details = "Formats: common, combined, vhost_combined, and combined with $request_time and "
               "$request_id appended (combined_timed); chosen for each log from its first 1,000 "
               "lines. Bad lines go to a quarantine table with their reason.",
    .subs = subs,
};
