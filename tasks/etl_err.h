/*
 * etl_err.h - what went wrong in an ETL step, for the one who decides what to do about it.
 *
 * Purpose: tasks stand below the rest of the project and know nothing of it, so they have an error
 * of their own: what the caller may do (the kind) and one line for a person (the text), which names
 * the thing, the cause and, where it helps, what to do.
 *
 * Model: functions return 0 or -1 and fill in a `struct etl_err` on the caller's stack. Nobody in
 * between prints; the task turns the kind into a verdict, the command into an exit code.
 *
 * Fork and threads: plain values.
 */
#ifndef CELERIAC_ETL_ERR_H
#define CELERIAC_ETL_ERR_H

enum etl_err_kind {
    ETL_ERR_NONE,
    ETL_ERR_ARGUMENT, /* the caller asked for something that cannot be */
    ETL_ERR_NOTFOUND, /* the log or the database is not there */
    ETL_ERR_INPUT,    /* the log cannot be read */
    ETL_ERR_CHANGED,  /* the log is not the one that was cut into chunks */
    ETL_ERR_BUSY,     /* somebody else holds the database: again, soon */
    ETL_ERR_SPACE,    /* disk full or failing: again, later */
    ETL_ERR_DATABASE, /* the database is unusable: a person must look */
    ETL_ERR_MEMORY,
    ETL_ERR_KINDS
};

struct etl_err {
    enum etl_err_kind kind;
    char text[1024];
};

/* Always returns -1, so that a failing function ends with `return etl_err_set(...)`. */
int etl_err_set(struct etl_err *err, enum etl_err_kind kind, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* The name under which a task fails: "OSError", "ValueError", ... */
const char *etl_err_type(enum etl_err_kind kind);

#endif
