/*
 * opt_help.h - texts generated from the tables of options and commands.
 *
 * Purpose: --help, the man pages and the bash completion say what the rows say, nothing else.
 * Model: pure functions that append text to a buffer. `path` is the command as it is called, with
 * blanks ("celeriac queue ls"); the root is a struct command too, whose subs are all commands.
 * Fork rule: none.
 */
#ifndef BASE_OPT_HELP_H
#define BASE_OPT_HELP_H

#include "base/buf.h"
#include "base/command.h"

/* The options' paragraphs of one array, wrapped at `columns`. Hidden rows are left out. */
void opt_help(struct buf *out, const struct opt_row *rows, int columns);

void command_help(struct buf *out, const struct command *command, const char *path, int columns);

/* A man page in roff, section 1. `page` is its name ("celeriac-queue"), `date` "2026-11-21". */
void command_man(struct buf *out, const struct command *command, const char *path, const char *page,
                 const char *date);

/* A completion script for bash. */
void command_complete(struct buf *out, const struct command *root);

/* Appends text wrapped at `columns`, every line but the first behind `indent` blanks; `at` is the
 * column where the text begins. Lines of the text stay lines. */
void opt_wrap(struct buf *out, const char *text, int at, int indent, int columns);

#endif
