/* The runner as a process: jobs in, notes and verdicts out. */
#include "tests/support/check.h"

#include "tests/support/runner_peer.h"

#include "base/isotime.h"
#include "broker/result.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

static const char *const modules[] = {TEST_MODULE_DIR "/probe.so"};
static const struct peer_options with_probe = {modules, 1, false};

static void begin(struct runner_peer *p)
{
    peer_start(p, &with_probe);
    peer_take(p, CHANNEL_ROWS);
    peer_take(p, CHANNEL_READY);
}

static void end(struct runner_peer *p)
{
    int status = peer_stop(p);

    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
}

/* Runs a task and returns the verdict and, where there is one, its document. */
static struct channel_verdict run(struct runner_peer *p, const char *task, const char *args,
                                  const char *kwargs, json_t **doc)
{
    json_t *a = json_loads(args, 0, NULL), *k = json_loads(kwargs, 0, NULL);
    struct message_spec spec = peer_spec(p, task, a, k);
    struct channel_verdict v;

    peer_run(p, &spec, true);
    json_decref(a);
    json_decref(k);
    v = peer_verdict(p, p->last_job);
    if (doc)
        *doc = peer_document(&v);
    return v;
}

/* Whether a member equals this JSON. */
static void check_member(const json_t *doc, const char *key, const char *want)
{
    json_t *value = json_loads(want, JSON_DECODE_ANY, NULL);
    char *got = json_dumps(json_object_get(doc, key), JSON_ENCODE_ANY);

    if (!json_equal(json_object_get(doc, key), value))
        fail_msg("%s is %s, wanted %s", key, got ? got : "absent", want);
    free(got);
    json_decref(value);
}

static void check_failure(struct runner_peer *p, const char *task, const char *args,
                          const char *kwargs, const char *want)
{
    json_t *doc;
    struct channel_verdict v = run(p, task, args, kwargs, &doc);

    assert_int_equal(v.outcome, CHANNEL_FAILURE);
    check_member(doc, "status", "\"FAILURE\"");
    check_member(doc, "result", want);
    check_member(doc, "traceback", "null");
    json_decref(doc);
}

static void tells_its_tasks_and_is_ready(void **state)
{
    struct runner_peer p;
    struct frame f;
    json_t *rows;

    (void)state;
    peer_start(&p, &with_probe);
    f = peer_take(&p, CHANNEL_ROWS);
    rows = json_loadb(f.payload.ptr, f.payload.len, 0, NULL);
    assert_true(json_array_size(rows) > 10);
    json_decref(rows);
    peer_take(&p, CHANNEL_READY);
    end(&p);
}

static void leaves_when_a_module_is_missing(void **state)
{
    static const char *const missing[] = {"/nonexistent/module.so"};
    const struct peer_options options = {missing, 1, false};
    struct runner_peer p;
    int status;

    (void)state;
    peer_start(&p, &options);
    status = peer_wait_dead(&p);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 70);
}

/* Keys and their order as a Celery worker writes them (captured from 5.6), ours before the last. */
static void writes_celerys_document(void **state)
{
    static const char *const keys[] = {"status",    "result",   "traceback", "children",
                                       "date_done", "celeriac", "task_id"};
    struct runner_peer p;
    struct channel_verdict v;
    json_t *doc, *ours, *value;
    const char *key;
    size_t i = 0;

    (void)state;
    begin(&p);
    v = run(&p, "math.add", "[2, 3]", "{}", &doc);
    assert_int_equal(v.outcome, CHANNEL_SUCCESS);
    assert_int_equal(v.followups_len, 0);
    assert_true(result_is_success(v.result));
    json_object_foreach(doc, key, value) assert_string_equal(key, keys[i++]);
    assert_int_equal(i, sizeof(keys) / sizeof(keys[0]));
    check_member(doc, "result", "5");
    check_member(doc, "traceback", "null");
    check_member(doc, "children", "[]");
    assert_string_equal(json_string_value(json_object_get(doc, "task_id")), p.id);
    ours = json_object_get(doc, "celeriac");
    check_member(ours, "worker", "\"celery@test\"");
    assert_int_equal(json_integer_value(json_object_get(ours, "pid")), p.pid);
    assert_true(json_is_integer(json_object_get(ours, "queued_us")));
    assert_true(json_is_integer(json_object_get(ours, "fetched_us")));
    assert_true(json_is_integer(json_object_get(ours, "dispatched_us")));
    assert_true(json_is_integer(json_object_get(ours, "run_us")));
    assert_true(json_integer_value(json_object_get(ours, "max_rss_kib")) > 0);
    assert_true(json_is_integer(json_object_get(ours, "user_us")));
    assert_true(v.max_rss_kib > 0);
    json_decref(doc);
    end(&p);
}

