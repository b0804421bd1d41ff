#include "tests/support/echo_worker.h"

#include "broker/broker.h"
#include "broker/message.h"
#include "broker/result.h"

#include <stdio.h>
#include <string.h>

static void finish(struct echo_worker *w, struct broker *b, const struct broker_event *event)
{
    struct buf text = BUF_INIT;
    struct message m;
    struct err e = ERR_INIT;
    json_t *value = NULL;

    if (message_parse(&m, event->data, &e) == 0 && strcmp(m.task, "hold") != 0) {
        bool ok = strcmp(m.task, "fail") != 0;
        struct result_doc doc = {.status = ok ? "SUCCESS" : "FAILURE", .task_id = m.id};
        struct broker_finish done = {.receipt = event->receipt,
                                     .outcome = ok ? BROKER_JOB_SUCCEEDED : BROKER_JOB_FAILED,
                                     .result_id = slice_of(m.id)};

        value = ok ? json_string(m.id)
                   : result_exception("ValueError", NULL, json_pack("[s]", "asked to fail"));
        doc.result = value;
        if (result_encode(&text, &doc, &e) == 0) {
            done.result = buf_slice(&text);
            if (broker_finish(b, &done, 1, &e) == 0)
                atomic_fetch_add(&w->finished, 1);
        }
    }
    if (e.code != ERR_NONE)
        fprintf(stderr, "echo worker: %s\n", e.text);
    json_decref(value);
    buf_release(&text);
    message_release(&m);
}

static void work(struct echo_worker *w, struct broker *b)
{
    struct broker_event event;
    struct pollfd fds[16];

    while (!atomic_load(&w->stop)) {
        broker_credit(b, 64);
        /* One at a time: finishing is a call on the broker, which ends the loan of events' data. */
        if (broker_poll(b, &event, 1) == 0)
            poll(fds, (nfds_t)broker_pollset(b, fds, 16), 20);
        else if (event.kind == BROKER_DELIVERED)
            finish(w, b, &event);
    }
}

static void *run(void *user)
{
    static const char *const queues[] = {"celery"};
    struct echo_worker *w = user;
    struct broker_config config = {
        .url = w->url, .node = "celery@echo", .generation = 1, .queues = queues, .queues_len = 1};
    struct err e = ERR_INIT;
    struct broker *b = broker_open(&config, &e);

    if (!b) {
        fprintf(stderr, "echo worker: %s\n", e.text);
        return NULL;
    }
    work(w, b);
    broker_close(b, true);
    return NULL;
}

int echo_worker_start(struct echo_worker *w, const char *url)
{
    w->url = url;
    atomic_init(&w->stop, false);
    atomic_init(&w->finished, 0);
    return pthread_create(&w->thread, NULL, run, w);
}

void echo_worker_stop(struct echo_worker *w)
{
    atomic_store(&w->stop, true);
    pthread_join(w->thread, NULL);
}
