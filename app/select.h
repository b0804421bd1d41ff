/*
 * select.h - from the words of a command line to a command with its option values.
 *
 * Model: selection_make walks down the tree of commands: options, a word that names a command,
 * options, perhaps a word that names its sub-command, then options and arguments mixed. Options
 * are checked against the rows of the level they stand at. selection_complete adds environment,
 * configuration file and defaults. Invariant: after a failure selection_release is still right.
 * Ownership: argv is borrowed. Fork rule: none.
 */
#ifndef APP_SELECT_H
#define APP_SELECT_H

#include "base/command.h"

#define SELECT_PATH_SIZE 80

struct selection {
    const struct command *command;
    struct opt_values values;    /* its own rows and the shared ones */
    char path[SELECT_PATH_SIZE]; /* "celeriac queue ls" */
    char unknown[160];           /* why the first argument of a family is no command */
};

int selection_make(struct selection *s, const struct command *root, int argc, char **argv,
                   struct err *e);
int selection_complete(struct selection *s, const struct command *root, struct err *e);
void selection_release(struct selection *s);

/* The sub-command with that name or other name, or NULL. */
const struct command *selection_sub(const struct command *command, const char *word);

#endif
