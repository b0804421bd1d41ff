#include "tasks/etl_field.h"

#include <arpa/inet.h>
#include <string.h>

#define METHOD_MAX_LEN    32
#define PORT_MAX_DIGITS   5
#define PORT_MAX          65535
#define BYTES_MAX_DIGITS  19
#define SECOND_MAX_DIGITS 10
#define MINUTES_PER_DAY   1440

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static bool is_alpha(char c)
{
    return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z');
}

static int hex_value(char c)
{
    if (is_digit(c))
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/* The value of n digits, or -1. n is small enough for the result. */
static int64_t digits_value(const char *at, size_t n)
{
    int64_t value = 0;

    for (size_t i = 0; i < n; i++) {
        if (!is_digit(at[i]))
            return -1;
        value = value * 10 + (at[i] - '0');
    }
    return value;
}

/* One number 0-255 without leading zeros; moves *at behind it. */
static bool skip_octet(const char **at, const char *end)
{
    const char *first = *at;
    int value = 0;

    while (*at < end && is_digit(**at) && *at - first < 3)
        value = value * 10 + (*(*at)++ - '0');
    if (*at == first || value > 255)
        return false;
    return *first != '0' || *at - first == 1;
}

bool etl_field_is_ipv4(struct etl_slice text)
{
    const char *at = text.at;
    const char *end = text.at + text.len;

    for (int i = 0; i < 4; i++) {
        if (i > 0 && (at == end || *at++ != '.'))
            return false;
        if (!skip_octet(&at, end))
            return false;
    }
    return at == end;
}

bool etl_field_is_ipv6(struct etl_slice text)
{
    char copy[INET6_ADDRSTRLEN];
    struct in6_addr ignored;

    if (text.len < 2 || text.len >= sizeof(copy) || memchr(text.at, ':', text.len) == NULL ||
        memchr(text.at, '\0', text.len) != NULL)
        return false;
    memcpy(copy, text.at, text.len);
    copy[text.len] = '\0';
    return inet_pton(AF_INET6, copy, &ignored) == 1;
}

bool etl_field_is_address(struct etl_slice text)
{
    return etl_field_is_ipv4(text) || etl_field_is_ipv6(text);
}

static bool is_vhost_name(struct etl_slice name)
{
    for (size_t i = 0; i < name.len; i++) {
        char c = name.at[i];

        if (!is_alpha(c) && !is_digit(c) && (c == '\0' || strchr(".-_:[]", c) == NULL))
            return false;
    }
    return name.len > 0;
}

bool etl_field_is_vhost(struct etl_slice text)
{
    const char *colon = text.len > 0 ? memrchr(text.at, ':', text.len) : NULL;
    int64_t port = -1;
    size_t port_len;

    if (colon == NULL)
        return false;
    port_len = (size_t)(text.at + text.len - colon) - 1;
    if (port_len < 1 || port_len > PORT_MAX_DIGITS)
        return false;
    port = digits_value(colon + 1, port_len);
    if (port < 0 || port > PORT_MAX)
        return false;
    return is_vhost_name((struct etl_slice){text.at, (size_t)(colon - text.at)}) &&
           !etl_field_is_address(text);
}

/* Days since 1970-01-01 of a Gregorian date; years are counted from March so that the leap day is
 * the last of its year. */
static int64_t days_of(int64_t year, int month, int day)
{
    int64_t y = month <= 2 ? year - 1 : year;
    int64_t era = y / 400;
    int64_t year_of_era = y - era * 400;
    int64_t day_of_year = (153 * (month > 2 ? month - 3 : month + 9) + 2) / 5 + day - 1;
    int64_t day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;

    return era * 146097 + day_of_era - 719468;
}

static int days_in_month(int64_t year, int month)
{
    static const signed char days[] = {0, 31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    bool leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;

    return month == 2 && leap ? 29 : days[month];
}

/* 1-12, or 0. */
static int month_value(const char *at)
{
    static const char names[] = "JanFebMarAprMayJunJulAugSepOctNovDec";

    for (int i = 0; i < 12; i++)
        if (memcmp(at, names + (size_t)i * 3, 3) == 0)
            return i + 1;
    return 0;
}

/* The date part, dd/Mon/yyyy, in days since 1970. */
static bool read_date(const char *at, int64_t *days)
{
    int64_t day = digits_value(at, 2);
    int month = month_value(at + 3);
    int64_t year = digits_value(at + 7, 4);

    if (at[2] != '/' || at[6] != '/' || month == 0 || year < 1970 || day < 1 ||
        day > days_in_month(year, month))
        return false;
    *days = days_of(year, month, (int)day);
    return true;
}

/* +hhmm in minutes. */
static bool read_zone(const char *at, int32_t *zone_min)
{
    int64_t hours = digits_value(at + 1, 2);
    int64_t minutes = digits_value(at + 3, 2);

    if ((*at != '+' && *at != '-') || hours < 0 || hours > 23 || minutes < 0 || minutes > 59)
        return false;
    *zone_min = (int32_t)(hours * 60 + minutes);
    if (*at == '-')
        *zone_min = -*zone_min;
    return true;
}

bool etl_field_time(const char *text, int64_t *utc_s, int32_t *zone_min)
{
    int64_t hour = digits_value(text + 12, 2);
    int64_t minute = digits_value(text + 15, 2);
    int64_t second = digits_value(text + 18, 2);
    int64_t days;

    if (text[11] != ':' || text[14] != ':' || text[17] != ':' || text[20] != ' ' || hour < 0 ||
        hour > 23 || minute < 0 || minute > 59 || second < 0 || second > 60)
        return false;
    if (!read_date(text, &days) || !read_zone(text + 21, zone_min))
        return false;
    *utc_s = (days * MINUTES_PER_DAY + hour * 60 + minute - *zone_min) * 60 + second;
    return true;
}

bool etl_field_status(struct etl_slice text, int32_t *status)
{
    if (text.len != 3)
        return false;
    *status = (int32_t)digits_value(text.at, 3);
    return *status >= 0;
}

bool etl_field_bytes(struct etl_slice text, int64_t *bytes)
{
    uint64_t value = 0;

    *bytes = 0;
    if (text.len == 1 && *text.at == '-')
        return true;
    if (text.len < 1 || text.len > BYTES_MAX_DIGITS)
        return false;
    for (size_t i = 0; i < text.len; i++) {
        if (!is_digit(text.at[i]))
            return false;
        value = value * 10 + (uint64_t)(text.at[i] - '0');
    }
    if (value > INT64_MAX)
        return false;
    *bytes = (int64_t)value;
    return true;
}

bool etl_field_duration(struct etl_slice text, int64_t *duration_ms)
{
    int64_t seconds;
    int64_t ms;

    if (text.len < 5 || text.len > SECOND_MAX_DIGITS + 4 || text.at[text.len - 4] != '.')
        return false;
    seconds = digits_value(text.at, text.len - 4);
    ms = digits_value(text.at + text.len - 3, 3);
    if (seconds < 0 || ms < 0)
        return false;
    *duration_ms = seconds * 1000 + ms;
    return true;
}

bool etl_field_request_id(struct etl_slice text, unsigned char id[ETL_REQUEST_ID_LEN])
{
    if (text.len != (size_t)2 * ETL_REQUEST_ID_LEN)
        return false;
    for (size_t i = 0; i < ETL_REQUEST_ID_LEN; i++) {
        int high = hex_value(text.at[2 * i]);
        int low = hex_value(text.at[2 * i + 1]);

        if (high < 0 || low < 0)
            return false;
        id[i] = (unsigned char)(high << 4 | low);
    }
    return true;
}

size_t etl_field_quoted_len(struct etl_slice text)
{
    const char *quote;
    const char *escape;
    size_t i;

    if (text.len < 2 || *text.at != '"')
        return 0;
    quote = memchr(text.at + 1, '"', text.len - 1);
    if (quote == NULL)
        return 0;
    escape = memchr(text.at + 1, '\\', (size_t)(quote - text.at) - 1);
    if (escape == NULL)
        return (size_t)(quote - text.at) + 1;
    /* With a backslash before the first quote, only reading on in pairs tells which quote ends. */
    for (i = (size_t)(escape - text.at); i < text.len && text.at[i] != '"'; i++)
        i += text.at[i] == '\\';
    return i < text.len ? i + 1 : 0;
}

/* Reads one escape at a backslash; writes its byte and returns how many bytes it took. */
static size_t read_escape(const char *at, const char *end, char *out)
{
    static const char letters[] = "\"\\btnvr";
    static const char values[] = "\"\\\b\t\n\v\r";
    const char *letter;

    *out = '\\';
    if (end - at < 2 || at[1] == '\0')
        return 1;
    if (at[1] == 'x' && end - at >= 4 && hex_value(at[2]) >= 0 && hex_value(at[3]) >= 0) {
        *out = (char)(hex_value(at[2]) << 4 | hex_value(at[3]));
        return 4;
    }
    letter = strchr(letters, at[1]);
    if (letter == NULL)
        return 1;
    *out = values[letter - letters];
    return 2;
}

struct etl_slice etl_field_unescape(struct etl_slice text, struct etl_arena *arena)
{
    const char *end = text.at + text.len;
    const char *at = text.len > 0 ? memchr(text.at, '\\', text.len) : NULL;
    char *first = arena->at + arena->used;
    char *out = first;
    size_t plain_len;

    if (at == NULL)
        return text;
    plain_len = (size_t)(at - text.at);
    memcpy(out, text.at, plain_len);
    out += plain_len;
    while (at < end) {
        if (*at == '\\')
            at += read_escape(at, end, out++);
        else
            *out++ = *at++;
    }
    arena->used += (size_t)(out - first);
    return (struct etl_slice){first, (size_t)(out - first)};
}

static bool is_method(struct etl_slice text)
{
    if (text.len < 1 || text.len > METHOD_MAX_LEN)
        return false;
    for (size_t i = 0; i < text.len; i++) {
        char c = text.at[i];

        if (!is_alpha(c) && !is_digit(c) && (c == '\0' || strchr("!#$%&'*+-.^_`|~", c) == NULL))
            return false;
    }
    return true;
}

/* 1-3 digits; moves *at behind them. */
static bool skip_version_part(const char **at, const char *end)
{
    const char *first = *at;

    while (*at < end && is_digit(**at))
        (*at)++;
    return *at - first >= 1 && *at - first <= 3;
}

static bool is_protocol(struct etl_slice text)
{
    const char *end = text.at + text.len;
    const char *at;

    if (text.len < 6 || memcmp(text.at, "HTTP/", 5) != 0)
        return false;
    at = text.at + 5;
    if (!skip_version_part(&at, end))
        return false;
    if (at == end)
        return true;
    return *at++ == '.' && skip_version_part(&at, end) && at == end;
}

bool etl_field_request(struct etl_slice text, struct etl_slice *method, struct etl_slice *target,
                       struct etl_slice *protocol)
{
    const char *end = text.at + text.len;
    const char *first = text.len > 0 ? memchr(text.at, ' ', text.len) : NULL;
    const char *last = text.len > 0 ? memrchr(text.at, ' ', text.len) : NULL;

    if (first == NULL || last - first < 2)
        return false;
    *method = (struct etl_slice){text.at, (size_t)(first - text.at)};
    *target = (struct etl_slice){first + 1, (size_t)(last - first) - 1};
    *protocol = (struct etl_slice){last + 1, (size_t)(end - last) - 1};
    return is_method(*method) && is_protocol(*protocol);
}