static void measures_cpu_only_when_told(void **state)
{
    struct runner_peer p;
    json_t *args = json_pack("[i, i]", 1, 2), *doc, *ours;
    struct message_spec spec;
    struct channel_verdict v;

    (void)state;
    begin(&p);
    spec = peer_spec(&p, "math.mul", args, NULL);
    peer_run(&p, &spec, false);
    v = peer_verdict(&p, 1);
    doc = peer_document(&v);
    ours = json_object_get(doc, "celeriac");
    assert_true(json_is_integer(json_object_get(ours, "run_us")));
    assert_null(json_object_get(ours, "user_us"));
    assert_null(json_object_get(ours, "max_rss_kib"));
    assert_true(v.max_rss_kib > 0);
    json_decref(doc);
    json_decref(args);
    end(&p);
}

/* It says nothing, and goes on. */
static void rests_between_jobs(void **state)
{
    struct runner_peer p;
    json_t *args = json_pack("[i, i]", 1, 2);
    struct message_spec spec;

    (void)state;
    begin(&p);
    spec = peer_spec(&p, "math.mul", args, NULL);
    for (uint64_t i = 1; i <= 3; i++) {
        struct channel_verdict v;

        peer_rest(&p);
        peer_run(&p, &spec, false);
        peer_rest(&p);
        v = peer_verdict(&p, i);
        assert_int_equal(v.outcome, CHANNEL_SUCCESS);
    }
    json_decref(args);
    end(&p);
}

static void answers_in_order(void **state)
{
    struct runner_peer p;
    json_t *args = json_pack("[i, i]", 1, 2);

    (void)state;
    begin(&p);
    /* As many at a time as a dispatcher lends: this peer does not read while it writes, and more
     * would fill both sockets. */
    for (uint64_t done = 0; done < 512; done += 64) {
        for (int i = 0; i < 64; i++) {
            struct message_spec spec = peer_spec(&p, "math.add", args, NULL);

            peer_run(&p, &spec, false);
        }
        for (uint64_t job = done + 1; job <= done + 64; job++)
            assert_int_equal(peer_verdict(&p, job).outcome, CHANNEL_SUCCESS);
    }
    json_decref(args);
    end(&p);
}

static void words_failures_as_celery(void **state)
{
    struct runner_peer p;

    (void)state;
    begin(&p);
    check_failure(&p, "math.add", "[1]", "{}",
                  "{\"exc_type\": \"TypeError\", \"exc_message\": [\"add() missing 1 required "
                  "positional argument: 'y'\"], \"exc_module\": \"builtins\"}");
    check_failure(&p, "nope.nope", "[]", "{}",
                  "{\"exc_type\": \"NotRegistered\", \"exc_message\": [\"nope.nope\"], "
                  "\"exc_module\": \"celery.exceptions\"}");
    check_failure(&p, "fail", "[\"boom\", \"ValueError\"]", "{}",
                  "{\"exc_type\": \"ValueError\", \"exc_message\": [\"boom\"], \"exc_module\": "
                  "\"builtins\"}");
    check_failure(&p, "fail", "[]", "{\"mode\": \"noverdict\"}",
                  "{\"exc_type\": \"RuntimeError\", \"exc_message\": [\"task fail returned 1 and "
                  "set no verdict\"], \"exc_module\": \"builtins\"}");
    check_failure(&p, "probe.init", "[]", "{}",
                  "{\"exc_type\": \"RuntimeError\", \"exc_message\": [\"init of task probe.init "
                  "failed in this runner\"], \"exc_module\": \"builtins\"}");
    check_failure(&p, "probe.replace", "[]", "{}",
                  "{\"exc_type\": \"NotImplementedError\", \"exc_message\": [\"replace is not "
                  "implemented\"], \"exc_module\": \"builtins\"}");
    end(&p);
}

