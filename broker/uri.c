#include "broker/uri.h"

#include "base/buf.h"
#include "base/suggest.h"

#include <ctype.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

/* PLAIN: what follows is one text (a path, a name), as written. NETWORK: user, host, port, path. */
enum form { PLAIN, NETWORK };

static const struct scheme {
    const char *name;
    enum form form;
    const char *example;
} schemes[] = {
    {"redis", NETWORK, "redis://localhost:6379/0"},
    {"rediss", NETWORK, "rediss://localhost:6379/0"},
    {"redis+socket", NETWORK, "redis+socket:///run/redis/redis.sock?virtual_host=0"},
    {"sqlite", PLAIN, "sqlite:queue.db"},
    {"memory", PLAIN, "memory:"},
    {"amqp", NETWORK, "amqp://guest:guest@localhost:5672/"},
    {"amqps", NETWORK, "amqps://guest:guest@localhost:5671/"},
    {"disabled", PLAIN, "disabled://"},
};

static size_t scheme_len(const char *text)
{
    size_t n = 0;

    while (isalnum((unsigned char)text[n]) || (n && strchr("+-.", text[n]) && text[n]))
        n++;
    return text[n] == ':' ? n : 0;
}

/* The part between "//" and the path: user, host, port. */
static struct slice authority_of(const char *text)
{
    size_t n = scheme_len(text);
    const char *start = text + n + (n ? 1 : 0);

    if (strncmp(start, "//", 2) != 0)
        return slice_make(start, 0);
    start += 2;
    return slice_make(start, strcspn(start, "/?#"));
}

static const char *last_at(struct slice s)
{
    for (size_t i = s.len; i > 0; i--) {
        if (s.ptr[i - 1] == '@')
            return s.ptr + i - 1;
    }
    return NULL;
}

/* Works on any text, so that an error about a broken URL can show it. The password ends at the last
 * '@' anywhere: one with a slash in it, which is wrong, must not show either. */
static void mask(const char *text, char masked[256])
{
    const char *authority = strstr(text, "://");
    const char *at = last_at(slice_of(text));
    const char *colon = strchr(authority ? authority + 3 : text, ':');

    if (at && colon && colon < at)
        snprintf(masked, 256, "%.*s:***%s", (int)(colon - text), text, at);
    else
        snprintf(masked, 256, "%s", text);
}

static int hex_digit(char c)
{
    return c >= '0' && c <= '9'   ? c - '0'
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                  : -1;
}

/* Percent-decoded copy; NULL with *bad set for a broken escape (or %00), without for no memory. */
static char *decode(struct slice s, bool *bad)
{
    char *text = malloc(s.len + 1), *to = text;

    *bad = false;
    for (size_t i = 0; text && i < s.len; i++) {
        int high = s.ptr[i] == '%' && i + 2 < s.len ? hex_digit(s.ptr[i + 1]) : -1;
        int low = high >= 0 ? hex_digit(s.ptr[i + 2]) : -1;

        if (s.ptr[i] == '%' && (low < 0 || (high == 0 && low == 0))) {
            *bad = true;
            free(text);
            return NULL;
        }
        *to++ = low >= 0 ? (char)(high << 4 | low) : s.ptr[i];
        i += low >= 0 ? 2 : 0;
    }
    if (text)
        *to = '\0';
    return text;
}

static int wrong(const struct uri *uri, const char *cause, const char *example, struct err *e)
{
    return err_set(e, ERR_USAGE, "URL \"%s\": %s; a right one is %s", uri->masked, cause, example);
}

static int take(const struct uri *uri, char **to, struct slice s, const struct scheme *scheme,
                struct err *e)
{
    bool bad;

    *to = decode(s, &bad);
    if (*to)
        return 0;
    return bad ? wrong(uri, "a '%' needs two hexadecimal digits behind it, not 00", scheme->example,
                       e)
               : err_nomem(e);
}

static int parse_user(struct uri *uri, struct slice info, const struct scheme *scheme,
                      struct err *e)
{
    const char *colon = memchr(info.ptr, ':', info.len);
    struct slice user = {info.ptr, colon ? (size_t)(colon - info.ptr) : info.len};

