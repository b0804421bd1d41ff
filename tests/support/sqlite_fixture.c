#include "tests/support/sqlite_fixture.h"

#include "broker/backend.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

void fixture_init(struct fixture *f)
{
    snprintf(f->dir, sizeof(f->dir), "/tmp/celeriac-sqlite-XXXXXX");
    if (!mkdtemp(f->dir))
        abort();
    snprintf(f->path, sizeof(f->path), "%s/q.db", f->dir);
    snprintf(f->url, sizeof(f->url), "sqlite:%s", f->path);
    clock_fake_init(&f->fake, 1700000000000);
}

void fixture_release(struct fixture *f)
{
    DIR *dir = opendir(f->dir);
    struct dirent *entry;
    char path[400];

    while (dir && (entry = readdir(dir))) {
        snprintf(path, sizeof(path), "%s/%s", f->dir, entry->d_name);
        unlink(path);
    }
    if (dir)
        closedir(dir);
    rmdir(f->dir);
}

struct broker *fixture_try_open(const char *url, const char *node, uint64_t generation,
                                const struct clock *clock, struct err *e)
{
    static const char *const queues[] = {"celery"};
    struct broker_config config = {.url = url,
                                   .node = node,
                                   .generation = generation,
                                   .queues = queues,
                                   .queues_len = node ? 1 : 0,
                                   .clock = clock};

    return broker_open(&config, e);
}

struct broker *fixture_open(struct fixture *f, const char *node, uint64_t generation, bool real)
{
    struct err e = ERR_INIT;
    struct broker *b =
        fixture_try_open(f->url, node, generation, real ? clock_system() : &f->fake.base, &e);

    if (!b) {
        fprintf(stderr, "fixture: %s\n", e.text);
        abort();
    }
    return b;
}

/* Sleeps on the descriptors, at most 20 ms: a fake clock brings no deadline of its own. */
static void rest(struct broker *b)
{
    struct pollfd fds[4];
    int n = broker_pollset(b, fds, 4);

    poll(fds, (nfds_t)n, 20);
}

int fixture_wait(struct broker *b, enum broker_event_kind kind, struct broker_event *out)
{
    int64_t until = clock_mono_ms(clock_system()) + FIXTURE_WAIT_MS;

    while (clock_mono_ms(clock_system()) < until) {
        int n = broker_poll(b, out, 1);

        if (n == 1 && out->kind == kind)
            return 0;
        if (n == 0)
            rest(b);
    }
    return -1;
}

void fixture_settle(struct broker *b)
{
    struct broker_event event;

    for (int quiet = 0; quiet < 3;)
        quiet = broker_poll(b, &event, 1) == 0 ? quiet + 1 : 0;
}

void fixture_publish(struct broker *b, const char *text, const char *token)
{
    struct broker_message m = {.queue = slice_of("celery"),
                               .envelope = slice_of(text),
                               .token = slice_of(token),
                               .id = slice_of(text)};
    struct err e = ERR_INIT;

    if (broker_publish(b, &m, 1, &e) != 0)
        abort();
}

int fixture_finish(struct broker *b, const struct broker_receipt *receipt, const char *id)
{
    struct broker_finish f = {.receipt = *receipt,
                              .outcome = BROKER_JOB_SUCCEEDED,
                              .result_id = slice_of(id),
                              .result = slice_of("{\"status\": \"SUCCESS\", \"result\": 1}")};
    struct err e = ERR_INIT;

    return broker_finish(b, &f, 1, &e);
}

long long fixture_total(struct broker *b, const char *name)
{
    struct broker_ask ask = {.question = BROKER_ASK_TOTALS};
    struct broker_event event;
    struct err e = ERR_INIT;
    char key[40];
    const char *at;

    snprintf(key, sizeof(key), "\"%s\":", name);
    if (broker_ask(b, &ask, &e) != 0 || fixture_wait(b, BROKER_ANSWER, &event) != 0)
        return -1;
    at = strstr(event.data.ptr, key);
    return at ? strtoll(at + strlen(key), NULL, 10) : -1;
}