static void survives_text_that_is_not_utf8(void **state)
{
    struct runner_peer p;
    json_t *doc;

    (void)state;
    begin(&p);
    run(&p, "probe.latin1", "[]", "{}", &doc);
    check_member(doc, "result",
                 "{\"exc_type\": \"Caf?Error\", \"exc_message\": [\"x\"], \"exc_module\": "
                 "\"builtins\"}");
    check_member(doc, "traceback", "\"line 1: caf?\"");
    json_decref(doc);
    end(&p);
}

static void rejects_requeues_ignores(void **state)
{
    struct runner_peer p;
    struct channel_verdict v;
    json_t *doc;

    (void)state;
    begin(&p);
    v = run(&p, "fail", "[]", "{\"mode\": \"reject\"}", &doc);
    assert_int_equal(v.outcome, CHANNEL_REJECT);
    assert_true(slice_is(v.cause, "rejected by the task"));
    check_member(doc, "result",
                 "{\"exc_type\": \"Reject\", \"exc_message\": [null, false], \"exc_module\": "
                 "\"celery.exceptions\"}");
    json_decref(doc);
    v = run(&p, "fail", "[]", "{\"mode\": \"requeue\"}", NULL);
    assert_int_equal(v.outcome, CHANNEL_REQUEUE);
    assert_null(v.result.ptr);
    v = run(&p, "fail", "[]", "{\"mode\": \"ignore\"}", NULL);
    assert_int_equal(v.outcome, CHANNEL_IGNORED);
    assert_null(v.result.ptr);
    v = run(&p, "probe.quiet", "[]", "{}", NULL);
    assert_int_equal(v.outcome, CHANNEL_SUCCESS);
    assert_int_equal(v.result_expires_ms, 5000);
    end(&p);
}

static void retries_under_the_same_id(void **state)
{
    struct runner_peer p;
    struct channel_verdict v;
    struct channel_followup f;
    struct message m;
    json_t *doc;
    char children[100];
    int64_t now_ms = isotime_now_us() / 1000;

    (void)state;
    begin(&p);
    v = run(&p, "fail", "[\"later\", \"KeyError\", \"retry\"]", "{\"countdown\": 100}", &doc);
    assert_int_equal(v.outcome, CHANNEL_RETRY);
    assert_int_equal(v.followups_len, 1);
    check_member(doc, "status", "\"RETRY\"");
    check_member(doc, "date_done", "null");
    check_member(doc, "result",
                 "{\"exc_type\": \"KeyError\", \"exc_message\": [\"later\"], \"exc_module\": "
                 "\"builtins\"}");
    snprintf(children, sizeof(children), "[[[\"%s\", null], null]]", p.id);
    check_member(doc, "children", children);
    json_decref(doc);
    peer_followup(&v.followups, &f, &m);
    assert_true(slice_is(f.id, p.id) && slice_is(f.queue, "celery"));
    assert_int_equal(f.continues, 1);
    assert_true(f.not_before_ms >= now_ms + 100000 && f.not_before_ms < now_ms + 160000);
    assert_string_equal(m.id, p.id);
    assert_string_equal(m.parent_id, p.id);
    assert_int_equal(m.retries, 1);
    assert_int_equal(m.eta_ms, f.not_before_ms);
    assert_int_equal(json_array_size(m.args), 3);
    assert_int_equal(json_object_size(m.kwargs), 1);
    assert_int_equal(v.followups.len, 0);
    message_release(&m);
    end(&p);
}

static struct channel_verdict run_spec(struct runner_peer *p, const struct message_spec *spec,
                                       json_t **doc)
{
    struct channel_verdict v;

    peer_run(p, spec, true);
    v = peer_verdict(p, p->last_job);
    *doc = peer_document(&v);
    return v;
}

