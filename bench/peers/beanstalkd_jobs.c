/* The beanstalkd program of bench/peers: a runner, and the producer; see peer.h. */
#include "peer.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <sys/socket.h>

#define BULK 256

/* A connection with what was read and not yet used. */
struct link {
    int fd;
    size_t at, len;
    char in[256 * 1024];
};

static struct link *link_open(void)
{
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct link *l = calloc(1, sizeof(*l));
    int one = 1;

    if (!l)
        peer_die("calloc");
    to.sin_port = htons((uint16_t)strtoul(peer_env("PEER_SERVER"), NULL, 10));
    l->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (l->fd < 0 || connect(l->fd, (struct sockaddr *)&to, sizeof(to)) < 0)
        peer_die("beanstalkd");
    setsockopt(l->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    return l;
}

static void put_bytes(struct link *l, const char *from, size_t len)
{
    while (len > 0) {
        ssize_t n = send(l->fd, from, len, MSG_NOSIGNAL);

        if (n < 0)
            peer_die("send");
        from += n;
        len -= (size_t)n;
    }
}

static void say(struct link *l, const char *fmt, ...)
{
    char text[256];
    va_list ap;
    int n;

    va_start(ap, fmt);
    n = vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    put_bytes(l, text, (size_t)n);
}

/* Reads until so many bytes are there. */
static void fill(struct link *l)
{
    ssize_t n;

    if (l->at > 0) {
        memmove(l->in, l->in + l->at, l->len - l->at);
        l->len -= l->at;
        l->at = 0;
    }
    n = recv(l->fd, l->in + l->len, sizeof(l->in) - l->len, 0);
    if (n <= 0)
        peer_die("recv");
    l->len += (size_t)n;
}

/* One line without its end; valid until the next read. */
static char *get_line(struct link *l)
{
    char *end, *line;

    while (!(end = memmem(l->in + l->at, l->len - l->at, "\r\n", 2)))
        fill(l);
    *end = '\0';
    line = l->in + l->at;
    l->at = (size_t)(end - l->in) + 2;
    return line;
}

static void expect(struct link *l, const char *word)
{
    const char *line = get_line(l);

    if (strncmp(line, word, strlen(word)) == 0)
        return;
    fprintf(stderr, "beanstalkd: wanted %s, got %s\n", word, line);
    exit(1);
}

/* A reserved job: its number, and its body, valid until the next read. */
static const char *get_job(struct link *l, unsigned long long *id, size_t *len)
{
    const char *line = get_line(l), *body;

    if (sscanf(line, "RESERVED %llu %zu", id, len) != 2) {
        fprintf(stderr, "beanstalkd: wanted RESERVED, got %s\n", line);
        exit(1);
    }
    while (l->len - l->at < *len + 2)
        fill(l);
    body = l->in + l->at;
    l->at += *len + 2;
    return body;
}

/* --- runner --- */

/* There are no results: a job that is waited for is answered by another in a tube of its own. */
static void answer(struct link *l)
{
    say(l, "use answers\r\nput 0 0 60 1\r\n1\r\n");
    expect(l, "USING");
    expect(l, "INSERTED");
}

static int work(void)
{
    volatile uint64_t *done = peer_done();
    struct link *l = link_open(), *replies = link_open();
    unsigned long long id;
    size_t len;

    say(l, "reserve\r\n");
    for (;;) {
        const char *body = get_job(l, &id, &len);

        peer_perform(body, len);
        if (len > 4 && memcmp(body, "trip", 4) == 0)
            answer(replies);
        say(l, "delete %llu\r\nreserve\r\n", id);
        expect(l, "DELETED");
        ++*done;
    }
}

/* --- producer --- */

/* A put as it goes over the wire. */
static char *make_put(const char *task, size_t *len)
{
    size_t body_len;
    char *body = peer_message(task, &body_len), *text = malloc(body_len + 64);
    int head;

    if (!text)
        peer_die("malloc");
    head = snprintf(text, 64, "put 0 0 60 %zu\r\n", body_len);
    memcpy(text + head, body, body_len);
    memcpy(text + head + body_len, "\r\n", 2);
    *len = (size_t)head + body_len + 2;
    free(body);
    return text;
}

static int produce(const char *task, int count, const char *how)
{
    struct link *l = link_open();
    size_t len;
    char *put = make_put(task, &len), *batch = malloc(len * BULK);
    int step = strcmp(how, "bulk") == 0 ? BULK : 1;
    double from;

    if (!batch)
        peer_die("malloc");
    for (int i = 0; i < BULK; i++)
        memcpy(batch + (size_t)i * len, put, len);
    from = peer_now();
    for (int i = 0; i < count; i += step) {
        int n = count - i < step ? count - i : step;

        put_bytes(l, batch, (size_t)n * len);
        for (int k = 0; k < n; k++)
            expect(l, "INSERTED");
    }
    peer_print_span(from, peer_now());
    free(batch);
    free(put);
    return 0;
}

static void one_trip(struct link *l, const char *put, size_t put_len)
{
    unsigned long long id;
    size_t len;

    put_bytes(l, put, put_len);
    expect(l, "INSERTED");
    say(l, "reserve\r\n");
    get_job(l, &id, &len);
    say(l, "delete %llu\r\n", id);
    expect(l, "DELETED");
}

static int trips(int count)
{
    struct link *l = link_open();
    double *us = calloc((size_t)count, sizeof(*us));
    size_t len;
    char *put = make_put("trip", &len);

    if (!us)
        peer_die("calloc");
    say(l, "watch answers\r\nignore default\r\n");
    expect(l, "WATCHING");
    expect(l, "WATCHING");
    for (int i = 0; i < count; i++) {
        double start = peer_now();

        one_trip(l, put, len);
        us[i] = (peer_now() - start) * 1e6;
    }
    peer_print_trips(us, count);
    free(put);
    free(us);
    return 0;
}

int main(int argc, char **argv)
{
    if (argc == 2 && strcmp(argv[1], "worker") == 0)
        return work();
    if (argc == 3 && strcmp(argv[1], "trips") == 0)
        return trips((int)strtol(argv[2], NULL, 10));
    if (argc == 5 && strcmp(argv[1], "produce") == 0)
        return produce(argv[2], (int)strtol(argv[3], NULL, 10), argv[4]);
    fputs("usage: beanstalkd_jobs worker | trips COUNT | produce TASK COUNT single|bulk\n", stderr);
    return 2;
}
