/* The built-in tasks, run by the real runner: what goes in, what comes out. */
#include "tests/support/check.h"

#include "base/clock.h"
#include "tests/support/runner_peer.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define SERIAL_US 60000

struct task_case {
    const char *task;
    const char *args;
    const char *result; /* JSON, or "Type: message" of a failure */
};

static const struct task_case cases[] = {
    {"math.add", "[2, 3]", "5"},
    {"math.add", "[2, 0.5]", "2.5"},
    {"math.add", "[true, 1]", "2"},
    {"math.add", "[\"a\", 1]", "TypeError: unsupported operand type(s) for +: 'str' and 'int'"},
    {"math.add", "[null, []]",
     "TypeError: unsupported operand type(s) for +: 'NoneType' and 'list'"},
    {"math.add", "[9223372036854775807, 1]", "OverflowError: the result does not fit in 64 bits"},
    {"math.add", "[1e308, 1e308]", "OverflowError: the result is not a finite number"},
    {"math.mul", "[-4, 3]", "-12"},
    {"math.mul", "[4611686018427387904, 2]", "OverflowError: the result does not fit in 64 bits"},
    {"math.mul", "[{}, 3]", "TypeError: unsupported operand type(s) for *: 'dict' and 'int'"},
    {"math.tsum", "[[1, 2, 3]]", "6"},
    {"math.tsum", "[[]]", "0"},
    {"math.tsum", "[[1, \"2\"]]", "TypeError: unsupported operand type(s) for +: 'int' and 'str'"},
    {"math.tsum", "[3]", "TypeError: numbers is not a list"},
    {"math.primes", "[100]", "25"},
    {"math.primes", "[2]", "1"},
    {"math.primes", "[-5]", "0"},
    {"math.primes", "[1000000]", "78498"},
    {"math.primes", "[100000001]", "ValueError: limit is larger than 100000000"},
    {"math.primes", "[1.5]", "TypeError: limit is not a whole number"},
    {"text.wordcount", "[\"one two\\nthr\\u00e9e\\n\"]",
     "{\"lines\": 2, \"words\": 3, \"chars\": 14, \"bytes\": 15}"},
    {"text.wordcount", "[\"\"]", "{\"lines\": 0, \"words\": 0, \"chars\": 0, \"bytes\": 0}"},
    {"text.wordcount", "[1]", "TypeError: text is not a string"},
    {"text.wordcount_file", "[\"/dev/null\"]", "OSError: Invalid argument"},
    {"text.wordcount_file", "[\"/nowhere/text\"]", "OSError: No such file or directory"},
    {"text.wordcount_file", "[\"/\"]", "OSError: Is a directory"},
    {"text.wordcount_file", "[1]", "TypeError: path is not a string"},
    {"hash.sha256", "[\"abc\"]",
     "\"ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad\""},
    {"hash.sha256", "[\"abc\", 1000]",
     "\"fc8a6b86a13f71cd9a67f558ab6fd82a3dd89186163a017ed8051acf6d3f8f99\""},
    {"hash.sha256", "[\"abc\", 0]", "ValueError: rounds is not a whole number of at least 1"},
    {"hash.sha256", "[5]", "TypeError: data is not a string"},
    {"hash.sha256_file", "[\"/nowhere/text\"]", "OSError: No such file or directory"},
    {"hash.sha256_file", "[\"/\"]", "OSError: Is a directory"},
    {"hash.sha256_file", "[1]", "TypeError: path is not a string"},
    {"sleep", "[0]", "0"},
    {"sleep", "[0.001]", "0.001"},
    {"sleep", "[-1]", "ValueError: seconds is not between 0 and 31536000"},
    {"sleep", "[\"1\"]", "TypeError: seconds is not a number"},
    {"noop", "[1, 2]", "null"},
    {"work.burn", "[50]", "50"},
    {"work.burn", "[50, 20, \"/dev/null\"]", "50"},
    {"work.burn", "[50, 50, \"/dev/null\", true]", "50"},
    {"work.burn", "[50, 20]", "ValueError: serial_us needs the path of a lock file"},
    {"work.burn", "[50, 20, \"/nowhere/lock\"]", "OSError: No such file or directory"},
    {"work.burn", "[50, 20, \"/proc/self/comm\"]", "OSError: File exists"},
    {"work.burn", "[5, 20, \"/dev/null\"]",
     "ValueError: us and serial_us are whole numbers up to 60000000, serial_us at most us"},
    {"work.burn", "[\"5\"]",
     "ValueError: us and serial_us are whole numbers up to 60000000, serial_us at most us"},
    {"fail", "[]", "RuntimeError: fail was asked for"},
    {"fail", "[\"no\", \"KeyError\"]", "KeyError: no"},
    {"fail", "[\"\", \"\", \"memory\"]", "64"},
    {"fail", "[\"\", \"\", \"unheard\"]",
     "ValueError: mode is not one of fail, retry, reject, requeue, ignore, noverdict, exit, abort, "
     "segv, kill, hang, memory"},
};