static void gives_up_after_max_retries(void **state)
{
    struct runner_peer p;
    json_t *args = json_pack("[s, s, s]", "late", "KeyError", "retry"), *doc;
    struct message_spec spec;
    struct channel_verdict v;
    char want[300];

    (void)state;
    begin(&p);
    spec = peer_spec(&p, "fail", args, NULL);
    spec.retries = 3;
    v = run_spec(&p, &spec, &doc);
    assert_int_equal(v.outcome, CHANNEL_FAILURE);
    assert_int_equal(v.followups_len, 0);
    check_member(doc, "result",
                 "{\"exc_type\": \"KeyError\", \"exc_message\": [\"late\"], \"exc_module\": "
                 "\"builtins\"}");
    json_decref(doc);
    json_array_set_new(args, 1, json_string(""));
    spec = peer_spec(&p, "fail", args, NULL);
    spec.retries = 3;
    v = run_spec(&p, &spec, &doc);
    assert_int_equal(v.outcome, CHANNEL_FAILURE);
    snprintf(want, sizeof(want),
             "{\"exc_type\": \"MaxRetriesExceededError\", \"exc_message\": [\"Can't retry "
             "fail[%s] args:('late', '', 'retry') kwargs:{}\"], \"exc_module\": "
             "\"celery.exceptions\"}",
             p.id);
    check_member(doc, "result", want);
    json_decref(doc);
    json_decref(args);
    end(&p);
}

static void revokes_what_expired(void **state)
{
    struct runner_peer p;
    struct message_spec spec;
    struct channel_verdict v;
    json_t *doc;

    (void)state;
    begin(&p);
    spec = peer_spec(&p, "fail", NULL, NULL);
    spec.expires_ms = isotime_now_us() / 1000 - 1000;
    spec.now_ms = 0;
    v = run_spec(&p, &spec, &doc);
    assert_int_equal(v.outcome, CHANNEL_FAILURE);
    check_member(doc, "status", "\"REVOKED\"");
    check_member(doc, "children", "null");
    check_member(doc, "result",
                 "{\"exc_type\": \"TaskRevokedError\", \"exc_message\": [\"expired\"], "
                 "\"exc_module\": \"celery.exceptions\"}");
    json_decref(doc);
    end(&p);
}

static void names_what_spoils_a_body(void **state)
{
    static const char poison[] =
        "{\"body\": \"W10=\", \"content-encoding\": \"utf-8\", \"content-type\": "
        "\"application/json\", \"headers\": {\"task\": \"math.add\", \"id\": \"poison-1\"}, "
        "\"properties\": {\"body_encoding\": \"base64\", \"delivery_info\": {\"exchange\": \"\", "
        "\"routing_key\": \"celery\"}}}";
    struct runner_peer p;
    struct channel_verdict v;
    json_t *doc;

    (void)state;
    begin(&p);
    peer_run_envelope(&p, slice_of(poison), true);
    v = peer_verdict(&p, 1);
    assert_int_equal(v.outcome, CHANNEL_POISON);
    assert_true(v.cause.len > 0);
    doc = peer_document(&v);
    check_member(doc, "task_id", "\"poison-1\"");
    assert_string_equal(
        json_string_value(json_object_get(json_object_get(doc, "result"), "exc_type")),
        "DecodeError");
    json_decref(doc);
    run(&p, "math.add", "[1, 1]", "{}", &doc);
    check_member(doc, "result", "2");
    json_decref(doc);
    end(&p);
}

static json_t *embed_of(const char *text)
{
    json_t *embed = json_loads(text, 0, NULL);

    assert_non_null(embed);
    return embed;
}

static void goes_on_with_the_chain(void **state)
{
    struct runner_peer p;
    json_t *args = json_pack("[i, i]", 1, 1), *doc;
    json_t *embed =
        embed_of("{\"callbacks\": null, \"errbacks\": null, \"chord\": null, \"chain\": ["
                 "{\"task\": \"math.mul\", \"args\": [3], \"options\": {\"task_id\": \"last\"}},"
                 "{\"task\": \"math.add\", \"args\": [2], \"options\": {\"task_id\": \"next\"}}]}");
    struct message_spec spec;
    struct channel_verdict v;
    struct channel_followup f;
    struct message m;

    (void)state;
    begin(&p);
    spec = peer_spec(&p, "math.add", args, NULL);
    spec.embed = embed;
    v = run_spec(&p, &spec, &doc);
    assert_int_equal(v.outcome, CHANNEL_SUCCESS);
    assert_int_equal(v.followups_len, 1);
    check_member(doc, "children", "[[[\"next\", null], null]]");
    json_decref(doc);
    peer_followup(&v.followups, &f, &m);
    assert_int_equal(f.continues, 0);
    assert_string_equal(m.id, "next");
    assert_string_equal(m.root_id, p.id);
    assert_string_equal(m.parent_id, p.id);
    assert_int_equal(json_integer_value(json_array_get(m.args, 0)), 2);
    assert_int_equal(json_integer_value(json_array_get(m.args, 1)), 2);
    assert_int_equal(json_array_size(json_object_get(m.embed, "chain")), 1);
    message_release(&m);
    json_decref(embed);
    json_decref(args);
    end(&p);
}

