#include "broker/amqp_tls.h"

#include "base/clock.h"

#include <arpa/inet.h>
#include <errno.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* Bytes on their way in one direction. */
struct flow {
    char bytes[TLS_BUFFER];
    size_t start, len;
    bool ended; /* no more will come in */
};

struct relay {
    SSL *ssl; /* owns nothing of fd */
    int fd;
    int plain;
    short ssl_wants; /* what OpenSSL waits for on fd before it can go on */
    struct flow to_server;
    struct flow to_us;
    bool broken;
};

/* --- errors --- */

static const char *ssl_reason(void)
{
    unsigned long code = ERR_peek_last_error();
    const char *text = code ? ERR_reason_error_string(code) : NULL;

    return text ? text : "the server hung up";
}

static int not_trusted(SSL *ssl, const char *host, const char *shown, struct err *e)
{
    long result = SSL_get_verify_result(ssl);

    if (result == X509_V_ERR_HOSTNAME_MISMATCH || result == X509_V_ERR_IP_ADDRESS_MISMATCH)
        return err_set(e, ERR_OPERATOR,
                       "%s: the server's certificate is not for \"%s\": use a name that is in it, "
                       "or ?verify=verify_none",
                       shown, host);
    return err_set(
        e, ERR_OPERATOR,
        "%s: the server's certificate is not trusted: %s; give the file of its authority "
        "with ?cacertfile=",
        shown, X509_verify_cert_error_string(result));
}

static int handshake_failed(SSL *ssl, const char *host, const char *shown, struct err *e)
{
    unsigned long code = ERR_peek_last_error();

    if (ERR_GET_REASON(code) == SSL_R_CERTIFICATE_VERIFY_FAILED)
        return not_trusted(ssl, host, shown, e);
    if (ERR_GET_REASON(code) == SSL_R_WRONG_VERSION_NUMBER)
        return err_set(e, ERR_OPERATOR,
                       "%s: the server does not speak TLS on this port: use its TLS port (5671 as "
                       "a rule), or amqp://",
                       shown);
    return err_set(e, code ? ERR_OPERATOR : ERR_RECONNECT, "%s: the TLS handshake failed: %s",
                   shown, ssl_reason());
}

static int bad_file(const char *what, const char *path, struct err *e)
{
    return err_set(e, ERR_OPERATOR, "the %s \"%s\" can not be used: %s", what, path, ssl_reason());
}

/* --- handshake --- */

static int load_files(SSL_CTX *ctx, const struct amqp_address *a, struct err *e)
{
    const char *key = a->key_file ? a->key_file : a->cert_file;

    if (a->ca_file && SSL_CTX_load_verify_locations(ctx, a->ca_file, NULL) != 1)
        return bad_file("cacertfile", a->ca_file, e);
    if (!a->ca_file)
        SSL_CTX_set_default_verify_paths(ctx);
    if (a->cert_file && SSL_CTX_use_certificate_chain_file(ctx, a->cert_file) != 1)
        return bad_file("certfile", a->cert_file, e);
    if (a->cert_file && SSL_CTX_use_PrivateKey_file(ctx, key, SSL_FILETYPE_PEM) != 1)
        return bad_file("keyfile", key, e);
    return 0;
}

static SSL_CTX *make_context(const struct amqp_address *a, struct err *e)
{
    SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());

    if (!ctx) {
        err_nomem(e);
        return NULL;
    }
    SSL_CTX_set_min_proto_version(ctx, TLS1_2_VERSION);
    SSL_CTX_set_mode(ctx, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    SSL_CTX_set_verify(ctx, a->verify ? SSL_VERIFY_PEER : SSL_VERIFY_NONE, NULL);
    if (load_files(ctx, a, e) == 0)
        return ctx;
    SSL_CTX_free(ctx);
    return NULL;
}

