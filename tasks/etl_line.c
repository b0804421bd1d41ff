#include "tasks/etl_line.h"

#include <string.h>

#define MARK_LEN (ETL_TIME_LEN + 5) /* ` [` time `] "` */

/* What is left of the text while it is read from left to right. */
struct cursor {
    const char *at;
    const char *end;
};

static const struct etl_format formats[ETL_FORMATS] = {
    {"common", false, false, false},
    {"combined", false, true, false},
    {"vhost_combined", true, true, false},
    {"combined_timed", false, true, true},
};

#define FORMAT_DEFAULT (&formats[1])

static const char *const reason_names[ETL_REASONS] = {
    [ETL_OK] = "ok",
    [ETL_TOO_LONG] = "too_long",
    [ETL_EMPTY] = "empty",
    [ETL_FORMAT] = "format",
    [ETL_GLUED] = "glued",
    [ETL_VHOST] = "vhost",
    [ETL_ADDRESS] = "address",
    [ETL_USER] = "user",
    [ETL_TIME] = "time",
    [ETL_REQUEST] = "request",
    [ETL_STATUS] = "status",
    [ETL_BYTES] = "bytes",
    [ETL_REFERER] = "referer",
    [ETL_AGENT] = "agent",
    [ETL_REQUEST_TIME] = "request_time",
    [ETL_REQUEST_ID] = "request_id",
    [ETL_TRAILING] = "trailing",
};

const struct etl_format *etl_format_at(size_t i)
{
    return &formats[i];
}

const struct etl_format *etl_format_named(const char *name)
{
    for (size_t i = 0; i < ETL_FORMATS; i++)
        if (strcmp(formats[i].name, name) == 0)
            return &formats[i];
    return NULL;
}

const char *etl_reason_name(enum etl_reason reason)
{
    return reason < ETL_REASONS ? reason_names[reason] : "unknown";
}

size_t etl_line_len(struct etl_slice data)
{
    const char *lf = memchr(data.at, '\n', data.len);

    return lf == NULL ? data.len : (size_t)(lf - data.at) + 1;
}

static struct etl_slice slice_between(const char *at, const char *end)
{
    return (struct etl_slice){at, (size_t)(end - at)};
}

static bool take_space(struct cursor *c)
{
    if (c->at == c->end || *c->at != ' ')
        return false;
    c->at++;
    return true;
}

/* All bytes up to the next space or the end. */
static struct etl_slice take_token(struct cursor *c)
{
    const char *first = c->at;
    const char *space = c->at < c->end ? memchr(c->at, ' ', (size_t)(c->end - c->at)) : NULL;

    c->at = space != NULL ? space : c->end;
    return slice_between(first, c->at);
}

/* A quoted string followed by a space or the end; *out is what stands between the quotes. */
static bool take_quoted(struct cursor *c, struct etl_slice *out)
{
    size_t len;

    if (!take_space(c))
        return false;
    len = etl_field_quoted_len(slice_between(c->at, c->end));
    if (len == 0 || (c->at + len < c->end && c->at[len] != ' '))
        return false;
    *out = (struct etl_slice){c->at + 1, len - 2};
    c->at += len;
    return true;
}

/* "ident SP user": ident is at least one byte and dropped, user may be empty. */
static bool split_user(struct etl_slice text, struct etl_slice *user)
{
    const char *space = text.len > 0 ? memchr(text.at, ' ', text.len) : NULL;

    if (space == NULL || space == text.at)
        return false;
    *user = slice_between(space + 1, text.at + text.len);
    return true;
}

static const char *find_bracket(struct cursor *c)
{
    return memmem(c->at, (size_t)(c->end - c->at), " [", 2);
}

/* "ident user [time]"; a user may contain spaces, so the bracket is looked for first. */
static enum etl_reason read_user_and_time(struct cursor *c, struct etl_event *event)
{
    const char *bracket;

