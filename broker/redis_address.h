/*
 * redis_address.h - what a redis:// or redis+socket:// URL says, with everything else filled in.
 *
 * Purpose: the one place that knows the defaults: port, database, how long another's delivery is
 * left alone. Model: redis://[user[:password]@][host][:port][/database] and
 * redis+socket:///path[?virtual_host=database], as kombu reads them; both with
 * ?visibility_timeout=SECONDS. An unknown parameter is an error, since a misspelt one must not
 * pass. Fork rule: a value; it owns its strings. The password is shown nowhere.
 */
#ifndef BROKER_REDIS_ADDRESS_H
#define BROKER_REDIS_ADDRESS_H

#include "base/err.h"
#include "broker/uri.h"

#include <stdint.h>

#define REDIS_DB_SIZE 12

struct redis_address {
    struct uri uri;   /* owned; the texts below are its */
    const char *host; /* or socket path */
    int port;         /* 0: a unix socket */
    const char *user; /* NULL when absent */
    const char *password;
    char db[REDIS_DB_SIZE];
    int64_t visibility_ms; /* for deliveries of kombu */
    char shown[256];       /* for people: host:port or path */
};

/* ERR_USAGE for what the URL says wrong. To be released also after a failure. */
int redis_address_read(struct redis_address *a, const char *url, struct err *e);
void redis_address_release(struct redis_address *a);

/* Its database alone. */
int redis_address_db(const struct uri *uri, char db[REDIS_DB_SIZE], struct err *e);

#endif
