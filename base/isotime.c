#include "base/isotime.h"

#include "base/decimal.h"

#include <ctype.h>
#include <stdbool.h>
#include <string.h>
#include <time.h>

void isotime_format_us(int64_t wall_us, char out[ISOTIME_SIZE])
{
    time_t seconds = (time_t)(wall_us / 1000000);
    int micro = (int)(wall_us % 1000000);
    struct tm tm;

    if (micro < 0) {
        micro += 1000000;
        seconds--;
    }
    gmtime_r(&seconds, &tm);
    memcpy(out, "0000-00-00T00:00:00.000000+00:00", ISOTIME_SIZE);
    decimal_fill(out, 4, (uint64_t)tm.tm_year + 1900);
    decimal_fill(out + 5, 2, (uint64_t)tm.tm_mon + 1);
    decimal_fill(out + 8, 2, (uint64_t)tm.tm_mday);
    decimal_fill(out + 11, 2, (uint64_t)tm.tm_hour);
    decimal_fill(out + 14, 2, (uint64_t)tm.tm_min);
    decimal_fill(out + 17, 2, (uint64_t)tm.tm_sec);
    decimal_fill(out + 20, 6, (uint64_t)micro);
}

/* Reads exactly n digits. */
static bool digits(const char **at, int n, int *value)
{
    *value = 0;
    for (int i = 0; i < n; i++) {
        if (!isdigit((unsigned char)(*at)[i]))
            return false;
        *value = *value * 10 + ((*at)[i] - '0');
    }
    *at += n;
    return true;
}

static bool separator(const char **at, const char *allowed)
{
    for (; *allowed; allowed++) {
        if (**at == *allowed) {
            (*at)++;
            return true;
        }
    }
    return false;
}

static int days_of(int year, int month)
{
    static const int days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    bool leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;

    return days[month - 1] + (month == 2 && leap);
}

static bool parse_date(const char **at, struct tm *tm)
{
    int year, month, day;

    if (!digits(at, 4, &year) || !separator(at, "-") || !digits(at, 2, &month) ||
        !separator(at, "-") || !digits(at, 2, &day))
        return false;
    /* timegm would take the 30th of February for a day in March. */
    if (month < 1 || month > 12 || day < 1 || day > days_of(year, month))
        return false;
    tm->tm_year = year - 1900;
    tm->tm_mon = month - 1;
    tm->tm_mday = day;
    return true;
}

static bool parse_clock(const char **at, struct tm *tm, int *milli)
{
    int scale = 100;

    if (!digits(at, 2, &tm->tm_hour) || !separator(at, ":") || !digits(at, 2, &tm->tm_min))
        return false;
    if (separator(at, ":") && !digits(at, 2, &tm->tm_sec))
        return false;
    if (separator(at, ".,")) {
        if (!isdigit((unsigned char)**at))
            return false;
        for (; isdigit((unsigned char)**at); (*at)++, scale /= 10)
            *milli += (**at - '0') * scale;
    }
    return tm->tm_hour < 24 && tm->tm_min < 60 && tm->tm_sec <= 60;
}

/* "Z", "+hh:mm", "+hhmm", "+hh" or nothing. */
static bool parse_offset(const char **at, int *minutes)
{
    int sign = 1, hours, rest = 0;

    if (separator(at, "Zz") || **at == '\0')
        return true;
    if (separator(at, "-"))
        sign = -1;
    else if (!separator(at, "+"))
        return false;
    if (!digits(at, 2, &hours))
        return false;
    separator(at, ":");
    if (**at && !digits(at, 2, &rest))
        return false;
    *minutes = sign * (hours * 60 + rest);
    return hours < 24 && rest < 60;
}

int isotime_parse(const char *text, int64_t *wall_ms)
{
    struct tm tm = {0};
    int milli = 0, offset_min = 0;

    if (!parse_date(&text, &tm))
        return -1;
    if (separator(&text, "T t") && !parse_clock(&text, &tm, &milli))
        return -1;
    if (!parse_offset(&text, &offset_min) || *text)
        return -1;
    *wall_ms = ((int64_t)timegm(&tm) - (int64_t)offset_min * 60) * 1000 + milli;
    return 0;
}

int64_t isotime_now_us(void)
{
    struct timespec now;

    clock_gettime(CLOCK_REALTIME, &now);
    return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}