    if (user.len && take(uri, &uri->user, user, scheme, e) < 0)
        return -1;
    if (!colon)
        return 0;
    return take(uri, &uri->password, slice_make(colon + 1, info.len - user.len - 1), scheme, e);
}

static int parse_port(const struct uri *uri, int *to, struct slice text,
                      const struct scheme *scheme, struct err *e)
{
    long port = 0;

    for (size_t i = 0; i < text.len; i++) {
        if (!isdigit((unsigned char)text.ptr[i]) || port > 65535)
            return wrong(uri, "the port is not a number from 1 to 65535", scheme->example, e);
        port = port * 10 + (text.ptr[i] - '0');
    }
    if (text.len && (port < 1 || port > 65535))
        return wrong(uri, "the port is not a number from 1 to 65535", scheme->example, e);
    *to = (int)port;
    return 0;
}

/* host, host:port, [v6], [v6]:port */
static int parse_host(const struct uri *uri, char **name, int *port, struct slice s,
                      const struct scheme *scheme, struct err *e)
{
    const char *end = s.ptr + s.len;
    const char *stop = s.len && *s.ptr == '[' ? memchr(s.ptr, ']', s.len) : NULL;
    struct slice host;

    if (s.len && *s.ptr == '[' && !stop)
        return wrong(uri, "the ']' of an IPv6 address is missing", scheme->example, e);
    if (stop) {
        host = slice_make(s.ptr + 1, (size_t)(stop - s.ptr - 1));
        stop++;
    } else {
        stop = memchr(s.ptr, ':', s.len);
        stop = stop ? stop : end;
        host = slice_make(s.ptr, (size_t)(stop - s.ptr));
    }
    if (stop < end && *stop != ':')
        return wrong(uri, "a port begins with ':'", scheme->example, e);
    if (host.len && take(uri, name, host, scheme, e) < 0)
        return -1;
    return stop < end
               ? parse_port(uri, port, slice_make(stop + 1, (size_t)(end - stop - 1)), scheme, e)
               : 0;
}

/* Cuts off what is in front of the first comma. */
static struct slice next_host(struct slice *list)
{
    const char *comma = memchr(list->ptr, ',', list->len);
    struct slice first = {list->ptr, comma ? (size_t)(comma - list->ptr) : list->len};
    size_t used = first.len + (comma ? 1 : 0);

    *list = slice_make(list->ptr + used, list->len - used);
    return first;
}

/* One more host, empty; NULL: no memory. */
static struct uri_host *push_host(struct uri *uri, struct err *e)
{
    struct uri_host *more = realloc(uri->more, (uri->more_len + 1) * sizeof(*more));

    if (!more) {
        err_nomem(e);
        return NULL;
    }
    uri->more = more;
    more[uri->more_len] = (struct uri_host){NULL, 0};
    return &more[uri->more_len++];
}

static bool takes_several(const struct scheme *scheme)
{
    return strncmp(scheme->name, "amqp", 4) == 0;
}

static int parse_hosts(struct uri *uri, struct slice list, const struct scheme *scheme,
                       struct err *e)
{
    if (!takes_several(scheme) || !memchr(list.ptr, ',', list.len))
        return parse_host(uri, &uri->host, &uri->port, list, scheme, e);
    if (parse_host(uri, &uri->host, &uri->port, next_host(&list), scheme, e) < 0)
        return -1;
    while (list.len) {
        struct uri_host *host = push_host(uri, e);

        if (!host)
            return -1;
        if (parse_host(uri, &host->name, &host->port, next_host(&list), scheme, e) < 0)
            return -1;
        if (!host->name)
            return wrong(uri, "a host between commas has no name", scheme->example, e);
    }
    return 0;
}

static int parse_network(struct uri *uri, const char *text, const struct scheme *scheme,
                         struct err *e)
{
    struct slice authority = authority_of(text);
    const char *at = last_at(authority), *path = authority.ptr + authority.len;
    const char *query = strchr(path, '?');
    struct slice host = authority;
    bool keeps_slash = strcmp(scheme->name, "redis+socket") == 0;

