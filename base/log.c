#include "base/log.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <time.h>
#include <unistd.h>

static const struct {
    const char *word;
    enum log_level level;
} level_words[] = {
    {"debug", LOG_LEVEL_DEBUG}, {"info", LOG_LEVEL_INFO},         {"warning", LOG_LEVEL_WARNING},
    {"error", LOG_LEVEL_ERROR}, {"critical", LOG_LEVEL_CRITICAL}, {"fatal", LOG_LEVEL_CRITICAL},
};

void log_init(struct log *log, int fd, enum log_level level, const char *role)
{
    log->fd = fd;
    log->level = level;
    log->pid = (int)getpid();
    snprintf(log->role, sizeof(log->role), "%s", role);
}

void log_for_role(struct log *log, const struct log *from, const char *role)
{
    log_init(log, from->fd, from->level, role);
}

int log_level_parse(const char *word, enum log_level *out)
{
    for (size_t i = 0; i < sizeof(level_words) / sizeof(level_words[0]); i++) {
        if (strcasecmp(word, level_words[i].word) == 0) {
            *out = level_words[i].level;
            return 0;
        }
    }
    return -1;
}

static const char *level_word(enum log_level level)
{
    for (size_t i = 0; i < sizeof(level_words) / sizeof(level_words[0]); i++) {
        if (level_words[i].level == level)
            return level_words[i].word;
    }
    return "?";
}

static int stamp(char *to, size_t size)
{
    struct timespec now;
    struct tm tm;

    clock_gettime(CLOCK_REALTIME, &now);
    gmtime_r(&now.tv_sec, &tm);
    return snprintf(to, size, "%04d-%02d-%02dT%02d:%02d:%02d.%03ldZ", tm.tm_year + 1900,
                    tm.tm_mon + 1, tm.tm_mday, tm.tm_hour, tm.tm_min, tm.tm_sec,
                    now.tv_nsec / 1000000);
}

static size_t clamp(int n, size_t max)
{
    return n < 0 ? 0 : (size_t)n < max ? (size_t)n : max - 1;
}

void log_event(const struct log *log, enum log_level level, const char *event, const char *fmt, ...)
{
    char line[2048];
    size_t len;

    if (!log_wants(log, level))
        return;
    len = clamp(stamp(line, sizeof(line)), sizeof(line));
    len += clamp(snprintf(line + len, sizeof(line) - len, " %s %s[%d] %s", level_word(level),
                          log->role, log->pid, event),
                 sizeof(line) - len);
    if (fmt && len + 2 < sizeof(line)) {
        va_list ap;

        line[len++] = ' ';
        va_start(ap, fmt);
        len += clamp(vsnprintf(line + len, sizeof(line) - len, fmt, ap), sizeof(line) - len);
        va_end(ap);
    }
    for (size_t i = 0; i < len; i++) {
        if ((unsigned char)line[i] < ' ' || line[i] == 0x7f)
            line[i] = ' ';
    }
    line[len] = '\n';
    /* A log that can not be written must not stop the work; there is nobody left to tell. */
    if (write(log->fd, line, len + 1) < 0)
        return;
}
