#include "app/usage.h"

#include <ctype.h>
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "broker/uri.h"

/* Programs that are brokers; comm has 15 characters at most. */
static const char *const servers[] = {"redis-server", "valkey-server", "keydb-server", "beam.smp"};

static size_t read_file(const char *path, char *to, size_t size)
{
    FILE *file = fopen(path, "re");
    size_t len = file != NULL ? fread(to, 1, size - 1, file) : 0;

    to[len] = '\0';
    if (file != NULL)
        fclose(file);
    return len;
}

/* Seconds of all threads that live: on a CPU, and waiting for one. */
struct cpu {
    double used_s, wait_s;
};

static struct cpu cpu_of(pid_t pid)
{
    char path[300], text[128], *end;
    struct cpu total = {0, 0};
    struct dirent *entry;
    DIR *threads;

    snprintf(path, sizeof(path), "/proc/%d/task", (int)pid);
    threads = opendir(path);
    while (threads != NULL && (entry = readdir(threads)) != NULL) {
        if (!isdigit((unsigned char)entry->d_name[0]))
            continue;
        snprintf(path, sizeof(path), "/proc/%d/task/%.20s/schedstat", (int)pid, entry->d_name);
        read_file(path, text, sizeof(text));
        total.used_s += strtod(text, &end) / 1e9;
        total.wait_s += strtod(end, NULL) / 1e9;
    }
    if (threads != NULL)
        closedir(threads);
    return total;
}

/* Seconds that all cores were busy: the first line of /proc/stat but for idle and iowait; guests'
 * are in user already. */
static double machine_s(void)
{
    char text[512], *at = text + strlen("cpu");
    double ticks = 0;

    read_file("/proc/stat", text, sizeof(text));
    for (int i = 0; i < 8; i++) {
        double value = strtod(at, &at);

        ticks += i == 3 || i == 4 ? 0 : value;
    }
    return ticks / (double)sysconf(_SC_CLK_TCK);
}

static void add_child(struct usage *u, pid_t pid)
{
    char path[64], title[64];

    snprintf(path, sizeof(path), "/proc/%d/cmdline", (int)pid);
    read_file(path, title, sizeof(title));
    if (strncmp(title, "celeriac: dispatcher", 20) == 0)
        u->dispatcher_s += cpu_of(pid).used_s;
    if (strncmp(title, "celeriac: runner", 16) == 0) {
        struct cpu cpu = cpu_of(pid);

        u->runners_s += cpu.used_s;
        u->runners_wait_s += cpu.wait_s;
    }
}

static void read_now(struct usage *u)
{
    char path[64], text[8192], *at = text, *end;

    u->own_s = cpu_of(getpid()).used_s;
    u->machine_s = machine_s();
    snprintf(path, sizeof(path), "/proc/%d/task/%d/children", (int)u->worker, (int)u->worker);
    read_file(path, text, sizeof(text));
    for (;;) {
        long pid = strtol(at, &end, 10);

        if (end == at)
            return;
        add_child(u, (pid_t)pid);
        at = end;
    }
}

static bool is_server(pid_t pid)
{
    char path[64], name[32];

    snprintf(path, sizeof(path), "/proc/%d/comm", (int)pid);
    read_file(path, name, sizeof(name));
    name[strcspn(name, "\n")] = '\0';
    for (size_t i = 0; i < sizeof(servers) / sizeof(servers[0]); i++) {
        if (strcmp(name, servers[i]) == 0)
            return true;
    }
    return false;
}

static void find_servers(struct usage *u)
{
    DIR *processes = opendir("/proc");
    struct dirent *entry;

    while (processes != NULL && u->servers_len < USAGE_SERVERS_MAX &&
           (entry = readdir(processes)) != NULL) {
        pid_t pid = (pid_t)strtol(entry->d_name, NULL, 10);

        if (pid > 0 && is_server(pid))
            u->servers[u->servers_len++] = (struct usage_server){pid, cpu_of(pid).used_s};
    }
    if (processes != NULL)
        closedir(processes);
}

/* Is the server, if there is one, on this machine? A file has none. */
static bool is_local(const char *broker)
{
    struct uri uri;
    struct err e = ERR_INIT;
    bool local;

    if (uri_parse(&uri, broker, &e) < 0)
        return false;
    local =
        strcmp(uri.scheme, "redis+socket") == 0 ||
        (uri.host != NULL && (strcmp(uri.host, "localhost") == 0 ||
                              strncmp(uri.host, "127.", 4) == 0 || strcmp(uri.host, "::1") == 0));
    uri_release(&uri);
    return local;
}

void usage_begin(struct usage *u, pid_t worker, const char *broker)
{
    *u = (struct usage){.worker = worker};
    if (is_local(broker))
        find_servers(u);
    read_now(u);
}

void usage_end(struct usage *u)
{
    struct usage now = {.worker = u->worker};

    read_now(&now);
    u->runners_s = now.runners_s - u->runners_s;
    u->runners_wait_s = now.runners_wait_s - u->runners_wait_s;
    u->dispatcher_s = now.dispatcher_s - u->dispatcher_s;
    u->own_s = now.own_s - u->own_s;
    u->machine_s = now.machine_s - u->machine_s;
    u->broker_known = u->servers_len > 0;
    for (size_t i = 0; i < u->servers_len; i++) {
        double used_s = cpu_of(u->servers[i].pid).used_s - u->servers[i].began_s;

        if (used_s > u->broker_s)
            u->broker_s = used_s;
    }
}