static void hands_stamps_on(void **state)
{
    struct runner_peer p;
    json_t *args = json_pack("[i, i]", 1, 1), *doc;
    json_t *embed = embed_of("{\"callbacks\": [{\"task\": \"noop\", \"options\": "
                             "{\"stamped_headers\": [\"own\", \"both\"], "
                             "\"own\": 1, \"both\": 2}}]}");
    json_t *headers =
        embed_of("{\"stamped_headers\": [\"k\", \"both\"], \"stamps\": {\"k\": \"v\", "
                 "\"both\": 3}}");
    struct message_spec spec;
    struct channel_verdict v;
    struct channel_followup f;
    struct message m;

    (void)state;
    begin(&p);
    spec = peer_spec(&p, "math.add", args, NULL);
    spec.embed = embed;
    spec.headers = headers;
    v = run_spec(&p, &spec, &doc);
    assert_int_equal(v.outcome, CHANNEL_SUCCESS);
    json_decref(doc);
    peer_followup(&v.followups, &f, &m);
    check_member(m.headers, "stamps", "{\"own\": 1, \"both\": 2, \"k\": \"v\"}");
    check_member(m.headers, "stamped_headers", "[\"own\", \"both\", \"k\"]");
    message_release(&m);
    json_decref(headers);
    json_decref(embed);
    json_decref(args);
    end(&p);
}

static void calls_back(void **state)
{
    struct runner_peer p;
    json_t *args = json_pack("[i, i]", 1, 1), *doc;
    json_t *embed = embed_of(
        "{\"callbacks\": [{\"task\": \"noop\", \"args\": [9], \"options\": {\"queue\": \"q2\"}},"
        "{\"task\": \"noop\", \"args\": [9], \"immutable\": true}],"
        "\"errbacks\": [{\"task\": \"onerr\", \"options\": {\"link\": {\"task\": \"noop\"}}}]}");
    struct message_spec spec;
    struct channel_verdict v;
    struct channel_followup f;
    struct message m, second;

    (void)state;
    begin(&p);
    spec = peer_spec(&p, "math.add", args, NULL);
    spec.embed = embed;
    v = run_spec(&p, &spec, &doc);
    assert_int_equal(v.followups_len, 2);
    assert_int_equal(json_array_size(json_object_get(doc, "children")), 2);
    json_decref(doc);
    peer_followup(&v.followups, &f, &m);
    assert_true(slice_is(f.queue, "q2"));
    assert_int_equal(json_array_size(m.args), 2);
    assert_int_equal(json_integer_value(json_array_get(m.args, 0)), 2);
    peer_followup(&v.followups, &f, &second);
    assert_int_equal(json_array_size(second.args), 1);
    assert_string_equal(m.group, second.group);
    assert_int_equal(second.group_index, 1);
    message_release(&m);
    message_release(&second);

    spec = peer_spec(&p, "fail", NULL, NULL);
    spec.embed = embed;
    v = run_spec(&p, &spec, &doc);
    json_decref(doc);
    assert_int_equal(v.outcome, CHANNEL_FAILURE);
    assert_int_equal(v.followups_len, 1);
    peer_followup(&v.followups, &f, &m);
    assert_string_equal(m.task, "onerr");
    assert_int_equal(json_array_size(m.args), 1);
    assert_string_equal(json_string_value(json_array_get(m.args, 0)), p.id);
    assert_int_equal(json_array_size(json_object_get(m.embed, "callbacks")), 1);
    message_release(&m);
    json_decref(embed);
    json_decref(args);
    end(&p);
}