/* The name that the certificate must have; an address is looked for among its addresses. */
static bool expect_name(SSL *ssl, const char *host)
{
    unsigned char address[sizeof(struct in6_addr)];
    bool is_address =
        inet_pton(AF_INET, host, address) == 1 || inet_pton(AF_INET6, host, address) == 1;

    if (is_address)
        return X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(ssl), host) == 1;
    return SSL_set1_host(ssl, host) == 1 && SSL_set_tlsext_host_name(ssl, host) == 1;
}

static SSL *make_session(int fd, const struct amqp_address *a, const char *host, struct err *e)
{
    SSL_CTX *ctx = make_context(a, e);
    SSL *ssl = ctx ? SSL_new(ctx) : NULL;

    if (ctx && !ssl)
        err_nomem(e);
    SSL_CTX_free(ctx); /* the session keeps its own reference */
    if (!ssl)
        return NULL;
    if (SSL_set_fd(ssl, fd) == 1 && expect_name(ssl, host))
        return ssl;
    err_set(e, ERR_OPERATOR, "TLS with \"%s\" can not be prepared: %s", host, ssl_reason());
    SSL_free(ssl);
    return NULL;
}

static int shake_hands(SSL *ssl, int fd, const char *host, const char *shown, int64_t deadline_ms,
                       struct err *e)
{
    for (;;) {
        struct pollfd p = {.fd = fd};
        int status, wants;

        ERR_clear_error();
        status = SSL_connect(ssl);
        if (status == 1)
            return 0;
        wants = SSL_get_error(ssl, status);
        if (wants != SSL_ERROR_WANT_READ && wants != SSL_ERROR_WANT_WRITE)
            return handshake_failed(ssl, host, shown, e);
        p.events = wants == SSL_ERROR_WANT_READ ? POLLIN : POLLOUT;
        if (poll(&p, 1, clock_poll_timeout(clock_system(), deadline_ms)) == 0)
            return err_set(e, ERR_RECONNECT, "%s: no answer in the TLS handshake", shown);
    }
}

/* --- relay --- */

static size_t room(const struct flow *f)
{
    return f->ended ? 0 : sizeof(f->bytes) - f->start - f->len;
}

static char *end_of(struct flow *f)
{
    return f->bytes + f->start + f->len;
}

static void wrote(struct flow *f, size_t n)
{
    f->start += n;
    f->len -= n;
    if (!f->len)
        f->start = 0;
}

/* Moves the rest to the front when the end is reached, so that a slow reader does not hold back
 * more than it has to. */
static void make_room(struct flow *f)
{
    if (f->start && room(f) == 0 && !f->ended) {
        memmove(f->bytes, f->bytes + f->start, f->len);
        f->start = 0;
    }
}

/* What OpenSSL said about a read or write that moved nothing. */
static void ssl_stalled(struct relay *r, int status)
{
    switch (SSL_get_error(r->ssl, status)) {
    case SSL_ERROR_WANT_READ:
        r->ssl_wants |= POLLIN;
        break;
    case SSL_ERROR_WANT_WRITE:
        r->ssl_wants |= POLLOUT;
        break;
    case SSL_ERROR_ZERO_RETURN:
        r->to_us.ended = true;
        break;
    default:
        r->to_us.ended = true;
        r->broken = true; /* nothing can be sent any more */
    }
}

static bool read_server(struct relay *r)
{
    struct flow *f = &r->to_us;
    int n;

    make_room(f);
    if (!room(f))
        return false;
    ERR_clear_error();
    n = SSL_read(r->ssl, end_of(f), (int)room(f));
    if (n > 0)
        f->len += (size_t)n;
    else
        ssl_stalled(r, n);
    return n > 0;
}

static bool write_server(struct relay *r)
{
    struct flow *f = &r->to_server;
    int n;

    if (!f->len || r->broken)
        return false;
    ERR_clear_error();
    n = SSL_write(r->ssl, f->bytes + f->start, (int)f->len);
    if (n > 0)
        wrote(f, (size_t)n);
    else
        ssl_stalled(r, n);
    return n > 0;
}

static bool is_later(void)
{
    return errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR;
}