    if (strncmp(text + strlen(uri->scheme), "://", 3) != 0)
        return wrong(uri, "\"//\" is missing behind the scheme", scheme->example, e);
    if (at) {
        host = slice_make(at + 1, (size_t)(path - at - 1));
        if (parse_user(uri, slice_make(authority.ptr, (size_t)(at - authority.ptr)), scheme, e) < 0)
            return -1;
    }
    if (parse_hosts(uri, host, scheme, e) < 0)
        return -1;
    if (*path == '/' && !keeps_slash)
        path++;
    uri->query = strdup(query ? query + 1 : "");
    if (!uri->query)
        return err_nomem(e);
    return take(uri, &uri->path,
                slice_make(path, query && query >= path ? (size_t)(query - path) : strlen(path)),
                scheme, e);
}

static int parse_plain(struct uri *uri, const char *text, const struct scheme *scheme,
                       struct err *e)
{
    const char *path = text + strlen(uri->scheme) + 1;

    if (strncmp(path, "//", 2) == 0)
        path += 2;
    if (strcmp(scheme->name, "sqlite") == 0 && !*path)
        return wrong(uri, "it names no file", scheme->example, e);
    uri->path = strdup(path);
    uri->query = strdup("");
    return uri->path && uri->query ? 0 : err_nomem(e);
}

static const struct scheme *find_scheme(const char *name)
{
    for (size_t i = 0; i < sizeof(schemes) / sizeof(schemes[0]); i++) {
        if (strcmp(schemes[i].name, name) == 0)
            return &schemes[i];
    }
    return NULL;
}

static int unknown_scheme(const struct uri *uri, const char *scheme, struct err *e)
{
    struct suggest near;

    suggest_init(&near, scheme);
    for (size_t i = 0; i < sizeof(schemes) / sizeof(schemes[0]); i++)
        suggest_offer(&near, schemes[i].name);
    if (!*scheme)
        return wrong(uri, "it has no scheme", "redis://localhost:6379/0 or sqlite:queue.db", e);
    if (near.best)
        return err_set(e, ERR_USAGE, "URL \"%s\": unknown scheme \"%s\"; did you mean \"%s\"?",
                       uri->masked, scheme, near.best);
    return err_set(e, ERR_USAGE,
                   "URL \"%s\": unknown scheme \"%s\"; known are redis, rediss, redis+socket, "
                   "sqlite, memory, amqp, amqps and disabled",
                   uri->masked, scheme);
}

static int parse_one(struct uri *uri, const char *text, struct err *e)
{
    const struct scheme *scheme;

    uri->scheme = strndup(text, scheme_len(text));
    if (!uri->scheme)
        return err_nomem(e);
    for (char *c = uri->scheme; *c; c++)
        *c = (char)tolower((unsigned char)*c);
    scheme = find_scheme(uri->scheme);
    if (!scheme || scheme->form == NETWORK)
        mask(text, uri->masked);
    else
        snprintf(uri->masked, sizeof(uri->masked), "%s", text);
    if (!scheme)
        return unknown_scheme(uri, uri->scheme, e);
    return scheme->form == PLAIN ? parse_plain(uri, text, scheme, e)
                                 : parse_network(uri, text, scheme, e);
}

static bool same_text(const char *a, const char *b)
{
    return a && b ? strcmp(a, b) == 0 : a == b;
}

/* Takes the host of one more URL of a list. */
static int merge(struct uri *uri, struct uri *other, struct err *e)
{
    struct uri_host *host;

    if (!same_text(uri->scheme, other->scheme) || !same_text(uri->user, other->user) ||
        !same_text(uri->password, other->password) || !same_text(uri->path, other->path) ||
        !same_text(uri->query, other->query) || other->more_len || !other->host)
        return wrong(uri, "the URLs of a list may differ only in host and port",
                     "amqp://user:password@host1,host2:5673/vhost", e);
    host = push_host(uri, e);
    if (!host)
        return -1;
    *host = (struct uri_host){other->host, other->port};
    other->host = NULL;
    return 0;
}