/* As a Celery worker: the task runs, and then its result is a failure. */
static struct channel_verdict repeat(struct runner_peer *p, json_t *embed, const char *document,
                                     json_t **doc)
{
    /* It would exit if it were run. */
    struct message_spec spec = peer_spec(p, "fail", NULL, NULL);
    struct channel_verdict v;

    spec.embed = embed;
    peer_repeat(p, &spec, "the-first", document);
    v = peer_verdict(p, p->last_job);
    *doc = peer_document(&v);
    return v;
}

/* The duplicate of a success: not run, but all that follows from a success follows. */
static void repeats_a_success(void **state)
{
    static const char *const nothing[] = {NULL, "{\"status\": \"FAILURE\", \"result\": 5}",
                                          "{\"status\": \"SUCCESS\""};
    json_t *embed = json_pack("{s:[{s:s, s:[i], s:{}, s:{}}]}", "callbacks", "task", "math.add",
                              "args", 1, "kwargs", "options");
    struct runner_peer p;
    struct channel_verdict v;
    struct channel_followup f;
    struct message m;
    json_t *doc;

    (void)state;
    begin(&p);
    v = repeat(&p, embed, "{\"status\": \"SUCCESS\", \"result\": [6]}", &doc);
    assert_int_equal(v.outcome, CHANNEL_SUCCESS);
    assert_int_equal(v.followups_len, 1);
    peer_followup(&v.followups, &f, &m);
    assert_string_equal(m.task, "math.add");
    message_release(&m);
    check_member(doc, "status", "\"SUCCESS\"");
    check_member(doc, "result", "[6]");
    check_member(doc, "celeriac", "{\"duplicate_of\": \"the-first\"}");
    assert_string_equal(json_string_value(json_object_get(doc, "task_id")), p.id);
    json_decref(doc);
    json_decref(embed);
    for (size_t i = 0; i < sizeof(nothing) / sizeof(nothing[0]); i++) {
        v = repeat(&p, NULL, nothing[i], &doc);
        assert_int_equal(v.outcome, CHANNEL_SUCCESS);
        check_member(doc, "result", "null");
        json_decref(doc);
    }
    /* A callback that cannot be sent is a FAILURE as after a run, and that is its own. */
    embed = json_pack("{s:[{s:s, s:[]}]}", "callbacks", "task", "math.add", "kwargs");
    v = repeat(&p, embed, "{\"status\": \"SUCCESS\", \"result\": [6]}", &doc);
    assert_int_equal(v.outcome, CHANNEL_FAILURE);
    assert_null(json_object_get(json_object_get(doc, "celeriac"), "duplicate_of"));
    json_decref(doc);
    json_decref(embed);
    end(&p);
}

static void fails_when_callbacks_make_no_sense(void **state)
{
    static const struct {
        const char *embed;
        const char *type;
    } cases[] = {
        {"{\"callbacks\": [{\"task\": \"t\", \"options\": {\"priority\": \"high\"}}]}",
         "ValueError"},
        {"{\"chain\": [{\"task\": \"t\", \"kwargs\": []}]}", "ValueError"},
        {"{\"chain\": [{\"task\": \"celery.chord\", \"subtask_type\": \"chord\"}]}",
         "NotImplementedError"},
    };
    struct runner_peer p;
    json_t *args = json_pack("[i, i]", 1, 1), *doc;

    (void)state;
    begin(&p);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct message_spec spec = peer_spec(&p, "math.add", args, NULL);
        json_t *embed = embed_of(cases[i].embed);
        struct channel_verdict v;

        spec.embed = embed;
        v = run_spec(&p, &spec, &doc);
        assert_int_equal(v.outcome, CHANNEL_FAILURE);
        assert_int_equal(v.followups_len, 0);
        check_member(doc, "children", "[]");
        assert_string_equal(
            json_string_value(json_object_get(json_object_get(doc, "result"), "exc_type")),
            cases[i].type);
        json_decref(doc);
        json_decref(embed);
    }
    json_decref(args);
    end(&p);
}