    if (!take_space(c))
        return ETL_USER;
    bracket = find_bracket(c);
    if (bracket == NULL)
        return ETL_TIME;
    if (!split_user(slice_between(c->at, bracket), &event->user))
        return ETL_USER;
    c->at = bracket + 2;
    if (c->end - c->at < ETL_TIME_LEN + 1 || c->at[ETL_TIME_LEN] != ']' ||
        !etl_field_time(c->at, &event->time_s, &event->zone_min))
        return ETL_TIME;
    c->at += ETL_TIME_LEN + 1;
    return ETL_OK;
}

static enum etl_reason read_head(const struct etl_format *format, struct cursor *c,
                                 struct etl_event *event)
{
    if (format->has_vhost) {
        event->vhost = take_token(c);
        if (!etl_field_is_vhost(event->vhost))
            return ETL_VHOST;
        if (!take_space(c))
            return ETL_ADDRESS;
    }
    event->address = take_token(c);
    if (!etl_field_is_address(event->address))
        return ETL_ADDRESS;
    return read_user_and_time(c, event);
}

static enum etl_reason read_middle(struct cursor *c, struct etl_event *event)
{
    if (!take_quoted(c, &event->request))
        return ETL_REQUEST;
    if (!take_space(c) || !etl_field_status(take_token(c), &event->status))
        return ETL_STATUS;
    if (!take_space(c) || !etl_field_bytes(take_token(c), &event->bytes))
        return ETL_BYTES;
    return ETL_OK;
}

static enum etl_reason read_tail(const struct etl_format *format, struct cursor *c,
                                 struct etl_event *event)
{
    if (format->has_agent && !take_quoted(c, &event->referer))
        return ETL_REFERER;
    if (format->has_agent && !take_quoted(c, &event->agent))
        return ETL_AGENT;
    if (!format->has_timed)
        return ETL_OK;
    if (!take_space(c) || !etl_field_duration(take_token(c), &event->duration_ms))
        return ETL_REQUEST_TIME;
    if (!take_space(c) || !etl_field_request_id(take_token(c), event->request_id))
        return ETL_REQUEST_ID;
    event->has_request_id = true;
    return ETL_OK;
}

/* Cuts the text into fields; text fields are still escaped afterwards, the request whole. */
static enum etl_reason cut_fields(const struct etl_format *format, struct etl_slice text,
                                  struct etl_event *event)
{
    struct cursor c = {text.at, text.at + text.len};
    enum etl_reason reason;

    memset(event, 0, sizeof(*event));
    event->duration_ms = ETL_DURATION_ABSENT;
    reason = read_head(format, &c, event);
    if (reason == ETL_OK)
        reason = read_middle(&c, event);
    if (reason == ETL_OK)
        reason = read_tail(format, &c, event);
    if (reason == ETL_OK && c.at != c.end)
        reason = ETL_TRAILING;
    return reason;
}

/* A lone dash is null, anything else is unescaped. */
static void decode_text(struct etl_slice *field, struct etl_arena *arena)
{
    if (field->len == 1 && *field->at == '-')
        *field = (struct etl_slice){NULL, 0};
    else if (field->at != NULL)
        *field = etl_field_unescape(*field, arena);
}

static void decode_request(struct etl_event *event, struct etl_arena *arena)
{
    struct etl_slice request = etl_field_unescape(event->request, arena);
    struct etl_slice target;
    const char *mark;

    event->request = (struct etl_slice){NULL, 0};
    if (!etl_field_request(request, &event->method, &target, &event->protocol)) {
        event->method = event->protocol = (struct etl_slice){NULL, 0};
        event->request = request;
        return;
    }
    event->path = target;
    mark = memchr(target.at, '?', target.len);
    if (mark == NULL)
        return;
    event->path = slice_between(target.at, mark);
    event->query = slice_between(mark + 1, target.at + target.len);
}

