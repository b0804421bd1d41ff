#include "broker/redis_address.h"

#include "broker/backend.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DEFAULT_PORT          6379
#define DEFAULT_VISIBILITY_MS 3600000

static bool is_socket(const struct uri *uri)
{
    return strcmp(uri->scheme, "redis+socket") == 0;
}

static int parse_db(const char *text, char db[REDIS_DB_SIZE], const char *shown, struct err *e)
{
    size_t digits = strspn(text, "0123456789");

    if (text[digits] || digits > 9)
        return err_set(e, ERR_USAGE,
                       "'%s' is no database number in '%s': write redis://host:6379/0", text,
                       shown);
    snprintf(db, REDIS_DB_SIZE, "%ld", strtol(digits ? text : "0", NULL, 10));
    return 0;
}

int redis_address_db(const struct uri *uri, char db[REDIS_DB_SIZE], struct err *e)
{
    char *virtual_host;
    int rc;

    if (!is_socket(uri))
        return parse_db(uri->path, db, uri->masked, e);
    if (uri_param(uri, "virtual_host", &virtual_host, e) < 0)
        return -1;
    rc = parse_db(virtual_host ? virtual_host : "0", db, uri->masked, e);
    free(virtual_host);
    return rc;
}

static int check_params(const struct uri *uri, struct err *e)
{
    static const char *const of_host[] = {"visibility_timeout", NULL};
    static const char *const of_socket[] = {"visibility_timeout", "virtual_host", NULL};

    return uri_check_params(uri, is_socket(uri) ? of_socket : of_host, e);
}

static int read_visibility(struct redis_address *a, struct err *e)
{
    char *text, *end;
    double seconds;
    int rc = 0;

    if (uri_param(&a->uri, "visibility_timeout", &text, e) < 0)
        return -1;
    end = text;
    seconds = text ? strtod(text, &end) : 0;
    a->visibility_ms = DEFAULT_VISIBILITY_MS;
    if (text && (*end || end == text || !(seconds >= 1 && seconds <= 1e9)))
        rc = err_set(e, ERR_USAGE, "visibility_timeout '%s' in '%s' is no number of seconds", text,
                     a->uri.masked);
    else if (text)
        a->visibility_ms = (int64_t)(seconds * 1000);
    free(text);
    return rc;
}

static const char *text_or(const char *text, const char *otherwise)
{
    return text && *text ? text : otherwise;
}

static const char *host_of(const struct uri *uri)
{
    return text_or(uri->host, "localhost");
}

static int port_of(const struct uri *uri)
{
    return uri->port ? uri->port : DEFAULT_PORT;
}

static int read_socket(struct redis_address *a, struct err *e)
{
    a->host = a->uri.path;
    snprintf(a->shown, sizeof(a->shown), "%s", a->host);
    if (!*a->host)
        return err_set(e, ERR_USAGE, "no socket path in '%s': write redis+socket:///path",
                       a->uri.masked);
    return 0;
}

static void read_host(struct redis_address *a)
{
    a->host = host_of(&a->uri);
    a->port = port_of(&a->uri);
    snprintf(a->shown, sizeof(a->shown), strchr(a->host, ':') ? "[%s]:%d" : "%s:%d", a->host,
             a->port);
}

int redis_address_read(struct redis_address *a, const char *url, struct err *e)
{
    if (uri_parse(&a->uri, url, e) != 0 || check_params(&a->uri, e) != 0)
        return -1;
    a->user = text_or(a->uri.user, NULL);
    a->password = text_or(a->uri.password, NULL);
    if (!is_socket(&a->uri))
        read_host(a);
    else if (read_socket(a, e) != 0)
        return -1;
    return redis_address_db(&a->uri, a->db, e) == 0 ? read_visibility(a, e) : -1;
}

void redis_address_release(struct redis_address *a)
{
    uri_release(&a->uri);
}

static bool same_text(const char *a, const char *b)
{
    return strcmp(a ? a : "", b ? b : "") == 0;
}

/* Same server and same account: then one script can write to both databases. */
bool redis_same_place(const struct uri *jobs, const struct uri *results)
{
    if (strcmp(jobs->scheme, results->scheme) != 0 || !same_text(jobs->user, results->user) ||
        !same_text(jobs->password, results->password))
        return false;
    if (is_socket(jobs))
        return same_text(jobs->path, results->path);
    return strcmp(host_of(jobs), host_of(results)) == 0 && port_of(jobs) == port_of(results);
}
