#include "broker/amqp_dial.h"

#include "base/clock.h"
#include "broker/amqp_login.h"
#include "broker/amqp_tls.h"

#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#define USER_TIMEOUT_MS 90000
#define KEEP_IDLE_S     30
#define KEEP_EVERY_S    10
#define KEEP_PROBES     3

struct amqp_dial {
    struct amqp_address address; /* a copy */
    char name[24];
    size_t first;
    int timeout_ms;
    pthread_t thread;
    int done_fd;
    pthread_mutex_t lock; /* of what is below, until ended */
    int fd;               /* being connected, for dial_abandon to interrupt; -1: none */
    bool ended;
    bool abandoned;
    bool ok;
    struct amqp_dialed result;
    struct err why;
};

static void dial_free(struct amqp_dial *d)
{
    if (d->done_fd >= 0)
        close(d->done_fd);
    pthread_mutex_destroy(&d->lock);
    amqp_address_release(&d->address);
    free(d);
}

/* --- one socket --- */

/* TCP_USER_TIMEOUT counts a full window too, so it would end every connection that a memory alarm
 * blocks for that long; with heartbeats it is not needed. */
static void set_options(int fd, int heartbeat_s)
{
    const struct {
        int level, name, value;
    } options[] = {
        {IPPROTO_TCP, TCP_NODELAY, 1},
        {SOL_SOCKET, SO_KEEPALIVE, 1},
        {IPPROTO_TCP, TCP_KEEPIDLE, KEEP_IDLE_S},
        {IPPROTO_TCP, TCP_KEEPINTVL, KEEP_EVERY_S},
        {IPPROTO_TCP, TCP_KEEPCNT, KEEP_PROBES},
        {IPPROTO_TCP, TCP_USER_TIMEOUT, heartbeat_s ? 0 : USER_TIMEOUT_MS},
    };

    for (size_t i = 0; i < sizeof(options) / sizeof(options[0]); i++)
        setsockopt(fd, options[i].level, options[i].name, &options[i].value, sizeof(int));
}

/* 0 or an errno. */
static int wait_connected(int fd, int64_t deadline_ms)
{
    struct pollfd p = {.fd = fd, .events = POLLOUT};
    int error = 0, n;
    socklen_t len = sizeof(error);

    do
        n = poll(&p, 1, clock_poll_timeout(clock_system(), deadline_ms));
    while (n < 0 && errno == EINTR);
    if (n == 0)
        return ETIMEDOUT;
    if (n < 0 || getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &len) < 0)
        return errno;
    return error;
}

/* The descriptor, or -1 with errno. */
static int connect_one(const struct addrinfo *ai, int64_t deadline_ms)
{
    int fd = socket(ai->ai_family, ai->ai_socktype | SOCK_NONBLOCK | SOCK_CLOEXEC, ai->ai_protocol);
    int error = 0;

    if (fd < 0)
        return -1;
    if (connect(fd, ai->ai_addr, ai->ai_addrlen) < 0)
        error = errno == EINPROGRESS ? wait_connected(fd, deadline_ms) : errno;
    if (error == 0)
        return fd;
    close(fd);
    errno = error;
    return -1;
}

static struct addrinfo *resolve(const struct amqp_host *host, const char *shown, struct err *e)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM};
    struct addrinfo *list = NULL;
    char port[12];
    int status;

    snprintf(port, sizeof(port), "%d", host->port);
    status = getaddrinfo(host->name, port, &hints, &list);
    if (status == 0)
        return list;
    err_set(e, status == EAI_NONAME ? ERR_OPERATOR : ERR_RECONNECT,
            "%s: the name \"%s\" can not be resolved: %s", shown, host->name, gai_strerror(status));
    return NULL;
}

/* Every address gets its share of the time that is left: one that swallows packets must not use
 * up what a good one needs. */
static int connect_host(const struct amqp_host *host, const char *shown, int64_t deadline_ms,
                        struct err *e)
{
    struct addrinfo *list = resolve(host, shown, e);
    int left = 0, fd = -1, error = 0;

    if (!list)
        return -1;
    for (struct addrinfo *ai = list; ai; ai = ai->ai_next)
        left++;
    for (struct addrinfo *ai = list; ai && fd < 0; ai = ai->ai_next, left--) {
        int64_t now = clock_mono_ms(clock_system());

        fd = connect_one(ai, now + (deadline_ms - now) / left);
        error = errno;
    }
    freeaddrinfo(list);
    if (fd < 0)
        err_connect(e, error, "RabbitMQ at %s", shown);
    return fd;
}

/* --- the thread --- */

/* dial_abandon may interrupt what is done with this descriptor. */
static void watch_fd(struct amqp_dial *d, int fd)
{
    pthread_mutex_lock(&d->lock);
    d->fd = fd;
    if (fd >= 0 && d->abandoned)
        shutdown(fd, SHUT_RDWR);
    pthread_mutex_unlock(&d->lock);
}

static bool is_abandoned(struct amqp_dial *d)
{
    bool abandoned;

    pthread_mutex_lock(&d->lock);
    abandoned = d->abandoned;
    pthread_mutex_unlock(&d->lock);
    return abandoned;
}

