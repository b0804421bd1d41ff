/* What the management API's documents are judged to mean. */
#include "broker/amqp_health.h"
#include "broker/answer.h"
#include "tests/support/check.h"

#include <string.h>

typedef void judge_fn(const json_t *doc, struct buf *out);

static void judge_nodes(const json_t *doc, struct buf *out)
{
    amqp_health_nodes(doc, out);
}

static void judge_queue_alone(const json_t *doc, struct buf *out)
{
    amqp_health_queue(doc, 1, out);
}

static void judge_queue_in_cluster(const json_t *doc, struct buf *out)
{
    amqp_health_queue(doc, 3, out);
}

static json_t *judged(judge_fn *judge, const char *doc)
{
    json_t *parsed = json_loads(doc, 0, NULL), *rows;
    struct buf out = BUF_INIT;

    assert_non_null(parsed);
    answer_begin(&out);
    judge(parsed, &out);
    answer_end(&out);
    rows = json_loads(buf_str(&out), 0, NULL);
    assert_true(json_is_array(rows));
    json_decref(parsed);
    buf_release(&out);
    return rows;
}

/* The verdict of the row with that check whose value contains the text; "" when there is none. */
static const char *verdict(const json_t *rows, const char *check, const char *value)
{
    json_t *row;
    size_t i;

    json_array_foreach((json_t *)rows, i, row)
    {
        if (strcmp(json_string_value(json_object_get(row, "check")), check) == 0 &&
            strstr(json_string_value(json_object_get(row, "value")), value))
            return json_string_value(json_object_get(row, "verdict"));
    }
    return "";
}

static void alarms_are_bad(void **state)
{
    json_t *rows = judged(
        judge_nodes, "[{\"name\":\"a\",\"running\":true,\"partitions\":[],\"mem_used\":1048576,"
                     "\"mem_limit\":2097152,\"mem_alarm\":true,\"disk_free\":1048576,"
                     "\"disk_free_limit\":1,\"disk_free_alarm\":false},"
                     "{\"name\":\"b\",\"running\":false},"
                     "{\"name\":\"c\",\"running\":true,\"partitions\":[\"a\",\"b\"]}]");

    (void)state;
    assert_string_equal(verdict(rows, "nodes", "3"), "ok");
    assert_string_equal(verdict(rows, "memory", "1 of 2 MiB on a"), "bad");
    assert_string_equal(verdict(rows, "disk", "1 MiB free"), "ok");
    assert_string_equal(verdict(rows, "node", "b does not run"), "bad");
    assert_string_equal(verdict(rows, "node", "c is parted from 2"), "bad");
    json_decref(rows);
}

static void a_good_queue_is_ok(void **state)
{
    static const char doc[] = "{\"name\":\"celery\",\"type\":\"classic\",\"durable\":true,"
                              "\"auto_delete\":false,\"arguments\":{\"x-max-priority\":10},"
                              "\"messages_ready\":5,\"consumers\":2}";
    json_t *alone = judged(judge_queue_alone, doc), *cluster = judged(judge_queue_in_cluster, doc);

    (void)state;
    assert_int_equal(json_array_size(alone), 1);
    assert_string_equal(verdict(alone, "queue celery", "classic, 5 waiting, 0 leased, 2 consumers"),
                        "ok");
    assert_string_equal(verdict(cluster, "queue celery", "classic"), "warn");
    json_decref(alone);
    json_decref(cluster);
}

static void limits_that_lose_jobs_are_told(void **state)
{
    json_t *rows =
        judged(judge_queue_alone,
               "{\"name\":\"q\",\"type\":\"quorum\",\"durable\":true,\"policy\":\"p\","
               "\"arguments\":{\"x-max-length\":10},\"effective_policy_definition\":"
               "{\"message-ttl\":60000,\"expires\":5,\"consumer-timeout\":9,\"ha-mode\":\"all\"}}");

    (void)state;
    assert_string_equal(verdict(rows, "queue q", "quorum, policy p"), "ok");
    assert_string_equal(verdict(rows, "queue q", "max-length 10"), "bad");
    assert_string_equal(verdict(rows, "queue q", "message-ttl 60000 ms"), "warn");
    assert_string_equal(verdict(rows, "queue q", "expires 5 ms"), "warn");
    assert_string_equal(verdict(rows, "queue q", "consumer-timeout 9 ms"), "ok");
    assert_string_equal(verdict(rows, "queue q", "ha-mode"), "warn");
    json_decref(rows);
}

static void a_limit_that_refuses_loses_nothing(void **state)
{
    json_t *rows = judged(judge_queue_alone,
                          "{\"name\":\"q\",\"type\":\"quorum\",\"durable\":true,\"arguments\":"
                          "{\"x-max-length-bytes\":10,\"x-overflow\":\"reject-publish\"}}");

    (void)state;
    assert_string_equal(verdict(rows, "queue q", "max-length-bytes 10"), "warn");
    json_decref(rows);
}

static void queues_that_can_not_hold_jobs_are_bad(void **state)
{
    static const char *const docs[] = {
        "{\"name\":\"q\",\"type\":\"stream\",\"durable\":true}",
        "{\"name\":\"q\",\"type\":\"classic\",\"durable\":false}",
        "{\"name\":\"q\",\"type\":\"classic\",\"durable\":true,\"auto_delete\":true}",
    };

    (void)state;
    for (size_t i = 0; i < sizeof(docs) / sizeof(docs[0]); i++) {
        json_t *rows = judged(judge_queue_alone, docs[i]);

        assert_string_equal(verdict(rows, "queue q", ""), "bad");
        json_decref(rows);
    }
}

static void documents_of_another_shape_do_no_harm(void **state)
{
    json_t *rows = judged(judge_nodes, "[7, null, {\"running\": true, \"mem_used\": \"much\"}]");

    (void)state;
    json_decref(rows);
    rows = judged(judge_queue_alone, "{\"name\": 7, \"arguments\": [], \"policy\": {}}");
    assert_int_equal(json_array_size(rows), 1);
    json_decref(rows);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(alarms_are_bad),
        cmocka_unit_test(a_good_queue_is_ok),
        cmocka_unit_test(limits_that_lose_jobs_are_told),
        cmocka_unit_test(a_limit_that_refuses_loses_nothing),
        cmocka_unit_test(queues_that_can_not_hold_jobs_are_bad),
        cmocka_unit_test(documents_of_another_shape_do_no_harm),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
