#include "tests/support/check.h"

#include "base/buf.h"
#include "worker/params.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

/* error: NULL when the call fits, and then kwargs_seen is what the task sees. */
struct call_case {
    const char *params;
    const char *args;
    const char *kwargs;
    const char *error;
    const char *kwargs_seen;
};

static const struct call_case calls[] = {
    {"x, y", "[1, 2]", "{}", NULL, "{}"},
    {"x, y", "[1]", "{\"y\": 2}", NULL, "{\"y\": 2}"},
    {"x, y", "[1]", "{}", "add() missing 1 required positional argument: 'y'", NULL},
    {"x, y", "[]", "{}", "add() missing 2 required positional arguments: 'x' and 'y'", NULL},
    {"x, y, z", "[]", "{}", "add() missing 3 required positional arguments: 'x', 'y', and 'z'",
     NULL},
    {"x, y, z", "[]", "{\"y\": 1}", "add() missing 2 required positional arguments: 'x' and 'z'",
     NULL},
    {"x, y", "[1, 2, 3]", "{}", "add() takes 2 positional arguments but 3 were given", NULL},
    {"x", "[1, 2]", "{}", "add() takes 1 positional argument but 2 were given", NULL},
    {"", "[1]", "{}", "add() takes 0 positional arguments but 1 was given", NULL},
    {"x=1", "[1, 2]", "{}", "add() takes from 0 to 1 positional arguments but 2 were given", NULL},
    {"x, y=1", "[1, 2, 3]", "{}", "add() takes from 1 to 2 positional arguments but 3 were given",
     NULL},
    {"x, *, z=1", "[1, 2]", "{\"z\": 5}",
     "add() takes 1 positional argument but 2 positional arguments (and 1 keyword-only argument) "
     "were given",
     NULL},
    {"*, v=1, z=1", "[1]", "{\"v\": 2, \"z\": 5}",
     "add() takes 0 positional arguments but 1 positional argument (and 2 keyword-only arguments) "
     "were given",
     NULL},
    {"x, y", "[1]", "{\"q\": 2}", "add() got an unexpected keyword argument 'q'", NULL},
    {"x, y", "[1, 2]", "{\"x\": 2}", "add() got multiple values for argument 'x'", NULL},
    {"x, y", "[1, 2, 3]", "{\"x\": 2}", "add() got multiple values for argument 'x'", NULL},
    {"*, z", "[]", "{}", "add() missing 1 required keyword-only argument: 'z'", NULL},
    {"*rest, v, z", "[1]", "{}", "add() missing 2 required keyword-only arguments: 'v' and 'z'",
     NULL},
    {"x, y, *rest, z=1", "[1, 2, 3, 4]", "{}", NULL, "{\"z\": 1}"},
    {"x, y, *rest, z=1", "[1, 2]", "{\"z\": 9}", NULL, "{\"z\": 9}"},
    {"x, *rest", "[1, 2]", "{\"x\": 9}", "add() got multiple values for argument 'x'", NULL},
    {"x, **more", "[]", "{\"x\": 1, \"w\": 2}", NULL, "{\"x\": 1, \"w\": 2}"},
    {"*args, **kwargs", "[1, 2, 3]", "{\"w\": 2}", NULL, "{\"w\": 2}"},
    {"x=\"a, b\", y={\"k\": [1, null]}", "[0]", "{}", NULL, "{\"y\": {\"k\": [1, null]}}"},
    {"x=null,y=true", "[]", "{}", NULL, "{\"x\": null, \"y\": true}"},
};

static void speaks_as_python_does(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(calls) / sizeof(calls[0]); i++) {
        const struct call_case *c = &calls[i];
        struct err e = ERR_INIT;
        struct params *p = params_parse(c->params, &e);
        json_t *args = json_loads(c->args, 0, NULL);
        json_t *kwargs = json_loads(c->kwargs, 0, NULL);
        json_t *seen = NULL;

        assert_non_null(p);
        if (c->error) {
            assert_int_equal(params_bind(p, "math.add", args, kwargs, &seen, &e), -1);
            assert_string_equal(e.text, c->error);
        } else {
            json_t *want = json_loads(c->kwargs_seen, 0, NULL);

            CHECK_OK(params_bind(p, "math.add", args, kwargs, &seen, &e));
            assert_true(json_equal(seen, want));
            json_decref(want);
        }
        json_decref(seen);
        json_decref(args);
        json_decref(kwargs);
        params_free(p);
    }
}

/* The table above as a Python program that prints its own words for every line that is wrong. */
static void write_program(FILE *file)
{
    fputs("import json\nnull, true, false = None, True, False\nbad = 0\n", file);
    fputs("def check(params, args, kwargs, want):\n"
          "    global bad\n"
          "    space = {'null': None, 'true': True, 'false': False}\n"
          "    exec('def add(%s): pass' % params, space)\n"
          "    try: space['add'](*args, **kwargs); got = None\n"
          "    except TypeError as error: got = str(error).split('. Did you mean')[0]\n"
          "    if got != want:\n"
          "        print(repr(params), args, kwargs, 'Python says', repr(got), 'we', repr(want))\n"
          "        bad = 1\n",
          file);
    for (size_t i = 0; i < sizeof(calls) / sizeof(calls[0]); i++) {
        json_t *line = json_pack("[s, s?]", calls[i].params, calls[i].error);
        char *text = json_dumps(line, JSON_ENSURE_ASCII);

        fprintf(file, "check((%s)[0], %s, %s, (%s)[1])\n", text, calls[i].args, calls[i].kwargs,
                text);
        free(text);
        json_decref(line);
    }
    fputs("raise SystemExit(bad)\n", file);
}

static void python_agrees(void **state)
{
    char path[] = "/tmp/celeriac-params-XXXXXX", command[80];
    int fd = mkstemp(path), status;
    FILE *file;

    (void)state;
    if (access("/usr/bin/python3", X_OK) < 0)
        skip();
    assert_true(fd >= 0);
    file = MUST_HAVE(fdopen(fd, "w"));
    write_program(file);
    fclose(file);
    snprintf(command, sizeof(command), "/usr/bin/python3 %s", path);
    status = system(command); /* NOLINT(cert-env33-c): our own words */
    unlink(path);
    assert_int_equal(status, 0);
}

static void refuses_malformed_texts(void **state)
{
    static const struct {
        const char *text;
        const char *reason;
    } cases[] = {
        {"x, x", "a name comes twice"},
        {"x=1, y", "without a default follows"},
        {"1x", "a parameter's name is expected"},
        {"x y", "a comma is expected"},
        {"x=", "the default is not JSON"},
        {"x=None", "the default is not JSON"},
        {"*a, *b", "a second *"},
        {"**", "a name is expected after **"},
        {"**k, x", "nothing may follow **"},
    };
    struct err e;

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        e = (struct err)ERR_INIT;
        assert_null(params_parse(cases[i].text, &e));
        assert_int_equal(e.code, ERR_OPERATOR);
        assert_non_null(strstr(e.text, cases[i].reason));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(speaks_as_python_does),
        cmocka_unit_test(python_agrees),
        cmocka_unit_test(refuses_malformed_texts),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