/* The result as JSON text, or the exception as "Type: message". malloc'ed. */
static char *outcome_of(const json_t *doc)
{
    json_t *result = json_object_get(doc, "result");
    const char *type = json_string_value(json_object_get(result, "exc_type"));
    json_t *messages = json_object_get(result, "exc_message");
    char *text = NULL;

    if (!type)
        return json_dumps(result, JSON_ENCODE_ANY);
    if (asprintf(&text, "%s: %s", type, json_string_value(json_array_get(messages, 0))) < 0)
        return NULL;
    return text;
}

static void check_case(struct runner_peer *p, const struct task_case *c)
{
    json_t *args = json_loads(c->args, 0, NULL), *doc;
    struct message_spec spec = peer_spec(p, c->task, args, NULL);
    struct channel_verdict v;
    char *got;

    peer_run(p, &spec, true);
    v = peer_verdict(p, p->last_job);
    doc = peer_document(&v);
    got = MUST_HAVE(outcome_of(doc));
    if (strcmp(got, c->result) != 0)
        fail_msg("%s%s gave %s, wanted %s", c->task, c->args, got, c->result);
    free(got);
    json_decref(doc);
    json_decref(args);
}

static void built_in_tasks_answer(void **state)
{
    struct runner_peer p;

    (void)state;
    peer_start(&p, NULL);
    peer_take(&p, CHANNEL_ROWS);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        check_case(&p, &cases[i]);
    assert_int_equal(peer_stop(&p), 0);
}

static void serial_parts_hold_each_other_up(void **state)
{
    char lock[] = "/tmp/celeriac-serial-XXXXXX";
    int fd = mkstemp(lock);
    json_t *args = json_pack("[iisb]", SERIAL_US, SERIAL_US, lock, 1);
    struct runner_peer peers[2];
    int64_t since_ns = clock_nano(), total_ns = 0;

    (void)state;
    for (int i = 0; i < 2; i++) {
        struct message_spec spec;

        peer_start(&peers[i], NULL);
        peer_take(&peers[i], CHANNEL_ROWS);
        spec = peer_spec(&peers[i], "work.burn", args, NULL);
        peer_run(&peers[i], &spec, true);
    }
    for (int i = 0; i < 2; i++) {
        peer_verdict(&peers[i], peers[i].last_job);
        assert_int_equal(peer_stop(&peers[i]), 0);
    }
    assert_true(clock_nano() - since_ns >= 2 * SERIAL_US * INT64_C(1000));
    assert_int_equal(read(fd, &total_ns, sizeof(total_ns)), sizeof(total_ns));
    assert_int_equal(total_ns, 2 * SERIAL_US * INT64_C(1000));
    json_decref(args);
    close(fd);
    unlink(lock);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(built_in_tasks_answer),
                                       cmocka_unit_test(serial_parts_hold_each_other_up)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
