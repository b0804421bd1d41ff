/*
 * etl.h - what the sub-commands of `celeriac etl` share.
 *
 * Purpose: `load`, `verify`, `parse` and `calibrate` are one file each; options that several of
 * them take, and the way errors of tasks/ become exit codes, are here. Fork rule: as
 * base/command.h.
 */
#ifndef APP_ETL_H
#define APP_ETL_H

#include "base/command.h"
#include "tasks/etl_err.h"

#define ETL_CHUNK_LEN_DEFAULT "2097152"
#define ETL_DB_DEFAULT        "events.db"
#define ETL_BUSY_MS           20000 /* how long a locked database is waited for */

extern const struct command command_etl_load;
extern const struct command command_etl_verify;
extern const struct command command_etl_parse;
extern const struct command command_etl_calibrate;

/* What the caller should do about an error of a task. */
enum err_code etl_code_of(enum etl_err_kind kind);

/* Copies the error over; returns -1. */
int etl_err_take(struct err *e, const struct etl_err *from);

/* Prints the error as command_fail does and returns its exit status. */
int etl_fail(const struct command_context *ctx, const struct etl_err *err);

/* The path with its folder made absolute, because runners may work elsewhere. Owned by the caller;
 * the file itself need not exist. */
int etl_absolute(const char *path, char **absolute, struct err *e);

#endif