static void spawns_with_the_verdict(void **state)
{
    struct runner_peer p;
    struct channel_verdict v;
    struct channel_followup f;
    struct message m;
    json_t *doc;

    (void)state;
    begin(&p);
    v = run(&p, "probe.spawn", "[\"noop\", 3]", "{}", &doc);
    assert_int_equal(v.followups_len, 3);
    assert_int_equal(json_array_size(json_object_get(doc, "children")), 3);
    for (size_t i = 0; i < 3; i++) {
        json_t *id = json_array_get(json_object_get(doc, "result"), i);

        peer_followup(&v.followups, &f, &m);
        assert_string_equal(m.id, json_string_value(id));
        assert_string_equal(m.parent_id, p.id);
        assert_int_equal(json_integer_value(json_array_get(m.args, 0)), 7);
        message_release(&m);
    }
    json_decref(doc);
    v = run(&p, "probe.spawn", "[\"celery.chord\"]", "{}", &doc);
    assert_int_equal(v.followups_len, 0);
    json_decref(doc);
    end(&p);
}

static void sends_at_once(void **state)
{
    struct runner_peer p;
    json_t *args = json_pack("[s]", "noop"), *doc;
    struct message_spec spec;
    struct channel_followup f;
    struct channel_verdict v;
    struct message m;
    struct frame frame;
    char child[UUID_SIZE];

    (void)state;
    begin(&p);
    spec = peer_spec(&p, "probe.send_now", args, NULL);
    peer_run(&p, &spec, true);
    frame = peer_take(&p, CHANNEL_SEND);
    assert_int_equal(frame.id, 1);
    peer_followup(&frame.payload, &f, &m);
    snprintf(child, sizeof(child), "%s", m.id);
    message_release(&m);
    v = peer_verdict(&p, 1);
    assert_int_equal(v.followups_len, 0);
    doc = peer_document(&v);
    assert_string_equal(json_string_value(json_object_get(doc, "result")), child);
    json_decref(doc);
    json_decref(args);
    end(&p);
}

static void notes_states(void **state)
{
    struct runner_peer p;
    struct message_spec spec;
    struct frame f;
    json_t *doc;

    (void)state;
    begin(&p);
    spec = peer_spec(&p, "probe.progress", NULL, NULL);
    peer_run(&p, &spec, true);
    f = peer_take(&p, CHANNEL_NOTE);
    doc = json_loadb(f.payload.ptr, f.payload.len, 0, NULL);
    check_member(doc, "status", "\"STARTED\"");
    check_member(doc, "date_done", "null");
    check_member(json_object_get(doc, "result"), "hostname", "\"celery@test\"");
    json_decref(doc);
    f = peer_take(&p, CHANNEL_NOTE);
    doc = json_loadb(f.payload.ptr, f.payload.len, 0, NULL);
    check_member(doc, "status", "\"HALFWAY\"");
    check_member(doc, "result", "{\"done\": 50}");
    json_decref(doc);
    assert_int_equal(peer_verdict(&p, 1).outcome, CHANNEL_SUCCESS);
    end(&p);
}

static void shows_the_request(void **state)
{
    struct runner_peer p;
    json_t *doc, *seen;

    (void)state;
    begin(&p);
    run(&p, "probe.inspect", "[1]", "{\"z\": 3}", &doc);
    seen = json_object_get(doc, "result");
    check_member(seen, "task", "\"probe.inspect\"");
    check_member(seen, "hostname", "\"celery@test\"");
    check_member(seen, "args", "[1]");
    check_member(seen, "kwargs", "{\"y\": {\"a\": [1]}, \"z\": 3}");
    check_member(seen, "attempt", "2");
    check_member(seen, "fence", "77");
    check_member(seen, "retries", "0");
    check_member(seen, "soft", "1000.0");
    check_member(seen, "deadline", "true");
    assert_string_equal(json_string_value(json_object_get(seen, "id")), p.id);
    json_decref(doc);
    end(&p);
}