static int time_left(int64_t deadline_ms)
{
    int left = clock_poll_timeout(clock_system(), deadline_ms);

    return left > 0 ? left : 1;
}

static int try_host(struct amqp_dial *d, size_t host, struct err *e)
{
    const struct amqp_address *a = &d->address;
    int64_t deadline_ms = clock_mono_ms(clock_system()) + d->timeout_ms;
    char shown[160];
    int own, fd;

    amqp_address_show(a, host, shown, sizeof(shown));
    fd = connect_host(&a->hosts[host], shown, deadline_ms, e);
    if (fd < 0)
        return -1;
    set_options(fd, a->heartbeat_s);
    /* A second descriptor of the same socket: it stays ours to shut down whoever closes the first.
     */
    own = fcntl(fd, F_DUPFD_CLOEXEC, 0);
    watch_fd(d, own);
    if (a->tls)
        fd = tls_wrap(fd, a, a->hosts[host].name, shown, deadline_ms, e);
    if (fd >= 0)
        d->result.connection =
            login_over(fd, a, shown, d->name, time_left(deadline_ms), &d->result.heartbeat_s, e);
    watch_fd(d, -1);
    if (own >= 0)
        close(own);
    d->result.host = host;
    return d->result.connection ? 0 : -1;
}

/* An error that somebody must do something about is worth more than a host that is just down. */
static void keep_error(struct amqp_dial *d, const struct err *e, size_t tried)
{
    if (tried == 0 || (e->code == ERR_OPERATOR && d->why.code != ERR_OPERATOR))
        d->why = *e;
}

static void try_hosts(struct amqp_dial *d)
{
    size_t hosts = d->address.hosts_len;
    struct err e;

    for (size_t i = 0; i < hosts && !d->ok && !is_abandoned(d); i++) {
        e = (struct err)ERR_INIT;
        d->ok = try_host(d, (d->first + i) % hosts, &e) == 0;
        if (!d->ok)
            keep_error(d, &e, i);
    }
    if (!d->ok && hosts > 1)
        err_wrap(&d->why, "none of %zu hosts can be used, one of them", hosts);
}

static void *dial_run(void *argument)
{
    struct amqp_dial *d = argument;
    uint64_t one = 1;
    bool abandoned;

    try_hosts(d);
    pthread_mutex_lock(&d->lock);
    d->ended = true;
    abandoned = d->abandoned;
    if (!abandoned)
        (void)!write(d->done_fd, &one, sizeof(one));
    pthread_mutex_unlock(&d->lock);
    if (abandoned) {
        if (d->ok)
            amqp_destroy_connection(d->result.connection);
        dial_free(d);
    }
    return NULL;
}

/* --- the caller's side --- */

static int start_thread(struct amqp_dial *d, struct err *e)
{
    sigset_t all, old;
    int status;

    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    status = pthread_create(&d->thread, NULL, dial_run, d);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    return status ? err_sys(e, ERR_AGAIN, status, "a thread for the connection can not be started")
                  : 0;
}

struct amqp_dial *dial_start(const struct amqp_address *address, const char *name, size_t first,
                             int timeout_ms, struct err *e)
{
    struct amqp_dial *d = calloc(1, sizeof(*d));

    if (!d) {
        err_nomem(e);
        return NULL;
    }
    pthread_mutex_init(&d->lock, NULL);
    d->fd = -1;
    d->first = first;
    d->timeout_ms = timeout_ms;
    snprintf(d->name, sizeof(d->name), "%s", name);
    d->done_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (d->done_fd < 0)
        err_sys(e, ERR_AGAIN, errno, "no event descriptor");
    else if (amqp_address_copy(&d->address, address, e) == 0 && start_thread(d, e) == 0)
        return d;
    dial_free(d);
    return NULL;
}

int dial_fd(const struct amqp_dial *d)
{
    return d->done_fd;
}

int dial_take(struct amqp_dial *d, struct amqp_dialed *out, struct err *e)
{
    bool ended, ok;

    pthread_mutex_lock(&d->lock);
    ended = d->ended;
    pthread_mutex_unlock(&d->lock);
    if (!ended)
        return 0;
    pthread_join(d->thread, NULL);
    ok = d->ok;
    if (ok)
        *out = d->result;
    else if (e)
        *e = d->why;
    dial_free(d);
    return ok ? 1 : -1;
}

void dial_abandon(struct amqp_dial *d)
{
    bool ended;

    if (!d)
        return;
    pthread_mutex_lock(&d->lock);
    ended = d->ended;
    d->abandoned = true;
    if (d->fd >= 0)
        shutdown(d->fd, SHUT_RDWR);
    if (!ended)
        pthread_detach(d->thread); /* inside the lock: behind it the thread may free d */
    pthread_mutex_unlock(&d->lock);
    if (!ended)
        return;
    pthread_join(d->thread, NULL);
    if (d->ok)
        amqp_destroy_connection(d->result.connection);
    dial_free(d);
}
