#include "tests/support/redis_server.h"

#include <fcntl.h>
#include <ftw.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#define START_TRIES 1500 /* of 20 ms */

int redis_server_init(struct redis_server *r)
{
    *r = (struct redis_server){.pid = 0};
    /* NOLINTNEXTLINE(cert-env33-c): our own words */
    if (system("command -v redis-server >/dev/null 2>&1") != 0)
        return -1;
    snprintf(r->directory, sizeof(r->directory), "/tmp/celeriac-redis-XXXXXX");
    if (!mkdtemp(r->directory))
        return -1;
    snprintf(r->socket, sizeof(r->socket), "%s/redis.sock", r->directory);
    snprintf(r->url, sizeof(r->url), "redis+socket://%s?virtual_host=0", r->socket);
    return 0;
}

static void become_server(const struct redis_server *r)
{
    int null = open("/dev/null", O_RDWR);

    dup2(null, 0);
    dup2(null, 1);
    dup2(null, 2);
    execlp("redis-server", "redis-server", "--port", "0", "--unixsocket", r->socket, "--dir",
           r->directory, "--save", "", "--appendonly", "yes", "--appendfsync", "always",
           (char *)NULL);
    _exit(127);
}

/* PING over a connection of its own; while the file is loaded the answer is an error. */
static int answers(const struct redis_server *r)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    char reply[8] = "";
    int ok = 0;

    if (fd < 0)
        return 0;
    memcpy(address.sun_path, r->socket, strlen(r->socket) + 1);
    if (connect(fd, (struct sockaddr *)&address, sizeof(address)) == 0 &&
        send(fd, "PING\r\n", 6, MSG_NOSIGNAL) == 6)
        ok = read(fd, reply, sizeof(reply) - 1) > 0 && strncmp(reply, "+PONG", 5) == 0;
    close(fd);
    return ok;
}

int redis_server_start(struct redis_server *r)
{
    r->pid = fork();
    if (r->pid < 0)
        return -1;
    if (r->pid == 0)
        become_server(r);
    for (int i = 0; i < START_TRIES; i++) {
        if (answers(r))
            return 0;
        poll(NULL, 0, 20);
    }
    return -1;
}

void redis_server_signal(struct redis_server *r, int sig)
{
    kill(r->pid, sig);
    if (sig == SIGSTOP)
        waitpid(r->pid, NULL, WUNTRACED); /* until then a thread may go on */
}

void redis_server_stop(struct redis_server *r, int sig)
{
    if (r->pid <= 0)
        return;
    kill(r->pid, sig);
    kill(r->pid, SIGCONT);
    waitpid(r->pid, NULL, 0);
    r->pid = 0;
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    (void)st;
    (void)type;
    (void)ftw;
    return remove(path);
}

void redis_server_release(struct redis_server *r)
{
    redis_server_stop(r, SIGTERM);
    if (r->directory[0])
        nftw(r->directory, remove_one, 8, FTW_DEPTH | FTW_PHYS);
}