/* Where the next URL of a list begins, or NULL. */
static const char *next_url(const char *text)
{
    const char *plain = strstr(text, ";amqp://"), *tls = strstr(text, ";amqps://");

    return plain && (!tls || plain < tls) ? plain : tls;
}

static int parse_member(struct uri *uri, const char *text, size_t len, struct err *e)
{
    struct uri other = {0};
    bool first = !uri->scheme;
    char *one = strndup(text, len);
    int status = one ? parse_one(first ? uri : &other, one, e) : err_nomem(e);

    if (status == 0 && !first)
        status = merge(uri, &other, e);
    uri_release(&other);
    free(one);
    return status;
}

static int parse(struct uri *uri, const char *text, struct err *e)
{
    bool list = strncmp(text, "amqp", 4) == 0;

    for (;;) {
        const char *next = list ? next_url(text) : NULL;

        if (parse_member(uri, text, next ? (size_t)(next - text) : strlen(text), e) < 0)
            return -1;
        if (!next)
            return 0;
        text = next + 1;
    }
}

int uri_parse(struct uri *uri, const char *text, struct err *e)
{
    *uri = (struct uri){0};
    if (parse(uri, text, e) == 0)
        return 0;
    uri_release(uri);
    return -1;
}

void uri_release(struct uri *uri)
{
    free(uri->scheme);
    free(uri->user);
    free(uri->password);
    free(uri->host);
    for (size_t i = 0; i < uri->more_len; i++)
        free(uri->more[i].name);
    free(uri->more);
    free(uri->path);
    free(uri->query);
    *uri = (struct uri){0};
}

/* A parameter's value as written, or absent. */
static struct slice find_param(const struct uri *uri, const char *name)
{
    size_t len = strlen(name);
    const char *at = uri->query ? uri->query : "";

    while (*at && *at != '#') {
        size_t part = strcspn(at, "&#");

        if (part > len && strncmp(at, name, len) == 0 && at[len] == '=')
            return slice_make(at + len + 1, part - len - 1);
        at += part + (at[part] == '&');
    }
    return slice_make(NULL, 0);
}

int uri_param(const struct uri *uri, const char *name, char **value, struct err *e)
{
    struct slice written = find_param(uri, name);
    bool bad;

    *value = NULL;
    if (!written.ptr)
        return 0;
    *value = decode(written, &bad);
    if (*value)
        return 0;
    if (!bad)
        return err_nomem(e);
    return err_set(e, ERR_USAGE,
                   "URL \"%s\": the parameter \"%s\" has a '%%' without two hexadecimal digits "
                   "behind it (not 00): write %%25 for a percent sign",
                   uri->masked, name);
}

static bool is_one_of(struct slice name, const char *const *names)
{
    for (; *names; names++) {
        if (slice_is(name, *names))
            return true;
    }
    return false;
}

/* The first that is not one of the names, borrowed from the query; {NULL,0}: none. */
static struct slice unknown_param(const struct uri *uri, const char *const *names)
{
    const char *at = uri->query ? uri->query : "";

    while (*at && *at != '#') {
        size_t len = strcspn(at, "=&#");

        if (len && !is_one_of(slice_make(at, len), names))
            return slice_make(at, len);
        at += strcspn(at, "&#");
        at += *at == '&';
    }
    return slice_make(NULL, 0);
}

int uri_check_params(const struct uri *uri, const char *const *names, struct err *e)
{
    struct slice unknown = unknown_param(uri, names);
    struct buf known = BUF_INIT;
    int rc;

    if (!unknown.ptr)
        return 0;
    for (size_t i = 0; names[i]; i++) {
        buf_adds(&known, i == 0 ? "" : names[i + 1] ? ", " : " and ");
        buf_adds(&known, names[i]);
    }
    rc = err_set(e, ERR_USAGE, "URL \"%s\": the parameter \"%.*s\" is not known; known %s %.*s",
                 uri->masked, SLICE_ARG(unknown), names[1] ? "are" : "is",
                 SLICE_ARG(buf_slice(&known)));
    buf_release(&known);
    return rc;
}
