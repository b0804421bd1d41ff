/* celeriac doctor: is this broker set up as it should be? */
#include "app/command.h"

#include "base/table.h"
#include "broker/amqp_api.h"
#include "broker/amqp_health.h"
#include "broker/answer.h"
#include "broker/uri.h"
#include "client/cli.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

/* An examination: the rows so far. */
struct visit {
    struct command_context *ctx;
    const struct opt_values *v;
    struct buf queues; /* names separated by commas */
    json_t *rows;      /* owned */
    struct err failed; /* what ended it */
};

/* --- rows --- */

/* Takes the rows out of a JSON array; prefix "": as they are. */
static void add_rows(struct visit *visit, json_t *rows, const char *prefix)
{
    json_t *row;
    size_t i;

    json_array_foreach(rows, i, row)
    {
        const char *check = cli_member(row, "check");

        if (*prefix)
            json_object_set_new(row, "check", json_sprintf("%s%s", prefix, check ? check : "-"));
        json_array_append(visit->rows, row);
    }
    json_decref(rows);
}

/* What a better source tells of the same things takes the place of what is there. */
static void replace_rows(struct visit *visit, json_t *rows)
{
    size_t old = json_array_size(visit->rows), i;
    json_t *row;

    json_array_foreach(rows, i, row)
    {
        const char *check = cli_member(row, "check");

        for (size_t k = old; check && k-- > 0;) {
            const char *known = cli_member(json_array_get(visit->rows, k), "check");

            if (known && strcmp(check, known) == 0 && json_array_remove(visit->rows, k) == 0)
                old--;
        }
    }
    add_rows(visit, rows, "");
}

/* The rows of a text that answer.h made. */
static void add_text(struct visit *visit, struct buf *text)
{
    answer_end(text);
    add_rows(visit, json_loads(buf_str(text), 0, NULL), "");
    buf_release(text);
}

static void add_failure(struct visit *visit, const char *check, const struct err *why)
{
    struct buf text = BUF_INIT;

    answer_begin(&text);
    answer_check(&text, check, ANSWER_BAD, NULL, "%s", why->text);
    add_text(visit, &text);
}

/* --- what every broker can be asked --- */

static const char *guarantee(unsigned caps)
{
    if (caps & BROKER_CAP_ATOMIC_FINISH)
        return "one atomic step: result, counters, acknowledgement, follow-up jobs";
    if (caps & BROKER_CAP_RESULTS)
        return "result and follow-up jobs confirmed first, then acknowledged";
    return "acknowledged; no results are stored";
}

static void tell_session(struct visit *visit, const struct session *s, int64_t took_ms,
                         const char *results)
{
    unsigned caps = broker_caps(s->broker);
    struct buf text = BUF_INIT;

    answer_begin(&text);
    answer_check(&text, "broker", ANSWER_OK, NULL, "%s, connected in %lld ms", s->name,
                 (long long)took_ms);
    answer_check(&text, "end of a job", ANSWER_OK, NULL, "%s", guarantee(caps));
    answer_check(&text, "results", ANSWER_OK, NULL, "%s",
                 !(caps & BROKER_CAP_RESULTS) ? "stored nowhere" : results);
    answer_check(&text, "dedup keys", caps & BROKER_CAP_CLAIMS ? ANSWER_OK : ANSWER_WARN,
                 caps & BROKER_CAP_CLAIMS ? NULL : "a job sent with --dedup fails here", "%s",
                 caps & BROKER_CAP_CLAIMS ? "exact" : "not supported");
    add_text(visit, &text);
}

/* Opens the URL, asks, adds the rows. *caps (may be NULL): what the broker can do. -1 when it could
 * not be asked. */
