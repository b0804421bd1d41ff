/*
 * uri.h - broker and result backend URLs.
 *
 * Forms: redis://[[user]:password@]host[:port][/db], rediss://...,
 * redis+socket://[[user]:password@]/path?virtual_host=db, sqlite:PATH and sqlite://PATH (what
 * follows is the path as written, three slashes begin an absolute one), memory:[name],
 * amqp://[[user][:password]@]host[:port][,host[:port]...][/vhost], amqps://..., disabled:// (result
 * backend that stores nothing). Celery's list amqp://...;amqp://... is one URL with several hosts,
 * so its members differ in nothing else. Invariant: user name and password are
 * percent-decoded here and shown nowhere: uri_masked is what logs get. Fork rule: a value; the
 * strings are owned by the struct.
 */
#ifndef BROKER_URI_H
#define BROKER_URI_H

#include "base/err.h"
#include "base/slice.h"

#include <stddef.h>

struct uri_host {
    char *name;
    int port; /* 0 when absent */
};

struct uri {
    char *scheme; /* lower case: "redis", "redis+socket", "sqlite", "memory", "amqp", "disabled" */
    char *user;   /* NULL when absent; decoded */
    char *password;        /* NULL when absent; decoded */
    char *host;            /* NULL when absent; without the brackets of an IPv6 address */
    int port;              /* 0 when absent */
    struct uri_host *more; /* amqp and amqps: the hosts behind the first comma; owned */
    size_t more_len;
    char *path;  /* as written, percent-decoded except for sqlite; for redis the text behind the
                    slash ("0"), "" when absent */
    char *query; /* behind the '?', "" when absent (sqlite paths keep theirs in path) */
    char masked[256]; /* the URL with "***" for a password; for people and logs */
};

/* ERR_USAGE with a text that names the URL (masked), the cause, and what a right one looks like. */
int uri_parse(struct uri *uri, const char *text, struct err *e);
void uri_release(struct uri *uri);

/* *value gets the value of a query parameter, decoded and malloc'ed, or NULL when it is absent.
 * ERR_USAGE for a broken '%' escape. */
int uri_param(const struct uri *uri, const char *name, char **value, struct err *e);

/* ERR_USAGE for a query parameter that is not in the table, which ends with NULL. */
int uri_check_params(const struct uri *uri, const char *const *names, struct err *e);

#endif