/* Does the text at a space look like ` [99/AAA/9999:99:99:99 S9999] "`? */
static bool is_record_mark(const char *at)
{
    static const char pattern[] = " [99/AAA/9999:99:99:99 S9999] \"";

    _Static_assert(sizeof(pattern) == MARK_LEN + 1, "a mark has 31 bytes");
    for (size_t i = 0; i < MARK_LEN; i++) {
        char c = at[i];
        char lower = (char)(c | 0x20);
        bool fits = pattern[i] == '9'   ? c >= '0' && c <= '9'
                    : pattern[i] == 'A' ? lower >= 'a' && lower <= 'z'
                    : pattern[i] == 'S' ? c == '+' || c == '-'
                                        : c == pattern[i];

        if (!fits)
            return false;
    }
    return true;
}

static bool has_two_marks(struct etl_slice text)
{
    struct cursor c = {text.at, text.at + text.len};
    const char *at;
    int marks = 0;

    while (marks < 2 && (at = find_bracket(&c)) != NULL && c.end - at >= MARK_LEN) {
        marks += is_record_mark(at);
        c.at = at + 2;
    }
    return marks >= 2;
}

static bool is_blank(struct etl_slice text)
{
    for (size_t i = 0; i < text.len; i++)
        if (text.at[i] == '\0' || strchr(" \t\v\f\r", text.at[i]) == NULL)
            return false;
    return true;
}

static bool fits_another(const struct etl_format *format, struct etl_slice text)
{
    struct etl_event ignored;

    for (size_t i = 0; i < ETL_FORMATS; i++)
        if (&formats[i] != format && cut_fields(&formats[i], text, &ignored) == ETL_OK)
            return true;
    return false;
}

/* Takes off the LF, one CR, and the mark that some editors put at the beginning of a file. */
static struct etl_slice text_of(struct etl_slice line, uint64_t offset)
{
    if (line.len > 0 && line.at[line.len - 1] == '\n')
        line.len--;
    if (line.len > 0 && line.at[line.len - 1] == '\r')
        line.len--;
    if (offset == 0 && line.len >= 3 && memcmp(line.at, "\xEF\xBB\xBF", 3) == 0) {
        line.at += 3;
        line.len -= 3;
    }
    return line;
}

static bool is_too_long(struct etl_slice line)
{
    return line.len > ETL_LINE_MAX_LEN &&
           line.len - (line.at[line.len - 1] == '\n') > ETL_LINE_MAX_LEN;
}

enum etl_reason etl_line_read(const struct etl_format *format, struct etl_slice line,
                              uint64_t offset, struct etl_arena *arena, struct etl_event *event)
{
    struct etl_slice text;
    enum etl_reason reason;

    if (is_too_long(line))
        return ETL_TOO_LONG;
    text = text_of(line, offset);
    reason = cut_fields(format, text, event);
    if (reason == ETL_OK) {
        decode_text(&event->user, arena);
        decode_request(event, arena);
        decode_text(&event->referer, arena);
        decode_text(&event->agent, arena);
        return ETL_OK;
    }
    if (is_blank(text))
        return ETL_EMPTY;
    if (fits_another(format, text))
        return ETL_FORMAT;
    return has_two_marks(text) ? ETL_GLUED : reason;
}

static void vote(struct etl_slice line, uint64_t offset, unsigned votes[ETL_FORMATS])
{
    struct etl_event ignored;
    struct etl_slice text;

    if (is_too_long(line))
        return;
    text = text_of(line, offset);
    for (size_t i = 0; i < ETL_FORMATS; i++)
        if (cut_fields(&formats[i], text, &ignored) == ETL_OK) {
            votes[i]++;
            return;
        }
}

const struct etl_format *etl_format_choose(struct etl_slice data)
{
    unsigned votes[ETL_FORMATS] = {0};
    size_t best = 0;
    size_t offset = 0;

    for (int lines = 0; lines < ETL_FORMAT_SAMPLE && offset < data.len; lines++) {
        struct etl_slice rest = {data.at + offset, data.len - offset};
        struct etl_slice line = {rest.at, etl_line_len(rest)};

        vote(line, offset, votes);
        offset += line.len;
    }
    for (size_t i = 1; i < ETL_FORMATS; i++)
        if (votes[i] > votes[best])
            best = i;
    return votes[best] == 0 ? FORMAT_DEFAULT : &formats[best];
}