static int examine(struct visit *visit, const char *url, const char *result_url, const char *prefix,
                   unsigned *caps)
{
    struct session_config config = {
        .url = url,
        .result_url = result_url,
        .timeout_ms = (int64_t)(opt_number(visit->v, "timeout") * 1000),
        .connect_once = true,
        .log = log_wants(visit->ctx->log, LOG_LEVEL_DEBUG) ? visit->ctx->log : NULL,
    };
    int64_t began_ms = clock_mono_ms(clock_system());
    struct err e = ERR_INIT;
    struct session s;
    json_t *rows;

    if (session_open(&s, &config, &e) < 0) {
        visit->failed = e;
        return -1;
    }
    *caps = broker_caps(s.broker);
    if (!*prefix)
        tell_session(visit, &s, session_now(&s) - began_ms,
                     result_url ? "kept as --result-backend says" : "in the broker");
    rows = cli_ask(&s, BROKER_ASK_DOCTOR, buf_str(&visit->queues), NULL, 0, &e);
    session_close(&s);
    add_rows(visit, rows, prefix);
    if (!rows)
        visit->failed = e;
    return rows ? 0 : -1;
}

/* --- results that live elsewhere --- */

static bool has_scheme(const char *url, const char *scheme)
{
    size_t len = strlen(scheme);

    return strncasecmp(url, scheme, len) == 0 && url[len] == ':';
}

static void examine_results(struct visit *visit, const char *url, unsigned caps)
{
    struct err none = ERR_INIT;
    unsigned ignored;

    if (!url || caps & BROKER_CAP_ATOMIC_FINISH || has_scheme(url, "disabled") ||
        has_scheme(url, "rpc"))
        return;
    if (examine(visit, url, NULL, "results: ", &ignored) == 0)
        return;
    add_failure(visit, "results: broker", &visit->failed);
    visit->failed = none;
}

/* --- RabbitMQ's management API --- */

static bool same_host(const struct uri *broker, const char *api_url)
{
    const char *at = strrchr(api_url, '@'), *host = strstr(api_url, "://");
    size_t len = broker->host ? strlen(broker->host) : 0;

    host = at ? at + 1 : host ? host + 3 : api_url;
    return len && strncasecmp(host, broker->host, len) == 0 &&
           (host[len] == ':' || host[len] == '/' || host[len] == '\0');
}

static int ask_api(struct visit *visit, const struct uri *broker, const char *url, struct err *e)
{
    bool same = same_host(broker, url);
    struct amqp_api *api =
        amqp_api_open(url, same ? broker->user : NULL, same ? broker->password : NULL,
                      (int64_t)(opt_number(visit->v, "timeout") * 1000), e);
    const char *vhost = broker->path && *broker->path ? broker->path : "/";
    struct buf text = BUF_INIT;
    int status = -1;

    if (api)
        status = amqp_health(api, vhost, buf_str(&visit->queues), &text, e);
    if (status == 0)
        replace_rows(visit, json_loads(buf_str(&text), 0, NULL));
    buf_release(&text);
    amqp_api_close(api);
    return status;
}

static void examine_api(struct visit *visit, const char *broker_url)
{
    const char *url = opt_text(visit->v, "api");
    struct buf text = BUF_INIT;
    struct err e = ERR_INIT;
    struct uri broker;

    if (!has_scheme(broker_url, "amqp") && !has_scheme(broker_url, "amqps"))
        return;
    answer_begin(&text);
    if (!url)
        answer_check(&text, "management API", ANSWER_OK,
                     "--api http://USER:PASSWORD@HOST:15672 tells what AMQP can not: alarms, queue "
                     "types, limits, policies",
                     "not asked");
    else if (uri_parse(&broker, broker_url, NULL) == 0 && ask_api(visit, &broker, url, &e) != 0)
        answer_check(&text, "management API", ANSWER_WARN,
                     "check --api, and that the plugin rabbitmq_management is enabled", "%s",
                     e.text);
    if (url)
        uri_release(&broker);
    add_text(visit, &text);
}

/* --- the answer --- */

