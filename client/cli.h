/*
 * cli.h - what the client commands share.
 *
 * Model: a command opens a session from its option values, asks, prints. Messages go to stderr as
 * one line, data to stdout. Fork rule: as session.h.
 */
#ifndef CLIENT_CLI_H
#define CLIENT_CLI_H

#include "base/buf.h"
#include "base/command.h"
#include "base/table.h"
#include "client/session.h"

#include <jansson.h>

extern const struct opt_row cli_broker_rows[]; /* --timeout */
extern const struct opt_row cli_limit_rows[];  /* -n, --limit */
extern const struct opt_row cli_force_rows[];  /* -f, --force, --yes */

/* Opens the broker that the options name. connect_once: a refused connection is final, for those
 * who only want to look. Returns the exit status: EXITCODE_OK, or the message is printed. */
int cli_open(struct session *s, const struct command_context *ctx, const struct opt_values *v,
             bool connect_once);
/* Likewise, to wait for the results of what is sent. */
int cli_open_for_replies(struct session *s, const struct command_context *ctx,
                         const struct opt_values *v);

/* EXITCODE_OK, or a usage error where no result is ever stored: waiting would not end. */
int cli_check_results(const struct command_context *ctx, const struct session *s);

/* session_ask with the answer parsed: a new reference, or NULL with e. */
json_t *cli_ask(struct session *s, enum broker_question question, const char *queue,
                const char *handle, int64_t limit, struct err *e);

/* A command that asks one question and prints the answer, as JSON or with print. The exit status.
 */
typedef int cli_print_fn(const struct command_context *ctx, const json_t *answer);
int cli_show(const struct command_context *ctx, const struct opt_values *v,
             enum broker_question question, const char *queue, int64_t limit, cli_print_fn *print);

/* May something be destroyed? --force, or a "y" on the terminal. EXITCODE_OK or the exit status. */
int cli_confirm(const struct command_context *ctx, const struct opt_values *v, const char *what);

/* One JSON value as one line on stdout. value: borrowed; NULL, which no memory for it leaves, is
 * told on stderr. The exit status. */
int cli_print_json(const json_t *value);

/* The same for a value made for this: taken. */
int cli_print_new_json(json_t *value);

/* The table on stdout; it is released. The exit status, as above. */
int cli_print_table(const struct command_context *ctx, struct table *t);

/* Text that may be any bytes (a file's name) as JSON: what is not UTF-8 becomes U+FFFD. New
 * reference; NULL when out of memory. */
json_t *cli_json_text(const char *text);

/* "2026-11-21 08:30:00Z" for milliseconds since 1970, "-" for 0. */
void cli_time(int64_t wall_ms, char *to, size_t size);

/* Text of a member, or NULL. */
const char *cli_member(const json_t *object, const char *name);

#endif
