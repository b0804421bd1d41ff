/*
 * show.h - results as people and programs want to see them.
 *
 * Model: a document is what is stored under a task's id, JSON text. Fork rule: none.
 */
#ifndef CLIENT_SHOW_H
#define CLIENT_SHOW_H

#include "base/buf.h"
#include "base/command.h"
#include "base/slice.h"

#include <jansson.h>

/* Prints the result of a finished task: its JSON on stdout (the whole document with -o json), or
 * the exception on stderr. Returns the exit status: 0, or 1 for a task that failed. */
int show_result(const struct command_context *ctx, struct slice document);

/* Prints the id of a task that was sent. Returns EXITCODE_OK. */
int show_id(const struct command_context *ctx, const char *id);

/* Prints the document as one line. */
void show_document(struct slice document);

/* "ValueError: no such thing" for the result of a failure, as Python's last traceback line. */
void show_exception(struct buf *out, const json_t *result);

#endif