static const char *worst(const json_t *rows)
{
    const char *found = "ok", *verdict;
    json_t *row;
    size_t i;

    json_array_foreach((json_t *)rows, i, row)
    {
        verdict = cli_member(row, "verdict");
        if (verdict && (strcmp(verdict, "bad") == 0 || strcmp(found, "ok") == 0))
            found = verdict;
    }
    return found;
}

static int print_table(const struct visit *visit)
{
    static const char *const names[] = {"CHECK", "VALUE", "VERDICT", "ADVICE", NULL};
    struct table t;
    json_t *row;
    size_t i;

    table_init(&t, names);
    json_array_foreach(visit->rows, i, row)
    {
        const char *advice = cli_member(row, "advice");

        table_cell(&t, cli_member(row, "check"));
        table_cell(&t, cli_member(row, "value"));
        table_cell(&t, cli_member(row, "verdict"));
        table_cell(&t, advice ? advice : "");
    }
    return cli_print_table(visit->ctx, &t);
}

static int print_visit(const struct visit *visit)
{
    if (visit->ctx->output == COMMAND_TABLE)
        return print_table(visit);
    return cli_print_new_json(
        json_pack("{s:s,s:O}", "verdict", worst(visit->rows), "checks", visit->rows));
}

static void name_queues(struct visit *visit)
{
    size_t len;
    const char *const *names = opt_list(visit->v, "queues", &len);

    for (size_t i = 0; i < len; i++)
        buf_addf(&visit->queues, "%s%s", i ? "," : "", names[i]);
}

static int run(struct command_context *ctx, const struct opt_values *v, int argc, char **argv)
{
    const char *url = opt_text(v, "broker"), *results = opt_text(v, "result-backend");
    struct visit visit = {.ctx = ctx, .v = v, .rows = json_array(), .failed = ERR_INIT};
    int status = EXITCODE_OK, printed;
    unsigned caps = 0;

    (void)argc;
    (void)argv;
    if (!url) {
        json_decref(visit.rows);
        return command_usage(ctx, COMMAND_NO_BROKER);
    }
    name_queues(&visit);
    if (examine(&visit, url, results, "", &caps) == 0) {
        examine_results(&visit, results, caps);
        examine_api(&visit, url);
        if (strcmp(worst(visit.rows), "ok") != 0)
            status = EXITCODE_PARTIAL;
    } else {
        add_failure(&visit, "broker", &visit.failed);
        status = command_fail(ctx, &visit.failed);
    }
    printed = print_visit(&visit);
    json_decref(visit.rows);
    buf_release(&visit.queues);
    return printed == EXITCODE_OK ? status : printed;
}

static const struct opt_row rows[] = {
    {.name = "queues",
     .letter = 'Q',
     .kind = OPT_LIST,
     .arg = "Q1,Q2",
     .fallback = "celery",
     .help = "The queues to look at."},
    {.name = "api",
     .kind = OPT_TEXT,
     .arg = "URL",
     .env = "CELERIAC_AMQP_API",
     .help = "RabbitMQ's management API, http://USER:PASSWORD@HOST:15672: it tells what AMQP can "
             "not. Without a name, that of a broker on the same host is used, else guest."},
    {.name = NULL},
};

const struct command command_doctor = {
    .name = "doctor",
    .summary = "Check how a broker is set up.",
    .details = "One line per check: what was found, a verdict (ok, warn, bad) and what to do. "
               "Nothing is changed.\n"
               "warn: it works, but not as well or as safely as it could. bad: jobs can be lost or "
               "will not run. The exit status is 0 when all is ok, 7 when something is warn or "
               "bad, and 3 or 5 when the broker can not be reached or refuses.",
    .examples = "celeriac -b redis://localhost/0 doctor\n"
                "celeriac -b amqp://localhost doctor -Q celery,mail --api http://localhost:15672\n"
                "celeriac -b sqlite:/var/lib/app/queue.db doctor -o json",
    .opts = {cli_broker_rows, rows, NULL},
    .run = run,
};
