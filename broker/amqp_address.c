#include "broker/amqp_address.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PORT          5672
#define PORT_TLS      5671
#define HEARTBEAT_S   15
#define TIMEOUT_S     10
#define TIMEOUT_MAX   3600
#define LIMIT_MAX     31536000
#define LIMIT_S       1800  /* RabbitMQ's consumer_timeout when nobody set it */
#define HEARTBEAT_MAX 65535 /* what the protocol's field holds */

/* Goes on with the copy of a text that may be absent; false: no memory. */
static bool copy(char **to, const char *from)
{
    *to = from ? strdup(from) : NULL;
    return *to || !from;
}

static const char *environment(const char *name)
{
    const char *value = getenv(name);

    return value && *value ? value : NULL;
}

/* --- hosts --- */

static bool set_host(struct amqp_host *to, const char *name, int port, bool tls)
{
    to->port = port ? port : tls ? PORT_TLS : PORT;
    return copy(&to->name, name && *name ? name : "localhost");
}

static int take_hosts(struct amqp_address *a, const struct uri *uri, struct err *e)
{
    a->hosts = calloc(uri->more_len + 1, sizeof(*a->hosts));
    if (!a->hosts)
        return err_nomem(e);
    a->hosts_len = uri->more_len + 1;
    if (!set_host(&a->hosts[0], uri->host, uri->port, a->tls))
        return err_nomem(e);
    for (size_t i = 0; i < uri->more_len; i++) {
        if (!set_host(&a->hosts[i + 1], uri->more[i].name, uri->more[i].port, a->tls))
            return err_nomem(e);
    }
    return 0;
}

/* --- name and password --- */

static int read_password(const char *path, char **to, struct err *e)
{
    FILE *file = fopen(path, "re");
    size_t size = 0;
    ssize_t len;

    if (!file)
        return err_sys(e, ERR_OPERATOR, errno, "the password file \"%s\" can not be read", path);
    len = getline(to, &size, file);
    fclose(file);
    if (len < 0) { /* what getline leaves then is no text */
        free(*to);
        *to = NULL;
    }
    while (len > 0 && ((*to)[len - 1] == '\n' || (*to)[len - 1] == '\r'))
        (*to)[--len] = '\0';
    if (len > 0)
        return 0;
    return err_set(e, ERR_OPERATOR, "the password file \"%s\" has no password in its first line",
                   path);
}

static int find_password(struct amqp_address *a, const struct uri *uri, struct err *e)
{
    const char *known = uri->password ? uri->password : environment("CELERIAC_AMQP_PASSWORD");
    char *file;
    int status = 0;

    if (uri_param(uri, "password_file", &file, e) < 0)
        return -1;
    if (!file && !copy(&file, environment("CELERIAC_AMQP_PASSWORD_FILE")))
        return err_nomem(e);
    if (known || !file) {
        if (!known && strcmp(a->user, "guest") != 0)
            status = err_set(e, ERR_OPERATOR,
                             "no password for the user \"%s\" of %s: give it in the URL, in "
                             "CELERIAC_AMQP_PASSWORD or in a file named by ?password_file=",
                             a->user, uri->masked);
        else if (!copy(&a->password, known ? known : "guest"))
            status = err_nomem(e);
    } else {
        status = read_password(file, &a->password, e);
    }
    free(file);
    return status;
}

static int take_login(struct amqp_address *a, const struct uri *uri, struct err *e)
{
    const char *user = uri->user ? uri->user : environment("CELERIAC_AMQP_USER");
    const char *vhost = uri->path && *uri->path ? uri->path : "/";

    if (!copy(&a->user, user ? user : "guest") || !copy(&a->vhost, vhost))
        return err_nomem(e);
    return find_password(a, uri, e);
}

/* --- parameters --- */

static int wrong(const struct uri *uri, const char *name, const char *cause, struct err *e)
{
    return err_set(e, ERR_USAGE, "URL \"%s\": the parameter \"%s\" %s", uri->masked, name, cause);
}

/* Whole seconds; *to stays when the parameter is absent. */
static int take_seconds(const struct uri *uri, const char *name, long least, long most, int *to,
                        struct err *e)
{
    char *text, *end;
    char cause[64];
    long n;

    if (uri_param(uri, name, &text, e) < 0)
        return -1;
    if (!text)
        return 0;
    n = strtol(text, &end, 10);
    if (!isdigit((unsigned char)*text) || *end || n < least || n > most) {
        snprintf(cause, sizeof(cause), "is not a number of seconds from %ld to %ld", least, most);
        free(text);
        return wrong(uri, name, cause, e);
    }
    free(text);
    *to = (int)n;
    return 0;
}