static bool read_plain(struct relay *r)
{
    struct flow *f = &r->to_server;
    ssize_t n;

    make_room(f);
    if (!room(f))
        return false;
    n = recv(r->plain, end_of(f), room(f), MSG_DONTWAIT);
    if (n > 0)
        f->len += (size_t)n;
    else if (n == 0 || !is_later())
        f->ended = true;
    return n > 0;
}

static bool write_plain(struct relay *r)
{
    struct flow *f = &r->to_us;
    ssize_t n;

    if (!f->len)
        return false;
    n = send(r->plain, f->bytes + f->start, f->len, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (n > 0)
        wrote(f, (size_t)n);
    else if (n < 0 && !is_later())
        f->len = 0, f->ended = true; /* nobody is there to read it */
    return n > 0;
}

static bool is_over(const struct relay *r)
{
    bool server_gone = r->to_us.ended && (!r->to_us.len || r->to_server.ended);

    return server_gone || (r->to_server.ended && (!r->to_server.len || r->broken));
}

/* Moves what can be moved; false when nothing could. */
static bool move(struct relay *r)
{
    bool moved;

    r->ssl_wants = 0;
    moved = read_plain(r);
    moved |= write_server(r);
    moved |= read_server(r);
    moved |= write_plain(r);
    return moved;
}

/* OpenSSL may hold decrypted bytes that poll does not see, so everything is tried until nothing
 * moves before this waits. */
static int wait_for_more(struct relay *r, int timeout_ms)
{
    struct pollfd p[2] = {{.fd = r->fd, .events = r->ssl_wants}, {.fd = r->plain}};

    if (room(&r->to_server))
        p[1].events |= POLLIN;
    if (r->to_us.len)
        p[1].events |= POLLOUT;
    for (int i = 0; i < 2; i++) {
        if (!p[i].events)
            p[i].fd = -1; /* its hang-up alone must not wake us again and again */
    }
    return poll(p, 2, timeout_ms);
}

static void *relay_run(void *argument)
{
    struct relay *r = argument;
    const struct clock *clock = clock_system();
    int64_t end_ms = CLOCK_NEVER;

    while (!is_over(r)) {
        bool ending = r->to_us.ended || r->to_server.ended;

        if (ending && end_ms == CLOCK_NEVER)
            end_ms = clock_mono_ms(clock) + TLS_LINGER_MS;
        if (!move(r) && !is_over(r) && wait_for_more(r, clock_poll_timeout(clock, end_ms)) == 0)
            break;
    }
    if (!r->broken)
        SSL_shutdown(r->ssl);
    SSL_free(r->ssl);
    close(r->fd);
    close(r->plain);
    free(r);
    return NULL;
}

/* Takes ssl, fd and plain. */
static int relay_start(SSL *ssl, int fd, int plain, struct err *e)
{
    struct relay *r = calloc(1, sizeof(*r));
    sigset_t all, old;
    pthread_t thread;
    int status = ENOMEM;

    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    if (r) {
        r->ssl = ssl;
        r->fd = fd;
        r->plain = plain;
        status = pthread_create(&thread, NULL, relay_run, r);
    }
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    if (status == 0) {
        pthread_detach(thread);
        return 0;
    }
    free(r);
    SSL_free(ssl);
    close(fd);
    close(plain);
    return err_sys(e, ERR_AGAIN, status, "a thread for TLS can not be started");
}

int tls_wrap(int fd, const struct amqp_address *a, const char *host, const char *shown,
             int64_t deadline_ms, struct err *e)
{
    SSL *ssl = make_session(fd, a, host, e);
    int pair[2];

    if (!ssl || shake_hands(ssl, fd, host, shown, deadline_ms, e) < 0 ||
        (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) < 0 &&
         err_sys(e, ERR_AGAIN, errno, "no socket pair for TLS"))) {
        SSL_free(ssl);
        close(fd);
        return -1;
    }
    if (relay_start(ssl, fd, pair[1], e) == 0)
        return pair[0];
    close(pair[0]);
    return -1;
}
