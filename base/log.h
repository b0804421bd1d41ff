/*
 * log.h - one event, one line, one write.
 *
 * Purpose: say what was decided. Model: `time level role pid event key=value ...`; the event is a
 * constant phrase to grep for, the rest is printf'ed key=value pairs. Invariants: a line is written
 * with a single write(2), so lines of several processes never mix; control bytes become spaces, so
 * a value can not forge a line; nobody passes a secret (URLs go through uri_masked). Fork rule:
 * after fork a child makes its own struct log with log_for_role; the descriptor is shared.
 */
#ifndef BASE_LOG_H
#define BASE_LOG_H

#include <stdbool.h>

/* The numbers are Python's, as are the names that log_level_parse takes. */
enum log_level {
    LOG_LEVEL_DEBUG = 10,
    LOG_LEVEL_INFO = 20,
    LOG_LEVEL_WARNING = 30,
    LOG_LEVEL_ERROR = 40,
    LOG_LEVEL_CRITICAL = 50
};

struct log {
    int fd;
    enum log_level level; /* lines below it are dropped */
    char role[24];        /* "supervisor", "dispatcher", "runner-1" */
    int pid;
};

void log_init(struct log *log, int fd, enum log_level level, const char *role);

/* A copy for another role in this process: its pid is asked anew. */
void log_for_role(struct log *log, const struct log *from, const char *role);

/* "debug", "INFO", "Warning", "error", "critical", "fatal": 0, or -1 for any other word. */
int log_level_parse(const char *word, enum log_level *out);

static inline bool log_wants(const struct log *log, enum log_level level)
{
    return log && level >= log->level;
}

/* fmt: NULL or key=value pairs. A NULL log drops the line. */
void log_event(const struct log *log, enum log_level level, const char *event, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));

#define log_debug(log, ...) log_event(log, LOG_LEVEL_DEBUG, __VA_ARGS__)
#define log_info(log, ...)  log_event(log, LOG_LEVEL_INFO, __VA_ARGS__)
#define log_warn(log, ...)  log_event(log, LOG_LEVEL_WARNING, __VA_ARGS__)
#define log_error(log, ...) log_event(log, LOG_LEVEL_ERROR, __VA_ARGS__)

#endif