static int take_verify(struct amqp_address *a, const struct uri *uri, struct err *e)
{
    char *text;
    bool none, known;

    if (uri_param(uri, "verify", &text, e) < 0)
        return -1;
    none = text && strcmp(text, "verify_none") == 0;
    known = !text || none || strcmp(text, "verify_peer") == 0;
    free(text);
    a->verify = !none;
    return known ? 0 : wrong(uri, "verify", "is neither verify_peer nor verify_none", e);
}

static int take_tls(struct amqp_address *a, const struct uri *uri, struct err *e)
{
    static const char *const names[] = {"cacertfile", "certfile", "keyfile", "verify"};

    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]) && !a->tls; i++) {
        char *value;

        if (uri_param(uri, names[i], &value, e) < 0)
            return -1;
        free(value);
        if (value)
            return wrong(uri, names[i], "needs a URL that begins with amqps://", e);
    }
    if (uri_param(uri, "cacertfile", &a->ca_file, e) < 0 ||
        uri_param(uri, "certfile", &a->cert_file, e) < 0 ||
        uri_param(uri, "keyfile", &a->key_file, e) < 0)
        return -1;
    if (a->key_file && !a->cert_file)
        return wrong(uri, "keyfile", "needs a certfile beside it", e);
    return take_verify(a, uri, e);
}

static int take_parameters(struct amqp_address *a, const struct uri *uri, struct err *e)
{
    static const char *const names[] = {
        "heartbeat",  "connection_timeout", "consumer_timeout", "password_file",
        "cacertfile", "certfile",           "keyfile",          "verify",
        NULL,
    };
    int timeout_s = TIMEOUT_S, limit_s = LIMIT_S;

    if (uri_check_params(uri, names, e) < 0)
        return -1;
    a->heartbeat_s = HEARTBEAT_S;
    if (take_seconds(uri, "heartbeat", 0, HEARTBEAT_MAX, &a->heartbeat_s, e) < 0 ||
        take_seconds(uri, "connection_timeout", 1, TIMEOUT_MAX, &timeout_s, e) < 0 ||
        take_seconds(uri, "consumer_timeout", 0, LIMIT_MAX, &limit_s, e) < 0)
        return -1;
    a->timeout_ms = timeout_s * 1000;
    a->consumer_timeout_ms = (int64_t)limit_s * 1000;
    return take_tls(a, uri, e);
}

int amqp_address_make(struct amqp_address *a, const struct uri *uri, struct err *e)
{
    *a = (struct amqp_address){.tls = strcmp(uri->scheme, "amqps") == 0};
    if (take_parameters(a, uri, e) == 0 && take_hosts(a, uri, e) == 0 && take_login(a, uri, e) == 0)
        return 0;
    amqp_address_release(a);
    return -1;
}

int amqp_address_copy(struct amqp_address *to, const struct amqp_address *from, struct err *e)
{
    bool ok;

    *to = *from;
    to->hosts = calloc(from->hosts_len, sizeof(*to->hosts));
    ok = copy(&to->vhost, from->vhost);
    ok &= copy(&to->user, from->user);
    ok &= copy(&to->password, from->password);
    ok &= copy(&to->ca_file, from->ca_file);
    ok &= copy(&to->cert_file, from->cert_file);
    ok &= copy(&to->key_file, from->key_file);
    to->hosts_len = to->hosts ? from->hosts_len : 0;
    for (size_t i = 0; i < to->hosts_len; i++)
        ok &= set_host(&to->hosts[i], from->hosts[i].name, from->hosts[i].port, from->tls);
    if (ok && to->hosts)
        return 0;
    amqp_address_release(to);
    return err_nomem(e);
}

void amqp_address_release(struct amqp_address *a)
{
    for (size_t i = 0; i < a->hosts_len; i++)
        free(a->hosts[i].name);
    free(a->hosts);
    free(a->vhost);
    free(a->user);
    if (a->password)
        explicit_bzero(a->password, strlen(a->password));
    free(a->password);
    free(a->ca_file);
    free(a->cert_file);
    free(a->key_file);
    *a = (struct amqp_address){0};
}

void amqp_address_show(const struct amqp_address *a, size_t host, char *text, size_t size)
{
    const struct amqp_host *h = &a->hosts[host];
    bool v6 = strchr(h->name, ':') != NULL;

    snprintf(text, size, "%s%s%s:%d/%s", v6 ? "[" : "", h->name, v6 ? "]" : "", h->port,
             strcmp(a->vhost, "/") == 0 ? "" : a->vhost);
}
