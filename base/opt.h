/*
 * opt.h - one table of options for everything that configures Celeriac.
 *
 * Purpose: an option is one row; the command line, the environment, the configuration file, --help,
 * the man pages and the shell completion all read that row.
 * Model: a command has one or more arrays of rows, each ended by a row without a name. Values are
 * filled by readers called in the order of precedence - command line, environment, file, defaults -
 * and each sets only what is still unset. A row named "max-retries" is --max-retries on the line,
 * CELERIAC_MAX_RETRIES in the environment and `max-retries = 3` (or max_retries) in the file,
 * unless it is OPT_LINE_ONLY.
 *
 * Invariants: a value that was accepted fits its row's kind, range and choices, whatever its
 * source; every refusal is one line that names the option as the person wrote it; asking for a name
 * that is in no row, or with the wrong type, is a bug and aborts. Ownership: rows are constant and
 * borrowed; texts handed out are borrowed from the values. Fork rule: none, plain memory.
 */
#ifndef BASE_OPT_H
#define BASE_OPT_H

#include "base/buf.h"
#include "base/err.h"
#include "base/words.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum opt_kind {
    OPT_END = 0, /* the row that ends an array */
    OPT_FLAG,    /* present or not; in environment and file: 1/0, true/false, yes/no, on/off */
    OPT_TEXT,
    OPT_LIST,   /* repeatable, and split at commas */
    OPT_INT,    /* a whole number within min..max, or one of choices */
    OPT_NUMBER, /* a decimal number within min..max, or one of choices */
    OPT_CHOICE  /* one of choices, in any case; the value is spelled as in choices */
};

enum opt_row_flags {
    OPT_LINE_ONLY = 1 << 0, /* neither environment nor file */
    OPT_HIDDEN = 1 << 1,    /* not in help, man page and completion */
    OPT_FILE_ARG = 1 << 2   /* the argument is a file: completed as one */
};

struct opt_row {
    const char *name; /* long name; NULL ends the array */
    char letter;      /* short name or 0 */
    enum opt_kind kind;
    unsigned flags;
    const char *also;     /* another long name, or NULL */
    const char *arg;      /* placeholder for help: "SECONDS"; NULL for a flag */
    const char *env;      /* one more environment variable, read after CELERIAC_NAME, or NULL */
    const char *fallback; /* the default as text, or NULL */
    const char *choices;  /* "table|json" */
    double min, max;      /* both 0: no limits */
    const char *help;     /* one or more sentences, without line breaks */
};

enum opt_origin { OPT_UNSET, OPT_FROM_DEFAULT, OPT_FROM_FILE, OPT_FROM_ENV, OPT_FROM_LINE };

struct opt_value {
    const struct opt_row *row;
    enum opt_origin origin;
    struct words items; /* one, or for OPT_LIST any number; a flag that is on has "1", off "0" */
};

#define OPT_TABLES_MAX 6

struct opt_values {
    struct opt_value *values; /* owned */
    size_t len;
    char **args; /* positional arguments; the array is owned, the strings are argv's */
    size_t args_len;
};

/* tables: NULL-terminated list of arrays. */
int opt_values_init(struct opt_values *v, const struct opt_row *const *tables, struct err *e);
void opt_values_release(struct opt_values *v);

enum opt_stop { OPT_PERMUTE, OPT_STOP_AT_WORD };

/* Reads argv[0..argc) (without the program's name). OPT_PERMUTE collects positional arguments from
 * anywhere; OPT_STOP_AT_WORD ends in front of the first. *used (may be NULL) says how many strings
 * were read. ERR_USAGE. */
int opt_read_line(struct opt_values *v, int argc, char **argv, enum opt_stop stop, int *used,
                  struct err *e);
int opt_read_env(struct opt_values *v, struct err *e);
int opt_read_defaults(struct opt_values *v, struct err *e);

/* Reads `key = value` lines; '#' begins a comment line. A key that no row has is ERR_USAGE with a
 * suggestion, unless known(user, key), the keys of other commands, says true. ERR_NOTFOUND when the
 * file does not exist. */
typedef bool opt_known_fn(void *user, const char *key);
int opt_read_file(struct opt_values *v, const char *path, opt_known_fn *known, void *user,
                  struct err *e);

/* What was set. Text is NULL and numbers are 0 when nothing is. opt_int and opt_number are 0 for a
 * word of choices: ask opt_text. */
bool opt_flag(const struct opt_values *v, const char *name);
const char *opt_text(const struct opt_values *v, const char *name);
int64_t opt_int(const struct opt_values *v, const char *name);
double opt_number(const struct opt_values *v, const char *name);
enum opt_origin opt_origin(const struct opt_values *v, const char *name);

/* The items of a list; *len may be 0. Borrowed. */
const char *const *opt_list(const struct opt_values *v, const char *name, size_t *len);

/* For readers and generators: the row with that long name (or its other name), '_' as '-'. NULL
 * when there is none. */
const struct opt_row *opt_find(const struct opt_row *rows, const char *name);
struct opt_value *opt_value_find(struct opt_values *v, const char *name);

/* Sets a value unless a stronger source did. `where` is how the person wrote it ("--wait",
 * "CELERIAC_WAIT", "file.conf:3: wait"). Text is copied. ERR_USAGE when it does not fit. */
int opt_value_set(struct opt_value *value, enum opt_origin origin, const char *where,
                  const char *text, struct err *e);

/* CELERIAC_MAX_RETRIES for "max-retries". */
void opt_env_name(const struct opt_row *row, char *to, size_t size);

#endif