static void obeys_the_soft_limit(void **state)
{
    const struct peer_options options = {modules, 1, true};
    struct runner_peer p;
    const struct timeval tick = {0, 20000}, deadline = {20, 0};
    json_t *args = json_pack("[i]", 600), *doc;
    enum frame_status status;
    struct message_spec spec;
    struct channel_verdict v;

    (void)state;
    peer_start(&p, &options);
    peer_take(&p, CHANNEL_ROWS);
    spec = peer_spec(&p, "sleep", args, NULL);
    peer_run(&p, &spec, true);
    peer_take(&p, CHANNEL_NOTE);
    /* The signal may arrive between the task's look at the flag and its sleep: a task looks again
     * within a second, and a second signal ends the sleep. */
    setsockopt(p.jobs.fd, SOL_SOCKET, SO_RCVTIMEO, &tick, sizeof(tick));
    do {
        struct err e = ERR_INIT;

        kill(p.pid, SIGUSR1);
        status = frame_fill(&p.jobs, &e);
    } while (status == FRAME_EMPTY);
    setsockopt(p.jobs.fd, SOL_SOCKET, SO_RCVTIMEO, &deadline, sizeof(deadline));
    assert_int_equal(status, FRAME_OK);
    v = peer_verdict(&p, 1);
    doc = peer_document(&v);
    assert_int_equal(v.outcome, CHANNEL_FAILURE);
    check_member(doc, "result",
                 "{\"exc_type\": \"SoftTimeLimitExceeded\", \"exc_message\": [], \"exc_module\": "
                 "\"billiard.exceptions\"}");
    json_decref(doc);
    /* The flag was the last job's. */
    json_array_set_new(args, 0, json_integer(0));
    spec = peer_spec(&p, "sleep", args, NULL);
    peer_run(&p, &spec, true);
    peer_take(&p, CHANNEL_NOTE);
    assert_int_equal(peer_verdict(&p, 2).outcome, CHANNEL_SUCCESS);
    json_decref(args);
    assert_int_equal(peer_stop(&p), 0);
}

static void dies_when_the_task_says_so(void **state)
{
    struct runner_peer p;
    json_t *args = json_pack("[s, s, s]", "", "", "exit");
    struct message_spec spec;
    int status;

    (void)state;
    begin(&p);
    spec = peer_spec(&p, "fail", args, NULL);
    peer_run(&p, &spec, true);
    status = peer_wait_dead(&p);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 3);
    json_array_set_new(args, 2, json_string("kill"));
    begin(&p);
    spec = peer_spec(&p, "fail", args, NULL);
    peer_run(&p, &spec, true);
    status = peer_wait_dead(&p);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    json_decref(args);
}

static void runs_the_example(void **state)
{
    static const char *const weather[] = {TEST_MODULE_DIR "/weather.so"};
    const struct peer_options options = {weather, 1, false};
    struct runner_peer p;
    struct channel_verdict v;
    json_t *doc;

    (void)state;
    peer_start(&p, &options);
    peer_take(&p, CHANNEL_ROWS);
    v = run(&p, "weather.windchill", "[-5]", "{\"kmh\": 30}", &doc);
    assert_int_equal(v.outcome, CHANNEL_SUCCESS);
    assert_true(json_real_value(json_object_get(doc, "result")) < -12.9);
    assert_true(json_real_value(json_object_get(doc, "result")) > -13.1);
    json_decref(doc);
    v = run(&p, "weather.survey", "[-5, 0, 5]", "{}", &doc);
    assert_int_equal(v.followups_len, 3);
    check_member(doc, "result", "3");
    json_decref(doc);
    assert_int_equal(peer_stop(&p), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tells_its_tasks_and_is_ready),
        cmocka_unit_test(leaves_when_a_module_is_missing),
        cmocka_unit_test(writes_celerys_document),
        cmocka_unit_test(measures_cpu_only_when_told),
        cmocka_unit_test(rests_between_jobs),
        cmocka_unit_test(answers_in_order),
        cmocka_unit_test(words_failures_as_celery),
        cmocka_unit_test(survives_text_that_is_not_utf8),
        cmocka_unit_test(rejects_requeues_ignores),
        cmocka_unit_test(retries_under_the_same_id),
        cmocka_unit_test(gives_up_after_max_retries),
        cmocka_unit_test(revokes_what_expired),
        cmocka_unit_test(names_what_spoils_a_body),
        cmocka_unit_test(goes_on_with_the_chain),
        cmocka_unit_test(hands_stamps_on),
        cmocka_unit_test(calls_back),
        cmocka_unit_test(repeats_a_success),
        cmocka_unit_test(fails_when_callbacks_make_no_sense),
        cmocka_unit_test(spawns_with_the_verdict),
        cmocka_unit_test(sends_at_once),
        cmocka_unit_test(notes_states),
        cmocka_unit_test(shows_the_request),
        cmocka_unit_test(obeys_the_soft_limit),
        cmocka_unit_test(dies_when_the_task_says_so),
        cmocka_unit_test(runs_the_example),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
